%% SPDX-License-Identifier: Apache-2.0

%% @private What the VM's side of a conversion cannot avoid: making the terms.
-module(floor_nif).

-export([ints/1, map/1]).

-on_load(load/0).

load() ->
    erlang:load_nif(bench_machine:perf_file("floor_nif"), 0).

%% @doc Nanoseconds to make the list 1..N.
-spec ints(pos_integer()) -> float().
ints(_N) ->
    erlang:nif_error(not_loaded).

%% @doc Nanoseconds to make a map of N short strings to integers.
-spec map(pos_integer()) -> float().
map(_N) ->
    erlang:nif_error(not_loaded).
