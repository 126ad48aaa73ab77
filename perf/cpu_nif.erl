%% SPDX-License-Identifier: Apache-2.0

%% @private The CPU time of a process of the system.
-module(cpu_nif).

-export([process_ns/1]).

-on_load(load/0).

load() ->
    erlang:load_nif(bench_machine:perf_file("cpu_nif"), 0).

%% @doc Nanoseconds that all threads of the process have computed; undefined: it is gone.
-spec process_ns(pos_integer()) -> non_neg_integer() | undefined.
process_ns(_OsPid) ->
    erlang:nif_error(not_loaded).
