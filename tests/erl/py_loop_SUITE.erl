%% SPDX-License-Identifier: Apache-2.0

%% @doc Interrupts of event loops that sleep: they land in every context of a process, and
%% cost its other contexts nothing.
-module(py_loop_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(KILL_AFTER_MS, 2000).
-define(BUDGET_MS, 300).
-define(ROUNDS, (py_test:times(50, 150))).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(cases(), #{
        shared => [
            interrupts_a_task_that_sleeps,
            interrupts_a_loop_in_a_nested_request,
            interrupts_a_nested_request_below_a_loop,
            leaves_no_loop_behind,
            leaves_other_loops_of_the_process_alone
        ],
        single_worker => [
            interrupts_a_loop_in_a_nested_request,
            interrupts_a_nested_request_below_a_loop
        ]
    }).

cases() ->
    [
        interrupts_a_task_that_sleeps,
        interrupts_a_loop_without_tasks,
        interrupts_a_loop_that_waits_for_a_thread,
        interrupts_a_loop_of_other_make,
        interrupts_a_loop_in_a_nested_request,
        interrupts_a_loop_that_is_busy,
        interrupts_a_task_that_computes,
        interrupts_a_nested_request_below_a_loop,
        lets_tasks_clean_up,
        raises_once_where_the_clean_up_runs_a_loop,
        leaves_a_loop_that_ends_alone,
        leaves_no_loop_behind,
        leaves_other_loops_of_the_process_alone
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, [{kill_after, ?KILL_AFTER_MS}], Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], 20000) || Ctx <- py_context_router:contexts()],
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- loops ----------------------------------------------------------------------------

interrupts_a_task_that_sleeps(Config) ->
    interrupts(Config, "asyncio.run(asyncio.sleep(600))").

interrupts_a_loop_without_tasks(Config) ->
    interrupts(Config, "asyncio.new_event_loop().run_forever()").

interrupts_a_loop_that_waits_for_a_thread(Config) ->
    interrupts(Config, [
        "async def main():\n",
        "    await asyncio.get_running_loop().create_future()\n",
        "asyncio.run(main())"
    ]).

%% As one that is written in C: no frame of asyncio stands on the stack.
interrupts_a_loop_of_other_make(Config) ->
    interrupts(Config, [
        "from types import FunctionType\n",
        "def foreign(f):\n",
        "    return FunctionType(f.__code__, {**f.__globals__, '__name__': 'foreign'}, None, f.__defaults__)\n",
        "class Loop(asyncio.SelectorEventLoop):\n",
        "    run_forever = foreign(asyncio.SelectorEventLoop.run_forever)\n",
        "    run_until_complete = foreign(asyncio.SelectorEventLoop.run_until_complete)\n",
        "    _run_once = foreign(asyncio.SelectorEventLoop._run_once)\n",
        "loop = Loop()\n",
        "loop.run_until_complete(loop.create_task(asyncio.sleep(600)))"
    ]).

