%% SPDX-License-Identifier: Apache-2.0

%% @doc Where Python finds modules: paths for every interpreter of the node, those that run and
%% those that will.
%%
%% A path counts before everything else on `sys.path' but the virtual environment. It is kept
%% as an absolute one, so that a working directory that changes does not matter. One that does
%% not exist yet is no error: Python looks there again at each import.
%%
%% The keys `paths' of the application and of pools name paths from the start.
-module(py_import).

-include("py_misuse.hrl").

-export([add_path/1, add_paths/1, all_paths/0, is_path_added/1, clear_paths/0]).

%% @doc Adds a directory, or a zip file with modules. When this returns, each context finds what
%% lies there in its next request, and after each restart. Does not wait for a context that is
%% busy for more than five seconds.
-spec add_path(py_paths:directory()) -> ok.
add_path(Path) ->
    ?CHECKED(py_code:add_paths(paths([Path])), [{path, Path}]).

%% @doc Adds several, in their order.
-spec add_paths([py_paths:directory()]) -> ok.
add_paths(Paths) ->
    ?CHECKED(py_code:add_paths(paths(Paths)), [{paths, Paths}]).

%% @doc All that were added, in the order in which that was done, each once.
-spec all_paths() -> [binary()].
all_paths() ->
    ?CHECKED(started(fun py_code:paths/0), []).

-spec is_path_added(py_paths:directory()) -> boolean().
is_path_added(Path) ->
    ?CHECKED(py_code:is_path(hd(paths([Path]))), [{path, Path}]).

%% @doc Forgets all of them. Interpreters that run keep them; those that start do not get them.
-spec clear_paths() -> ok.
clear_paths() ->
    ?CHECKED(started(fun py_code:clear_paths/0), []).

%% Internal

paths(Paths) ->
    ok = py_error_info:ensure_started(),
    case py_paths:directories(Paths) of
        {ok, Absolute} -> Absolute;
        {error, Why} -> py_error_info:refuse({[path, paths], ["cannot be added: ", Why]})
    end.

started(Fun) ->
    ok = py_error_info:ensure_started(),
    Fun().
