%% SPDX-License-Identifier: Apache-2.0

%% What make bench-pair makes of its figures. All chance comes from seeds.
-module(bench_ratio_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

all() ->
    [
        takes_the_middle_ratio,
        takes_the_inverse_if_the_builds_change_places,
        cancels_what_drifts_from_pair_to_pair,
        hardly_notices_what_hits_one_burst,
        leaves_out_pairs_without_a_figure,
        lets_either_build_be_first_equally_often,
        draws_the_order_from_the_seed,
        draws_the_interval_from_the_seed,
        is_sure_of_ratios_that_agree,
        is_surer_of_more_pairs,
        is_less_sure_if_the_starts_disagree,
        covers_the_truth_in_95_of_100_cases,
        calls_a_build_faster_by_what_its_figure_means,
        calls_no_build_faster_after_few_starts,
        has_one_row_of_each_name
    ].

takes_the_middle_ratio(_Config) ->
    ?assertEqual(7.0, bench_ratio:median([7])),
    ?assertEqual(2.0, bench_ratio:median([9.0, 1.0, 2.0])),
    ?assertEqual(4.0, bench_ratio:median([100.0, 2.0, 8.0, 1.0])),
    ?assertEqual([2.0, 0.5], bench_ratio:ratios([{10, 20}, {20, 10}])),
    ?assertMatch(#{ratio := 2.0, a := 10.0, b := 20.0}, bench_ratio:estimate([[{10, 20}], [{10, 20}, {30, 20}]], 1)).

takes_the_inverse_if_the_builds_change_places(_Config) ->
    Starts = starts(6, 4, 1.2, 0.05, 0.1, 11),
    #{ratio := There} = bench_ratio:estimate(Starts, 1),
    #{ratio := Back} = bench_ratio:estimate([[{B, A} || {A, B} <- Pairs] || Pairs <- Starts], 1),
    ?assert(abs(There * Back - 1) < 1.0e-12).

cancels_what_drifts_from_pair_to_pair(_Config) ->
    Starts = [[{S, S * 1.25}, {10 * S, 12.5 * S}] || S <- [1000.0, 1.0, 31.0, 500.0]],
    ?assertMatch(#{ratio := 1.25, low := 1.25, high := 1.25}, bench_ratio:estimate(Starts, 1)).

hardly_notices_what_hits_one_burst(_Config) ->
    Quiet = [{100, 100 + I} || I <- lists:seq(1, 9)],
    #{ratio := Ratio} = bench_ratio:estimate([Quiet, Quiet], 1),
    #{ratio := Hit} = bench_ratio:estimate([Quiet, [{1, 100} | tl(Quiet)]], 1),
    ?assert(abs(Hit - Ratio) =< 0.01).

leaves_out_pairs_without_a_figure(_Config) ->
    Starts = [[{10, 20}, {0.0, 5}, {5, 0.0}], [{0.0, 0.0}], [{10, 20}]],
    ?assertMatch(#{pairs := 2, void := 3, ratio := 2.0, low := 2.0, high := 2.0}, bench_ratio:estimate(Starts, 1)).

lets_either_build_be_first_equally_often(_Config) ->
    Orders = bench_ratio:orders(100, 3),
    ?assertEqual(50, length([O || O <- Orders, O =:= ab])),
    ?assertEqual(50, length([O || O <- Orders, O =:= ba])),
    %% Also within a few pairs, and not in turns only.
    ?assert(lists:all(fun([First, Second]) -> First =/= Second end, twos(Orders))),
    ?assertEqual([[ab, ba], [ba, ab]], lists:usort(twos(Orders))),
    ?assertEqual(7, length(bench_ratio:orders(7, 3))).

draws_the_order_from_the_seed(_Config) ->
    ?assertEqual(bench_ratio:orders(40, 5), bench_ratio:orders(40, 5)),
    ?assertNotEqual(bench_ratio:orders(40, 5), bench_ratio:orders(40, 6)).

draws_the_interval_from_the_seed(_Config) ->
    Starts = starts(8, 6, 1.0, 0.02, 0.1, 21),
    ?assertEqual(bench_ratio:estimate(Starts, 5), bench_ratio:estimate(Starts, 5)),
    ?assertNotEqual(bench_ratio:estimate(Starts, 5), bench_ratio:estimate(Starts, 6)).

is_sure_of_ratios_that_agree(_Config) ->
    ?assertEqual({1.5, 1.5}, bench_ratio:interval([[1.5, 1.5], [1.5]], 1)).

is_surer_of_more_pairs(_Config) ->
    #{ratio := Ratio, low := Low, high := High, half_width := Few} =
        bench_ratio:estimate(starts(5, 4, 1.0, 0.0, 0.1, 31), 1),
    #{half_width := Many} = bench_ratio:estimate(starts(45, 4, 1.0, 0.0, 0.1, 31), 1),
    ?assert(Low =< Ratio andalso Ratio =< High),
    ?assertEqual(Few, (High - Low) / 2),
    %% A third, if chance were kind.
    ?assert(Many < Few / 2).

is_less_sure_if_the_starts_disagree(_Config) ->
    Groups = [[R || _ <- lists:seq(1, 10)] || R <- [0.9, 0.95, 1.0, 1.05, 1.1]],
    Mixed = [[0.9, 0.9, 0.95, 0.95, 1.0, 1.0, 1.05, 1.05, 1.1, 1.1] || _ <- lists:seq(1, 5)],
    {LowApart, HighApart} = bench_ratio:interval(Groups, 1),
    {LowMixed, HighMixed} = bench_ratio:interval(Mixed, 1),
    ?assert(HighApart - LowApart > 1.5 * (HighMixed - LowMixed)).

%% 100 measurements of builds that differ by 3 %, where a start of either is worth 2 % and a
%% burst 8 %. At most as wrong as it says, but not twice as unsure as it had to be either.
covers_the_truth_in_95_of_100_cases(_Config) ->
    Estimates = [bench_ratio:estimate(starts(9, 6, 1.03, 0.02, 0.08, Seed), Seed) || Seed <- lists:seq(1, 100)],
    Covered = length([hit || #{low := Low, high := High} <- Estimates, Low =< 1.03, High >= 1.03]),
    ?assert(Covered >= 93),
    Ratios = lists:sort([R || #{ratio := R} <- Estimates]),
    Needed = (lists:nth(97, Ratios) - lists:nth(4, Ratios)) / 2,
    Said = bench_ratio:median([H || #{half_width := H} <- Estimates]),
    ct:log("covered ~b of 100; half-width needed ~.4f, said ~.4f", [Covered, Needed, Said]),
    ?assert(Said < 2 * Needed).

calls_a_build_faster_by_what_its_figure_means(_Config) ->
    Above = estimate(1.01, 1.05),
    Below = estimate(0.95, 0.99),
    Around = estimate(0.99, 1.01),
    ?assertEqual(better, bench_ratio:verdict(Above, high)),
    ?assertEqual(worse, bench_ratio:verdict(Below, high)),
    ?assertEqual(worse, bench_ratio:verdict(Above, low)),
    ?assertEqual(better, bench_ratio:verdict(Below, low)),
    ?assertEqual([same, same], [bench_ratio:verdict(Around, Better) || Better <- [high, low]]).

calls_no_build_faster_after_few_starts(_Config) ->
    Start = [{1, 2} || _ <- lists:seq(1, 6)],
    Verdict = fun(N) -> bench_ratio:verdict(bench_ratio:estimate(lists:duplicate(N, Start), 1), high) end,
    ?assertEqual([unsure, unsure, better], [Verdict(N) || N <- [1, 2, 3]]).

has_one_row_of_each_name(_Config) ->
    Names = [Name || #{name := Name} <- bench_row:all()],
    ?assertEqual(length(Names), length(lists:usort(Names))),
    [?assertMatch(#{name := Name}, bench_row:find(Name)) || Name <- Names],
    ?assertEqual(undefined, bench_row:find("none")).

%% --- figures with a known truth ---------------------------------------------------------

%% Pairs of so many starts. The machine drifts by up to a tenth from pair to pair; the ratio
%% is Ratio but for what the start is worth, and what each burst is.
starts(N, Pairs, Ratio, PerStart, PerBurst, Seed) ->
    {Starts, _} = lists:mapfoldl(
        fun(_, State) ->
            {Luck, Next} = rand:normal_s(State),
            lists:mapfoldl(
                fun(_, S0) ->
                    {Drift, S1} = rand:uniform_s(S0),
                    {Noise, S2} = rand:normal_s(S1),
                    A = 1.0e6 * (1 + Drift / 10),
                    {{A, A * Ratio * math:exp(PerStart * Luck + PerBurst * Noise)}, S2}
                end,
                Next,
                lists:seq(1, Pairs)
            )
        end,
        rand:seed_s(exsss, Seed),
        lists:seq(1, N)
    ),
    Starts.

estimate(Low, High) ->
    #{a => 1.0, b => 1.0, ratio => (Low + High) / 2, low => Low, high => High,
        half_width => (High - Low) / 2, starts => 3, pairs => 18, void => 0}.

twos([A, B | Rest]) -> [[A, B] | twos(Rest)];
twos([]) -> [].
