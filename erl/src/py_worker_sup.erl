%% SPDX-License-Identifier: Apache-2.0

%% @private Supervises py_worker processes, one for each worker process of the
%% operating system.
-module(py_worker_sup).
-behaviour(supervisor).

-export([start_link/0, start_worker/1]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc An error means that this supervisor is being started again.
-spec start_worker(py_worker:options()) -> {ok, pid()} | {error, term()}.
start_worker(Options) ->
    try supervisor:start_child(?MODULE, [Options]) of
        {ok, Pid} -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    catch
        exit:_Ended -> {error, restarting}
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{
        id => py_worker,
        start => {py_worker, start_link, []},
        restart => temporary,
        %% Five seconds for Python's exit functions, then a little for the kill.
        shutdown => 7000
    },
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
