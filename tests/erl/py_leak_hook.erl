%% SPDX-License-Identifier: Apache-2.0

%% @doc Looks before and after each test case for what the case, or the library, has left
%% behind: fds, maps and processes of the VM, processes of the system, slots, blocks,
%% tables and rows, atoms, memory. A case that leaves something fails.
%%
%% Cases start and stop the application and its pools, so what belongs to a worker process
%% or to the launcher that is there counts as nothing: each has its fds, maps and processes,
%% and only what is beyond them is compared.
-module(py_leak_hook).

-export([id/1, init/2, pre_init_per_testcase/4, post_end_per_testcase/5]).
-export([pre_init_per_group/4, pre_end_per_group/4, pre_end_per_suite/3]).
-export([figures/0, differences/2]).

-record(state, {
    before = none :: none | figures(),
    %% a case that ended while its process still referred to a worker process that is gone
    owed = none :: none | {Case :: atom(), figures()}
}).

-type figures() :: #{atom() => term()}.

%% Until the dead are buried and their memory is given back.
-define(SETTLE_MS, 10000).
%% A worker that is gone, and counted because somebody refers to it, would make what there
%% is look less.
-define(STALE_MS, 2000).
%% Python may make `max_atoms' of them, and code is loaded.
-define(ATOMS_MAX, 16000).
-define(ROWS_MAX, 1000).
-define(MEMORY_MAX, 48 bsl 20).
-define(RSS_MAX, 256 bsl 20).
%% That of nudge/0.
-define(BLOCK, 4096).
%% What a worker process has, as long as somebody refers to it or to its contexts.
-define(HELD, [pidfds, eventfds, sockets_and_pipes, maps]).
%% Of the application; rows of contexts are compared with the contexts.
-define(TABLES, [py_context_table, py_state, py_callback, py_pool_registry, py_shared_worker]).

-spec id(term()) -> module().
id(_Options) ->
    ?MODULE.

-spec init(term(), term()) -> {ok, #state{}}.
init(_Id, _Options) ->
    {ok, #state{}}.

-spec pre_init_per_testcase(atom(), atom(), term(), #state{}) -> {term(), #state{}}.
pre_init_per_testcase(_Suite, _Case, Config, State) ->
    {Return, Paid} = paid(Config, State),
    %% What the case before referred to is freed when nobody does any more.
    _ = py_test:settle(fun stale/0, ?STALE_MS),
    {Return, Paid#state{before = figures()}}.

-spec pre_init_per_group(atom(), atom(), term(), #state{}) -> {term(), #state{}}.
pre_init_per_group(_Suite, _Group, Config, State) ->
    paid(Config, State).

-spec pre_end_per_group(atom(), atom(), term(), #state{}) -> {term(), #state{}}.
pre_end_per_group(_Suite, _Group, Config, State) ->
    paid(Config, State).

-spec pre_end_per_suite(atom(), term(), #state{}) -> {term(), #state{}}.
pre_end_per_suite(_Suite, Config, State) ->
    paid(Config, State).

-spec post_end_per_testcase(atom(), atom(), term(), term(), #state{}) -> {term(), #state{}}.
post_end_per_testcase(_Suite, _Case, _Config, Return, State = #state{before = none}) ->
    {Return, State};
post_end_per_testcase(_Suite, _Case, _Config, Return = {fail, _}, State) ->
    {Return, State#state{before = none}};
post_end_per_testcase(_Suite, Case, _Config, Return, State = #state{before = Before}) ->
    %% This process ends with the case, and with it what it used.
    _ = [erase(Key) || {Key, _} <- get(), is_ours(Key)],
    ok = nudge(),
    case settle(fun() -> without(?HELD, differences(Before, figures())) end) of
        [] ->
            %% What the case was given, and what its variables refer to, ends with it, too.
            Owed =
                case differences(Before, figures()) of
                    [] -> none;
                    _ -> {Case, maps:with(?HELD, Before)}
                end,
            {Return, State#state{before = none, owed = Owed}};
        Left ->
            {failed(Case, Left), State#state{before = none}}
    end.

%% @doc What is compared. Without the application most of it is still there.
-spec figures() -> figures().
figures() ->
    Self = self(),
    _ = [erlang:garbage_collect(P) || P <- processes(), P =/= Self],
    true = erlang:garbage_collect(),
    #{hosts := Hosts, launchers := Launchers} = ep_nif:counters(),
    Vm = py_test:vm_pid(),
    Fds = fds(),
    OsPids = [{P, comm(P)} || P <- py_test:descendants(Vm)],
    Contexts = contexts(),
    #{
        pidfds => maps:get(pidfd, Fds, 0) - Hosts,
        eventfds => maps:get(eventfd, Fds, 0) - Hosts,
        %% Each worker and each launcher has one, or a pipe.
        sockets_and_pipes => maps:get(socket, Fds, 0) + maps:get(pipe, Fds, 0) - Hosts - 3 * Launchers,
        other_fds => maps:get(other, Fds, []),
        maps => py_test:memfd_maps(Vm) - 3 * Hosts,
        workers => length([P || {P, C} <- OsPids, is_host(C)]) - Hosts,
        launchers => length([P || {P, "ep_launcher"} <- OsPids]) - Launchers,
        os_processes => [{P, C} || {P, C} <- OsPids, not lists:prefix("ep_", C), C =/= "erl_child_setup"],
        py_workers => length([P || P <- processes(), initial(P) =:= py_worker]) - length([P || {P, "ep_worker"} <- OsPids]),
        processes => lists:sort([P || P <- processes(), not is_expected(P)]),
        slots => {element(1, ep_nif:slots()), element(3, ep_nif:slots())},
        context_rows => [Ctx || {Ctx, _} <- Contexts, not is_process_alive(Ctx)],
        blocks => maps:from_list([{Ctx, shared(Lane)} || {Ctx, Lane} <- Contexts]),
        tables => [{T, ets:info(T, name)} || T <- lists:sort(ets:all()), is_case_table(T)],
        rows => maps:from_list([{T, rows(T)} || T <- [py_state, py_callback]]),
        counted_state => counted_state(),
        atoms => erlang:system_info(atom_count),
        memory => erlang:memory(total),
        rss => rss()
    }.

%% Workers and launchers that are counted and do not run.
stale() ->
    _ = [erlang:garbage_collect(P) || P <- processes()],
    #{hosts := Hosts, launchers := Launchers} = ep_nif:counters(),
    Commands = [comm(P) || P <- py_test:descendants(py_test:vm_pid())],
    Counted = [{workers, Hosts, fun is_host/1}, {launchers, Launchers, fun(C) -> C =:= "ep_launcher" end}],
    [{What, Count} || {What, Count, Is} <- Counted, Count > length(lists:filter(Is, Commands))].

is_host(Command) ->
    lists:member(Command, ["ep_worker", "ep_zygote"]).

%% @doc What is there now and was not before.
-spec differences(figures(), figures()) -> [{atom(), term()}].
differences(Before, After) ->
    lists:append([
        [{Key, Difference} || Difference <- difference(Key, B, maps:get(Key, After)), Difference =/= none]
     || {Key, B} <- lists:sort(maps:to_list(Before))
    ]).

%% Internal

%% A block that the worker has handed back counts as in use until the next one is taken.
nudge() ->
    _ = [
        py_context:call(Ctx, builtins, len, [binary:copy(<<1>>, 300)], #{}, 2000)
     || {Ctx, Lane} <- contexts(), maps:get(state, ep_nif:lane_stats(Lane)) =:= idle
    ],
    ok.

%% In a later process: whether the case has left anything.
paid(Return, State = #state{owed = none}) ->
    {Return, State};
paid(Return, State = #state{owed = {Case, Before}}) ->
    case settle(fun() -> differences(Before, figures()) end) of
        [] -> {Return, State#state{owed = none}};
        Left -> {failed(Case, Left), State#state{owed = none}}
    end.

failed(Case, Left) ->
    ct:pal("left behind by ~s:~n~ts", [Case, [io_lib:format("  ~s: ~tp~n", [Key, What]) || {Key, What} <- Left]]),
    {fail, {left_behind_by, Case, Left}}.

without(Keys, Differences) ->
    [D || D = {Key, _} <- Differences, not lists:member(Key, Keys)].

settle(Fun) ->
    py_test:settle(Fun, ?SETTLE_MS).

difference(Key, Before, After) when Key =:= os_processes; Key =:= tables; Key =:= context_rows; Key =:= other_fds ->
    [After -- Before || After -- Before =/= []];
difference(processes, Before, After) ->
    New = [{P, proc_lib:translate_initial_call(P), process_info(P, current_stacktrace)} || P <- After -- Before],
    [New || New =/= []];
difference(blocks, Before, After) ->
    %% Of contexts that were there all the time.
    Changed = [{Ctx, B, A} || {Ctx, B} <- maps:to_list(Before), {ok, A} <- [maps:find(Ctx, After)], A > B + ?BLOCK],
    [Changed || Changed =/= []];
%% What is in these tables a case has put there, and may have left.
difference(rows, Before, After) ->
    Grown = [{T, B, A} || {T, A} <- maps:to_list(After), B <- [maps:get(T, Before)], A - B > ?ROWS_MAX],
    [Grown || Grown =/= []];
difference(counted_state, _Before, After) ->
    [After || After =/= 0];
difference(slots, _Before, After) ->
    [After || After =/= {0, 0}];
difference(atoms, Before, After) ->
    [{grew_by, After - Before} || After - Before > ?ATOMS_MAX];
difference(memory, Before, After) ->
    [{grew_by, After - Before} || After - Before > ?MEMORY_MAX];
difference(rss, Before, After) ->
    [{grew_by, After - Before} || After - Before > ?RSS_MAX];
%% Less than none were there when some that are counted had ended.
difference(Key, Before, After) when Key =:= workers; Key =:= py_workers; Key =:= launchers ->
    [{Before, After} || After > max(Before, 0)];
difference(_Number, Before, After) ->
    [{Before, After} || After > Before].

is_ours({'$py_env', _}) -> true;
is_ours({'$py_lane', _}) -> true;
is_ours({'$py_bound', _}) -> true;
is_ours({'$py_caster', _}) -> true;
is_ours('$py_bound') -> true;
is_ours(_) -> false.

contexts() ->
    case ets:info(py_context_table) of
        undefined -> [];
        _ -> py_context_table:all()
    end.

shared(Lane) ->
    maps:get(shared_bytes, ep_nif:lane_stats(Lane)).

rows(Table) ->
    case ets:info(Table, size) of
        undefined -> 0;
        Size -> Size
    end.

%% Entries that are counted and not there.
counted_state() ->
    case ets:info(py_state, size) of
        undefined -> 0;
        Size -> atomics:get(persistent_term:get(py_state), 1) - Size
    end.

%% --- fds of this VM ---------------------------------------------------------------------

fds() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    lists:foldl(
        fun(Name, Acc) ->
            case file:read_link(filename:join("/proc/self/fd", Name)) of
                {ok, Target} -> counted(kind(Target), Target, Acc);
                {error, _} -> Acc
            end
        end,
        #{},
        Names
    ).

%% Of those that each are something else, what they are.
counted(other, Target, Acc) -> maps:update_with(other, fun(L) -> [Target | L] end, [Target], Acc);
counted(Kind, _Target, Acc) -> maps:update_with(Kind, fun(N) -> N + 1 end, 1, Acc).

kind("anon_inode:[pidfd]" ++ _) -> pidfd;
kind("pidfd:" ++ _) -> pidfd;
kind("anon_inode:[eventfd]") -> eventfd;
kind("socket:" ++ _) -> socket;
kind("pipe:" ++ _) -> pipe;
kind(_) -> other.

%% --- processes ----------------------------------------------------------------------------

%% Of the application while it runs, or of the test server.
is_expected(P) ->
    case process_info(P, [dictionary, initial_call, registered_name]) of
        undefined ->
            true;
        [{dictionary, Dictionary}, {initial_call, Call}, {registered_name, Name}] ->
            Ancestors = proplists:get_value('$ancestors', Dictionary, []),
            Name =:= erlang_python_sup orelse lists:member(erlang_python_sup, Ancestors) orelse
                is_of_server(element(1, Call)) orelse is_of_server(initial(P)) orelse is_master(P) orelse
                is_caster(P)
    end.

is_of_server(Module) ->
    lists:member(Module, [test_server, test_server_sup, test_server_gl, test_server_io, test_server_ctrl, ct_util, ct_logs, ct_hooks, ct_event, application_master]).

%% It lives as long as the process that casts, here that of the case.
is_caster(P) ->
    process_info(P, current_function) =:= {current_function, {py_async, cast_loop, 2}} andalso
        lists:member({process, self()}, element(2, process_info(P, monitors))).

%% The two processes above the supervisor of the application.
is_master(P) ->
    case whereis(erlang_python_sup) of
        undefined -> false;
        Sup -> lists:member(P, element(2, process_info(Sup, links)))
    end.

initial(P) ->
    element(1, proc_lib:translate_initial_call(P)).

%% Tables that a case may have made: those of the system have owners with names.
is_case_table(T) ->
    is_reference(T) =:= false andalso not lists:member(T, ?TABLES) orelse is_of_case(ets:info(T, owner)).

is_of_case(undefined) -> false;
%% Its tables end with it, as all that it used.
is_of_case(Owner) when Owner =:= self() -> false;
is_of_case(Owner) -> not is_expected(Owner) andalso process_info(Owner, registered_name) =:= [].

comm(OsPid) ->
    case file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/comm") of
        {ok, Text} -> string:trim(binary_to_list(Text));
        {error, _} -> "gone"
    end.

rss() ->
    {ok, Text} = file:read_file("/proc/self/status"),
    {match, [Kb]} = re:run(Text, "RssAnon:\\s+(\\d+)", [{capture, all_but_first, list}]),
    list_to_integer(Kb) * 1024.
