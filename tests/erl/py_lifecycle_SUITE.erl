%% SPDX-License-Identifier: Apache-2.0

%% @doc Beginnings and ends under adverse conditions: contexts that stop while they are
%% busy, neighbours in one process, starts that fail, starts right after a stop.
-module(py_lifecycle_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, groups/0, init_per_group/2, end_per_group/2, end_per_suite/1]).
-export([init_per_suite/1, end_per_testcase/2]).
-export([
    leaves_neighbours_alone_when_a_context_stops/1,
    interrupts_the_running_call_of_a_context_that_stops/1,
    interrupts_the_running_call_of_a_context_that_is_killed/1,
    kills_a_process_whose_stopped_context_goes_on/1,
    never_runs_what_waited_for_a_context_that_stopped/1,
    ends_a_context_whose_requests_fill_its_ring/1,
    hits_all_contexts_of_a_process_that_crashes/1,
    names_a_live_context_at_any_time/1,
    rebinds_processes_when_their_context_is_replaced/1,
    answers_parallel_items_of_a_crash_each/1,
    ends_what_python_started_with_the_worker/1,
    ends_a_launcher_that_stands_still/1,
    leaves_nothing_behind_when_started_and_stopped/1,
    tries_again_when_a_worker_does_not_start/1,
    survives_the_death_of_its_worker_while_it_starts/1
]).

