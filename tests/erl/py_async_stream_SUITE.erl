%% SPDX-License-Identifier: Apache-2.0

%% @doc Streams of async generators, and of what else is an asynchronous iterable.
-module(py_async_stream_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-import(py_stream_items, [items/1, acknowledged/1, next/1, waiting/1, cancelled_after/2]).

-define(STREAMS, 64).

suite() ->
    [{timetrap, {seconds, 60}}].

%% What the interpreter has to do with is a group of its own; how items come and go is the same.
all() ->
    [{group, worker}, {group, shared}, {group, owngil}, {group, numpy}, recycles_beside_streams, ends_with_its_context].

groups() ->
    [
        {worker, items() ++ ends()},
        {shared, [collects_an_async_generator | ends()]},
        {owngil, [collects_an_async_generator | ends()]},
        {numpy, [brings_arrays]}
    ].

items() ->
    [
        collects_an_async_generator,
        collects_whatever_has_aiter,
        takes_items_of_any_size,
        fails_in_the_middle,
        fails_at_an_item_that_does_not_convert,
        fails_at_an_item_that_the_vm_cannot_have,
        sends_an_item_while_python_makes_the_next,
        keeps_to_its_credit,
        is_not_far_ahead_of_what_was_sent,
        waits_for_a_mailbox_that_is_long,
        has_one_context_of_variables,
        awaits_erlang,
        streams_in_a_callback,
        takes_no_slot,
        survives_what_is_no_list_of_items,
        refuses_keys_that_nobody_left,
        ends_the_fetch_of_a_task_that_never_began
    ].

ends() ->
    [
        runs_many_beside_a_call,
        closes_a_generator_that_is_cancelled,
        stops_one_that_catches_its_cancel,
        cancels_while_it_waits_for_credit,
        cancels_at_any_moment,
        closes_a_generator_whose_owner_died,
        closes_a_generator_whose_collector_died,
        times_out_between_two_items,
        ends_when_its_worker_dies
    ].

init_per_group(numpy, Config) ->
    ok = py_test:start([]),
    case py_test:test_python() of
        none ->
            {skip, "there is no Python of the tests: make venv"};
        Python ->
            ok = py_test:start([{num_contexts, 1}, {python, list_to_binary(Python)}]),
            case py:call(importlib, import_module, [numpy]) of
                {error, {'ModuleNotFoundError', _}} -> {skip, "numpy is not installed: make venv"};
                _ -> Config
            end
    end;
init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(recycles_beside_streams, Config) ->
    ok = py_test:start([{num_contexts, 1}, {max_requests, 20}]),
    prepare(Config);
init_per_testcase(ends_with_its_context, Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    prepare(Config);
init_per_testcase(_Case, Config) ->
    prepare(Config).

prepare(Config) ->
    ok = py:exec(
        "import asyncio, contextlib\n"
        "opened = closed = made = 0\n"
        "@contextlib.asynccontextmanager\n"
        "async def resource():\n"
        "    global opened, closed\n"
        "    opened += 1\n"
        "    try:\n"
        "        yield\n"
        "    finally:\n"
        "        try: await asyncio.sleep(0)\n"
        "        finally: closed += 1\n"
        "async def numbers(n=10**9, pause=None):\n"
        "    global made\n"
        "    async with resource():\n"
        "        for i in range(n):\n"
        "            made += 1\n"
        "            yield i\n"
        "            if pause is not None: await asyncio.sleep(pause)\n"
    ),
    Config.

%% Nothing is left in Python, no slot, no message.
end_per_testcase(_Case, _Config) ->
    try
        ok = py_test:wait_until(fun() ->
            Left = py:eval("[len(m._left) + len(m._open) for m in [__import__('erlang._streams')._streams]][0]"),
            Left =:= {ok, 0} orelse Left
        end),
        py_fixture:clean()
    catch
        Class:Reason -> {fail, {Class, Reason}}
    end.

%% --- items -----------------------------------------------------------------------------------

collects_an_async_generator(_Config) ->
    Numbers = lists:seq(0, 999),
    ?assertEqual({ok, Numbers}, py:stream('__main__', numbers, [1000])),
    ?assertEqual({ok, Numbers}, py:stream('__main__', numbers, [], #{n => 1000})),
    ?assertEqual({ok, [0, 1, 2]}, py:stream('__main__', numbers, [3, 0.001])),
    ?assertEqual({ok, []}, py:stream('__main__', numbers, [0])),
    ?assertEqual({ok, [0, 1, 4]}, py:stream_eval("(i * i async for i in numbers(n))", #{n => 3})),
    {ok, Ref} = py:stream_start('__main__', numbers, [1000]),
    ?assertEqual({Numbers, done}, items(Ref)).

collects_whatever_has_aiter(_Config) ->
    ok = py:exec(
        "class Countdown:\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __aiter__(self): return self\n"
        "    async def __anext__(self):\n"
        "        await asyncio.sleep(0)\n"
        "        if self.n == 0: raise StopAsyncIteration\n"
        "        self.n -= 1\n"
        "        return self.n\n"
        "class Both(Countdown):\n"
        "    def __iter__(self): return iter('abc')\n"
        "class Broken:\n"
        "    def __aiter__(self): return 3\n"
    ),
    ?assertEqual({ok, [2, 1, 0]}, py:stream('__main__', 'Countdown', [3])),
    ?assertEqual({ok, [<<"a">>, <<"b">>, <<"c">>]}, py:stream('__main__', 'Both', [3])),
    ?assertMatch({error, {'TypeError', _}}, py:stream('__main__', 'Broken', [])).

takes_items_of_any_size(_Config) ->
    ok = py:exec("async def blobs(sizes):\n    for n in sizes: yield b'x' * n\n"),
    Sizes = [0, 1, 16000, 16384, 70000, 0, 2000000, 10, 5000, 5000, 65536, 65536, 3],
    {ok, Items} = py:stream('__main__', blobs, [Sizes]),
    ?assertEqual(Sizes, [byte_size(Item) || Item <- Items]).

%% Those before come first.
fails_in_the_middle(_Config) ->
    ?assertEqual(
        {error, {'ZeroDivisionError', "division by zero"}},
        py:stream_eval("(1 / (5 - i) async for i in numbers(9))")
    ),
    {ok, Ref} = py:stream_start('__main__', numbers, [5, <<"x">>]),
    ?assertMatch({[0], {error, <<"'<=' not supported", _/binary>>}}, items(Ref)),
    ok = py:exec("async def leaves():\n    yield 1\n    raise SystemExit(3)\n"),
    ?assertEqual({error, {'SystemExit', "3"}}, py:stream('__main__', leaves, [])),
    ok = py:exec("async def stops():\n    yield 1\n    raise asyncio.CancelledError\n"),
    {ok, Stopped} = py:stream_start('__main__', stops, []),
    ?assertEqual({[1], {error, <<"cancelled">>}}, items(Stopped)).

fails_at_an_item_that_does_not_convert(_Config) ->
    ok = py:exec(
        "async def bad():\n"
        "    async with resource():\n"
        "        for i in range(10): yield i\n"
        "        yield [1, (i for i in ())]\n"
        "        yield 11\n"
    ),
    {error, {'TypeError', Text}} = py:stream('__main__', bad, []),
    ?assertMatch("item[1]: " ++ _, Text),
    {ok, Ref} = py:stream_start('__main__', bad, []),
    {Items, {error, <<"item[1]: ", _/binary>>}} = items(Ref),
    ?assertEqual(lists:seq(0, 9), Items),
    ok = all_closed(2).

fails_at_an_item_that_the_vm_cannot_have(_Config) ->
    ok = py:exec("async def twice():\n    yield 1\n    yield {'a': 1, b'a': 2}\n"),
    {ok, Ref} = py:stream_start('__main__', twice, []),
    ?assertMatch({[1], {error, _}}, items(Ref)).

sends_an_item_while_python_makes_the_next(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [2, 3600]),
    0 = next(Ref),
    ok = py:stream_cancel(Ref),
    ?assertEqual({[], {error, <<"cancelled">>}}, items(Ref)).

keeps_to_its_credit(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [200], #{credit => 3}),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 3 end),
    receive after 20 -> 3 = waiting(Ref) end,
    ?assertEqual([0, 1, 2], [next(Ref) || _ <- [1, 2, 3]]),
    ok = py:stream_ack(Ref, 2),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 2 end),
    ok = py:stream_ack(Ref),
    ?assertEqual({lists:seq(3, 199), done}, acknowledged(Ref)).

is_not_far_ahead_of_what_was_sent(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [], #{credit => 5}),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 5 end),
    ok = py_test:wait_until(fun() -> py:eval("made >= 64") =:= {ok, true} end),
    {ok, Made} = py:eval("made"),
    ?assert(Made =< 5 + 64),
    ok = py:stream_cancel(Ref),
    {_, {error, <<"cancelled">>}} = items(Ref),
    ok = all_closed(1).

waits_for_a_mailbox_that_is_long(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, []),
    ok = py_test:wait_until(fun() -> waiting(Ref) >= 1000 end),
    {ok, Made} = py:eval("made"),
    ?assert(Made < 1300),
    ok = py:stream_cancel(Ref),
    {_, {error, <<"cancelled">>}} = items(Ref).

%% As with `async for' in one task.
has_one_context_of_variables(_Config) ->
    ok = py:exec(
        "import contextvars\n"
        "var = contextvars.ContextVar('var', default=0)\n"
        "async def counts(n):\n"
        "    for _ in range(n):\n"
        "        var.set(var.get() + 1)\n"
        "        await asyncio.sleep(0)\n"
        "        yield var.get()\n"
    ),
    [?assertEqual({ok, lists:seq(1, 100)}, py:stream('__main__', counts, [100])) || _ <- [1, 2]],
    ?assertEqual({ok, 0}, py:eval("var.get()")).

awaits_erlang(_Config) ->
    ok = py:register_function(twice, fun([X]) -> 2 * X end),
    ok = py:exec(
        "import erlang\n"
        "async def doubled(n):\n"
        "    for i in range(n): yield await erlang.async_call('twice', i)\n"
        "async def called(n):\n"
        "    for i in range(n): yield erlang.call('twice', i)\n"
    ),
    Expected = [2 * I || I <- lists:seq(0, 99)],
    ?assertEqual({ok, Expected}, py:stream('__main__', doubled, [100])),
    ?assertEqual({ok, Expected}, py:stream('__main__', called, [100])),
    ok = py:unregister_function(twice).

streams_in_a_callback(_Config) ->
    ok = py:register_function(all_of, fun([N]) ->
        {ok, Items} = py:stream('__main__', numbers, [N]),
        Items
    end),
    ?assertEqual({ok, 499500}, py:eval("sum(__import__('erlang').call('all_of', 1000))")),
    ok = py:unregister_function(all_of).

%% A slot is held while the function is called, and not longer.
takes_no_slot(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    {ok, Ref} = py:stream_start('__main__', numbers, [2, 3600]),
    0 = next(Ref),
    ok = py_fixture:slots_free(),
    ?assertEqual({ok, 2.0}, py:call(math, sqrt, [4])),
    ok = py:stream_cancel(Ref),
    {[], {error, <<"cancelled">>}} = items(Ref),
    ok = py_semaphore:set_max_concurrent(10000).

%% Such as a worker process that lies could send.
survives_what_is_no_list_of_items(_Config) ->
    [
        begin
            ok = py:exec(["import erlang._streams as m\nfetch = m.fetch\nm.fetch = lambda *_: ", Lie, "\n"]),
            try
                ?assertMatch({error, {'RuntimeError', "what fetches" ++ _}}, py:stream('__main__', numbers, [3])),
                {ok, Ref} = py:stream_start('__main__', numbers, [3]),
                ?assertMatch({[], {error, <<"what fetches", _/binary>>}}, items(Ref))
            after
                ok = py:exec("m.fetch = fetch")
            end
        end
     || Lie <- ["7", "None", "[0] * 65", "b'x'", "(0, 1)"]
    ].

%% A key is a way to one stream, once.
refuses_keys_that_nobody_left(_Config) ->
    ?assertMatch({error, {'KeyError', _}}, py_event_loop:run('erlang._streams', open, [1])),
    ?assertEqual({ok, []}, py_event_loop:run('erlang._streams', fetch, [1, 0, 64])).

brings_arrays(_Config) ->
    ok = py:exec(
        "import erlang, numpy\n"
        "async def rows(n):\n"
        "    for i in range(n): yield erlang.share(numpy.arange(i, i + 3, dtype='int64'))\n"
        "async def plain(n):\n"
        "    for i in range(n): yield {'row': numpy.full(2, i, dtype='int32')}\n"
    ),
    {ok, Arrays} = py:stream('__main__', rows, [100]),
    ?assertEqual([{ok, [I, I + 1, I + 2]} || I <- lists:seq(0, 99)], [py_array:to_list(A) || A <- Arrays]),
    {ok, Ref} = py:stream_start('__main__', plain, [3], #{arrays => shared}),
    {Items, done} = items(Ref),
    ?assertEqual([{ok, [I, I]} || I <- [0, 1, 2]], [py_array:to_list(A) || #{<<"row">> := A} <- Items]),
    ?assertEqual({ok, [#{<<"row">> => [0, 0]}]}, py:stream('__main__', plain, [1])),
    {ok, Gone} = py:stream_start('__main__', rows, [1000], #{credit => 1}),
    _ = next(Gone),
    ok = py:stream_cancel(Gone),
    {[], {error, <<"cancelled">>}} = items(Gone).

%% --- ends -------------------------------------------------------------------------------------

runs_many_beside_a_call(_Config) ->
    Refs = [element(2, {ok, _} = py:stream_start('__main__', numbers, [2, 3600])) || _ <- lists:seq(1, ?STREAMS)],
    [0 = next(Ref) || Ref <- Refs],
    ?assertEqual({ok, {?STREAMS, 0}}, py:eval("(opened, closed)")),
    [ok = py:stream_cancel(Ref) || Ref <- Refs],
    [{[], {error, <<"cancelled">>}} = items(Ref) || Ref <- Refs],
    ok = all_closed(?STREAMS).

closes_a_generator_that_is_cancelled(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, []),
    0 = next(Ref),
    ok = py:stream_cancel(Ref),
    {_, {error, <<"cancelled">>}} = items(Ref),
    ok = all_closed(1),
    ok = py:stream_cancel(Ref),
    ok = py:stream_ack(Ref).

stops_one_that_catches_its_cancel(_Config) ->
    ok = py:exec(
        "async def stubborn():\n"
        "    async with resource():\n"
        "        while True:\n"
        "            yield 1\n"
        "            try: await asyncio.sleep(3600)\n"
        "            except asyncio.CancelledError: pass\n"
    ),
    {ok, Ref} = py:stream_start('__main__', stubborn, []),
    1 = next(Ref),
    ok = py:stream_cancel(Ref),
    ?assertEqual({[], {error, <<"cancelled">>}}, items(Ref)),
    ok = all_closed(1).

cancels_while_it_waits_for_credit(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [], #{credit => 1}),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 1 end),
    ok = py:stream_cancel(Ref),
    ?assertEqual({[0], {error, <<"cancelled">>}}, items(Ref)),
    ok = all_closed(1).

%% Also before there is a task, and while it is made.
cancels_at_any_moment(_Config) ->
    [cancelled_after(rand:uniform(400), N) || N <- lists:seq(1, 300)],
    ok = py_test:wait_until(fun() -> py:eval("opened == closed") =:= {ok, true} end).

closes_a_generator_whose_owner_died(_Config) ->
    {Owner, Monitor} = spawn_monitor(fun() -> receive stop -> ok end end),
    {ok, _} = py:stream_start('__main__', numbers, [1000000, 0.001], #{owner => Owner}),
    {ok, _} = py:stream_start('__main__', numbers, [2, 3600], #{owner => Owner}),
    {ok, _} = py:stream_start('__main__', numbers, [], #{owner => Owner, credit => 1}),
    ok = py_test:wait_until(fun() -> process_info(Owner, message_queue_len) > {message_queue_len, 4} end),
    Owner ! stop,
    receive {'DOWN', Monitor, process, Owner, _} -> ok end,
    ok = all_closed(3).

%% Each process has a namespace of its own; both see the built-in names.
closes_a_generator_whose_collector_died(_Config) ->
    Ctx = py:context(),
    ok = py:exec("import builtins\nbuiltins.ep_at = 'before'\n"),
    Collector = spawn(fun() ->
        ok = py_context_router:bind_context(Ctx),
        ok = py:exec(
            "import asyncio, builtins\n"
            "async def waits():\n"
            "    try:\n"
            "        yield 1\n"
            "        builtins.ep_at = 'in'\n"
            "        await asyncio.sleep(3600)\n"
            "    finally:\n"
            "        builtins.ep_at = 'behind'\n"
        ),
        py:stream('__main__', waits, [])
    end),
    ok = py_test:wait_until(fun() -> py:eval("ep_at") =:= {ok, <<"in">>} end),
    true = exit(Collector, kill),
    ok = py_test:wait_until(fun() -> py:eval("ep_at") =:= {ok, <<"behind">>} end).

times_out_between_two_items(_Config) ->
    Route = py_context_router:bound(),
    ?assertEqual({error, timeout}, py_stream:collect(Route, {call, '__main__', numbers, [2, 3600], #{}}, 50)),
    ok = all_closed(1),
    ?assertEqual({ok, lists:seq(0, 9)}, py_stream:collect(Route, {call, '__main__', numbers, [10, 0.05], #{}}, 450)),
    ?assertEqual({messages, []}, process_info(self(), messages)).

%% Where tasks are not eager, one may be cancelled before its first step.
ends_the_fetch_of_a_task_that_never_began(_Config) ->
    ok = py:exec(
        "import asyncio\n"
        "from erlang import _streams\n"
        "async def items():\n"
        "    yield 1\n"
        "async def run(awaitable):\n"
        "    return await awaitable\n"
        "async def main():\n"
        "    key = _streams.leave(items())\n"
        "    maker = asyncio.Task(run(_streams.open(key)))\n"
        "    fetch = asyncio.Task(_streams.fetch(key, 0, 10))\n"
        "    maker.cancel()\n"
        "    return await asyncio.wait_for(fetch, 10)\n"
    ),
    ?assertEqual({ok, []}, py:eval("asyncio.run(main())")).

ends_when_its_worker_dies(_Config) ->
    ok = py:exec("import os, signal\nasync def dies():\n    yield 1\n    os.kill(os.getpid(), signal.SIGKILL)\n"),
    ?assertMatch({error, {worker_died, _}}, py:stream('__main__', dies, [])),
    ok = py_test:wait_until(fun() -> py:eval("1") =:= {ok, 1} end),
    ok = py:exec(
        "import os, signal, asyncio\n"
        "async def dies():\n"
        "    yield 1\n"
        "    await asyncio.sleep(0.02)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    ),
    {ok, Ref} = py:stream_start('__main__', dies, []),
    ?assertMatch({[1], {error, {worker_died, _}}}, items(Ref)),
    ok = py_test:wait_until(fun() -> py:eval("1") =:= {ok, 1} end).

%% A worker process does not go while it has a stream, and no stream falls between two.
recycles_beside_streams(_Config) ->
    {ok, First} = py:eval("__import__('os').getpid()"),
    ok = py:exec("async def some(n):\n    for i in range(n): yield i\n"),
    Define = "async def some(n):\n    for i in range(n): yield i\n",
    [
        begin
            ok = py:exec(Define),
            ?assertEqual({ok, [0, 1, 2]}, in_one_process(Define, 20))
        end
     || _ <- lists:seq(1, 60)
    ],
    ok = py_test:wait_until(fun() -> py:eval("__import__('os').getpid()") =/= {ok, First} end).

%% The new process does not know the function.
in_one_process(_Define, 0) -> never;
in_one_process(Define, Tries) ->
    case py:stream('__main__', some, [3]) of
        {error, {'AttributeError', _}} ->
            ok = py:exec(Define),
            in_one_process(Define, Tries - 1);
        Result ->
            Result
    end.

ends_with_its_context(_Config) ->
    {ok, Ctx} = py_context:new(#{}),
    ok = py_context_router:bind_context(Ctx),
    ok = py:exec(
        "import asyncio, itertools\n"
        "async def count():\n"
        "    for i in itertools.count():\n"
        "        yield i\n"
        "        await asyncio.sleep(0)\n"
    ),
    {ok, Ref} = py:stream_start('__main__', count, [], #{credit => 2}),
    {0, 1} = {next(Ref), next(Ref)},
    ok = py_context_router:unbind_context(),
    ok = py_context:stop(Ctx),
    ok = py:stream_ack(Ref, 2),
    ?assertMatch({_, {error, {context_died, shutdown}}}, acknowledged(Ref)).

%% --- helpers ------------------------------------------------------------------------------------

all_closed(N) ->
    py_test:wait_until(fun() ->
        Counts = py:eval("(opened, closed)"),
        Counts =:= {ok, {N, N}} orelse Counts
    end).

%% What is left, and the end.
