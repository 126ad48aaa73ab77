%% SPDX-License-Identifier: Apache-2.0

%% @private Supervises the processes of pools.
-module(py_pool_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/3]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Does not wait until the contexts of the pool are up. The process that the pool has
%% already, if it has one. An error means that this supervisor is being started again.
-spec start_pool(py:pool_name(), py_config:pool(), py_pool_registry:status()) ->
    {ok, pid()} | {error, term()}.
start_pool(Pool, Settings, Status) ->
    try supervisor:start_child(?MODULE, [Pool, Settings, Status]) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, {already_started, Pid}}} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    catch
        exit:_Ended -> {error, restarting}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{
        id => py_pool,
        start => {py_pool, start_link, []},
        restart => temporary,
        shutdown => 10000
    },
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
