%% SPDX-License-Identifier: Apache-2.0

%% @doc What a storm may leave behind: figures of the VM and of the system before and
%% after, and what has to hold while the application runs.
-module(chaos_leaks).

-export([snapshot/0, bare/1, compare/2, running/0]).

-export_type([snapshot/0]).

-type snapshot() :: #{atom() => term()}.

%% What the allocators and the tables of the VM keep.
-define(MEMORY_MAX, 48 bsl 20).
%% Code that is loaded when something is printed.
-define(ATOMS_MAX, 64).

%% Memory for arrays that the VM keeps for the next ones.
-define(WARM_MAX, 64 bsl 20).

-spec snapshot() -> snapshot().
snapshot() ->
    [true = erlang:garbage_collect(P) || P <- processes(), is_process_alive(P)],
    Vm = py_test:vm_pid(),
    #{
        fds => py_test:fd_count(Vm),
        maps => py_test:memfd_maps(Vm),
        descendants => lists:sort([comm(P) || P <- py_test:descendants(Vm)]),
        processes => initial_calls(),
        ports => length(erlang:ports()),
        tables => lists:sort([{T, ets:info(T, name)} || T <- ets:all(), is_atom(T)]),
        slots => ep_nif:slots(),
        counters => maps:with([hosts, launchers, lost_wake, violations], ep_nif:counters()),
        atoms => erlang:system_info(atom_count),
        memory => erlang:memory(total),
        rows => [{T, ets:info(T, size)} || T <- [py_state, py_callback], ets:info(T) =/= undefined]
    }.

%% @doc The snapshot of a VM without the application, once its processes have gone.
-spec bare(non_neg_integer()) -> snapshot().
bare(Ms) ->
    [] = py_test:settle(fun() -> [C || P <- py_test:descendants(py_test:vm_pid()), "ep_" ++ _ = C <- [comm(P)]] end, Ms),
    [] = py_test:settle(
        fun() -> [N || N <- [hosts, launchers], maps:get(N, ep_nif:counters()) > 0] end, Ms
    ),
    %% Without worker processes the VM keeps no memory for arrays.
    [] = py_test:settle(fun() -> [Bytes || #{shared_bytes := Bytes} <- [py_shared_memory:stats()], Bytes > 0] end, Ms),
    snapshot().

%% @doc What is there now and was not there before.
-spec compare(snapshot(), snapshot()) -> [{atom(), Before :: term(), After :: term()}].
compare(Before, After) ->
    [
        {Key, B, A}
     || {Key, B} <- lists:sort(maps:to_list(Before)), #{Key := A} <- [After], differs(Key, B, A)
    ].

%% @doc What is wrong with an application that runs and has nothing to do.
-spec running() -> [term()].
running() ->
    #{hosts := Hosts, launchers := Launchers, lost_wake := LostWake, objects := Objects} = ep_nif:counters(),
    Workers = [P || P <- processes(), initial(P) =:= {py_worker, init, 1}],
    Zygotes = [P || P <- py_test:descendants(py_test:vm_pid()), comm(P) =:= "ep_zygote"],
    OsWorkers = [P || P <- py_test:descendants(py_test:vm_pid()), comm(P) =:= "ep_worker"],
    Contexts = py_context_table:all(),
    {Current, _Max, Waiting} = ep_nif:slots(),
    Rules = [
        {slots, {Current, Waiting} =:= {0, 0}, {Current, Waiting}},
        {hosts_and_workers, Hosts =:= length(Workers) + length(Zygotes), {Hosts, Workers, Zygotes}},
        {hosts_and_processes, length(Workers) =:= length(OsWorkers), {Workers, OsWorkers}},
        {contexts, length(Contexts) =:= length(chaos_targets:keys()), Contexts},
        {launchers, Launchers =:= 1, Launchers},
        {lost_wake, LostWake =:= 0, LostWake},
        {arrays, no_arrays(), py_shared_memory:stats()},
        {objects, Objects =:= 0, Objects},
        {tasks, [] =:= tasks(Contexts), tasks(Contexts)},
        {idle, [] =:= busy(Contexts), busy(Contexts)},
        {namespaces, [] =:= namespaces(Contexts), namespaces(Contexts)}
    ],
    [{What, Detail} || {What, false, Detail} <- Rules].

%% Internal

differs(memory, Before, After) -> After - Before > ?MEMORY_MAX;
differs(atoms, Before, After) -> After - Before > ?ATOMS_MAX;
differs(_Key, Before, After) -> Before =/= After.

busy(Contexts) ->
    [{Ctx, Stats} || {Ctx, Lane} <- Contexts, Stats = #{state := State} <- [ep_nif:lane_stats(Lane)], State =/= idle].

%% Those that callers left: each had a tag.
namespaces(Contexts) ->
    [{Ctx, N} || {Ctx, _} <- Contexts, N <- [py:call(Ctx, ep_steps, namespaces, [<<"chaos">>], #{}, 5000)], N =/= {ok, 0}].

%% What refers to arrays is garbage by now, on both sides.
no_arrays() ->
    [true = erlang:garbage_collect(P) || P <- processes(), is_process_alive(P)],
    #{count := Count, shared_bytes := Bytes} = py_shared_memory:stats(),
    Count =:= 0 andalso Bytes =< ?WARM_MAX.

%% Tasks and streams of async generators that go on.
tasks(Contexts) ->
    [{Ctx, N} || {Ctx, _} <- Contexts, N <- [py:call(Ctx, ep_chaos, beside, [], #{}, 5000)], N =/= {ok, 0}].

%% A process of the VM by what it was started to do.
initial_calls() ->
    lists:foldl(
        fun(P, Acc) -> maps:update_with(initial(P), fun(N) -> N + 1 end, 1, Acc) end, #{}, processes()
    ).

initial(P) ->
    case proc_lib:translate_initial_call(P) of
        {proc_lib, init_p, 5} -> erlang;
        Call -> Call
    end.

comm(OsPid) ->
    case file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/comm") of
        {ok, Text} -> string:trim(binary_to_list(Text));
        {error, _} -> "gone"
    end.
