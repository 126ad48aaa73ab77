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
        counts_channels_buffers_and_dicts,
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

counts_channels_buffers_and_dicts(_Config) ->
    Before = objects(),
    Self = self(),
    Keeper = spawn(fun() ->
        {ok, Ch} = py_channel:new(),
        {ok, Bytes} = py_byte_channel:new(),
        {ok, Buffer} = py_buffer:new(),
        {ok, Dict} = py:shared_dict_new(),
        [ok = py_channel:send(Ch, I) || I <- lists:seq(1, 100)],
        ok = py_byte_channel:send(Bytes, <<"12345">>),
        ok = py_buffer:write(Buffer, <<"1234567">>),
        ok = py:shared_dict_set(Dict, <<"key">>, binary:copy(<<"v">>, 1000)),
        Self ! {made, Ch, Bytes, Dict},
        receive done -> [Ch, Bytes, Buffer, Dict] end
    end),
    {made, Ch, Bytes, Dict} = receive Made = {made, _, _, _} -> Made end,
    ?assertMatch(
        #{channels := {1, 200}, byte_channels := {1, 5}, buffers := {1, 7}, shared_dicts := {1, N}} when N > 1000,
        since(Before)
    ),
    {ok, <<"12345">>} = py_byte_channel:recv(Bytes),
    {ok, [1, 2, 3]} = py_event_loop:run(ep_channels, async_receive, [Ch, 3]),
    %% What a coroutine has ahead counts until it has read it; whoever looks at the channel hears of that.
    #{size := 194} = py_channel:info(Ch),
    ok = py:shared_dict_destroy(Dict),
    ?assertMatch(#{channels := {1, 194}, byte_channels := {1, 0}, shared_dicts := {1, 0}}, since(Before)),
    gone(Keeper, Before).

%% The terms of this process are those of its last frame.
gone(Keeper, Before) ->
    Keeper ! done,
    ok = py_test:wait_until(fun() ->
        true = erlang:garbage_collect(),
        lists:usort(maps:values(since(Before))) =:= [{0, 0}]
    end).

objects() -> maps:get(objects, py:stats()).

since(Before) ->
    maps:map(
        fun(Kind, #{count := Count, bytes := Bytes}) ->
            #{Kind := #{count := OldCount, bytes := OldBytes}} = Before,
            {Count - OldCount, Bytes - OldBytes}
        end,
        objects()
    ).

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
