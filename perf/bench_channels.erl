%% SPDX-License-Identifier: Apache-2.0

%% @private What an item of a channel costs in each direction, next to a plain call in a loop in the
%% same round; and a megabyte, next to one that is an argument of a call.
-module(bench_channels).

-export([run/1]).

-define(CALLS, 20000).
-define(ITEMS, 50000).
-define(COROUTINE_ITEMS, 5000).
-define(LARGE, 100).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1),
    ok = py:exec(
        "from erlang import ByteChannel, Channel\n"
        "def count(handle):\n"
        "    return sum(1 for _ in Channel(handle))\n"
        "async def count_async(handle):\n"
        "    n = 0\n"
        "    async for _ in Channel(handle):\n"
        "        n += 1\n"
        "    return n\n"
        "def send(handle, n):\n"
        "    channel = ByteChannel(handle)\n"
        "    for _ in range(n):\n"
        "        channel.send_bytes(b'item')\n"
        "    channel.close()\n"
    ),
    _ = one_round(),
    Rounds = [one_round() || _ <- lists:seq(1, N)],
    ok = bench_app:check(),
    Of = fun(Key) -> [maps:get(Key, Round) || Round <- Rounds] end,
    Item = fun(Text, Key) -> bench_result:new("channels", Text, us, Of(Key), #{floors => Of(call)}) end,
    [
        bench_result:new("channels", "py:call, one caller", us, Of(call)),
        Item("item, Erlang to Python", to_python),
        Item("item, Python to Erlang", to_erlang),
        Item("item, Erlang to a coroutine", to_coroutine),
        bench_result:new("channels", "1 MB, Erlang to Python", us, Of(large), #{floors => Of(large_call)})
    ].

one_round() ->
    #{
        call => each(?CALLS, fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, ?CALLS)] end),
        to_python => each(?ITEMS, fun() -> to_python(?ITEMS) end),
        to_erlang => each(?ITEMS, fun() -> to_erlang(?ITEMS) end),
        to_coroutine => each(?COROUTINE_ITEMS, fun() -> to_coroutine(?COROUTINE_ITEMS) end),
        large => each(?LARGE, fun() -> large(?LARGE) end),
        large_call => each(?LARGE, fun() -> large_call(?LARGE) end)
    }.

each(N, Fun) ->
    {Us, _} = timer:tc(Fun),
    Us / N.

to_python(N) ->
    {ok, Ch} = py_channel:new(),
    Sender = spawn_monitor(fun() -> send_all(Ch, N) end),
    {ok, N} = py:call('__main__', count, [Ch], #{}, infinity),
    ended(Sender).

send_all(Ch, 0) -> ok = py_channel:close(Ch);
send_all(Ch, N) ->
    ok = py_channel:send(Ch, N),
    send_all(Ch, N - 1).

to_erlang(N) ->
    {ok, Ch} = py_byte_channel:new(),
    Receiver = spawn_monitor(fun() -> exit({received, receive_all(Ch, 0)}) end),
    {ok, none} = py:call('__main__', send, [Ch, N], #{}, infinity),
    {received, N} = ended(Receiver).

receive_all(Ch, N) ->
    case py_byte_channel:recv(Ch) of
        {ok, <<"item">>} -> receive_all(Ch, N + 1);
        {error, closed} -> N
    end.

to_coroutine(N) ->
    {ok, Ch} = py_channel:new(),
    Ref = py_event_loop:create_task('__main__', count_async, [Ch]),
    send_all(Ch, N),
    {ok, N} = py_event_loop:await(Ref, infinity).

%% All are there when Python begins: on two CPUs a sender beside it would be measured, too.
large(N) ->
    Bin = binary:copy(<<0, 255>>, 500000),
    {ok, Ch} = py_channel:new(),
    _ = [ok = py_channel:send(Ch, Bin) || _ <- lists:seq(1, N)],
    ok = py_channel:close(Ch),
    {ok, N} = py:call('__main__', count, [Ch], #{}, infinity).

large_call(N) ->
    Bin = binary:copy(<<0, 255>>, 500000),
    [{ok, 1000000} = py:call(builtins, len, [Bin]) || _ <- lists:seq(1, N)].

ended({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, Reason} -> Reason
    end.
