%% SPDX-License-Identifier: Apache-2.0

%% @private Memory, garbage collection and tracing of the interpreters, asked beside
%% the requests that run in them.
%%
%% Contexts that share an interpreter count once in sums. One that does not answer in
%% time is left out.
-module(py_maintenance).

-export([memory_stats/0, memory_stats/1, gc/1, gc/2, tracemalloc_start/1, tracemalloc_stop/0]).
-export([prologue/0, forget/0, answer/3]).

-define(TIMEOUT_MS, 5000).
%% Frames to trace, while tracing; for contexts that start meanwhile.
-define(TRACING, py_tracemalloc).

-spec memory_stats() -> {ok, map()}.
memory_stats() ->
    Answers = ask(py_context:all(), memory_stats, []),
    Contexts = maps:from_list([{Ctx, shape(Stats)} || {Ctx, {_, Stats}} <- Answers]),
    Once = [shape(Stats) || Stats <- once(Answers)],
    {ok, (sums(Once))#{contexts => Contexts}}.

-spec memory_stats(py:context()) -> {ok, map()} | {error, term()}.
memory_stats(Ctx) ->
    one(Ctx, memory_stats, [], fun shape/1).

%% @doc Collects in every interpreter; the sum of what was collected. One that several
%% contexts share collects several times, but nothing twice.
-spec gc(0..2) -> {ok, non_neg_integer()}.
gc(Generation) ->
    Answers = ask(py_context:all(), collect, [Generation]),
    {ok, lists:sum([Collected || {_Ctx, {_, Collected}} <- Answers])}.

-spec gc(py:context(), 0..2) -> {ok, non_neg_integer()} | {error, term()}.
gc(Ctx, Generation) ->
    one(Ctx, collect, [Generation], fun(N) -> N end).

-spec tracemalloc_start(pos_integer()) -> ok.
tracemalloc_start(Frames) ->
    ok = persistent_term:put(?TRACING, Frames),
    _ = ask(py_context:all(), tracemalloc_start, [Frames]),
    ok.

-spec tracemalloc_stop() -> ok.
tracemalloc_stop() ->
    _ = persistent_term:erase(?TRACING),
    _ = ask(py_context:all(), tracemalloc_stop, []),
    ok.

%% @doc What an interpreter does as it starts, before its first request: functions and
%% their arguments.
-spec prologue() -> [{atom(), list()}].
prologue() ->
    case persistent_term:get(?TRACING, undefined) of
        undefined -> [];
        Frames -> [{tracemalloc_start, [Frames]}]
    end.

%% @doc At the end of the application.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?TRACING),
    ok.

%% Internal

one(Ctx, Function, Args, Shape) ->
    case py_context:lane(Ctx) of
        noproc ->
            {error, {context_died, noproc}};
        Lane ->
            case ask([{Ctx, Lane}], Function, Args) of
                [{Ctx, {_, Value}}] -> {ok, Shape(Value)};
                [] -> {error, timeout}
            end
    end.

%% In a process of its own, so that no late answer reaches the caller.
ask(Contexts, Function, Args) ->
    {_Pid, Ref} = spawn_monitor(?MODULE, answer, [Contexts, Function, Args]),
    receive
        {'DOWN', Ref, process, _, {answers, Answers}} -> Answers
    end.

%% @private
-spec answer([{py:context(), py_nif:lane()}], atom(), list()) -> no_return().
answer(Contexts, Function, Args) ->
    exit({answers, collect(Contexts, Function, Args)}).

collect(Contexts, Function, Args) ->
    Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT_MS,
    Tags = maps:from_list([
        {Tag, Ctx}
     || {Ctx, Lane} <- Contexts,
        Tag <- [make_ref()],
        py_nif:inquire(Lane, Tag, Function, Args) =:= ok
    ]),
    collect(Tags, Deadline).

collect(Tags, _Deadline) when map_size(Tags) =:= 0 ->
    [];
collect(Tags, Deadline) ->
    receive
        {py_maintained, Tag, Answer} when is_map_key(Tag, Tags) ->
            {Ctx, Left} = maps:take(Tag, Tags),
            case Answer of
                {ok, {Process, Interpreter, Value}} ->
                    [{Ctx, {{Process, Interpreter}, Value}} | collect(Left, Deadline)];
                {error, _} ->
                    collect(Left, Deadline)
            end
    after max(0, Deadline - erlang:monotonic_time(millisecond)) -> []
    end.

once(Answers) ->
    maps:values(maps:from_list([Answer || {_Ctx, Answer} <- Answers])).

shape(Stats) ->
    maps:from_list([{binary_to_existing_atom(Key), Value} || {Key, Value} <- maps:to_list(Stats)]).

sums([]) ->
    #{gc_stats => [], gc_count => {0, 0, 0}, gc_threshold => {0, 0, 0}};
sums(All = [First | _]) ->
    Base = #{
        gc_stats => lists:foldl(fun add/2, [], [maps:get(gc_stats, S) || S <- All]),
        gc_count => maps:get(gc_count, First),
        gc_threshold => maps:get(gc_threshold, First)
    },
    lists:foldl(fun(Key, Acc) -> sum(Key, All, Acc) end, Base, [
        traced_memory_current, traced_memory_peak
    ]).

sum(Key, All, Acc) ->
    case [N || #{Key := N} <- All] of
        [] -> Acc;
        Numbers -> Acc#{Key => lists:sum(Numbers)}
    end.

%% Generation by generation.
add(Stats, []) ->
    Stats;
add(Stats, Acc) ->
    lists:zipwith(
        fun(A, B) -> maps:map(fun(Key, N) -> N + maps:get(Key, B, 0) end, A) end, Stats, Acc
    ).
