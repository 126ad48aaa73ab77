%% SPDX-License-Identifier: Apache-2.0

%% @doc Where Python finds modules, and which it imports before a call needs them: in every
%% interpreter of the node, those that run and those that will.
%%
%% A path counts before everything else on `sys.path' but the virtual environment. It is kept
%% as an absolute one, so that a working directory that changes does not matter. One that does
%% not exist yet is no error: Python looks there again at each import.
%%
%% The keys `paths' and `imports' of the application and of pools say both from the start.
-module(py_import).

-include("py_misuse.hrl").

-export([ensure_imported/1, ensure_imported/2, is_imported/1, is_imported/2]).
-export([all_imports/0, import_list/0, clear_imports/0]).
-export([add_path/1, add_paths/1, all_paths/0, is_path_added/1, clear_paths/0]).

%% @doc Has every interpreter import the module, beside the requests that run there. A module that
%% cannot be imported is logged, and reported where it is called. Waits five seconds at most.
-spec ensure_imported(py:text()) -> ok | {error, main_not_cacheable}.
ensure_imported(Module) ->
    ?CHECKED(import(py_text:utf8(Module), all), [{module, Module}]).

%% @doc The same, and looks for a function in it.
-spec ensure_imported(py:text(), py:text()) -> ok | {error, main_not_cacheable}.
ensure_imported(Module, Function) ->
    ?CHECKED(import(py_text:utf8(Module), py_text:utf8(Function)), [{module, Module}, {function, Function}]).

%% @doc Whether the module is registered, alone or for the sake of a function.
-spec is_imported(py:text()) -> boolean().
is_imported(Module) ->
    ?CHECKED(py_code:is_import({py_text:utf8(Module), '_'}), [{module, Module}]).

-spec is_imported(py:text(), py:text()) -> boolean().
is_imported(Module, Function) ->
    ?CHECKED(py_code:is_import({py_text:utf8(Module), py_text:utf8(Function)}), [{module, Module}, {function, Function}]).

%% @doc What is registered, in the order in which that was done.
-spec all_imports() -> [{Module :: binary(), all | binary()}].
all_imports() ->
    ?CHECKED(started(fun py_code:imports/0), []).

%% @doc The registered modules, with the functions that were named.
-spec import_list() -> {ok, #{Module :: binary() => [Function :: binary()]}}.
import_list() ->
    Add = fun
        ({Module, all}, Acc) -> maps:merge(#{Module => []}, Acc);
        ({Module, Function}, Acc) -> Acc#{Module => maps:get(Module, Acc, []) ++ [Function]}
    end,
    {ok, lists:foldl(Add, #{}, all_imports())}.

%% @doc Forgets all of them. Interpreters that run keep their modules.
-spec clear_imports() -> ok.
clear_imports() ->
    ?CHECKED(started(fun py_code:clear_imports/0), []).

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

import(<<"__main__">>, _Function) ->
    {error, main_not_cacheable};
import(Module, Function) ->
    py_code:import([{Module, Function}]).

paths(Paths) ->
    ok = py_error_info:ensure_started(),
    case py_paths:directories(Paths) of
        {ok, Absolute} -> Absolute;
        {error, Why} -> py_error_info:refuse({[path, paths], ["cannot be added: ", Why]})
    end.

started(Fun) ->
    ok = py_error_info:ensure_started(),
    Fun().
