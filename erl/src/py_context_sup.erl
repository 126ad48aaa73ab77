%% SPDX-License-Identifier: Apache-2.0

%% @doc Supervises the contexts of pools, and contexts without a pool that belong to
%% nobody. Those of {@link py_context:start_link/3} are linked to their owners instead.
-module(py_context_sup).
-behaviour(supervisor).

-export([start_context/2, stop_context/1, which_contexts/0]).
%% Internal
-export([start_link/0, start_member/3]).
-export([init/1]).

%% @doc Starts a context that is not linked to the calling process.
-spec start_context(term(), py:context_mode()) -> {ok, py:context()} | {error, term()}.
start_context(Id, Mode) ->
    case py_context:settings(Mode, #{}) of
        {ok, Settings} -> start_single(Id, Settings);
        {error, Reason} -> {error, Reason}
    end.

%% @doc Stops a context.
-spec stop_context(py:context()) -> ok.
stop_context(Ctx) ->
    py_context:stop(Ctx).

%% @doc The contexts without a pool that are supervised here.
-spec which_contexts() -> [py:context()].
which_contexts() ->
    [
        Ctx
     || {_, Ctx, _, _} <- supervisor:which_children(?MODULE),
        is_pid(Ctx),
        {ok, #{pool := undefined}} <- [py_context:info(Ctx)]
    ].

%% @private
-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @private Starts a context of a pool on a given worker; does not wait until it is
%% ready.
-spec start_member({py:pool_name(), pos_integer()}, pid(), py_context:settings()) ->
    {ok, py:context(), py_nif:lane()}.
start_member(Id, Worker, Settings) ->
    {ok, Ctx, Lane} = supervisor:start_child(?MODULE, [Id, {worker, Worker}, Settings]),
    {ok, Ctx, Lane}.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{
        id => py_context,
        start => {py_context, start_member, []},
        restart => temporary,
        shutdown => 5000
    },
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.

%% Internal

start_single(Id, Settings) ->
    case supervisor:start_child(?MODULE, [Id, py_context:place(Settings), Settings]) of
        {ok, Ctx, _Lane} -> py_context:await_or_stop(Ctx);
        {error, Reason} -> {error, Reason}
    end.
