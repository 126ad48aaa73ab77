%% SPDX-License-Identifier: Apache-2.0

%% @doc Requests made in callbacks: depth, contexts that wait for each other, slots,
%% budgets and interrupts while a callback runs.
-module(py_nesting_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

%% Of a budget that has to end while something goes on.
-define(SHORT_MS, 150).
%% How late an answer may be on a busy machine.
-define(LATE_MS, 1000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

%% In one context only, two cannot cross.
groups() ->
    Some = cases_by_number_of_contexts(),
    [
        {Group, Properties, [C || C <- Cases, not (is_single(Group) andalso C =:= reaches_a_hundred_levels_on_two_contexts_that_cross)]}
     || {Group, Properties, Cases} <- py_fixture:groups(cases(), #{shared => Some, single_worker => Some})
    ].

%% Where it matters how many contexts a process has, or how many there are.
cases_by_number_of_contexts() ->
    [
        reaches_a_hundred_levels_on_one_context,
        reaches_a_hundred_levels_from_eval_and_exec,
        reaches_a_hundred_levels_on_two_contexts_that_cross,
        passes_exceptions_up_through_the_levels,
        runs_nested_requests_on_the_thread_of_the_callback,
        takes_no_slot_for_a_nested_request,
        runs_nested_requests_before_those_that_wait,
        nests_requests_of_helpers,
        does_not_count_a_process_that_is_asked_as_inside,
        ends_a_nested_request_by_its_own_budget,
        ends_all_levels_when_the_outermost_budget_ends,
        interrupts_the_request_that_runs,
        interrupts_python_that_waits_for_a_callback
    ].

is_single(Group) ->
    lists:keymember(Group, 1, py_fixture:singles()).

cases() ->
    [
        reaches_a_hundred_levels_on_one_context,
        reaches_a_hundred_levels_from_eval_and_exec,
        reaches_a_hundred_levels_on_two_contexts_that_cross,
        ends_far_too_deep_a_nesting_with_a_recursion_error,
        passes_exceptions_up_through_the_levels,
        runs_nested_requests_on_the_thread_of_the_callback,
        takes_no_slot_for_a_nested_request,
        runs_nested_requests_before_those_that_wait,
        nests_requests_of_helpers,
        does_not_count_a_process_that_is_asked_as_inside,
        ends_a_callback_that_outlives_the_budget_when_it_returns,
        ends_nested_requests_with_the_budget_around_them,
        gives_python_no_answer_after_the_deadline,
        ends_a_nested_request_by_its_own_budget,
        ends_all_levels_when_the_outermost_budget_ends,
        leaves_a_callback_alone_whose_budget_is_long,
        interrupts_the_request_that_runs,
        interrupts_python_that_waits_for_a_callback,
        finds_nothing_to_interrupt_in_an_idle_context,
        never_interrupts_a_later_request
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- depth ----------------------------------------------------------------------------

define_levels() ->
    ok = py:register_function(level, fun([N, Max]) ->
        case N >= Max of
            true ->
                N;
            false ->
                {ok, Result} = py:call('__main__', next_level, [N + 1, Max]),
                Result
        end
    end),
    py:exec("def next_level(n, max): return erlang.call('level', n, max)").

reaches_a_hundred_levels_on_one_context(_Config) ->
    ok = define_levels(),
    {ok, 100} = py:call('__main__', next_level, [1, 100]),
    %% Again and again: nothing is left of a stack.
    [{ok, 100} = py:call('__main__', next_level, [1, 100]) || _ <- lists:seq(1, 20)].

reaches_a_hundred_levels_from_eval_and_exec(_Config) ->
    ok = define_levels(),
    {ok, 100} = py:eval("next_level(1, 100)"),
    ok = py:exec("r = next_level(1, 100)"),
    {ok, 100} = py:eval("r"),
    ok = py:register_function(by_eval, fun([N]) ->
        {ok, Result} = py:eval("erlang.by_eval(n - 1) + 1 if n else 0", #{n => N}),
        Result
    end),
    {ok, 100} = py:eval("erlang.by_eval(100)"),
    ok = py:register_function(by_exec, fun([N]) ->
        Code = io_lib:format("n_~b = erlang.by_exec(~b) + 1 if ~b else 0", [N, N - 1, N]),
        ok = py:exec(Code),
        {ok, Result} = py:eval(["n_", integer_to_list(N)]),
        Result
    end),
    {ok, 100} = py:eval("erlang.by_exec(100)").

reaches_a_hundred_levels_on_two_contexts_that_cross(_Config) ->
    ok = py:register_function(cross, fun([N, Which]) -> cross(N, Which) end),
    Callers = [
        py_test:spawn_caller(fun() ->
            [ok = py:exec(py:context(C), "def cross(n, which): return erlang.cross(n, which)") || C <- [1, 2]],
            [cross(100, 1 + (I rem 2)) || _ <- lists:seq(1, 5)]
        end)
     || I <- lists:seq(1, 4)
    ],
    [[0, 0, 0, 0, 0] = py_test:result_of(C) || C <- Callers].

cross(0, _Which) ->
    0;
cross(N, Which) ->
    {ok, Result} = py:call(py:context(Which), '__main__', cross, [N - 1, 3 - Which]),
    Result.

ends_far_too_deep_a_nesting_with_a_recursion_error(_Config) ->
    Depth = counters:new(1, []),
    Self = self(),
    ok = py:register_function(deep, fun([]) ->
        counters:add(Depth, 1, 1),
        case py:eval("erlang.deep()") of
            {ok, X} ->
                X;
            {error, {'RecursionError', _}} = Error ->
                Self ! {deepest, counters:get(Depth, 1)},
                throw(Error);
            {error, _} ->
                throw(deeper)
        end
    end),
    {error, {'CallbackError', "throw: " ++ _}} = py:eval("erlang.deep()"),
    receive
        {deepest, N} ->
            ct:pal("a RecursionError at level ~b", [N]),
            ?assert(N >= 100)
    end,
    ok = flush_deepest(),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% So near to the limit, raising the exception can exceed it once more, a level below.
flush_deepest() ->
    receive
        {deepest, _} -> flush_deepest()
    after 0 -> ok
    end.

passes_exceptions_up_through_the_levels(Config) ->
    Mark = py_test:marker(Config, "levels"),
    ok = py:register_function(up, fun([N]) ->
        case py:call('__main__', down, [N]) of
            {ok, X} -> X;
            {error, Reason} -> error(Reason)
        end
    end),
    ok = py:exec("import ep_probe\n"
                 "def down(n):\n"
                 "    try:\n"
                 "        return 1 / 0 if n == 0 else erlang.up(n - 1)\n"
                 "    finally:\n"
                 "        ep_probe.mark('" ++ binary_to_list(Mark) ++ "', n)\n"),
    {error, {'CallbackError', "error: " ++ Text}} = py:call('__main__', down, [10]),
    ?assertMatch({match, _}, re:run(Text, "ZeroDivisionError")),
    ?assertEqual([integer_to_binary(N) || N <- lists:seq(0, 10)], py_test:marks(Mark)).

%% --- contexts and slots ---------------------------------------------------------------

runs_nested_requests_on_the_thread_of_the_callback(_Config) ->
    ok = py:register_function(thread, fun([]) -> {ok, Id} = py:call(threading, get_ident, []), Id end),
    {ok, true} = py:eval("__import__('threading').get_ident() == erlang.thread()"),
    %% On any context the callback came from.
    [{ok, true} = py:eval(C, "__import__('threading').get_ident() == erlang.thread()")
     || C <- py_context_router:contexts()].

takes_no_slot_for_a_nested_request(_Config) ->
    ok = py:register_function(slots, fun([]) ->
        {ok, 4.0} = py:call(math, sqrt, [16]),
        {ok, 4.0} = py:call(py:context(1), math, sqrt, [16], 60000),
        {ok, Inner} = py:eval("erlang.inner()"),
        [py_semaphore:current(), Inner]
    end),
    ok = py:register_function(inner, fun([]) -> py_semaphore:current() end),
    {ok, [1, 1]} = py:eval("erlang.slots()"),
    0 = py_semaphore:current().

%% A context that waits for a callback lets nobody else in.
runs_nested_requests_before_those_that_wait(Config) ->
    Ctx = py:context(1),
    Order = py_test:marker(Config, "order"),
    Max = py_semaphore:max_concurrent(),
    ok = py_semaphore:set_max_concurrent(Max + 1),
    Self = self(),
    ok = py:register_function(nested, fun([]) ->
        Self ! {inside, self()},
        receive go -> ok end,
        {ok, 1} = py:call(ep_probe, mark, [Order, 1]),
        {ok, 2} = py:call(ep_probe, mark, [Order, 2]),
        done
    end),
    First = {Pid, _} = py_test:spawn_caller(fun() -> py:eval(Ctx, "erlang.nested()") end),
    receive {inside, Pid} -> ok end,
    Second = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, mark, [Order, 3]) end),
    ok = py_fixture:parked(Second),
    Pid ! go,
    {ok, <<"done">>} = py_test:result_of(First),
    {ok, 3} = py_test:result_of(Second),
    [<<"1">>, <<"2">>, <<"3">>] = py_test:marks(Order),
    ok = py_semaphore:set_max_concurrent(Max).

%% Helpers that are started inside a callback are inside it, too.
nests_requests_of_helpers(_Config) ->
    ok = py:register_function(helped, fun([]) ->
        {ok, 4.0} = py:await(py:spawn_call(math, sqrt, [16])),
        {ok, [{ok, 2.0}, {ok, 3.0}, {ok, 4.0}]} =
            py:parallel([{math, sqrt, [4]}, {math, sqrt, [9]}, {math, sqrt, [16]}]),
        py_semaphore:current()
    end),
    {ok, 1} = py:eval(py:context(1), "erlang.helped()", #{}, 20000).

%% A server that a callback asks is an ordinary caller: it waits for the context.
does_not_count_a_process_that_is_asked_as_inside(_Config) ->
    Ctx = py:context(1),
    Server = py_test:spawn_caller(fun() ->
        receive {ask, From, Timeout} -> From ! {self(), py:call(Ctx, math, sqrt, [16], Timeout)} end,
        receive {ask, From2, Timeout2} -> From2 ! {self(), py:call(Ctx, math, sqrt, [25], Timeout2)} end
    end),
    {Pid, _} = Server,
    ok = py:register_function(ask, fun([]) ->
        Pid ! {ask, self(), ?SHORT_MS},
        receive
            {Pid, {error, timeout}} -> waited;
            {Pid, {error, {overloaded, 1, 1}}} -> waited
        end
    end),
    {ok, <<"waited">>} = py:eval(Ctx, "erlang.ask()"),
    %% Who waits long enough is served when the callback has ended.
    ok = py:register_function(ask, fun([]) -> Pid ! {ask, self(), infinity}, asked end),
    {ok, <<"asked">>} = py:eval(Ctx, "erlang.ask()"),
    receive {Pid, {ok, 5.0}} -> ok end,
    _ = py_test:result_of(Server).

%% --- budgets --------------------------------------------------------------------------

%% Python hears of it at once; the caller as soon as the callback returns.
ends_a_callback_that_outlives_the_budget_when_it_returns(Config) ->
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    Mark = py_test:marker(Config, "interrupted"),
    ok = py:register_function(slow, fun([]) ->
        ok = py_test:wait_until(fun() -> py_test:marks(Mark) =/= [] end),
        dropped
    end),
    ok = py:exec(Ctx, [
        "import ep_probe\n"
        "def f():\n"
        "    try:\n"
        "        return erlang.slow()\n"
        "    except KeyboardInterrupt:\n"
        "        ep_probe.mark('", Mark, "')\n"
        "        raise\n"
    ]),
    [
        begin
            {Ms, Withheld, Result} = py_pace:timed(Call),
            ?assertEqual({error, timeout}, Result),
            ?assert(Ms >= ?SHORT_MS - 1 andalso Ms - Withheld < ?SHORT_MS + ?LATE_MS, {Ms, Withheld}),
            [<<".">>] = py_test:marks(Mark),
            ok = file:delete(Mark),
            {ok, OsPid} = py:call(Ctx, os, getpid, [])
        end
     || Call <- [
            fun() -> py:call(Ctx, '__main__', f, [], ?SHORT_MS) end,
            fun() -> py:eval(Ctx, "f()", #{}, ?SHORT_MS) end,
            fun() -> py:exec(Ctx, "f()", #{timeout => ?SHORT_MS}) end
        ]
    ],
    %% Also if Python had caught it and returned.
    ok = py:exec(Ctx, [
        "def g():\n"
        "    try:\n"
        "        return erlang.slow()\n"
        "    except KeyboardInterrupt:\n"
        "        ep_probe.mark('", Mark, "')\n"
        "        return 'caught'\n"
    ]),
    {error, timeout} = py:call(Ctx, '__main__', g, [], ?SHORT_MS),
    {ok, OsPid} = py:call(Ctx, os, getpid, []).

%% Whatever they say themselves.
ends_nested_requests_with_the_budget_around_them(Config) ->
    Ctx = py:context(1),
    Self = self(),
    [
        begin
            Mark = py_test:marker(Config, "inner"),
            ok = py:register_function(inner, fun([]) ->
                Result = Inner(Mark),
                Self ! {inner, Result},
                Result
            end),
            {Ms, Withheld, Result} = py_pace:timed(fun() -> py:eval(Ctx, "erlang.inner()", #{}, ?SHORT_MS) end),
            ?assertEqual({error, timeout}, Result),
            ?assert(Ms >= ?SHORT_MS - 1 andalso Ms - Withheld < ?SHORT_MS + ?LATE_MS, {Ms, Withheld}),
            receive {inner, {error, timeout}} -> ok after 0 -> error(no_inner_timeout) end,
            %% Python stopped.
            ok = py_test:wait_for_file(<<Mark/binary, ".interrupted">>)
        end
     || Inner <- [
            fun(Mark) -> py:call(Ctx, ep_probe, spin_until_interrupted, [Mark], infinity) end,
            fun(Mark) -> py:call(Ctx, ep_probe, spin_until_interrupted, [Mark], 60000) end,
            fun(Mark) -> py:call(ep_probe, spin_until_interrupted, [Mark]) end
        ]
    ].

%% The nested request ends at that moment, and so does the one around it, however late
%% its context hears of it.
gives_python_no_answer_after_the_deadline(_Config) ->
    Ctx = py:context(1),
    ok = py:register_function(inner, fun([]) -> py:eval(Ctx, "[0 for _ in iter(int, 1)]") end),
    Busy = [spawn_link(fun Loop() -> Loop() end) || _ <- lists:seq(1, 2 * erlang:system_info(schedulers_online))],
    Results = [py:eval(Ctx, "erlang.inner()", #{}, 5) || _ <- lists:seq(1, 100)],
    [begin true = unlink(Pid), ok = py_fixture:end_process(Pid, kill) end || Pid <- Busy],
    ?assertEqual([{error, timeout}], lists:usort(Results)).

ends_a_nested_request_by_its_own_budget(Config) ->
    Mark = py_test:marker(Config, "inner"),
    OsPid = py_test:os_pid(py:context()),
    ok = py:register_function(inner, fun([]) ->
        {error, timeout} = py:call(ep_probe, spin_until_interrupted, [Mark], #{}, ?SHORT_MS),
        {error, timeout} = py:eval("1", #{}, 0),
        went_on
    end),
    {ok, [<<"went_on">>, 1]} = py:eval("[erlang.inner(), 1]", #{}, 20000),
    ok = py_test:wait_for_file(<<Mark/binary, ".interrupted">>),
    {ok, OsPid} = py:call(os, getpid, []).

ends_all_levels_when_the_outermost_budget_ends(Config) ->
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    Mark = py_test:marker(Config, "levels"),
    Self = self(),
    ok = py:register_function(up, fun([N]) ->
        Result = py:call(Ctx, '__main__', down, [N], infinity),
        Self ! {level, N, Result},
        Result
    end),
    ok = py:exec(Ctx, [
        "import ep_probe\n"
        "def down(n):\n"
        "    if n == 0:\n"
        "        return ep_probe.spin_until_interrupted('", Mark, "')\n"
        "    return erlang.up(n - 1)\n"
    ]),
    {error, timeout} = py_pace:within(?SHORT_MS + ?LATE_MS, fun() ->
        py:call(Ctx, '__main__', down, [10], ?SHORT_MS)
    end),
    [receive {level, N, Result} -> {N, {error, timeout}} = {N, Result} end || N <- lists:seq(0, 9)],
    {ok, OsPid} = py:call(Ctx, os, getpid, []).

leaves_a_callback_alone_whose_budget_is_long(_Config) ->
    ok = py:register_function(f, fun([N]) -> {ok, X} = py:eval("n + 1", #{n => N}), X end),
    [{ok, 3} = py:eval("erlang.f(erlang.f(1))", #{}, 10000) || _ <- lists:seq(1, 500)],
    [{ok, 3} = py:eval("erlang.f(erlang.f(1))", #{}, infinity) || _ <- lists:seq(1, 500)].

%% --- interrupts -----------------------------------------------------------------------

interrupts_the_request_that_runs(Config) ->
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    [
        begin
            Mark = py_test:marker(Config, "busy"),
            Caller = py_test:spawn_caller(fun() -> Run(Mark) end),
            ok = py_test:wait_for_file(Mark),
            ok = Interrupt(Ctx),
            ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
            {ok, OsPid} = py:call(Ctx, os, getpid, [])
        end
     || Interrupt <- [fun py:interrupt/1],
        Run <- [
            fun(Mark) -> py:call(Ctx, ep_probe, spin_until_interrupted, [Mark]) end,
            fun(Mark) -> py:eval(Ctx, "__import__('ep_probe').spin(m)", #{m => Mark}) end,
            fun(Mark) -> py:exec(Ctx, ["import ep_probe; ep_probe.spin('", Mark, "')"]) end
        ]
    ],
    %% Python may handle it.
    ok = py:exec(Ctx, "import ep_probe\n"
                      "def f(mark):\n"
                      "    try: ep_probe.spin(mark)\n"
                      "    except KeyboardInterrupt: return 'handled'\n"),
    Mark2 = py_test:marker(Config, "busy"),
    Caller2 = py_test:spawn_caller(fun() ->
        ok = py:exec(Ctx, "import ep_probe\n"
                      "def f(mark):\n"
                      "    try: ep_probe.spin(mark)\n"
                      "    except KeyboardInterrupt: return 'handled'\n"),
        py:call(Ctx, '__main__', f, [Mark2])
    end),
    ok = py_test:wait_for_file(Mark2),
    ok = py:interrupt(Ctx),
    {ok, <<"handled">>} = py_test:result_of(Caller2),
    {ok, OsPid} = py:call(Ctx, os, getpid, []).

interrupts_python_that_waits_for_a_callback(Config) ->
    Ctx = py:context(1),
    Mark = py_test:marker(Config, "interrupted"),
    Self = self(),
    ok = py:register_function(wait, fun([]) -> Self ! {inside, self()}, receive go -> gone end end),
    Code = [
        "import ep_probe\n"
        "def f():\n"
        "    try:\n"
        "        return erlang.wait()\n"
        "    except KeyboardInterrupt:\n"
        "        ep_probe.mark('", Mark, "')\n"
        "        raise\n"
    ],
    Caller = {Pid, _} = py_test:spawn_caller(fun() ->
        ok = py:exec(Ctx, Code),
        py:call(Ctx, '__main__', f, [])
    end),
    receive {inside, Pid} -> ok end,
    ok = py:interrupt(Ctx),
    ok = py_test:wait_for_file(Mark),
    Pid ! go,
    {error, interrupted} = py_test:result_of(Caller),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]).

finds_nothing_to_interrupt_in_an_idle_context(_Config) ->
    [not_running = py:interrupt(Ctx) || Ctx <- py_context_router:contexts()],
    {ok, Ctx} = py_context:start_link(gone, worker),
    ok = py_context:stop(Ctx),
    not_running = py:interrupt(Ctx),
    not_running = py:interrupt(self()),
    [ok = py_test:badarg(fun() -> py:interrupt(Bad) end) || Bad <- [1, default, "x", make_ref()]].

never_interrupts_a_later_request(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx, "def count():\n    n = 0\n    for i in range(5000): n += 1\n    return n"),
    Interrupter = py_test:spawn_caller(fun() -> interrupt_until_told(Ctx, 0) end),
    %% Each may be hit, by an interrupt of its time. Those after the last one may not.
    Results = [py:call(Ctx, '__main__', count, []) || _ <- lists:seq(1, 1000)],
    element(1, Interrupter) ! stop,
    Interrupts = py_test:result_of(Interrupter),
    [{ok, 5000} = py:call(Ctx, '__main__', count, []) || _ <- lists:seq(1, 100)],
    ?assertEqual([], [R || R <- Results, R =/= {ok, 5000}, R =/= {error, interrupted}]),
    ct:pal("~b interrupts, ~b requests hit", [Interrupts, length([hit || {error, _} <- Results])]).

interrupt_until_told(Ctx, Hits) ->
    receive
        stop -> Hits
    after 0 ->
        case py:interrupt(Ctx) of
            ok -> interrupt_until_told(Ctx, Hits + 1);
            not_running -> interrupt_until_told(Ctx, Hits)
        end
    end.
