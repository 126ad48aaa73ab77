%% SPDX-License-Identifier: Apache-2.0

%% @private Finds a place for contexts that share a worker process although they
%% belong to no pool. One process takes 64 of them; then another one is started.
-module(py_shared_worker).
-behaviour(gen_server).

-export([start_link/0, attach/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(SLOTS, 64).

-record(state, {workers = #{} :: #{Key :: term() => pid()}}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Attaches the lane of the calling context to a process that is shared with
%% the contexts of the same mode and settings.
-spec attach(py_nif:lane(), py:context_mode(), py_context:settings(), pid()) -> ok.
attach(Lane, Mode, Settings, Context) ->
    gen_server:call(?MODULE, {attach, Lane, Mode, Settings, Context}, infinity).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) ->
    {reply, ok, #state{}}.
handle_call({attach, Lane, Mode, Settings, Context}, _From, State) ->
    Options = maps:with([python, spin_us, kill_after], Settings),
    {reply, ok, place(Lane, Mode, Options, Context, State)}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, _}, State = #state{workers = Workers}) ->
    {noreply, State#state{workers = maps:filter(fun(_, W) -> W =/= Pid end, Workers)}}.

%% Internal

place(Lane, Mode, Options, Context, State = #state{workers = Workers}) ->
    Key = {Mode, Options},
    case Workers of
        #{Key := Worker} ->
            case try_attach(Worker, Lane, Mode, Context) of
                ok -> State;
                full_or_gone -> place_new(Key, Lane, Mode, Options, Context, State)
            end;
        _ ->
            place_new(Key, Lane, Mode, Options, Context, State)
    end.

place_new(Key, Lane, Mode, Options, Context, State = #state{workers = Workers}) ->
    {ok, Worker} = py_worker_sup:start_worker(Options#{slots => ?SLOTS}),
    _ = monitor(process, Worker),
    ok = py_worker:attach(Worker, Lane, Mode, Context),
    State#state{workers = Workers#{Key => Worker}}.

try_attach(Worker, Lane, Mode, Context) ->
    try py_worker:attach(Worker, Lane, Mode, Context) of
        ok -> ok;
        {error, full} -> full_or_gone
    catch
        exit:_ -> full_or_gone
    end.
