%% SPDX-License-Identifier: Apache-2.0

%% @doc What goes wrong in Python, and what takes too long.
-module(py_error_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

%% How much later than its budget a caller may hear of it on a loaded machine.
-define(LATE_MS, 300).
-define(KILL_AFTER_MS, 600).
%% What a new worker process may take.
-define(START_MS, 4000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(py_test:modes(), exceptions() ++ timeouts(), #{
        shared => [
            goes_on_after_an_exception,
            tells_stop_iteration_exit_and_interrupt_apart,
            ends_a_busy_loop_at_the_timeout,
            ends_a_sleep_at_the_timeout,
            kills_what_ignores_the_interrupt,
            never_runs_a_queued_call_that_timed_out,
            never_interrupts_the_call_after_the_one_that_timed_out,
            cancels_the_call_of_a_caller_that_dies,
            cancels_the_queued_call_of_a_caller_that_dies,
            cancels_the_parallel_calls_of_a_caller_that_dies
        ]
    }) ++ [{single, [], single()}].

exceptions() ->
    [
        returns_the_type_and_text_of_an_exception,
        returns_missing_names_as_exceptions,
        returns_syntax_errors_with_their_place,
        tells_stop_iteration_exit_and_interrupt_apart,
        returns_a_traceback_when_asked,
        cuts_the_middle_of_a_long_traceback,
        bounds_the_length_of_a_message,
        survives_exceptions_without_text,
        returns_unicode_messages_as_code_points,
        names_the_outer_one_of_chained_exceptions,
        survives_recursion_and_want_of_memory,
        goes_on_after_an_exception
    ].

timeouts() ->
    [
        ends_a_busy_loop_at_the_timeout,
        ends_a_sleep_at_the_timeout,
        ends_a_timed_out_exec_and_eval,
        runs_nothing_within_a_budget_of_zero,
        kills_what_ignores_the_interrupt,
        lets_python_clean_up_when_interrupted,
        says_timeout_although_python_answers_the_interrupt,
        never_runs_a_queued_call_that_timed_out,
        never_interrupts_the_call_after_the_one_that_timed_out,
        leaves_nothing_in_the_mailbox_when_reply_and_timeout_cross,
        cancels_the_call_of_a_caller_that_dies,
        cancels_the_queued_call_of_a_caller_that_dies,
        cancels_the_parallel_calls_of_a_caller_that_dies,
        never_runs_queued_parallel_calls_of_a_caller_that_dies
    ].

single() ->
    [
        runs_queued_calls_in_order_after_a_kill,
        stays_busy_when_nothing_may_be_killed,
        kills_at_once_when_told_to,
        makes_no_more_atoms_than_allowed
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(single, Config) ->
    ok = py_test:start([{num_contexts, 1}, {kill_after, ?KILL_AFTER_MS}]),
    Config;
init_per_group(Mode, Config) ->
    case py_test:init_mode(Mode, Config) of
        {skip, Why} ->
            {skip, Why};
        Ready ->
            ok = py_test:start([{kill_after, ?KILL_AFTER_MS} | proplists:get_value(Mode, py_test:modes())]),
            Ready
    end.

end_per_group(_Mode, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    {ok, 4.0} = py:call(py:context(1), math, sqrt, [16], ?START_MS),
    py_test:clean().

%% --- exceptions -----------------------------------------------------------------------

returns_the_type_and_text_of_an_exception(_Config) ->
    {error, {'ZeroDivisionError', "division by zero"}} = py:eval("1 / 0"),
    {error, {'KeyError', "'k'"}} = py:eval("{}['k']"),
    {error, {'ValueError', ""}} = py:exec("raise ValueError"),
    {error, {'ValueError', "a b"}} = py:exec("raise ValueError('a b')"),
    {error, {'TypeError', "'float' object is not callable"}} = py:call(math, pi, []),
    {error, {'TypeError', _}} = py:call(math, sqrt, []),
    {error, {'TypeError', _}} = py:call(math, sqrt, [<<"text">>]),
    {error, {'TypeError', _}} = py:call(math, sqrt, [1], #{nothing => 1}),
    {error, {'GeneratorExit', ""}} = py:exec("raise GeneratorExit"),
    {error, {'Inner', "x"}} =
        py:exec("class Outer:\n    class Inner(Exception): pass\nraise Outer.Inner('x')"),
    {error, {'JSONDecodeError', "Expecting value: line 1 column 1 (char 0)"}} =
        py:call(json, loads, [<<"nonsense">>]).

returns_missing_names_as_exceptions(_Config) ->
    {error, {'ModuleNotFoundError', "No module named 'no_such_module'"}} =
        py:call(no_such_module, f, []),
    {error, {'AttributeError', "module 'math' has no attribute 'no_such_function'"}} =
        py:call(math, no_such_function, []),
    {error, {'NameError', "name 'nobody' is not defined"}} = py:eval("nobody"),
    {error, {'AttributeError', _}} = py:call('__main__', no_such_function, []).

returns_syntax_errors_with_their_place(_Config) ->
    {error, {'SyntaxError', "invalid syntax (<eval>, line 1)"}} = py:eval(<<"1 +">>),
    {error, {'SyntaxError', "invalid syntax (<eval>, line 1)"}} = py:eval("x = 1"),
    {error, {'SyntaxError', Text}} = py:exec("x = 1\ndef"),
    "(<exec>, line 2)" = string:find(Text, "(<exec>"),
    {error, {'IndentationError', _}} = py:exec("if True:\npass"),
    {error, {'SyntaxError', _}} = py:eval("").

tells_stop_iteration_exit_and_interrupt_apart(_Config) ->
    {error, {stop_iteration, none}} = py:eval("next(iter([]))"),
    {error, {stop_iteration, none}} = py:exec("raise StopIteration('value')"),
    {error, {'StopAsyncIteration', _}} = py:exec("raise StopAsyncIteration"),
    {error, {'SystemExit', "3"}} = py:call(sys, exit, [3]),
    {error, {'SystemExit', ""}} = py:exec("import sys; sys.exit()"),
    {error, interrupted} = py:exec("raise KeyboardInterrupt"),
    {ok, 2} = py:eval("1 + 1").

returns_a_traceback_when_asked(_Config) ->
    Code =
        "def inner():\n    raise ValueError('inside ä')\n"
        "def outer():\n"
        "    try:\n        inner()\n"
        "    except ValueError as e:\n        raise LookupError('outside') from e\n",
    ok = py:exec(Code),
    Options = #{traceback => true},
    Results = [
        py:call('__main__', outer, [], #{}, Options),
        py:eval("outer()", #{}, Options),
        py:exec("outer()", Options)
    ],
    [
        begin
            {error, {'LookupError', "outside", Traceback}} = Result,
            [
                ?assertMatch({_, {match, _}}, {Part, re:run(Traceback, Part, [unicode])})
             || Part <- [
                    "Traceback \\(most recent call last\\)", "in inner", "in outer", "<exec>",
                    <<"ValueError: inside ä"/utf8>>, "direct cause", "LookupError: outside"
                ]
            ]
        end
     || Result <- Results
    ],
    {error, {'LookupError', "outside"}} = py:call('__main__', outer, [], #{}, #{traceback => false}),
    {error, {stop_iteration, none}} = py:eval("next(iter([]))", #{}, Options).

cuts_the_middle_of_a_long_traceback(_Config) ->
    ok = py:exec(
        "def pair_a(n):\n    raise ValueError('ö' * 9000) if n == 0 else pair_b(n - 1)\n"
        "def pair_b(n):\n    return pair_a(n)\n"
        "def start():\n    pair_a(300)\n"
    ),
    {error, {_, _, Traceback}} = py:call('__main__', start, [], #{}, #{traceback => true}),
    ?assert(byte_size(Traceback) =< 16384, byte_size(Traceback)),
    ?assert(byte_size(Traceback) > 16000, byte_size(Traceback)),
    ?assertMatch([_ | _], unicode:characters_to_list(Traceback)),
    ?assertMatch({0, _}, binary:match(Traceback, <<"Traceback">>)).

bounds_the_length_of_a_message(_Config) ->
    {error, {'ValueError', Exact}} = py:exec("raise ValueError('x' * 4096)"),
    4096 = length(Exact),
    {error, {'ValueError', Cut}} = py:exec("raise ValueError('ä' * 5000)"),
    ?assertEqual(lists:duplicate(4096, $ä), Cut),
    {error, {'ValueError', Huge}} = py:exec("raise ValueError('😀' * 10000000)"),
    4096 = length(Huge).

survives_exceptions_without_text(_Config) ->
    {error, {'Unprintable', "unknown"}} = py:call(ep_probe, raise_unprintable, []),
    {error, {'Unprintable', "unknown", Traceback}} =
        py:call(ep_probe, raise_unprintable, [], #{}, #{traceback => true}),
    ?assertMatch({_, _}, binary:match(Traceback, <<"Unprintable">>)),
    {error, {'E', "unknown"}} =
        py:exec("class E(Exception):\n    def __str__(self): return 1\nraise E"),
    {error, {'E', _}} =
        py:exec("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E").

returns_unicode_messages_as_code_points(_Config) ->
    {error, {'ValueError', Message}} = py:exec("raise ValueError('grüße Ω 😀')"),
    ?assertEqual(unicode:characters_to_list(<<"grüße Ω 😀"/utf8>>), Message),
    {error, {'ValueError', [$a, 0, $b]}} = py:exec("raise ValueError('a\\0b')").

names_the_outer_one_of_chained_exceptions(_Config) ->
    {error, {'LookupError', "outer"}} =
        py:exec("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise LookupError('outer')"),
    {error, {'ExceptionGroup', "g (2 sub-exceptions)"}} =
        py:exec("raise ExceptionGroup('g', [ValueError(1), TypeError(2)])").

survives_recursion_and_want_of_memory(_Config) ->
    OsPid = py_test:os_pid(py:context(1)),
    ok = py:exec("def forever(n): return forever(n + 1)"),
    {error, {'RecursionError', _}} = py:call('__main__', forever, [0]),
    {error, {'MemoryError', _}} = py:eval("bytearray(1 << 60)"),
    {error, {'OverflowError', _}} = py:eval("bytearray(1 << 70)"),
    OsPid = py_test:os_pid(py:context(1)).

goes_on_after_an_exception(_Config) ->
    ok = py:exec("state = 1"),
    OsPid = py_test:os_pid(py:context(1)),
    [{error, _} = py:exec("raise ValueError") || _ <- lists:seq(1, 1000)],
    {ok, 1} = py:eval("state"),
    OsPid = py_test:os_pid(py:context(1)).

%% --- timeouts -------------------------------------------------------------------------

%% Asserts that Fun returns what a timeout returns, and when.
times_out(Ms, Fun) ->
    {Elapsed, Withheld, Result} = py_pace:timed(Fun),
    ?assertEqual({error, timeout}, Result),
    ?assert(Elapsed >= Ms - 1 andalso Elapsed - Withheld < Ms + ?LATE_MS, {Ms, Elapsed, Withheld}).

ends_a_busy_loop_at_the_timeout(Config) ->
    Mark = py_test:marker(Config, "spin"),
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    times_out(200, fun() -> py:call(Ctx, ep_probe, spin, [Mark], 200) end),
    %% A loop that takes the interrupt costs no process.
    {ok, OsPid} = py:call(Ctx, os, getpid, [], ?START_MS).

ends_a_sleep_at_the_timeout(Config) ->
    Mark = py_test:marker(Config, "sleep"),
    Ctx = py:context(1),
    times_out(200, fun() -> py:call(Ctx, ep_probe, sleep, [Mark, 60], 200) end),
    %% Interrupted, or killed after a while where no signal reaches the sleeping thread.
    {ok, 4.0} = py_pace:within(?KILL_AFTER_MS + ?START_MS, fun() -> py:call(Ctx, math, sqrt, [16], 30000) end).

ends_a_timed_out_exec_and_eval(_Config) ->
    times_out(100, fun() -> py:exec("while True: pass", #{timeout => 100}) end),
    times_out(100, fun() -> py:eval("[0 for _ in iter(int, 1)]", #{}, 100) end),
    {ok, 2} = py:eval("1 + 1", #{}, ?START_MS).

runs_nothing_within_a_budget_of_zero(Config) ->
    Mark = py_test:marker(Config, "zero"),
    Ctx = py:context(1),
    {error, timeout} = py:call(Ctx, ep_probe, mark, [Mark], 0),
    {error, timeout} = py:eval(Ctx, "__import__('ep_probe').mark(m)", #{m => Mark}, 0),
    {error, timeout} = py:exec(Ctx, "raise SystemError", #{timeout => 0}),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    [] = py_test:marks(Mark).

kills_what_ignores_the_interrupt(Config) ->
    Mark = py_test:marker(Config, "stubborn"),
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    times_out(200, fun() -> py:call(Ctx, ep_probe, stubborn, [Mark], 200) end),
    {ok, NewPid} = py_pace:within(?KILL_AFTER_MS + ?START_MS, fun() -> py:call(Ctx, os, getpid, [], 30000) end),
    ?assertNotEqual(OsPid, NewPid),
    false = py_test:is_running(OsPid),
    Ctx = py:context(1),
    true = is_process_alive(Ctx).

lets_python_clean_up_when_interrupted(Config) ->
    Mark = py_test:marker(Config, "clean"),
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    times_out(100, fun() -> py:call(Ctx, ep_probe, spin_until_interrupted, [Mark], 100) end),
    {ok, OsPid} = py:call(Ctx, os, getpid, [], ?START_MS),
    [<<".">>] = py_test:marks(<<Mark/binary, ".interrupted">>).

says_timeout_although_python_answers_the_interrupt(_Config) ->
    Code =
        "def answer():\n"
        "    try:\n        while True: pass\n"
        "    except KeyboardInterrupt:\n        return 'late'\n",
    ok = py:exec(Code),
    times_out(100, fun() -> py:call('__main__', answer, [], #{}, 100) end),
    {ok, 2} = py:eval("1 + 1", #{}, ?START_MS).

never_runs_a_queued_call_that_timed_out(Config) ->
    Mark = py_test:marker(Config, "queued"),
    Ctx = py:context(1),
    First = py_fixture:hold(Ctx, Config),
    times_out(100, fun() -> py:call(Ctx, ep_probe, mark, [Mark], 100) end),
    times_out(50, fun() -> py:exec(Ctx, ["open('", Mark, "', 'w')"], #{timeout => 50}) end),
    %% The one that ran is not disturbed, and those behind are served.
    ok = py_fixture:let_go(First),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    [] = py_test:marks(Mark).

%% The interrupt belongs to one call: the next must not get it, however they cross.
never_interrupts_the_call_after_the_one_that_timed_out(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx, "def count():\n    n = 0\n    for i in range(3000): n += 1\n    return n"),
    [
        begin
            _ = py:call(Ctx, time, sleep, [0.001 * (I rem 3)], 1 + I rem 2),
            {ok, 3000} = py:call(Ctx, '__main__', count, [], 20000)
        end
     || I <- lists:seq(1, 150)
    ].

leaves_nothing_in_the_mailbox_when_reply_and_timeout_cross(_Config) ->
    Ctx = py:context(1),
    self() ! before,
    Results = [py:call(Ctx, time, sleep, [0.001], 1 + I rem 3) || I <- lists:seq(1, 300)],
    ?assertEqual([], [R || R <- Results, R =/= {ok, none}, R =/= {error, timeout}]),
    self() ! later,
    %% What the calls have left is done when this one is, on both contexts.
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    {messages, [before, later]} = process_info(self(), messages),
    [receive M -> ok end || M <- [before, later]].

cancels_the_call_of_a_caller_that_dies(Config) ->
    Mark = py_test:marker(Config, "dying"),
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    {Caller, Ref} = spawn_monitor(fun() ->
        py:call(Ctx, ep_probe, spin_until_interrupted, [Mark], infinity)
    end),
    ok = py_test:wait_for_file(Mark),
    true = exit(Caller, kill),
    receive
        {'DOWN', Ref, process, Caller, killed} -> ok
    end,
    {ok, OsPid} = py:call(Ctx, os, getpid, [], ?START_MS),
    [<<".">>] = py_test:marks(<<Mark/binary, ".interrupted">>).

cancels_the_queued_call_of_a_caller_that_dies(Config) ->
    Mark = py_test:marker(Config, "queued"),
    Ctx = py:context(1),
    First = py_fixture:hold(Ctx, Config),
    {Caller, Ref} = spawn_monitor(fun() -> py:call(Ctx, ep_probe, mark, [Mark], infinity) end),
    %% Parked: it waits for the reply.
    ok = py_test:wait_until(fun() ->
        process_info(Caller, current_function) =:= {current_function, {py_request, receive_done, 4}}
    end),
    true = exit(Caller, kill),
    receive
        {'DOWN', Ref, process, Caller, killed} -> ok
    end,
    ok = py_fixture:let_go(First),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    [] = py_test:marks(Mark).

cancels_the_parallel_calls_of_a_caller_that_dies(Config) ->
    Marks = [py_test:marker(Config, Name) || Name <- ["one", "two"]],
    Caller = start_parallel(Marks, [{ep_probe, spin_until_interrupted, [Mark]} || Mark <- Marks]),
    killed = kill(Caller),
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], ?START_MS) || Ctx <- py_context_router:contexts()],
    [[<<".">>] = py_test:marks(<<Mark/binary, ".interrupted">>) || Mark <- Marks].

%% Each context runs another caller's call until all of them have been cancelled.
never_runs_queued_parallel_calls_of_a_caller_that_dies(Config) ->
    [Queued, Go | Marks] = [py_test:marker(Config, Name) || Name <- ["queued", "go", "one", "two"]],
    Others = [
        py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, stubborn, [Mark, Go]) end)
     || {Ctx, Mark} <- lists:zip(py_context_router:contexts(), Marks)
    ],
    [ok = py_test:wait_for_file(Mark) || Mark <- Marks],
    Caller = {Pid, _} = start_parallel([], [{ep_probe, mark, [Queued]} || _ <- lists:seq(1, 6)]),
    ok = py_test:wait_until(fun() -> length(element(2, process_info(Pid, monitors))) =:= 6 end),
    {monitors, Monitors} = process_info(Pid, monitors),
    Helpers = [{Helper, monitor(process, Helper)} || {process, Helper} <- Monitors],
    killed = kill(Caller),
    _ = [py_fixture:dead(Helper) || Helper <- Helpers],
    ok = file:write_file(Go, <<>>),
    [{ok, _} = py_test:result_of(Other) || Other <- Others],
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], ?START_MS) || Ctx <- py_context_router:contexts()],
    [] = py_test:marks(Queued).

%% A caller whose first calls run.
start_parallel(Marks, Calls) ->
    Caller = spawn_monitor(fun() -> py:parallel(Calls) end),
    [ok = py_test:wait_for_file(Mark) || Mark <- Marks],
    Caller.

kill(Caller = {Pid, _}) ->
    true = exit(Pid, kill),
    py_fixture:dead(Caller).

%% --- one context ----------------------------------------------------------------------

runs_queued_calls_in_order_after_a_kill(Config) ->
    [Busy, Order] = [py_test:marker(Config, Name) || Name <- ["busy", "order"]],
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    First = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, stubborn, [Busy], 400) end),
    ok = py_test:wait_for_file(Busy),
    Callers = [queue(Ctx, [Order, N]) || N <- lists:seq(1, 100)],
    ?assertEqual([{ok, N} || N <- lists:seq(1, 100)], [py_test:result_of(C) || C <- Callers]),
    ?assertEqual([integer_to_binary(N) || N <- lists:seq(1, 100)], py_test:marks(Order)),
    {error, timeout} = py_test:result_of(First),
    ?assertNotEqual(OsPid, py_test:os_pid(Ctx)).

%% A caller whose request is in the queue when this returns.
queue(Ctx, Args) ->
    Caller = {Pid, _} = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, mark, Args) end),
    ok = py_test:wait_until(fun() ->
        process_info(Pid, current_function) =:= {current_function, {py_request, receive_done, 4}}
    end),
    Caller.

stays_busy_when_nothing_may_be_killed(Config) ->
    Mark = py_test:marker(Config, "busy"),
    {ok, Ctx} = py_context:start_link(patient, worker, #{kill_after => infinity}),
    OsPid = py_test:os_pid(Ctx),
    Go = <<Mark/binary, ".go">>,
    Stubborn = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, stubborn, [Mark, Go], 1000) end),
    ok = py_test:wait_for_file(Mark),
    {error, timeout} = py_test:result_of(Stubborn),
    times_out(100, fun() -> py:call(Ctx, math, sqrt, [16], 100) end),
    %% As long as it likes.
    times_out(500, fun() -> py:call(Ctx, math, sqrt, [16], 500) end),
    ok = file:write_file(Go, <<>>),
    {ok, OsPid} = py:call(Ctx, os, getpid, []),
    ok = py_context:stop(Ctx).

kills_at_once_when_told_to(Config) ->
    Mark = py_test:marker(Config, "busy"),
    {ok, Ctx} = py_context:start_link(hasty, worker, #{kill_after => 0}),
    OsPid = py_test:os_pid(Ctx),
    %% The budget is for the function, not for reading the module.
    {ok, true} = py:eval(Ctx, "bool(__import__('ep_probe'))"),
    times_out(100, fun() -> py:call(Ctx, ep_probe, stubborn, [Mark], 100) end),
    {ok, NewPid} = py:call(Ctx, os, getpid, [], ?START_MS),
    ?assertNotEqual(OsPid, NewPid),
    ok = py_context:stop(Ctx).

%% The name of an exception becomes an atom only as long as the bound allows it.
makes_no_more_atoms_than_allowed(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {max_atoms, 0}]),
    Name = fun(I) -> io_lib:format("New~b_~b", [erlang:unique_integer([positive]), I]) end,
    Raise = fun(N) -> py:exec(["raise type('", N, "', (Exception,), {})('x')"]) end,
    [
        begin
            Binary = iolist_to_binary(N),
            ?assertEqual({error, {Binary, "x"}}, Raise(N))
        end
     || N <- [Name(I) || I <- lists:seq(1, 20)]
    ],
    {error, {'ValueError', "x"}} = py:exec("raise ValueError('x')"),
    Known = list_to_atom(lists:flatten(Name(0))),
    {error, {Known, "x"}} = Raise(atom_to_list(Known)),
    ok = py_test:start([{num_contexts, 1}, {kill_after, ?KILL_AFTER_MS}]).
