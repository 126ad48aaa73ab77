%% SPDX-License-Identifier: Apache-2.0

%% @doc Tasks: what the event loop of an interpreter runs for Erlang, beside the requests of its
%% contexts; and what becomes of them when something ends.
-module(py_asyncio_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(MANY, 10000).
-define(TASKS_MAX, 32768).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()] ++ [bounds_the_tasks_of_a_worker_process].

%% Contexts that share an interpreter share its loop.
groups() ->
    py_fixture:groups(cases(), #{
        shared => [
            awaits_a_coroutine,
            cancels_the_tasks_of_a_creator_that_dies,
            serves_requests_beside_tasks,
            serves_tasks_beside_a_request,
            keeps_namespaces_apart,
            starts_the_tasks_of_a_process_in_order,
            runs_many_at_a_time,
            serves_after_its_worker_process_was_replaced,
            tells_each_caller_that_its_worker_died,
            tells_each_caller_that_its_context_ended,
            ends_the_tasks_of_a_context_only,
            ends_with_the_application,
            leaves_nothing_behind
        ],
        single_worker => [
            serves_requests_beside_tasks,
            serves_tasks_beside_a_request,
            takes_no_slot
        ]
    }).

cases() ->
    [
        awaits_a_coroutine,
        calls_a_plain_function,
        takes_keyword_arguments,
        runs_code_on_the_thread_of_the_loop,
        sends_the_result_as_a_message,
        says_what_is_not_there,
        says_what_a_task_has_raised,
        says_what_does_not_convert,
        says_that_a_task_was_cancelled,
        refuses_misuse,
        gathers_values,
        gathers_all_failures,
        stops_waiting_at_the_timeout_of_an_await,
        cancels_at_the_timeout_of_a_run,
        cancels_the_tasks_of_a_creator_that_dies,
        lets_spawned_tasks_outlive_their_creator,
        serves_requests_beside_tasks,
        serves_tasks_beside_a_request,
        takes_no_slot,
        keeps_namespaces_apart,
        gives_each_task_its_own_contextvars,
        starts_the_tasks_of_a_process_in_order,
        runs_many_at_a_time,
        sends_messages_before_the_result,
        returns_large_results,
        goes_on_when_a_task_stops_the_loop,
        lets_no_timeout_of_a_request_hit_a_task,
        logs_what_holds_the_loop_up,
        serves_after_its_worker_process_was_replaced,
        tells_each_caller_that_its_worker_died,
        tells_each_caller_that_its_context_ended,
        ends_the_tasks_of_a_context_only,
        ends_with_the_application,
        survives_the_launcher,
        leaves_nothing_behind
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(bounds_the_tasks_of_a_worker_process, Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Config;
init_per_testcase(_Case, Config) ->
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

define() ->
    py:exec("import asyncio, erlang, os, sys, threading, time\n"
            "async def add(a, b=1):\n"
            "    await asyncio.sleep(0)\n"
            "    return a + b\n"
            "async def at_once(x): return x\n"
            "async def pause(s, x=None):\n"
            "    await asyncio.sleep(s)\n"
            "    return x\n"
            "async def fail(e): raise e\n"
            "def plain(x): return (x, threading.get_ident())\n"
            %% Tells when it begins, and how it ends.
            "async def told(pid, s=1000):\n"
            "    erlang.send(pid, (erlang.atom('begun'), os.getpid()))\n"
            "    try:\n"
            "        await asyncio.sleep(s)\n"
            "        erlang.send(pid, erlang.atom('ended'))\n"
            "    except asyncio.CancelledError:\n"
            "        erlang.send(pid, erlang.atom('cancelled'))\n"
            "        raise\n"
            "async def tasks(): return len(asyncio.all_tasks())\n").

%% --- results --------------------------------------------------------------------------

awaits_a_coroutine(_Config) ->
    {ok, 3} = py_event_loop:run('__main__', add, [2]),
    {ok, 3} = py:async_await(py:async_call('__main__', add, [2])),
    {ok, <<"x">>} = py_event_loop:run("__main__", <<"at_once">>, [<<"x">>]),
    {ok, none} = py_event_loop:run(asyncio, sleep, [0]).

calls_a_plain_function(_Config) ->
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16]),
    {ok, {1, Thread}} = py_event_loop:run('__main__', plain, [1]),
    {ok, {1, Thread}} = py_event_loop:run('__main__', plain, [1]),
    {ok, {1, Other}} = py:call('__main__', plain, [1]),
    ?assertNotEqual(Thread, Other).

