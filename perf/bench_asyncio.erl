%% SPDX-License-Identifier: Apache-2.0

%% @private What a task costs, next to asyncio's own in plain Python, in the same round and on the
%% same interpreter; and what a plain call costs beside an event loop.
-module(bench_asyncio).

-export([run/1]).

-define(TASKS, 3000).
-define(CALLERS, 64).
-define(TASKS_OF_EACH, 500).
-define(SLEEPERS, 10000).
-define(AWAITED, 10000).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    Before = plain_calls(N),
    ok = bench_app:start(worker, 1),
    {Pid, Ref} = spawn_monitor(fun() -> exit({results, measure(N, Before)}) end),
    Results =
        receive
            {'DOWN', Ref, process, Pid, {results, R}} -> R;
            {'DOWN', Ref, process, Pid, Why} -> error(Why)
        end,
    ok = bench_app:check(),
    Results.

%% In turns: an interpreter without a loop, and one with a loop, each a process of its own.
plain_calls(N) ->
    ok = bench_app:start(worker, 2),
    [Without, With] = py_context_router:contexts(),
    ok = py_context_router:bind_context(With),
    {ok, 4.0} = py_event_loop:run(math, sqrt, [16]),
    [begin warm(Ctx) end || Ctx <- [Without, With]],
    [{plain_call(Without), plain_call(With)} || _ <- lists:seq(1, 4 * N)].

warm(Ctx) ->
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || _ <- lists:seq(1, 2000)].

plain_call(Ctx) ->
    {Us, _} = timer:tc(fun() -> [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || _ <- lists:seq(1, 5000)] end),
    Us / 5000.

measure(N, Calls) ->
    ok = py:exec(code()),
    ok = py:register_function(bench_same, fun([X]) -> X end),
    {ok, 1} = py_event_loop:run('__main__', trivial, []),
    Rounds = [round_of() || _ <- lists:seq(1, N)],
    Column = fun(Key) -> [maps:get(Key, R) || R <- Rounds] end,
    New = fun(Name, Unit, Key, Floor) ->
        bench_result:new("asyncio", Name, Unit, Column(Key), #{floors => Column(Floor)})
    end,
    [
        bench_result:new("asyncio", "run_coroutine_threadsafe, Python alone", us, Column(threadsafe)),
        New("py:async_call, one caller, median", us, async_call, threadsafe),
        New("py_event_loop:run, one caller, median", us, run, threadsafe),
        bench_result:new("asyncio", "create_task, Python alone", 'tasks/s', Column(alone)),
        New("py:async_call, 64 callers", 'tasks/s', callers, alone),
        New("py_event_loop:run, 64 callers", 'tasks/s', runners, alone),
        bench_result:new("asyncio", "10000 tasks that sleep for 1 s", ms, Column(sleepers)),
        bench_result:new("asyncio", "erlang.call, one after the other", 'calls/s', Column(sync)),
        New("erlang.async_call, 10000 outstanding", 'calls/s', awaited, sync),
        bench_result:new("asyncio", "a plain call, no loop", us, [B || {B, _} <- Calls]),
        bench_result:new("asyncio", "a plain call beside a loop", us, [A || {_, A} <- Calls], #{
            floors => [B || {B, _} <- Calls]
        })
    ].

round_of() ->
    {ok, Threadsafe} = py:call('__main__', threadsafe, [?TASKS], #{}, infinity),
    AsyncCall = median(fun() -> {ok, 1} = py:async_await(py:async_call('__main__', trivial, [])) end),
    Run = median(fun() -> {ok, 1} = py_event_loop:run('__main__', trivial, []) end),
    {ok, Alone} = py:call('__main__', alone, [20000], #{}, infinity),
    {ok, Sync} = py:call('__main__', sync, [5000], #{}, infinity),
    {ok, Awaited} = py_event_loop:run('__main__', awaited, [?AWAITED], #{timeout => infinity}),
    #{
        threadsafe => Threadsafe,
        async_call => AsyncCall,
        run => Run,
        alone => Alone,
        callers => rate(fun() -> {ok, 1} = py:async_await(py:async_call(bench_tasks, trivial, [])) end),
        runners => rate(fun() -> {ok, 1} = py_event_loop:run(bench_tasks, trivial, []) end),
        sleepers => sleepers(),
        sync => Sync,
        awaited => Awaited
    }.

median(Fun) ->
    bench_result:median([element(1, timer:tc(Fun)) || _ <- lists:seq(1, ?TASKS)]).

%% Tasks per second of 64 callers.
rate(Fun) ->
    {Us, _} = timer:tc(fun() ->
        Callers = [
            spawn_monitor(fun() -> [Fun() || _ <- lists:seq(1, ?TASKS_OF_EACH)] end)
         || _ <- lists:seq(1, ?CALLERS)
        ],
        [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Callers]
    end),
    ?CALLERS * ?TASKS_OF_EACH * 1000000 / Us.

sleepers() ->
    {Us, _} = timer:tc(fun() ->
        Refs = [py:async_call(asyncio, sleep, [1]) || _ <- lists:seq(1, ?SLEEPERS)],
        [{ok, none} = py:async_await(Ref) || Ref <- Refs]
    end),
    Us / 1000.

code() ->
    "import asyncio, erlang, sys, threading, time, types\n"
    "async def trivial(): return 1\n"
    "module = types.ModuleType('bench_tasks')\n"
    "module.trivial = trivial\n"
    "sys.modules['bench_tasks'] = module\n"
    "def threadsafe(n):\n"
    "    loop = asyncio.new_event_loop()\n"
    "    thread = threading.Thread(target=loop.run_forever)\n"
    "    thread.start()\n"
    "    took = []\n"
    "    for _ in range(n):\n"
    "        t = time.perf_counter()\n"
    "        asyncio.run_coroutine_threadsafe(trivial(), loop).result()\n"
    "        took.append(time.perf_counter() - t)\n"
    "    loop.call_soon_threadsafe(loop.stop)\n"
    "    thread.join()\n"
    "    loop.close()\n"
    "    return sorted(took)[n // 2] * 1e6\n"
    "async def create(n):\n"
    "    t = time.perf_counter()\n"
    "    for _ in range(n // 64):\n"
    "        await asyncio.gather(*[asyncio.create_task(trivial()) for _ in range(64)])\n"
    "    return (n // 64) * 64 / (time.perf_counter() - t)\n"
    "def alone(n): return asyncio.run(create(n))\n"
    "def sync(n):\n"
    "    t = time.perf_counter()\n"
    "    for i in range(n): erlang.call('bench_same', i)\n"
    "    return n / (time.perf_counter() - t)\n"
    "async def awaited(n):\n"
    "    t = time.perf_counter()\n"
    "    await asyncio.gather(*[erlang.async_call('bench_same', i) for i in range(n)])\n"
    "    return n / (time.perf_counter() - t)\n".
