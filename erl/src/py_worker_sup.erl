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

-spec start_worker(py_worker:options()) -> {ok, pid()}.
start_worker(Options) ->
    {ok, Pid} = supervisor:start_child(?MODULE, [Options]),
    {ok, Pid}.

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
