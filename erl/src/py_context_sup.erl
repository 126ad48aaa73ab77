%% SPDX-License-Identifier: Apache-2.0

%% @doc Supervises the contexts of pools, and contexts without a pool that belong to
%% nobody. Those of {@link py_context:start_link/3} are linked to their owners instead.
-module(py_context_sup).
-behaviour(supervisor).

-include("py_misuse.hrl").

-export([start_context/2, stop_context/1, which_contexts/0]).
%% Internal
-export([start_link/0, start_member/3]).
-export([init/1]).

-define(RESTARTING_TEXT, <<"a process of the application erlang_python is being started again; try again">>).

%% @doc Starts a context that is not linked to the calling process.
-spec start_context(term(), py:context_mode()) -> {ok, py:context()} | {error, term()}.
start_context(Id, Mode) ->
    ?CHECKED(start_checked(Id, Mode), [{id, Id}, {mode, Mode}]).

%% @doc Stops a context.
-spec stop_context(py:context()) -> ok.
stop_context(Ctx) ->
    ?DELEGATED(py_context:stop(Ctx), [Ctx]).

%% @doc The contexts without a pool that are supervised here.
-spec which_contexts() -> [py:context()].
which_contexts() ->
    [
        Ctx
     || {_, Ctx, _, _} <- children(),
        is_pid(Ctx),
        {ok, #{pool := undefined}} <- [py_context_table:info(Ctx)]
    ].

%% @private
-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @private Starts a context; does not wait until it is ready. `restarting': this supervisor
%% is being started again.
-spec start_member(term(), py_context_server:home(), py_context_server:settings()) ->
    {ok, py:context(), ep_nif:lane()} | {error, term()}.
start_member(Id, Home, Settings) ->
    try supervisor:start_child(?MODULE, [Id, Home, Settings]) of
        {ok, Ctx, Lane} -> {ok, Ctx, Lane};
        {error, Reason} -> {error, Reason}
    catch
        exit:_Ended -> {error, restarting}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{
        id => py_context,
        start => {py_context_server, start_member, []},
        restart => temporary,
        shutdown => 5000
    },
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.

%% Internal

%% None while the supervisor is started again, for they ended with the former one, and none
%% before the application runs.
children() ->
    try
        supervisor:which_children(?MODULE)
    catch
        exit:_Ended -> []
    end.

start_checked(Id, Mode) ->
    ok = py_error_info:ensure_started(),
    case py_context_server:settings(Mode, #{}) of
        {ok, Settings} -> start_single(Id, Settings);
        {error, Reason} -> {error, Reason}
    end.

start_single(Id, Settings) ->
    case start_member(Id, py_context_server:home(Settings), Settings) of
        {ok, Ctx, _Lane} -> py_context_server:await_or_stop(Ctx);
        {error, restarting} -> {error, {worker_unavailable, ?RESTARTING_TEXT}};
        {error, Reason} -> {error, Reason}
    end.
