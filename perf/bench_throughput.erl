%% SPDX-License-Identifier: Apache-2.0

%% @private Calls per second of many callers: on one context, on one worker process per
%% CPU, the same under the default limit, and through one port per CPU.
-module(bench_throughput).

-export([run/1]).

-define(CALLERS, [1, 8, 64, 256, 1000]).
-define(QUEUING, [64, 1000]).
-define(MS, 500).
-define(WARM_MS, 200).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    Watcher = spawn_link(fun() -> watch(0) end),
    Cpus = erlang:system_info(logical_processors_available),
    Floors = [maps:get(total, bench_floor:call()) || _ <- lists:seq(1, N)],
    %% The default: most of these callers wait for their turn.
    Limit = #{max_concurrent => default},
    Ours =
        ours(1, #{}, "one context", ?CALLERS, N) ++
            ours(Cpus, #{}, "one worker per CPU", ?CALLERS, N) ++
            ours(Cpus, Limit, "default max_concurrent", ?QUEUING, N),
    %% The system may take the CPU from a scheduler, too, so this need not be a NIF's doing.
    Long = long(Watcher),
    [bench_result:new("throughput", "throughput floor of a call", ns, Floors)] ++
        Ours ++
        ports(Cpus, N) ++
        [bench_result:new("throughput", "schedulers held over 5 ms", times, [Long])].

ours(Contexts, More, Name, Callers, N) ->
    ok = bench_app:start(worker, Contexts, More),
    Call = fun(_I) -> fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end end,
    Results = series(Name, Call, Callers, N),
    ok = bench_app:check(),
    Results.

ports(Cpus, N) ->
    Servers = list_to_tuple([bench_port:start() || _ <- lists:seq(1, Cpus)]),
    Call = fun(I) ->
        Server = element(I rem Cpus + 1, Servers),
        fun() -> {ok, 4.0} = bench_port:call_server(Server, math, sqrt, [16]) end
    end,
    Results = series("one port per CPU", Call, ?CALLERS, N),
    lists:foreach(fun bench_port:stop/1, tuple_to_list(Servers)),
    Results.

%% Rounds are outermost: a slow moment hits every number of callers, not one.
series(Name, Call, All, N) ->
    _ = measure(Call, 8, ?WARM_MS),
    Rounds = [[{C, measure(Call, C, ?MS)} || C <- All] || _ <- lists:seq(1, N)],
    [
        begin
            Figures = [proplists:get_value(Callers, R) || R <- Rounds],
            bench_result:new(
                "throughput",
                lists:flatten(io_lib:format("throughput ~s, ~b callers", [Name, Callers])),
                'calls/s',
                [Rate || {Rate, _} <- Figures],
                #{
                    callers => Callers,
                    series => list_to_binary(Name),
                    fairness => bench_result:median([F || {_, F} <- Figures]),
                    fairness_low => lists:min([F || {_, F} <- Figures])
                }
            )
        end
     || Callers <- All
    ].

%% Calls per second, and what the slowest caller got as a fraction of the mean.
measure(Call, N, Ms) ->
    Callers = bench_callers:start(N, Call),
    {ok, Counts, Ns} = bench_callers:burst(Callers, 0, fun() ->
        receive
        after Ms -> ok
        end
    end),
    ok = bench_callers:stop(Callers),
    Total = lists:sum(Counts),
    {Total / Ns * 1.0e9, lists:min(Counts) * N / max(1, Total)}.

%% Counts the times that something kept a scheduler for more than 5 ms.
watch(Count) ->
    _ = erlang:system_monitor(self(), [{long_schedule, 5}]),
    receive
        {monitor, _, long_schedule, _Info} -> watch(Count + 1);
        {long, From} -> From ! {long, Count}
    end.

long(Watcher) ->
    Watcher ! {long, self()},
    receive
        {long, Count} -> Count
    end.
