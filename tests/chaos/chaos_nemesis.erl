%% SPDX-License-Identifier: Apache-2.0

%% @doc The faults of a storm. Which, in which order, where and with which pauses, follows
%% from the seed; on which process of the system one falls, from what runs then.
-module(chaos_nemesis).

-export([kinds/0, plan/3, run/2]).

-export_type([fault/0]).

-type kind() ::
    kill | stop | freeze | segv | exit | abort | kill_in_callback | stop_in_callback
    | caller | context_stop | context_kill | young | child | zygote | zygote_stop | zygote_fork.
-type fault() :: {kind(), Number :: non_neg_integer(), PauseMs :: non_neg_integer()}.

-define(BACK_MS, 10000).
%% Between two faults, PAUSE_MIN_MS to that and PAUSE_MS more: a start of Python takes about
%% 50 ms of a CPU, and what is measured is not how long one waits for a CPU.
-define(PAUSE_MIN_MS, 40).
-define(PAUSE_MS, 200).
-define(FREEZE_MS, 600).
-define(YOUNG_MS, 300).
-define(AGAIN_MS, 1).

-record(nemesis, {
    killer :: port(),
    load :: chaos_load:load(),
    %% faults whose end somebody still waits for
    watchers = 0 :: non_neg_integer()
}).

%% How often each comes.
-spec kinds() -> [{kind(), pos_integer()}].
kinds() ->
    [
        {kill, 20}, {stop, 7}, {freeze, 2}, {segv, 7}, {exit, 6}, {abort, 4},
        {kill_in_callback, 14}, {stop_in_callback, 8}, {caller, 14},
        {context_stop, 6}, {context_kill, 6}, {young, 3}, {child, 3}, {zygote, 3}, {zygote_stop, 2}, {zygote_fork, 3}
    ].

-spec plan(pos_integer(), integer(), [kind()]) -> [fault()].
plan(N, Seed, Kinds) ->
    Weights = [W || W = {Kind, _} <- kinds(), lists:member(Kind, Kinds)],
    Sum = lists:sum([W || {_, W} <- Weights]),
    {Faults, _} = lists:mapfoldl(
        fun(_, Rand0) ->
            {W, Rand1} = rand:uniform_s(Sum, Rand0),
            {Number, Rand2} = rand:uniform_s(1 bsl 40, Rand1),
            {Pause, Rand3} = rand:uniform_s(?PAUSE_MS, Rand2),
            {{nth_weight(W, Weights), Number, ?PAUSE_MIN_MS + Pause}, Rand3}
        end,
        rand:seed_s(exsss, {Seed, 0, 0}),
        lists:seq(1, N)
    ),
    Faults.

nth_weight(N, [{Kind, Weight} | _]) when N =< Weight -> Kind;
nth_weight(N, [{_, Weight} | Rest]) -> nth_weight(N - Weight, Rest).

