%% SPDX-License-Identifier: Apache-2.0

%% @private Owns the launcher, the small program that starts and reaps worker
%% processes. When the launcher ends, its workers end with it; this process starts
%% another one and the py_worker processes start theirs again.
-module(py_service).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0, launcher/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(BACKOFF_MIN_MS, 50).
-define(BACKOFF_MAX_MS, 30000).
-define(LOG, #{domain => [erlang_python]}).

-record(state, {
    port :: port() | undefined,
    launcher :: py_nif:launcher() | undefined,
    id :: pos_integer() | undefined,
    error = starting :: term(),
    backoff = ?BACKOFF_MIN_MS :: pos_integer()
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The launcher to give to {@link py_nif:host_start/6}.
-spec launcher() -> {ok, py_nif:launcher()} | {error, term()}.
launcher() ->
    gen_server:call(?MODULE, launcher, infinity).

%% gen_server

-spec init([]) -> {ok, #state{}} | {stop, term()}.
init([]) ->
    process_flag(trap_exit, true),
    case open(#state{}) of
        {ok, State} -> {ok, State};
        {error, Reason} -> {stop, {launcher, Reason}}
    end.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, {ok, py_nif:launcher()} | {error, term()}, #state{}}.
handle_call(launcher, _From, State = #state{launcher = undefined, error = Error}) ->
    {reply, {error, Error}, State};
handle_call(launcher, _From, State = #state{launcher = Launcher}) ->
    {reply, {ok, Launcher}, State}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({Port, {exit_status, Status}}, State = #state{port = Port}) ->
    {noreply, lost({launcher_exited, Status}, State)};
handle_info({'EXIT', Port, Reason}, State = #state{port = Port}) ->
    {noreply, lost({launcher_exited, Reason}, State)};
handle_info({py_launcher, Id, gone}, State = #state{id = Id}) ->
    {noreply, lost(launcher_gone, State)};
handle_info(open, State) ->
    case open(State) of
        {ok, Opened} -> {noreply, Opened};
        {error, Reason} -> {noreply, again(Reason, State)}
    end;
handle_info(_Late, State) ->
    %% The end of a launcher is told twice, by its port and by its socket.
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{port = Port}) ->
    close(Port).

%% Internal

open(State) ->
    case py_nif:launcher_open() of
        {ok, Launcher, Name, Token} ->
            join(Launcher, start_program(Name, Token), State);
        {error, Posix} ->
            {error, Posix}
    end.

start_program(Name, Token) ->
    Hex = lists:flatten([io_lib:format("~2.16.0b", [B]) || <<B>> <= Token]),
    try
        open_port({spawn_executable, py_paths:service()}, [
            {args, [Name, Hex]}, nouse_stdio, exit_status, binary
        ])
    catch
        error:Posix -> {error, Posix}
    end.

join(_Launcher, {error, Posix}, _State) ->
    {error, {Posix, py_paths:service()}};
join(Launcher, Port, State) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, OsPid} ->
            case py_nif:launcher_join(Launcher, OsPid) of
                {ok, Id} ->
                    {ok, State#state{
                        port = Port, launcher = Launcher, id = Id, backoff = ?BACKOFF_MIN_MS
                    }};
                {error, Posix} ->
                    close(Port),
                    {error, Posix}
            end;
        undefined ->
            {error, launcher_exited}
    end.

lost(Reason, State = #state{port = Port}) ->
    ?LOG_WARNING("the launcher of the Python worker processes ended (~p); starting it again",
                 [Reason], ?LOG),
    close(Port),
    again(Reason, State#state{port = undefined, launcher = undefined, id = undefined}).

again(Reason, State = #state{backoff = Backoff}) ->
    _ = erlang:send_after(Backoff, self(), open),
    State#state{error = Reason, backoff = min(2 * Backoff, ?BACKOFF_MAX_MS)}.

close(undefined) ->
    ok;
close(Port) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end.
