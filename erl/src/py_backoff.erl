%% SPDX-License-Identifier: Apache-2.0

%% @private How long to wait before the next try of something that failed: not at all a
%% number of times, then a least time, then twice that each time, up to a most. A quarter
%% more or less, by chance, so that many who failed together do not try together.
-module(py_backoff).

-export([new/3, next/1, reset/1]).

-export_type([backoff/0]).

-record(backoff, {
    burst :: non_neg_integer(),
    min :: pos_integer(),
    max :: pos_integer(),
    left :: non_neg_integer(),
    ms :: pos_integer()
}).

-opaque backoff() :: #backoff{}.

%% @doc With the number of tries at once, and the least and the most in milliseconds.
-spec new(non_neg_integer(), pos_integer(), pos_integer()) -> backoff().
new(Burst, Min, Max) ->
    #backoff{burst = Burst, min = Min, max = Max, left = Burst, ms = Min}.

%% @doc After a failure.
-spec next(backoff()) -> {Ms :: non_neg_integer(), backoff()}.
next(Backoff = #backoff{left = Left}) when Left > 0 ->
    {0, Backoff#backoff{left = Left - 1}};
next(Backoff = #backoff{ms = Ms, max = Max}) ->
    Quarter = Ms div 4,
    {Ms - Quarter + rand:uniform(2 * Quarter + 1) - 1, Backoff#backoff{ms = min(2 * Ms, Max)}}.

%% @doc After a success.
-spec reset(backoff()) -> backoff().
reset(#backoff{burst = Burst, min = Min, max = Max}) ->
    new(Burst, Min, Max).
