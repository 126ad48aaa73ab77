%% SPDX-License-Identifier: Apache-2.0

%% @doc What the library tells of itself and of Python: memory, garbage collection,
%% tracing, statistics; and the functions that take a reference to a context.
-module(py_info_SUITE).

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
        tells_of_memory_for_each_context_and_in_sum,
        tells_of_memory_of_one_context,
        collects_garbage,
        traces_memory_until_told_to_stop,
        traces_contexts_that_start_meanwhile,
        answers_beside_a_busy_context,
        counts_what_contexts_do,
        measures_how_long_it_takes,
        counts_restarts,
        tells_what_waits,
        never_waits_for_python,
        takes_a_reference_to_a_context,
        keeps_namespaces_apart_by_reference,
        runs_callbacks_and_takes_slots_by_reference
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    %% Of a case that failed.
    ok = py:tracemalloc_stop(),
    py_fixture:clean().

%% Contexts of one process and mode worker share an interpreter.
interpreters(Config) ->
    case proplists:get_value(group, Config) of
        shared -> 1;
        _ -> 2
    end.

%% --- memory ---------------------------------------------------------------------------

tells_of_memory_for_each_context_and_in_sum(Config) ->
    {ok, Stats} = py:memory_stats(),
    #{gc_stats := Sum, gc_count := {_, _, _}, gc_threshold := {_, _, _}, contexts := Contexts} = Stats,
    ?assertNot(maps:is_key(traced_memory_current, Stats)),
    ?assertEqual(lists:sort(py_context_router:contexts()), lists:sort(maps:keys(Contexts))),
    [check_gc_stats(maps:get(gc_stats, S)) || S <- [Stats | maps:values(Contexts)]],
    %% Summed, each interpreter once.
    Totals = fun(L) -> lists:sum([maps:get(<<"collections">>, G) || G <- L]) end,
    Each = [Totals(maps:get(gc_stats, S)) || S <- maps:values(Contexts)],
    case interpreters(Config) of
        2 -> ?assertEqual(lists:sum(Each), Totals(Sum));
        1 -> ?assert(Totals(Sum) =< lists:max(Each))
    end.

check_gc_stats(Generations) ->
    3 = length(Generations),
    [
        #{<<"collections">> := _, <<"collected">> := _, <<"uncollectable">> := _} = G
     || G <- Generations
    ].

