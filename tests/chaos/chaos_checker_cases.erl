%% SPDX-License-Identifier: Apache-2.0

%% @doc The checker under test: a history that obeys the laws, and histories in each of
%% which one thing is wrong, which the checker has to name.
-module(chaos_checker_cases).

-include("chaos.hrl").

-export([run/0]).

-define(MS, 1000000).

-spec run() -> [{Name :: iodata(), boolean(), term()}].
run() ->
    Clean = chaos_checker:check(good()),
    [{"a right history has no fault", Clean =:= [], Clean}] ++
        [
            begin
                Found = chaos_checker:check(History),
                {Name, lists:any(fun({L, Id, _}) -> {L, Id} =:= {Law, Who} end, Found) andalso
                    lists:all(fun({_, Id, _}) -> Id =:= Who end, Found), Found}
            end
         || {Name, {Law, Who}, History} <- corrupted()
        ] ++ latencies().

%% Four contexts, of which one was stopped; one process that died; a caller that died.
good() ->
    #history{
        requests = [
            r(1, #request{kind = call, mark = file}),
            r(2, #request{kind = nested, mark = state}),
            r(3, #request{kind = call, mark = file, context = ctx(2)}),
            r(4, #request{kind = call, mark = file, context = ctx(2), invoked = 50 * ?MS}),
            r(5, #request{kind = short, budget = 10, mark = file}),
            r(6, #request{kind = call, caller = ctx(9)}),
            r(7, #request{kind = call, context = ctx(3)}),
            r(8, #request{kind = cast, mark = file}),
            r(9, #request{kind = large, expected = {bytes, 5, <<"md5">>}}),
            r(10, #request{kind = call, mark = state, budget = infinity, is_limited = true}),
            r(11, #request{kind = threads, role = helper, caller = ctx(8)}),
            r(12, #request{kind = exec, expected = none}),
            r(13, #request{kind = call, invoked = 200 * ?MS, context = ctx(2)}),
            r(14, #request{kind = call, context = ctx(4), invoked = 310 * ?MS}),
            r(15, #request{kind = threads, role = helper, invoked = 400 * ?MS})
        ],
        outcomes = #{
            1 => [{2 * ?MS, {ok, f(1), 100}}],
            2 => [{9 * ?MS, {inner, <<"worker_died">>}}],
            3 => [{105 * ?MS, died(200, true)}],
            4 => [{104 * ?MS, died(200, false)}],
            5 => [{11 * ?MS, {error, timeout}}],
            7 => [{121 * ?MS, {error, {context_died, shutdown}}}],
            9 => [{3 * ?MS, {ok, {bytes, 5, <<"md5">>}, 100}}],
            10 => [{4 * ?MS, {error, timeout}}],
            12 => [{4 * ?MS, {ok, none, undefined}}],
            13 => [{240 * ?MS, {ok, f(13), 201}}],
            14 => [{312 * ?MS, {raised, error, badarg}}],
            15 => [{401 * ?MS, {ok, f(15), 201}}]
        },
        events = [
            {90 * ?MS, {caller_dead, ctx(9)}},
            {100 * ?MS, {death, 200, kill, [ctx(2)]}},
            {120 * ?MS, {context_end, ctx(3), stop}},
            {130 * ?MS, {items, ctx(7), 5, [{ok, [1, 2], false}, {failed, 2}, {ok, [4, 5], true}]}},
            {130 * ?MS, {items, ctx(7), 3, [{failed, 0}, {ok, [1, 2, 3], true}]}},
            {131 * ?MS, {sent, ctx(7), 3, [1, 2, 3], true}},
            {131 * ?MS, {sent, ctx(7), 3, [1], false}},
            {300 * ?MS, {outage, py_launcher}}
        ],
        begun = #{1 => 1, 2 => 1, 3 => 1, 8 => 1}
    }.

r(Id, R = #request{caller = Caller, expected = Expected}) ->
    R#request{
        id = Id,
        caller = case Caller of undefined -> ctx(7); _ -> Caller end,
        expected = case Expected of undefined -> f(Id); _ -> Expected end
    }.

f(Id) -> chaos_history:f(Id).

ctx(N) -> list_to_pid("<0." ++ integer_to_list(N + 20000) ++ ".0>").

died(OsPid, Started) -> died(OsPid, Started, 'SIGKILL').

died(OsPid, Started, Why) ->
    {error, {worker_died, #{context => ctx(2), os_pid => OsPid, reason => Why, started => Started}}}.

%% Name, the law that is broken and by whom, the history.
corrupted() ->
    G = good(),
    #history{outcomes = O, begun = B, events = E} = G,
    With = fun(Id, T, Outcome) -> G#history{outcomes = O#{Id => [{T * ?MS, Outcome}]}} end,
    Begun = fun(Id, N) -> G#history{begun = B#{Id => N}} end,
    Event = fun(T, Event) -> G#history{events = lists:keysort(1, [{T * ?MS, Event} | E])} end,
    Ctx7 = ctx(7),
    [
        {"no outcome is lost", {lost, 1}, G#history{outcomes = maps:remove(1, O)}},
        {"no outcome of a helper is lost", {lost, 15}, G#history{outcomes = maps:remove(15, O)}},
        {"no outcome of a caller that lives", {lost, 6}, without(G, caller_dead, #{})},
        {"two equal outcomes", {doubled, 1}, G#history{outcomes = O#{1 => [{2, {ok, f(1), 1}}, {3, {ok, f(1), 1}}]}}},
        {"a value and an error", {doubled, 3}, G#history{outcomes = O#{3 => [{2, {ok, f(3), 1}}, {105 * ?MS, died(200, true)}]}}},
        {"an outcome of a cast", {stray, 8}, With(8, 2, {ok, f(8), 100})},
        {"an outcome of nobody", {stray, 99}, With(99, 2, {ok, f(99), 100})},
        {"a message of nobody", {stray, Ctx7}, Event(5, {stray, Ctx7, {py_done, ref}})},
        {"the value of another request", {wrong, 1}, With(1, 2, {ok, f(2), 100})},
        {"a part of a large value", {wrong, 9}, With(9, 3, {ok, {bytes, 4, <<"md5">>}, 100})},
        {"another large value", {wrong, 9}, With(9, 3, {ok, {bytes, 5, <<"dm5">>}, 100})},
        {"an exception that Python did not raise", {wrong, 1}, With(1, 2, {error, {'TypeError', "x"}})},
        {"an interrupt of another's request", {wrong, 1}, With(1, 2, {error, interrupted})},
        {"a timeout without a budget", {wrong, 1}, With(1, 20, {error, timeout})},
        {"a timeout before its time", {wrong, 5}, With(5, 5, {error, timeout})},
        {"no slot where there are enough", {wrong, 2}, G#history{outcomes = O#{2 => [{2, {error, {overloaded, 1, 1}}}]}, begun = maps:remove(2, B)}},
        {"a death of a process that lives", {wrong, 3}, With(3, 105, died(300, true))},
        {"a death before it happened", {wrong, 3}, With(3, 95, died(200, true))},
        {"a death for a reason that nobody gave", {wrong, 3}, With(3, 105, died(200, true, 'SIGBUS'))},
        {"a death without a reason", {wrong, 3}, With(3, 105, died(200, true, unknown))},
        {"an end of a context that lives", {wrong, 13}, With(13, 240, {error, {context_died, shutdown}})},
        {"an end of a context before its time", {wrong, 7}, With(7, 110, {error, {context_died, shutdown}})},
        {"no worker where none had gone", {wrong, 9}, With(9, 3, {error, {worker_unavailable, x}})},
        {"badarg without an outage", {wrong, 14}, without(G, outage, #{11 => [{1, {ok, f(11), 1}}]})},
        {"a crash of the library in the caller", {wrong, 14}, With(14, 312, {raised, error, {badmatch, x}})},
        {"a failure inside of a request that has no inside", {wrong, 1}, With(1, 2, {inner, <<"x">>})},
        {"a request that never ended", {hanging, 1}, With(1, 2, hanging)},
        {"an answer after more than patience", {hanging, 1}, With(1, ?PATIENCE_MS + 10, {ok, f(1), 100})},
        {"a timeout long after the budget", {hanging, 5}, With(5, 10 + ?GRACE_MS + 10, {error, timeout})},
        {"an error long after the death", {hanging, 3}, With(3, 100 + 1100, died(200, true))},
        {"an error long after the stop", {hanging, 7}, With(7, 120 + 1100, {error, {context_died, shutdown}})},
        {"a request that began twice", {begun, 1}, Begun(1, 2)},
        {"a cast that began twice", {begun, 8}, Begun(8, 2)},
        {"a beginning of a request that had not started", {begun, 4}, Begun(4, 1)},
        {"a value of a request that never began", {begun, 1}, G#history{begun = maps:remove(1, B)}},
        {"a beginning of nobody", {begun, 98}, Begun(98, 1)},
        {"an item that two readers had", {items, Ctx7}, Event(140, {items, Ctx7, 3, [{ok, [1, 2], false}, {ok, [2, 3], true}]})},
        {"an item that was lost", {items, Ctx7}, Event(140, {items, Ctx7, 3, [{ok, [1], false}, {ok, [3], true}]})},
        {"an item that went with nobody", {items, Ctx7}, Event(140, {items, Ctx7, 3, [{failed, 0}, {ok, [2, 3], true}]})},
        {"more items lost than a reader can take", {items, Ctx7}, Event(140, {items, Ctx7, 9, [{failed, 2}, {ok, [4, 5], false}]})},
        {"items in another order", {items, Ctx7}, Event(140, {items, Ctx7, 3, [{ok, [1, 3, 2], true}]})},
        {"an end before the last item", {items, Ctx7}, Event(140, {items, Ctx7, 3, [{ok, [1, 2], true}]})},
        {"an item that nobody sent", {items, Ctx7}, Event(140, {items, Ctx7, 2, [{ok, [1, 2, 3], true}]})},
        {"a message that Python had put", {items, Ctx7}, Event(140, {sent, Ctx7, 3, [1, 2], true})},
        {"a message before its turn", {items, Ctx7}, Event(140, {sent, Ctx7, 3, [1, 3], false})},
        {"another message", {items, Ctx7}, Event(140, {sent, Ctx7, 3, [1, wrong], false})},
        {"a beginning without a worker", {begun, 3}, With(3, 105, {error, {worker_unavailable, x}})}
    ].

without(G = #history{events = E, outcomes = O}, Event, More) ->
    G#history{events = [X || X = {_, Y} <- E, element(1, Y) =/= Event], outcomes = maps:merge(O, More)}.

latencies() ->
    Served = #history{events = Events} = served(),
    With = fun(Event) -> Served#history{events = Events ++ [{150 * ?MS, Event}]} end,
    #{errors := Errors, stops := Stops, serving := Serving} = chaos_checker:latencies(Served),
    #{serving := Twice} = chaos_checker:latencies(With({death, 202, kill, [ctx(2)]})),
    #{errors := Early} = chaos_checker:latencies(Served#history{events = [{60 * ?MS, {death, 200, outage, []}} | Events]}),
    WentWith = [case E of {T, {death, 200, _, C}} -> {T, {death, 200, outage, C}}; _ -> E end || E <- Events],
    #{errors := Gone} = chaos_checker:latencies(Served#history{events = WentWith}),
    #{serving := Outage} = chaos_checker:latencies(With({outage, py_launcher})),
    [
        {"errors are timed from the death", lists:sort(Errors) =:= [4.0, 5.0], Errors},
        {"ends are timed from the stop", Stops =:= [1.0], Stops},
        {"serving is timed from the death to another process's answer", Serving =:= [140.0], Serving},
        {"serving is not timed where the next process was killed, too", Twice =:= [], Twice},
        {"serving is not timed over an outage", Outage =:= [], Outage},
        {"errors are not timed from an outage", lists:sort(Early) =:= [4.0, 5.0], Early},
        {"errors of who went with an outage are not timed", Gone =:= [], Gone}
    ].

%% Before the death the process had answered.
served() ->
    G = #history{requests = R, outcomes = O} = good(),
    G#history{
        requests = [r(20, #request{kind = call, context = ctx(2)}) | R],
        outcomes = O#{20 => [{2 * ?MS, {ok, f(20), 200}}]}
    }.
