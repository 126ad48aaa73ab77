%% SPDX-License-Identifier: Apache-2.0

%% @private What pairs of figures, each taken one right after the other, say about the
%% ratio of their sources: the median of the ratios within the pairs, and how sure it is.
%%
%% What drifts from pair to pair - a clock, a neighbour on the host - is in both figures
%% of a pair and cancels. What hits one burst alone moves one ratio, and a median hardly.
%% What lasts from the start of a process to its end does not cancel, so the pairs come
%% from several starts, and the interval knows which pairs had one in common.
-module(bench_ratio).

-export([orders/2, ratios/1, median/1, interval/2, estimate/2, verdict/2]).

-export_type([order/0, pair/0, estimate/0, better/0, verdict/0]).

-type order() :: ab | ba.
-type pair() :: {A :: number(), B :: number()}.
-type better() :: high | low.
-type verdict() :: better | worse | same | unsure.
%% `a' and `b' are the medians of either side; `void' pairs lack a figure and do not count.
-type estimate() :: #{
    a := float(),
    b := float(),
    ratio := float(),
    low := float(),
    high := float(),
    half_width := float(),
    starts := pos_integer(),
    pairs := pos_integer(),
    void := non_neg_integer()
}.

-define(RESAMPLES, 2000).
%% Of 6 pairs each, with which 95 of 100 intervals hold the truth; with those of one start
%% 91 do, and with two pairs half of them (as in bench_ratio_SUITE).
-define(MIN_STARTS, 3).
%% The middle 95 of 100 medians.
-define(LOW, 0.025).
-define(HIGH, 0.975).

%% @doc Who comes first in each of N pairs. Of two neighbouring pairs one has either
%% order, so that what the second of a pair meets, each meets equally often; which of
%% them comes first is drawn, so that nothing periodic can follow.
-spec orders(non_neg_integer(), integer()) -> [order()].
orders(N, Seed) ->
    {Twos, _} = lists:mapfoldl(
        fun(_, State) ->
            {Coin, Next} = rand:uniform_s(2, State),
            {lists:nth(Coin, [[ab, ba], [ba, ab]]), Next}
        end,
        rand:seed_s(exsss, Seed),
        lists:seq(1, (N + 1) div 2)
    ),
    lists:sublist(lists:append(Twos), N).

%% @doc B over A of each pair in which both have a figure.
-spec ratios([pair()]) -> [float()].
ratios(Pairs) ->
    [B / A || {A, B} <- Pairs, A > 0, B > 0].

%% @doc Of an even number, the geometric mean of the two in the middle: so that the
%% median of A over B is the inverse of that of B over A.
-spec median([number(), ...]) -> float().
median(Values) ->
    Sorted = lists:sort(Values),
    Size = length(Sorted),
    case {Size rem 2, lists:nthtail((Size - 1) div 2, Sorted)} of
        {1, [Middle | _]} -> float(Middle);
        {0, [Below, Above | _]} -> math:sqrt(Below * Above)
    end.

%% @doc Percentile bootstrap of the median of ratios that lie in groups, one of each start:
%% where it lies in 95 of 100 cases if as many groups are drawn from these with replacement,
%% and as many ratios from each of them. Ratios of one group resemble each other, so fewer
%% of them than there are say something new; drawn without regard to groups, they would
%% promise more than they hold.
-spec interval([[float(), ...], ...], integer()) -> {Low :: float(), High :: float()}.
interval(Groups, Seed) ->
    Tuples = list_to_tuple([list_to_tuple(G) || G <- Groups]),
    {Medians, _} = lists:mapfoldl(
        fun(_, State) ->
            {Drawn, Next} = draw_groups(tuple_size(Tuples), Tuples, State, []),
            {median(Drawn), Next}
        end,
        rand:seed_s(exsss, Seed),
        lists:seq(1, ?RESAMPLES)
    ),
    Sorted = lists:sort(Medians),
    {quantile(Sorted, ?LOW), quantile(Sorted, ?HIGH)}.

%% @doc Of the pairs of each start.
-spec estimate([[pair()]], integer()) -> estimate().
estimate(Starts, Seed) ->
    Pairs = lists:append(Starts),
    Groups = [Ratios || Ratios <- lists:map(fun ratios/1, Starts), Ratios =/= []],
    Ratios = lists:append(Groups),
    {Low, High} = interval(Groups, Seed),
    #{
        a => median([A || {A, _} <- Pairs]),
        b => median([B || {_, B} <- Pairs]),
        ratio => median(Ratios),
        low => Low,
        high => High,
        half_width => (High - Low) / 2,
        starts => length(Groups),
        pairs => length(Ratios),
        void => length(Pairs) - length(Ratios)
    }.

%% @doc What B is, compared with A, where high or low figures are better.
-spec verdict(estimate(), better()) -> verdict().
verdict(#{starts := N}, _) when N < ?MIN_STARTS -> unsure;
verdict(#{low := Low, high := High}, _) when Low =< 1.0, High >= 1.0 -> same;
verdict(#{low := Low}, high) when Low > 1.0 -> better;
verdict(#{high := High}, low) when High < 1.0 -> better;
verdict(_, _) -> worse.

draw_groups(0, _Groups, State, Acc) ->
    {Acc, State};
draw_groups(N, Groups, State, Acc) ->
    {I, Next} = rand:uniform_s(tuple_size(Groups), State),
    Group = element(I, Groups),
    {Drawn, Last} = draw(tuple_size(Group), Group, Next, Acc),
    draw_groups(N - 1, Groups, Last, Drawn).

draw(0, _Ratios, State, Acc) ->
    {Acc, State};
draw(N, Ratios, State, Acc) ->
    {I, Next} = rand:uniform_s(tuple_size(Ratios), State),
    draw(N - 1, Ratios, Next, [element(I, Ratios) | Acc]).

quantile(Sorted, Q) ->
    lists:nth(min(length(Sorted), trunc(length(Sorted) * Q) + 1), Sorted).
