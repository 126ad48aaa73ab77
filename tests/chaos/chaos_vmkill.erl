%% SPDX-License-Identifier: Apache-2.0

%% @doc make vmkill: SIGKILL of a VM under load, with workers, processes that Python code
%% started and large segments. All of them have to be gone at once, nothing may be left in
%% /dev/shm, and the next VM has to start.
-module(chaos_vmkill).

-export([main/0, victim/0]).

-define(BOUND_MS, 250).
%% What the control takes on a machine with nothing else to do; more makes the bound wider.
-define(CONTROL_MS, 20).
-define(START_MS, 60000).
-define(GIVE_UP_MS, 20000).
-define(LOOK_MS, 1).
-define(CALLERS, 8).

-spec main() -> no_return().
main() ->
    ok = chaos_report:create(),
    _ = chaos:directory(),
    Rounds = list_to_integer(os:getenv("N", "10")),
    Shm = shm(),
    Times = [one(I, Shm) || I <- lists:seq(1, Rounds)],
    {P50, _, Max} = chaos_report:percentiles([Ms || {Ms, _} <- Times]),
    {C50, _, CMax} = chaos_report:percentiles([Ms || {_, Ms} <- Times]),
    io:format("VMs killed ~b: everything gone after ~.1f ms, ~.1f at most; the control ~.1f, ~.1f at most~n", [
        Rounds, float(P50), float(Max), float(C50), float(CMax)
    ]),
    halt(case chaos_report:finish() of true -> 0; false -> 1 end).

%% @doc In the VM that is killed.
-spec victim() -> no_return().
victim() ->
    _ = application:load(erlang_python),
    [ok = application:set_env(erlang_python, K, V) || {K, V} <- [{num_contexts, 2}, {max_concurrent, 1000}]],
    {ok, _} = application:ensure_all_started(erlang_python),
    _ = [py_context_router:start_pool(owngil, 2, owngil) || py:subinterp_supported()],
    Contexts = py_context_router:contexts() ++ py_context_router:contexts(owngil),
    [{ok, _} = py:call(Ctx, ep_probe, start_sleeper, [New]) || Ctx <- Contexts, New <- [false, true]],
    Data = binary:copy(<<16#FE, 1>>, 16 bsl 20),
    [{ok, Data} = py:call(Ctx, ep_probe, echo, [{bytes, Data}]) || Ctx <- Contexts],
    [spawn(fun() -> busy(lists:nth(1 + I rem length(Contexts), Contexts), I) end) || I <- lists:seq(1, ?CALLERS)],
    io:format("ready~n"),
    receive never -> halt() end.

busy(Ctx, I) ->
    Data = binary:copy(<<I, 16#FF>>, 1 bsl (I + 10)),
    {ok, Data} = py:call(Ctx, ep_probe, echo, [{bytes, Data}]),
    busy(Ctx, I).

%% Internal

one(I, Shm) ->
    Port = start(),
    {os_pid, Vm} = erlang:port_info(Port, os_pid),
    IsReady = wait_for_ready(Port),
    chaos_report:check(io_lib:format("VM ~b starts", [I]), IsReady, Vm),
    Family = lists:usort(py_test:descendants(Vm)),
    HasZygote = lists:any(fun(P) -> file:read_file(["/proc/", integer_to_list(P), "/comm"]) =:= {ok, <<"ep_zygote\n">>} end, Family),
    %% Before and after it: the machine may have other work at one of these moments.
    Before = control(length(Family)),
    %% What the system withheld from them and from this VM meanwhile is not their doing.
    {_, Withheld, Ms} = py_pace:timed(fun() -> kill_and_wait(Vm, [Vm | Family]) end, [Vm | Family]),
    Control = max(Before, control(length(Family))),
    Bound = Withheld + ?BOUND_MS * max(1.0, Control / ?CONTROL_MS),
    chaos_report:check(io_lib:format("after the end of VM ~b all is gone in time", [I]), Ms =< Bound, {Ms, Bound, Control, Withheld}),
    chaos_report:check("the VM had workers, their children and a zygote", length(Family) >= 9 andalso HasZygote, Family),
    chaos_report:check("nothing in /dev/shm", shm() =:= Shm, shm() -- Shm),
    receive {Port, {exit_status, _}} -> ok end,
    {Ms, Control}.

start() ->
    Paths = lists:append([["-pa", filename:dirname(code:which(M))] || M <- [py, ?MODULE]]),
    open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noshell" | Paths] ++ ["-eval", "chaos_vmkill:victim()"]}, {line, 1000}, exit_status, binary, stderr_to_stdout
    ]).

wait_for_ready(Port) ->
    receive
        {Port, {data, {eol, <<"ready">>}}} -> true;
        {Port, {data, _}} -> wait_for_ready(Port);
        {Port, {exit_status, _}} -> false
    after ?START_MS -> false
    end.

%% As many processes, which nobody has to find.
control(N) ->
    Ports = [open_port({spawn_executable, os:find_executable("sleep")}, [{args, ["3600"]}, exit_status]) || _ <- lists:seq(1, N)],
    OsPids = [element(2, erlang:port_info(P, os_pid)) || P <- Ports],
    Ms = kill_and_wait(lists:flatten(lists:join(" ", [integer_to_list(P) || P <- OsPids])), OsPids),
    [receive {P, {exit_status, _}} -> ok end || P <- Ports],
    Ms.

kill_and_wait(Vm, OsPids) when is_integer(Vm) ->
    kill_and_wait(integer_to_list(Vm), OsPids);
kill_and_wait(Text, OsPids) ->
    Start = erlang:monotonic_time(microsecond),
    [] = os:cmd("kill -9 " ++ Text),
    wait(OsPids, Start).

wait(OsPids, Start) ->
    Ms = (erlang:monotonic_time(microsecond) - Start) / 1000,
    case [P || P <- OsPids, py_test:is_running(P)] of
        [] ->
            Ms;
        Left when Ms < ?GIVE_UP_MS ->
            receive after ?LOOK_MS -> ok end,
            wait(Left, Start);
        Left ->
            io:format("still there: ~p~n", [Left]),
            Ms
    end.

shm() ->
    {ok, Names} = file:list_dir("/dev/shm"),
    lists:sort(Names).
