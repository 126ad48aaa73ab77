%% SPDX-License-Identifier: Apache-2.0

%% @doc A context: one Python thread in a worker process, with its own shared
%% namespace; it runs one request at a time.
%%
%% The process of a context owns the life of its lane, not the calls: those go
%% from their callers straight into shared memory. It watches calls that were
%% given up and ends those that do not stop.
-module(py_context).
-behaviour(gen_server).

-export([start_link/2, start_link/3, stop/1]).
-export([call/4, call/5, call/6, call/7, eval/2, eval/3, eval/4, eval/5, exec/2, exec/3]).
-export([create_local_env/1]).
%% Internal
-export([create_table/0, lane/1, forget/1, process_env/2, start_member/3, await_started/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([settings/0]).

-type settings() :: #{mode := py:context_mode(), kill_after := timeout(), _ => _}.
-type env() :: py_nif:env().

-define(TABLE, ?MODULE).
-define(START_TIMEOUT_MS, 60000).
-define(STOP_TIMEOUT_MS, 5000).
%% How soon to look again at a call that is overdue and not on top; then twice that.
-define(WATCH_MS, 10).

-record(state, {
    id :: term(),
    lane :: py_nif:lane(),
    settings :: settings(),
    started = false :: boolean(),
    failure :: undefined | term(),
    waiting = [] :: [gen_server:from()]
}).

%% API

%% @doc Starts a context and links it to the calling process.
-spec start_link(term(), py:context_mode()) -> {ok, py:context()} | {error, term()}.
start_link(Id, Mode) ->
    start_link(Id, Mode, #{}).

%% @doc With options: `own_process', `kill_after', `python', `spin_us'.
-spec start_link(term(), py:context_mode(), map()) -> {ok, py:context()} | {error, term()}.
start_link(Id, Mode, Options) when Mode =:= worker; Mode =:= owngil ->
    case py_config:context_options(Options) of
        {ok, Settings} -> start_single(Id, Settings#{mode => Mode});
        {error, Reason} -> {error, Reason}
    end;
start_link(_Id, _Mode, _Options) ->
    error(badarg).

%% @doc Stops a context; its callers get `{error, {context_died, shutdown}}'.
-spec stop(py:context()) -> ok.
stop(Ctx) when is_pid(Ctx) ->
    unlink(Ctx),
    try
        gen_server:stop(Ctx, shutdown, ?STOP_TIMEOUT_MS)
    catch
        exit:_ -> ok
    end;
stop(_) ->
    error(badarg).

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
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false}),
    on_lane(Ctx, fun(Lane) ->
        py_request:call(Lane, Env, Module, Function, Args, Kwargs, Checked)
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
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false}),
    on_lane(Ctx, fun(Lane) -> py_request:eval(Lane, Env, Code, Locals, Checked) end);
eval(_, _, _, _, _) ->
    error(badarg).

%% @doc Executes statements.
-spec exec(py:context(), py:text()) -> ok | {error, term()}.
exec(Ctx, Code) ->
    exec(Ctx, Code, undefined).

-spec exec(py:context(), py:text(), env() | undefined) -> ok | {error, term()}.
exec(Ctx, Code, Env) ->
    Checked = py_request:options(infinity, #{timeout => infinity}),
    on_lane(Ctx, fun(Lane) -> py_request:exec(Lane, Env, Code, Checked) end).

%% @doc Makes a namespace for the functions here that take one. It ends when the
%% last reference to it is collected.
-spec create_local_env(py:context()) -> {ok, env()} | {error, term()}.
create_local_env(Ctx) ->
    on_lane(Ctx, fun(Lane) -> {ok, py_nif:env_new(Lane)} end).

%% Internal API

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
            Env = py_nif:env_new(Lane),
            undefined = put(Key, Env),
            Env;
        Env ->
            Env
    end.

%% @private Started by py_context_sup on the worker of a pool; does not wait.
-spec start_member(term(), pid(), settings()) -> {ok, pid()} | ignore | {error, term()}.
start_member(Id, Worker, Settings) ->
    gen_server:start_link(?MODULE, {Id, {worker, Worker}, Settings}, []).

%% @private Waits until the context accepts requests.
-spec await_started(pid()) -> ok | {error, term()}.
await_started(Ctx) ->
    try
        gen_server:call(Ctx, await_started, ?START_TIMEOUT_MS)
    catch
        exit:{timeout, _} -> {error, timeout};
        exit:{Reason, _} -> {error, {context_died, Reason}}
    end.

%% gen_server

-spec init({term(), {worker, pid()} | own | shared, settings()}) -> {ok, #state{}}.
init({Id, Place, Settings}) ->
    Lane = py_nif:lane_new(py_config:spin_ns(maps:get(spin_us, Settings))),
    true = ets:insert(?TABLE, {self(), Lane}),
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
    {noreply, answer(ok, State#state{started = true, failure = undefined})};
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
    %% Its caller runs a callback and cannot see to it.
    case py_nif:lane_interrupt(Lane, CallId) of
        ok -> {noreply, watch(CallId, State)};
        not_running -> {noreply, State}
    end;
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
    case await_started(Pid) of
        ok ->
            {ok, Pid};
        {error, Reason} ->
            ok = stop(Pid),
            {error, Reason}
    end.

%% A crash of Python takes one process: worker contexts have their own, so that
%% it takes one context; owngil contexts share, which is what they are for.
place(#{own_process := true}) -> own;
place(#{own_process := false}) -> shared;
place(#{mode := worker}) -> own;
place(#{mode := owngil}) -> shared.

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
        runs -> ok = py_nif:lane_kill(Lane);
        ended -> ok;
        waits -> watch_on(CallId, waits, ?WATCH_MS, State)
    end,
    State;
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

on_lane(Ctx, Fun) when is_pid(Ctx) ->
    case lane(Ctx) of
        noproc -> {error, {context_died, noproc}};
        Lane -> Fun(Lane)
    end;
on_lane(_, _) ->
    error(badarg).
