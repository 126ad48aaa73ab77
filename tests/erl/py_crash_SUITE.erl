%% SPDX-License-Identifier: Apache-2.0
-module(py_crash_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_segfault_costs_one_error_and_one_process/1,
    an_exit_of_the_process_is_told_with_its_status/1,
    queued_calls_of_a_dead_worker_had_not_started/1,
    a_context_keeps_pid_and_number_over_a_crash/1,
    a_crash_in_a_shared_process_hits_its_contexts_only/1,
    every_call_is_answered_once_over_many_kills/1,
    callers_are_told_when_their_context_process_is_killed/1,
    callers_are_told_when_their_context_stops/1,
    stopping_a_context_leaves_the_others_of_its_process/1,
    everything_comes_back_after_the_launcher_was_killed/1,
    the_application_stops_with_a_busy_worker/1,
    a_killed_vm_leaves_nothing_behind/1
]).

%% For a_killed_vm_leaves_nothing_behind/1, in the VM that is killed.
-export([load_forever/0]).

%% In make test-deep a hundred.
-define(KILLS, (py_test:times(40, 100))).
-define(START_MS, 20000).

all() ->
    [
        a_segfault_costs_one_error_and_one_process,
        an_exit_of_the_process_is_told_with_its_status,
        queued_calls_of_a_dead_worker_had_not_started,
        a_context_keeps_pid_and_number_over_a_crash,
        a_crash_in_a_shared_process_hits_its_contexts_only,
        every_call_is_answered_once_over_many_kills,
        callers_are_told_when_their_context_process_is_killed,
        callers_are_told_when_their_context_stops,
        stopping_a_context_leaves_the_others_of_its_process,
        everything_comes_back_after_the_launcher_was_killed,
        the_application_stops_with_a_busy_worker,
        a_killed_vm_leaves_nothing_behind
    ].

