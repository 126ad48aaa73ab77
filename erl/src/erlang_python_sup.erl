%% SPDX-License-Identifier: Apache-2.0

%% @private The tree. Whatever is below may be killed at any time, also all of it and many
%% times in a row: each child finds what it needs in the tables that this process owns, and
%% waits for a sibling that is not there at the moment. So no child takes another one with it.
%%
%% Worker processes of the operating system come and go below py_worker processes, contexts
%% and pools by their managers, all with a back-off of their own; none of these counts here.
%% The intensity only ends a child that cannot live: it crashes thousands of times a second.
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
    ok = py_context_table:create_table(),
    ok = py_state:create_table(),
    ok = py_callback:create_table(),
    ok = py_letter_carrier:create_table(),
    ok = py_shared_worker:create_table(),
    ok = py_report:create_table(),
    ok = py_code:create_table(),
    ok = py_pool_registry:create_table(),
    Flags = #{strategy => one_for_one, intensity => 5000, period => 10},
    {ok, {Flags, [
        child(py_callback_runner, worker, 5000),
        child(py_letter_carrier, worker, 5000),
        child(py_launcher, worker, 5000),
        child(py_zygote, worker, 5000),
        child(py_worker_sup, supervisor, infinity),
        child(py_shared_worker, worker, 5000),
        child(py_context_table, worker, 5000),
        child(py_context_sup, supervisor, infinity),
        child(py_pool_registry, worker, 5000),
        child(py_pool_sup, supervisor, infinity)
    ]}}.

child(Module, Type, Shutdown) ->
    #{id => Module, start => {Module, start_link, []}, type => Type, shutdown => Shutdown}.
