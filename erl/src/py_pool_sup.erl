%% SPDX-License-Identifier: Apache-2.0

%% @private Supervises the processes of pools.
-module(py_pool_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/2]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Does not wait until the contexts of the pool are up.
-spec start_pool(py:pool_name(), py_config:pool()) -> {ok, pid()}.
start_pool(Pool, Settings) ->
    {ok, Pid} = supervisor:start_child(?MODULE, [Pool, Settings]),
    {ok, Pid}.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{
        id => py_pool,
        start => {py_pool, start_link, []},
        restart => temporary,
        shutdown => 10000
    },
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
