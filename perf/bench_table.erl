%% SPDX-License-Identifier: Apache-2.0

%% @private The results for a human.
-module(bench_table).

-export([results/2, bars/1, ratio_header/0, ratio/2]).

-spec results(string(), [bench_result:result()]) -> ok.
results(Section, Results) ->
    io:format("~n~-54s ~12s ~12s ~12s ~7s ~10s ~7s~n", [
        Section, "median", "lowest", "highest", "spread", "floor", "ratio"
    ]),
    lists:foreach(fun row/1, Results).

row(#{name := Name, unit := Unit, median := Median, low := Low, high := High} = Result) ->
    io:format("~-54s ~12s ~12s ~12s ~s ~10s ~7s~s~n", [
        [Name, ", ", atom_to_list(Unit)], number(Median), number(Low), number(High),
        spread(maps:get(spread, Result)), optional(floor, Result), optional(ratio, Result),
        fairness(Result)
    ]).

spread(Spread) when Spread < 10 -> io_lib:format("~6.1f%", [100.0 * Spread]);
spread(_) -> "> 1000%".

fairness(#{fairness := F, fairness_low := Low}) ->
    io_lib:format("  slowest/mean ~.2f (worst ~.2f)", [F, Low]);
fairness(_) ->
    "".

optional(Key, Result) ->
    case Result of
        #{Key := Value} -> number(Value);
        _ -> "-"
    end.

-spec bars([bench_bars:bar()]) -> ok.
bars(Bars) ->
    io:format("~nwhat it has to reach~n"),
    lists:foreach(fun bar/1, [B || #{met := Met} = B <- Bars, Met =/= null]).

bar(#{text := Text, value := Value, 'when' := When, limit := Limit, met := Met}) ->
    io:format("~-8s ~-52s ~12s  ~s ~s~n", [
        verdict(Met), Text, number(Value), words(When), number(Limit)
    ]).

-spec ratio_header() -> ok.
ratio_header() ->
    io:format("~-15s ~-40s ~10s ~10s ~-7s  ~6s ~-5s  ~-16s ~8s ~5s  ~s~n", [
        "row", "", "A", "B", "", "B / A", "good", "95 % interval", "+/-", "pairs", "B is"
    ]).

%% @doc What two builds make of a row.
-spec ratio(bench_row:row(), bench_ratio:estimate()) -> ok.
ratio(#{name := Name, text := Text, unit := Unit, better := Better}, Estimate) ->
    #{a := A, b := B, ratio := Ratio, low := Low, high := High, half_width := Half} = Estimate,
    #{pairs := Pairs, void := Void} = Estimate,
    io:format("~-15s ~-40s ~10s ~10s ~-7s  ~6.3f ~-5s  ~.3f to ~-8.3f ~6.1f % ~5b  ~s~s~n", [
        Name, Text, number(A), number(B), Unit, Ratio, good(Better), Low, High, 100 * Half, Pairs,
        compared(bench_ratio:verdict(Estimate, Better)),
        [io_lib:format("; ~b pairs had no call", [Void]) || Void > 0]
    ]).

good(high) -> "> 1";
good(low) -> "< 1".

compared(better) -> "faster";
compared(worse) -> "slower";
compared(same) -> "no different";
compared(unsure) -> "of too few pairs to tell".

verdict(true) -> "met";
verdict(false) -> "NOT MET".

words(at_most) -> "at most";
words(at_least) -> "at least".

number(N) when is_integer(N) -> integer_to_list(N);
number(N) when abs(N) >= 10000 -> integer_to_list(round(N));
number(N) when abs(N) >= 100 -> float_to_list(float(N), [{decimals, 1}]);
number(N) when abs(N) >= 1 -> float_to_list(float(N), [{decimals, 2}]);
number(N) -> float_to_list(float(N), [{decimals, 3}]).
