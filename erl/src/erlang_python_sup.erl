%% SPDX-License-Identifier: Apache-2.0

%% @private The tree. Worker processes of the operating system come and go below
%% py_worker processes, which restart them with a back-off of their own; no such
%% death counts against a supervisor.
-module(erlang_python_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    %% Owned by the supervisor, so that they live as long as the tree.
    ok = py_context:create_table(),
    ok = py_state:create_table(),
    ok = py_callback:create_table(),
    Flags = #{strategy => rest_for_one, intensity => 5, period => 10},
    {ok, {Flags, [
        child(py_callback_runner, worker, 5000),
        child(py_service, worker, 5000),
        child(py_worker_sup, supervisor, infinity),
        child(py_shared_worker, worker, 5000),
        child(py_context_sup, supervisor, infinity),
        child(py_pool_registry, worker, 5000),
        child(py_pool_sup, supervisor, infinity)
    ]}}.

child(Module, Type, Shutdown) ->
    #{id => Module, start => {Module, start_link, []}, type => Type, shutdown => Shutdown}.
