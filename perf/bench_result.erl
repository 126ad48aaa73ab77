%% SPDX-License-Identifier: Apache-2.0

%% @private One figure: its repetitions, their middle and spread, and the floor of
%% the same run.
-module(bench_result).

-export([new/4, new/5, median/1, percentile/2, quantiles/1, spread/1, find/2]).
-export([samples/2, nanoseconds/1]).

-export_type([result/0]).

-type result() :: #{atom() => term()}.

%% What the report draws a distribution from, in per cent.
-define(QUANTILES, [0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9]).

-spec new(string(), string(), atom(), [number()]) -> result().
new(Section, Name, Unit, Values) ->
    new(Section, Name, Unit, Values, #{}).

%% `More' may hold floors, a list as long as Values: the floor of each repetition.
%% Ratios are taken within a repetition, then the middle one counts.
-spec new(string(), string(), atom(), [number()], map()) -> result().
new(Section, Name, Unit, Values, More) ->
    Base = #{
        section => list_to_binary(Section),
        name => list_to_binary(Name),
        unit => Unit,
        values => Values,
        median => median(Values),
        low => lists:min(Values),
        high => lists:max(Values),
        spread => spread(Values)
    },
    maps:merge(Base, floor_of(Values, More)).

floor_of(Values, #{floors := Floors} = More) ->
    More#{
        floor => median(Floors),
        ratio => median([V / F || {V, F} <- lists:zip(Values, Floors)])
    };
floor_of(_Values, More) ->
    More.

-spec median([number()]) -> float().
median(Values) ->
    percentile(lists:sort(Values), 50).

%% @doc Of a sorted list, or a sorted tuple where several are asked for.
-spec percentile([number()] | tuple(), number()) -> float().
percentile(Sorted, P) when is_list(Sorted) ->
    percentile(list_to_tuple(Sorted), P);
percentile(Sorted, P) ->
    Size = tuple_size(Sorted),
    Index = ceil(Size * P / 100),
    float(element(max(1, min(Size, Index)), Sorted)).

-spec quantiles([number()]) -> [[number()]].
quantiles(Sorted) ->
    Tuple = list_to_tuple(Sorted),
    [[P, percentile(Tuple, P)] || P <- ?QUANTILES].

%% @doc How far the repetitions lie from their middle, as a fraction of it.
-spec spread([number()]) -> float().
spread(Values) ->
    Median = median(Values),
    case Median == 0 of
        true -> 0.0;
        false -> lists:max([abs(V - Median) || V <- Values]) / abs(Median)
    end.

-spec find(string(), [result()]) -> result() | undefined.
find(Name, Results) ->
    Key = list_to_binary(Name),
    case [R || #{name := N} = R <- Results, N =:= Key] of
        [Result | _] -> Result;
        [] -> undefined
    end.

%% @doc N calls, timed one by one, in native units.
-spec samples(fun(() -> term()), non_neg_integer()) -> [integer()].
samples(_Fun, 0) ->
    [];
samples(Fun, N) ->
    T0 = erlang:monotonic_time(),
    _ = Fun(),
    T1 = erlang:monotonic_time(),
    [T1 - T0 | samples(Fun, N - 1)].

-spec nanoseconds(number()) -> float().
nanoseconds(Native) ->
    Native * 1.0e9 / erlang:convert_time_unit(1, second, native).
