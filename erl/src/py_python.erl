%% SPDX-License-Identifier: Apache-2.0

%% @private What the Python in use is, as its worker processes report it.
-module(py_python).

-export([info/0, learn/3, forget/0]).

-export_type([info/0]).

-type info() :: #{version := binary(), owngil := boolean(), free_threaded := boolean()}.

%% @doc Fails with `badarg' until the first worker process is up.
-spec info() -> info().
info() ->
    persistent_term:get(?MODULE).

-spec learn(binary(), boolean(), boolean()) -> ok.
learn(Version, OwnGil, FreeThreaded) ->
    %% Writing the same term again costs nothing.
    persistent_term:put(?MODULE, #{
        version => Version, owngil => OwnGil, free_threaded => FreeThreaded
    }).

-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?MODULE),
    ok.
