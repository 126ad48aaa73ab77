%% SPDX-License-Identifier: Apache-2.0

%% @private What an item of a stream costs, next to a plain call of the same process in the same
%% round; the first item of a stream, next to a call by a helper; and how long Python goes on after a
%% cancel, and after the death of the owner.
-module(bench_streams).

-export([run/1]).

-define(ITEMS, 100000).
-define(CALLS, 20000).
-define(STARTS, 1000).
-define(CREDIT, 64).
-define(ENDS, 50).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1),
    {Pid, Ref} = spawn_monitor(fun() -> exit({results, measure(N)}) end),
    Results =
        receive
            {'DOWN', Ref, process, Pid, {results, R}} -> R;
            {'DOWN', Ref, process, Pid, Why} -> error(Why)
        end,
    ok = bench_app:check(),
    Results.

measure(N) ->
    ok = py:exec(code()),
    _ = round_of(),
    Rounds = [round_of() || _ <- lists:seq(1, N)],
    Floors = [maps:get(plain, R) || R <- Rounds],
    Helpers = [maps:get(spawned, R) || R <- Rounds],
    [
        bench_result:new("streams", "py:call, the same caller", us, Floors),
        bench_result:new("streams", "py:spawn_call and its result", us, Helpers)
    ] ++
        [
            bench_result:new("streams", Name, us, [maps:get(Key, R) || R <- Rounds], #{floors => F})
         || {Name, Key, F} <- [
                {"an item, collected", collected, Floors},
                {"an item, as a message", message, Floors},
                {"an item, 64 credits, 32 acknowledged at a time", credit, Floors},
                {"an item of an async generator, collected", asynchronous, Floors},
                {"the first item of a stream", first, Helpers},
                {"the first item of an async generator", first_asynchronous, Helpers}
            ]
        ] ++
        [
            bench_result:new("streams", Name, us, [maps:get(Key, R) || R <- Rounds])
         || {Name, Key} <- [
                {"from a cancel to the end, an item each ms", {cancel, slow}},
                {"from the owner's death to the end, an item each ms", {death, slow}},
                {"from a cancel to the end, an async generator that sleeps", {cancel, sleeps}},
                {"from the owner's death to the end, an async generator that sleeps", {death, sleeps}}
            ]
        ].

code() ->
    "import asyncio, time\n"
    "def numbers(n):\n"
    "    for i in range(n): yield i\n"
    "async def async_numbers(n):\n"
    "    for i in range(n): yield i\n"
    "ends = []\n"
    "def slow():\n"
    "    try:\n"
    "        while True:\n"
    "            yield 0\n"
    "            time.sleep(0.001)\n"
    "    finally:\n"
    "        ends.append(time.monotonic_ns())\n"
    "async def sleeps():\n"
    "    try:\n"
    "        yield 0\n"
    "        await asyncio.sleep(3600)\n"
    "    finally:\n"
    "        ends.append(time.monotonic_ns())\n".

round_of() ->
    Ends = [
        {{How, Generator}, bench_result:median([ended(How, Generator) || _ <- lists:seq(1, ?ENDS)])}
     || How <- [cancel, death], Generator <- [slow, sleeps]
    ],
    (maps:from_list(Ends))#{
        plain => each(?CALLS, fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, ?CALLS)] end),
        collected => each(?ITEMS, fun() -> {ok, [0 | _]} = py:stream('__main__', numbers, [?ITEMS]) end),
        message => each(?ITEMS, fun() -> all(#{}) end),
        credit => each(?ITEMS, fun() -> all(#{credit => ?CREDIT}) end),
        asynchronous => each(?ITEMS, fun() -> {ok, [0 | _]} = py:stream('__main__', async_numbers, [?ITEMS]) end),
        spawned => bench_result:median([each(1, fun spawned/0) || _ <- lists:seq(1, ?STARTS)]),
        first => bench_result:median([first(numbers) || _ <- lists:seq(1, ?STARTS)]),
        first_asynchronous => bench_result:median([first(async_numbers) || _ <- lists:seq(1, ?STARTS)])
    }.

each(N, Fun) ->
    Begin = erlang:monotonic_time(nanosecond),
    _ = Fun(),
    (erlang:monotonic_time(nanosecond) - Begin) / 1000 / N.

spawned() ->
    {ok, 4.0} = py:await(py:spawn_call(math, sqrt, [16])).

first(Generator) ->
    Begin = erlang:monotonic_time(nanosecond),
    {ok, Ref} = py:stream_start('__main__', Generator, [1]),
    receive {py_stream, Ref, {data, 0}} -> ok end,
    Us = (erlang:monotonic_time(nanosecond) - Begin) / 1000,
    receive {py_stream, Ref, done} -> Us end.

%% Until the finally block has run. Python and this VM read one clock.
ended(How, Generator) ->
    Self = self(),
    Owner = spawn(fun() -> receive {py_stream, _, {data, 0}} -> Self ! began end, receive after infinity -> ok end end),
    {ok, Ref} = py:stream_start('__main__', Generator, [], #{owner => Owner}),
    receive began -> ok end,
    Begin = os:perf_counter(nanosecond),
    case How of
        cancel -> ok = py:stream_cancel(Ref);
        death -> true = exit(Owner, kill)
    end,
    End = last_end(),
    true = exit(Owner, kill),
    (End - Begin) / 1000.

last_end() ->
    case py:eval("ends.pop() if ends else 0") of
        {ok, 0} -> last_end();
        {ok, Ns} -> Ns
    end.

all(Options) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [?ITEMS], Options),
    all(Ref, 0, maps:is_key(credit, Options)).

all(Ref, N, Acks) ->
    receive
        {py_stream, Ref, {data, N}} ->
            _ = [py:stream_ack(Ref, ?CREDIT div 2) || Acks, N rem (?CREDIT div 2) =:= ?CREDIT div 2 - 1],
            all(Ref, N + 1, Acks);
        {py_stream, Ref, done} ->
            ?ITEMS = N
    end.
