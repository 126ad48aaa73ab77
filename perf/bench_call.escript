#!/usr/bin/env escript
%% SPDX-License-Identifier: Apache-2.0
%%! +sbwt none +K true
%%
%% What py:call(math, sqrt, [16]) costs, one caller, warm, in both modes, next to
%% its floor from the same run: an empty NIF call, a cache line to another process
%% and back, and the same Python call through the C API.
%%
%% Usage: make bench-call
-mode(compile).

-define(SAMPLES, 200000).
-define(ROUNDS, 5).

main(_) ->
    Perf = filename:absname("_build/cmake/perf"),
    Line = program(filename:join(Perf, "floor_line")),
    Python = program(filename:join(Perf, "floor_py")),
    ok = application:load(erlang_python),
    Clock = clock(),
    Empty = median(samples(fun() -> py_nif:empty() end)) - Clock,
    Floor = Empty + Line + Python,
    io:format("machine          ~s, ~b schedulers, OTP ~s~n", [
        cpu(), erlang:system_info(schedulers), erlang:system_info(otp_release)
    ]),
    io:format("empty NIF call   ~8.1f ns~n", [Empty]),
    io:format("cache line       ~8.1f ns there and back~n", [Line]),
    io:format("Python           ~8.1f ns math.sqrt(16) through the C API~n", [Python]),
    io:format("floor            ~8.1f ns~n~n", [Floor]),
    Worker = mode(worker, Clock, Floor),
    case py:subinterp_supported() of
        true ->
            OwnGil = mode(owngil, Clock, Floor),
            io:format("owngil / worker  ~8.2f (must be at most 1.1)~n", [OwnGil / Worker]);
        false ->
            io:format("owngil           needs Python 3.12~n")
    end,
    io:format("worker / floor   ~8.2f (must be at most 2.5)~n", [Worker / Floor]),
    ok = application:stop(erlang_python).

mode(Mode, Clock, Floor) ->
    case application:get_application(py) of
        _ -> _ = application:stop(erlang_python)
    end,
    ok = application:set_env(erlang_python, num_contexts, 1),
    ok = application:set_env(erlang_python, context_mode, Mode),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    Call = fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end,
    _ = samples(Call),
    Rounds = [lists:sort(samples(Call)) || _ <- lists:seq(1, ?ROUNDS)],
    Medians = lists:sort([median_sorted(R) - Clock || R <- Rounds]),
    Median = lists:nth((?ROUNDS + 1) div 2, Medians),
    P99 = lists:nth((?ROUNDS + 1) div 2, lists:sort([percentile(R, 99) - Clock || R <- Rounds])),
    io:format("~-7s median   ~8.1f ns (~.1f to ~.1f in ~b rounds of ~b), p99 ~.1f ns, ~.2f x floor~n", [
        Mode, Median, hd(Medians), lists:last(Medians), ?ROUNDS, ?SAMPLES, P99, Median / Floor
    ]),
    0 = maps:get(lost_wake, py_nif:counters()),
    Median.

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
