%% SPDX-License-Identifier: Apache-2.0

%% @private Keeps one worker process of the operating system running: starts it,
%% attaches the lanes of its contexts, and starts it again when it ends, at once or later as
%% {@link py_breaker} says. It ends when its last context is gone. When it is killed, so is
%% its worker process, and its contexts find another place.
%%
%% ```
%% asking --turn--> starting --ready--> ready --exited--> asking, or waiting for a time
%%   ^                 \--exited, timeout--> waiting --time--> asking
%%   any but ready --last context gone--> ended; ready --> stopping --exited, timeout--> ended
%% '''
%%
%% A process that has served enough is followed by another one, see {@link py_successor}. If it
%% dies while its successor comes up, the successor is what its contexts wait for.
-module(py_worker).
-behaviour(gen_server).

-export([start_link/1, attach/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0, tenant/0]).

-type options() :: #{
    places := pos_integer(),
    python := binary(),
    spin_us := auto | 0..1000,
    kill_after := timeout(),
    %% of the zygote that forks the process
    zygote := py_zygote:plan(),
    _ => _
}.
%% id: of the context. place: the number in the process that is wanted, if it is free. preloads: how many
%% requests of its own the context makes after each start.
-type tenant() :: #{
    lane := ep_nif:lane(),
    id := term(),
    mode := py:context_mode(),
    place := pos_integer() | any,
    preloads := non_neg_integer(),
    %% of py_preparation:steps/1
    preparation := map(),
    %% of ep_nif:lane_new/3
    style := non_neg_integer(),
    imports := [py_code:wanted()],
    %% of its own, see py_code:prologue/1
    paths := [binary()],
    member => py_report:member()
}.

-define(ATTACH_TIMEOUT_MS, 5000).
-define(START_TIMEOUT_S, 60).
%% A zygote that takes so long to fork is stuck.
-define(FORK_TIMEOUT_MS, 1000).
-define(STOP_TIMEOUT_MS, 5000).
-define(KILL_TIMEOUT_MS, 1000).
%% One that is up for so long does not die young.
-define(YOUNG_MS, 1000).
%% It was not its fault: the launcher has ended, or there is none at the moment.
-define(AGAIN_MS, 10).
%% A lane leaves the former process when that is buried.
-define(BUSY_MS, 5).
%% A successor that did not come up is tried again later.
-define(AGAIN_MIN_MS, 500).
-define(AGAIN_MAX_MS, 30000).
%% Whoever started it did not live to attach a context.
-define(UNUSED_MS, 10000).

-record(tenant, {
    wanted :: tenant(),
    context :: pid(),
    %% requests that came to something when the lane was attached
    used = 0 :: non_neg_integer()
}).

-record(state, {
    options :: options(),
    host :: ep_nif:host() | undefined,
    id :: pos_integer() | undefined,
    phase = asking :: asking | starting | ready | waiting | stopping,
    turn :: py_launcher:turn() | undefined,
    wish :: py_zygote:wish() | undefined,
    %% the zygote that forks it
    origin = none :: none | pos_integer(),
    %% the last one that a zygote forked did not come up
    is_cold = false :: boolean(),
    os_pid :: integer() | undefined,
    %% the configured Python was one of a virtual environment
    is_venv :: boolean(),
    %% it was killed, for it did not come up
    is_too_slow = false :: boolean(),
    breaker = py_breaker:new() :: py_breaker:breaker(),
    %% up for a while
    is_settled = false :: boolean(),
    %% the launcher was lost since the process was started
    is_orphan = false :: boolean(),
    timer :: reference() | undefined,
    %% none where nothing is to be counted
    limits :: py_successor:limits() | none,
    seen :: py_successor:seen() | undefined,
    next :: py_successor:next() | undefined,
    patience = py_backoff:new(0, ?AGAIN_MIN_MS, ?AGAIN_MAX_MS) :: py_backoff:backoff(),
    %% processes that were followed, and are to end
    former = #{} :: #{Id :: pos_integer() => ep_nif:host()},
    tenants = #{} :: #{Place :: pos_integer() => #tenant{}},
    %% places that contexts had in this process: they cannot be used again
    used = [] :: [Place :: pos_integer()]
}).

-spec start_link(options()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Options) ->
    gen_server:start_link(?MODULE, Options, []).

%% @doc Gives the lane of the calling context a place in the process, for as long as the
%% context lives. The context hears `{py_lane, started}' or `{py_lane, {failed, Type, Text}}'
%% from the worker process, or `{py_worker, unavailable, Reason}'.
-spec attach(pid(), tenant()) -> ok | {error, full | gone}.
attach(Worker, Tenant) ->
    try
        gen_server:call(Worker, {attach, Tenant, self()}, ?ATTACH_TIMEOUT_MS)
    catch
        exit:_ -> {error, gone}
    end.

%% gen_server

-spec init(options()) -> {ok, #state{}, {continue, ask}}.
init(Options) ->
    process_flag(trap_exit, true),
    _ = erlang:send_after(?UNUSED_MS, self(), unused),
    IsVenv = py_interpreter:is_venv(maps:get(python, Options)),
    {ok, #state{options = Options, is_venv = IsVenv, limits = py_successor:limits(Options)}, {continue, ask}}.

-spec handle_continue(ask, #state{}) -> {noreply, #state{}}.
handle_continue(ask, State) ->
    {noreply, ask(State)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, ok | {error, full}, #state{}}.
handle_call({attach, _Member, _Context}, _From, State = #state{phase = stopping}) ->
    {reply, {error, full}, State};
handle_call({attach, Wanted = #{lane := Lane}, Context}, _From, State = #state{tenants = Tenants}) ->
    case [M || M = #tenant{wanted = #{lane := L}} <- maps:values(Tenants), L =:= Lane] of
        [_] ->
            %% It did not hear the answer in time.
            {reply, ok, State};
        [] ->
            case free_place(Wanted, State) of
                none ->
                    {reply, {error, full}, State};
                Place ->
                    _ = monitor(process, Context),
                    Tenant = #tenant{wanted = Wanted, context = Context},
                    {reply, ok, attach_lane(Place, cast(State#state{tenants = Tenants#{Place => Tenant}}))}
            end
    end.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info(Message, State = #state{next = undefined}) ->
    info(Message, State);
handle_info(Message, State = #state{next = Next}) ->
    case py_successor:handle(Message, Next, fun(Launcher, Origin) -> host_start(Launcher, Origin, State) end) of
        unknown -> info(Message, State);
        {wait, Waiting} -> {noreply, State#state{next = Waiting}};
        {ready, Ready} -> {noreply, cast(State#state{next = Ready})};
        {moved, Moved} -> {noreply, moved(State#state{next = Moved})};
        {failed, Reason, Failed} -> {noreply, not_followed(Reason, State#state{next = Failed})}
    end.

info({py_host, Id, Event}, State = #state{id = Id}) ->
    host_event(Event, State);
info({py_launcher, Turn, Answer}, State = #state{phase = asking, turn = Turn}) ->
    {noreply, turn(Answer, State)};
info({py_zygote, Wish, Answer}, State = #state{phase = asking, wish = Wish}) ->
    true = demonitor(Wish, [flush]),
    {noreply, ask_turn(State#state{origin = case Answer of {ok, Id} -> Id; none -> none end})};
info({'DOWN', Wish, process, _, _}, State = #state{phase = asking, wish = Wish}) ->
    {noreply, ask_turn(State)};
info({timeout, Timer, fork_timeout}, State = #state{phase = starting, timer = Timer, origin = Origin}) ->
    ok = py_zygote:suspect(Origin),
    {noreply, set_timer(?START_TIMEOUT_S * 1000, start_timeout, State)};
info({'DOWN', Turn, process, _, _}, State = #state{turn = Turn}) ->
    {noreply, launcher_down(State#state{turn = undefined})};
info({'DOWN', _, process, Context, _}, State) ->
    left(Context, State);
info({timeout, Timer, ask}, State = #state{phase = waiting, timer = Timer}) ->
    {noreply, ask(State)};
info({look, Id}, State = #state{id = Id, phase = ready, next = undefined}) ->
    {noreply, look(State)};
info({timeout, Timer, start_timeout}, State = #state{phase = starting, timer = Timer, host = Host}) ->
    ok = ep_nif:host_kill(Host),
    {noreply, State#state{is_too_slow = true}};
info({timeout, Timer, settled}, State = #state{phase = ready, timer = Timer}) ->
    {noreply, settled(State)};
info({attach, Place, Id}, State = #state{phase = ready, id = Id}) ->
    {noreply, attach_lane(Place, State)};
info({timeout, Timer, stop_timeout}, State = #state{phase = stopping, timer = Timer, host = Host}) ->
    ok = ep_nif:host_kill(Host),
    {noreply, set_timer(?KILL_TIMEOUT_MS, kill_timeout, State)};
info({timeout, Timer, kill_timeout}, State = #state{phase = stopping, timer = Timer}) ->
    {stop, normal, gone(State)};
info(unused, State = #state{tenants = Tenants}) when map_size(Tenants) =:= 0 ->
    stop(State);
info({py_host, Id, {exited, _, _}}, State = #state{former = Former}) when is_map_key(Id, Former) ->
    {noreply, State#state{former = maps:remove(Id, Former)}};
info({former, Id}, State = #state{former = Former}) ->
    _ = [ok = ep_nif:host_kill(Host) || {I, Host} <- maps:to_list(Former), I =:= Id],
    {noreply, State};
info({overdue, Lane, Closed}, State = #state{options = Options}) ->
    ok = py_watch:closed_overdue(Lane, Closed, Options),
    {noreply, State};
info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(Reason, State = #state{next = Next}) when Next =/= undefined ->
    ok = py_successor:kill(Next),
    terminate(Reason, State#state{next = undefined});
terminate(_Reason, #state{host = undefined}) ->
    ok;
terminate(Reason, State = #state{host = Host}) when Reason =:= normal; Reason =:= shutdown ->
    ok = ep_nif:host_shutdown(Host),
    case await_exit(State, ?STOP_TIMEOUT_MS) of
        exited ->
            ok;
        timeout ->
            ok = ep_nif:host_kill(Host),
            _ = await_exit(State, ?KILL_TIMEOUT_MS),
            ok
    end;
%% Its supervisor was killed: the contexts want a place elsewhere, and soon.
terminate(_Reason, #state{host = Host}) ->
    ep_nif:host_kill(Host).

%% Starting

ask(State = #state{is_cold = true}) ->
    ask_turn(State#state{is_cold = false});
ask(State = #state{options = Options}) ->
    State#state{phase = asking, wish = py_zygote:want(Options), origin = none}.

ask_turn(State) ->
    State#state{phase = asking, wish = undefined, turn = py_launcher:want_turn(), is_orphan = false}.

turn({ok, Launcher}, State = #state{options = #{python := Python}, is_venv = IsVenv}) ->
    case py_interpreter:look(Python, IsVenv) of
        ok -> start(Launcher, State);
        {error, Why} -> not_started({python, Why}, <<>>, State)
    end;
turn({error, Reason}, State) ->
    not_started({launcher, Reason}, <<>>, State).

host_start(Launcher, Origin, #state{options = Options}) ->
    #{places := Places, python := Python, spin_us := SpinUs} = Options,
    py_zygote:host_start(Launcher, Places, py_config:worker_spin_ns(SpinUs), Python, Options, Origin).

start(Launcher, State = #state{origin = Origin}) ->
    case host_start(Launcher, Origin, State) of
        {ok, Host, Id} ->
            Started = State#state{phase = starting, host = Host, id = Id, is_too_slow = false},
            case Origin of
                none -> set_timer(?START_TIMEOUT_S * 1000, start_timeout, Started);
                _ -> set_timer(?FORK_TIMEOUT_MS, fork_timeout, Started)
            end;
        {error, Gone} when Gone =:= epipe; Gone =:= econnreset; Gone =:= enotconn ->
            ok = py_launcher:lost(Launcher),
            ask_again(?AGAIN_MS, State);
        %% The launcher has as much to do as its socket holds.
        {error, Full} when Full =:= eagain; Full =:= etoomanyrefs ->
            ask_again(?AGAIN_MS, State);
        {error, Posix} ->
            not_started({prepare, Posix}, <<>>, State)
    end.

launcher_down(State = #state{phase = asking}) ->
    ask_again(?AGAIN_MS, State);
%% The launcher ends with it, and the worker process with the launcher.
launcher_down(State) ->
    State#state{is_orphan = true}.

not_started(Cause, Wrote, State = #state{breaker = Breaker}) ->
    {Verdict, Next} = py_breaker:not_started(Breaker),
    Sentence = py_report:start_failed(Cause, Wrote, members(State)),
    refused(Verdict, Sentence, State#state{breaker = Next}).

ask_again(0, State) ->
    ask(release(State));
ask_again(Ms, State) ->
    set_timer(Ms, ask, (release(State))#state{phase = waiting}).

%% The turn, if it has not ended, and the monitor that it is.
release(State = #state{turn = undefined}) ->
    State;
release(State = #state{turn = Turn}) ->
    true = demonitor(Turn, [flush]),
    ok = py_launcher:end_turn(Turn, failed),
    State#state{turn = undefined}.

%% What the process does

host_event({spawned, OsPid}, State = #state{phase = starting}) ->
    {noreply, set_timer(?START_TIMEOUT_S * 1000, start_timeout, State#state{os_pid = OsPid})};
host_event({spawned, OsPid}, State) ->
    {noreply, State#state{os_pid = OsPid}};
host_event({ready, OsPid, Version, OwnGil, FreeThreaded}, State = #state{phase = starting}) ->
    ok = py_python:learn(Version, OwnGil, FreeThreaded),
    State#state.turn =:= undefined orelse py_launcher:end_turn(State#state.turn, up),
    State#state.origin =:= none orelse py_zygote:forked(State#state.origin),
    Ready = State#state{phase = ready, os_pid = OsPid, is_settled = false},
    Places = lists:sort(maps:keys(Ready#state.tenants)),
    {noreply, look_later(lists:foldl(fun attach_lane/2, set_timer(?YOUNG_MS, settled, Ready), Places))};
host_event({exited, Reason, Known}, State = #state{phase = stopping}) ->
    ok = log_last(Reason, Known, State),
    {stop, normal, gone(State)};
host_event({exited, Reason, Known}, State) ->
    {noreply, exited(Reason, Known, gone(State), State)};
%% It says twice that it is up, or the like.
host_event(_Unexpected, State = #state{host = Host, phase = Phase}) ->
    Phase =:= stopping orelse ep_nif:host_kill(Host),
    {noreply, State}.

exited(Reason, Known, State = #state{next = Next}, Former) when Next =/= undefined ->
    ok = log_death(Reason, Known, again, Former),
    moved(State#state{phase = waiting});
exited(Reason, Known, State, Former = #state{phase = Phase, is_orphan = IsOrphan}) when
    IsOrphan; Reason =:= unknown
->
    Next = case IsOrphan of true -> launcher; false -> again end,
    Phase =/= ready orelse log_death(Reason, Known, Next, Former),
    ask_again(?AGAIN_MS, State);
exited(esrch, _Known, State, #state{phase = starting, origin = Origin}) when Origin =/= none ->
    ok = py_zygote:lost(Origin),
    ask_again(0, State#state{origin = none});
%% Without a zygote the start says what is wrong.
exited(_Reason, _Known, State, #state{phase = starting, origin = Origin}) when Origin =/= none ->
    ok = py_zygote:failed(Origin),
    ask_again(0, State#state{is_cold = true, origin = none});
exited(Reason, Known, State, Former = #state{phase = ready}) ->
    died(how(Reason, Former), Reason, Known, State, Former);
exited(_Reason, #{stderr := Wrote}, State, #state{is_too_slow = true}) ->
    not_started({too_slow, ?START_TIMEOUT_S}, Wrote, State);
exited(Reason, #{stderr := Wrote}, State, _Former) ->
    Limit = maps:get(memory_limit, State#state.options, infinity),
    not_started({exited, Reason, Limit}, Wrote, State).

died(How, Reason, Known, State = #state{breaker = Breaker}, Former) ->
    {Verdict, Next} = py_breaker:died(How, Breaker),
    Died = State#state{breaker = Next},
    case Verdict of
        {refuse, _, _} ->
            ok = log_death(Reason, Known, refuse, Former),
            refused(Verdict, py_start_failure:sentence({dies_young, Reason}, <<>>), Died);
        {queue, Ms, Changed} ->
            ok = log_death(Reason, Known, later(Ms), Former),
            ok = log_closed(Changed, Died),
            ask_again(Ms, Died)
    end.

later(0) -> again;
later(Ms) -> {later, Ms}.

%% Whether anything came of it that a request could notice. One that a request killed has
%% not died young.
how(_Reason, #state{is_settled = true}) ->
    useful;
how(kill_after, _State) ->
    useful;
how(_Reason, #state{tenants = Tenants}) ->
    case lists:any(fun was_used/1, maps:values(Tenants)) of
        true -> useful;
        false -> young
    end.

was_used(#tenant{wanted = #{lane := Lane, preloads := Preloads}, used = Used}) ->
    came_to_something(Lane) > Used + Preloads.

came_to_something(Lane) ->
    #{calls := Calls, errors := Errors} = Stats = ep_nif:lane_stats(Lane),
    Calls - Errors + maps:get(interrupted, Stats, 0).

settled(State = #state{breaker = Breaker}) ->
    {Changed, Next} = py_breaker:healthy(Breaker),
    ok = log_closed(Changed, State),
    State#state{breaker = Next, is_settled = true}.

gone(State) ->
    (cancel_timer(State))#state{host = undefined, id = undefined, os_pid = undefined, used = []}.

refused({refuse, Ms, _Changed}, Reason, State = #state{tenants = Tenants}) ->
    maps:foreach(
        fun(_Place, #tenant{wanted = #{lane := Lane}, context = Context}) ->
            ok = ep_nif:lane_set_unavailable(Lane, Reason),
            Context ! {py_worker, unavailable, Reason}
        end,
        Tenants
    ),
    ask_again(max(1, Ms), State).

%% The process that follows

look_later(State = #state{limits = none}) ->
    State;
look_later(State) ->
    look_again(100, State).

look_again(Ms, State = #state{id = Id}) ->
    _ = erlang:send_after(Ms, self(), {look, Id}),
    State.

look(State = #state{limits = Limits, os_pid = OsPid, tenants = Tenants, seen = Before}) ->
    Seen = py_successor:look([Lane || #tenant{wanted = #{lane := Lane}} <- maps:values(Tenants)], OsPid),
    case py_successor:is_due(Seen, Limits) of
        true -> State#state{next = py_successor:new(State#state.options), seen = undefined};
        false when Before =:= undefined -> look_again(py_successor:pause(Seen, Seen, Limits), State#state{seen = Seen});
        false -> look_again(py_successor:pause(Seen, Before, Limits), State#state{seen = Seen})
    end.

cast(State = #state{next = undefined}) ->
    State;
cast(State = #state{next = Next, tenants = Tenants}) ->
    All = [{Place, Context, Wanted} || {Place, #tenant{context = Context, wanted = Wanted}} <- maps:to_list(Tenants)],
    State#state{next = py_successor:cast(All, Next)}.

%% The new process takes the place of the former one when all contexts are there.
moved(State = #state{next = Next, tenants = Tenants, host = Former, id = FormerId, former = Formers}) ->
    case maps:keys(Tenants) of
        Places = [_ | _] ->
            case py_successor:is_cast(Places, Next) of
                true ->
                    {Host, Id, OsPid} = py_successor:host(Next),
                    Followed = State#state{
                        next = undefined, host = Host, id = Id, os_pid = OsPid, used = Places,
                        is_settled = false, is_orphan = false, seen = undefined,
                        patience = py_backoff:reset(State#state.patience),
                        former = retired(FormerId, Former, Formers),
                        tenants = maps:map(
                            fun(_, T = #tenant{wanted = #{lane := Lane}}) -> T#tenant{used = came_to_something(Lane)} end,
                            Tenants
                        )
                    },
                    look_later(set_timer(?YOUNG_MS, settled, Followed#state{phase = ready}));
                false ->
                    State
            end;
        [] ->
            State
    end.

retired(_Id, undefined, Formers) ->
    Formers;
retired(Id, Host, Formers) ->
    ok = ep_nif:host_shutdown(Host),
    _ = erlang:send_after(?STOP_TIMEOUT_MS, self(), {former, Id}),
    Formers#{Id => Host}.

%% The contexts stay, or, where their process has died, get another one in the usual way.
not_followed(Reason, State = #state{next = Next, tenants = Tenants, patience = Patience, host = Host}) ->
    ok = py_successor:kill(Next),
    _ = [ok = ep_nif:lane_stay(Lane) || #tenant{wanted = #{lane := Lane}} <- maps:values(Tenants)],
    {Ms, Later} = py_backoff:next(Patience),
    Stayed = State#state{next = undefined, patience = Later},
    case {Host, py_successor:has_moved(Next)} of
        {undefined, _} ->
            ask_again(?AGAIN_MS, Stayed);
        %% Those that have moved have no process: another one at once.
        {_, true} ->
            Stayed#state{next = py_successor:new(State#state.options)};
        {_, false} ->
            ok = py_report:not_followed(Reason, members(State)),
            look_again(Ms, Stayed)
    end.

%% What is said

log_death(Reason, #{ran := Ran, stderr := Wrote}, Next, State = #state{os_pid = OsPid, tenants = Tenants}) ->
    What = maps:from_list([{Place, {Operation, M, F}} || {Place, Operation, M, F} <- Ran]),
    py_report:died(#{
        os_pid => OsPid,
        reason => Reason,
        memory_limit => maps:get(memory_limit, State#state.options, infinity),
        stderr => Wrote,
        next => Next,
        contexts => [
            {Context, member(Tenant), maps:get(Place, What, idle)}
         || {Place, Tenant = #tenant{context = Context}} <- lists:keysort(1, maps:to_list(Tenants))
        ]
    }).

%% At its end a process exits with 0, or is killed by us when it takes too long.
log_last(Reason, _Known, _State) when Reason =:= 0; Reason =:= 'SIGKILL'; Reason =:= kill_after; Reason =:= unknown ->
    ok;
log_last(Reason, Known, State) ->
    log_death(Reason, Known, stop, State).

log_closed(changed, State) ->
    py_report:started_again(members(State));
log_closed(unchanged, _State) ->
    ok.

members(#state{tenants = Tenants}) ->
    [{M#tenant.context, member(M)} || {_, M} <- lists:keysort(1, maps:to_list(Tenants))].

member(#tenant{wanted = Wanted}) ->
    maps:get(member, Wanted, undefined).

%% Contexts

free_place(#{place := Wanted}, #state{options = #{places := N}, tenants = Tenants, used = Used}) ->
    Free = [S || S <- lists:seq(1, N), not is_map_key(S, Tenants), not lists:member(S, Used)],
    case lists:member(Wanted, Free) of
        true -> Wanted;
        false when Free =:= [] -> none;
        false -> hd(Free)
    end.

attach_lane(Place, State = #state{phase = ready, host = Host, tenants = Tenants, used = Used}) when
    is_map_key(Place, Tenants)
->
    Tenant = #tenant{wanted = #{lane := Lane, mode := Mode, id := Id, paths := Paths}} = maps:get(Place, Tenants),
    Change = py_code:change(),
    case ep_nif:lane_attach(Lane, Host, Place, Mode, py_maintenance:prologue(Place, Id, Paths)) of
        ok ->
            ok = py_code:catch_up(Lane, Change),
            ok = py_sandbox:attached(Lane),
            Attached = Tenant#tenant{used = came_to_something(Lane)},
            State#state{tenants = Tenants#{Place := Attached}, used = [Place | Used]};
        %% The process has just ended, or the context: a message says so.
        {error, Gone} when Gone =:= esrch; Gone =:= estale ->
            State;
        %% It is in its former process still, which ends.
        {error, _Busy} ->
            _ = erlang:send_after(?BUSY_MS, self(), {attach, Place, State#state.id}),
            State
    end;
attach_lane(_Place, State) ->
    State.

left(Context, State = #state{tenants = Tenants}) ->
    case maps:filter(fun(_, M) -> M#tenant.context =/= Context end, Tenants) of
        Tenants ->
            {noreply, State};
        Left when map_size(Left) =:= 0 ->
            stop(State#state{tenants = Left});
        Left ->
            _ = [
                ok = py_watch:closed(Lane, State#state.options)
             || #tenant{context = Pid, wanted = #{lane := Lane}} <- maps:values(Tenants),
                Pid =:= Context
            ],
            {noreply, State#state{tenants = Left}}
    end.

%% Stopping

stop(State = #state{phase = stopping}) ->
    {noreply, State};
stop(State = #state{host = undefined}) ->
    {stop, normal, release(State)};
stop(State = #state{host = Host}) ->
    ok = ep_nif:host_shutdown(Host),
    {noreply, set_timer(?STOP_TIMEOUT_MS, stop_timeout, State#state{phase = stopping})}.

await_exit(State = #state{id = Id}, Timeout) ->
    receive
        {py_host, Id, {exited, Reason, Known}} ->
            ok = log_last(Reason, Known, State),
            exited
    after Timeout -> timeout
    end.

%% One timer at a time: that of the phase. Its message names it.
set_timer(Ms, What, State) ->
    (cancel_timer(State))#state{timer = erlang:start_timer(Ms, self(), What)}.

cancel_timer(State = #state{timer = undefined}) ->
    State;
cancel_timer(State = #state{timer = Timer}) ->
    _ = erlang:cancel_timer(Timer),
    State#state{timer = undefined}.
