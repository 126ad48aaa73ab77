%% SPDX-License-Identifier: Apache-2.0

%% @private What others notice of the library: unrelated processes while it is busy, the
%% machine when it has nothing to do, and the first caller after that.
-module(bench_quiet).

-export([run/1]).

-define(HAMMERS, 8).
-define(PING_MS, 500).
-define(IDLE_MS, 4000).
-define(REST_MS, 10000).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, erlang:system_info(logical_processors_available)),
    Pings = [{ping([]), ping(spinners()), ping(callers())} || _ <- lists:seq(1, N)],
    Idle = [idle_after_load() || _ <- lists:seq(1, min(N, 3))],
    First = first_calls(N),
    ok = bench_app:check(),
    pings(Pings) ++
        [bench_result:new("quiet", "idle after load, CPU", '%', Idle)] ++
        first(First).

%% --- an unrelated ping-pong

%% Median and p99 of the round trips between two processes, in us.
ping(Hammers) ->
    Pids = [spawn_link(H) || H <- Hammers],
    Trips = list_to_tuple(bench_ping:trips(?PING_MS)),
    lists:foreach(fun stop/1, Pids),
    {us(bench_result:percentile(Trips, 50)), us(bench_result:percentile(Trips, 99))}.

us(Native) -> bench_result:nanoseconds(Native) / 1000.

callers() -> lists:duplicate(?HAMMERS, fun hammer/0).

hammer() ->
    {ok, 4.0} = py:call(math, sqrt, [16]),
    hammer().

%% What the VM does to a ping-pong by itself, when as many processes compute.
spinners() -> lists:duplicate(?HAMMERS, fun spinner/0).

spinner() ->
    _ = lists:sum(lists:seq(1, 10)),
    spinner().

stop(Pid) ->
    true = unlink(Pid),
    Ref = monitor(process, Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Ref, process, Pid, _} -> ok
    end.

pings(Pings) ->
    Alone = [P99 || {{_, P99}, _, _} <- Pings],
    Busy = [P99 || {_, {_, P99}, _} <- Pings],
    [
        bench_result:new("quiet", "ping-pong alone p99", us, Alone),
        bench_result:new("quiet", "ping-pong beside 8 busy Erlang processes p99", us, Busy),
        bench_result:new("quiet", "ping-pong beside 8 callers median", us,
            [M || {_, _, {M, _}} <- Pings]),
        bench_result:new("quiet", "ping-pong beside 8 callers p99", us,
            [P99 || {_, _, {_, P99}} <- Pings], #{floors => Alone})
    ].

%% --- idle after load

%% CPU time of the VM, the launcher and the workers from one second after the load on,
%% in per cent of one CPU.
idle_after_load() ->
    _ = ping(callers()),
    timer:sleep(1000),
    Pids = [list_to_integer(P) || P <- bench_app:os_pids()],
    T0 = erlang:monotonic_time(),
    Before = cpu_ns(Pids),
    timer:sleep(?IDLE_MS),
    After = cpu_ns(Pids),
    100.0 * (After - Before) / bench_result:nanoseconds(erlang:monotonic_time() - T0).

%% No worker comes or goes meanwhile.
cpu_ns(Pids) ->
    lists:sum([cpu_nif:process_ns(P) || P <- Pids]).

%% --- the first call after a rest

%% Floor and call rest equally long. Each is first as often as the other, for whoever
%% comes second finds a machine that is awake.
first_calls(N) ->
    Floor = open_port({spawn_executable, bench_machine:perf_file("floor_wake")}, [
        {args, ["asked"]}, {line, 100}
    ]),
    _ = py:call(math, sqrt, [16]),
    Figures = [first_call(Floor, I) || I <- lists:seq(1, N)],
    true = port_close(Floor),
    Figures.

first_call(Floor, I) when I rem 2 =:= 0 ->
    timer:sleep(?REST_MS),
    Wake = bare_wake(Floor),
    {Wake, one_call()};
first_call(Floor, _I) ->
    timer:sleep(?REST_MS),
    Call = one_call(),
    {bare_wake(Floor), Call}.

bare_wake(Floor) ->
    true = port_command(Floor, "go\n"),
    receive
        {Floor, {data, {eol, Text}}} -> list_to_float(Text) / 1000
    end.

one_call() ->
    [Sample] = bench_result:samples(fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end, 1),
    us(Sample).

first(Figures) ->
    Wakes = [W || {W, _} <- Figures],
    Warm = bench_floor:program("floor_wake"),
    [
        bench_result:new("quiet", Name, us, [maps:get(Key, Warm) / 1000])
     || {Name, Key} <- [
            {"bare futex round trip, warm", "futex"},
            {"bare eventfd round trip, warm", "eventfd"},
            {"bare futex there, eventfd back, warm", "mixed"}
        ]
    ] ++ [
        bench_result:new("quiet", "two bare wake-ups after 10 s", us, Wakes),
        bench_result:new("quiet", "first call after 10 s", us, [C || {_, C} <- Figures],
            #{floors => Wakes})
    ].
