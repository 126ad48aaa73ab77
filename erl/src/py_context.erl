%% SPDX-License-Identifier: Apache-2.0

%% @doc A context: one Python thread in a worker process, with its own shared
%% namespace; it runs one request at a time.
%%
%% Its calls go from their callers straight into shared memory; its process, {@link
%% py_context_server}, only sees to its life.
-module(py_context).

-include("py_limits.hrl").
-include("py_misuse.hrl").

-export([start_link/2, start_link/3, new/1, stop/1, destroy/1]).
-export([call/4, call/5, call/6, call/7, eval/2, eval/3, eval/4, eval/5, exec/2, exec/3]).
-export([interrupt/1]).
-export([create_local_env/1, get_nif_ref/1, get_interp_id/1, is_subinterp/1]).

-export_type([ctx_ref/0]).

-type env() :: py_nif:env().
-type ctx_ref() :: py_nif:ctx_ref().

%% API

%% @doc Starts a context and links it to the calling process.
-spec start_link(term(), py:context_mode()) -> {ok, py:context()} | {error, term()}.
start_link(Id, Mode) ->
    ?CHECKED(start_single(Id, Mode, #{}), [{id, Id}, {mode, Mode}]).

%% @doc With options: `own_process', `kill_after', `python', `spin_us', `max_result_bytes',
%% and `preload', code that runs in the shared namespace before the context takes requests.
-spec start_link(term(), py:context_mode(), map()) -> {ok, py:context()} | {error, term()}.
start_link(Id, Mode, Options) ->
    ?CHECKED(start_single(Id, Mode, Options), [{id, Id}, {mode, Mode}, {options, Options}]).

%% @doc The same with an identity of its own and `mode' among the options.
-spec new(map()) -> {ok, py:context()} | {error, term()}.
new(Options) ->
    ?CHECKED(start_new(Options), [{options, Options}]).

%% @doc Stops a context; its callers get `{error, {context_died, shutdown}}'.
-spec stop(py:context()) -> ok.
stop(Ctx) ->
    ?CHECKED(py_context_server:stop(Ctx), [{ctx, Ctx}]).

-spec destroy(py:context()) -> ok.
destroy(Ctx) ->
    ?CHECKED(py_context_server:stop(Ctx), [{ctx, Ctx}]).

%% @doc Calls `Module.Function(*Args)'. Without an environment the module
%% `__main__' means the shared namespace of the context.
-spec call(py:context(), py:text(), py:text(), list()) -> py:result().
call(Ctx, Module, Function, Args) ->
    case is_list(Args) andalso ?IS_NAME(Module) andalso ?IS_NAME(Function) andalso py_direct:lane(Ctx) of
        Not when Not =:= false; Not =:= none ->
            ?RUN_CHECKED(py_context_request:call(undefined, Ctx, Module, Function, Args, #{}, infinity), [
                {ctx, Ctx}, {module, Module}, {function, Function}, {args, Args}
            ]);
        Lane ->
            py_request:plain_call({Ctx, Lane, undefined}, Module, Function, Args, infinity)
    end.

-spec call(py:context(), py:text(), py:text(), list(), map()) -> py:result().
call(Ctx, Module, Function, Args, Kwargs) ->
    case
        Kwargs =:= #{} andalso is_list(Args) andalso ?IS_NAME(Module) andalso ?IS_NAME(Function) andalso
            py_direct:lane(Ctx)
    of
        Not when Not =:= false; Not =:= none ->
            ?RUN_CHECKED(py_context_request:call(undefined, Ctx, Module, Function, Args, Kwargs, infinity), [
                {ctx, Ctx}, {module, Module}, {function, Function}, {args, Args}, {kwargs, Kwargs}
            ]);
        Lane ->
            py_request:plain_call({Ctx, Lane, undefined}, Module, Function, Args, infinity)
    end.

-spec call(py:context(), py:text(), py:text(), list(), map(), timeout() | py:opts()) ->
    py:result().
call(Ctx, Module, Function, Args, Kwargs, Options) ->
    ?RUN_CHECKED(py_context_request:call(undefined, Ctx, Module, Function, Args, Kwargs, Options), [
        {ctx, Ctx}, {module, Module}, {function, Function}, {args, Args}, {kwargs, Kwargs},
        {timeout_or_options, Options}
    ]).

-spec call(
    py:context(), py:text(), py:text(), list(), map(), timeout() | py:opts(), env() | undefined
) -> py:result().
call(Ctx, Module, Function, Args, Kwargs, Options, Env) ->
    ?CHECKED(py_context_request:in_env(Env, py_context_request:call(Env, Ctx, Module, Function, Args, Kwargs, Options)), [
        {ctx, Ctx}, {module, Module}, {function, Function}, {args, Args}, {kwargs, Kwargs},
        {timeout_or_options, Options}, {env, Env}
    ]).

%% @doc Evaluates one expression.
-spec eval(py:context(), py:text()) -> py:result().
eval(Ctx, Code) ->
    case ?IS_NAME(Code) andalso py_direct:lane(Ctx) of
        Not when Not =:= false; Not =:= none ->
            ?RUN_CHECKED(py_context_request:eval(undefined, Ctx, Code, #{}, infinity), [{ctx, Ctx}, {code, Code}]);
        Lane ->
            py_request:plain_eval({Ctx, Lane, undefined}, Code, infinity)
    end.

-spec eval(py:context(), py:text(), map()) -> py:result().
eval(Ctx, Code, Locals) ->
    ?RUN_CHECKED(py_context_request:eval(undefined, Ctx, Code, Locals, infinity), [
        {ctx, Ctx}, {code, Code}, {locals, Locals}
    ]).

-spec eval(py:context(), py:text(), map(), timeout() | py:opts()) -> py:result().
eval(Ctx, Code, Locals, Options) ->
    ?RUN_CHECKED(py_context_request:eval(undefined, Ctx, Code, Locals, Options), [
        {ctx, Ctx}, {code, Code}, {locals, Locals}, {timeout_or_options, Options}
    ]).

-spec eval(py:context(), py:text(), map(), timeout() | py:opts(), env() | undefined) ->
    py:result().
eval(Ctx, Code, Locals, Options, Env) ->
    ?CHECKED(py_context_request:in_env(Env, py_context_request:eval(Env, Ctx, Code, Locals, Options)), [
        {ctx, Ctx}, {code, Code}, {locals, Locals}, {timeout_or_options, Options}, {env, Env}
    ]).

%% @doc Executes statements.
-spec exec(py:context(), py:text()) -> ok | {error, term()}.
exec(Ctx, Code) ->
    ?RUN_CHECKED(py_context_request:exec(undefined, Ctx, Code), [{ctx, Ctx}, {code, Code}]).

-spec exec(py:context(), py:text(), env() | undefined) -> ok | {error, term()}.
exec(Ctx, Code, Env) ->
    ?CHECKED(py_context_request:in_env(Env, py_context_request:exec(Env, Ctx, Code)), [{ctx, Ctx}, {code, Code}, {env, Env}]).

%% @doc Makes a namespace for the functions here that take one. It ends when the
%% last reference to it is collected.
-spec create_local_env(py:context()) -> {ok, env()} | {error, term()}.
create_local_env(Ctx) ->
    ?RUN_CHECKED(py_context_request:on_lane(Ctx, fun(Lane) -> {ok, ep_nif:env_new(Lane)} end), [{ctx, Ctx}]).

%% @doc What the functions of {@link py_nif} that begin with `context_' take.
-spec get_nif_ref(py:context()) -> ctx_ref().
get_nif_ref(Ctx) ->
    case ?CHECKED(py_context_request:lane(Ctx), [{ctx, Ctx}]) of
        noproc -> ?FAIL({context_died, noproc}, {ctx, ["is no live context"]}, [{ctx, Ctx}]);
        Lane -> py_nif:context_ref(Ctx, Lane)
    end.

%% @doc A number that no other context of this node has or had.
-spec get_interp_id(py:context()) -> {ok, pos_integer()} | {error, {context_died, noproc}}.
get_interp_id(Ctx) ->
    case ?CHECKED(checked_info(Ctx), [{ctx, Ctx}]) of
        {ok, #{interp_id := Id}} -> {ok, Id};
        noproc -> {error, {context_died, noproc}}
    end.

%% @doc Whether the context has a sub-interpreter.
-spec is_subinterp(py:context()) -> boolean() | {error, {context_died, noproc}}.
is_subinterp(Ctx) ->
    case ?CHECKED(checked_info(Ctx), [{ctx, Ctx}]) of
        {ok, #{mode := Mode}} -> Mode =:= owngil;
        noproc -> {error, {context_died, noproc}}
    end.

%% @doc Raises KeyboardInterrupt in the request that runs, and in no other.
-spec interrupt(py:context()) -> ok | not_running.
interrupt(Ctx) when is_pid(Ctx), node(Ctx) =:= node() ->
    case py_context_table:lane(Ctx) of
        noproc -> not_running;
        Lane -> ep_nif:lane_interrupt(Lane, 0)
    end;
interrupt(Ctx) ->
    ?BADARG(arguments, [{ctx, Ctx}]).

%% Internal

start_new(Options) when is_map(Options) ->
    Mode = maps:get(mode, Options, worker),
    Mode =:= worker orelse Mode =:= owngil orelse
        py_error_info:refuse({options, ["has the mode ", {value, Mode}, ", which must be worker or owngil"]}),
    start_single(make_ref(), Mode, maps:remove(mode, Options));
start_new(_) ->
    py_error_info:refuse(arguments).

start_single(Id, Mode, Options) ->
    ok = py_error_info:ensure_started(),
    case py_context_server:settings(Mode, Options) of
        {ok, Settings} -> py_context_server:start_linked(Id, Settings);
        {error, Reason} -> {error, Reason}
    end.

checked_info(Ctx) when is_pid(Ctx), node(Ctx) =:= node() -> py_context_table:info(Ctx);
checked_info(_) -> py_error_info:refuse(arguments).
