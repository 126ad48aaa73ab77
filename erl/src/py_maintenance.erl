%% SPDX-License-Identifier: Apache-2.0

%% @private Memory, garbage collection and tracing of the interpreters, asked beside
%% the requests that run in them.
%%
%% Contexts that share an interpreter count once in sums. One that does not answer in
%% time is left out. So is one whose answer makes no sense, and its worker process is ended.
-module(py_maintenance).

-include("py_limits.hrl").

-export([memory_stats/0, memory_stats/1, gc/1, gc/2, tracemalloc_start/1, tracemalloc_stop/0]).
-export([prologue/3, forget/0]).

%% Frames to trace, while tracing; for contexts that start meanwhile.
-define(TRACING, py_tracemalloc).
%% Characters of a context's name in the list of processes.
-define(NAME_MAX, 24).
%% Of the garbage collector, and what it says about each.
-define(GENERATIONS, 3).
-define(GENERATION_KEYS, [<<"collected">>, <<"collections">>, <<"uncollectable">>]).
-define(TRACED_KEYS, [<<"traced_memory_current">>, <<"traced_memory_peak">>]).
-define(TOO_MANY, (1 bsl 50)).

-spec memory_stats() -> {ok, map()}.
memory_stats() ->
    Answers = ask(all(), memory_stats, []),
    Contexts = maps:from_list([{Ctx, Stats} || {Ctx, {_, Stats}} <- Answers]),
    {ok, (sums(once(Answers)))#{contexts => Contexts}}.

-spec memory_stats(py:context()) -> {ok, map()} | {error, term()}.
memory_stats(Ctx) ->
    one(Ctx, memory_stats, []).

%% @doc Collects in every interpreter; the sum of what was collected. One that several
%% contexts share collects several times, but nothing twice.
-spec gc(0..2) -> {ok, non_neg_integer()}.
gc(Generation) when is_integer(Generation), Generation >= 0, Generation =< 2 ->
    Answers = ask(all(), collect, [Generation]),
    {ok, lists:sum([Collected || {_Ctx, {_, Collected}} <- Answers])};
gc(_Generation) ->
    py_error_info:refuse(arguments).

-spec gc(py:context(), 0..2) -> {ok, non_neg_integer()} | {error, term()}.
gc(Ctx, Generation) when is_integer(Generation), Generation >= 0, Generation =< 2 ->
    one(Ctx, collect, [Generation]);
gc(_Ctx, _Generation) ->
    py_error_info:refuse(arguments).

-spec tracemalloc_start(pos_integer()) -> ok.
tracemalloc_start(Frames) when is_integer(Frames), Frames > 0, Frames =< ?MAX_FRAMES ->
    ok = py_error_info:ensure_started(),
    ok = persistent_term:put(?TRACING, Frames),
    _ = ask(all(), tracemalloc_start, [Frames]),
    ok;
tracemalloc_start(_Frames) ->
    py_error_info:refuse(arguments).

-spec tracemalloc_stop() -> ok.
tracemalloc_stop() ->
    _ = persistent_term:erase(?TRACING),
    _ = ask(all(), tracemalloc_stop, []),
    ok.

%% @doc What an interpreter does as it starts, before its first request: functions and
%% their arguments. Paths: of the pool or context.
-spec prologue(pos_integer(), term(), [binary()]) -> [{atom(), list()}].
prologue(Place, Id, Paths) ->
    Trace =
        case persistent_term:get(?TRACING, undefined) of
            undefined -> [];
            Frames -> [{tracemalloc_start, [Frames]}]
        end,
    [{show_context, [Place, name(Id)]} | py_code:prologue(Paths)] ++ Trace.

%% As ps shows it: pool and number, for a context of a pool.
name({Pool, Number}) when is_atom(Pool), is_integer(Number) ->
    shortened(io_lib:format("~ts ~b", [Pool, Number]));
name(Id) ->
    shortened(io_lib:format("~0tP", [Id, 10])).

shortened(Text) ->
    unicode:characters_to_binary(string:slice(Text, 0, ?NAME_MAX)).

%% @doc At the end of the application.
-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?TRACING),
    ok.

%% Internal

all() ->
    ok = py_error_info:ensure_started(),
    py_context_table:all().

one(Ctx, Function, Args) when is_pid(Ctx) ->
    case py_context_request:lane(Ctx) of
        noproc ->
            {error, {context_died, noproc}};
        Lane ->
            case ask([{Ctx, Lane}], Function, Args) of
                [{Ctx, {_, Value}}] -> {ok, Value};
                [] -> {error, timeout}
            end
    end;
one(_Ctx, _Function, _Args) ->
    py_error_info:refuse(arguments).

ask(Contexts, Function, Args) ->
    lists:append([
        taken(Function, Ctx, Lane, Answer)
     || {Ctx, Lane, Answer} <- py_inquiry:ask(Contexts, beside, Function, Args)
    ]).

taken(Function, Ctx, Lane, {ok, Answer}) ->
    case checked(Function, Answer) of
        {ok, Source, Value} ->
            [{Ctx, {Source, Value}}];
        error ->
            _ = ep_nif:lane_kill(Lane),
            []
    end;
taken(_Function, _Ctx, _Lane, _NoAnswer) ->
    [].

once(Answers) ->
    maps:values(maps:from_list([Answer || {_Ctx, Answer} <- Answers])).

%% What a worker process says is checked here, once; everything behind relies on it.
checked(Function, {Process, Interpreter, Value}) when is_integer(Process), is_integer(Interpreter) ->
    case value(Function, Value) of
        {ok, Checked} -> {ok, {Process, Interpreter}, Checked};
        error -> error
    end;
checked(_Function, _Answer) ->
    error.

value(
    memory_stats,
    Stats = #{
        <<"gc_stats">> := Generations, <<"gc_count">> := Count, <<"gc_threshold">> := Threshold
    }
) ->
    Traced = maps:values(maps:with(?TRACED_KEYS, Stats)),
    case
        generations(Generations) andalso is_triple(Count) andalso is_triple(Threshold) andalso
            lists:all(fun is_count/1, Traced) andalso map_size(Stats) =:= 3 + length(Traced)
    of
        true -> {ok, maps:from_list([{binary_to_atom(Key), V} || {Key, V} <- maps:to_list(Stats)])};
        false -> error
    end;
value(collect, N) ->
    case is_count(N) of
        true -> {ok, N};
        false -> error
    end;
value(Function, IsTracing) when
    is_boolean(IsTracing), Function =:= tracemalloc_start orelse Function =:= tracemalloc_stop
->
    {ok, IsTracing};
value(_Function, _Value) ->
    error.

generations(List) when length(List) =:= ?GENERATIONS -> lists:all(fun is_generation/1, List);
generations(_) -> false.

is_generation(Generation) ->
    is_map(Generation) andalso lists:sort(maps:keys(Generation)) =:= ?GENERATION_KEYS andalso
        lists:all(fun is_count/1, maps:values(Generation)).

is_triple({A, B, C}) -> lists:all(fun is_count/1, [A, B, C]);
is_triple(_) -> false.

%% Sums of them stay small integers.
is_count(N) -> is_integer(N) andalso abs(N) < ?TOO_MANY.

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
