%% SPDX-License-Identifier: Apache-2.0

%% @private The table of contexts: {Context, Lane, info(), its py_worker | undefined}. Each
%% context writes its own row and deletes it when it ends in order; this process deletes the
%% rows of those that were killed. Beside them {{replaced, Pool, Number}, N}, written by the
%% process of the pool: how many contexts had that number before.
-module(py_context_table).
-behaviour(gen_server).

-export([start_link/0, create_table/0]).
-export([add/3, forget/1, lane/1, info/1, all/0, moved/2, worker/1, of_pool/1]).
-export([replaced/2, replacements/2, pool_ended/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([info/0]).

-type info() :: #{
    id := term(),
    mode := py:context_mode(),
    interp_id := pos_integer(),
    kill_after := timeout(),
    pool := {py:pool_name(), Number :: pos_integer()} | undefined
}.

-define(TABLE, ?MODULE).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The table outlives this process: whoever calls this owns it.
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc By a context. If this process is not there to hear of it, its successor, which takes
%% its name before it reads the table, finds the context.
-spec add(py:context(), ep_nif:lane(), info()) -> ok.
add(Ctx, Lane, Info) ->
    true = ets:insert(?TABLE, {Ctx, Lane, Info, undefined}),
    gen_server:cast(?MODULE, {watch, Ctx}).

%% @doc By a context that ends, or by what hears of its end.
-spec forget(py:context()) -> ok.
forget(Ctx) ->
    try ets:delete(?TABLE, Ctx) of
        true -> ok
    catch
        %% The application has ended, and the table with it.
        error:badarg -> ok
    end.

%% @doc The lane of a live context.
-spec lane(py:context()) -> ep_nif:lane() | noproc.
lane(Ctx) ->
    try
        ets:lookup_element(?TABLE, Ctx, 2)
    catch
        error:badarg -> noproc
    end.

-spec info(py:context()) -> {ok, info()} | noproc.
info(Ctx) ->
    try
        {ok, ets:lookup_element(?TABLE, Ctx, 3)}
    catch
        error:badarg -> noproc
    end.

-spec all() -> [{py:context(), ep_nif:lane()}].
all() ->
    ets:select(?TABLE, [{{'$1', '$2', '_', '_'}, [], [{{'$1', '$2'}}]}]).

%% @doc By a context: it is on that py_worker now.
-spec moved(py:context(), pid()) -> ok.
moved(Ctx, Worker) ->
    _ = ets:update_element(?TABLE, Ctx, {4, Worker}),
    ok.

%% @doc The py_worker that a context is on.
-spec worker(py:context()) -> pid() | undefined.
worker(Ctx) ->
    case ets:lookup(?TABLE, Ctx) of
        [{_, _, _, Worker}] -> Worker;
        [] -> undefined
    end.

%% @doc The contexts of a pool, also those that were killed just now.
-spec of_pool(py:pool_name()) -> [{Number :: pos_integer(), py:context(), ep_nif:lane()}].
of_pool(Pool) ->
    ets:select(?TABLE, [{{'$1', '$2', #{pool => {Pool, '$3'}}, '_'}, [], [{{'$3', '$1', '$2'}}]}]).

%% @doc By a pool: the context of that number has ended and gets a successor.
-spec replaced(py:pool_name(), pos_integer()) -> ok.
replaced(Pool, Number) ->
    Key = {replaced, Pool, Number},
    _ = ets:update_counter(?TABLE, Key, 1, {Key, 0}),
    ok.

-spec replacements(py:pool_name(), pos_integer()) -> non_neg_integer().
replacements(Pool, Number) ->
    try
        ets:lookup_element(?TABLE, {replaced, Pool, Number}, 2)
    catch
        error:badarg -> 0
    end.

%% @doc By a pool that does not come back.
-spec pool_ended(py:pool_name()) -> ok.
pool_ended(Pool) ->
    true = ets:match_delete(?TABLE, {{replaced, Pool, '_'}, '_'}),
    ok.

-spec init([]) -> {ok, []}.
init([]) ->
    _ = [monitor(process, Ctx) || {Ctx, _Lane} <- all()],
    {ok, []}.

-spec handle_call(term(), gen_server:from(), []) -> no_return().
handle_call(Request, _From, _State) ->
    error({unexpected, Request}).

-spec handle_cast(term(), []) -> {noreply, []}.
handle_cast({watch, Ctx}, State) ->
    _ = monitor(process, Ctx),
    {noreply, State}.

-spec handle_info(term(), []) -> {noreply, []}.
handle_info({'DOWN', _, process, Ctx, _}, State) ->
    ok = forget(Ctx),
    {noreply, State};
handle_info(_Late, State) ->
    {noreply, State}.
