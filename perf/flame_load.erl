%% SPDX-License-Identifier: Apache-2.0

%% @private The load that make flame records: some callers, small calls, and now and then
%% a function with Python frames of its own.
-module(flame_load).

-export([main/1]).

%% Arguments: CALLERS SECONDS FILE. The file gets the first and the last moment of the
%% measured time, in ns of CLOCK_MONOTONIC as perf counts it, and the number of calls.
-spec main([string()]) -> no_return().
main([Callers, Seconds, File]) ->
    ok = application:load(erlang_python),
    ok = logger:set_primary_config(level, warning),
    ok = bench_app:start(worker, 1),
    ok = py_context:exec(py:context(1), code()),
    Stop = atomics:new(1, []),
    Self = self(),
    Start = clock_ns(),
    Pids = [
        spawn_link(fun() -> Self ! {self(), calls(Stop, 0)} end)
     || _ <- lists:seq(1, list_to_integer(Callers))
    ],
    timer:sleep(1000 * list_to_integer(Seconds)),
    atomics:put(Stop, 1, 1),
    Calls = lists:sum([receive {P, N} -> N end || P <- Pids]),
    End = clock_ns(),
    %% In order: Python writes the rest of what perf needs at its end.
    ok = application:stop(erlang_python),
    ok = file:write_file(File, io_lib:format("~b ~b ~b~n", [Start, End, Calls])),
    halt(0).

calls(Stop, N) ->
    {ok, 4.0} = py:call(math, sqrt, [16]),
    N rem 64 =:= 0 andalso ({ok, _} = py:call(flame_load, outer, [10])),
    case atomics:get(Stop, 1) of
        0 -> calls(Stop, N + 1);
        1 -> N + 1 + N div 64
    end.

%% A module, so that every caller finds it without a namespace of its own.
code() ->
    "import json, sys, types\n"
    "module = types.ModuleType('flame_load')\n"
    "exec('''\n"
    "import json\n"
    "def inner(n):\n"
    "    return sum(i * i for i in range(n))\n"
    "def outer(n):\n"
    "    return json.dumps([inner(n), {'n': n}])\n"
    "''', module.__dict__)\n"
    "sys.modules['flame_load'] = module\n".

clock_ns() ->
    Source = erlang:system_info(os_monotonic_time_source),
    {time, Time} = lists:keyfind(time, 1, Source),
    erlang:convert_time_unit(Time, native, nanosecond).
