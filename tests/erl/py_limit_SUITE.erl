%% SPDX-License-Identifier: Apache-2.0

%% @doc The limit of concurrent requests: who waits is served in order, without polling,
%% and no slot is ever lost. py_line_SUITE: the offers behind that.
-module(py_limit_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    cases().

cases() ->
    [
        takes_its_maximum_from_the_configuration,
        holds_slots_for_the_process_that_acquires_them,
        refuses_misuse,
        serves_waiters_in_order_of_arrival,
        lets_nobody_past_those_who_wait,
        sleeps_while_it_waits,
        counts_each_kind_of_request,
        answers_overloaded_without_a_budget,
        answers_overloaded_when_the_budget_ends,
        never_runs_what_was_overloaded,
        frees_the_slot_of_a_holder_that_dies,
        frees_the_slot_of_a_holder_whose_dictionary_was_copied,
        frees_the_place_of_a_waiter_that_dies,
        frees_the_slot_after_every_kind_of_end,
        lets_waiters_in_when_the_maximum_is_raised,
        lets_nobody_in_while_the_maximum_is_exceeded,
        never_exceeds_the_maximum,
        survives_many_deaths_at_once
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(takes_its_maximum_from_the_configuration, Config) ->
    Config;
init_per_testcase(_Case, Config) ->
    case application:get_env(erlang_python, max_concurrent) of
        {ok, 3} -> ok;
        _ -> ok = py_test:start([{num_contexts, 2}, {kill_after, 200}, {max_concurrent, 3}])
    end,
    ok = py_semaphore:set_max_concurrent(3),
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- the slots themselves -------------------------------------------------------------

takes_its_maximum_from_the_configuration(_Config) ->
    ok = py_fixture:start_with_default_limit([{num_contexts, 1}]),
    ?assertEqual(2 * erlang:system_info(schedulers) + 1, py_semaphore:max_concurrent()),
    ok = py_test:start([{num_contexts, 1}, {max_concurrent, 7}]),
    7 = py_semaphore:max_concurrent(),
    ok = py_semaphore:set_max_concurrent(9),
    9 = py_semaphore:max_concurrent(),
    ok = py_test:start([{num_contexts, 1}, {max_concurrent, 7}]),
    7 = py_semaphore:max_concurrent(),
    0 = py_semaphore:current().

holds_slots_for_the_process_that_acquires_them(_Config) ->
    ok = py_semaphore:acquire(0),
    ok = py_semaphore:acquire(1000),
    ok = py_semaphore:acquire(infinity),
    3 = py_semaphore:current(),
    {error, max_concurrent} = py_semaphore:acquire(0),
    {Ms, {error, max_concurrent}} = py_test:elapsed(fun() -> py_semaphore:acquire(50) end),
    ?assert(Ms >= 49, Ms),
    %% A process that holds none gives none back.
    ok = py_test:result_of(py_test:spawn_caller(fun() -> py_semaphore:release() end)),
    3 = py_semaphore:current(),
    ok = py_semaphore:release(),
    2 = py_semaphore:current(),
    ok = py_semaphore:acquire(0),
    [ok = py_semaphore:release() || _ <- lists:seq(1, 3)],
    0 = py_semaphore:current(),
    ok = py_semaphore:release(),
    0 = py_semaphore:current().

refuses_misuse(_Config) ->
    [ok = py_test:badarg(fun() -> py_semaphore:set_max_concurrent(Bad) end) || Bad <- [0, -1, 1.5, infinity, a, "3"]],
    [ok = py_test:badarg(fun() -> py_semaphore:acquire(Bad) end) || Bad <- [-1, 1.5, a, "3", self()]],
    3 = py_semaphore:max_concurrent(),
    0 = py_semaphore:current().

%% --- order ----------------------------------------------------------------------------

serves_waiters_in_order_of_arrival(Config) ->
    Order = py_test:marker(Config, "order"),
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(0),
    %% On both contexts, so that only the slot orders them.
    Callers = [
        py_fixture:wait_in_line(fun() -> py:call(py:context(1 + N rem 2), ep_probe, mark, [Order, N]) end)
     || N <- lists:seq(1, 100)
    ],
    {1, 1, 100} = ep_nif:slots(),
    ok = py_semaphore:release(),
    ?assertEqual([{ok, N} || N <- lists:seq(1, 100)], [py_test:result_of(C) || C <- Callers]),
    ?assertEqual([integer_to_binary(N) || N <- lists:seq(1, 100)], py_test:marks(Order)).

%% A slot that comes free belongs to the first in line, not to who asks just then.
lets_nobody_past_those_who_wait(Config) ->
    Order = py_test:marker(Config, "order"),
    ok = py_semaphore:set_max_concurrent(1),
    [
        begin
            ok = py_semaphore:acquire(0),
            First = py_fixture:wait_in_line(fun() -> py:call(ep_probe, mark, [Order, first]) end),
            ok = py_semaphore:release(),
            {ok, <<"second">>} = py:call(ep_probe, mark, [Order, second]),
            {ok, <<"first">>} = py_test:result_of(First)
        end
     || _ <- lists:seq(1, 100)
    ],
    ?assertEqual(lists:append(lists:duplicate(100, [<<"first">>, <<"second">>])), py_test:marks(Order)).

sleeps_while_it_waits(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(0),
    Callers = [py_fixture:wait_in_line(fun() -> py:call(math, sqrt, [16], #{}, 20000) end) || _ <- lists:seq(1, 20)],
    Work = fun() -> [process_info(Pid, [reductions, message_queue_len]) || {Pid, _} <- Callers] end,
    Before = Work(),
    receive after 300 -> ok end,
    ?assertEqual(Before, Work()),
    ok = py_semaphore:release(),
    [{ok, 4.0} = py_test:result_of(C) || C <- Callers].

%% --- what takes one -------------------------------------------------------------------

counts_each_kind_of_request(_Config) ->
    ok = py:register_function(current, fun([]) -> py_semaphore:current() end),
    Ctx = py:context(1),
    [
        begin
            {ok, 1} = Request(),
            0 = py_semaphore:current()
        end
     || Request <- [
            fun() -> py:call(erlang, current, []) end,
            fun() -> py:call(Ctx, erlang, current, []) end,
            fun() -> py:call(erlang, current, [], #{}, 5000) end,
            fun() -> py:eval("erlang.current()") end,
            fun() -> py:eval(Ctx, "erlang.current()") end,
            fun() -> ok = py:exec("n = erlang.current()"), py:eval("n") end,
            fun() -> py_context:call(Ctx, erlang, current, []) end,
            fun() -> py_context:eval(Ctx, "erlang.current()") end
        ]
    ],
    {ok, 1} = py:await(py:spawn_call(erlang, current, [])),
    %% Each item of parallel has its own.
    Self = self(),
    ok = py:register_function(meet, fun([]) -> Self ! {here, self()}, receive go -> ok end end),
    Caller = py_test:spawn_caller(fun() -> py:parallel([{erlang, meet, []}, {erlang, meet, []}]) end),
    Pids = [receive {here, Pid} -> Pid end || _ <- [1, 2]],
    2 = py_semaphore:current(),
    [Pid ! go || Pid <- Pids],
    {ok, [{ok, <<"ok">>}, {ok, <<"ok">>}]} = py_test:result_of(Caller).

%% --- overloaded -----------------------------------------------------------------------

take_all() ->
    [ok = py_semaphore:acquire(0) || _ <- lists:seq(1, py_semaphore:max_concurrent())],
    ok.

give_all() ->
    [ok = py_semaphore:release() || _ <- lists:seq(1, py_semaphore:current())],
    0 = py_semaphore:current(),
    ok.

overloaded_requests(Timeout) ->
    Ctx = py:context(1),
    [
        fun() -> py:call(math, sqrt, [16], #{}, Timeout) end,
        fun() -> py:call(Ctx, math, sqrt, [16], Timeout) end,
        fun() -> py:call(Ctx, math, sqrt, [16], #{}, #{timeout => Timeout}) end,
        fun() -> py:eval("1", #{}, Timeout) end,
        fun() -> py:eval(Ctx, "1", #{}, Timeout) end,
        fun() -> py:exec("pass", #{timeout => Timeout}) end,
        fun() -> py:exec(Ctx, "pass", #{timeout => Timeout}) end,
        fun() -> py_context:call(Ctx, math, sqrt, [16], #{}, Timeout) end,
        fun() -> py_context:eval(Ctx, "1", #{}, Timeout) end
    ].

answers_overloaded_without_a_budget(_Config) ->
    ok = take_all(),
    [?assertEqual({error, {overloaded, 3, 3}}, Request()) || Request <- overloaded_requests(0)],
    ok = give_all(),
    [?assertEqual({error, timeout}, Request()) || Request <- overloaded_requests(0)].

answers_overloaded_when_the_budget_ends(_Config) ->
    ok = take_all(),
    [
        begin
            {Ms, Withheld, Result} = py_pace:timed(Request),
            ?assertEqual({error, {overloaded, 3, 3}}, Result),
            ?assert(Ms >= 29 andalso Ms - Withheld < 500, {Ms, Withheld})
        end
     || Request <- overloaded_requests(30)
    ],
    %% A slot that comes at about the same time is not lost.
    [
        begin
            Caller = py_test:spawn_caller(fun() -> py:call(math, sqrt, [16], #{}, 5) end),
            receive after 5 -> ok end,
            ok = py_semaphore:release(),
            Result = py_test:result_of(Caller),
            ?assert(
                lists:member(Result, [
                    {ok, 4.0}, {error, {overloaded, 3, 3}}, {error, {overloaded, 2, 3}}, {error, timeout}
                ]),
                Result
            ),
            ok = py_semaphore:acquire(5000)
        end
     || _ <- lists:seq(1, 100)
    ],
    ok = give_all().

never_runs_what_was_overloaded(Config) ->
    Mark = py_test:marker(Config, "overloaded"),
    ok = take_all(),
    {error, {overloaded, 3, 3}} = py:call(ep_probe, mark, [Mark], #{}, 20),
    ok = give_all(),
    [{ok, 4.0} = py:call(C, math, sqrt, [16]) || C <- py_context_router:contexts()],
    [] = py_test:marks(Mark).

%% --- deaths ---------------------------------------------------------------------------

frees_the_slot_of_a_holder_that_dies(Config) ->
    Self = self(),
    ok = py:register_function(meet, fun([]) -> Self ! up, receive never -> ok end end),
    [
        begin
            Caller = {Pid, _} = py_test:spawn_caller(Hold),
            receive up -> ok end,
            1 = py_semaphore:current(),
            Pid ! die,
            true = exit(Pid, Reason),
            _ = py_fixture:dead(Caller),
            ok = py_fixture:slots_free()
        end
     || {Hold, Reason} <- [
            {fun() -> ok = py_semaphore:acquire(0), Self ! up, receive die -> exit(normal) end end, none},
            {fun() -> ok = py_semaphore:acquire(0), Self ! up, receive die -> error(bad) end end, none},
            {fun() -> ok = py_semaphore:acquire(0), Self ! up, receive never -> ok end end, kill},
            {fun() -> ok = py_semaphore:acquire(0), Self ! up, receive never -> ok end end, shutdown},
            {fun() -> py:call(erlang, meet, []) end, kill},
            {fun() -> py:eval("erlang.meet()") end, shutdown}
        ]
    ],
    %% While Python runs for it.
    Held = {Caller2 = {Pid2, _}, _} = py_fixture:hold(py:context(1), Config),
    1 = py_semaphore:current(),
    true = exit(Pid2, kill),
    killed = py_fixture:dead(Caller2),
    ok = py_fixture:slots_free(),
    {ok, 4.0} = py:call(py:context(1), math, sqrt, [16]),
    {_, _} = Held.

%% As a crash report does, which lies in the mailbox of a logger.
frees_the_slot_of_a_holder_whose_dictionary_was_copied(_Config) ->
    Self = self(),
    Holder = py_test:spawn_caller(fun() ->
        ok = py_semaphore:acquire(0),
        Self ! up,
        receive never -> ok end
    end),
    {Pid, _} = Holder,
    receive up -> ok end,
    Copy = process_info(Pid, dictionary),
    true = exit(Pid, kill),
    killed = py_fixture:dead(Holder),
    ok = py_fixture:slots_free(),
    {dictionary, _} = Copy.

frees_the_place_of_a_waiter_that_dies(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(0),
    Line = [py_fixture:wait_in_line(fun() -> py:call(math, sqrt, [N]) end) || N <- lists:seq(1, 10)],
    {Doomed, Others} = lists:split(5, Line),
    [true = exit(Pid, kill) || {Pid, _} <- Doomed],
    [killed = py_fixture:dead(C) || C <- Doomed],
    ok = py_test:wait_until(fun() -> ep_nif:slots() =:= {1, 1, 5} orelse ep_nif:slots() end),
    %% One that has timed out leaves the line as well.
    {error, max_concurrent} = py_semaphore:acquire(10),
    {1, 1, 5} = ep_nif:slots(),
    ok = py_semaphore:release(),
    [{ok, _} = py_test:result_of(C) || C <- Others].

frees_the_slot_after_every_kind_of_end(Config) ->
    {ok, Gone} = py_context:start_link(gone, worker),
    ok = py_context:stop(Gone),
    Ctx = py:context(1),
    [
        begin
            {error, _} = Request(),
            0 = py_semaphore:current()
        end
     || Request <- [
            fun() -> py:eval("1 / 0") end,
            fun() -> py:call(no_such_module, f, []) end,
            fun() -> py:call(math, sqrt, [fun lists:sum/1]) end,
            fun() -> py:eval("{'a': 1, b'a': 2}") end,
            fun() -> py:call(Ctx, ep_probe, spin_until_interrupted, [py_test:marker(Config, "m")], 50) end,
            fun() -> py:call(Ctx, ep_probe, leave, [3]) end,
            fun() -> py:call(Gone, math, sqrt, [16]) end,
            fun() -> py:call(Ctx, math, sqrt, [16], 0) end
        ]
    ],
    [ok = py_test:badarg(F) || F <- [fun() -> py:call(1, f, []) end, fun() -> py:eval({a}) end]],
    0 = py_semaphore:current().

%% --- the maximum ----------------------------------------------------------------------

lets_waiters_in_when_the_maximum_is_raised(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(0),
    Self = self(),
    Waiters = [
        spawn_monitor(fun() ->
            ok = py_semaphore:acquire(infinity),
            Self ! {in, N},
            receive go -> ok end
        end)
     || N <- lists:seq(1, 5)
    ],
    ok = py_test:wait_until(fun() -> ep_nif:slots() =:= {1, 1, 5} end),
    ok = py_semaphore:set_max_concurrent(3),
    [receive {in, _} -> ok end || _ <- [1, 2]],
    {3, 3, 3} = ep_nif:slots(),
    receive {in, _} = M -> error(M) after 50 -> ok end,
    ok = py_semaphore:set_max_concurrent(100),
    [receive {in, _} -> ok end || _ <- [1, 2, 3]],
    {6, 100, 0} = ep_nif:slots(),
    [Pid ! go || {Pid, _} <- Waiters],
    [normal = py_fixture:dead(W) || W <- Waiters],
    ok = py_semaphore:release().

lets_nobody_in_while_the_maximum_is_exceeded(_Config) ->
    ok = take_all(),
    ok = py_semaphore:set_max_concurrent(1),
    {3, 1, 0} = ep_nif:slots(),
    {error, {overloaded, 3, 1}} = py:call(math, sqrt, [16], #{}, 0),
    Caller = py_fixture:wait_in_line(fun() -> py:call(math, sqrt, [16]) end),
    ok = py_semaphore:release(),
    {2, 1, 1} = ep_nif:slots(),
    ok = py_semaphore:release(),
    {1, 1, 1} = ep_nif:slots(),
    {error, max_concurrent} = py_semaphore:acquire(20),
    ok = py_semaphore:release(),
    {ok, 4.0} = py_test:result_of(Caller).

never_exceeds_the_maximum(_Config) ->
    Self = self(),
    ok = py:register_function(current, fun([]) -> py_semaphore:current() end),
    Watcher = py_test:spawn_caller(fun() -> watch(0) end),
    Callers = [
        py_test:spawn_caller(fun() ->
            [begin {ok, N} = py:eval("erlang.current()"), N end || _ <- lists:seq(1, 50)]
        end)
     || _ <- lists:seq(1, 100)
    ],
    Seen = lists:append([py_test:result_of(C) || C <- Callers]),
    element(1, Watcher) ! {stop, Self},
    Highest = py_test:result_of(Watcher),
    ct:pal("highest seen: ~b from outside, ~b from inside", [Highest, lists:max(Seen)]),
    ?assert(Highest =< 3),
    ?assert(lists:max(Seen) =< 3),
    ?assert(lists:min(Seen) >= 1).

watch(Highest) ->
    receive
        {stop, _} -> Highest
    after 0 -> watch(max(Highest, py_semaphore:current()))
    end.

survives_many_deaths_at_once(_Config) ->
    rand:seed(exsss, {1, 2, 3}),
    Callers = [
        py_test:spawn_caller(fun() -> calls_for_ever() end)
     || _ <- lists:seq(1, 500)
    ],
    [
        begin
            true = exit(Pid, kill),
            killed = py_fixture:dead(Caller)
        end
     || Caller = {Pid, _} <- [C || {_, C} <- lists:sort([{rand:uniform(), C} || C <- Callers])]
    ],
    ok = py_fixture:slots_free(),
    [{ok, 4.0} = py:call(C, math, sqrt, [16]) || C <- py_context_router:contexts()].

calls_for_ever() ->
    _ = py:call(math, sqrt, [16]),
    calls_for_ever().
