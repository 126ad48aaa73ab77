%% SPDX-License-Identifier: Apache-2.0

%% @private What py:call(math, sqrt, [16]) costs: one caller, warm, in both modes, and
%% the same through a port to a resident Python.
%%
%% A host may move the CPUs of a virtual machine between near and far placements, so
%% each round measures the floor and everything else one after the other, and ratios
%% are taken within a round.
-module(bench_latency).

-export([run/1]).

-define(SAMPLES, 200000).
-define(PORT_SAMPLES, 5000).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1),
    Modes = bench_app:modes(),
    Rounds = [bench_round(Modes ++ [port]) || _ <- lists:seq(1, N)],
    Floors = [F || #{floor := #{total := F}} <- Rounds],
    floors(Rounds, Floors) ++
        lists:append([mode(M, Rounds, Floors) || M <- Modes ++ [port]]) ++
        [ratio("latency owngil / worker", [{O, W} || #{owngil := {O, _, _}, worker := {W, _, _}} <- Rounds])
         || lists:member(owngil, Modes)] ++
        [ratio("latency port / worker", [{P, W} || #{port := {P, _, _}, worker := {W, _, _}} <- Rounds])].

bench_round(Modes) ->
    Clock = bench_floor:clock(),
    Floor = bench_floor:call(),
    Measured = maps:from_list([{M, measure_mode(M, Clock)} || M <- Modes]),
    Measured#{floor => Floor}.

measure_mode(port, Clock) ->
    measure_port(Clock);
measure_mode(Mode, Clock) ->
    ok = bench_app:start(Mode, 1),
    Call = fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end,
    _ = bench_result:samples(Call, ?SAMPLES),
    Figures = figures(bench_result:samples(Call, ?SAMPLES), Clock),
    ok = bench_app:check(),
    Figures.

measure_port(Clock) ->
    Port = bench_port:open(),
    Call = fun() -> {ok, 4.0} = bench_port:call(Port, math, sqrt, [16]) end,
    _ = bench_result:samples(Call, ?PORT_SAMPLES),
    Figures = figures(bench_result:samples(Call, ?PORT_SAMPLES), Clock),
    true = port_close(Port),
    Figures.

figures(Samples, Clock) ->
    Sorted = [bench_result:nanoseconds(S) - Clock || S <- lists:sort(Samples)],
    Tuple = list_to_tuple(Sorted),
    {bench_result:percentile(Tuple, 50), bench_result:percentile(Tuple, 99),
        bench_result:quantiles(Sorted)}.

floors(Rounds, Floors) ->
    Part = fun(Key) -> [maps:get(Key, F) || #{floor := F} <- Rounds] end,
    [
        bench_result:new("latency", "floor empty NIF", ns, Part(empty)),
        bench_result:new("latency", "floor cache line there and back", ns, Part(line)),
        bench_result:new("latency", "floor Python call", ns, Part(python)),
        bench_result:new("latency", "floor of a call", ns, Floors)
    ].

mode(Mode, Rounds, Floors) ->
    Name = atom_to_list(Mode),
    Figures = [maps:get(Mode, R) || R <- Rounds],
    Quantiles = middle([{M, Q} || {M, _, Q} <- Figures]),
    [
        bench_result:new("latency", "latency " ++ Name ++ " median", ns, [M || {M, _, _} <- Figures],
            #{floors => Floors, quantiles => Quantiles}),
        bench_result:new("latency", "latency " ++ Name ++ " p99", ns, [P || {_, P, _} <- Figures],
            #{floors => Floors})
    ].

%% The quantiles of the round in the middle.
middle(Pairs) ->
    {_, Quantiles} = lists:nth((length(Pairs) + 1) div 2, lists:keysort(1, Pairs)),
    Quantiles.

ratio(Name, Pairs) ->
    bench_result:new("latency", Name, x, [A / B || {A, B} <- Pairs]).