-define(WAIT_MS, 20000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++ [{group, application}].

groups() ->
    [
        {application, [
            ends_a_launcher_that_stands_still,
            leaves_nothing_behind_when_started_and_stopped,
            tries_again_when_a_worker_does_not_start
        ]}
        | [{Mode, cases()} || {Mode, _} <- py_test:modes()]
    ].

cases() ->
    [
        leaves_neighbours_alone_when_a_context_stops,
        interrupts_the_running_call_of_a_context_that_stops,
        interrupts_the_running_call_of_a_context_that_is_killed,
        kills_a_process_whose_stopped_context_goes_on,
        never_runs_what_waited_for_a_context_that_stopped,
        ends_a_context_whose_requests_fill_its_ring,
        hits_all_contexts_of_a_process_that_crashes,
        names_a_live_context_at_any_time,
        rebinds_processes_when_their_context_is_replaced,
        answers_parallel_items_of_a_crash_each,
        ends_what_python_started_with_the_worker,
        survives_the_death_of_its_worker_while_it_starts
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(application, Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    Config;
init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    {ok, 4.0} = py:call(py:context(1), math, sqrt, [16], ?WAIT_MS),
    py_test:clean().

%% --- neighbours -----------------------------------------------------------------------

%% Replies and the end of the context cross in every round: none of them may be taken
%% for a lie of the worker process, which would cost the neighbour its process.
leaves_neighbours_alone_when_a_context_stops(Config) ->
    Mode = proplists:get_value(mode, Config),
    Options = #{own_process => false},
    {ok, Neighbour} = py_context:start_link(neighbour, Mode, Options),
    OsPid = py_test:os_pid(Neighbour),
    [ok = stop_under_load(Mode, Options) || _ <- lists:seq(1, 60)],
    ?assertEqual(OsPid, py_test:os_pid(Neighbour)),
    ok = py_context:stop(Neighbour).

stop_under_load(Mode, Options) ->
    {ok, Ctx} = py_context:start_link(transient, Mode, Options),
    Self = self(),
    Callers = [
        py_test:spawn_caller(fun() ->
            Self ! {up, self()},
            call_until_it_ends(Ctx)
        end)
     || _ <- lists:seq(1, 12)
    ],
    [
        receive
            {up, Pid} -> ok
        end
     || {Pid, _} <- Callers
    ],
    {ok, _} = py:call(Ctx, math, sqrt, [16]),
    ok = py_context:stop(Ctx),
    [ok = py_test:result_of(Caller) || Caller <- Callers],
    ok.

call_until_it_ends(Ctx) ->
    case py:call(Ctx, builtins, abs, [-1]) of
        {ok, 1} -> call_until_it_ends(Ctx);
        {error, {context_died, Reason}} when Reason =:= shutdown; Reason =:= noproc -> ok
    end.

interrupts_the_running_call_of_a_context_that_stops(Config) ->
    ended_call(Config, fun py_context:stop/1, shutdown).

interrupts_the_running_call_of_a_context_that_is_killed(Config) ->
    ended_call(Config, fun(Ctx) -> unlink(Ctx), exit(Ctx, kill), ok end, killed).

%% In a process that goes on for others, Python must not go on with that call.
ended_call(Config, End, Reason) ->
    Mode = proplists:get_value(mode, Config),
    Options = #{own_process => false},
    {ok, Neighbour} = py_context:start_link(neighbour, Mode, Options),
    {ok, Ctx} = py_context:start_link(busy, Mode, Options),
    OsPid = py_test:os_pid(Neighbour),
    OsPid = py_test:os_pid(Ctx),
    Mark = py_test:marker(Config, "ended"),
    Caller = py_test:spawn_caller(fun() ->
        py:call(Ctx, ep_probe, spin_until_interrupted, [Mark])
    end),
    ok = py_test:wait_for_file(Mark),
    ok = End(Ctx),
    ?assertEqual({error, {context_died, Reason}}, py_test:result_of(Caller)),
    ok = py_test:wait_for_file(<<Mark/binary, ".interrupted">>),
    ?assertEqual(OsPid, py_test:os_pid(Neighbour)),
    ok = py_context:stop(Neighbour).

%% It would keep a thread, and the GIL that the others want, for ever.
kills_a_process_whose_stopped_context_goes_on(Config) ->
    Mode = proplists:get_value(mode, Config),
    Options = #{own_process => false, kill_after => 200},
    {ok, Neighbour} = py_context:start_link(neighbour, Mode, Options),
    {ok, Ctx} = py_context:start_link(stubborn, Mode, Options),
    OsPid = py_test:os_pid(Neighbour),
    Mark = py_test:marker(Config, "stubborn"),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, stubborn, [Mark]) end),
    ok = py_test:wait_for_file(Mark),
    ok = py_context:stop(Ctx),
    ?assertEqual({error, {context_died, shutdown}}, py_test:result_of(Caller)),
    ok = py_test:wait_for_exit([OsPid], 5000),
    ?assertNotEqual(OsPid, py_test:os_pid(Neighbour)),
    ok = py_context:stop(Neighbour).

never_runs_what_waited_for_a_context_that_stopped(Config) ->
    Mode = proplists:get_value(mode, Config),
    Options = #{own_process => false},
    {ok, Neighbour} = py_context:start_link(neighbour, Mode, Options),
    {ok, Ctx} = py_context:start_link(busy, Mode, Options),
    OsPid = py_test:os_pid(Ctx),
    true = is_titled(OsPid, "busy"),
    [Busy, Mark] = [py_test:marker(Config, Name) || Name <- ["busy", "queued"]],
    First = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, spin_until_interrupted, [Busy]) end),
    ok = py_test:wait_for_file(Busy),
    Waiting = [
        py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, mark, [Mark]) end)
     || _ <- lists:seq(1, 300)
    ],
    ok = py_test:wait_until(fun() -> lists:all(fun is_parked/1, Waiting) end),
    ok = py_context:stop(Ctx),
    [{error, {context_died, shutdown}} = py_test:result_of(C) || C <- [First | Waiting]],
    ok = py_test:wait_for_file(<<Busy/binary, ".interrupted">>),
    %% The thread of the context goes through what it had in its ring.
    ok = py_test:wait_until(fun() -> not is_titled(OsPid, "busy") end),
    [] = py_test:marks(Mark),
    ok = py_context:stop(Neighbour).

%% More requests wait than the worker takes in, so that there is no room to tell it of the end.
ends_a_context_whose_requests_fill_its_ring(Config) ->
    Mode = proplists:get_value(mode, Config),
    Options = #{own_process => false},
    {ok, Neighbour} = py_context:start_link(neighbour, Mode, Options),
    {ok, Ctx} = py_context:start_link(full, Mode, Options),
    Gone = py_test:marker(Config, "gone"),
    %% Of a module: free-threaded Python 3.13 keeps the namespaces that define classes.
    ok = py:exec(Ctx, ["import ep_probe\nlast = ep_probe.Last('", Gone, "')\n"]),
    Busy = py_test:marker(Config, "full"),
    First = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, spin_until_interrupted, [Busy]) end),
    ok = py_test:wait_for_file(Busy),
    Waiting = [
        py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end)
     || _ <- lists:seq(1, 300)
    ],
    ok = py_test:wait_until(fun() -> lists:all(fun is_parked/1, Waiting) end),
    ok = py_context:stop(Ctx),
    [{error, {context_died, shutdown}} = py_test:result_of(C) || C <- [First | Waiting]],
    ok = py_test:wait_for_file(Gone),
    ok = py_context:stop(Neighbour).

