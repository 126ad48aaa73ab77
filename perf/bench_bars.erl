%% SPDX-License-Identifier: Apache-2.0

%% @private What the library has to reach, and whether it did in this run. A bar not
%% met is news, not an error: other work on the machine can cause it.
-module(bench_bars).

-export([judge/1]).

-export_type([bar/0]).

-type bar() :: #{text := binary(), value := number() | null, limit := number(),
    'when' := at_most | at_least, met := boolean() | null}.

-spec judge([bench_result:result()]) -> [bar()].
judge(Results) ->
    Get = fun(Name, Key) ->
        case bench_result:find(Name, Results) of
            undefined -> null;
            Result -> maps:get(Key, Result)
        end
    end,
    latency(Get) ++ throughput(Get, Results) ++ payload(Get) ++ arrays(Get) ++ streams(Get) ++ quiet(Get) ++ callbacks(Get) ++
        messages(Get) ++ channels(Get) ++ asyncio(Get) ++ parallel(Get) ++ starts(Get).

channels(Get) ->
    [
        bar("item of a channel, Erlang to Python / a call", Get("item, Erlang to Python", ratio), at_most, 3.3),
        bar("item of a byte channel, Python to Erlang / a call", Get("item, Python to Erlang", ratio), at_most, 3.3),
        bar("1 MB through a channel / as an argument", Get("1 MB, Erlang to Python", ratio), at_most, 1.2)
    ].

starts(Get) ->
    Of = fun(What) -> Get("starts, numpy by a zygote: " ++ What, median) end,
    [
        bar("8 contexts with numpy by a zygote, ms", Of("8 contexts"), at_most, 60),
        bar("a killed worker of those serves again, median ms", Of("again, median"), at_most, 15),
        bar("a killed worker of those serves again, worst of 30, ms", Of("again, worst"), at_most, 30)
    ].

latency(Get) ->
    lists:append([
        [
            bar(["one caller, ", Mode, ": median / floor"],
                Get("latency " ++ Mode ++ " median", ratio), at_most, 2.0),
            bar(["one caller, ", Mode, ": p99 / floor"],
                Get("latency " ++ Mode ++ " p99", ratio), at_most, 4.0)
        ]
     || Mode <- ["worker", "owngil"]
    ]) ++ [
        bar("median latency of a port / ours", Get("latency port / worker", median), at_least, 10.0)
    ].

throughput(Get, Results) ->
    Ours = fun(N) -> Get(name("one worker per CPU", N), median) end,
    At64 = Ours(64),
    Floor = Get("throughput floor of a call", median),
    [
        bar("calls/s of 64 callers x floor / 0.4 us", product(At64, Floor, 1 / 400), at_least,
            600000),
        bar("256 callers / 64 callers", quotient(Ours(256), At64), at_least, 0.9),
        bar("1000 callers / 64 callers", quotient(Ours(1000), At64), at_least, 0.9),
        bar("slowest caller / mean, worst round", extreme(Results, fairness_low, fun lists:min/1),
            at_least, 0.2),
        bar("spread between rounds, worst series", extreme(Results, spread, fun lists:max/1),
            at_most, 0.2),
        bar("throughput of 64 callers / through ports",
            quotient(At64, Get(name("one port per CPU", 64), median)), at_least, 8.0),
        bar("schedulers held over 5 ms", Get("schedulers held over 5 ms", median), at_most, 0)
    ].

name(Series, N) ->
    lists:flatten(io_lib:format("throughput ~s, ~b callers", [Series, N])).

callbacks(Get) ->
    [
        bar("erlang.call / a plain call", Get("erlang.call from Python", ratio), at_most, 2.0),
        bar("erlang.state_incr / a plain call", Get("erlang.state_incr from Python", ratio), at_most,
            2.0),
        bar("one of 100 levels / a plain call", Get("one of 100 levels of nesting", ratio), at_most,
            3.0)
    ].

messages(Get) ->
    [
        bar("messages/s of a loop / calls/s of one caller", quotient(1, Get("erlang.send from Python", ratio)), at_least, 0.5),
        bar("a million messages: MiB in the VM", Get("a million messages, memory of the VM grows by", median), at_most, 64)
    ].

