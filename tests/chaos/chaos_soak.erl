%% SPDX-License-Identifier: Apache-2.0

%% @doc make soak: a steady mixed load with a fault every few seconds, for minutes or
%% hours. After each round everything is idle for a moment; the straight line through what
%% the VM, the launcher and a worker process hold then says whether something grows.
-module(chaos_soak).

-include("chaos.hrl").

-export([main/0]).

%% Of a round; then the history is checked and forgotten.
-define(FAULTS, 12).
-define(CALLERS_SEED, 1000).
%% Of the rounds are a warm-up.
-define(WARM_UP, 0.25).
-define(SETTLE_MS, 10000).
%% The worker whose memory is measured lives all the time.
-define(STEADY, {pool, default, 1}).

%% What the line may rise by, over the whole time, for it is never quite level.
bounds() ->
    #{
        vm_bytes => 16 bsl 20,
        vm_erlang_bytes => 8 bsl 20,
        launcher_bytes => 1 bsl 20,
        worker_bytes => 8 bsl 20,
        fds => 3,
        maps => 4,
        processes => 4,
        atoms => 64,
        ets_bytes => 1 bsl 20,
        rows => 4
    }.

-spec main() -> no_return().
main() ->
    Minutes = list_to_float_or_integer(os:getenv("MINUTES", "10")),
    Seed = list_to_integer(os:getenv("SEED", "1")),
    ok = chaos_report:create(),
    ok = logger:set_primary_config(level, none),
    Dir = chaos:directory(),
    ok = chaos_history:create(),
    ok = chaos_targets:start(),
    ok = chaos_targets:spare(?STEADY),
    ok = chaos_load:register_callbacks(),
    Deadline = erlang:monotonic_time(millisecond) + round(Minutes * 60000),
    Samples = rounds(1, Seed, Dir, Deadline, []),
    verdict(Samples),
    ok = chaos_targets:stop(),
    ok = file:del_dir_r(Dir),
    halt(case chaos_report:finish() of true -> 0; false -> 1 end).

%% Internal

list_to_float_or_integer(Text) ->
    try
        list_to_float(Text)
    catch
        error:badarg -> list_to_integer(Text)
    end.

rounds(N, Seed, Dir, Deadline, Samples) ->
    case erlang:monotonic_time(millisecond) < Deadline of
        true ->
            Ref = make_ref(),
            Self = self(),
            {Pid, Monitor} = spawn_monitor(fun() -> Self ! {Ref, round(N, Seed, Dir)} end),
            receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
            receive {Ref, ok} -> ok end,
            rounds(N + 1, Seed, Dir, Deadline, [sample() | Samples]);
        false ->
            lists:reverse(Samples)
    end.

round(N, Seed, Dir) ->
    Kinds = [kill, stop, segv, exit, abort, kill_in_callback, stop_in_callback, caller, context_stop, context_kill],
    %% One fault in a while: the load counts here, not the storm.
    Faults = [{K, Number, 900 + Pause} || {K, Number, Pause} <- chaos_nemesis:plan(?FAULTS, Seed + N, Kinds)],
    {History, _} = chaos:storm(Faults, Seed + ?CALLERS_SEED * N, Dir),
    Bad = chaos_checker:check(History),
    chaos_report:check(io_lib:format("the laws hold in round ~b", [N]), Bad =:= [], {length(Bad), lists:sublist(Bad, 3)}),
    ok = chaos_history:clear(),
    ok = chaos:clear_marks(Dir),
    ok = py:state_clear(),
    Left = py_test:settle(fun chaos_leaks:running/0, ?SETTLE_MS),
    chaos_report:check(io_lib:format("nothing is left after round ~b", [N]), Left =:= [], Left),
    ok.

sample() ->
    [true = erlang:garbage_collect(P) || P <- processes(), is_process_alive(P)],
    Steady = chaos_targets:os_pid(chaos_targets:context(?STEADY)),
    Launcher = hd([P || P <- py_test:descendants(py_test:vm_pid()), comm(P) =:= "ep_launcher"]),
    #{hosts := Hosts} = ep_nif:counters(),
    Vm = py_test:vm_pid(),
    {erlang:monotonic_time(millisecond) / 60000, #{
        vm_bytes => anonymous(Vm),
        vm_erlang_bytes => erlang:memory(total),
        launcher_bytes => anonymous(Launcher),
        worker_bytes => anonymous(Steady),
        %% Without those of the worker processes, whose number changes.
        fds => py_test:fd_count(Vm) - 3 * Hosts,
        maps => py_test:memfd_maps(Vm) - 3 * Hosts,
        processes => erlang:system_info(process_count) - Hosts,
        atoms => erlang:system_info(atom_count),
        ets_bytes => erlang:memory(ets),
        rows => lists:sum([ets:info(T, size) || T <- [py_context_table, py_state, py_callback]])
    }}.

anonymous(OsPid) ->
    {ok, Text} = file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/status"),
    {match, [Kb]} = re:run(Text, "RssAnon:\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb) * 1024.

comm(OsPid) ->
    case file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/comm") of
        {ok, Text} -> string:trim(binary_to_list(Text));
        {error, _} -> "gone"
    end.

verdict(Samples) ->
    Warm = lists:nthtail(round(length(Samples) * ?WARM_UP), Samples),
    chaos_report:check("there are enough rounds for a line", length(Warm) >= 3, length(Samples)),
    {First, _} = hd(Warm),
    {Last, _} = lists:last(Warm),
    Lines = [
        begin
            Slope = slope([{T, maps:get(Key, S)} || {T, S} <- Warm]),
            {Key, Slope, Slope * (Last - First), Bound}
        end
     || {Key, Bound} <- lists:sort(maps:to_list(bounds()))
    ],
    [chaos_report:check(["grows: ", atom_to_list(Key)], Rise =< Bound, {Slope, Rise, Bound}) || {Key, Slope, Rise, Bound} <- Lines],
    Grows = [Key || {Key, _, Rise, Bound} <- Lines, Rise > Bound],
    io:format("~b rounds, ~.1f minutes after the warm-up; per minute:~ts; ~ts~n", [
        length(Samples), Last - First,
        [io_lib:format(" ~s ~.1f", [Key, Slope]) || {Key, Slope, _, _} <- Lines],
        case Grows of [] -> "nothing grows"; _ -> io_lib:format("grows: ~p", [Grows]) end
    ]).

%% Least squares.
slope(Points) ->
    N = length(Points),
    MeanX = lists:sum([X || {X, _} <- Points]) / N,
    MeanY = lists:sum([Y || {_, Y} <- Points]) / N,
    Sxx = lists:sum([(X - MeanX) * (X - MeanX) || {X, _} <- Points]),
    Sxy = lists:sum([(X - MeanX) * (Y - MeanY) || {X, Y} <- Points]),
    case Sxx > 0 of
        true -> Sxy / Sxx;
        false -> 0.0
    end.