takes_keyword_arguments(_Config) ->
    {ok, 5} = py_event_loop:run('__main__', add, [2], #{kwargs => #{b => 3}}),
    {ok, 5} = py_event_loop:await(py_event_loop:create_task('__main__', add, [2], #{b => 3})),
    {ok, 5} = py:async_await(py:async_call('__main__', add, [2], #{b => 3}), 5000).

runs_code_on_the_thread_of_the_loop(_Config) ->
    ok = py_event_loop:exec("here = threading.get_ident()"),
    {ok, true} = py_event_loop:eval("here == threading.get_ident()"),
    {ok, false} = py:eval("here == threading.get_ident()"),
    {ok, 7} = py_event_loop:eval("add(3, 4)"),
    {error, {'SyntaxError', _}} = py_event_loop:exec("1 +"),
    {error, {'NameError', _}} = py_event_loop:eval("nonesuch").

sends_the_result_as_a_message(_Config) ->
    Ref = py_event_loop:create_task('__main__', add, [1]),
    receive {async_result, Ref, Result} -> {ok, 2} = Result end,
    Failed = py_event_loop:create_task('__main__', fail, [1]),
    receive {async_result, Failed, {error, {'TypeError', _}}} -> ok end.

says_what_is_not_there(_Config) ->
    {error, function_not_found} = py_event_loop:run('__main__', nonesuch, []),
    {error, function_not_found} = py_event_loop:run(math, nonesuch, []),
    {error, function_not_found} = py_event_loop:run(nonesuch, f, []),
    {error, function_not_found} = py_event_loop:run('os.nonesuch', f, []),
    %% What is missing within is an error like any other.
    ok = py:exec("def missing(): import nonesuch\nasync def absent(): return sys.nonesuch"),
    {error, {'ModuleNotFoundError', _}} = py_event_loop:run('__main__', missing, []),
    {error, {'AttributeError', _}} = py_event_loop:run('__main__', absent, []).

says_what_a_task_has_raised(_Config) ->
    ok = py:exec("class Odd(Exception): pass\n"
                 "async def odd(): raise Odd('why')\n"
                 "async def leave(code): sys.exit(code)\n"
                 "async def interrupted(): raise KeyboardInterrupt\n"),
    {error, {_, "why"}} = py_event_loop:run('__main__', odd, []),
    {error, {'SystemExit', "3"}} = py_event_loop:run('__main__', leave, [3]),
    {error, interrupted} = py_event_loop:run('__main__', interrupted, []),
    {error, {'TypeError', "'float' object is not callable"}} = py_event_loop:run(math, pi, []),
    %% The loop goes on.
    {ok, 2} = py_event_loop:run('__main__', add, [1]).

says_what_does_not_convert(_Config) ->
    {error, {'TypeError', "args[0]: " ++ _}} = py_event_loop:run('__main__', at_once, [fun() -> ok end]),
    ok = py:exec("async def deep():\n    x = []\n    x.append(x)\n    return [x]\n"
                 "async def unawaited(): return (i for i in [])\n"),
    {error, {'RecursionError', "result" ++ _}} = py_event_loop:run('__main__', deep, []),
    {error, {'TypeError', "result: " ++ _}} = py_event_loop:run('__main__', unawaited, []).

says_that_a_task_was_cancelled(_Config) ->
    ok = py:exec("async def give_up(): asyncio.current_task().cancel(); await asyncio.sleep(1)\n"
                 "async def raises(): raise asyncio.CancelledError\n"),
    {error, <<"cancelled">>} = py_event_loop:run('__main__', give_up, []),
    {error, <<"cancelled">>} = py_event_loop:run('__main__', raises, []).

refuses_misuse(_Config) ->
    py_test:badarg(fun() -> py_event_loop:run(1, f, []) end),
    py_test:badarg(fun() -> py_event_loop:run(m, f, x) end),
    py_test:badarg(fun() -> py_event_loop:run(m, f, [], #{nonesuch => 1}) end),
    py_test:badarg(fun() -> py_event_loop:run(m, f, [], #{timeout => -1}) end),
    py_test:badarg(fun() -> py_event_loop:run(m, f, [], 5000) end),
    py_test:badarg(fun() -> py_event_loop:create_task(m, f, [], []) end),
    py_test:badarg(fun() -> py_event_loop:spawn_task(m, f, [] ++ x) end),
    py_test:badarg(fun() -> py_event_loop:await(x) end),
    py_test:badarg(fun() -> py_event_loop:await(make_ref(), x) end),
    py_test:badarg(fun() -> py_event_loop:exec(1) end),
    py_test:badarg(fun() -> py_event_loop:eval(1.0) end),
    py_test:badarg(fun() -> py:async_call(m, f, x) end),
    py_test:badarg(fun() -> py:async_await(x) end),
    py_test:badarg(fun() -> py:async_gather([{m, f}]) end),
    py_test:badarg(fun() -> py:async_gather([{m, f, []} | x]) end),
    py_test:badarg(fun() -> py:async_gather([], x) end).

gathers_values(_Config) ->
    {ok, []} = py:async_gather([]),
    {ok, [2, 3, 4.0]} = py:async_gather([{'__main__', add, [1]}, {'__main__', add, [2]}, {math, sqrt, [16]}]),
    Expected = lists:seq(1, 300),
    {ok, Expected} = py:async_gather([{'__main__', pause, [0.01, I]} || I <- Expected], 20000).

gathers_all_failures(_Config) ->
    {error, {gather_failed, [{2, function_not_found}, {3, {'TypeError', _}}, {4, timeout}]}} =
        py:async_gather(
            [{'__main__', add, [1]}, {'__main__', nonesuch, []}, {'__main__', fail, [1]}, {'__main__', pause, [1000]}],
            300
        ).

%% --- waiting --------------------------------------------------------------------------

stops_waiting_at_the_timeout_of_an_await(_Config) ->
    Ref = py_event_loop:create_task('__main__', pause, [0.3, <<"late">>]),
    {error, timeout} = py_event_loop:await(Ref, 0),
    {error, timeout} = py:async_await(Ref, 1),
    {ok, <<"late">>} = py_event_loop:await(Ref).

cancels_at_the_timeout_of_a_run(_Config) ->
    {error, timeout} = py_event_loop:run('__main__', told, [self()], #{timeout => 100}),
    begun(),
    receive cancelled -> ok end,
    {error, timeout} = py_event_loop:run('__main__', told, [self()], #{timeout => 0}),
    %% One that ends by itself says so.
    {ok, none} = py_event_loop:run('__main__', told, [self(), 0]),
    flush().

cancels_the_tasks_of_a_creator_that_dies(_Config) ->
    Self = self(),
    Kinds = [
        fun() -> py_event_loop:create_task('__main__', told, [Self]) end,
        fun() -> py_event_loop:run('__main__', told, [Self], #{timeout => infinity}) end,
        fun() -> py:async_gather([{'__main__', told, [Self]}], infinity) end
    ],
    [
        begin
            {Pid, Ref} = spawn_monitor(fun() ->
                ok = define(),
                _ = Kind(),
                receive never -> ok end
            end),
            begun(),
            exit(Pid, kill),
            receive {'DOWN', Ref, process, Pid, killed} -> ok end,
            receive cancelled -> ok end
        end
     || Kind <- Kinds
    ],
    ok.

lets_spawned_tasks_outlive_their_creator(_Config) ->
    Self = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        ok = define(),
        ok = py_event_loop:spawn_task('__main__', told, [Self, 0.2]),
        ok = py_event_loop:spawn_task('__main__', told, [Self], #{s => 0.1})
    end),
    receive {'DOWN', Ref, process, Pid, normal} -> ok end,
    begun(),
    begun(),
    receive ended -> ok end,
    receive ended -> ok end,
    ok = py_event_loop:spawn_task('__main__', nonesuch, []).

%% --- beside requests ------------------------------------------------------------------

serves_requests_beside_tasks(_Config) ->
    Ref = py_event_loop:create_task('__main__', told, [self()]),
    begun(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, true} = py:eval("threading.get_ident() != 0"),
    {error, timeout} = py_event_loop:await(Ref, 0),
    ok = forget_task().

serves_tasks_beside_a_request(Config) ->
    Held = py_fixture:hold(py:context(), Config),
    {ok, 2} = py_event_loop:run('__main__', add, [1]),
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16]),
    ok = py_fixture:let_go(Held).

takes_no_slot(_Config) ->
    Refs = [py_event_loop:create_task('__main__', told, [self()]) || _ <- lists:seq(1, 3)],
    [begun() || _ <- Refs],
    0 = py_semaphore:current(),
    ok = forget_task().

keeps_namespaces_apart(_Config) ->
    Ctx = py:context(),
    Values = [
        py_test:spawn_caller(fun() ->
            ok = py_context_router:bind_context(Ctx),
            ok = py:exec("async def mine(): return mark"),
            ok = py:exec(io_lib:format("mark = ~b", [I])),
            {ok, Value} = py_event_loop:run('__main__', mine, []),
            Value
        end)
     || I <- lists:seq(1, 5)
    ],
    [1, 2, 3, 4, 5] = [py_test:result_of(V) || V <- Values].

gives_each_task_its_own_contextvars(_Config) ->
    ok = py:exec("import contextvars\n"
                 "var = contextvars.ContextVar('var', default=0)\n"
                 "async def count(x):\n"
                 "    before = var.get()\n"
                 "    var.set(x)\n"
                 "    await asyncio.sleep(0.01)\n"
                 "    return (before, var.get())\n"
                 "def set_plainly(x):\n"
                 "    before = var.get()\n"
                 "    var.set(x)\n"
                 "    return before\n"),
    Expected = [{0, I} || I <- lists:seq(1, 20)],
    {ok, Expected} = py:async_gather([{'__main__', count, [I]} || I <- lists:seq(1, 20)]),
    {ok, [0, 0]} = py:async_gather([{'__main__', set_plainly, [I]} || I <- [1, 2]]).

starts_the_tasks_of_a_process_in_order(_Config) ->
    ok = py:exec("seen = []\n"
                 "async def note(i):\n"
                 "    seen.append(i)\n"),
    Numbers = lists:seq(1, 500),
    Refs = [py_event_loop:create_task('__main__', note, [I]) || I <- Numbers],
    [{ok, none} = py_event_loop:await(Ref, 20000) || Ref <- Refs],
    {ok, Numbers} = py:eval("seen").

runs_many_at_a_time(_Config) ->
    ok = py:exec("gate, arrived = [], []\n"
                 "async def wait_at_gate(i):\n"
                 "    arrived.append(i)\n"
                 "    if len(arrived) == 10000:\n"
                 "        for f in gate: f.set_result(None)\n"
                 "        return i\n"
                 "    gate.append(asyncio.get_running_loop().create_future())\n"
                 "    await gate[-1]\n"
                 "    return i\n"),
    %% None ends before the last one has begun.
    Refs = [py_event_loop:create_task('__main__', wait_at_gate, [I]) || I <- lists:seq(1, ?MANY)],
    Expected = lists:seq(1, ?MANY),
    Expected = [begin {ok, I} = py_event_loop:await(Ref, 60000), I end || Ref <- Refs],
    {ok, ?MANY} = py:eval("len(arrived)").

sends_messages_before_the_result(_Config) ->
    ok = py:exec("async def chatter(pid, n):\n"
                 "    for i in range(n): erlang.send(pid, i)\n"
                 "    return n\n"),
    [
        begin
            {ok, 50} = py_event_loop:run('__main__', chatter, [self(), 50]),
            Numbers = lists:seq(0, 49),
            Numbers = [receive N when is_integer(N) -> N after 0 -> missing end || _ <- Numbers]
        end
     || _ <- lists:seq(1, 20)
    ],
    ok.

returns_large_results(_Config) ->
    [
        begin
            {ok, Bin} = py_event_loop:run('__main__', at_once, [binary:copy(<<"x">>, Size)]),
            Size = byte_size(Bin)
        end
     || Size <- [150, 200, 1000, 70000, 3000000]
    ],
    Long = lists:seq(1, 100000),
    {ok, Long} = py_event_loop:run('__main__', at_once, [Long]).

goes_on_when_a_task_stops_the_loop(_Config) ->
    ok = py:exec("async def stop(): asyncio.get_running_loop().stop()\n"
                 "async def raise_later(e): asyncio.get_running_loop().call_soon(throw, e)\n"
                 "def throw(e): raise {'exit': SystemExit, 'interrupt': KeyboardInterrupt, 'error': ValueError}[e]\n"),
    {ok, none} = py_event_loop:run('__main__', stop, []),
    {ok, 2} = py_event_loop:run('__main__', add, [1]),
    [{ok, none} = py_event_loop:run('__main__', raise_later, [E]) || E <- [<<"exit">>, <<"interrupt">>, <<"error">>]],
    {ok, 2} = py_event_loop:run('__main__', add, [1]).

lets_no_timeout_of_a_request_hit_a_task(_Config) ->
    Ref = py_event_loop:create_task('__main__', told, [self(), 1]),
    begun(),
    ok = py:exec("def spin():\n    while True: pass\n"),
    {error, timeout} = py:call('__main__', spin, [], #{}, 50),
    {error, timeout} = py:call(erlang, sleep, [100], #{}, 50),
    {ok, none} = py_event_loop:await(Ref, 20000),
    receive ended -> ok end.

logs_what_holds_the_loop_up(_Config) ->
    %% A context of its own: it logs once a minute for each.
    {ok, Ctx} = py_context:new(#{}),
    ok = py_context_router:bind_context(Ctx),
    ok = py:exec("import time\nasync def hold_up(s): time.sleep(s)\nasync def rest(s): await __import__('asyncio').sleep(s)"),
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => warning}),
    try
        %% Many that wait hold nothing up.
        {ok, _} = py:async_gather([{'__main__', rest, [1.3]} || _ <- lists:seq(1, 10)]),
        receive {logged, Early} -> error({logged, Early}) after 0 -> ok end,
        {ok, none} = py_event_loop:run('__main__', hold_up, [2], #{timeout => 30000}),
        receive
            {logged, Text} ->
                {match, _} = re:run(Text, "the event loop of context .* has been held up for 1... ms"),
                {match, _} = re:run(Text, "File \"<exec>\", line 2, in hold_up")
        end,
        receive {logged, More} -> error({logged, More}) after 0 -> ok end
    after
        ok = logger:remove_handler(?MODULE),
        ok = py_context_router:unbind_context(),
        ok = py_context:stop(Ctx)
    end.

%% --- ends -----------------------------------------------------------------------------

serves_after_its_worker_process_was_replaced(_Config) ->
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16]),
    [
        begin
            ok = py_test:kill(py_test:os_pid(py:context())),
            %% A task waits for the next process as a request does, or was there too early.
            ok = py_test:wait_until(fun() ->
                case py_event_loop:run(math, sqrt, [16], #{timeout => 20000}) of
                    {ok, 4.0} -> true;
                    {error, {worker_died, _}} -> again;
                    {error, {worker_unavailable, _}} -> again
                end
            end)
        end
     || _ <- lists:seq(1, 3)
    ].

tells_each_caller_that_its_worker_died(_Config) ->
    Self = self(),
    Refs = [py_event_loop:create_task('__main__', told, [Self]) || _ <- lists:seq(1, 20)],
    Ctx = py:context(),
    Waiting = py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(Ctx),
        py_event_loop:run(asyncio, sleep, [1000], #{timeout => infinity})
    end),
    OsPid = lists:last([begun() || _ <- Refs]),
    ok = py_test:kill(OsPid),
    [
        begin
            {error, {worker_died, Info}} = py_event_loop:await(Ref, 20000),
            #{os_pid := OsPid, reason := 'SIGKILL', context := _, started := _} = Info
        end
     || Ref <- Refs
    ],
    {error, {worker_died, #{os_pid := OsPid}}} = py_test:result_of(Waiting),
    ok = serves(),
    flush().

tells_each_caller_that_its_context_ended(Config) ->
    {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config)}),
    ok = py_context_router:bind_context(Ctx),
    ok = define(),
    Refs = [py_event_loop:create_task('__main__', told, [self()]) || _ <- lists:seq(1, 20)],
    [begun() || _ <- Refs],
    ok = py_context:stop(Ctx),
    [{error, {context_died, shutdown}} = py_event_loop:await(Ref, 20000) || Ref <- Refs],
    ok = py_context_router:unbind_context(),
    flush().

ends_the_tasks_of_a_context_only(Config) ->
    Mode = proplists:get_value(mode, Config),
    Options = #{mode => Mode, own_process => false},
    {ok, Ctx1} = py_context:new(Options),
    {ok, Ctx2} = py_context:new(Options),
    ok = py_context_router:bind_context(Ctx1),
    ok = define(),
    Ref1 = py_event_loop:create_task('__main__', told, [self()]),
    Pid1 = begun(),
    ok = py_context_router:bind_context(Ctx2),
    ok = define(),
    Ref2 = py_event_loop:create_task('__main__', told, [self(), 2]),
    Pid1 = begun(),
    ok = py_context:stop(Ctx1),
    {error, {context_died, shutdown}} = py_event_loop:await(Ref1),
    %% Erlang answers nothing to an interpreter whose last context has ended.
    Mode =:= owngil orelse receive cancelled -> ok end,
    {ok, none} = py_event_loop:await(Ref2, 20000),
    receive ended -> ok end,
    ok = py_context:stop(Ctx2),
    ok = py_context_router:unbind_context(),
    flush().

ends_with_the_application(Config) ->
    Refs = [py_event_loop:create_task('__main__', told, [self()]) || _ <- lists:seq(1, 10)],
    OsPids = lists:usort([begun() || _ <- Refs]),
    ok = py_test:stop(),
    [{error, {context_died, _}} = py_event_loop:await(Ref, 20000) || Ref <- Refs],
    ok = py_test:wait_for_exit(OsPids, 20000),
    flush(),
    restart(Config).

survives_the_launcher(_Config) ->
    Refs = [py_event_loop:create_task('__main__', told, [self()]) || _ <- lists:seq(1, 10)],
    [begun() || _ <- Refs],
    ok = py_test:kill(py_test:launcher_pid()),
    [{error, {worker_died, _}} = py_event_loop:await(Ref, 20000) || Ref <- Refs],
    flush(),
    ok = serves().

leaves_nothing_behind(_Config) ->
    {ok, 1} = py_event_loop:run('__main__', tasks, []),
    Before = erlang:system_info(process_count),
    [
        begin
            {error, timeout} = py_event_loop:run('__main__', pause, [1000], #{timeout => 0}),
            Ref = py_event_loop:create_task('__main__', at_once, [1]),
            {ok, 1} = py_event_loop:await(Ref)
        end
     || _ <- lists:seq(1, 100)
    ],
    ok = py_test:wait_until(fun() -> py_event_loop:run('__main__', tasks, []) =:= {ok, 1} end),
    {ok, 0} = py:eval("sum(len(t) for t in sys.modules['erlang._tasks']._tasks.values())"),
    ok = py_test:wait_until(fun() -> erlang:system_info(process_count) =< Before + 5 end).

bounds_the_tasks_of_a_worker_process(_Config) ->
    ok = define(),
    Self = self(),
    {Creator, Monitor} = spawn_monitor(fun() ->
        ok = py_context_router:bind_context(py:context(1)),
        [_ = py_event_loop:create_task(asyncio, sleep, [1000]) || _ <- lists:seq(1, ?TASKS_MAX)],
        Self ! made,
        receive never -> ok end
    end),
    receive made -> ok end,
    {error, {overloaded, ?TASKS_MAX, ?TASKS_MAX}} = py_event_loop:run(math, sqrt, [16]),
    Ref = py_event_loop:create_task(math, sqrt, [16]),
    {error, {overloaded, _, _}} = py_event_loop:await(Ref),
    %% Requests are none of it.
    {ok, 4.0} = py:call(math, sqrt, [16]),
    exit(Creator, kill),
    receive {'DOWN', Monitor, process, Creator, killed} -> ok end,
    ok = py_test:wait_until(
        fun() ->
            case py_event_loop:run('__main__', tasks, []) of
                {ok, 1} -> true;
                Other -> Other
            end
        end,
        60000
    ).

%% --- internal -------------------------------------------------------------------------

%% The process in which a task of told() has begun.
begun() ->
    receive {begun, OsPid} -> OsPid end.

flush() ->
    receive
        cancelled -> flush();
        ended -> flush();
        {begun, _} -> flush()
    after 0 -> ok
    end.

%% A process that dies takes its tasks with it; this one does not.
forget_task() ->
    ok = py:exec("async def end_all():\n"
                 "    for t in asyncio.all_tasks() - {asyncio.current_task()}: t.cancel()\n"),
    {ok, none} = py_event_loop:run('__main__', end_all, []),
    receive_results(),
    flush().

receive_results() ->
    receive
        {async_result, _, {error, <<"cancelled">>}} -> receive_results()
    after 500 -> ok
    end.

serves() ->
    py_test:wait_until(fun() ->
        case py_event_loop:run(math, sqrt, [16], #{timeout => 20000}) of
            {ok, 4.0} -> true;
            {error, Reason} when element(1, Reason) =/= 'TypeError' -> Reason
        end
    end).

restart(Config) ->
    case py_fixture:init(proplists:get_value(group, Config), []) of
        Fresh when is_list(Fresh) -> ok
    end.