asyncio(Get) ->
    [
        bar("py:async_call / run_coroutine_threadsafe", Get("py:async_call, one caller, median", ratio),
            at_most, 1.0),
        bar("tasks/s of 64 callers / create_task alone", Get("py:async_call, 64 callers", ratio),
            at_least, 0.4),
        bar("10000 tasks that sleep for 1 s: ms", Get("10000 tasks that sleep for 1 s", median), at_most,
            2000),
        bar("erlang.async_call / erlang.call", Get("erlang.async_call, 10000 outstanding", ratio),
            at_least, 0.1),
        bar("a plain call beside a loop / without", Get("a plain call beside a loop", ratio), at_most,
            1.05)
    ].

%% An item each millisecond: most of the time is until the next one.
streams(Get) ->
    [
        bar([What, " ends after ", After, ": us"], Get("from " ++ After ++ " to the end, " ++ What, median), at_most, 50000)
     || After <- ["a cancel", "the owner's death"], What <- ["an item each ms", "an async generator that sleeps"]
    ].

payload(Get) ->
    [
        bar([Size, " there and back / three copies"], Get("payload " ++ Size, ratio), at_most, 1.5)
     || Size <- ["64 KiB", "1 MiB", "16 MiB"]
    ] ++ [
        bar([What, " there and back / the conversion alone"], Get("payload " ++ What, ratio),
            at_most, 2.0)
     || What <- ["100000 integers", "map of 1000 keys"]
    ].

arrays(Get) ->
    lists:append([
        begin
            Of = fun(Text, Key) -> Get("array " ++ Size ++ ", " ++ Text, Key) end,
            [
                bar(["array of ", Size, " as an argument: us more than a plain call"],
                    difference(Of("argument", median), Of("argument", floor)), at_most, 2.5),
                bar(["array of ", Size, " there and back: us more than a plain call"],
                    difference(Of("argument and result", median), Of("argument and result", floor)),
                    at_most, 5.0),
                bar(["array of ", Size, " seen first: us more than a plain call"],
                    difference(Of("first sight", median), Of("first sight", floor)), at_most, 30.0),
                bar(["from_binary of ", Size, " / a copy"], Of("from_binary", ratio), at_most, 1.2),
                bar(["to_binary of ", Size, ", us"], Of("to_binary", median), at_most, 5.0),
                bar(["result of ", Size, " / copy, protection and call"], Of("result of numpy", ratio),
                    at_most, 1.3),
                bar(["erlang.empty of ", Size, " / protection and call"], Of("erlang.empty", ratio),
                    at_most, 1.2)
            ]
        end
     || Size <- ["8 MB", "128 MB"]
    ]).

quiet(Get) ->
    [
        bar("first call after 10 s / two bare wake-ups", Get("first call after 10 s", ratio),
            at_most, 1.3),
        bar("ping-pong beside 8 callers: p99, us", Get("ping-pong beside 8 callers p99", median),
            at_most, 100.0),
        bar("idle after load: % of a CPU", Get("idle after load, CPU", median), at_most, 0.2)
    ].

parallel(Get) ->
    [
        bar(["two contexts / two OS processes, ", What],
            Get("parallel " ++ What ++ ", two contexts", ratio), at_least, 0.95)
     || What <- ["Python, worker", "numpy, worker", "Python, owngil"]
    ].

%% Over all series of ours with more than one caller.
extreme(Results, Key, Pick) ->
    Values = [
        maps:get(Key, R)
     || #{series := Series, callers := Callers} = R <- Results,
        Series =/= <<"one port per CPU">>,
        Callers > 1
    ],
    case Values of
        [] -> null;
        _ -> Pick(Values)
    end.

quotient(A, B) when is_number(A), is_number(B) -> A / B;
quotient(_, _) -> null.

difference(A, B) when is_number(A), is_number(B) -> A - B;
difference(_, _) -> null.

product(A, B, C) when is_number(A), is_number(B) -> A * B * C;
product(_, _, _) -> null.

bar(Text, Value, When, Limit) ->
    #{
        text => iolist_to_binary(Text),
        value => Value,
        limit => Limit,
        'when' => When,
        met => met(Value, When, Limit)
    }.

met(null, _, _) -> null;
met(Value, at_most, Limit) -> Value =< Limit;
met(Value, at_least, Limit) -> Value >= Limit.
