%% SPDX-License-Identifier: Apache-2.0

%% @doc Python code that runs in the shared namespace of each context that starts later, in every
%% pool, before its first request: imports, constants, functions that all processes find.
%%
%% It runs again each time when the worker process of such a context starts anew, as it is set
%% then. Code that fails keeps the context from starting. The code may be set before the
%% application starts, and stays when it stops.
-module(py_preload).

-include("py_misuse.hrl").

-export([set_code/1, get_code/0, clear_code/0, has_preload/0]).

-define(KEY, ?MODULE).

-spec set_code(iodata()) -> ok.
set_code(Code) ->
    ?CHECKED(persistent_term:put(?KEY, code(Code)), [{python_code, Code}]).

-spec get_code() -> binary() | undefined.
get_code() ->
    persistent_term:get(?KEY, undefined).

-spec clear_code() -> ok.
clear_code() ->
    _ = persistent_term:erase(?KEY),
    ok.

-spec has_preload() -> boolean().
has_preload() ->
    get_code() =/= undefined.

%% Internal

code(Code) ->
    try
        iolist_to_binary(Code)
    catch
        error:badarg -> py_error_info:refuse({python_code, ["must be Python code as iodata"]})
    end.
