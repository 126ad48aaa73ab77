%% SPDX-License-Identifier: Apache-2.0

%% @private Compares two builds of the library in one run: a VM for each, which take turns
%% in short bursts, and for each row (bench_row.erl) the ratio within pairs of neighbouring
%% bursts (bench_ratio.erl).
-module(bench_pair).

-export([main/1]).

%% Both VMs start anew after so many pairs: where a process lies in memory, and on which
%% CPUs, is worth a few per cent, and no figure should hang on one such draw. Even, so that
%% either VM is first as often as the other.
-define(PAIRS_PER_START, 6).
%% What a start of both takes, and a pair besides its bursts: for the number of pairs only.
-define(START_MS, 400).
-define(PAIR_MORE_MS, 12).

%% Arguments: [--seed N] [--seconds N | --pairs N] BUILD BUILD [ROW ...]. BUILD is three
%% arguments: its name, the directory of the library's modules, and that of the driver's.
-spec main([string()]) -> no_return().
main(Args) ->
    #{builds := Builds, rows := Rows, seed := Seed} = Options = options(Args, #{seed => 1, seconds => 10}),
    [io:format("~s: ~ts~n", [Label, Name]) || #{label := Label, name := Name} <- Builds],
    io:format("~b CPUs, OTP ~s, seed ~b~n~n", [
        erlang:system_info(logical_processors_available), erlang:system_info(otp_release), Seed
    ]),
    bench_table:ratio_header(),
    lists:foreach(
        fun(Row) -> bench_table:ratio(Row, estimate(Row, Builds, Options)) end,
        Rows
    ),
    halt(0).

options(["--seed", N | Rest], Acc) -> options(Rest, Acc#{seed := list_to_integer(N)});
options(["--seconds", N | Rest], Acc) -> options(Rest, Acc#{seconds := list_to_integer(N)});
options(["--pairs", N | Rest], Acc) -> options(Rest, Acc#{pairs => list_to_integer(N)});
options([NameA, EbinA, DriverA, NameB, EbinB, DriverB | Names], Acc) ->
    Acc#{
        builds => [
            #{label => "A", name => NameA, ebin => EbinA, driver => DriverA},
            #{label => "B", name => NameB, ebin => EbinB, driver => DriverB}
        ],
        rows => rows(Names)
    }.

rows([]) -> bench_row:all();
rows(Names) -> [row(Name) || Name <- Names].

row(Name) ->
    case bench_row:find(Name) of
        undefined ->
            Known = lists:join(" ", [N || #{name := N} <- bench_row:all()]),
            io:format(standard_error, "bench-pair: no row ~s; there are ~s~n", [Name, Known]),
            halt(2);
        Row ->
            Row
    end.

estimate(#{name := Name} = Row, Builds, #{seed := Seed} = Options) ->
    Orders = bench_ratio:orders(pairs(Row, Options), Seed),
    bench_ratio:estimate([start(Name, Builds, Some) || Some <- split(Orders)], Seed).

pairs(_Row, #{pairs := N}) ->
    N;
pairs(#{burst_ms := Ms}, #{seconds := Seconds}) ->
    max(1, 1000 * Seconds div (2 * Ms + ?PAIR_MORE_MS + ?START_MS div ?PAIRS_PER_START)).

split(Orders) when length(Orders) =< ?PAIRS_PER_START ->
    [Orders];
split(Orders) ->
    {Some, Rest} = lists:split(?PAIRS_PER_START, Orders),
    [Some | split(Rest)].

%% The pairs that one start of both builds gives.
start(Name, Builds, Orders) ->
    Sides = [bench_side:start(Build, Name) || Build <- Builds],
    lists:foreach(fun bench_side:ready/1, Sides),
    Pairs = [pair(Order, Sides) || Order <- Orders],
    lists:foreach(fun bench_side:stop/1, Sides),
    Pairs.

pair(ab, [A, B]) ->
    FigureA = bench_side:burst(A),
    {FigureA, bench_side:burst(B)};
pair(ba, [A, B]) ->
    FigureB = bench_side:burst(B),
    {bench_side:burst(A), FigureB}.
