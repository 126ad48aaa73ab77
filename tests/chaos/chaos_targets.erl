%% SPDX-License-Identifier: Apache-2.0

%% @doc The contexts of a storm: pools of both modes, with a process for each context and
%% shared ones, and contexts without a pool, each kept by a process that starts another
%% one when it ends.
-module(chaos_targets).

-export([start/0, stop/0, keys/0, victims/0, spare/1, context/1, pool/1, os_pid/1, owner/1, contexts_of/1, all_serve/1]).

-export_type([key/0]).

-type key() :: {pool, py:pool_name(), pos_integer()} | {single, pos_integer()}.

-define(TABLE, chaos_singles).
-define(KILL_AFTER_MS, 200).
%% Between two looks whether a context serves.
-define(AGAIN_MS, 2).

%% Name, contexts, options. The first has a zygote of its own, with a module.
pools() ->
    [{chaos_shared, 3, #{mode => worker, num_workers => 1, preload => [ep_chaos], kill_after => ?KILL_AFTER_MS}}] ++
        [{chaos_owngil, 2, #{mode => owngil, kill_after => ?KILL_AFTER_MS}} || py:subinterp_supported()].

singles() ->
    [{1, worker, #{}}, {2, worker, #{own_process => false}}] ++ [{3, owngil, #{}} || py:subinterp_supported()].

-spec start() -> ok.
start() ->
    Env = [{num_contexts, 2}, {kill_after, ?KILL_AFTER_MS}, {max_concurrent, 10000}],
    _ = application:load(erlang_python),
    [ok = application:set_env(erlang_python, K, V) || {K, V} <- Env],
    {ok, _} = application:ensure_all_started(erlang_python),
    [{ok, _} = py_context_router:start_pool(Pool, N, Options) || {Pool, N, Options} <- pools()],
    _ = ets:new(?TABLE, [named_table, public]),
    [keep(Single) || Single <- singles()],
    ok.

-spec stop() -> ok.
stop() ->
    Keepers = [Keeper || {_, _, Keeper} <- ets:tab2list(?TABLE)],
    [
        begin
            Ref = monitor(process, Keeper),
            Keeper ! stop,
            receive {'DOWN', Ref, process, Keeper, _} -> ok end
        end
     || Keeper <- Keepers
    ],
    true = ets:delete(?TABLE),
    [ok = py_context_router:stop_pool(Pool) || {Pool, _, _} <- pools()],
    ok = application:stop(erlang_python).

-spec keys() -> [key()].
keys() ->
    [{pool, default, I} || I <- [1, 2]] ++
        [{pool, Pool, I} || {Pool, N, _} <- pools(), I <- lists:seq(1, N)] ++
        [{single, I} || {I, _, _} <- singles()].

%% @doc Those that faults may hit.
-spec victims() -> [key()].
victims() ->
    keys() -- persistent_term:get(?MODULE, []).

%% @doc From now on no fault hits that one.
-spec spare(key()) -> ok.
spare(Key) ->
    persistent_term:put(?MODULE, [Key]).

%% @doc The context that stands there now.
-spec context(key()) -> pid() | none.
context({pool, Pool, I}) ->
    case py_pool_registry:members(Pool) of
        Members when I =< tuple_size(Members) -> element(1, element(I, Members));
        _ -> none
    end;
context({single, I}) ->
    [{I, Ctx, _Keeper}] = ets:lookup(?TABLE, I),
    Ctx.

-spec pool(key()) -> py:pool_name() | none.
pool({pool, Pool, _}) -> Pool;
pool(_) -> none.

%% @doc The process that a context runs in, as far as the VM knows.
-spec os_pid(pid() | none) -> integer() | undefined.
os_pid(none) ->
    undefined;
os_pid(Ctx) ->
    case py_context_table:lane(Ctx) of
        noproc -> undefined;
        Lane -> maps:get(os_pid, ep_nif:lane_stats(Lane), undefined)
    end.

%% @doc Who has to stop a context: the process that keeps it.
-spec owner(key()) -> pid() | none.
owner({single, I}) ->
    [{I, _, Keeper}] = ets:lookup(?TABLE, I),
    Keeper;
owner(_) ->
    none.

-spec contexts_of(integer()) -> [pid()].
contexts_of(OsPid) ->
    [Ctx || {Ctx, _} <- py_context_table:all(), os_pid(Ctx) =:= OsPid].

%% @doc Waits until every context serves; how long that took, in milliseconds, or what
%% does not serve by then.
-spec all_serve(pos_integer()) -> {ok, float()} | {error, [key()]}.
all_serve(Ms) ->
    Start = chaos_history:now_ns(),
    Self = self(),
    Waiting = [
        {Key, spawn_monitor(fun() -> Self ! {self(), await(Key, Start + Ms * 1000000)} end)}
     || Key <- keys()
    ],
    Answers = [
        receive
            {Pid, Answer} ->
                _ = demonitor(Ref, [flush]),
                {Key, Answer};
            {'DOWN', Ref, process, Pid, Reason} -> {Key, {died, Reason}}
        end
     || {Key, {Pid, Ref}} <- Waiting
    ],
    case [Key || {Key, Answer} <- Answers, Answer =/= ok] of
        [] -> {ok, (chaos_history:now_ns() - Start) / 1000000};
        Silent -> {error, Silent}
    end.

%% Internal

await(Key, Deadline) ->
    Answer =
        try
            py:call(context(Key), builtins, abs, [-1], #{}, 1000)
        catch
            error:badarg -> none
        end,
    case Answer of
        {ok, 1} ->
            ok;
        _ ->
            case chaos_history:now_ns() < Deadline of
                true ->
                    receive after ?AGAIN_MS -> ok end,
                    await(Key, Deadline);
                false ->
                    {error, Answer}
            end
    end.

keep(Single = {I, _, _}) ->
    Parent = self(),
    {Keeper, Ref} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        Ctx = start_single(Single),
        Parent ! {self(), kept},
        keep(Single, Ctx)
    end),
    receive
        {Keeper, kept} ->
            true = demonitor(Ref, [flush]),
            [{I, _, Keeper}] = ets:lookup(?TABLE, I);
        {'DOWN', Ref, process, Keeper, Reason} ->
            error({single, I, Reason})
    end.

keep(Single = {I, _, _}, Ctx) ->
    receive
        stop ->
            ok = py_context:stop(Ctx),
            true = ets:delete(?TABLE, I);
        {restart, From, Note} ->
            ok = chaos_history:event({context_end, Ctx, Note}),
            ok = py_context:stop(Ctx),
            New = start_single(Single),
            From ! {restarted, I},
            keep(Single, New);
        {'EXIT', Ctx, _Reason} ->
            keep(Single, start_single(Single));
        {'EXIT', _Former, _Reason} ->
            keep(Single, Ctx)
    end.

%% While the application comes back from a death there may be nobody to ask.
start_single(Single = {I, Mode, Options}) ->
    Started =
        try
            py_context:start_link({chaos, I}, Mode, Options#{kill_after => ?KILL_AFTER_MS})
        catch
            Class:Reason -> {Class, Reason}
        end,
    case Started of
        {ok, Ctx} ->
            true = ets:insert(?TABLE, {I, Ctx, self()}),
            Ctx;
        _ ->
            receive after 5 -> ok end,
            start_single(Single)
    end.
