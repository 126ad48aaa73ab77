%% SPDX-License-Identifier: Apache-2.0

%% @doc A context: one Python thread in a worker process, with its own shared
%% namespace; it runs one request at a time.
%%
%% The process of a context owns the life of its lane, not the calls: those go
%% from their callers straight into shared memory. It watches calls that were
%% given up and ends those that do not stop.
-module(py_context).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, start_link/3, new/1, stop/1, destroy/1]).
-export([call/4, call/5, call/6, call/7, eval/2, eval/3, eval/4, eval/5, exec/2, exec/3]).
-export([interrupt/1]).
-export([create_local_env/1, get_nif_ref/1, get_interp_id/1, is_subinterp/1]).
%% Internal
-export([nif_call/5, nif_call/6, nif_eval/3, nif_eval/4, nif_exec/2, nif_exec/3]).
-export([create_table/0, lane/1, info/1, all/0, forget/1, process_env/2]).
-export([settings/2, place/1, start_member/3, await_started/1, await_or_stop/1]).
-export([run_preload/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([settings/0, place/0, info/0, ctx_ref/0]).

-type settings() :: #{mode := py:context_mode(), kill_after := timeout(), _ => _}.
%% On the worker of a pool, in a process of its own, or with others of its kind.
-type place() :: {worker, pid()} | own | shared.
-type info() :: #{
    id := term(),
    mode := py:context_mode(),
    interp_id := pos_integer(),
    pool := {py:pool_name(), Number :: pos_integer()} | undefined
}.
-type env() :: py_nif:env().
-opaque ctx_ref() :: {py_ctx_ref, py:context(), py_nif:lane()}.

-define(TABLE, ?MODULE).
-define(START_TIMEOUT_MS, 60000).
-define(STOP_TIMEOUT_MS, 5000).
%% How soon to look again at a call that is overdue and not on top; then twice that.
-define(WATCH_MS, 10).
-define(LOG, #{domain => [erlang_python]}).

-record(state, {
    id :: term(),
    lane :: py_nif:lane(),
    settings :: settings(),
    started = false :: boolean(),
    failure :: undefined | term(),
    %% of the process that runs the preload code
    preload :: reference() | undefined,
    waiting = [] :: [gen_server:from()]
}).

%% API

%% @doc Starts a context and links it to the calling process.
-spec start_link(term(), py:context_mode()) -> {ok, py:context()} | {error, term()}.
start_link(Id, Mode) ->
    start_link(Id, Mode, #{}).

%% @doc With options: `own_process', `kill_after', `python', `spin_us', and `preload',
%% code that runs in the shared namespace before the context takes requests.
-spec start_link(term(), py:context_mode(), map()) -> {ok, py:context()} | {error, term()}.
start_link(Id, Mode, Options) ->
    case settings(Mode, Options) of
        {ok, Settings} -> start_single(Id, Settings);
        {error, Reason} -> {error, Reason}
    end.

%% @doc The same with an identity of its own and `mode' among the options.
-spec new(map()) -> {ok, py:context()} | {error, term()}.
new(Options) when is_map(Options) ->
    start_link(make_ref(), maps:get(mode, Options, worker), maps:remove(mode, Options));
new(_) ->
    error(badarg).

%% @doc Stops a context; its callers get `{error, {context_died, shutdown}}'.
-spec stop(py:context()) -> ok.
stop(Ctx) when is_pid(Ctx) ->
    unlink(Ctx),
    try
        %% For its callers it is a shutdown; its owner, who may be another process,
        %% must not end with it.
        gen_server:stop(Ctx, normal, ?STOP_TIMEOUT_MS)
    catch
        exit:timeout ->
            true = exit(Ctx, kill),
            ok;
        exit:_Gone ->
            ok
    end;
stop(_) ->
    error(badarg).

-spec destroy(py:context()) -> ok.
destroy(Ctx) ->
    stop(Ctx).

%% @doc Calls `Module.Function(*Args)'. Without an environment the module
%% `__main__' means the shared namespace of the context.
-spec call(py:context(), py:text(), py:text(), list()) -> py:result().
call(Ctx, Module, Function, Args) ->
    call(Ctx, Module, Function, Args, #{}).

-spec call(py:context(), py:text(), py:text(), list(), map()) -> py:result().
call(Ctx, Module, Function, Args, Kwargs) ->
    call(Ctx, Module, Function, Args, Kwargs, infinity).

-spec call(py:context(), py:text(), py:text(), list(), map(), timeout() | py:opts()) ->
    py:result().
call(Ctx, Module, Function, Args, Kwargs, Options) ->
    call(Ctx, Module, Function, Args, Kwargs, Options, undefined).

-spec call(
    py:context(), py:text(), py:text(), list(), map(), timeout() | py:opts(), env() | undefined
) -> py:result().
call(Ctx, Module, Function, Args, Kwargs, Options, Env) when is_list(Args), is_map(Kwargs) ->
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false, arrays => lists}),
    on_lane(Ctx, fun(Lane) ->
        py_request:call({Ctx, Lane, Env}, Module, Function, Args, Kwargs, Checked)
    end);
call(_, _, _, _, _, _, _) ->
    error(badarg).

%% @doc Evaluates one expression.
-spec eval(py:context(), py:text()) -> py:result().
eval(Ctx, Code) ->
    eval(Ctx, Code, #{}).

-spec eval(py:context(), py:text(), map()) -> py:result().
eval(Ctx, Code, Locals) ->
    eval(Ctx, Code, Locals, infinity).

-spec eval(py:context(), py:text(), map(), timeout() | py:opts()) -> py:result().
eval(Ctx, Code, Locals, Options) ->
    eval(Ctx, Code, Locals, Options, undefined).

-spec eval(py:context(), py:text(), map(), timeout() | py:opts(), env() | undefined) ->
    py:result().
eval(Ctx, Code, Locals, Options, Env) when is_map(Locals) ->
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false, arrays => lists}),
    on_lane(Ctx, fun(Lane) -> py_request:eval({Ctx, Lane, Env}, Code, Locals, Checked) end);
eval(_, _, _, _, _) ->
    error(badarg).

%% @doc Executes statements.
-spec exec(py:context(), py:text()) -> ok | {error, term()}.
exec(Ctx, Code) ->
    exec(Ctx, Code, undefined).

-spec exec(py:context(), py:text(), env() | undefined) -> ok | {error, term()}.
exec(Ctx, Code, Env) ->
    on_lane(Ctx, fun(Lane) -> py_request:exec({Ctx, Lane, Env}, Code, unlimited()) end).

%% @doc Makes a namespace for the functions here that take one. It ends when the
%% last reference to it is collected.
-spec create_local_env(py:context()) -> {ok, env()} | {error, term()}.
create_local_env(Ctx) ->
    on_lane(Ctx, fun(Lane) -> {ok, py_nif:env_new(Lane)} end).

%% @doc What the functions of {@link py_nif} that begin with `context_' take.
-spec get_nif_ref(py:context()) -> ctx_ref().
get_nif_ref(Ctx) when is_pid(Ctx) ->
    case lane(Ctx) of
        noproc -> error({context_died, noproc});
        Lane -> {py_ctx_ref, Ctx, Lane}
    end;
get_nif_ref(_) ->
    error(badarg).

%% @doc A number that no other context of this node has or had.
-spec get_interp_id(py:context()) -> {ok, pos_integer()} | {error, {context_died, noproc}}.
get_interp_id(Ctx) ->
    case info(Ctx) of
        {ok, #{interp_id := Id}} -> {ok, Id};
        noproc -> {error, {context_died, noproc}}
    end.

%% @doc Whether the context has a sub-interpreter.
-spec is_subinterp(py:context()) -> boolean() | {error, {context_died, noproc}}.
is_subinterp(Ctx) ->
    case info(Ctx) of
        {ok, #{mode := Mode}} -> Mode =:= owngil;
        noproc -> {error, {context_died, noproc}}
    end.

%% @doc Raises KeyboardInterrupt in the request that runs, and in no other.
-spec interrupt(py:context()) -> ok | not_running.
interrupt(Ctx) when is_pid(Ctx) ->
    case lane(Ctx) of
        noproc -> not_running;
        Lane -> py_nif:lane_interrupt(Lane, 0)
    end;
interrupt(_) ->
    error(badarg).

%% Internal API

%% @private Behind py_nif:context_call/5,6, context_eval/3,4 and context_exec/2,3.
-spec nif_call(ctx_ref(), py:text(), py:text(), list(), map()) -> py:result().
nif_call(CtxRef, Module, Function, Args, Kwargs) ->
    nif_call(CtxRef, Module, Function, Args, Kwargs, undefined).

-spec nif_call(ctx_ref(), py:text(), py:text(), list(), map(), env() | undefined) ->
    py:result().
nif_call({py_ctx_ref, Ctx, Lane}, Module, Function, Args, Kwargs, Env) when
    is_list(Args), is_map(Kwargs)
->
    py_request:call({Ctx, Lane, Env}, Module, Function, Args, Kwargs, unlimited());
nif_call(_, _, _, _, _, _) ->
    error(badarg).

-spec nif_eval(ctx_ref(), py:text(), map()) -> py:result().
nif_eval(CtxRef, Code, Locals) ->
    nif_eval(CtxRef, Code, Locals, undefined).

-spec nif_eval(ctx_ref(), py:text(), map(), env() | undefined) -> py:result().
nif_eval({py_ctx_ref, Ctx, Lane}, Code, Locals, Env) when is_map(Locals) ->
    py_request:eval({Ctx, Lane, Env}, Code, Locals, unlimited());
nif_eval(_, _, _, _) ->
    error(badarg).

-spec nif_exec(ctx_ref(), py:text()) -> ok | {error, term()}.
nif_exec(CtxRef, Code) ->
    nif_exec(CtxRef, Code, undefined).

-spec nif_exec(ctx_ref(), py:text(), env() | undefined) -> ok | {error, term()}.
nif_exec({py_ctx_ref, Ctx, Lane}, Code, Env) ->
    py_request:exec({Ctx, Lane, Env}, Code, unlimited());
nif_exec(_, _, _) ->
    error(badarg).

%% @private
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @private The lane of a live context.
-spec lane(pid()) -> py_nif:lane() | noproc.
lane(Ctx) ->
    try
        ets:lookup_element(?TABLE, Ctx, 2)
    catch
        error:badarg -> noproc
    end.

%% @private
-spec all() -> [{py:context(), py_nif:lane()}].
all() ->
    ets:select(?TABLE, [{{'$1', '$2', '_'}, [], [{{'$1', '$2'}}]}]).

%% @private
-spec info(pid()) -> {ok, info()} | noproc.
info(Ctx) when is_pid(Ctx) ->
    try
        {ok, ets:lookup_element(?TABLE, Ctx, 3)}
    catch
        error:badarg -> noproc
    end;
info(_) ->
    error(badarg).

%% @private
-spec forget(pid()) -> ok.
forget(Ctx) ->
    true = ets:delete(?TABLE, Ctx),
    ok.

%% @private The namespace of the calling process on a context; it ends with the
%% process, for nobody else has a reference.
-spec process_env(py:context(), py_nif:lane()) -> env().
process_env(Ctx, Lane) ->
    Key = {'$py_env', Ctx},
    case get(Key) of
        undefined ->
            ok = drop_dead_envs(),
            Env = py_nif:env_new(Lane),
            undefined = put(Key, Env),
            Env;
        Env ->
            Env
    end.

%% @private The settings of a context without a pool.
-spec settings(py:context_mode(), map()) -> {ok, settings()} | {error, py_config:error()}.
settings(Mode, Options) when Mode =:= worker; Mode =:= owngil ->
    case py_config:context_options(Options) of
        {ok, Settings} -> {ok, Settings#{mode => Mode}};
        {error, Reason} -> {error, Reason}
    end;
settings(_Mode, _Options) ->
    error(badarg).

%% @private A crash of Python takes one process: worker contexts have their own, so
%% that it takes one context; owngil contexts share, which is what they are for.
-spec place(settings()) -> place().
place(#{own_process := true}) -> own;
place(#{own_process := false}) -> shared;
place(#{mode := worker}) -> own;
place(#{mode := owngil}) -> shared.

%% @private Started by py_context_sup; does not wait.
-spec start_member(term(), place(), settings()) -> {ok, pid(), py_nif:lane()} | {error, term()}.
start_member(Id, Place, Settings) ->
    case gen_server:start_link(?MODULE, {Id, Place, Settings}, []) of
        {ok, Ctx} ->
            case lane(Ctx) of
                noproc -> {error, {context_died, noproc}};
                Lane -> {ok, Ctx, Lane}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% @private Waits until the context accepts requests.
-spec await_started(pid()) -> ok | {error, term()}.
await_started(Ctx) ->
    try
        gen_server:call(Ctx, await_started, ?START_TIMEOUT_MS)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:{normal, _} -> {error, {context_died, shutdown}};
        exit:{Reason, _} -> {error, {context_died, Reason}}
    end.

%% @private The same; a context that does not start is stopped.
-spec await_or_stop(pid()) -> {ok, pid()} | {error, term()}.
await_or_stop(Ctx) ->
    case await_started(Ctx) of
        ok ->
            {ok, Ctx};
        {error, Reason} ->
            ok = stop(Ctx),
            {error, Reason}
    end.

%% @private The process that runs the preload code of a context.
-spec run_preload(py_context_router:route(), binary(), py_request:options()) -> no_return().
run_preload(Route, Code, Options) ->
    exit({preloaded, py_request:exec(Route, Code, Options)}).

%% gen_server

-spec init({term(), place(), settings()}) -> {ok, #state{}}.
init({Id, Place, Settings}) ->
    Lane = py_nif:lane_new(py_config:spin_ns(maps:get(spin_us, Settings))),
    true = ets:insert(?TABLE, {self(), Lane, describe(Id, Place, Settings)}),
    ok = attach(Place, Lane, Settings),
    {ok, #state{id = Id, lane = Lane, settings = Settings}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, ok | {error, term()}, #state{}} | {noreply, #state{}}.
handle_call(await_started, _From, State = #state{started = true}) ->
    {reply, ok, State};
handle_call(await_started, _From, State = #state{failure = Failure}) when Failure =/= undefined ->
    {reply, {error, Failure}, State};
handle_call(await_started, From, State = #state{waiting = Waiting}) ->
    {noreply, State#state{waiting = [From | Waiting]}}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({py_lane, started}, State) ->
    {noreply, preload(State)};
handle_info({'DOWN', Ref, process, _, {preloaded, Result}}, State = #state{preload = Ref}) ->
    {noreply, preloaded(Result, State#state{preload = undefined})};
handle_info({py_lane, {failed, Type, Text}}, State = #state{settings = #{mode := Mode}}) ->
    {noreply, failed(start_failure(Mode, Type, Text), State)};
handle_info({py_lane, failed}, State) ->
    {noreply, failed(unknown, State)};
handle_info({py_lane, stopped}, State) ->
    {noreply, State};
handle_info({py_worker, unavailable, Reason}, State) ->
    {noreply, failed({worker_unavailable, Reason}, State)};
handle_info({py_lane, {cancelled, CallId}}, State) ->
    {noreply, watch(CallId, State)};
handle_info({overdue, CallId, Watch}, State) ->
    {noreply, overdue(CallId, Watch, State)};
handle_info({deadline, CallId}, State = #state{lane = Lane}) ->
    %% Its caller runs a callback and cannot see to it. The contexts concerned hear of
    %% what was interrupted.
    ok = py_nif:lane_expire(Lane, CallId),
    {noreply, State};
handle_info(_Unexpected, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{lane = Lane}) ->
    ok = py_nif:lane_close(Lane, shutdown),
    forget(self()).

%% Internal

start_single(Id, Settings) ->
    Place = place(Settings),
    {ok, Pid} = gen_server:start_link(?MODULE, {Id, Place, Settings}, []),
    await_or_stop(Pid).

describe(Id, Place, #{mode := Mode}) ->
    #{
        id => Id,
        mode => Mode,
        interp_id => erlang:unique_integer([positive]),
        pool =>
            case Place of
                {worker, _} -> Id;
                _ -> undefined
            end
    }.

attach({worker, Worker}, Lane, #{mode := Mode}) ->
    py_worker:attach(Worker, Lane, Mode, self());
attach(own, Lane, Settings = #{mode := Mode}) ->
    {ok, Worker} = py_worker_sup:start_worker(Settings#{slots => 1}),
    py_worker:attach(Worker, Lane, Mode, self());
attach(shared, Lane, Settings = #{mode := Mode}) ->
    py_shared_worker:attach(Lane, Mode, Settings, self()).

start_failure(owngil, Type, Text) ->
    case py_python:info() of
        #{owngil := false} -> owngil_requires_python312;
        _ -> {start_failed, {Type, Text}}
    end;
start_failure(worker, Type, Text) ->
    {start_failed, {Type, Text}}.

%% Runs the preload code after each start of the Python thread, in a process of its
%% own: this one must go on hearing of calls that were given up, and may be stopped.
%% After a restart, requests that come before this is sent are served before it.
preload(State = #state{lane = Lane, settings = #{preload := Code}}) when Code =/= <<>> ->
    Route = {self(), Lane, undefined},
    %% No slot: who starts a context may hold the last one.
    Options = (unlimited())#{slot => none},
    {_Pid, Ref} = spawn_monitor(?MODULE, run_preload, [Route, Code, Options]),
    State#state{preload = Ref};
preload(State) ->
    started(State).

preloaded(ok, State) ->
    started(State);
preloaded({error, {Type, Text}}, State) when is_list(Text); Type =:= stop_iteration ->
    ?LOG_WARNING("the preload code of context ~p failed: ~ts: ~tp",
                 [State#state.id, Type, Text], ?LOG),
    failed({preload_failed, {Type, Text}}, State);
preloaded({error, Reason}, State) ->
    failed(Reason, State).

started(State) ->
    answer(ok, State#state{started = true, failure = undefined}).

failed(Reason, State) ->
    answer({error, Reason}, State#state{started = false, failure = Reason}).

answer(Reply, State = #state{waiting = Waiting}) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Reply) end, Waiting),
    State#state{waiting = []}.

%% The call was interrupted when it was given up. If it goes on all the same, its
%% worker process is killed, kill_after from when it could go on: not while it waits
%% for its turn, or lies below another request that it waits for.
watch(_CallId, State = #state{settings = #{kill_after := infinity}}) ->
    State;
watch(CallId, State = #state{lane = Lane}) ->
    watch_on(CallId, py_nif:lane_progress(Lane, CallId), ?WATCH_MS, State).

overdue(CallId, running, State = #state{lane = Lane}) ->
    case py_nif:lane_progress(Lane, CallId) of
        runs ->
            ok = py_nif:lane_kill(Lane),
            State;
        ended ->
            State;
        waits ->
            watch_on(CallId, waits, ?WATCH_MS, State)
    end;
overdue(CallId, {waiting, Ms}, State = #state{lane = Lane}) ->
    watch_on(CallId, py_nif:lane_progress(Lane, CallId), 2 * Ms, State).

watch_on(_CallId, ended, _Ms, State) ->
    State;
watch_on(CallId, runs, _Ms, State = #state{settings = #{kill_after := KillAfter}}) ->
    _ = erlang:send_after(KillAfter, self(), {overdue, CallId, running}),
    State;
watch_on(CallId, waits, Ms, State = #state{settings = #{kill_after := KillAfter}}) ->
    Next = min(Ms, KillAfter),
    _ = erlang:send_after(Next, self(), {overdue, CallId, {waiting, max(1, Next)}}),
    State.

unlimited() ->
    py_request:options(infinity, #{timeout => infinity}).

%% A process that outlives many contexts keeps no namespace of those that ended.
drop_dead_envs() ->
    _ = [erase(Key) || {Key = {'$py_env', Ctx}, _} <- get(), not is_process_alive(Ctx)],
    ok.

on_lane(Ctx, Fun) when is_pid(Ctx) ->
    case lane(Ctx) of
        noproc -> {error, {context_died, noproc}};
        Lane -> Fun(Lane)
    end;
on_lane(_, _) ->
    error(badarg).
