%% SPDX-License-Identifier: Apache-2.0

%% @private One pool: starts its contexts on its worker processes, replaces those
%% that were killed, and stops them. Each pool has a process, so that one whose
%% Python starts slowly keeps no other waiting.
-module(py_pool).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, contexts/1, replaced/2, stop/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(LOG, #{domain => [erlang_python]}).

-record(state, {
    name :: py:pool_name(),
    settings :: py_config:pool(),
    workers = [] :: [pid()],
    slots = #{} :: #{Number :: pos_integer() => py_pool_registry:slot()}
}).

-spec start_link(py:pool_name(), py_config:pool()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Name, Settings) ->
    gen_server:start_link(?MODULE, {Name, Settings}, []).

%% @doc Waits until the contexts are up. `gone': the pool has ended before it heard
%% the question.
-spec contexts(pid()) -> {ok, [py:context()]} | {error, term()} | gone.
contexts(Pool) ->
    ask(Pool, contexts).

%% @doc Makes sure that a context that has ended is replaced. The pool may not have
%% heard of its end yet.
-spec replaced(pid(), py:context()) -> ok | {error, term()} | gone.
replaced(Pool, Ctx) ->
    ask(Pool, {replaced, Ctx}).

-spec stop(pid()) -> ok | {error, term()} | gone.
stop(Pool) ->
    ask(Pool, stop).

ask(Pool, Request) ->
    try
        gen_server:call(Pool, Request, infinity)
    catch
        exit:{{shutdown, {failed, Reason}}, _} -> {error, Reason};
        exit:{Ended, _} when Ended =:= noproc; Ended =:= normal -> gone;
        exit:{Reason, _} -> {error, {context_died, Reason}}
    end.

%% gen_server

-spec init({py:pool_name(), py_config:pool()}) -> {ok, #state{}, {continue, start}}.
init({Name, Settings}) ->
    process_flag(trap_exit, true),
    {ok, #state{name = Name, settings = Settings}, {continue, start}}.

-spec handle_continue(start, #state{}) ->
    {noreply, #state{}} | {stop, {shutdown, {failed, term()}}, #state{}}.
handle_continue(start, State) ->
    Started = start_contexts(State),
    case first_failure(Started) of
        none ->
            ok = publish(Started),
            {noreply, Started};
        {Number, Reason} ->
            Failure = {context_start_failed, Started#state.name, Number, Reason},
            {stop, {shutdown, {failed, Failure}}, Started}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, ok | {ok, [pid()]}, #state{}} | {stop, normal, ok, #state{}}.
handle_call(contexts, _From, State) ->
    {reply, {ok, contexts_of(State)}, State};
handle_call({replaced, Ctx}, _From, State) ->
    {reply, ok, ended(Ctx, noproc, State)};
handle_call(stop, _From, State) ->
    ok = stop_contexts(State),
    {stop, normal, ok, State#state{slots = #{}, workers = []}}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, Reason}, State) ->
    {noreply, ended(Pid, Reason, State)};
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State) ->
    stop_contexts(State).

%% Internal

start_contexts(State = #state{settings = #{contexts := N, num_workers := W} = Settings}) ->
    Places = (N + W - 1) div W,
    Workers = [start_worker(Places, Settings) || _ <- lists:seq(1, W)],
    ByNumber = list_to_tuple(Workers),
    Slots = [
        {I, start_context(I, element((I - 1) rem W + 1, ByNumber), State)}
     || I <- lists:seq(1, N)
    ],
    State#state{workers = Workers, slots = maps:from_list(Slots)}.

first_failure(#state{slots = Slots}) ->
    Failures = [
        {Number, Reason}
     || {Number, {Ctx, _Lane}} <- lists:sort(maps:to_list(Slots)),
        {error, Reason} <- [py_context:await_started(Ctx)]
    ],
    case Failures of
        [] -> none;
        [First | _] -> First
    end.

start_worker(Places, Settings) ->
    {ok, Worker} = py_worker_sup:start_worker(Settings#{slots => Places}),
    Worker.

start_context(Number, Worker, #state{name = Name, settings = Settings}) ->
    {ok, Ctx, Lane} = py_context_sup:start_member({Name, Number}, Worker, Settings),
    _ = monitor(process, Ctx),
    {Ctx, Lane}.

in_order(#state{slots = Slots}) ->
    [Slot || {_Number, Slot} <- lists:sort(maps:to_list(Slots))].

contexts_of(State) ->
    [Ctx || {Ctx, _Lane} <- in_order(State)].

publish(State = #state{name = Name}) ->
    py_pool_registry:publish(Name, list_to_tuple(in_order(State))).

ended(Ctx, Reason, State = #state{slots = Slots}) ->
    case [Number || {Number, {C, _}} <- maps:to_list(Slots), C =:= Ctx] of
        [Number] -> replace(Number, Reason, State);
        [] -> State
    end.

%% A context that was killed gets a successor under its number. Its place in the
%% worker process is used up, so the successor gets a process of its own.
replace(Number, Reason, State = #state{name = Name, settings = Settings, slots = Slots}) ->
    ?LOG_WARNING("context ~p of pool ~p ended (~p); starting another one",
                 [Number, Name, Reason], ?LOG),
    Worker = start_worker(1, Settings),
    Slot = start_context(Number, Worker, State),
    Left = [W || W <- State#state.workers, is_process_alive(W)],
    New = State#state{slots = Slots#{Number := Slot}, workers = [Worker | Left]},
    ok = publish(New),
    New.

stop_contexts(#state{slots = Slots}) when map_size(Slots) =:= 0 ->
    ok;
stop_contexts(State = #state{name = Name, workers = Workers}) ->
    ok = py_pool_registry:withdraw(Name),
    Refs = [monitor(process, Worker) || Worker <- Workers],
    lists:foreach(fun py_context:stop/1, contexts_of(State)),
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
