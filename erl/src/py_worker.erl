%% SPDX-License-Identifier: Apache-2.0

%% @private Keeps one worker process of the operating system running: starts it,
%% attaches the lanes of its contexts, and starts it again when it ends. A process
%% that ran is replaced at once; one that does not start is tried again after
%% 50 ms, then twice that, up to 30 s. It ends when its last context is gone.
-module(py_worker).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, attach/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0]).

-type options() :: #{
    slots := 1..64,
    python := binary(),
    spin_us := auto | 0..1000,
    kill_after := timeout(),
    _ => _
}.

-define(BACKOFF_MIN_MS, 50).
-define(BACKOFF_MAX_MS, 30000).
-define(START_TIMEOUT_MS, 60000).
-define(STOP_TIMEOUT_MS, 5000).
-define(LOG, #{domain => [erlang_python]}).

-record(member, {
    lane :: py_nif:lane(),
    mode :: py:context_mode(),
    context :: pid()
}).

-record(state, {
    options :: options(),
    host :: py_nif:host() | undefined,
    id :: pos_integer() | undefined,
    phase = starting :: starting | ready | waiting,
    os_pid :: integer() | undefined,
    timer :: reference() | undefined,
    backoff = ?BACKOFF_MIN_MS :: pos_integer(),
    next_slot = 1 :: pos_integer(),
    members = #{} :: #{Slot :: pos_integer() => #member{}}
}).

-spec start_link(options()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Options) ->
    gen_server:start_link(?MODULE, Options, []).

%% @doc Gives a lane a place in the process, for as long as its context lives. The
%% context hears `{py_lane, started}' or `{py_lane, {failed, Type, Text}}' from the
%% worker process, or `{py_worker, unavailable, Reason}'.
-spec attach(pid(), py_nif:lane(), py:context_mode(), pid()) -> ok | {error, full}.
attach(Worker, Lane, Mode, Context) ->
    gen_server:call(Worker, {attach, Lane, Mode, Context}, infinity).

%% gen_server

-spec init(options()) -> {ok, #state{}}.
init(Options) ->
    process_flag(trap_exit, true),
    {ok, start(#state{options = Options})}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, ok | {error, full}, #state{}}.
handle_call({attach, _, _, _}, _From, State = #state{next_slot = Slot, options = #{slots := N}}) when
    Slot > N
->
    {reply, {error, full}, State};
handle_call({attach, Lane, Mode, Context}, _From, State = #state{next_slot = Slot}) ->
    _ = monitor(process, Context),
    Member = #member{lane = Lane, mode = Mode, context = Context},
    Members = maps:put(Slot, Member, State#state.members),
    Added = State#state{next_slot = Slot + 1, members = Members},
    State#state.phase =:= ready andalso attach_lane(Slot, Member, State),
    {reply, ok, Added}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info({py_host, Id, Event}, State = #state{id = Id}) ->
    {noreply, host_event(Event, State)};
handle_info({py_host, _Former, _Event}, State) ->
    {noreply, State};
handle_info(start, State = #state{phase = waiting}) ->
    {noreply, start(State)};
handle_info(start_timeout, State = #state{phase = starting, host = Host}) ->
    Host =:= undefined orelse py_nif:host_kill(Host),
    {noreply, State};
handle_info({'DOWN', _, process, Context, _}, State = #state{members = Members}) ->
    py_context:forget(Context),
    case maps:filter(fun(_, M) -> M#member.context =/= Context end, Members) of
        Left when map_size(Left) =:= 0 ->
            {stop, normal, State#state{members = Left}};
        Left ->
            ok = watch([M || M <- maps:values(Members), M#member.context =:= Context], State),
            {noreply, State#state{members = Left}}
    end;
handle_info({overdue, Lane}, State) ->
    %% Interrupted when its context ended, and still at it: it would keep its thread, and
    %% perhaps the GIL of the others, for ever.
    py_nif:lane_is_idle(Lane) orelse py_nif:lane_kill(Lane),
    {noreply, State};
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{host = undefined}) ->
    ok;
terminate(_Reason, State = #state{host = Host}) ->
    ok = py_nif:host_shutdown(Host),
    case await_exit(State, ?STOP_TIMEOUT_MS) of
        exited ->
            ok;
        timeout ->
            ok = py_nif:host_kill(Host),
            _ = await_exit(State, 1000),
            ok
    end.

%% Internal

start(State = #state{options = Options}) ->
    #{slots := Slots, python := Python, spin_us := SpinUs} = Options,
    case py_service:launcher() of
        {ok, Launcher} ->
            Started = py_nif:host_start(
                Launcher,
                Slots,
                py_config:worker_spin_ns(SpinUs),
                py_paths:worker(),
                Python,
                py_paths:python_modules()
            ),
            requested(Started, State);
        {error, Reason} ->
            unavailable(Reason, State)
    end.

requested({ok, Host, Id}, State) ->
    Timer = erlang:send_after(?START_TIMEOUT_MS, self(), start_timeout),
    State#state{host = Host, id = Id, phase = starting, timer = Timer};
requested({error, Posix}, State) ->
    unavailable(Posix, State).

host_event({spawned, OsPid}, State) ->
    State#state{os_pid = OsPid};
host_event({ready, OsPid, Version, OwnGil, FreeThreaded}, State) ->
    ok = py_python:learn(Version, OwnGil, FreeThreaded),
    Ready = cancel_timer(State#state{phase = ready, os_pid = OsPid, backoff = ?BACKOFF_MIN_MS}),
    maps:foreach(fun(Slot, Member) -> attach_lane(Slot, Member, Ready) end, Ready#state.members),
    Ready;
host_event({exited, Reason}, State = #state{phase = ready}) ->
    ?LOG_WARNING("a Python worker process (OS pid ~p) ended (~p); starting another one",
                 [State#state.os_pid, Reason], ?LOG),
    start(gone(State));
host_event({exited, Reason}, State) ->
    unavailable({worker_exited, Reason}, gone(cancel_timer(State))).

attach_lane(Slot, #member{lane = Lane, mode = Mode}, #state{host = Host}) ->
    case py_nif:lane_attach(Lane, Host, Slot, Mode, py_maintenance:prologue()) of
        ok -> ok;
        %% The process has just ended, or the context: a message says so.
        {error, Gone} when Gone =:= esrch; Gone =:= estale -> ok
    end.

watch(Members, #state{options = #{kill_after := KillAfter}}) when is_integer(KillAfter) ->
    _ = [erlang:send_after(KillAfter, self(), {overdue, M#member.lane}) || M <- Members],
    ok;
watch(_Members, _State) ->
    ok.

gone(State) ->
    State#state{host = undefined, id = undefined, os_pid = undefined}.

unavailable(Reason, State = #state{backoff = Backoff, members = Members}) ->
    maps:foreach(
        fun(_Slot, #member{lane = Lane, context = Context}) ->
            ok = py_nif:lane_set_unavailable(Lane, Reason),
            Context ! {py_worker, unavailable, Reason}
        end,
        Members
    ),
    _ = erlang:send_after(Backoff, self(), start),
    State#state{phase = waiting, backoff = min(2 * Backoff, ?BACKOFF_MAX_MS)}.

cancel_timer(State = #state{timer = undefined}) ->
    State;
cancel_timer(State = #state{timer = Timer}) ->
    _ = erlang:cancel_timer(Timer),
    State#state{timer = undefined}.

await_exit(#state{id = Id}, Timeout) ->
    receive
        {py_host, Id, {exited, _}} -> exited
    after Timeout -> timeout
    end.