init_per_testcase(_Case, Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    Config.

end_per_testcase(_Case, _Config) ->
    Result = py_test:clean(),
    ok = py_test:stop(),
    Result.

a_segfault_costs_one_error_and_one_process(_Config) ->
    [Ctx, Other] = py_context_router:contexts(),
    [OsPid, OtherPid] = [py_test:os_pid(C) || C <- [Ctx, Other]],
    {error, {worker_died, Info}} = py:call(Ctx, ep_probe, segfault, []),
    ?assertEqual(
        #{context => Ctx, os_pid => OsPid, reason => 'SIGSEGV', started => true}, Info
    ),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    ?assertNotEqual(OsPid, py_test:os_pid(Ctx)),
    ?assertEqual(OtherPid, py_test:os_pid(Other)).

an_exit_of_the_process_is_told_with_its_status(_Config) ->
    Ctx = py:context(1),
    [
        {error, {worker_died, #{reason := Status}}} = py:call(Ctx, os, '_exit', [Status])
     || Status <- [0, 3, 137]
    ],
    {error, {worker_died, #{reason := 'SIGABRT'}}} = py:call(Ctx, os, abort, []),
    {error, {'SystemExit', "3"}} = py:call(Ctx, sys, exit, [3]),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]).

queued_calls_of_a_dead_worker_had_not_started(Config) ->
    Busy = py_test:marker(Config, "busy"),
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    First = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, sleep, [Busy, 60]) end),
    ok = py_test:wait_for_file(Busy),
    Queued = [
        py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end)
     || _ <- lists:seq(1, 300)
    ],
    %% 300 are more than the ring holds: some wait in the VM.
    ok = py_test:wait_until(fun() -> lists:all(fun is_parked/1, Queued) end),
    ok = py_test:kill(OsPid),
    {error, {worker_died, #{started := true, reason := 'SIGKILL'}}} = py_test:result_of(First),
    [
        {error, {worker_died, #{started := false}}} = py_test:result_of(Caller)
     || Caller <- Queued
    ],
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]).

is_parked({Pid, _}) ->
    process_info(Pid, current_function) =:= {current_function, {py_request, receive_done, 4}}.

a_context_keeps_pid_and_number_over_a_crash(_Config) ->
    Contexts = py_context_router:contexts(),
    ok = py:exec(hd(Contexts), "x = 1"),
    {error, {worker_died, _}} = py:call(hd(Contexts), ep_probe, segfault, []),
    %% The namespace went with the process, and the next one is fresh.
    {error, {'NameError', _}} = py:eval(hd(Contexts), "x"),
    ok = py:exec(hd(Contexts), "x = 2"),
    {ok, 2} = py:eval(hd(Contexts), "x"),
    ?assertEqual(Contexts, py_context_router:contexts()),
    ?assert(lists:all(fun is_process_alive/1, Contexts)).

a_crash_in_a_shared_process_hits_its_contexts_only(_Config) ->
    ok = py_test:start([{num_contexts, 3}, {num_workers, 2}]),
    [One, Two, Three] = py_context_router:contexts(),
    OsPid = py_test:os_pid(One),
    OsPid = py_test:os_pid(Three),
    OtherPid = py_test:os_pid(Two),
    {error, {worker_died, _}} = py:call(Three, ep_probe, segfault, []),
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || Ctx <- [One, Two, Three]],
    OtherPid = py_test:os_pid(Two),
    Same = py_test:os_pid(One),
    Same = py_test:os_pid(Three),
    ?assertNotEqual(OsPid, Same).

%% Callers number their calls; Python gives the number back. Each call has one
%% answer: its own number, or that the process died.
every_call_is_answered_once_over_many_kills(_Config) ->
    [Ctx, Other] = py_context_router:contexts(),
    OtherPid = py_test:os_pid(Other),
    _ = kill_and_revive(Ctx),
    Before = resources(),
    Stop = atomics:new(1, []),
    Callers = [
        py_test:spawn_caller(fun() -> call_until(Stop, Target, N * 1000000, {0, 0}) end)
     || {N, Target} <- lists:zip(lists:seq(1, 9), [Ctx, Ctx, Ctx, Ctx, Ctx, Ctx, Ctx, Ctx, Other])
    ],
    [kill_and_revive(Ctx) || _ <- lists:seq(1, ?KILLS)],
    ok = atomics:put(Stop, 1, 1),
    Results = [py_test:result_of(Caller) || Caller <- Callers],
    ?assert(lists:sum([Died || {_, Died} <- Results]) >= ?KILLS),
    {Good, 0} = lists:last(Results),
    ?assert(Good > 0),
    ?assertEqual(OtherPid, py_test:os_pid(Other)),
    ok = py_test:wait_until(fun() -> leaves_no_more(Before, resources()) end).

kill_and_revive(Ctx) ->
    case py_context:call(Ctx, os, getpid, []) of
        {ok, OsPid} ->
            ok = py_test:kill(OsPid),
            ok = py_test:wait_for_exit([OsPid], ?START_MS),
            ok = py_test:wait_until(fun() -> serves_again(Ctx, OsPid) end, ?START_MS);
        {error, {worker_died, _}} ->
            kill_and_revive(Ctx)
    end.

%% The VM may not have noticed yet: then this call is one that died with the process.
serves_again(Ctx, Former) ->
    case py_context:call(Ctx, os, getpid, []) of
        {ok, OsPid} -> OsPid =/= Former;
        {error, {worker_died, #{os_pid := Former}}} -> false
    end.

call_until(Stop, Ctx, N, {Good, Died}) ->
    case atomics:get(Stop, 1) of
        1 ->
            {Good, Died};
        0 ->
            case py:call(Ctx, ep_probe, echo, [N]) of
                {ok, N} -> call_until(Stop, Ctx, N + 1, {Good + 1, Died});
                {error, {worker_died, _}} -> call_until(Stop, Ctx, N + 1, {Good, Died + 1})
            end
    end.

%% What a restart might leave: fds and maps of the VM, processes of the launcher.
resources() ->
    VmPid = py_test:vm_pid(),
    Launcher = py_test:launcher_pid(),
    _ = [erlang:garbage_collect(P) || P <- processes()],
    #{
        fds => py_test:fd_count(VmPid),
        maps => py_test:memfd_maps(VmPid),
        launcher_fds => py_test:fd_count(Launcher),
        processes => length(py_test:children(Launcher)),
        hosts => maps:get(hosts, ep_nif:counters())
    }.

%% Less may be: a process that died just before was still being buried.
leaves_no_more(Before, After) ->
    maps:filter(fun(Key, N) -> N > maps:get(Key, Before) end, After) =:= #{} orelse {Before, After}.

callers_are_told_when_their_context_process_is_killed(Config) ->
    Busy = py_test:marker(Config, "busy"),
    [Ctx, Other] = py_context_router:contexts(),
    OsPid = py_test:os_pid(Ctx),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, sleep, [Busy, 60]) end),
    ok = py_test:wait_for_file(Busy),
    true = exit(Ctx, kill),
    {error, {context_died, killed}} = py_test:result_of(Caller),
    ok = py_test:wait_for_exit([OsPid], ?START_MS),
    ok = py_test:wait_until(fun() -> py:context(1) =/= Ctx end),
    [New, Other] = py_context_router:contexts(),
    {ok, 4.0} = py:call(New, math, sqrt, [16]),
    {error, {context_died, noproc}} = py:call(Ctx, math, sqrt, [16]).

