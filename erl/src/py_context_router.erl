%% SPDX-License-Identifier: Apache-2.0

%% @doc The default pool of contexts, and which of them a process uses.
%%
%% A process is bound at first use to the context whose number follows from its
%% scheduler, and keeps that number. Reads go to a persistent term and the process
%% dictionary; this process only starts, stops and replaces contexts.
-module(py_context_router).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start/0, start/1, stop/0, is_started/0]).
-export([get_context/0, get_context/1, bind_context/1, unbind_context/0]).
-export([num_contexts/0, contexts/0]).
%% Internal
-export([start_link/0, bound/0, target/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(POOL, py_pool_default).
-define(BOUND, '$py_bound').
-define(LOG, #{domain => [erlang_python]}).

-type slot() :: {py:context(), py_nif:lane()}.

-record(pool, {
    settings :: py_config:pool(),
    workers :: tuple(),
    contexts :: #{Number :: pos_integer() => pid()}
}).

-record(state, {pool :: #pool{} | undefined}).

%% API

%% @doc Starts the default pool with the configured size; a running pool is
%% returned as it is.
-spec start() -> {ok, [py:context()]} | {error, term()}.
start() ->
    start(#{}).

%% @doc With `contexts', `mode', `num_workers', `kill_after', `python', `spin_us'.
-spec start(map()) -> {ok, [py:context()]} | {error, term()}.
start(Options) ->
    case py_config:pool_options(Options) of
        {ok, Settings} -> gen_server:call(?MODULE, {start, Settings}, infinity);
        {error, Reason} -> {error, Reason}
    end.

-spec stop() -> ok.
stop() ->
    gen_server:call(?MODULE, stop, infinity).

-spec is_started() -> boolean().
is_started() ->
    persistent_term:get(?POOL, undefined) =/= undefined.

%% @doc The context of the calling process; binds it.
-spec get_context() -> py:context().
get_context() ->
    {Ctx, _Lane} = bound(),
    case is_live(Ctx) of
        true -> Ctx;
        false -> get_context()
    end.

%% @doc Number N of the pool, from 1.
-spec get_context(pos_integer() | py:text()) -> py:context().
get_context(N) when is_integer(N), N > 0 ->
    case persistent_term:get(?POOL, undefined) of
        Slots when is_tuple(Slots), N =< tuple_size(Slots) ->
            {Ctx, _Lane} = element(N, Slots),
            case is_live(Ctx) of
                true -> Ctx;
                false -> get_context(N)
            end;
        _ ->
            error(badarg)
    end;
get_context(default) ->
    get_context();
get_context(_) ->
    error(badarg).

%% @doc Binds the calling process to a context.
-spec bind_context(py:context()) -> ok.
bind_context(Ctx) when is_pid(Ctx) ->
    Number =
        case persistent_term:get(?POOL, undefined) of
            undefined -> 0;
            Slots -> number_of(Ctx, tuple_to_list(Slots), 1)
        end,
    case Number of
        0 ->
            %% Not of the pool: bound to the pid itself.
            py_context:lane(Ctx) =/= noproc orelse error(badarg),
            _ = put(?BOUND, Ctx),
            ok;
        _ ->
            _ = put(?BOUND, Number),
            ok
    end;
bind_context(_) ->
    error(badarg).

%% @doc The next use binds by scheduler again.
-spec unbind_context() -> ok.
unbind_context() ->
    _ = erase(?BOUND),
    ok.

-spec num_contexts() -> non_neg_integer().
num_contexts() ->
    tuple_size(persistent_term:get(?POOL, {})).

-spec contexts() -> [py:context()].
contexts() ->
    [Ctx || {Ctx, _Lane} <- tuple_to_list(persistent_term:get(?POOL, {}))].

%% Internal API

%% @private The bound context and its lane: the first step of every call.
-spec bound() -> slot().
bound() ->
    case persistent_term:get(?POOL, undefined) of
        undefined ->
            error(badarg);
        Slots ->
            case get(?BOUND) of
                N when is_integer(N), N =< tuple_size(Slots) -> element(N, Slots);
                Ctx when is_pid(Ctx) -> bound_pid(Ctx, Slots);
                _ -> bind(Slots)
            end
    end.

%% @private What a target of the API means.
-spec target(py:context() | atom()) -> slot() | noproc.
target(Ctx) when is_pid(Ctx) ->
    case py_context:lane(Ctx) of
        noproc -> noproc;
        Lane -> {Ctx, Lane}
    end;
target(default) ->
    bound();
target(_) ->
    error(badarg).

%% @private
-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% gen_server

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, ok | {ok, [pid()]} | {error, term()}, #state{}}.
handle_call({start, _Settings}, _From, State = #state{pool = #pool{}}) ->
    {reply, {ok, contexts()}, State};
handle_call({start, Settings}, _From, State) ->
    case start_pool(Settings) of
        {ok, Pool} ->
            publish(Pool),
            {reply, {ok, contexts()}, State#state{pool = Pool}};
        {error, Reason} ->
            {reply, {error, Reason}, State}
    end;
handle_call(stop, _From, State = #state{pool = Pool}) ->
    ok = stop_pool(Pool),
    {reply, ok, State#state{pool = undefined}};
handle_call({ended, Ctx}, _From, State) ->
    {reply, ok, ended(Ctx, noproc, State)}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, Reason}, State) ->
    {noreply, ended(Pid, Reason, State)};
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{pool = Pool}) ->
    stop_pool(Pool).

%% Internal

%% One that has just been killed is replaced before this returns.
is_live(Ctx) ->
    is_process_alive(Ctx) orelse
        begin
            ok = gen_server:call(?MODULE, {ended, Ctx}, infinity),
            false
        end.

ended(Ctx, Reason, State = #state{pool = Pool = #pool{}}) ->
    case number_of(Ctx, Pool) of
        none -> State;
        Number -> State#state{pool = replace(Number, Reason, Pool)}
    end;
ended(_Ctx, _Reason, State) ->
    State.

bind(Slots) ->
    N = (erlang:system_info(scheduler_id) - 1) rem tuple_size(Slots) + 1,
    _ = put(?BOUND, N),
    element(N, Slots).

bound_pid(Ctx, Slots) ->
    case py_context:lane(Ctx) of
        noproc -> bind(Slots);
        Lane -> {Ctx, Lane}
    end.

number_of(_Ctx, [], _N) -> 0;
number_of(Ctx, [{Ctx, _} | _], N) -> N;
number_of(Ctx, [_ | Rest], N) -> number_of(Ctx, Rest, N + 1).

start_pool(Settings = #{contexts := N, num_workers := W}) ->
    Slots = (N + W - 1) div W,
    Workers = list_to_tuple([start_worker(Slots, Settings) || _ <- lists:seq(1, W)]),
    Numbers = lists:seq(1, N),
    Contexts = maps:from_list([{I, start_context(I, Workers, Settings)} || I <- Numbers]),
    Pool = #pool{settings = Settings, workers = Workers, contexts = Contexts},
    Failures = [
        {I, Reason}
     || I <- Numbers, {error, Reason} <- [py_context:await_started(maps:get(I, Contexts))]
    ],
    case Failures of
        [] ->
            {ok, Pool};
        [{I, Reason} | _] ->
            ok = stop_pool(Pool),
            {error, {context_start_failed, default, I, Reason}}
    end.

start_worker(Slots, Settings) ->
    {ok, Worker} = py_worker_sup:start_worker(Settings#{slots => Slots}),
    Worker.

start_context(Number, Workers, Settings) ->
    Worker = element((Number - 1) rem tuple_size(Workers) + 1, Workers),
    {ok, Ctx} = py_context_sup:start_context({default, Number}, Worker, Settings),
    _ = monitor(process, Ctx),
    Ctx.

publish(#pool{contexts = Contexts}) ->
    Slots = [
        {Ctx, py_context:lane(Ctx)}
     || {_Number, Ctx} <- lists:keysort(1, maps:to_list(Contexts))
    ],
    persistent_term:put(?POOL, list_to_tuple(Slots)).

stop_pool(undefined) ->
    ok;
stop_pool(#pool{contexts = Contexts, workers = Workers}) ->
    _ = persistent_term:erase(?POOL),
    Refs = [monitor(process, Worker) || Worker <- tuple_to_list(Workers)],
    lists:foreach(fun py_context:stop/1, maps:values(Contexts)),
    %% Workers end with their last context; wait for Python's exit functions.
    lists:foreach(
        fun(Ref) ->
            receive
                {'DOWN', Ref, process, _, _} -> ok
            after 7000 -> ok
            end
        end,
        Refs
    ).

number_of(Pid, #pool{contexts = Contexts}) ->
    case [Number || {Number, Ctx} <- maps:to_list(Contexts), Ctx =:= Pid] of
        [Number] -> Number;
        [] -> none
    end.

%% A context that was killed gets a successor under its number. Its place in the
%% worker process is used up, so the successor gets a process of its own.
replace(Number, Reason, Pool = #pool{settings = Settings, contexts = Contexts}) ->
    ?LOG_WARNING("context ~p of pool default ended (~p); starting another one",
                 [Number, Reason], ?LOG),
    Worker = start_worker(1, Settings),
    Ctx = start_context(Number, {Worker}, Settings),
    Workers = erlang:append_element(Pool#pool.workers, Worker),
    New = Pool#pool{contexts = Contexts#{Number := Ctx}, workers = Workers},
    publish(New),
    New.