is_parked({Pid, _}) ->
    process_info(Pid, current_function) =:= {current_function, {py_request, receive_done, 4}}.

%% Whether the title of the process names the context, as it does until that has ended.
%% sys._current_frames would tell more, but CPython 3.13 makes objects of one interpreter in
%% another there.
is_titled(OsPid, Context) ->
    {ok, Title} = file:read_file(["/proc/", integer_to_list(OsPid), "/cmdline"]),
    string:find(Title, Context) =/= nomatch.

%% --- crashes --------------------------------------------------------------------------

hits_all_contexts_of_a_process_that_crashes(Config) ->
    [One, Two] = py_context_router:contexts(),
    Former = [py_test:os_pid(Ctx) || Ctx <- [One, Two]],
    Held = {Sleeper, _Fifo} = py_fixture:hold(Two, Config),
    {error, {worker_died, #{context := One, reason := 'SIGSEGV', started := true}}} =
        py:call(One, ep_probe, segfault, []),
    case proplists:get_value(group, Config) of
        worker ->
            ok = py_fixture:let_go(Held);
        _ ->
            OsPid = hd(Former),
            ?assertEqual(
                {error, {worker_died, #{
                    context => Two, os_pid => OsPid, reason => 'SIGSEGV', started => true
                }}},
                py_test:result_of(Sleeper)
            )
    end,
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || Ctx <- [One, Two]],
    [One, Two] = py_context_router:contexts().

names_a_live_context_at_any_time(_Config) ->
    [
        begin
            Ctx = py:context(1),
            Ref = monitor(process, Ctx),
            true = exit(Ctx, kill),
            receive
                {'DOWN', Ref, process, Ctx, killed} -> ok
            end,
            New = py:context(1),
            ?assert(is_process_alive(New)),
            ?assert(is_process_alive(py:context())),
            {ok, 4.0} = py:call(New, math, sqrt, [16])
        end
     || _ <- lists:seq(1, 5)
    ].

rebinds_processes_when_their_context_is_replaced(_Config) ->
    Two = py:context(2),
    Self = self(),
    Caller = py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(Two),
        ok = py:exec("x = 1"),
        Self ! {bound, self()},
        receive
            {replaced, New} ->
                New = py:context(),
                {error, {'NameError', _}} = py:eval("x"),
                ok = py:exec("x = 2"),
                {py:eval("x"), py:eval(New, "x")}
        end
    end),
    receive
        {bound, Pid} -> ok
    end,
    Ref = monitor(process, Two),
    true = exit(Two, kill),
    receive
        {'DOWN', Ref, process, Two, killed} -> ok
    end,
    New = py:context(2),
    Pid ! {replaced, New},
    {{ok, 2}, {ok, 2}} = py_test:result_of(Caller),
    {error, {context_died, noproc}} = py:call(Two, math, sqrt, [16]).

