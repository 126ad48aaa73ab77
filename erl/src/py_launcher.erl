%% SPDX-License-Identifier: Apache-2.0

%% @private Owns the launcher, the small program that starts and reaps worker
%% processes. When the launcher ends, its workers end with it; this process starts
%% another one and the py_worker processes start theirs again.
%%
%% A py_worker starts its process when it has a turn. Few have one at the same time, so that
%% workers that died together do not keep each other from starting. A turn ends after a
%% second in any case, so nobody waits long for one that starts slowly; but the more of those
%% there are, the longer the turns, so that a machine that cannot start so many at a time does
%% not have to.
-module(py_launcher).
-behaviour(gen_server).

-export([start_link/0, want_turn/0, end_turn/2, lost/1, progress/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([turn/0]).

%% A launcher that was of use is replaced at once; else after these. It is a small program.
-define(BACKOFF_MIN_MS, 50).
-define(BACKOFF_MAX_MS, 200).
-define(MIN_TURNS, 4).
-define(CALL_MS, 5000).
-define(TURN_MS, 1000).
%% The launcher needs no longer to end what it has started.
-define(END_MS, 4500).
%% The status of a process comes when it has been taken away.
-define(STATUS_MS, 1000).

%% A monitor of this process.
-type turn() :: reference().

-record(state, {
    port :: port() | undefined,
    launcher :: ep_nif:launcher() | undefined,
    id :: pos_integer() | undefined,
    %% why the last try failed; those who want a turn are told
    error :: none | term(),
    %% whether a worker process of this launcher came up
    is_useful = false :: boolean(),
    backoff = py_backoff:new(1, ?BACKOFF_MIN_MS, ?BACKOFF_MAX_MS) :: py_backoff:backoff(),
    waiting = queue:new() :: queue:queue({pid(), turn()}),
    turns = #{} :: #{turn() => {Monitor :: reference(), Timer :: reference()}},
    %% turns that ended although the process was not up
    late = #{} :: #{turn() => Monitor :: reference()},
    max_turns :: pos_integer(),
    %% turns that ended with a process that was up
    ups = 0 :: non_neg_integer()
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc `{py_launcher, Turn, {ok, Launcher} | {error, Reason}}' comes, for {@link
%% ep_nif:host_start/8}, or the `DOWN' message of Turn, a monitor of this process.
-spec want_turn() -> turn().
want_turn() ->
    Turn = monitor(process, ?MODULE),
    ok = gen_server:cast(?MODULE, {want_turn, self(), Turn}),
    Turn.

%% @doc The process is up, or will not be.
-spec end_turn(turn(), up | failed) -> ok.
end_turn(Turn, How) ->
    gen_server:cast(?MODULE, {end_turn, Turn, How}).

%% @doc That launcher takes no requests any more.
-spec lost(ep_nif:launcher()) -> ok.
lost(Launcher) ->
    gen_server:cast(?MODULE, {lost, Launcher}).

%% @doc How many worker processes have come up, and whether others are being started or wait
%% for their turn.
-spec progress() -> {Ups :: non_neg_integer(), IsBusy :: boolean()}.
progress() ->
    try
        gen_server:call(?MODULE, progress, ?CALL_MS)
    catch
        exit:_ -> {0, false}
    end.

%% gen_server

-spec init([]) -> {ok, #state{}, {continue, open}}.
init([]) ->
    process_flag(trap_exit, true),
    #{cpus := Cpus} = ep_nif:counters(),
    MaxTurns = max(?MIN_TURNS, min(Cpus, erlang:system_info(schedulers_online))),
    {ok, #state{error = none, max_turns = MaxTurns}, {continue, open}}.

-spec handle_continue(open, #state{}) -> {noreply, #state{}}.
handle_continue(open, State) ->
    {noreply, open(State)}.

-spec handle_call(progress, gen_server:from(), #state{}) ->
    {reply, {non_neg_integer(), boolean()}, #state{}}.
handle_call(progress, _From, State = #state{ups = Ups, turns = Turns, late = Late, waiting = Waiting}) ->
    IsBusy = map_size(Turns) + map_size(Late) > 0 orelse not queue:is_empty(Waiting),
    {reply, {Ups, IsBusy}, State};
handle_call(Request, _From, _State) ->
    error({unexpected, Request}).

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({want_turn, Pid, Turn}, State = #state{launcher = undefined, error = Error}) when
    Error =/= none
->
    refuse(Pid, Turn, Error),
    {noreply, State};
handle_cast({want_turn, Pid, Turn}, State = #state{waiting = Waiting}) ->
    {noreply, grant(State#state{waiting = queue:in({Pid, Turn}, Waiting)})};
handle_cast({end_turn, Turn, up}, State = #state{ups = Ups}) ->
    {noreply, grant(ended(Turn, State#state{is_useful = true, ups = Ups + 1}))};
handle_cast({end_turn, Turn, failed}, State) ->
    {noreply, grant(ended(Turn, State))};
handle_cast({lost, Launcher}, State = #state{launcher = Launcher}) ->
    {noreply, gone(launcher_gone, State)};
handle_cast({lost, _Former}, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({Port, {exit_status, Status}}, State = #state{port = Port}) ->
    {noreply, gone({launcher_exited, Status}, State)};
handle_info({'EXIT', Port, Reason}, State = #state{port = Port}) ->
    {noreply, gone({launcher_exited, Reason}, State)};
handle_info({py_launcher, Id, gone}, State = #state{id = Id}) ->
    {noreply, gone(launcher_gone, State)};
handle_info(open, State = #state{launcher = undefined}) ->
    {noreply, open(State)};
handle_info({turn_over, Turn}, State) ->
    {noreply, grant(over(Turn, State))};
handle_info({'DOWN', Monitor, process, _, _}, State = #state{turns = Turns, late = Late}) ->
    Ended =
        [Turn || {Turn, {M, _Timer}} <- maps:to_list(Turns), M =:= Monitor] ++
            [Turn || {Turn, M} <- maps:to_list(Late), M =:= Monitor],
    {noreply, grant(lists:foldl(fun ended/2, State, Ended))};
handle_info(_Late, State) ->
    %% The end of a launcher is told twice, by its port and by its socket.
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{port = Port}) ->
    end_program(Port).

%% The launcher

open(State) ->
    case ep_nif:launcher_open() of
        {ok, Launcher, Name, Token} ->
            join(Launcher, start_program(Name, Token), State);
        {error, Posix} ->
            failed(Posix, State)
    end.

start_program(Name, Token) ->
    Program = py_paths:launcher(),
    try
        ok = can_start(Program),
        Port = open_port({spawn_executable, Program}, [{args, [Name]}, nouse_stdio, exit_status, binary]),
        %% Not among its arguments, which everybody on the machine can read.
        true = port_command(Port, Token),
        Port
    catch
        error:Posix when is_atom(Posix) -> {error, Posix}
    end.

%% Asked first, for OTP keeps a file descriptor of each port whose program is not there.
can_start(Program) ->
    case {file:read_file_info(Program), os:find_executable(Program)} of
        {{error, Posix}, _} -> error(Posix);
        {{ok, _}, false} -> error(eacces);
        {{ok, _}, _} -> ok
    end.

join(_Launcher, {error, Posix}, State) ->
    failed({Posix, py_paths:launcher()}, State);
join(Launcher, Port, State) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, OsPid} ->
            case ep_nif:launcher_join(Launcher, OsPid) of
                {ok, Id} ->
                    grant(State#state{
                        port = Port, launcher = Launcher, id = Id, error = none, is_useful = false
                    });
                {error, Posix} ->
                    Reason = exit_of(Posix, Port),
                    close(Port),
                    failed(Reason, State)
            end;
        undefined ->
            failed(launcher_exited, State)
    end.

%% What it ended with, if it did.
exit_of(echild, Port) ->
    receive
        {Port, {exit_status, Status}} -> {launcher_exited, Status}
    after ?STATUS_MS -> launcher_exited
    end;
exit_of(Posix, _Port) ->
    Posix.

%% Nobody who wants a turn waits for a launcher that may never start.
failed(Reason, State = #state{waiting = Waiting}) ->
    _ = [refuse(Pid, Turn, Reason) || {Pid, Turn} <- queue:to_list(Waiting)],
    again(State#state{error = Reason, waiting = queue:new()}).

gone(Reason, Former) ->
    %% Whatever was being started is not.
    #state{turns = Turns, late = Late} = Former,
    State = lists:foldl(fun ended/2, Former, maps:keys(Turns) ++ maps:keys(Late)),
    #state{port = Port, is_useful = IsUseful, backoff = Backoff} = State,
    ok = py_report:launcher_ended(Reason),
    close(Port),
    Next =
        case IsUseful of
            true -> py_backoff:reset(Backoff);
            false -> Backoff
        end,
    again(State#state{port = undefined, launcher = undefined, id = undefined, backoff = Next}).

again(State = #state{backoff = Backoff}) ->
    {Ms, Next} = py_backoff:next(Backoff),
    _ = erlang:send_after(Ms, self(), open),
    State#state{backoff = Next}.

%% What Python code has left in /dev/shm is gone when this returns.
end_program(undefined) ->
    ok;
end_program(Port) ->
    try port_command(Port, <<"end">>) of
        true ->
            receive
                {Port, {exit_status, _}} -> ok;
                {'EXIT', Port, _} -> ok
            after ?END_MS -> kill(Port)
            end
    catch
        error:badarg -> ok
    end.

%% One that was stopped would never end, nor what it has started.
kill(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, OsPid} -> _ = os:cmd(io_lib:format("kill -KILL ~b", [OsPid])), close(Port);
        undefined -> close(Port)
    end.

close(undefined) ->
    ok;
close(Port) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end.

%% Turns

grant(State = #state{launcher = undefined}) ->
    State;
grant(State = #state{launcher = Launcher, waiting = Waiting, turns = Turns, max_turns = Max}) ->
    case map_size(Turns) < Max of
        true ->
            case queue:out(Waiting) of
                {{value, {Pid, Turn}}, Left} ->
                    _ = Pid ! {py_launcher, Turn, {ok, Launcher}},
                    Ms = ?TURN_MS * (1 + map_size(State#state.late) div Max),
                    Timer = erlang:send_after(Ms, self(), {turn_over, Turn}),
                    Taken = Turns#{Turn => {monitor(process, Pid), Timer}},
                    grant(State#state{waiting = Left, turns = Taken});
                {empty, _} ->
                    State
            end;
        false ->
            State
    end.

refuse(Pid, Turn, Reason) ->
    _ = Pid ! {py_launcher, Turn, {error, Reason}},
    ok.

%% The process is not up yet, and others have their turn.
over(Turn, State = #state{turns = Turns, late = Late}) ->
    case maps:take(Turn, Turns) of
        {{Monitor, _Timer}, Left} -> State#state{turns = Left, late = Late#{Turn => Monitor}};
        error -> State
    end.

ended(Turn, State = #state{turns = Turns, late = Late}) ->
    case {maps:take(Turn, Turns), maps:take(Turn, Late)} of
        {{{Monitor, Timer}, Left}, error} ->
            true = demonitor(Monitor, [flush]),
            _ = erlang:cancel_timer(Timer),
            State#state{turns = Left};
        {error, {Monitor, Left}} ->
            true = demonitor(Monitor, [flush]),
            State#state{late = Left};
        {error, error} ->
            State
    end.
