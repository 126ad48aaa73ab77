#!/usr/bin/env escript
%% SPDX-License-Identifier: Apache-2.0
%%! +sbwt none +K true
%%
%% What py:call(math, sqrt, [16]) costs, one caller, warm, in both modes, next to
%% its floor from the same run: an empty NIF call, a cache line to another process
%% and back, and the same Python call through the C API.
%%
%% A host may move the CPUs of a virtual machine between near and far placements, so
%% each round measures the floor and both modes one after the other, and ratios are
%% taken within a round.
%%
%% Usage: make bench-call
-mode(compile).

-define(SAMPLES, 200000).
-define(ROUNDS, 5).
-define(FORMAT, "~5b ~8.1f ~8.1f ~8.1f ~8.1f ~8.1f ~8.1f ~8.1f ~8.2f ~8.2f~n").

main(_) ->
    ok = application:load(erlang_python),
    %% What starts and stops between the rounds is not worth a line each.
    ok = logger:set_primary_config(level, warning),
    io:format("~s, ~b schedulers, OTP ~s; ns, medians of ~b calls; p99 behind each~n", [
        cpu(), erlang:system_info(schedulers), erlang:system_info(otp_release), ?SAMPLES
    ]),
    io:format("round     line   python    floor   worker      p99   owngil      p99  w/floor      o/w~n"),
    Rounds = [bench_round(I) || I <- lists:seq(1, ?ROUNDS)],
    verdict("worker / floor ", [Worker / Floor || {Floor, Worker, _} <- Rounds], 2.5),
    verdict("owngil / worker", [OwnGil / Worker || {_, Worker, OwnGil} <- Rounds, OwnGil > 0], 1.1),
    ok = application:stop(erlang_python).

%% The floor: an empty NIF call, a cache line there and back, the call through the C API.
bench_round(I) ->
    Perf = filename:absname("_build/cmake/perf"),
    Line = program(filename:join(Perf, "floor_line")),
    Python = program(filename:join(Perf, "floor_py")),
    Clock = clock(),
    Empty = median(samples(fun() -> py_nif:empty() end)) - Clock,
    Floor = Empty + Line + Python,
    {Worker, WorkerP99} = mode(worker, Clock),
    {OwnGil, OwnGilP99} =
        case py:subinterp_supported() of
            true -> mode(owngil, Clock);
            false -> {0.0, 0.0}
        end,
    io:format(?FORMAT, [
        I, Line, Python, Floor, Worker, WorkerP99, OwnGil, OwnGilP99, Worker / Floor, OwnGil / Worker
    ]),
    {Floor, Worker, OwnGil}.

mode(Mode, Clock) ->
    _ = application:stop(erlang_python),
    ok = application:set_env(erlang_python, num_contexts, 1),
    ok = application:set_env(erlang_python, context_mode, Mode),
    {ok, _} = application:ensure_all_started(erlang_python),
    Call = fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end,
    _ = samples(Call),
    Sorted = lists:sort(samples(Call)),
    0 = maps:get(lost_wake, py_nif:counters()),
    {median_sorted(Sorted) - Clock, percentile(Sorted, 99) - Clock}.

verdict(Name, [], _Bar) ->
    io:format("~s  needs Python 3.12~n", [Name]);
verdict(Name, Ratios, Bar) ->
    Sorted = lists:sort(Ratios),
    Met = length([R || R <- Sorted, R =< Bar]),
    io:format("~s  median ~.2f (~.2f to ~.2f), at most ~.1f in ~b of ~b rounds~n", [
        Name, median_sorted_raw(Sorted), hd(Sorted), lists:last(Sorted), Bar, Met, length(Sorted)
    ]).

median_sorted_raw(Sorted) -> lists:nth((length(Sorted) + 1) div 2, Sorted).

%% Single calls, timed one by one; what the clock itself takes is subtracted.
samples(Fun) ->
    [sample(Fun) || _ <- lists:seq(1, ?SAMPLES)].

sample(Fun) ->
    T0 = erlang:monotonic_time(),
    Fun(),
    erlang:monotonic_time() - T0.

clock() ->
    median(samples(fun() -> ok end)).

median(Samples) -> median_sorted(lists:sort(Samples)).

median_sorted(Sorted) -> percentile(Sorted, 50).

percentile(Sorted, P) ->
    Native = lists:nth(max(1, length(Sorted) * P div 100), Sorted),
    erlang:convert_time_unit(Native * 1000, native, nanosecond) / 1000.

program(Path) ->
    Port = open_port({spawn_executable, Path}, [exit_status, {line, 100}]),
    receive
        {Port, {data, {eol, Text}}} -> list_to_float(Text)
    after 60000 -> error({no_answer, Path})
    end.

cpu() ->
    {ok, Text} = file:read_file("/proc/cpuinfo"),
    case re:run(Text, "model name\\s*: (.*)", [{capture, [1], list}]) of
        {match, [Name]} -> Name;
        nomatch -> "unknown CPU"
    end.
