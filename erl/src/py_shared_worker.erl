%% SPDX-License-Identifier: Apache-2.0

%% @private Finds a worker process for contexts that share one: those of a pool that are to
%% be together, and those without a pool that are of the same kind. When it is full or gone,
%% another one takes its place.
%%
%% Which process it is at the moment lies in a table; this process is there to be its only
%% writer. It waits for no py_worker.
-module(py_shared_worker).
-behaviour(gen_server).

-export([start_link/0, create_table/0, worker/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(TABLE, ?MODULE).
-define(TIMEOUT_MS, 5000).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc The process of that key, which is started if there is none. `Refused' is one that had
%% no room. An error passes: a process of the application is being started again.
-spec worker(term(), py_worker:options(), Refused :: pid() | none) -> {ok, pid()} | {error, term()}.
worker(Key, Options, Refused) ->
    case current(Key) of
        {ok, Worker} when Worker =/= Refused -> {ok, Worker};
        _ -> ask({worker, Key, Options, Refused})
    end.

ask(Request) ->
    try
        gen_server:call(?MODULE, Request, ?TIMEOUT_MS)
    catch
        exit:_ -> {error, restarting}
    end.

-spec init([]) -> {ok, []}.
init([]) ->
    _ = [monitor(process, Worker) || {_Key, Worker} <- ets:tab2list(?TABLE)],
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> {reply, {ok, pid()} | {error, term()}, []}.
handle_call({worker, Key, Options, Refused}, _From, State) ->
    case current(Key) of
        {ok, Worker} when Worker =/= Refused -> {reply, {ok, Worker}, State};
        _ -> {reply, new(Key, Options), State}
    end.

-spec handle_cast(term(), []) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), []) -> {noreply, []}.
handle_info({'DOWN', _, process, Worker, _}, State) ->
    true = ets:match_delete(?TABLE, {'_', Worker}),
    {noreply, State};
handle_info(_Late, State) ->
    {noreply, State}.

%% Internal

current(Key) ->
    case ets:lookup(?TABLE, Key) of
        [{_, Worker}] ->
            case is_process_alive(Worker) of
                true -> {ok, Worker};
                false -> none
            end;
        [] ->
            none
    end.

new(Key, Options) ->
    case py_worker_sup:start_worker(Options) of
        {ok, Worker} ->
            _ = monitor(process, Worker),
            true = ets:insert(?TABLE, {Key, Worker}),
            {ok, Worker};
        {error, Reason} ->
            {error, Reason}
    end.
