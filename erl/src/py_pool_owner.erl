%% SPDX-License-Identifier: Apache-2.0

%% @private Stands for a pool in a supervisor of the user: the pool starts with this process and
%% ends with it, also when it is killed. It ends when the pool does, so that its supervisor can
%% start both again.
-module(py_pool_owner).
-behaviour(gen_server).

-export([child_spec/2, start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% A pool takes up to 10 s to end.
-define(SHUTDOWN_MS, 12000).
%% How often to look whether the process of the pool is there again.
-define(AGAIN_MS, 5).

-record(state, {pool :: py:pool_name(), server :: reference() | undefined}).

-spec child_spec(py:pool_name(), map()) -> supervisor:child_spec().
child_spec(Pool, Options) ->
    #{
        id => {py_pool, Pool},
        start => {?MODULE, start_link, [Pool, Options]},
        type => worker,
        shutdown => ?SHUTDOWN_MS,
        modules => [?MODULE]
    }.

%% @doc Returns when the contexts of the pool are up.
-spec start_link(py:pool_name(), map()) -> {ok, pid()} | {error, term()}.
start_link(Pool, Options) ->
    case gen_server:start_link(?MODULE, {Pool, Options}, []) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, Reason}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

-spec init({py:pool_name(), map()}) -> {ok, #state{}} | {stop, {shutdown, term()}}.
init({Pool, Options}) ->
    process_flag(trap_exit, true),
    case py_error_info:is_started() andalso py_config:pool_options(Options) of
        false -> {stop, {shutdown, not_started}};
        {error, Reason} -> {stop, {shutdown, Reason}};
        {ok, Settings} -> start(Pool, Settings#{owner => self()})
    end.

start(Pool, Settings) ->
    ok = bury(Pool, py_pool_registry:settings(Pool)),
    case py_pool:start(Pool, Settings) of
        {ok, _Contexts} ->
            case py_pool_registry:settings(Pool) of
                Settings -> {ok, watch(#state{pool = Pool})};
                %% One of that name was there.
                _ -> {stop, {shutdown, {already_started, server(Pool)}}}
            end;
        {error, Reason} ->
            {stop, {shutdown, Reason}}
    end.

%% That of a predecessor which was killed, and whose end nobody has noticed yet.
bury(Pool, #{owner := Owner}) ->
    is_process_alive(Owner) orelse py_pool:stop(Pool),
    ok;
bury(_Pool, _Settings) ->
    ok.

-spec handle_call(term(), gen_server:from(), #state{}) -> no_return().
handle_call(Request, _From, _State) ->
    error({unexpected, Request}).

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({'DOWN', Ref, process, _, _}, State = #state{server = Ref}) ->
    look(State);
handle_info(look, State) ->
    look(State);
handle_info({'EXIT', _From, Reason}, State) ->
    {stop, Reason, State};
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{pool = Pool}) ->
    case py_pool_registry:settings(Pool) of
        #{owner := Owner} when Owner =:= self() -> py_pool:stop(Pool);
        _ -> ok
    end.

%% Internal

%% Its process was killed and has a successor; or the pool has been stopped.
look(State = #state{pool = Pool}) ->
    case py_pool_registry:settings(Pool) of
        #{owner := Owner} when Owner =:= self() -> {noreply, watch(State)};
        _ -> {stop, {shutdown, pool_stopped}, State}
    end.

watch(State = #state{pool = Pool}) ->
    case py_pool_registry:server(Pool) of
        {ok, Server} ->
            State#state{server = monitor(process, Server)};
        _ ->
            _ = erlang:send_after(?AGAIN_MS, self(), look),
            State#state{server = undefined}
    end.

server(Pool) ->
    case py_pool_registry:server(Pool) of
        {ok, Server} -> Server;
        _ -> undefined
    end.
