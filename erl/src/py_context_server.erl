%% SPDX-License-Identifier: Apache-2.0

%% @private The process of a context. It owns the life of its lane, not the calls: those go
%% from their callers straight into shared memory. It watches calls that were given up and
%% ends those that do not stop.
-module(py_context_server).
-behaviour(gen_server).

-include("ep_nif.hrl").

-export([settings/2, home/1]).
-export([start_linked/2, start_member/3, await_started/1, await_or_stop/1, stop/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([settings/0, home/0]).

-type settings() :: #{mode := py:context_mode(), kill_after := timeout(), _ => _}.
%% In a process of its own, with others of its kind, or with those of that key, under a number
%% that it had better have.
-type home() ::
    own | shared | {group, Key :: term(), Places :: pos_integer(), Place :: pos_integer()}.

-define(START_TIMEOUT_MS, 60000).
-define(LAST_TIMEOUT_MS, 5000).
-define(STOP_TIMEOUT_MS, 5000).
%% How long a start waits for imports that need not succeed.
%% A place that cannot be had now is asked for again.
-define(BACKOFF_MIN_MS, 10).
-define(BACKOFF_MAX_MS, 200).
%% py_worker processes that are tried one after the other: one may be full, or about to end.
-define(WORKER_TRIES, 4).

-record(state, {
    id :: term(),
    lane :: ep_nif:lane(),
    home :: home(),
    settings :: settings(),
    %% monitor of its py_worker
    worker :: reference() | undefined,
    backoff = py_backoff:new(1, ?BACKOFF_MIN_MS, ?BACKOFF_MAX_MS) :: py_backoff:backoff(),
    %% the call that was interrupted last, as long as it was not given up
    watched = 0 :: non_neg_integer(),
    started = false :: boolean(),
    failure :: undefined | term(),
    %% of the process that runs the preload code
    preload :: reference() | undefined,
    %% whether a request is watched that its lane does not take
    neglects = false :: boolean(),
    waiting = [] :: [gen_server:from()]
}).

%% @doc The settings of a context without a pool.
-spec settings(py:context_mode(), map()) ->
    {ok, settings()} | {error, py_config:error() | memory_limit_requires_own_process}.
settings(Mode, Options) when Mode =:= worker; Mode =:= owngil ->
    case py_config:context_options(Options) of
        {ok, Settings} -> alone(Options, Settings#{mode => Mode});
        {error, Reason} -> {error, Reason}
    end;
settings(_Mode, _Options) ->
    py_error_info:refuse(arguments).

%% What one context is to have of the memory cannot be told apart in a process that others are in.
alone(#{memory_limit := Bytes}, Settings) when is_integer(Bytes) ->
    case home(Settings) of
        own -> {ok, Settings};
        shared -> {error, memory_limit_requires_own_process}
    end;
alone(_Options, Settings) ->
    {ok, Settings}.

%% @doc A crash of Python takes one process: worker contexts have their own, so
%% that it takes one context; owngil contexts share, which is what they are for.
-spec home(settings()) -> home().
home(#{own_process := true}) -> own;
home(#{own_process := false}) -> shared;
home(#{mode := worker}) -> own;
home(#{mode := owngil}) -> shared.

%% @doc Starts a context, links it to the calling process, and waits until it accepts requests.
-spec start_linked(term(), settings()) -> {ok, py:context()} | {error, term()}.
start_linked(Id, Settings) ->
    Home = home(Settings),
    case gen_server:start_link(?MODULE, {Id, Home, Settings}, []) of
        {ok, Pid} -> await_or_stop(Pid);
        {error, Reason} -> {error, Reason}
    end.

%% @doc Started by py_context_sup; does not wait.
-spec start_member(term(), home(), settings()) -> {ok, pid(), ep_nif:lane()} | {error, term()}.
start_member(Id, Home, Settings) ->
    case gen_server:start_link(?MODULE, {Id, Home, Settings}, []) of
        {ok, Ctx} ->
            case py_context_table:lane(Ctx) of
                noproc -> {error, {context_died, noproc}};
                Lane -> {ok, Ctx, Lane}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

%% @doc Waits until the context accepts requests.
-spec await_started(pid()) -> ok | {error, term()}.
await_started(Ctx) ->
    await_started(Ctx, ?START_TIMEOUT_MS, py_launcher:progress()).

%% Where very many start, it takes longer than one start may take.
await_started(Ctx, Ms, Before) ->
    try
        gen_server:call(Ctx, await_started, Ms)
    catch
        exit:{timeout, _} ->
            case {py_launcher:progress(), Before} of
                {After = {Ups, true}, {Former, _}} when Ups > Former ->
                    await_started(Ctx, ?START_TIMEOUT_MS, After);
                %% Perhaps it was the last one.
                {After = {Ups, false}, {Former, _}} when Ups > Former ->
                    await_started(Ctx, ?LAST_TIMEOUT_MS, After);
                _ ->
                    {error, timeout}
            end;
        exit:{normal, _} -> {error, {context_died, shutdown}};
        exit:{Reason, _} -> {error, {context_died, Reason}}
    end.

%% @doc The same; a context that does not start is stopped.
-spec await_or_stop(pid()) -> {ok, pid()} | {error, term()}.
await_or_stop(Ctx) ->
    case await_started(Ctx) of
        ok ->
            {ok, Ctx};
        {error, Reason} ->
            ok = stop(Ctx),
            {error, Reason}
    end.

%% @doc Stops a context; its callers get `{error, {context_died, shutdown}}'.
-spec stop(py:context()) -> ok.
stop(Ctx) when is_pid(Ctx), node(Ctx) =:= node() ->
    case py_context_table:lane(Ctx) =/= noproc orelse proc_lib:translate_initial_call(Ctx) =:= {?MODULE, init, 1} of
        true -> stop_process(Ctx);
        %% It has ended; or it is any other process, which is not ours to end.
        false -> ok
    end;
stop(_) ->
    py_error_info:refuse(arguments).

%% gen_server

-spec init({term(), home(), settings()}) -> {ok, #state{}} | {stop, {shutdown, term()}}.
init({Id, Home, Settings}) ->
    #{spin_us := SpinUs, max_result_bytes := MaxResultBytes} = Settings,
    case ep_nif:lane_new(py_config:spin_ns(SpinUs), MaxResultBytes, style(Settings)) of
        {error, Reason} -> {stop, {shutdown, {lane, Reason}}};
        Lane -> init(Id, Home, Settings, Lane)
    end.

init(Id, Home, Settings, Lane) ->
    ok = py_context_table:add(self(), Lane, describe(Id, Home, Settings)),
    %% Later: its supervisor, which starts others, waits for nothing but this.
    self() ! attach,
    {ok, #state{id = Id, lane = Lane, home = Home, settings = Settings}}.

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

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info({py_lane, started}, State) ->
    {noreply, preload(State)};
handle_info({'DOWN', Ref, process, _, End}, State = #state{preload = Ref}) ->
    Result =
        case End of
            {preloaded, R} -> R;
            Killed -> {error, {context_died, Killed}}
        end,
    {noreply, preloaded(Result, State#state{preload = undefined})};
handle_info({'DOWN', Ref, process, _, _}, State = #state{worker = Ref}) ->
    worker_down(State#state{worker = undefined});
handle_info(attach, State = #state{worker = undefined}) ->
    worker_down(State);
handle_info({py_lane, {failed, Type, Text}}, State = #state{settings = #{mode := Mode}}) ->
    {noreply, failed(start_failure(Mode, Type, Text), State)};
handle_info({py_lane, failed}, State) ->
    {noreply, failed(unknown, State)};
handle_info({py_lane, stopped}, State) ->
    {noreply, State};
handle_info({py_worker, unavailable, Reason}, State) ->
    {noreply, failed({worker_unavailable, Reason}, State)};
handle_info({py_lane, {cancelled, CallId}}, State) ->
    ok = py_watch:cancelled(CallId, subject(State)),
    {noreply, State};
handle_info({py_lane, {interrupted, CallId}}, State = #state{watched = CallId}) ->
    {noreply, State};
handle_info({py_lane, {interrupted, CallId}}, State) ->
    ok = py_watch:interrupted(CallId, subject(State)),
    {noreply, State#state{watched = CallId}};
handle_info({py_lane, {neglected, CallId}}, State = #state{neglects = Neglects}) ->
    {noreply, State#state{neglects = Neglects orelse py_watch:neglected(CallId, subject(State))}};
handle_info({overdue, CallId, Watch}, State) ->
    ok = py_watch:overdue(CallId, Watch, subject(State)),
    {noreply, State};
handle_info({neglected, CallId, Neglect}, State) ->
    {noreply, State#state{neglects = py_watch:neglected(CallId, Neglect, subject(State))}};
handle_info({deadline, CallId}, State = #state{lane = Lane}) ->
    %% Its caller runs a callback and cannot see to it. The contexts concerned hear of
    %% what was interrupted.
    ok = ep_nif:lane_expire(Lane, CallId),
    {noreply, State};
handle_info(_Unexpected, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{lane = Lane}) ->
    ok = ep_nif:lane_close(Lane, shutdown),
    py_context_table:forget(self()).

%% Internal

stop_process(Ctx) ->
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
    end.

describe(Id, Home, #{mode := Mode, kill_after := KillAfter}) ->
    #{
        id => Id,
        mode => Mode,
        interp_id => erlang:unique_integer([positive]),
        kill_after => KillAfter,
        pool =>
            case Home of
                {group, _, _, _} -> Id;
                _ -> undefined
            end
    }.

%% Its py_worker was killed, and its worker process with it; or there has been none.
worker_down(State) ->
    case py_context_table:lane(self()) of
        %% The application has ended, which a context of somebody else's outlives.
        noproc -> {stop, normal, State};
        _ -> {noreply, attach(State)}
    end.

attach(State = #state{backoff = Backoff}) ->
    case attached(none, ?WORKER_TRIES, State) of
        {ok, Worker} ->
            ok = py_context_table:moved(self(), Worker),
            State#state{worker = monitor(process, Worker), backoff = py_backoff:reset(Backoff)};
        {error, Reason} ->
            {Ms, Next} = py_backoff:next(Backoff),
            _ = erlang:send_after(Ms, self(), attach),
            without_place(Ms, Reason, State#state{backoff = Next})
    end.

%% Nobody waits long for a place that may never be there.
without_place(Ms, What, State = #state{lane = Lane}) when Ms > ?BACKOFF_MAX_MS div 2 ->
    Text = io_lib:format("no worker process takes the context at the moment (~tp); it is tried again", [What]),
    Reason = unicode:characters_to_binary(Text),
    ok = ep_nif:lane_set_unavailable(Lane, Reason),
    failed({worker_unavailable, Reason}, State);
without_place(_Ms, _Reason, State) ->
    State.

attached(Refused, Tries, State = #state{id = Id, lane = Lane, settings = Settings}) ->
    #{mode := Mode} = Settings,
    case find_worker(State, Refused) of
        {ok, Worker, Place} ->
            Preloads = length(py_preparation:steps(Settings)),
            Member = #{
                lane => Lane,
                id => Id,
                mode => Mode,
                place => Place,
                preloads => Preloads,
                preparation => maps:with([mode, preload, event_loop], Settings),
                style => style(Settings),
                imports => maps:get(imports, Settings, []),
                paths => maps:get(paths, Settings, []),
                member => member(State)
            },
            case py_worker:attach(Worker, Member) of
                ok -> {ok, Worker};
                {error, _} when Tries > 1 -> attached(Worker, Tries - 1, State);
                {error, Reason} -> {error, Reason}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

style(#{none := None, error_text := Text}) ->
    py_options:style(None, Text).

member(#state{home = {group, _, _, _}, id = PoolAndNumber}) -> PoolAndNumber;
member(_State) -> undefined.

find_worker(#state{home = own, settings = Settings}, _Refused) ->
    case py_worker_sup:start_worker(Settings#{places => 1, zygote => zygote(false, Settings)}) of
        {ok, Worker} -> {ok, Worker, any};
        {error, Reason} -> {error, Reason}
    end;
find_worker(#state{home = shared, settings = Settings = #{mode := Mode}}, Refused) ->
    Kind = process_options(Settings),
    %% Each may preload something else.
    Options = Kind#{places => ?CONTEXTS_MAX, zygote => zygote(false, #{})},
    shared_worker({shared, Mode, Kind}, Options, any, Refused);
find_worker(#state{home = {group, Key, Places, Place}, settings = Settings}, Refused) ->
    Options = (process_options(Settings))#{
        places => Places, zygote => zygote(true, Settings), paths => maps:get(paths, Settings, [])
    },
    shared_worker(Key, Options, Place, Refused).

shared_worker(Key, Options, Place, Refused) ->
    case py_shared_worker:worker(Key, Options, Refused) of
        {ok, Worker} -> {ok, Worker, Place};
        {error, Reason} -> {error, Reason}
    end.

%% What a zygote imports for the process; the context finds it there.
zygote(IsEager, Settings) ->
    #{modules => [Module || {load, Module} <- maps:get(preload, Settings, [])], is_eager => IsEager}.

%% What contexts of one process have in common. Those of mode worker share its interpreter.
process_options(Settings = #{mode := Mode}) ->
    Interpreter = case Mode of worker -> [paths, event_loop]; owngil -> [] end,
    maps:with([python, spin_us, kill_after, env, cwd, memory_limit, sandbox, threads, max_requests, max_rss, none | Interpreter], Settings).

start_failure(owngil, Type, Text) ->
    case py_python:info() of
        #{owngil := false} -> owngil_requires_python312;
        _ -> {start_failed, {Type, Text}}
    end;
start_failure(worker, Type, Text) ->
    {start_failed, {Type, Text}}.

%% What is to be done after each start of the Python thread, in a process of its own: this one
%% must go on hearing of calls that were given up, and may be stopped. After a restart, requests
%% that come before this is sent are served before it.
preload(State = #state{lane = Lane, settings = Settings}) ->
    Imports = maps:get(imports, Settings, []),
    case {py_preparation:steps(Settings), Imports ++ py_code:imports()} of
        {[], []} ->
            started(State);
        {Steps, _} ->
            {_Pid, Ref} = spawn_monitor(py_preparation, run, [{self(), Lane, undefined}, Steps, Imports]),
            State#state{preload = Ref}
    end.

preloaded(ok, State) ->
    started(State);
preloaded({error, {Type, Text}}, State) when is_list(Text); Type =:= stop_iteration ->
    ok = py_report:preload_failed(State#state.id, Type, Text),
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

subject(#state{id = Id, lane = Lane, home = Home, settings = Settings}) ->
    {Pool, Index} =
        case Home of
            {group, _, _, _} -> Id;
            _ -> {undefined, undefined}
        end,
    Meta = #{context => self(), pool => Pool, index => Index},
    (maps:with([kill_after, import_ms], Settings))#{lane => Lane, meta => Meta}.
