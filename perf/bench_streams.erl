%% SPDX-License-Identifier: Apache-2.0

%% @private What an item of a stream costs, next to a plain call of the same process in the same
%% round; and the first item of a stream, next to a call by a helper.
-module(bench_streams).

-export([run/1]).

-define(ITEMS, 100000).
-define(CALLS, 20000).
-define(STARTS, 1000).
-define(CREDIT, 64).

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
    ok = py:exec("def numbers(n):\n    for i in range(n): yield i\n"),
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
                {"the first item of a stream", first, Helpers}
            ]
        ].

round_of() ->
    #{
        plain => each(?CALLS, fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, ?CALLS)] end),
        collected => each(?ITEMS, fun() -> {ok, [0 | _]} = py:stream('__main__', numbers, [?ITEMS]) end),
        message => each(?ITEMS, fun() -> all(#{}) end),
        credit => each(?ITEMS, fun() -> all(#{credit => ?CREDIT}) end),
        spawned => bench_result:median([each(1, fun spawned/0) || _ <- lists:seq(1, ?STARTS)]),
        first => bench_result:median([first() || _ <- lists:seq(1, ?STARTS)])
    }.

each(N, Fun) ->
    Begin = erlang:monotonic_time(nanosecond),
    _ = Fun(),
    (erlang:monotonic_time(nanosecond) - Begin) / 1000 / N.

spawned() ->
    {ok, 4.0} = py:await(py:spawn_call(math, sqrt, [16])).

first() ->
    Begin = erlang:monotonic_time(nanosecond),
    {ok, Ref} = py:stream_start('__main__', numbers, [1]),
    receive {py_stream, Ref, {data, 0}} -> ok end,
    Us = (erlang:monotonic_time(nanosecond) - Begin) / 1000,
    receive {py_stream, Ref, done} -> Us end.

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
