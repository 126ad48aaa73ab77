%% SPDX-License-Identifier: Apache-2.0

%% @private What the Python in use is: as its worker processes report it, and before the
%% first is up as the build wrote it down, for they embed that Python and no other.
-module(py_python).

-export([info/0, learn/3, forget/0, built/0]).

-export_type([info/0]).

-type info() :: #{version := binary(), owngil := boolean(), free_threaded := boolean()}.

%% @doc Its version: `sys.version', or the number only.
-spec info() -> info().
info() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> built();
        Info -> Info
    end.

%% @doc What priv/python_version says.
-spec built() -> info().
built() ->
    case file:read_file(filename:join(py_paths:priv_dir(), "python_version")) of
        {ok, Text} ->
            [Version | More] = string:lexemes(Text, " \n"),
            #{
                version => Version,
                owngil => is_312(string:lexemes(Version, ".")),
                free_threaded => More =:= [<<"free-threaded">>]
            };
        {error, _} ->
            #{
                version => <<"an unknown version (run make build)">>,
                owngil => false,
                free_threaded => false
            }
    end.

is_312([<<"3">>, Minor]) -> binary_to_integer(Minor) >= 12.

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
