%% SPDX-License-Identifier: Apache-2.0

%% @private Requests to a context by its pid. Each function checks all arguments, and makes
%% the fun that goes on: what is wrong is found before anything runs, and while Python runs
%% nobody holds the arguments.
-module(py_context_request).

-include("py_limits.hrl").

-export([lane/1, call/7, eval/5, exec/3, on_lane/2, in_env/2]).

-type env() :: ep_nif:env() | undefined.
-type run(Result) :: fun(() -> Result).

%% @doc The lane of a live context. Refuses one that no process of this node can ask, and
%% any while the application does not run.
-spec lane(py:context()) -> ep_nif:lane() | noproc.
lane(Ctx) when is_pid(Ctx), node(Ctx) =:= node() ->
    case py_context_table:lane(Ctx) of
        noproc ->
            ok = py_error_info:ensure_started(),
            noproc;
        Lane ->
            ok = py_direct:keep_lane(Ctx, Lane),
            Lane
    end;
lane(_) ->
    py_error_info:refuse(arguments).

-spec call(env(), py:context(), py:text(), py:text(), list(), map(), timeout() | py:opts()) ->
    run(py:result()).
call(Env, Ctx, Module, Function, Args, Kwargs, Options) when is_list(Args), is_map(Kwargs) ->
    Checked = py_options:call(Options, infinity),
    ok = py_text:check(Module),
    ok = py_text:check(Function),
    on_lane(Ctx, fun(Lane) ->
        py_request:call({Ctx, Lane, Env}, Module, Function, Args, Kwargs, Checked)
    end);
call(_, _, _, _, _, _, _) ->
    py_error_info:refuse(arguments).

-spec eval(env(), py:context(), py:text(), map(), timeout() | py:opts()) -> run(py:result()).
eval(Env, Ctx, Code, Locals, Options) when is_map(Locals) ->
    Checked = py_options:call(Options, infinity),
    ok = py_text:check(Code),
    on_lane(Ctx, fun(Lane) -> py_request:eval({Ctx, Lane, Env}, Code, Locals, Checked) end);
eval(_, _, _, _, _) ->
    py_error_info:refuse(arguments).

-spec exec(env(), py:context(), py:text()) -> run(ok | {error, term()}).
exec(Env, Ctx, Code) ->
    ok = py_text:check(Code),
    on_lane(Ctx, fun(Lane) -> py_request:exec({Ctx, Lane, Env}, Code, ?PLAIN(infinity)) end).

-spec on_lane(py:context(), fun((ep_nif:lane()) -> Result)) ->
    run(Result | {error, {context_died, noproc}}).
on_lane(Ctx, Fun) ->
    case lane(Ctx) of
        noproc -> fun() -> {error, {context_died, noproc}} end;
        Lane -> fun() -> Fun(Lane) end
    end.

%% @doc Goes on with a request that may use a namespace. Whether a reference stands for
%% one, only the NIF can tell.
-spec in_env(term(), run(Result)) -> Result.
in_env(undefined, Run) ->
    Run();
in_env(Env, Run) when is_reference(Env) ->
    try
        Run()
    catch
        error:badarg -> py_error_info:refuse({env, ["is a reference, but to no namespace"]})
    end;
in_env(_, _) ->
    py_error_info:refuse(arguments).
