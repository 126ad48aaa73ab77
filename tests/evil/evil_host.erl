%% SPDX-License-Identifier: Apache-2.0

%% @doc What py_worker is for ep_worker, for the lying worker: starts one, attaches the
%% lanes of real contexts, and starts no other one when it ends. The process that starts
%% it hears `{evil_host, Pid, {exited, Reason}}'.
-module(evil_host).
-behaviour(gen_server).

-export([start/1, context/3, close/1, stop/1, kill/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(PLACES, 2).
-define(WORKERS, py_shared_worker).
%% A caller looks for its reply for that long, so that there are spinning ones.
-define(SPIN_NS, {100000, 1000000}).
-define(READY_MS, 10000).
-define(STOP_MS, 1000).
-define(KILLED_MS, 5000).

-record(state, {
    owner :: pid(),
    turn :: py_launcher:turn() | none,
    host :: ep_nif:host(),
    id :: pos_integer(),
    os_pid = unknown :: integer() | unknown,
    phase = starting :: starting | ready | {exited, term()},
    %% who waits for an end or a beginning
    waiting = [] :: [gen_server:from()],
    members = [] :: [{ep_nif:lane(), pid()}],
    %% events that a worker has no right to
    strange = [] :: [term()]
}).

%% @doc Returns when the worker has said HELLO.
-spec start(binary()) -> {ok, pid()} | {error, term()}.
start(Worker) ->
    {ok, Pid} = gen_server:start(?MODULE, {self(), Worker}, []),
    case gen_server:call(Pid, await, ?READY_MS) of
        ready -> {ok, Pid};
        Other -> {error, Other}
    end.

%% @doc A context on that lane of the worker, as contexts of a pool are on that of theirs:
%% they find it in the table of py_shared_worker.
-spec context(pid(), 1..2, map()) -> py:context().
context(Pid, Lane, Options) ->
    true = ets:insert(?WORKERS, {{evil, Pid}, Pid}),
    {ok, Settings} = py_context_server:settings(worker, Options),
    {ok, Ctx, _} = py_context_server:start_member({evil, Lane}, {group, {evil, Pid}, ?PLACES, Lane}, Settings),
    true = unlink(Ctx),
    ok = py_context_server:await_started(Ctx),
    Ctx.

%% @doc Asks the worker to end, and kills it if it does not. Returns how it ended, and
%% whatever it told that it had no right to.
-spec stop(pid()) -> {Reason :: term(), Strange :: [term()]}.
stop(Pid) ->
    ok = gen_server:call(Pid, shutdown),
    case exited(Pid, ?STOP_MS) of
        timeout -> kill(Pid);
        Ended -> Ended
    end.

-spec kill(pid()) -> {Reason :: term(), Strange :: [term()]}.
kill(Pid) ->
    ok = gen_server:call(Pid, kill),
    case exited(Pid, ?KILLED_MS) of
        timeout -> error({not_killed, sys:get_state(Pid)});
        Ended -> Ended
    end.

%% @doc Ends the process itself, after its contexts.
-spec close(pid()) -> ok.
close(Pid) ->
    true = ets:match_delete(?WORKERS, {'_', Pid}),
    gen_server:stop(Pid).

%% gen_server

-spec init({pid(), binary()}) -> {ok, #state{}} | {stop, term()}.
init({Owner, Worker}) ->
    _ = monitor(process, Owner),
    Turn = py_launcher:want_turn(),
    Launcher =
        receive
            {py_launcher, Turn, {ok, L}} -> L
        after ?READY_MS -> error(no_turn)
        end,
    case ep_nif:host_start(Launcher, ?PLACES, ?SPIN_NS, Worker, <<>>, <<>>, <<>>, none) of
        {ok, Host, Id} -> {ok, #state{owner = Owner, turn = Turn, host = Host, id = Id}};
        {error, Reason} -> {stop, Reason}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({attach, #{lane := Lane, mode := Mode, place := Place}, Context}, _From, State) ->
    #state{members = Members, host = Host} = State,
    %% The process may have ended: a message says so.
    _ = ep_nif:lane_attach(Lane, Host, Place, Mode, []),
    {reply, ok, State#state{members = [{Lane, Context} | Members]}};
handle_call(await, From, State = #state{phase = starting, waiting = Waiting}) ->
    {noreply, State#state{waiting = [From | Waiting]}};
handle_call(await, _From, State = #state{phase = Phase}) ->
    {reply, Phase, State};
handle_call(await_exit, _From, State = #state{phase = {exited, Reason}, strange = Strange}) ->
    {reply, {Reason, Strange}, State};
handle_call(await_exit, From, State = #state{waiting = Waiting}) ->
    {noreply, State#state{waiting = [From | Waiting]}};
handle_call(shutdown, _From, State = #state{host = Host}) ->
    {reply, ep_nif:host_shutdown(Host), State};
handle_call(kill, _From, State = #state{host = Host}) ->
    {reply, ep_nif:host_kill(Host), State}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info({py_host, Id, Event}, State = #state{id = Id}) ->
    {noreply, event(Event, State)};
handle_info({'DOWN', _, process, Owner, _}, State = #state{owner = Owner}) ->
    {stop, normal, State};
handle_info(Other, State = #state{strange = Strange}) ->
    {noreply, State#state{strange = [Other | Strange]}}.

%% Internal

event({spawned, OsPid}, State = #state{os_pid = unknown}) ->
    State#state{os_pid = OsPid};
event({ready, _OsPid, _Version, _OwnGil, _FreeThreaded}, State = #state{phase = starting}) ->
    answer(ready, end_turn(State#state{phase = ready}));
event({exited, Reason, _Known}, State = #state{owner = Owner, members = Members, strange = Strange}) ->
    lists:foreach(
        fun({Lane, Context}) ->
            ok = ep_nif:lane_set_unavailable(Lane, evil),
            Context ! {py_worker, unavailable, evil}
        end,
        Members
    ),
    Owner ! {evil_host, self(), {exited, Reason}},
    answer({Reason, Strange}, end_turn(State#state{phase = {exited, Reason}}));
event(Strange, State = #state{strange = Before}) ->
    State#state{strange = [Strange | Before]}.

end_turn(State = #state{turn = none}) ->
    State;
end_turn(State = #state{turn = Turn}) ->
    ok = py_launcher:end_turn(Turn, up),
    true = demonitor(Turn, [flush]),
    State#state{turn = none}.

answer(Reply, State = #state{waiting = Waiting}) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Reply) end, Waiting),
    State#state{waiting = []}.

exited(Pid, Timeout) ->
    try
        gen_server:call(Pid, await_exit, Timeout)
    catch
        exit:{timeout, _} -> timeout
    end.
