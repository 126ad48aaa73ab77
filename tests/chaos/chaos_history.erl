%% SPDX-License-Identifier: Apache-2.0

%% @doc What happened in a storm: every request with what came of it, every death, stop
%% and outage, with the time of each. Times are nanoseconds of CLOCK_MONOTONIC, the clock
%% that Python's marks have, too.
-module(chaos_history).

-include("chaos.hrl").

-export([create/0, destroy/0, now_ns/0, next_id/0, f/1]).
-export([invoke/1, outcome/2, event/1, event_at/2, overdue/1, forget/1, stacks/1, dump/1, clear/0, count/0]).

-type event() ::
    {stray, pid(), term()}
    | {caller_dead, pid()}
    | {callback_end, id()}
    | {death, OsPid :: integer(), Why :: atom(), [pid()]}
    %% a process that is to end by itself, and who has a place in it
    | {aimed, OsPid :: integer(), [pid()]}
    | {context_end, pid(), Why :: atom()}
    | {outage, Child :: term()}
    %% what came out of a channel of so many items, by those who read it one after the other
    | {items, pid(), N :: pos_integer(), [chaos_shared:reader()]}
    %% which of so many messages of Python are there, and whether it said that all are
    | {sent, pid(), N :: pos_integer(), [pos_integer() | wrong], IsOk :: boolean()}
    | {back, Child :: term(), Ms :: number()}.
-export_type([event/0]).

-define(REQUESTS, chaos_requests).
-define(OUTCOMES, chaos_outcomes).
-define(OPEN, chaos_open).
-define(EVENTS, chaos_events).
-define(IDS, chaos_ids).

-spec create() -> ok.
create() ->
    Concurrent = [named_table, public, {write_concurrency, true}],
    _ = ets:new(?REQUESTS, [set, {keypos, #request.id} | Concurrent]),
    _ = ets:new(?OUTCOMES, [duplicate_bag | Concurrent]),
    _ = ets:new(?OPEN, [set | Concurrent]),
    _ = ets:new(?EVENTS, [duplicate_bag | Concurrent]),
    persistent_term:put(?IDS, atomics:new(1, [])).

-spec destroy() -> ok.
destroy() ->
    [true = ets:delete(T) || T <- [?REQUESTS, ?OUTCOMES, ?OPEN, ?EVENTS]],
    _ = persistent_term:erase(?IDS),
    ok.

-spec clear() -> ok.
clear() ->
    [true = ets:delete_all_objects(T) || T <- [?REQUESTS, ?OUTCOMES, ?OPEN, ?EVENTS]],
    ok.

-spec now_ns() -> integer().
now_ns() ->
    os:perf_counter(nanosecond).

-spec next_id() -> id().
next_id() ->
    atomics:add_get(persistent_term:get(?IDS), 1, 1).

%% @doc The right value of a request: ep_chaos.f.
-spec f(id()) -> non_neg_integer().
f(Id) ->
    (Id * 16#9E3779B97F4A7C15 + 16#1234567) band ((1 bsl 60) - 1).

%% @doc The calling process makes a request. A cast has no outcome, nor what an
%% orphan has asked for, so they are never open.
-spec invoke(#request{}) -> ok.
invoke(Request = #request{id = Id, budget = Budget, kind = Kind}) ->
    Now = now_ns(),
    true = ets:insert_new(?REQUESTS, Request#request{caller = self(), invoked = Now}),
    lists:member(Kind, [cast, orphan]) orelse ets:insert(?OPEN, {Id, self(), Now + patience(Budget)}),
    ok.

-spec outcome(id(), outcome()) -> ok.
outcome(Id, Outcome) ->
    true = ets:insert(?OUTCOMES, {Id, now_ns(), Outcome}),
    true = ets:delete(?OPEN, Id),
    ok.

-spec event(event()) -> ok.
event(Event) ->
    event_at(now_ns(), Event).

%% @doc What turned out later.
-spec event_at(integer(), event()) -> ok.
event_at(Ns, Event) ->
    true = ets:insert(?EVENTS, {element(1, Event), Ns, Event}),
    ok.

%% @doc The requests that should have ended by then.
-spec overdue(integer()) -> [{id(), pid()}].
overdue(Now) ->
    ets:select(?OPEN, [{{'$1', '$2', '$3'}, [{'<', '$3', Now}], [{{'$1', '$2'}}]}]).

%% @doc Nobody waits for that request any more.
-spec forget(id()) -> ok.
forget(Id) ->
    true = ets:delete(?OPEN, Id),
    ok.

%% @doc What the open requests wait for.
-spec stacks(non_neg_integer()) -> [term()].
stacks(Most) ->
    Open = lists:sublist(ets:tab2list(?OPEN), Most),
    [{Id, ets:lookup(?REQUESTS, Id), process_info(Pid, current_stacktrace)} || {Id, Pid, _} <- Open].

-spec count() -> {Requests :: non_neg_integer(), Open :: non_neg_integer()}.
count() ->
    {ets:info(?REQUESTS, size), ets:info(?OPEN, size)}.

%% @doc Everything, with the marks that Python left in a directory.
-spec dump(file:filename()) -> #history{}.
dump(Dir) ->
    Outcomes = ets:foldl(
        fun({Id, T, Outcome}, Acc) ->
            maps:update_with(Id, fun(L) -> [{T, Outcome} | L] end, [{T, Outcome}], Acc)
        end,
        #{},
        ?OUTCOMES
    ),
    Events = [{T, Event} || {_, T, Event} <- ets:tab2list(?EVENTS)],
    #history{
        requests = ets:tab2list(?REQUESTS),
        outcomes = Outcomes,
        events = lists:keysort(1, Events ++ deaths(Dir)),
        begun = begun(Dir)
    }.

%% Internal

patience(infinity) -> ?PATIENCE_MS * 1000000;
patience(Budget) -> (Budget + ?GRACE_MS) * 1000000.

begun(Dir) ->
    InFile = [binary_to_integer(Line) || Line <- lines(filename:join(Dir, "begun"))],
    InState = lists:append([
        lists:duplicate(N, Id)
     || Key = {<<"begun">>, Id} <- py_state:keys(), {ok, N} <- [py_state:fetch(Key)]
    ]),
    lists:foldl(fun(Id, Acc) -> maps:update_with(Id, fun(N) -> N + 1 end, 1, Acc) end, #{}, InFile ++ InState).

%% Those that Python code brought about itself.
deaths(Dir) ->
    [
        begin
            [OsPid, Ns, Way] = binary:split(Line, <<" ">>, [global]),
            {binary_to_integer(Ns), {death, binary_to_integer(OsPid), binary_to_atom(Way), []}}
        end
     || Line <- lines(filename:join(Dir, "deaths"))
    ].

lines(File) ->
    case file:read_file(File) of
        {ok, Text} -> binary:split(Text, <<"\n">>, [global, trim_all]);
        {error, enoent} -> []
    end.
