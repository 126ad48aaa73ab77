%% SPDX-License-Identifier: Apache-2.0

%% @private Supervises the contexts of pools. Those that users start are linked to
%% them instead.
-module(py_context_sup).
-behaviour(supervisor).

-export([start_link/0, start_context/3]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Starts a context on a given worker; does not wait until it is ready.
-spec start_context(term(), pid(), py_context:settings()) -> {ok, pid()}.
start_context(Id, Worker, Settings) ->
    {ok, Pid} = supervisor:start_child(?MODULE, [Id, Worker, Settings]),
    {ok, Pid}.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Child = #{
        id => py_context,
        start => {py_context, start_member, []},
        restart => temporary,
        shutdown => 5000
    },
    {ok, {#{strategy => simple_one_for_one}, [Child]}}.