callers_are_told_when_their_context_stops(Config) ->
    Busy = py_test:marker(Config, "busy"),
    {ok, Ctx} = py_context:start_link(busy, worker),
    OsPid = py_test:os_pid(Ctx),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, sleep, [Busy, 60]) end),
    ok = py_test:wait_for_file(Busy),
    ok = py_context:stop(Ctx),
    {error, {context_died, shutdown}} = py_test:result_of(Caller),
    ok = py_test:wait_for_exit([OsPid], ?START_MS),
    ok = py_context:stop(Ctx).

stopping_a_context_leaves_the_others_of_its_process(Config) ->
    Busy = py_test:marker(Config, "busy"),
    [{ok, One}, {ok, Two}] = [
        py_context:start_link(N, worker, #{own_process => false})
     || N <- [1, 2]
    ],
    OsPid = py_test:os_pid(One),
    OsPid = py_test:os_pid(Two),
    Caller = py_test:spawn_caller(fun() -> py:call(One, ep_probe, spin_until_interrupted, [Busy]) end),
    ok = py_test:wait_for_file(Busy),
    ok = py_context:stop(One),
    {error, {context_died, shutdown}} = py_test:result_of(Caller),
    %% The one that ran is interrupted, and the process goes on.
    ok = py_test:wait_for_file(<<Busy/binary, ".interrupted">>),
    [OsPid = py_test:os_pid(Two) || _ <- lists:seq(1, 100)],
    ok = py_context:stop(Two),
    ok = py_test:wait_for_exit([OsPid], ?START_MS).

everything_comes_back_after_the_launcher_was_killed(Config) ->
    Busy = py_test:marker(Config, "busy"),
    [Ctx | _] = Contexts = py_context_router:contexts(),
    Launcher = py_test:launcher_pid(),
    Workers = [py_test:os_pid(C) || C <- Contexts],
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, sleep, [Busy, 60]) end),
    ok = py_test:wait_for_file(Busy),
    ok = py_test:kill(Launcher),
    {error, {worker_died, #{started := true}}} = py_test:result_of(Caller),
    ok = py_test:wait_for_exit([Launcher | Workers], ?START_MS),
    ok = py_test:wait_until(
        fun() -> lists:all(fun(C) -> py:call(C, math, sqrt, [16]) =:= {ok, 4.0} end, Contexts) end,
        ?START_MS
    ),
    ?assertEqual(Contexts, py_context_router:contexts()),
    ?assertNotEqual(Launcher, py_test:launcher_pid()).

the_application_stops_with_a_busy_worker(Config) ->
    Busy = py_test:marker(Config, "busy"),
    Ctx = py:context(1),
    Everything = [py_test:launcher_pid() | [py_test:os_pid(C) || C <- py_context_router:contexts()]],
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, stubborn, [Busy]) end),
    ok = py_test:wait_for_file(Busy),
    ok = py_pace:within(8000, fun() -> application:stop(erlang_python) end),
    {error, {context_died, _}} = py_test:result_of(Caller),
    ok = py_test:wait_for_exit(Everything, ?START_MS).

a_killed_vm_leaves_nothing_behind(_Config) ->
    Shm = filelib:wildcard("/dev/shm/*"),
    [killed_vm() || _ <- lists:seq(1, 3)],
    ?assertEqual(Shm, filelib:wildcard("/dev/shm/*")).

killed_vm() ->
    Peer = py_test:start_vm(#{}),
    Pids = py_test:in_vm(Peer, ?MODULE, load_forever, []),
    [VmPid | Others] = Pids,
    ?assert(length(Others) >= 4),
    ?assert(lists:all(fun py_test:is_running/1, Pids)),
    Ref = monitor(process, Peer),
    unlink(Peer),
    {Ms, Withheld, ok} = py_pace:timed(
        fun() ->
            ok = py_test:kill(VmPid),
            py_test:wait_for_exit(Others, ?START_MS)
        end,
        Pids
    ),
    ?assert(Ms - Withheld =< 250, {Ms, Withheld}),
    receive
        {'DOWN', Ref, process, Peer, _} -> ok
    end.

%% Runs in the VM that will be killed: calls under way on each context, and a
%% process that Python has started.
load_forever() ->
    _ = application:load(erlang_python),
    ok = application:set_env(erlang_python, num_contexts, 2),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, Sleeper} = py:call(py:context(1), ep_probe, start_sleeper, []),
    Workers = [py_test:os_pid(C) || C <- py_context_router:contexts()],
    Launcher = py_test:launcher_pid(),
    [spawn(fun() -> call_forever(Ctx) end) || Ctx <- py_context_router:contexts()],
    [py_test:vm_pid(), Launcher, Sleeper | Workers].

call_forever(Ctx) ->
    {ok, _} = py:call(Ctx, math, sqrt, [16]),
    call_forever(Ctx).
