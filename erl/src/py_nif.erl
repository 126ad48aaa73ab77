%% SPDX-License-Identifier: Apache-2.0

%% @doc Requests by a context reference, {@link py_context:get_nif_ref/1}: no table is asked
%% where the context is. And what the Python in use can do.
-module(py_nif).

-include("py_limits.hrl").
-include("py_misuse.hrl").

-export([context_exec/2, context_exec/3]).
-export([context_eval/3, context_eval/4]).
-export([context_call/5, context_call/6]).
-export([owngil_supported/0, subinterp_supported/0]).
%% Internal
-export([context_ref/2]).

-export_type([ctx_ref/0, env/0]).

%% Of py_context:get_nif_ref/1.
-opaque ctx_ref() :: {py_ctx_ref, py:context(), ep_nif:lane()}.
%% Of py_context:create_local_env/1 and py:get_local_env/1.
-type env() :: ep_nif:env().

%% @doc Executes statements in a context, without a process to ask for it.
-spec context_exec(ctx_ref(), py:text()) -> ok | {error, term()}.
context_exec(Ref, Code) ->
    ?CHECKED(run_exec(Ref, Code, undefined), [{ctx_ref, Ref}, {code, Code}]).

-spec context_exec(ctx_ref(), py:text(), env()) -> ok | {error, term()}.
context_exec(Ref, Code, Env) ->
    ?CHECKED(run_exec(Ref, Code, Env), [{ctx_ref, Ref}, {code, Code}, {env, Env}]).

-spec context_eval(ctx_ref(), py:text(), map()) -> py:result().
context_eval(Ref, Code, Locals) ->
    ?CHECKED(run_eval(Ref, Code, Locals, undefined), [
        {ctx_ref, Ref}, {code, Code}, {locals, Locals}
    ]).

-spec context_eval(ctx_ref(), py:text(), map(), env()) -> py:result().
context_eval(Ref, Code, Locals, Env) ->
    ?CHECKED(run_eval(Ref, Code, Locals, Env), [
        {ctx_ref, Ref}, {code, Code}, {locals, Locals}, {env, Env}
    ]).

-spec context_call(ctx_ref(), py:text(), py:text(), list(), map()) -> py:result().
context_call(Ref, Module, Function, Args, Kwargs) ->
    ?CHECKED(run_call(Ref, Module, Function, Args, Kwargs, undefined), [
        {ctx_ref, Ref}, {module, Module}, {function, Function}, {args, Args}, {kwargs, Kwargs}
    ]).

-spec context_call(ctx_ref(), py:text(), py:text(), list(), map(), env()) ->
    py:result().
context_call(Ref, Module, Function, Args, Kwargs, Env) ->
    ?CHECKED(run_call(Ref, Module, Function, Args, Kwargs, Env), [
        {ctx_ref, Ref}, {module, Module}, {function, Function}, {args, Args}, {kwargs, Kwargs},
        {env, Env}
    ]).

%% @doc Whether contexts of mode `owngil' can be started.
-spec owngil_supported() -> boolean().
owngil_supported() ->
    maps:get(owngil, py_python:info()).

%% @doc Whether the Python in use is 3.12 or newer.
-spec subinterp_supported() -> boolean().
subinterp_supported() ->
    maps:get(owngil, py_python:info()).

%% @private A context by its lane, as context_call/5 and its like take it.
-spec context_ref(py:context(), ep_nif:lane()) -> ctx_ref().
context_ref(Ctx, Lane) ->
    {py_ctx_ref, Ctx, Lane}.

%% Internal

run_exec(Ref, Code, Env) ->
    Route = route(Ref, Env),
    ok = py_text:check(Code),
    on(Route, fun() -> py_request:exec(Route, Code, ?PLAIN(infinity)) end).

run_eval(Ref, Code, Locals, Env) when is_map(Locals) ->
    Route = route(Ref, Env),
    ok = py_text:check(Code),
    on(Route, fun() -> py_request:eval(Route, Code, Locals, ?PLAIN(infinity)) end);
run_eval(_, _, _, _) ->
    py_error_info:refuse(arguments).

run_call(Ref, Module, Function, Args, Kwargs, Env) when is_list(Args), is_map(Kwargs) ->
    Route = route(Ref, Env),
    ok = py_text:check(Module),
    ok = py_text:check(Function),
    on(Route, fun() -> py_request:call(Route, Module, Function, Args, Kwargs, ?PLAIN(infinity)) end);
run_call(_, _, _, _, _, _) ->
    py_error_info:refuse(arguments).

route({py_ctx_ref, Ctx, Lane}, Env) when
    is_pid(Ctx), is_reference(Lane), Env =:= undefined orelse is_reference(Env)
->
    {Ctx, Lane, Env};
route(_Ref, _Env) ->
    py_error_info:refuse(arguments).

on({_Ctx, Lane, Env}, Run) ->
    try
        Run()
    catch
        error:badarg ->
            is_lane(Lane) orelse
                py_error_info:refuse({ctx_ref, ["is no reference made by py_context:get_nif_ref/1"]}),
            py_error_info:refuse({env, ["is a reference, but to no namespace: ", {value, Env}]})
    end.

is_lane(Lane) ->
    try
        is_boolean(ep_nif:lane_is_idle(Lane))
    catch
        error:badarg -> false
    end.