%% @doc Does all of them, and waits until everything serves again. How many of each kind
%% found something to hit.
-spec run([fault()], chaos_load:load()) -> #{kind() => non_neg_integer()}.
run(Faults, Load) ->
    Killer = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", "while read -r s p; do kill -$s $p 2>/dev/null; echo; done"]}, {line, 16}, binary
    ]),
    {Counts, Left} = lists:foldl(fun fault/2, {#{}, #nemesis{killer = Killer, load = Load}}, Faults),
    ok = wait_for_watchers(Left),
    true = port_close(Killer),
    Counts.

fault({Kind, Number, Pause}, {Counts, Nemesis}) ->
    receive after Pause -> ok end,
    Has = do(Kind, Number, Nemesis),
    {maps:update_with(Kind, fun(N) -> N + Has end, Has, Counts), reap(Nemesis)}.

reap(Nemesis = #nemesis{watchers = N}) ->
    receive
        {watching, _} -> reap(Nemesis#nemesis{watchers = N + 1});
        {watched, _} -> reap(Nemesis#nemesis{watchers = N - 1})
    after 0 -> Nemesis
    end.

wait_for_watchers(#nemesis{watchers = 0}) ->
    receive
        {watching, _} -> wait_for_watchers(#nemesis{watchers = 1})
    after 0 -> ok
    end;
wait_for_watchers(Nemesis = #nemesis{watchers = N}) ->
    receive
        {watching, _} -> wait_for_watchers(Nemesis#nemesis{watchers = N + 1});
        {watched, _} -> wait_for_watchers(Nemesis#nemesis{watchers = N - 1})
    end.

%% --- faults -----------------------------------------------------------------------------

do(kill, Number, N) ->
    on_serving(Number, fun(_Ctx, OsPid) -> kill(N, OsPid) end);
do(young, Number, N) ->
    %% The one that is killed, and then its successor, before that can have answered.
    on_serving(Number, fun(_Ctx, OsPid) ->
        Before = workers(),
        Contexts = chaos_targets:contexts_of(OsPid),
        ok = chaos_history:event({death, OsPid, young, Contexts}),
        ok = signal(N, "KILL", OsPid),
        case await_new(Before, chaos_history:now_ns() + ?YOUNG_MS * 1000000) of
            none ->
                ok;
            Young ->
                receive after Number rem 40 -> ok end,
                ok = chaos_history:event({death, Young, young, []}),
                ok = signal(N, "KILL", Young)
        end,
        serve_again(Contexts, OsPid)
    end);
do(stop, Number, N) ->
    on_serving(Number, fun(_Ctx, OsPid) ->
        ok = signal(N, "STOP", OsPid),
        receive after 5 + Number rem 95 -> ok end,
        signal(N, "CONT", OsPid)
    end);
do(freeze, Number, N) ->
    %% A request with a budget, then the patience that follows it, ends what is stopped; if
    %% nothing ran there, nobody but this process does.
    on_serving(Number, fun(Ctx, OsPid) ->
        ok = signal(N, "STOP", OsPid),
        watcher(fun() ->
            receive after ?FREEZE_MS -> ok end,
            Killer = #nemesis{killer = spare_killer(), load = N#nemesis.load},
            case chaos_targets:os_pid(Ctx) of
                OsPid -> kill(Killer, OsPid);
                _ -> ok
            end,
            true = port_close(Killer#nemesis.killer)
        end)
    end);
do(Way, Number, _N) when Way =:= segv; Way =:= exit; Way =:= abort ->
    on_serving(Number, fun(Ctx, OsPid) ->
        Contexts = chaos_targets:contexts_of(OsPid),
        ok = chaos_history:event({aimed, OsPid, Contexts}),
        watcher(fun() -> chaos_load:crash(Ctx, Way, lists:nth(1 + Number rem 3, [none, file, state])) end),
        serve_again(Contexts, OsPid)
    end);
do(kill_in_callback, Number, N) ->
    on_serving(Number, fun(Ctx, OsPid) ->
        ok = hold(Ctx, Number),
        kill(N, OsPid)
    end);
do(stop_in_callback, Number, _N) ->
    stop_single(Number, fun(Ctx) -> hold(Ctx, Number) end);
do(context_stop, Number, _N) ->
    stop_single(Number, fun(_Ctx) -> ok end);
do(context_kill, Number, _N) ->
    Keys = [Key || Key = {pool, _, _} <- chaos_targets:victims()],
    end_context(chaos_targets:context(nth(Number, Keys)), killed);
do(caller, Number, #nemesis{load = Load}) ->
    ok = chaos_load:kill(Load, Number),
    1;
do(zygote, Number, N) ->
    on_zygote(Number, fun(OsPid) -> end_zygote(N, "KILL", OsPid) end);
do(zygote_stop, Number, N) ->
    on_zygote(Number, fun(OsPid) -> end_zygote(N, "STOP", OsPid) end);
%% While it forks what follows a worker that was killed.
do(zygote_fork, Number, N) ->
    on_serving(Number, fun(_Ctx, OsPid) ->
        ok = kill(N, OsPid),
        receive after Number rem 8 -> ok end,
        lists:foreach(fun(Zygote) -> end_zygote(N, "KILL", Zygote) end, zygotes())
    end);
do(child, Number, N) ->
    child(nth(Number, children()), N).

kill(N, OsPid) ->
    Contexts = chaos_targets:contexts_of(OsPid),
    ok = chaos_history:event({death, OsPid, kill, Contexts}),
    ok = signal(N, "KILL", OsPid),
    serve_again(Contexts, OsPid).

signal(#nemesis{killer = Killer}, Signal, OsPid) ->
    true = port_command(Killer, [Signal, " ", integer_to_list(OsPid), "\n"]),
    receive
        {Killer, {data, _}} -> ok
    end.

spare_killer() ->
    open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", "while read -r s p; do kill -$s $p 2>/dev/null; echo; done"]}, {line, 16}, binary
    ]).

%% The children of the launcher, zygotes among them; one read, for a look at the whole of /proc takes a CPU
%% from those who are measured.
workers() ->
    lists:append([children_of(L) || L <- children_of(py_test:vm_pid()), name(L) =:= "ep_launcher"] ++
        [children_of(L) || S <- children_of(py_test:vm_pid()), name(S) =:= "erl_child_setup",
                           L <- children_of(S), name(L) =:= "ep_launcher"]).

zygotes() ->
    [OsPid || OsPid <- workers(), name(OsPid) =:= "ep_zygote"].

%% It may have been a worker that was just being forked.
end_zygote(N, Signal, OsPid) ->
    ok = chaos_history:event({death, OsPid, young, []}),
    signal(N, Signal, OsPid).

on_zygote(Number, Fun) ->
    case zygotes() of
        [] -> 0;
        Zygotes -> ok = Fun(nth(Number, Zygotes)), 1
    end.

children_of(OsPid) ->
    Files = filelib:wildcard(lists:flatten(io_lib:format("/proc/~b/task/*/children", [OsPid]))),
    [list_to_integer(P) || File <- Files, {ok, Text} <- [file:read_file(File)], P <- string:lexemes(binary_to_list(Text), " ")].

await_new(Before, Until) ->
    case workers() -- Before of
        [New | _] ->
            New;
        [] ->
            case chaos_history:now_ns() < Until of
                true ->
                    receive after ?AGAIN_MS -> ok end,
                    await_new(Before, Until);
                false ->
                    none
            end
    end.

%% Callers in the middle of their callbacks, or between two, when this returns.
hold(Ctx, Number) ->
    [watcher(fun() -> chaos_load:held(Ctx, 60, Thread) end) || Thread <- [Number rem 4 =:= 0, false]],
    receive after Number rem 11 -> ok end.

stop_single(Number, Before) ->
    Key = nth(Number, [Key || Key = {single, _} <- chaos_targets:victims()]),
    case chaos_targets:owner(Key) of
        none ->
            0;
        Owner ->
            _ = Before(chaos_targets:context(Key)),
            watcher(fun() ->
                Owner ! {restart, self(), stop},
                receive {restarted, _} -> ok end
            end),
            1
    end.

end_context(none, _Why) ->
    0;
end_context(Ctx, Why) ->
    ok = chaos_history:event({context_end, Ctx, Why}),
    true = exit(Ctx, kill),
    1.

%% --- supervised children --------------------------------------------------------------------

%% Every process below the supervisor of the application, and the launcher.
children() ->
    [launcher | children(erlang_python_sup, [])].

children(Sup, Path) ->
    lists:append([
        [{Id, Pid} || is_pid(Pid)] ++ [C || Type =:= supervisor, is_pid(Pid), C <- children(Pid, [Id | Path])]
     || {Id, Pid, Type, _} <- try supervisor:which_children(Sup) catch exit:_ -> [] end
    ]).

child(launcher, N) ->
    case [P || P <- py_test:descendants(py_test:vm_pid()), name(P) =:= "ep_launcher"] of
        [] ->
            0;
        [OsPid | _] ->
            outage(launcher, fun() -> signal(N, "KILL", OsPid) end)
    end;
child({_Id, Pid}, _N) ->
    Name =
        case process_info(Pid, registered_name) of
            {registered_name, Registered} -> Registered;
            _ -> initial(Pid)
        end,
    case Name of
        py_context_server -> end_context(Pid, killed);
        gone -> 0;
        _ -> outage(Name, fun() -> exit(Pid, kill) end)
    end.

initial(Pid) ->
    case proc_lib:translate_initial_call(Pid) of
        {Module, _, _} when Module =/= proc_lib -> Module;
        _ -> gone
    end.

name(OsPid) ->
    case file:read_file("/proc/" ++ integer_to_list(OsPid) ++ "/comm") of
        {ok, Text} -> string:trim(binary_to_list(Text));
        {error, _} -> ""
    end.

%% Until everything is back there are no further faults, and the time counts.
outage(Name, Do) ->
    Before = workers(),
    At = chaos_history:now_ns(),
    ok = chaos_history:event({outage, Name}),
    _ = Do(),
    Back = chaos_targets:all_serve(?BACK_MS),
    %% Those that went with it.
    [ok = chaos_history:event_at(At, {death, P, outage, []}) || P <- Before -- workers()],
    case Back of
        {ok, Ms} -> ok = chaos_history:event({back, Name, Ms});
        {error, Silent} -> ok = chaos_history:event({back, {Name, Silent}, infinity})
    end,
    1.

%% --- what to hit ------------------------------------------------------------------------------

nth(Number, List) ->
    lists:nth(1 + Number rem length(List), List).

%% The first context, from the chosen one on, that has a process which takes requests.
on_serving(Number, Fun) ->
    Keys = chaos_targets:victims(),
    {Before, After} = lists:split(Number rem length(Keys), Keys),
    find_first(After ++ Before, Fun).

find_first([], _Fun) ->
    0;
find_first([Key | Rest], Fun) ->
    Ctx = chaos_targets:context(Key),
    Lane = case Ctx of none -> noproc; _ -> py_context_table:lane(Ctx) end,
    case Lane =/= noproc andalso ep_nif:lane_stats(Lane) of
        #{os_pid := OsPid, state := State} when is_integer(OsPid), State =:= idle orelse State =:= busy ->
            _ = Fun(Ctx, OsPid),
            1;
        _ ->
            find_first(Rest, Fun)
    end.

%% Something that the end of the storm waits for.
watcher(Fun) ->
    Nemesis = nemesis(),
    Nemesis ! {watching, self()},
    _ = spawn(fun() ->
        true = put('$chaos_nemesis', Nemesis) =:= undefined,
        try
            Fun()
        after
            Nemesis ! {watched, self()}
        end
    end),
    ok.

nemesis() ->
    case get('$chaos_nemesis') of
        undefined -> self();
        Pid -> Pid
    end.

%% Asks each context that was there until another process answers, so that the moment of that is known.
serve_again(Contexts, OsPid) ->
    Until = chaos_history:now_ns() + ?BACK_MS * 1000000,
    lists:foreach(fun(Ctx) -> watcher(fun() -> serve_again(Ctx, OsPid, Until) end) end, Contexts).

serve_again(Ctx, OsPid, Until) ->
    case chaos_load:request(state, Ctx) of
        {ok, _, Other} when Other =/= OsPid ->
            ok;
        {error, {context_died, _}} ->
            ok;
        _ ->
            case chaos_history:now_ns() < Until of
                true ->
                    receive after ?AGAIN_MS -> ok end,
                    serve_again(Ctx, OsPid, Until);
                false ->
                    ok
            end
    end.