tells_of_memory_of_one_context(_Config) ->
    [
        begin
            {ok, #{gc_stats := Stats, gc_count := {_, _, _}, gc_threshold := {_, _, _}}} = py:memory_stats(Ctx),
            _ = check_gc_stats(Stats)
        end
     || Ctx <- py_context_router:contexts()
    ],
    {error, {context_died, noproc}} = py:memory_stats(self()).

collects_garbage(Config) ->
    Make = "def make(n):\n"
           "    for _ in range(n):\n"
           "        a = []\n"
           "        a.append(a)\n",
    Contexts = py_context_router:contexts(),
    MakeAll = fun() ->
        [{ok, none} = py:call(C, '__main__', make, [100]) || C <- Contexts]
    end,
    [ok = py:exec(C, ["import gc\ngc.disable()\n", Make]) || C <- Contexts],
    {ok, _} = py:gc(),
    MakeAll(),
    {ok, N} = py:gc(),
    ?assert(N >= 200, N),
    MakeAll(),
    {ok, M} = py:gc(2),
    ?assert(M >= 200, M),
    MakeAll(),
    {ok, One} = py:gc(hd(Contexts)),
    ?assert(One >= 100 * (3 - interpreters(Config)), One),
    {ok, Zeroth} = py:gc(hd(Contexts), 0),
    ?assert(is_integer(Zeroth)),
    {ok, _} = py:gc(0),
    [ok = py:exec(C, "gc.enable()") || C <- Contexts],
    {error, {context_died, noproc}} = py:gc(self()),
    [
        ok = py_test:badarg(F)
     || F <- [
            fun() -> py:gc(3) end,
            fun() -> py:gc(-1) end,
            fun() -> py:gc(a) end,
            fun() -> py:gc(hd(Contexts), 5) end
        ]
    ].

traces_memory_until_told_to_stop(Config) ->
    ok = py:tracemalloc_start(),
    case py:memory_stats() of
        {ok, #{traced_memory_current := _, traced_memory_peak := _}} ->
            [ok = py:exec(C, "kept = bytearray(5000000)") || C <- py_context_router:contexts()],
            {ok, #{traced_memory_current := Current, traced_memory_peak := Peak}} = py:memory_stats(),
            ?assert(Current >= 5000000 * 2, Current),
            ?assert(Peak >= Current),
            [ok = py:exec(C, "del kept") || C <- py_context_router:contexts()];
        {ok, _} ->
            %% tracemalloc refuses sub-interpreters.
            owngil = proplists:get_value(mode, Config)
    end,
    ok = py:tracemalloc_stop(),
    {ok, After} = py:memory_stats(),
    ?assertNot(maps:is_key(traced_memory_current, After)),
    ok = py:tracemalloc_start(10),
    ok = py:tracemalloc_stop(),
    [ok = py_test:badarg(fun() -> py:tracemalloc_start(Bad) end) || Bad <- [0, -1, a]].

traces_contexts_that_start_meanwhile(Config) ->
    case proplists:get_value(mode, Config) of
        owngil ->
            {skip, "tracemalloc refuses sub-interpreters"};
        worker ->
            ok = py:tracemalloc_start(3),
            {ok, Ctx} = py_context:start_link(traced, worker),
            {ok, true} = py:eval(Ctx, "__import__('tracemalloc').is_tracing()"),
            {ok, 3} = py:eval(Ctx, "__import__('tracemalloc').get_traceback_limit()"),
            %% Also after a restart.
            {error, {worker_died, _}} = py:call(Ctx, ep_probe, leave, [0]),
            {ok, true} = py:eval(Ctx, "__import__('tracemalloc').is_tracing()"),
            ok = py:tracemalloc_stop(),
            {ok, false} = py:eval(Ctx, "__import__('tracemalloc').is_tracing()"),
            ok = py_context:stop(Ctx)
    end.

%% Python code that waits lets others at the interpreter.
answers_beside_a_busy_context(Config) ->
    Ctx = py:context(1),
    Held = py_fixture:hold(Ctx, Config),
    {ok, #{contexts := Contexts}} = py_pace:within(4000, fun() -> py:memory_stats() end),
    ?assert(maps:is_key(Ctx, Contexts)),
    {ok, _} = py:gc(Ctx),
    {ok, _} = py:memory_stats(Ctx),
    ok = py_fixture:let_go(Held).

%% --- statistics -----------------------------------------------------------------------

of_context(Ctx) ->
    #{contexts := Contexts} = py:stats(),
    [Stats] = [S || S = #{context := C} <- Contexts, C =:= Ctx],
    Stats.

%% Once its worker has found out that it has nothing more to do: the answer comes before.
idle(Ctx) ->
    ok = py_test:wait_until(fun() -> maps:get(state, of_context(Ctx)) =:= idle end),
    of_context(Ctx).

counts_what_contexts_do(Config) ->
    Ctx = py:context(1),
    Mode = proplists:get_value(mode, Config),
    #{calls := Calls, errors := Errors, timeouts := Timeouts} = of_context(Ctx),
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || _ <- lists:seq(1, 10)],
    {ok, 1} = py:eval(Ctx, "1"),
    ok = py:exec(Ctx, "pass"),
    {error, {'ZeroDivisionError', _}} = py:eval(Ctx, "1 / 0"),
    {error, timeout} = py:call(Ctx, ep_probe, spin_until_interrupted, [py_test:marker(Config, "m")], 30),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    Stats = idle(Ctx),
    ?assertMatch(#{pool := default, index := 1, mode := Mode, state := idle}, Stats),
    ?assertMatch(#{restarts := _, replacements := 0, queue_depth := 0}, Stats),
    #{os_pid := OsPid} = Stats,
    ?assertEqual(py_test:os_pid(Ctx), OsPid),
    #{calls := CallsNow, errors := ErrorsNow, timeouts := TimeoutsNow} = Stats,
    ?assertEqual({Calls + 15, Errors + 2, Timeouts + 1}, {CallsNow, ErrorsNow, TimeoutsNow}),
    {ok, Single} = py_context:start_link(single, worker),
    OfSingle = of_context(Single),
    ?assertMatch(#{pool := undefined, index := undefined, mode := worker}, OfSingle),
    ?assertMatch(#{calls := 0, restarts := 0}, OfSingle),
    ok = py_context:stop(Single),
    #{semaphore := Semaphore, shared_bytes := Bytes, atoms := #{used := _, max := 10000}} = py:stats(),
    #{current := 0, max := Max, waiting := 0} = Semaphore,
    ?assertEqual(py_semaphore:max_concurrent(), Max),
    ?assert(Bytes >= 0).

measures_how_long_it_takes(Config) ->
    Ctx = py:context(1),
    _ = [py:call(Ctx, time, sleep, [0.002]) || _ <- lists:seq(1, 2000 div 10)],
    #{latency := #{queue := Queue, run := Run, reply := Reply}} = of_context(Ctx),
    [
        begin
            #{count := Count, sum_us := Sum, max_us := Max, buckets := Buckets} = Hist,
            #{p50_us := P50, p90_us := P90, p99_us := P99} = Hist,
            ?assert(P50 =< P90 andalso P90 =< P99 andalso P99 =< Max, Hist),
            ?assertEqual(Count, lists:sum([N || {_, N} <- Buckets])),
            ?assert(Sum >= 0)
        end
     || Hist <- [Queue, Run, Reply]
    ],
    ct:pal("~p: run ~p", [proplists:get_value(group, Config), maps:remove(buckets, Run)]),
    ?assert(maps:get(count, Run) > 0),
    ?assert(maps:get(max_us, Run) >= 2000).

counts_restarts(_Config) ->
    Ctx = py:context(1),
    #{restarts := Before} = of_context(Ctx),
    {error, {worker_died, _}} = py:call(Ctx, ep_probe, leave, [0]),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    #{restarts := After} = idle(Ctx),
    ?assertEqual(Before + 1, After).

tells_what_waits(Config) ->
    Ctx = py:context(1),
    Max = py_semaphore:max_concurrent(),
    ok = py_semaphore:set_max_concurrent(4),
    Held = py_fixture:hold(Ctx, Config),
    Queued = [py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end) || _ <- [1, 2, 3]],
    [ok = py_fixture:parked(C) || C <- Queued],
    Waiting = py_test:spawn_caller(fun() -> py:call(math, sqrt, [16]) end),
    ok = py_fixture:waiting_for_slot(Waiting),
    ?assertMatch(#{state := busy, queue_depth := 3}, of_context(Ctx)),
    #{semaphore := #{current := 4, max := 4, waiting := 1}} = py:stats(),
    ok = py_fixture:let_go(Held),
    [{ok, 4.0} = py_test:result_of(C) || C <- [Waiting | Queued]],
    ok = py_semaphore:set_max_concurrent(Max).

never_waits_for_python(Config) ->
    Ctx = py:context(1),
    Mark = py_test:marker(Config, "spin"),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_steps, spin_in_c, [Mark], 500) end),
    ok = py_test:wait_for_file(Mark),
    #{state := busy} = py_pace:within(100, fun() -> of_context(Ctx) end),
    {error, timeout} = py_test:result_of(Caller).

%% --- references -----------------------------------------------------------------------

takes_a_reference_to_a_context(Config) ->
    {ok, Ctx} = py_context:start_link(ref, proplists:get_value(mode, Config)),
    Ref = py_context:get_nif_ref(Ctx),
    ok = py_nif:context_exec(Ref, <<"x = 1">>),
    {ok, 1} = py_nif:context_eval(Ref, <<"x">>, #{}),
    {ok, 3} = py_nif:context_eval(Ref, <<"x + y">>, #{y => 2}),
    {ok, 8} = py_nif:context_call(Ref, builtins, pow, [2], #{exp => 3}),
    {error, {'ZeroDivisionError', _}} = py_nif:context_eval(Ref, <<"1 / 0">>, #{}),
    {ok, 1} = py_test:result_of(py_test:spawn_caller(fun() -> py_nif:context_eval(Ref, <<"x">>, #{}) end)),
    ok = py_context:stop(Ctx),
    {error, {context_died, _}} = py_nif:context_eval(Ref, <<"x">>, #{}),
    ?assertError({context_died, _}, py_context:get_nif_ref(Ctx)).

keeps_namespaces_apart_by_reference(Config) ->
    {ok, Ctx} = py_context:start_link(ref, proplists:get_value(mode, Config)),
    Ref = py_context:get_nif_ref(Ctx),
    {ok, Env} = py_context:create_local_env(Ctx),
    ok = py_nif:context_exec(Ref, <<"x = 42\ndef f(): return x">>, Env),
    {ok, 42} = py_nif:context_eval(Ref, <<"x">>, #{}, Env),
    {ok, 42} = py_nif:context_call(Ref, '__main__', f, [], #{}, Env),
    {ok, 42} = py_context:eval(Ctx, "x", #{}, infinity, Env),
    {error, {'NameError', _}} = py_nif:context_eval(Ref, <<"x">>, #{}),
    {error, {'NameError', _}} = py:eval(Ctx, "x"),
    ok = py_context:stop(Ctx).

runs_callbacks_and_takes_slots_by_reference(Config) ->
    Ctx = py:context(1),
    Ref = py_context:get_nif_ref(Ctx),
    Self = self(),
    ok = py:register_function(who, fun([]) -> [self(), py_semaphore:current()] end),
    {ok, [Self, 1]} = py_nif:context_eval(Ref, <<"erlang.who()">>, #{}),
    {ok, [Self, 1]} = py_nif:context_call(Ref, erlang, who, [], #{}),
    ok = py_nif:context_exec(Ref, <<"assert erlang.who()[1] == 1">>),
    %% Cancelled by the death of its caller.
    Mark = py_test:marker(Config, "spin"),
    Caller = {Pid, _} = py_test:spawn_caller(fun() ->
        py_nif:context_call(Ref, ep_probe, spin_until_interrupted, [Mark], #{})
    end),
    ok = py_test:wait_for_file(Mark),
    true = exit(Pid, kill),
    killed = py_fixture:dead(Caller),
    ok = py_test:wait_for_file(<<Mark/binary, ".interrupted">>).
