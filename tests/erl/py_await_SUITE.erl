%% SPDX-License-Identifier: Apache-2.0

%% @doc Erlang functions that coroutines await, in the loop of the tasks and in any other; and the
%% helpers of the package erlang for coroutines.
-module(py_await_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(MANY, 10000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(cases(), #{
        shared => [
            awaits_an_erlang_function,
            awaits_in_a_loop_of_a_request,
            awaits_in_a_loop_of_a_thread,
            awaits_many_at_a_time,
            runs_nested_requests_between_two_steps,
            interrupts_a_nested_request_only,
            outlives_a_loop_that_ends
        ],
        single_worker => [
            awaits_in_a_loop_of_a_request,
            runs_nested_requests_between_two_steps,
            interrupts_a_nested_request_only
        ]
    }).

cases() ->
    [
        awaits_an_erlang_function,
        takes_arrays_and_channels,
        awaits_in_a_loop_of_a_request,
        awaits_in_a_loop_of_a_thread,
        awaits_many_at_a_time,
        refuses_too_many,
        raises_what_the_function_raised,
        raises_where_nothing_was_sent,
        raises_what_does_not_convert,
        says_that_the_process_was_killed,
        runs_nested_requests_between_two_steps,
        interrupts_a_nested_request_only,
        forgets_what_nobody_awaits,
        outlives_a_loop_that_ends,
        does_not_hold_the_loop_up,
        sleeps_in_a_coroutine,
        sleeps_in_a_request,
        ends_a_sleep_at_a_timeout,
        sleeps_again_after_an_interrupt,
        runs_a_coroutine,
        spawns_tasks
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
    ok = py:register_function(inc, fun([N]) -> N + 1 end),
    ok = py:register_function(fail, fun([Class]) -> erlang:raise(binary_to_existing_atom(Class), bang, []) end),
    ok = py:exec("import asyncio, erlang, sys, threading, time\n"
                 "async def inc(x): return await erlang.async_call('inc', x)\n"
                 "async def many(n): return await asyncio.gather(*[erlang.async_call('inc', i) for i in range(n)])\n"),
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

awaits_an_erlang_function(_Config) ->
    {ok, 2} = py_event_loop:run('__main__', inc, [1]),
    Terms = [1.5, <<"text">>, [1, [2]], {a_tuple, <<>>}, #{<<"k">> => [none]}, binary:copy(<<"x">>, 100000)],
    ok = py:register_function(echo, fun([X]) -> X end),
    ok = py:exec("async def echo(x): return await erlang.async_call('echo', x)"),
    [
        begin
            {ok, Expected} = py:eval("erlang.echo(x)", #{x => Term}),
            ?assertEqual({ok, Expected}, py_event_loop:run('__main__', echo, [Term]))
        end
     || Term <- Terms
    ],
    ok.

takes_arrays_and_channels(_Config) ->
    Self = self(),
    ok = py:register_function(keep, fun([Handle, #{<<"array">> := Array}]) ->
        Self ! {kept, Array},
        {ok, Numbers} = py_array:to_list(Array),
        ok = py_channel:send(Handle, Numbers),
        Array
    end),
    ok = py:exec("from erlang import Channel\n"
                 "async def give(handle, i):\n"
                 "    made = erlang.share(bytes([i, i + 1]))\n"
                 "    back = await erlang.async_call('keep', handle, {'array': made})\n"
                 "    return list(back), list(await Channel(handle).async_receive())\n"
                 "async def give_all(handles):\n"
                 "    return await asyncio.gather(*[give(h, i) for i, h in enumerate(handles)])\n"),
    Channels = [element(2, py_channel:new()) || _ <- lists:seq(1, 30)],
    ?assertEqual(
        {ok, [{[I, I + 1], [I, I + 1]} || I <- lists:seq(0, 29)]},
        py_event_loop:run('__main__', give_all, [Channels])
    ),
    %% They outlive the question.
    Kept = [receive {kept, Array} -> py_array:to_list(Array) end || _ <- Channels],
    ?assertEqual([{ok, [I, I + 1]} || I <- lists:seq(0, 29)], lists:sort(Kept)).

awaits_in_a_loop_of_a_request(_Config) ->
    {ok, 2} = py:eval("asyncio.run(inc(1))"),
    [{ok, [1, 2, 3]} = py:eval("erlang.run(many(3))") || _ <- lists:seq(1, 20)],
    ok.

awaits_in_a_loop_of_a_thread(_Config) ->
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "def in_threads(n):\n"
                 "    with ThreadPoolExecutor(4) as pool:\n"
                 "        return list(pool.map(lambda i: asyncio.run(inc(i)), range(n)))\n"),
    Expected = lists:seq(1, 40),
    {ok, Expected} = py:call('__main__', in_threads, [40]).

awaits_many_at_a_time(_Config) ->
    %% None is answered before the last one has come.
    Gate = spawn_link(fun() -> gate([], ?MANY) end),
    ok = py:register_function(wait, fun([N]) -> Gate ! {self(), N}, receive {go, Sum} -> Sum end end),
    ok = py:exec("async def wait(n): return sum(await asyncio.gather(*[erlang.async_call('wait', i) for i in range(n)]))"),
    {ok, ?MANY} = py_event_loop:run('__main__', wait, [?MANY], #{timeout => 60000}).

gate(Waiting, 0) ->
    [Pid ! {go, 1} || Pid <- Waiting];
gate(Waiting, Left) ->
    receive {Pid, _N} -> gate([Pid | Waiting], Left - 1) end.

refuses_too_many(_Config) ->
    Self = self(),
    ok = py:register_function(wait, fun([]) -> Self ! {waits, self()}, receive go -> ok end end),
    ok = py:exec("async def too_many(n):\n"
                 "    asked = [erlang.async_call('wait') for _ in range(n)]\n"
                 "    try:\n"
                 "        erlang.async_call('inc', 1)\n"
                 "        text = None\n"
                 "    except RuntimeError as e:\n"
                 "        text = str(e)\n"
                 "    try:\n"
                 "        asyncio.create_task(inc(1))\n"
                 "    finally:\n"
                 "        pass\n"
                 "    await asyncio.gather(*asked)\n"
                 "    return (text, await inc(1))\n"),
    Ref = py_event_loop:create_task('__main__', too_many, [?MANY]),
    Waiting = [receive {waits, Pid} -> Pid end || _ <- lists:seq(1, ?MANY)],
    [Pid ! go || Pid <- Waiting],
    {ok, {<<"10000 calls of async_call() are outstanding already">>, 2}} = py_event_loop:await(Ref, 60000).

raises_what_the_function_raised(_Config) ->
    ok = py:exec("async def careful(name, *args):\n"
                 "    try:\n"
                 "        await erlang.async_call(name, *args)\n"
                 "    except erlang.CallbackError as e:\n"
                 "        return (e.class_, e.reason)\n"),
    [
        {ok, {Class, <<"bang">>}} = py_event_loop:run('__main__', careful, [<<"fail">>, Class])
     || Class <- [<<"error">>, <<"exit">>, <<"throw">>]
    ],
    {ok, {<<"error">>, {<<"not_found">>, <<"nonesuch">>}}} =
        py_event_loop:run('__main__', careful, [<<"nonesuch">>]),
    ok = py:exec("async def careless(): await erlang.async_call('fail', 'error')"),
    {error, {'CallbackError', "error: bang"}} = py_event_loop:run('__main__', careless, []).

raises_where_nothing_was_sent(_Config) ->
    ok = py:exec("async def bad(*args, **kw): return await erlang.async_call(*args, **kw)"),
    {error, {'TypeError', _}} = py_event_loop:run('__main__', bad, []),
    {error, {'TypeError', _}} = py_event_loop:run('__main__', bad, [1]),
    {error, {'TypeError', _}} = py_event_loop:run('__main__', bad, [<<"inc">>], #{kwargs => #{x => 1}}),
    %% Without a loop there is nothing that could await.
    {error, {'RuntimeError', "no running event loop"}} = py:eval("erlang.async_call('inc', 1)").

raises_what_does_not_convert(_Config) ->
    ok = py:register_function(odd, fun([]) -> [1, fun() -> ok end] end),
    ok = py:exec("async def odd(): return await erlang.async_call('odd')\n"
                 "async def deep():\n    x = []\n    x.append(x)\n    return await erlang.async_call('inc', x)\n"),
    {error, {'TypeError', _}} = py_event_loop:run('__main__', odd, []),
    {error, {'RecursionError', "args" ++ _}} = py_event_loop:run('__main__', deep, []).

says_that_the_process_was_killed(_Config) ->
    ok = py:register_function(die, fun([]) -> exit(self(), kill), receive never -> ok end end),
    ok = py:exec("async def die():\n"
                 "    try:\n"
                 "        await erlang.async_call('die')\n"
                 "    except erlang.CallbackError as e:\n"
                 "        return (e.class_, e.reason)\n"),
    {ok, {<<"exit">>, <<"killed">>}} = py_event_loop:run('__main__', die, []).

runs_nested_requests_between_two_steps(_Config) ->
    %% The request runs on the loop that awaits, for the request that runs on the context.
    Here = py:context(),
    ok = py:register_function(thread, fun([]) ->
        {ok, Id} = py:call(threading, get_ident, []),
        Id
    end),
    ok = py:exec("async def nested():\n"
                 "    return [threading.get_ident()] + [await erlang.async_call('thread') for _ in range(3)]\n"),
    {ok, [Id, Id, Id, Id]} = py:eval(Here, "asyncio.run(nested())"),
    %% Without one, it is an ordinary request.
    {ok, [Loop | Others]} = py_event_loop:run('__main__', nested, []),
    [?assertNotEqual(Loop, Other) || Other <- Others],
    ok.

interrupts_a_nested_request_only(_Config) ->
    ok = py:register_function(slow, fun([]) ->
        case py:eval("[None for _ in iter(int, 1)]", #{}, 100) of
            {error, timeout} -> <<"late">>;
            Other -> Other
        end
    end),
    ok = py:exec("async def slow():\n"
                 "    said = await asyncio.gather(erlang.async_call('slow'), asyncio.sleep(0.01, 'awake'))\n"
                 "    asyncio.get_running_loop()\n"
                 "    return said\n"),
    {ok, [<<"late">>, <<"awake">>]} = py:eval("asyncio.run(slow())"),
    {ok, [<<"late">>, <<"awake">>]} = py_event_loop:run('__main__', slow, []).

forgets_what_nobody_awaits(_Config) ->
    Self = self(),
    ok = py:register_function(late, fun([]) -> Self ! {asked, self()}, receive go -> ok end end),
    ok = py:exec("async def impatient():\n"
                 "    try:\n"
                 "        await asyncio.wait_for(erlang.async_call('late'), 0.01)\n"
                 "    except asyncio.TimeoutError:\n"
                 "        return await inc(1)\n"),
    {ok, 2} = py_event_loop:run('__main__', impatient, []),
    receive {asked, Pid} -> Pid ! go end,
    {ok, 2} = py_event_loop:run('__main__', inc, [1]).

outlives_a_loop_that_ends(_Config) ->
    Self = self(),
    ok = py:register_function(late, fun([]) -> Self ! {asked, self()}, receive go -> ok end end),
    ok = py:exec("async def leave():\n"
                 "    global left\n"
                 "    left = [erlang.async_call('late') for _ in range(5)]\n"),
    [
        begin
            {ok, none} = py:eval("asyncio.run(leave())"),
            Asked = [receive {asked, Pid} -> Pid end || _ <- lists:seq(1, 5)],
            ok = py:exec("left = None\nimport gc\ngc.collect()\n"),
            [Pid ! go || Pid <- Asked],
            {ok, 2} = py:eval("asyncio.run(inc(1))")
        end
     || _ <- lists:seq(1, 5)
    ],
    %% Each loop's port is gone, but that of the loop of the tasks.
    {ok, Ports} = py:eval("len(sys.modules['erlang._await']._ports)"),
    ?assert(Ports =< 1).

does_not_hold_the_loop_up(_Config) ->
    Self = self(),
    ok = py:register_function(wait, fun([]) -> Self ! {waits, self()}, receive go -> <<"gone">> end end),
    ok = py:exec("async def wait(): return await erlang.async_call('wait')"),
    Ref = py_event_loop:create_task('__main__', wait, []),
    receive {waits, Pid} -> ok end,
    {ok, 2} = py_event_loop:run('__main__', inc, [1]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    Pid ! go,
    {ok, <<"gone">>} = py_event_loop:await(Ref).

%% --- helpers ----------------------------------------------------------------------------

sleeps_in_a_coroutine(_Config) ->
    ok = py:exec("async def nap():\n"
                 "    t = time.monotonic()\n"
                 "    await asyncio.gather(*[erlang.sleep(0.1) for _ in range(50)])\n"
                 "    return time.monotonic() - t\n"),
    {ok, Took} = py_event_loop:run('__main__', nap, []),
    ?assert(Took >= 0.1),
    ?assert(Took < 4.9).

sleeps_in_a_request(_Config) ->
    [
        begin
            {Ms, {ok, none}} = py_test:elapsed(fun() -> py:call(Ctx, erlang, sleep, [0.05]) end),
            ?assert(Ms >= 50)
        end
     || Ctx <- py_context_router:contexts()
    ],
    {ok, none} = py:call(erlang, sleep, [0]),
    {error, {'ValueError', _}} = py:call(erlang, sleep, [-1]),
    {error, {'TypeError', _}} = py:call(erlang, sleep, [<<"1">>]).

ends_a_sleep_at_a_timeout(_Config) ->
    [
        begin
            OsPid = py_test:os_pid(Ctx),
            {error, timeout} = py:call(Ctx, erlang, sleep, [1000], #{}, 50),
            %% Nobody was killed for it.
            ?assertEqual(OsPid, py_test:os_pid(Ctx))
        end
     || Ctx <- py_context_router:contexts(), _ <- lists:seq(1, 20)
    ],
    ok.

sleeps_again_after_an_interrupt(_Config) ->
    ok = py:exec("def stubborn():\n"
                 "    try:\n"
                 "        erlang.sleep(1000)\n"
                 "    except KeyboardInterrupt:\n"
                 "        t = time.monotonic()\n"
                 "        erlang.sleep(0.1)\n"
                 "        return time.monotonic() - t\n"),
    Ctx = py:context(),
    Self = self(),
    Interrupter = spawn_link(fun() ->
        receive go -> ok end,
        ok = py_test:wait_until(fun() -> py:interrupt(Ctx) =:= ok end),
        Self ! interrupted
    end),
    Interrupter ! go,
    {ok, Took} = py:call(Ctx, '__main__', stubborn, []),
    ?assert(Took >= 0.1),
    receive interrupted -> ok end.

runs_a_coroutine(_Config) ->
    {ok, 2} = py:eval("erlang.run(inc(1))"),
    {ok, true} = py:exec("async def debug(): return asyncio.get_running_loop().get_debug()") =:= ok andalso
        py:eval("erlang.run(debug(), debug=True)"),
    {error, {'RuntimeError', _}} = py_event_loop:eval("erlang.run(inc(1))").

spawns_tasks(_Config) ->
    ok = py:exec("async def spawn():\n"
                 "    done = []\n"
                 "    async def work(i):\n"
                 "        await asyncio.sleep(0)\n"
                 "        done.append(i)\n"
                 "    tasks = [erlang.spawn_task(work(i), name=f'work {i}') for i in range(3)]\n"
                 "    names = [t.get_name() for t in tasks]\n"
                 "    await asyncio.wait(tasks)\n"
                 "    return (names, sorted(done))\n"
                 "def outside():\n"
                 "    c = inc(1)\n"
                 "    try: erlang.spawn_task(c)\n"
                 "    finally: c.close()\n"),
    {ok, {[<<"work 0">>, <<"work 1">>, <<"work 2">>], [0, 1, 2]}} = py_event_loop:run('__main__', spawn, []),
    {error, {'RuntimeError', _}} = py:call('__main__', outside, []).
