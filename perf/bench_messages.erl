%% SPDX-License-Identifier: Apache-2.0

%% @private What a message from Python to an Erlang process costs in a loop, next to a plain call
%% in a loop in the same round; and what a million of them keep in memory.
-module(bench_messages).

-export([run/1]).

-define(CALLS, 20000).
-define(MESSAGES, 100000).
-define(MANY, 1000000).
-define(LOOK_MS, 5).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1),
    ok = py:exec(
        "import erlang\n"
        "def send(pid, n):\n"
        "    for i in range(n):\n"
        "        erlang.send(pid, i)\n"
        "    return n\n"
    ),
    _ = receive_all(1000),
    Rounds = [{plain(), receive_all(?MESSAGES)} || _ <- lists:seq(1, N)],
    {Us, Grown, Longest} = many(),
    ok = bench_app:check(),
    Floors = [Plain || {Plain, _} <- Rounds],
    [
        bench_result:new("messages", "py:call, one caller", us, Floors),
        bench_result:new("messages", "erlang.send from Python", us, [Us1 || {_, Us1} <- Rounds], #{floors => Floors}),
        bench_result:new("messages", "one of a million messages", us, [Us]),
        bench_result:new("messages", "a million messages, memory of the VM grows by", mib, [Grown]),
        bench_result:new("messages", "a million messages, longest mailbox", messages, [Longest])
    ].

%% Internal

%% Microseconds of a plain call in a loop of them.
plain() ->
    {Us, _} = timer:tc(fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, ?CALLS)] end),
    Us / ?CALLS.

%% Microseconds of a message, until another process has received the last one: in their order.
receive_all(N) ->
    {Us, normal} = timer:tc(fun() ->
        {Receiver, Ref} = spawn_monitor(fun() -> in_order(0, N) end),
        {ok, N} = py:call('__main__', send, [Receiver, N], #{}, infinity),
        ended(Receiver, Ref)
    end),
    Us / N.

in_order(N, N) -> ok;
in_order(I, N) -> receive I -> in_order(I + 1, N); Other -> exit({expected, I, got, Other}) end.

ended(Receiver, Ref) ->
    receive
        {'DOWN', Ref, process, Receiver, Reason} -> Reason
    end.

many() ->
    true = erlang:garbage_collect(),
    Before = erlang:memory(total),
    Watch = spawn_link(fun() -> watch(undefined, Before, 0) end),
    {Us, normal} = timer:tc(fun() ->
        {Receiver, Ref} = spawn_monitor(fun() -> in_order(0, ?MANY) end),
        Watch ! {look_at, Receiver},
        {ok, ?MANY} = py:call('__main__', send, [Receiver, ?MANY], #{}, infinity),
        ended(Receiver, Ref)
    end),
    Watch ! {tell, self()},
    receive
        {seen, Most, Longest} -> {Us / ?MANY, (Most - Before) / (1 bsl 20), Longest}
    end.

watch(Receiver, Most, Longest) ->
    receive
        {look_at, Pid} -> watch(Pid, Most, Longest);
        {tell, Parent} -> Parent ! {seen, Most, Longest}
    after ?LOOK_MS ->
        watch(Receiver, max(Most, erlang:memory(total)), max(Longest, waiting(Receiver)))
    end.

waiting(undefined) ->
    0;
waiting(Pid) ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, N} -> N;
        undefined -> 0
    end.