answers_parallel_items_of_a_crash_each(_Config) ->
    Items = [{ep_probe, segfault, []} | [{builtins, abs, [-N]} || N <- lists:seq(1, 99)]],
    {ok, [{error, {worker_died, #{started := true}}} | Results]} = py:parallel(Items),
    99 = length(Results),
    [
        case Result of
            {ok, N} -> ok;
            {error, {worker_died, #{reason := 'SIGSEGV'}}} -> ok
        end
     || {N, Result} <- lists:zip(lists:seq(1, 99), Results)
    ].

%% Also those that left the session, as daemons do.
ends_what_python_started_with_the_worker(_Config) ->
    Ctx = py:context(1),
    Sleepers = [
        begin
            {ok, Sleeper} = py:call(Ctx, ep_probe, start_sleeper, [NewSession]),
            Sleeper
        end
     || NewSession <- [false, true]
    ],
    true = lists:all(fun py_test:is_running/1, Sleepers),
    {error, {worker_died, _}} = py:call(Ctx, ep_probe, segfault, []),
    ok = py_test:wait_for_exit(Sleepers, ?WAIT_MS),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]).

%% Calls that wait for a start are answered when that process dies, and the next serves.
survives_the_death_of_its_worker_while_it_starts(_Config) ->
    Ctx = py:context(1),
    Launcher = py_test:launcher_pid(),
    [
        begin
            %% A start that failed, in the last round, is tried again.
            ok = py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end, ?WAIT_MS),
            {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
            Callers = [
                py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end)
             || _ <- lists:seq(1, 10)
            ],
            [_ = os:cmd("kill -9 " ++ integer_to_list(P)) || P <- py_test:children(Launcher)],
            Results = [py_test:result_of(Caller) || Caller <- Callers],
            [
                case Result of
                    {ok, 4.0} -> ok;
                    {error, {worker_died, #{started := false}}} -> ok;
                    {error, {worker_unavailable, _}} -> ok
                end
             || Result <- Results
            ]
        end
     || _ <- lists:seq(1, 10)
    ],
    ok = py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end, ?WAIT_MS).

%% --- the application ------------------------------------------------------------------

%% The end of a launcher must not be taken for that of its successor.
%% The end of the application waits some seconds for it.
ends_a_launcher_that_stands_still(_Config) ->
    Launcher = py_test:launcher_pid(),
    Processes = [Launcher | py_test:descendants(Launcher)],
    ?assertMatch([_, _, _ | _], Processes),
    [] = os:cmd("kill -STOP " ++ integer_to_list(Launcher)),
    ok = application:stop(erlang_python),
    ok = py_test:wait_until(fun() -> not lists:any(fun py_test:is_running/1, Processes) end),
    ?assertEqual({ok, [erlang_python]}, application:ensure_all_started(erlang_python)),
    {ok, [{ok, 4.0}, {ok, 4.0}]} = py:parallel([{math, sqrt, [16]}, {math, sqrt, [16]}]).

leaves_nothing_behind_when_started_and_stopped(_Config) ->
    restart(),
    Before = resources(),
    [restart() || _ <- lists:seq(1, 15)],
    ok = py_test:wait_until(fun() -> resources() =:= Before orelse {Before, resources()} end).

restart() ->
    ok = application:stop(erlang_python),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, 4.0} = py:call(math, sqrt, [16]).

resources() ->
    VmPid = py_test:vm_pid(),
    _ = [erlang:garbage_collect(P) || P <- processes()],
    #{
        fds => py_test:fd_count(VmPid),
        maps => py_test:memfd_maps(VmPid),
        processes => length(py_test:descendants(VmPid)),
        ports => length(erlang:ports()),
        erlang_processes => length(processes()),
        counters => maps:with([hosts, launchers], ep_nif:counters())
    }.

%% A worker process without memory does not start; the application stays up.
tries_again_when_a_worker_does_not_start(_Config) ->
    case os:find_executable("prlimit") of
        false ->
            {skip, "prlimit is not installed"};
        Prlimit ->
            Launcher = py_test:launcher_pid(),
            Limit = fun(Bytes) ->
                [] = os:cmd(io_lib:format("~s --pid ~b --as=~s", [Prlimit, Launcher, Bytes]))
            end,
            [Ctx, Other] = py_context_router:contexts(),
            Limit("20000000:unlimited"),
            %% Nor does another zygote.
            lists:foreach(fun py_test:kill/1, py_test:zygotes(Launcher)),
            ok = py_test:kill(py_test:os_pid(Ctx)),
            ok = py_test:wait_until(fun() ->
                case py:call(Ctx, math, sqrt, [16]) of
                    {error, {worker_unavailable, _}} -> true;
                    {error, {worker_died, _}} -> false
                end
            end),
            {ok, 4.0} = py:call(Other, math, sqrt, [16]),
            {error, {worker_unavailable, _}} = py:call(Ctx, math, sqrt, [16]),
            Limit("unlimited:unlimited"),
            ok = py_test:wait_until(
                fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end, ?WAIT_MS
            ),
            [Ctx, Other] = py_context_router:contexts()
    end.
