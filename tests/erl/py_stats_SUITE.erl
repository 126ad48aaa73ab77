%% SPDX-License-Identifier: Apache-2.0

%% @doc What py:stats/0 says of contexts, beside py_info_SUITE.
-module(py_stats_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        counts_replacements,
        never_times_more_calls_than_there_were,
        tells_the_memory_of_the_process,
        lists_contexts_in_the_order_of_their_numbers
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, [], Config).

end_per_group(_Mode, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

counts_replacements(_Config) ->
    Before = replacements(),
    true = exit(py:context(2), kill),
    ok = py_test:wait_until(fun() -> replacements() =:= [hd(Before), lists:last(Before) + 1] end),
    {ok, 4.0} = py:call(py:context(2), math, sqrt, [16]),
    true = exit(py:context(2), kill),
    ok = py_test:wait_until(fun() -> replacements() =:= [hd(Before), lists:last(Before) + 2] end),
    %% A pool that was stopped begins anew.
    {ok, _} = py_context_router:start_pool(other, 1),
    true = exit(py_context_router:get_context(other), kill),
    ok = py_test:wait_until(fun() -> [N || #{pool := other, replacements := N} <- contexts()] =:= [1] end),
    ok = py_context_router:stop_pool(other),
    {ok, _} = py_context_router:start_pool(other, 1),
    ?assertEqual([0], [N || #{pool := other, replacements := N} <- contexts()]),
    ok = py_context_router:stop_pool(other).

never_times_more_calls_than_there_were(Config) ->
    {ok, Ctx} = py_context:start_link(timed, proplists:get_value(mode, Config)),
    lists:foreach(
        fun(N) ->
            {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
            #{calls := Calls, latency := Latency} = of_context(Ctx),
            ?assertEqual(N, Calls),
            [?assert(Timed =< N, Latency) || #{count := Timed} <- maps:values(Latency)],
            [?assertEqual((N + 31) div 32, Timed) || #{count := Timed} <- [maps:get(run, Latency)]]
        end,
        lists:seq(1, 70)
    ),
    ok = py_context:stop(Ctx).

tells_the_memory_of_the_process(_Config) ->
    Ctx = py:context(2),
    #{rss := Before, cpu_us := Cpu, os_pid := OsPid} = of_context(Ctx),
    ?assert(Before > 1000000),
    {ok, _} = py:eval(Ctx, "globals().__setitem__('kept', b'x' * 50_000_000)"),
    {ok, _} = py:eval(Ctx, "sum(range(5_000_000))"),
    #{rss := After, cpu_us := CpuAfter, os_pid := OsPid} = of_context(Ctx),
    ?assert(After - Before > 40000000, {Before, After}),
    ?assert(CpuAfter - Cpu > 10000, {Cpu, CpuAfter}).

lists_contexts_in_the_order_of_their_numbers(_Config) ->
    {ok, _} = py_context_router:start_pool(a_pool, 3, #{num_workers => 1}),
    {ok, Single} = py_context:start_link(single, worker),
    Listed = [{Pool, Index} || #{pool := Pool, index := Index} <- contexts()],
    ?assertEqual(
        [{a_pool, 1}, {a_pool, 2}, {a_pool, 3}, {default, 1}, {default, 2}, {undefined, undefined}], Listed
    ),
    ok = py_context:stop(Single),
    ok = py_context_router:stop_pool(a_pool).

%% Internal

contexts() ->
    maps:get(contexts, py:stats()).

replacements() ->
    [N || #{pool := default, replacements := N} <- contexts()].

of_context(Ctx) ->
    [Stats] = [S || S = #{context := C} <- contexts(), C =:= Ctx],
    Stats.
