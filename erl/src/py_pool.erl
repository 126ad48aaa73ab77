%% SPDX-License-Identifier: Apache-2.0

%% @private One pool: starts its contexts, replaces those that were killed, and stops them.
%% Each pool has a process, so that one whose Python starts slowly keeps no other waiting.
%%
%% When it is killed its contexts go on, and its successor, which py_pool_registry starts,
%% finds them in the table of contexts. So what it keeps here can be had again.
-module(py_pool).
-behaviour(gen_server).

-export([start/2, stop/1, replaced/2]).
-export([start_link/3]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% Contexts that die soon one after another are replaced later.
-define(BURST, 10).
-define(BACKOFF_MIN_MS, 20).
-define(BACKOFF_MAX_MS, 100).
-define(YOUNG_MS, 1000).
%% How soon a caller looks whether the process of the pool is there again.
-define(AGAIN_MS, 5).
%% Its contexts have stopped by then; Python's exit functions may run yet.
-define(WORKER_STOP_MS, 7000).

-record(state, {
    name :: py:pool_name(),
    settings :: py_config:pool(),
    status :: py_pool_registry:status(),
    %% a monitor of the process that the pool ends with, if there is one
    owner = [] :: [reference()],
    %% also those that are to be replaced, so that their callers get an answer
    members = #{} :: #{Number :: pos_integer() => py_pool_registry:member()},
    missing = [] :: [Number :: pos_integer()],
    timer :: reference() | undefined,
    started_at = 0 :: integer(),
    backoff = py_backoff:new(?BURST, ?BACKOFF_MIN_MS, ?BACKOFF_MAX_MS) :: py_backoff:backoff(),
    waiting = [] :: [gen_server:from()]
}).

-spec start_link(py:pool_name(), py_config:pool(), py_pool_registry:status()) ->
    {ok, pid()} | ignore | {error, term()}.
start_link(Name, Settings, Status) ->
    gen_server:start_link(?MODULE, {Name, Settings, Status}, []).

%% @doc Starts the pool, unless it runs, and waits until its contexts are up.
-spec start(py:pool_name(), py_config:pool()) -> {ok, [py:context()]} | {error, term()}.
start(Name, Settings) ->
    case py_pool_registry:add(Name, Settings) of
        {ok, Pool} ->
            case ask(Pool, contexts) of
                %% It is about to stop; or it was killed, and has a successor.
                gone -> start(Name, Settings);
                Answer -> Answer
            end;
        not_started ->
            py_error_info:refuse(not_started);
        wait ->
            receive after ?AGAIN_MS -> ok end,
            start(Name, Settings)
    end.

%% @doc Stops the pool, if it runs. It does not come back.
-spec stop(py:pool_name()) -> ok.
stop(Name) ->
    case py_pool_registry:retire(Name) of
        None when None =:= none; None =:= not_started ->
            ok;
        {ok, Pool} ->
            case ask(Pool, stop) of
                gone -> stop(Name);
                %% Whatever it says, it has ended.
                _ -> ok
            end;
        wait ->
            receive after ?AGAIN_MS -> ok end,
            stop(Name)
    end.

%% @doc Makes sure that a context that has ended is being replaced. The pool may not have
%% heard of its end yet. `gone': this process of the pool has ended.
-spec replaced(pid(), py:context()) -> ok | {error, term()} | gone.
replaced(Pool, Ctx) ->
    ask(Pool, {replaced, Ctx}).

ask(Pool, Request) ->
    try
        gen_server:call(Pool, Request, infinity)
    catch
        exit:{{shutdown, {failed, Reason}}, _} -> {error, Reason};
        exit:{shutdown, _} -> {error, {context_died, shutdown}};
        exit:{_Ended, _} -> gone
    end.

%% gen_server

-spec init({py:pool_name(), py_config:pool(), py_pool_registry:status()}) ->
    {ok, #state{}, {continue, start}} | {stop, {shutdown, {already_started, pid()}}}.
init({Name, Settings, Status}) ->
    process_flag(trap_exit, true),
    case py_pool_registry:claim(Name) of
        ok ->
            Owner = [monitor(process, Pid) || #{owner := Pid} <- [Settings]],
            {ok, #state{name = Name, settings = Settings, status = Status, owner = Owner}, {continue, start}};
        {already_started, Pid} ->
            {stop, {shutdown, {already_started, Pid}}}
    end.

-spec handle_continue(start, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue(start, State = #state{settings = #{contexts := N}}) ->
    #state{members = Members} = Adopted = adopt(State),
    case Adopted of
        #state{status = stopping} -> {stop, normal, stopped(Adopted)};
        _ -> fill(Adopted#state{missing = [I || I <- lists:seq(1, N), not is_map_key(I, Members)]})
    end.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, ok | {ok, [pid()]}, #state{}}
    | {noreply, #state{}}
    | {stop, term(), #state{}}
    | {stop, normal, ok, #state{}}.
handle_call(contexts, From, State = #state{status = starting, waiting = Waiting}) ->
    {noreply, State#state{waiting = [From | Waiting]}};
handle_call(contexts, _From, State) ->
    {reply, {ok, contexts_of(State)}, State};
handle_call({replaced, Ctx}, From, State) ->
    case ended(Ctx, noproc, State) of
        {noreply, Next} -> {reply, ok, Next};
        Stop -> gen_server:reply(From, ok), Stop
    end;
handle_call(stop, _From, State) ->
    {stop, normal, ok, stopped(State)}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({'DOWN', Ref, process, _, _}, State = #state{name = Name, owner = [Ref]}) ->
    %% As everybody stops a pool, so that it does not come back.
    _ = spawn(?MODULE, stop, [Name]),
    {noreply, State#state{owner = []}};
handle_info({'DOWN', _, process, Pid, Reason}, State) ->
    ended(Pid, Reason, State);
handle_info({timeout, Timer, fill}, State = #state{timer = Timer}) ->
    fill(State#state{timer = undefined});
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, State) ->
    stop_contexts(State);
terminate({shutdown, _Failed}, State) ->
    stop_contexts(State);
%% Stopped already; or the supervisor was killed, and there will be a successor.
terminate(_Reason, _State) ->
    ok.

%% Starting

%% What a predecessor left.
adopt(State = #state{name = Name, settings = #{contexts := N}}) ->
    lists:foldl(
        fun({Number, Ctx, Lane}, Acc = #state{members = Members}) ->
            case Number =< N andalso not is_map_key(Number, Members) of
                true ->
                    _ = monitor(process, Ctx),
                    Acc#state{members = Members#{Number => {Ctx, Lane}}};
                %% It was killed before it took note.
                false ->
                    ok = py_context_server:stop(Ctx),
                    Acc
            end
        end,
        State#state{started_at = now_ms()},
        lists:sort([M || M = {_, Ctx, _} <- py_context_table:of_pool(Name), is_process_alive(Ctx)])
    ).

%% Starts what is missing, as far as it can be.
fill(State = #state{missing = Missing}) ->
    advance(lists:foldl(fun fill/2, State#state{missing = []}, Missing)).

fill(Number, State = #state{members = Members, missing = Missing}) ->
    #state{name = Name, settings = Settings} = State,
    case py_context_sup:start_member({Name, Number}, home(Number, State), Settings) of
        {ok, Ctx, Lane} ->
            _ = monitor(process, Ctx),
            State#state{members = Members#{Number => {Ctx, Lane}}, started_at = now_ms()};
        {error, _Restarting} ->
            State#state{missing = Missing ++ [Number]}
    end.

%% Context I lives in worker process number (I - 1) rem W + 1 of the pool.
home(Number, #state{name = Name, settings = Settings}) ->
    #{contexts := N, num_workers := W} = Settings,
    Group = (Number - 1) rem W + 1,
    {group, {Name, Group, Settings}, (N + W - 1) div W, (Number - 1) div W + 1}.

advance(State = #state{missing = [_ | _]}) ->
    {noreply, fill_later(State)};
advance(State = #state{status = starting}) ->
    case first_failure(State) of
        {died, Number} ->
            {noreply, fill_later(State#state{missing = [Number]})};
        none ->
            Running = State#state{status = running},
            ok = publish(Running),
            _ = [gen_server:reply(From, {ok, contexts_of(Running)}) || From <- State#state.waiting],
            {noreply, Running#state{waiting = []}};
        {Number, Reason} ->
            Failure =
                case Reason of
                    {bad_config, _, _, _} -> Reason;
                    _ -> {context_start_failed, State#state.name, Number, Reason}
                end,
            {stop, {shutdown, {failed, Failure}}, State}
    end;
advance(State) ->
    ok = publish(State),
    {noreply, State}.

first_failure(#state{members = Members}) ->
    Failures = [
        failure(Number, Reason)
     || {Number, {Ctx, _Lane}} <- lists:sort(maps:to_list(Members)),
        {error, Reason} <- [py_context_server:await_started(Ctx)]
    ],
    case Failures of
        [] -> none;
        [First | _] -> First
    end.

%% One that was killed says nothing about Python.
failure(Number, {context_died, _}) -> {died, Number};
failure(Number, Reason) -> {Number, Reason}.

in_order(#state{members = Members}) ->
    [Member || {_Number, Member} <- lists:sort(maps:to_list(Members))].

contexts_of(State) ->
    [Ctx || {Ctx, _Lane} <- in_order(State)].

publish(State = #state{name = Name}) ->
    py_pool_registry:publish(Name, list_to_tuple(in_order(State))).

%% Replacing

ended(Ctx, Reason, State = #state{members = Members, missing = Missing}) ->
    case [N || {N, {C, _}} <- maps:to_list(Members), C =:= Ctx, not lists:member(N, Missing)] of
        [Number] -> replace(Number, Ctx, Reason, State);
        [] -> {noreply, State}
    end.

%% A context that was killed gets a successor under its number.
replace(Number, Ctx, Reason, State = #state{name = Name, missing = Missing}) ->
    ok = py_report:context_ended(Name, Number, Reason),
    ok = py_context_table:forget(Ctx),
    ok = py_context_table:replaced(Name, Number),
    Lacking = State#state{missing = Missing ++ [Number]},
    case delay(Lacking) of
        {0, Next} -> fill(Next);
        {Ms, Next} -> {noreply, set_timer(Ms, Next)}
    end.

delay(State = #state{backoff = Backoff, started_at = StartedAt}) ->
    IsYoung = now_ms() - StartedAt < ?YOUNG_MS,
    {Ms, Next} =
        case IsYoung of
            true -> py_backoff:next(Backoff);
            false -> {0, py_backoff:reset(Backoff)}
        end,
    {Ms, State#state{backoff = Next}}.

fill_later(State = #state{backoff = Backoff}) ->
    {Ms, Next} = py_backoff:next(Backoff),
    set_timer(max(1, Ms), State#state{backoff = Next}).

set_timer(Ms, State = #state{timer = undefined}) ->
    State#state{timer = erlang:start_timer(Ms, self(), fill)};
set_timer(_Ms, State) ->
    State.

now_ms() ->
    erlang:monotonic_time(millisecond).

%% Stopping

stopped(State = #state{name = Name}) ->
    ok = stop_contexts(State),
    ok = py_pool_registry:ended(Name),
    ok = py_context_table:pool_ended(Name),
    State#state{members = #{}}.

stop_contexts(State) ->
    Contexts = contexts_of(State),
    Workers = lists:usort([W || Ctx <- Contexts, W <- [py_context_table:worker(Ctx)], is_pid(W)]),
    Refs = [monitor(process, Worker) || Worker <- Workers],
    lists:foreach(fun py_context_server:stop/1, Contexts),
    %% Workers end with their last context; wait for Python's exit functions.
    Deadline = now_ms() + ?WORKER_STOP_MS,
    lists:foreach(
        fun(Ref) ->
            receive
                {'DOWN', Ref, process, _, _} -> ok
            after max(0, Deadline - now_ms()) -> ok
            end
        end,
        Refs
    ).
