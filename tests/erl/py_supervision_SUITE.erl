%% SPDX-License-Identifier: Apache-2.0

%% @doc Any process of the application may be killed at any time, many of them one after
%% another: within a second everything is back, and every caller has had an answer.
%% EP_ROUNDS says how often; EP_SEED chooses what comes in which order.
-module(py_supervision_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(ROUNDS, 100).
%% The promise.
-define(BACK_MS, 1000).
%% How long to wait before it counts as never.
-define(NEVER_MS, 20000).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [
        brings_everything_back_after_each_child_was_killed,
        brings_everything_back_after_all_children_were_killed_many_times,
        brings_everything_back_after_any_processes_were_killed,
        brings_everything_back_after_the_launcher_was_killed_many_times,
        answers_every_caller_while_processes_are_killed,
        keeps_the_contexts_of_a_pool_whose_process_was_killed,
        finds_a_new_worker_for_each_kind_of_context,
        keeps_contexts_of_a_process_together,
        runs_callbacks_of_threads_after_their_runner_was_killed,
        ends_pools_that_are_stopped_while_processes_are_killed,
        forgets_contexts_that_were_killed_with_their_worker,
        keeps_no_worker_that_nobody_uses,
        ends_contexts_that_outlive_the_application
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    Seed = list_to_integer(os:getenv("EP_SEED", "1")),
    _ = rand:seed(exsss, {Seed, 0, 0}),
    ok = py_test:start([{num_contexts, 2}]),
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:clean().

rounds() ->
    list_to_integer(os:getenv("EP_ROUNDS", integer_to_list(?ROUNDS))).

%% --- what must come back --------------------------------------------------------------

%% Pools of several kinds, registrations, callbacks, state.
set_up() ->
    {ok, [_, _, _]} = py_context_router:start_pool(io, 3, #{num_workers => 1, kill_after => 77}),
    {ok, [_]} = py_context_router:start_pool(cpu, 1),
    ok = py:register_pool(io, threading),
    ok = py:register_pool(cpu, {os, getpid}),
    ok = py:register_function(echo, fun([X]) -> X end),
    ok = py:state_store(kept, 1).

tear_down() ->
    ok = py:unregister_pool(threading),
    ok = py:unregister_pool({os, getpid}),
    ok = py_context_router:stop_pool(io),
    ok = py_context_router:stop_pool(cpu).

%% Whether all of it is there and serves.
is_back() ->
    is_back(together).

%% A context that ended alone has a process elsewhere, until its neighbours end, too.
is_back(Where) ->
    try
        [2, 3, 1] = [length(py_context_router:contexts(P)) || P <- [default, io, cpu]],
        [
            {ok, 4.0} = py:call(Ctx, math, sqrt, [16], 5000)
         || P <- [default, io, cpu], Ctx <- py_context_router:contexts(P)
        ],
        Processes = lists:usort([py_test:os_pid(C) || C <- py_context_router:contexts(io)]),
        true = length(Processes) =:= 1 orelse Where =:= apart,
        [Cpu] = py_context_router:contexts(cpu),
        {ok, OsPid} = py:call(os, getpid, []),
        OsPid = py_test:os_pid(Cpu),
        [{{os, getpid}, cpu}, {{threading, '_'}, io}] = lists:sort(py_context_router:list_pool_registrations()),
        {ok, [1, 2]} = py:call(py:context(1), ep_steps, from_threads, [echo, 2]),
        {ok, 1} = py:state_fetch(kept),
        true
    catch
        error:Reason -> {error, Reason}
    end.

back(What) ->
    back(What, together).

back(What, Where) ->
    Lacking = ets:new(lacking, [ordered_set]),
    {Ms, Withheld, ok} = py_pace:timed(fun() ->
        py_test:wait_until(fun() -> note(Lacking, is_back(Where)) end, ?NEVER_MS)
    end),
    ct:pal("~p: everything was back after ~.1f ms, ~.1f withheld; the last that lacked: ~0tp", [
        What, Ms, Withheld, ets:last(Lacking)
    ]),
    true = ets:delete(Lacking),
    ?assert(Ms - Withheld =< ?BACK_MS, {What, Ms, Withheld}).

children() ->
    [{Id, Pid} || {Id, Pid, _, _} <- supervisor:which_children(erlang_python_sup), is_pid(Pid)].

note(_Lacking, true) ->
    true;
note(Lacking, Error) ->
    ets:insert(Lacking, {{erlang:monotonic_time(millisecond), Error}}),
    Error.

grandchildren() ->
    [
        Pid
     || Sup <- [py_worker_sup, py_context_sup, py_pool_sup],
        Pid <- of_supervisor(Sup)
    ].

of_supervisor(Sup) ->
    try
        [Pid || {_, Pid, _, _} <- supervisor:which_children(Sup), is_pid(Pid)]
    catch
        exit:_ -> []
    end.

kill(Pid) ->
    Ref = monitor(process, Pid),
    true = exit(Pid, kill),
    receive
        {'DOWN', Ref, process, Pid, _} -> ok
    end.

%% --- kills ----------------------------------------------------------------------------

brings_everything_back_after_each_child_was_killed(_Config) ->
    ok = set_up(),
    true = is_back(),
    [
        begin
            ok = kill(Pid),
            back(Id)
        end
     || {Id, Pid} <- children()
    ],
    tear_down().

brings_everything_back_after_all_children_were_killed_many_times(_Config) ->
    ok = set_up(),
    [
        begin
            ok = kill(Pid),
            ok = py_test:wait_until(fun() -> is_pid(whereis(Id)) end)
        end
     || _ <- lists:seq(1, rounds()), {Id, Pid} <- children()
    ],
    _ = back(all_children),
    tear_down().

brings_everything_back_after_any_processes_were_killed(_Config) ->
    ok = set_up(),
    [
        begin
            Pids = grandchildren() ++ [Pid || {_, Pid} <- children()],
            ok = kill(lists:nth(rand:uniform(length(Pids)), Pids)),
            receive after rand:uniform(5) - 1 -> ok end
        end
     || _ <- lists:seq(1, rounds())
    ],
    _ = back(any_processes, apart),
    tear_down().

brings_everything_back_after_the_launcher_was_killed_many_times(_Config) ->
    ok = set_up(),
    VmPid = py_test:vm_pid(),
    [
        begin
            [_ = os:cmd("kill -9 " ++ integer_to_list(P)) || P <- launchers(VmPid)],
            receive after rand:uniform(40) -> ok end
        end
     || _ <- lists:seq(1, rounds() div 4)
    ],
    _ = back(launcher),
    tear_down().

%% Below the VM, or below the helper through which it starts programs.
launchers(VmPid) ->
    [P || P <- py_test:descendants(VmPid), command(P) =:= <<"ep_launcher">>].

command(OsPid) ->
    case file:read_file(io_lib:format("/proc/~b/comm", [OsPid])) of
        {ok, Name} -> string:trim(Name);
        {error, _} -> gone
    end.

%% Every answer is one of those that the contract names; nobody waits for ever, and no call
%% raises because its pool is not there at the moment.
answers_every_caller_while_processes_are_killed(_Config) ->
    ok = set_up(),
    Stop = counters:new(1, []),
    Callers = [
        py_test:spawn_caller(fun() -> call_until(Stop, I, #{}) end)
     || I <- lists:seq(1, 12)
    ],
    [
        begin
            Pids = grandchildren() ++ [Pid || {_, Pid} <- children()],
            ok = kill(lists:nth(rand:uniform(length(Pids)), Pids)),
            receive after 10 -> ok end
        end
     || _ <- lists:seq(1, rounds())
    ],
    ok = counters:put(Stop, 1, 1),
    Counts = [py_test:result_of(C) || C <- Callers],
    All = lists:foldl(fun(C, Acc) -> maps:merge_with(fun(_, A, B) -> A + B end, C, Acc) end, #{}, Counts),
    ct:pal("answers: ~p", [All]),
    ?assertEqual([], maps:keys(All) -- [ok, worker_died, worker_unavailable, context_died]),
    ?assert(maps:get(ok, All) > 0),
    _ = back(under_load, apart),
    tear_down().

call_until(Stop, I, Counts) ->
    case counters:get(Stop, 1) of
        1 -> Counts;
        0 -> call_until(Stop, I, maps:update_with(one_call(I rem 4), fun(N) -> N + 1 end, 1, Counts))
    end.

one_call(0) -> kind(py:call(builtins, abs, [-1], #{}, infinity));
one_call(1) -> kind(py:call(io, builtins, abs, [-1], #{}, infinity));
one_call(2) -> kind(py:call(threading, active_count, [], #{}, infinity));
one_call(3) -> kind(py:eval("erlang.call('echo', 1)", #{}, infinity)).

kind({ok, _}) -> ok;
kind({error, {Kind, _}}) -> Kind;
kind({error, Other}) -> Other.

%% --- pools ----------------------------------------------------------------------------

keeps_the_contexts_of_a_pool_whose_process_was_killed(_Config) ->
    ok = set_up(),
    Before = [{P, py_context_router:contexts(P)} || P <- [default, io, cpu]],
    OsPids = [py_test:os_pid(C) || {_, Cs} <- Before, C <- Cs],
    [ok = kill(Pool) || Pool <- of_supervisor(py_pool_sup)],
    {ok, Contexts} = py_context_router:start_pool(io, 7),
    ok = kill(whereis(py_pool_sup)),
    ok = kill(whereis(py_pool_registry)),
    %% Nobody notices.
    ?assertEqual(OsPids, [py_test:os_pid(C) || {_, Cs} <- Before, C <- Cs]),
    {ok, Contexts} = py_context_router:start_pool(io, 7),
    ?assertEqual(Before, [{P, py_context_router:contexts(P)} || P <- [default, io, cpu]]),
    %% And they are looked after as before.
    ok = kill(hd(Contexts)),
    [New | Others] = py_context_router:contexts(io),
    ?assertEqual(tl(Contexts), Others),
    ?assert(is_process_alive(New)),
    tear_down().

%% Number and pid stay; only the Python behind is another one.
finds_a_new_worker_for_each_kind_of_context(Config) ->
    Shared = #{own_process => false},
    Single =
        [Ctx || {ok, Ctx} <- [
            py_context:start_link(own, worker),
            py_context:start_link(shared, worker, Shared),
            py_context:start_link(neighbour, worker, Shared),
            py_context_sup:start_context(nobodys, worker)
        ]],
    4 = length(Single),
    Contexts = Single ++ py_context_router:contexts(),
    {ok, Preloaded} = py_context:start_link(preloaded, worker, #{preload => "x = 1"}),
    Before = [py_test:os_pid(C) || C <- Contexts],
    Running = [Caller || C <- Contexts, {Caller, _Fifo} <- [py_fixture:hold(C, Config)]],
    After = py_pace:within(?BACK_MS, fun() ->
        [ok = kill(W) || W <- of_supervisor(py_worker_sup)],
        [{error, {worker_died, #{started := true}}} = py_test:result_of(R) || R <- Running],
        OsPids = [py_test:os_pid(C) || C <- Contexts],
        %% Requests that are there before the preload code come before it.
        ok = py_test:wait_until(fun() -> py_context:eval(Preloaded, "x") =:= {ok, 1} end),
        OsPids
    end),
    [] = [P || P <- After, lists:member(P, Before)],
    ?assertEqual(lists:nth(2, After), lists:nth(3, After)),
    ok = kill(whereis(py_worker_sup)),
    ok = py_test:wait_for_exit(After, 5000),
    %% The VM may yet have to bury them.
    [
        ok = py_test:wait_until(fun() -> py:call(C, math, sqrt, [16], 5000) =:= {ok, 4.0} end)
     || C <- [Preloaded | Contexts]
    ],
    [ok = py_context:stop(C) || C <- [Preloaded | Single]].

%% A pool with one worker process has one again when its contexts were replaced one by one.
keeps_contexts_of_a_process_together(_Config) ->
    {ok, Contexts} = py_context_router:start_pool(io, 4, #{num_workers => 2}),
    [A, B, A, B] = [py_test:os_pid(C) || C <- Contexts],
    ok = kill(whereis(py_context_sup)),
    [C, D, C, D] = [py_test:os_pid(Ctx) || Ctx <- py_context_router:contexts(io)],
    4 = length(lists:usort([A, B, C, D])),
    [ok = kill(Ctx) || Ctx <- py_context_router:contexts(io)],
    [E, F, E, F] = [py_test:os_pid(Ctx) || Ctx <- py_context_router:contexts(io)],
    ok = py_test:wait_for_exit([A, B, C, D] -- [E, F], 10000),
    ok = py_context_router:stop_pool(io).

%% --- callbacks ------------------------------------------------------------------------

runs_callbacks_of_threads_after_their_runner_was_killed(_Config) ->
    Self = self(),
    ok = py:register_function(meet, fun([X]) ->
        Self ! {met, self()},
        receive
            go -> X
        end
    end),
    Ctx = py:context(1),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_steps, from_threads, [meet, 3]) end),
    Helpers = [
        receive
            {met, Pid} -> Pid
        end
     || _ <- [1, 2, 3]
    ],
    ok = kill(whereis(py_callback_runner)),
    [Pid ! go || Pid <- Helpers],
    {ok, [1, 2, 3]} = py_test:result_of(Caller),
    ok = py_test:wait_until(fun() -> is_pid(whereis(py_callback_runner)) end),
    ok = py:register_function(meet, fun([X]) -> X end),
    {ok, [1, 2, 3]} = py:call(Ctx, ep_steps, from_threads, [meet, 3]),
    ok = py:unregister_function(meet).

%% --- ends -----------------------------------------------------------------------------

ends_pools_that_are_stopped_while_processes_are_killed(_Config) ->
    [
        begin
            {ok, Contexts} = py_context_router:start_pool(io, 2),
            OsPids = [py_test:os_pid(C) || C <- Contexts],
            Stopper = py_test:spawn_caller(fun() -> py_context_router:stop_pool(io) end),
            [ok = kill(P) || P <- of_supervisor(py_pool_sup), rand:uniform(2) =:= 1],
            rand:uniform(2) =:= 1 andalso kill(whereis(py_pool_registry)),
            rand:uniform(4) =:= 1 andalso kill_registered(py_pool_sup),
            ok = py_test:result_of(Stopper),
            false = py_context_router:pool_started(io),
            ok = py_test:wait_for_exit(OsPids, 10000),
            [] = py_context_table:of_pool(io),
            ok = py_test:badarg(fun() -> py:call(io, math, sqrt, [16]) end)
        end
     || _ <- lists:seq(1, max(10, rounds() div 10))
    ],
    %% The default pool can be stopped as well, and does not come back.
    ok = py:stop_contexts(),
    ok = kill(whereis(py_pool_registry)),
    ok = kill(whereis(py_pool_sup)),
    ok = py_context_router:stop_pool(io),
    false = py:contexts_started(),
    {ok, [_, _]} = py:start_contexts(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok.

kill_registered(Name) ->
    case whereis(Name) of
        undefined -> ok;
        Pid -> kill(Pid)
    end.

forgets_contexts_that_were_killed_with_their_worker(_Config) ->
    Before = length(py_context_table:all()),
    Contexts = [Ctx || _ <- [1, 2, 3], {ok, Ctx} <- [py_context_sup:start_context(x, worker)]],
    3 = length(Contexts),
    Workers = [py_context_table:worker(C) || C <- Contexts],
    OsPids = [py_test:os_pid(C) || C <- Contexts],
    ok = kill(whereis(py_context_table)),
    [true = exit(P, kill) || P <- Contexts ++ Workers],
    ok = py_test:wait_until(fun() -> length(py_context_table:all()) =:= Before end),
    [{error, {context_died, noproc}} = py:call(C, math, sqrt, [16]) || C <- Contexts],
    ok = py_test:wait_for_exit(OsPids, 5000).

%% Somebody who starts a worker may be killed before it attaches a context.
keeps_no_worker_that_nobody_uses(_Config) ->
    {ok, Settings} = py_config:context_options(#{}),
    {ok, Worker} = py_worker_sup:start_worker(Settings#{places => 1, zygote => #{modules => [], is_eager => false}}),
    Ref = monitor(process, Worker),
    Worker ! unused,
    receive
        {'DOWN', Ref, process, Worker, Reason} -> ?assertEqual(normal, Reason)
    after 10000 -> error(lives)
    end.

%% One that belongs to a process outside of the application does not come to life again.
ends_contexts_that_outlive_the_application(_Config) ->
    {ok, Ctx} = py_context:start_link(mine, worker),
    Ref = monitor(process, Ctx),
    ok = py_test:stop(),
    receive
        {'DOWN', Ref, process, Ctx, normal} -> ok
    after 10000 -> error({lives, sys:get_state(Ctx)})
    end,
    ok = py_test:start([{num_contexts, 2}]).