%% Code runs in the last context while the first holds a request. Nothing is killed.
interrupts(Config, Code) ->
    Contexts = [First | _] = py_context_router:contexts(),
    Ctx = lists:last(Contexts),
    OsPids = [py_test:os_pid(C) || C <- Contexts],
    Held = [py_fixture:hold(First, Config) || First =/= Ctx],
    {Mark, Source} = source(Config, Code),
    Caller = py_test:spawn_caller(fun() -> py:exec(Ctx, Source) end),
    ok = py_test:wait_for_file(Mark),
    ok = py:interrupt(Ctx),
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
    %% By now it sleeps, if it ever does.
    ?assertEqual({error, timeout}, py:exec(Ctx, Source, #{timeout => ?BUDGET_MS})),
    ?assertEqual({ok, 4.0}, py:call(Ctx, math, sqrt, [16], 20000)),
    [ok = py_fixture:let_go(H) || H <- Held],
    ?assertEqual(OsPids, [py_test:os_pid(C) || C <- Contexts]).

source(Config, Code) ->
    Mark = py_test:marker(Config, "loop"),
    {Mark, ["import asyncio, ep_probe\nep_probe.mark('", Mark, "')\n", Code]}.

interrupts_a_loop_in_a_nested_request(Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    OsPid = py_test:os_pid(Ctx),
    Self = self(),
    {Mark, Source} = source(Config, "asyncio.run(asyncio.sleep(600))"),
    ok = py:register_function(ep_nest, fun([]) -> Self ! {nested, py:exec(Ctx, Source)}, ok end),
    Caller = py_test:spawn_caller(fun() -> py:eval(Ctx, "erlang.call('ep_nest')") end),
    ok = py_test:wait_for_file(Mark),
    ok = py:interrupt(Ctx),
    ?assertEqual({error, interrupted}, receive {nested, Result} -> Result end),
    {ok, _} = py_test:result_of(Caller),
    ?assertEqual(OsPid, py_test:os_pid(Ctx)),
    ok = py:unregister_function(ep_nest).

%% An exception that comes where the loop has taken a task out of its queue and not begun to
%% run it loses that task: asyncio.run waits for it forever.
interrupts_a_loop_that_is_busy(Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    OsPid = py_test:os_pid(Ctx),
    Code = [
        "async def main():\n",
        "    while True: await asyncio.sleep(0)\n",
        "asyncio.run(main())"
    ],
    [interrupt_one(Ctx, Config, Code) || _ <- lists:seq(1, ?ROUNDS)],
    ?assertEqual(OsPid, py_test:os_pid(Ctx)).

interrupts_a_task_that_computes(Config) ->
    interrupts(Config, [
        "async def main():\n",
        "    while True: pass\n",
        "asyncio.run(main())"
    ]).

%% What comes for the nested request is not delivered by the loop, which stands still until
%% that has ended, nor ever after.
interrupts_a_nested_request_below_a_loop(Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    Self = self(),
    {Mark, Nested} = source(Config, "while True: pass"),
    ok = py:register_function(ep_nest, fun([]) -> Self ! {nested, py:exec(Ctx, Nested)}, ok end),
    Outer = [
        "import asyncio, erlang\n",
        "async def main():\n",
        "    erlang.call('ep_nest')\n",
        "    for _ in range(100): await asyncio.sleep(0)\n",
        "asyncio.run(main())"
    ],
    Caller = py_test:spawn_caller(fun() -> py:exec(Ctx, Outer) end),
    ok = py_test:wait_for_file(Mark),
    ok = py:interrupt(Ctx),
    ?assertEqual({error, interrupted}, receive {nested, Result} -> Result end),
    ?assertEqual(ok, py_test:result_of(Caller)),
    ok = py:unregister_function(ep_nest).

%% The exception comes once: what a task does at its end, and awaits, is not cut.
lets_tasks_clean_up(Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    Done = py_test:marker(Config, "cleaned"),
    Code = [
        "async def clean():\n",
        "    for _ in range(20): await asyncio.sleep(0.01)\n",
        ["    ep_probe.mark('", Done, "')\n"],
        "async def main():\n",
        "    try: await asyncio.gather(asyncio.sleep(600), work())\n",
        "    finally: await clean()\n",
        "async def work():\n",
        "    while True: await asyncio.sleep(0)\n",
        "asyncio.run(main())"
    ],
    interrupt_one(Ctx, Config, Code),
    ok = py_test:wait_for_file(Done).

%% The clean-up of something else puts asyncio's handler of SIGINT in the place of Python's.
raises_once_where_the_clean_up_runs_a_loop(Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    Code = [
        "async def clean(): await asyncio.sleep(0.02)\n",
        "try:\n",
        "    while True: pass\n",
        "except KeyboardInterrupt:\n",
        "    asyncio.run(clean())\n",
        "    raise"
    ],
    [interrupt_one(Ctx, Config, Code) || _ <- lists:seq(1, 30)].

%% What stops the loop is in its queue still when the exception comes, and must not stay there:
%% it would stop the loop of a later request.
leaves_a_loop_that_ends_alone(Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    Last = py_test:marker(Config, "last"),
    {_, Source} = source(Config, [
        "import time\n",
        "loop = asyncio.new_event_loop()\n",
        "async def last():\n",
        "    await asyncio.sleep(0)\n",
        ["    ep_probe.mark('", Last, "')\n"],
        "    time.sleep(0.04)\n",
        "loop.run_until_complete(last())\n",
        "while True: pass"
    ]),
    Caller = py_test:spawn_caller(fun() ->
        {py:exec(Ctx, Source), py:exec(Ctx, "loop.run_until_complete(asyncio.sleep(0.01))")}
    end),
    ok = py_test:wait_for_file(Last),
    ok = py:interrupt(Ctx),
    ?assertEqual({{error, interrupted}, ok}, py_test:result_of(Caller)).

%% An exception may also land where a loop begins or ends, which then counts as running.
leaves_no_loop_behind(Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    Mark = py_test:marker(Config, "running"),
    Code = [
        "asyncio._set_running_loop(asyncio.new_event_loop())\n",
        ["ep_probe.mark('", Mark, "')\n"],
        "while True: pass"
    ],
    {_, Source} = source(Config, Code),
    Caller = py_test:spawn_caller(fun() -> py:exec(Ctx, Source) end),
    ok = py_test:wait_for_file(Mark),
    ok = py:interrupt(Ctx),
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
    ?assertEqual(ok, py:exec(Ctx, "import asyncio\nasyncio.run(asyncio.sleep(0))")).

leaves_other_loops_of_the_process_alone(Config) ->
    [First | Others] = py_context_router:contexts(),
    Go = py_test:marker(Config, "go"),
    {Mark, Source} = source(Config, [
        "import os\n",
        "async def wait():\n",
        ["    while not os.path.exists('", Go, "'): await asyncio.sleep(0.001)\n"],
        "asyncio.run(wait())"
    ]),
    Caller = py_test:spawn_caller(fun() -> py:exec(First, Source) end),
    ok = py_test:wait_for_file(Mark),
    [interrupt_one(Ctx, Config, "asyncio.run(asyncio.sleep(600))") || Ctx <- Others],
    ok = file:write_file(Go, <<>>),
    ?assertEqual(ok, py_test:result_of(Caller)).

interrupt_one(Ctx, Config, Code) ->
    {Mark, Source} = source(Config, Code),
    Caller = py_test:spawn_caller(fun() -> py:exec(Ctx, Source) end),
    ok = py_test:wait_for_file(Mark),
    ok = py:interrupt(Ctx),
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)).
