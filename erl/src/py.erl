%% SPDX-License-Identifier: Apache-2.0

%% @doc Calls Python from Erlang.
%%
%% Python runs in worker processes of the operating system, so nothing that Python
%% code does can take the Erlang VM down. Every function here runs in the process
%% that calls it; none blocks a scheduler while Python runs.
%%
%% Results are `{ok, Value}' or `{error, Reason}'; misuse (wrong types, unknown
%% options) raises `badarg' in the caller before anything runs.
-module(py).

-export([call/3, call/4, call/5, eval/1, eval/2, eval/3, eval/4, exec/1, exec/2, exec/3]).
-export([parallel/1]).
-export([context/0, context/1, start_contexts/0, start_contexts/1, stop_contexts/0]).
-export([contexts_started/0]).
-export([version/0, execution_mode/0, subinterp_supported/0]).

-export_type([text/0, result/0, context/0, context_mode/0, opts/0]).

-type text() :: atom() | binary() | string().
-type result() :: {ok, term()} | {error, term()}.
-type context() :: pid().
-type context_mode() :: worker | owngil.
-type opts() :: #{timeout => timeout(), kwargs => map(), traceback => boolean()}.

-define(DEFAULT_MS, 30000).
-define(DEFAULTS, #{timeout => ?DEFAULT_MS, kwargs => #{}, flags => 0}).

%% @doc Calls `Module.Function(*Args)' in the context of the calling process.
-spec call(text(), text(), list()) -> result().
call(Module, Function, Args) when
    is_atom(Module), Module =/= '__main__', is_atom(Function), is_list(Args)
->
    %% The commonest form, and the one whose cost is measured: no namespace, no text.
    {_Ctx, Lane} = py_context_router:bound(),
    py_request:finish(
        py_nif:call(Lane, undefined, Module, Function, Args, #{}, 0), ?DEFAULT_MS
    );
call(Module, Function, Args) when is_list(Args) ->
    {Ctx, Lane} = py_context_router:bound(),
    py_request:call(Lane, env(Module, Ctx, Lane), Module, Function, Args, #{}, ?DEFAULTS);
call(_Module, _Function, _Args) ->
    error(badarg).

%% @doc With keyword arguments: `call(Module, Function, Args, Kwargs)'; or on a given
%% context: `call(Context, Module, Function, Args)'.
-spec call
    (text(), text(), list(), map()) -> result();
    (context(), text(), text(), list()) -> result().
call(Module, Function, Args, Kwargs) when is_list(Args), is_map(Kwargs) ->
    {Ctx, Lane} = py_context_router:bound(),
    py_request:call(Lane, env(Module, Ctx, Lane), Module, Function, Args, Kwargs, ?DEFAULTS);
call(Ctx, Module, Function, Args) when is_list(Args) ->
    call(Ctx, Module, Function, Args, infinity);
call(_, _, _, _) ->
    error(badarg).

%% @doc With a timeout in milliseconds or options.
-spec call
    (text(), text(), list(), map(), timeout() | opts()) -> result();
    (context(), text(), text(), list(), timeout() | opts()) -> result().
call(Module, Function, Args, Kwargs, Options) when is_list(Args), is_map(Kwargs) ->
    %% Two ways to give keyword arguments at once would be one too many.
    Checked = py_request:options(Options, #{timeout => ?DEFAULT_MS, traceback => false}),
    {Ctx, Lane} = py_context_router:bound(),
    py_request:call(Lane, env(Module, Ctx, Lane), Module, Function, Args, Kwargs, Checked);
call(Target, Module, Function, Args, Options) when is_list(Args) ->
    Checked = py_request:options(
        Options, #{timeout => infinity, kwargs => #{}, traceback => false}
    ),
    on_context(Target, fun(Ctx, Lane) ->
        Kwargs = maps:get(kwargs, Checked),
        py_request:call(Lane, env(Module, Ctx, Lane), Module, Function, Args, Kwargs, Checked)
    end);
call(_, _, _, _, _) ->
    error(badarg).

%% @doc Evaluates one Python expression in the namespace of the calling process.
-spec eval(text()) -> result().
eval(Code) ->
    eval(Code, #{}).

%% @doc With local variables; or on a given context.
-spec eval
    (text(), map()) -> result();
    (context(), text()) -> result().
eval(Code, Locals) when is_map(Locals) ->
    eval(Code, Locals, ?DEFAULT_MS);
eval(Target, Code) when is_pid(Target) ->
    eval(Target, Code, #{}, infinity);
eval(_, _) ->
    error(badarg).

%% @doc With a timeout or options; or on a given context with local variables.
-spec eval
    (text(), map(), timeout() | opts()) -> result();
    (context(), text(), map()) -> result().
eval(Target, Code, Locals) when is_pid(Target), is_map(Locals) ->
    eval(Target, Code, Locals, infinity);
eval(Code, Locals, Options) when is_map(Locals) ->
    Checked = py_request:options(Options, #{timeout => ?DEFAULT_MS, traceback => false}),
    {Ctx, Lane} = py_context_router:bound(),
    py_request:eval(Lane, env(Ctx, Lane), Code, Locals, Checked);
eval(_, _, _) ->
    error(badarg).

%% @doc On a given context, with local variables and a timeout or options.
-spec eval(context(), text(), map(), timeout() | opts()) -> result().
eval(Target, Code, Locals, Options) when is_map(Locals) ->
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false}),
    on_context(Target, fun(Ctx, Lane) ->
        py_request:eval(Lane, env(Ctx, Lane), Code, Locals, Checked)
    end);
eval(_, _, _, _) ->
    error(badarg).

%% @doc Executes Python statements in the namespace of the calling process.
-spec exec(text()) -> ok | {error, term()}.
exec(Code) ->
    exec(Code, #{}).

%% @doc With options; or on a given context.
-spec exec
    (text(), opts()) -> ok | {error, term()};
    (context(), text()) -> ok | {error, term()}.
exec(Code, Options) when is_map(Options) ->
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false}),
    {Ctx, Lane} = py_context_router:bound(),
    py_request:exec(Lane, env(Ctx, Lane), Code, Checked);
exec(Target, Code) ->
    exec(Target, Code, #{}).

%% @doc On a given context, with options.
-spec exec(context(), text(), opts()) -> ok | {error, term()}.
exec(Target, Code, Options) when is_map(Options) ->
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false}),
    on_context(Target, fun(Ctx, Lane) ->
        py_request:exec(Lane, env(Ctx, Lane), Code, Checked)
    end);
exec(_, _, _) ->
    error(badarg).

%% @doc Runs several calls at once, item i on context `((i - 1) rem N) + 1', with 30
%% seconds for each. The results are in the order of the items.
-spec parallel([{text(), text(), list()}]) -> {ok, [result()]}.
parallel(Calls) ->
    py_parallel:run(Calls, ?DEFAULT_MS).

%% @doc The context that the calling process is bound to; binds it.
-spec context() -> context().
context() ->
    py_context_router:get_context().

%% @doc Number N of the default pool, counted from 1.
-spec context(pos_integer()) -> context().
context(N) ->
    py_context_router:get_context(N).

%% @doc Starts the default pool, if it is not running.
-spec start_contexts() -> {ok, [context()]} | {error, term()}.
start_contexts() ->
    py_context_router:start().

%% @doc The same with `contexts', `mode', `num_workers' and `kill_after'.
-spec start_contexts(map()) -> {ok, [context()]} | {error, term()}.
start_contexts(Options) ->
    py_context_router:start(Options).

%% @doc Stops the default pool.
-spec stop_contexts() -> ok.
stop_contexts() ->
    py_context_router:stop().

-spec contexts_started() -> boolean().
contexts_started() ->
    py_context_router:is_started().

%% @doc Python's `sys.version'.
-spec version() -> {ok, binary()} | {error, term()}.
version() ->
    eval(<<"__import__('sys').version">>).

%% @doc The mode of the default pool; on a free-threaded Python always `worker'.
-spec execution_mode() -> context_mode().
execution_mode() ->
    case py_python:info() of
        #{free_threaded := true} -> worker;
        _ -> py_config:context_mode()
    end.

%% @doc Whether the Python in use has sub-interpreters with a GIL of their own (3.12).
-spec subinterp_supported() -> boolean().
subinterp_supported() ->
    maps:get(owngil, py_python:info()).

%% Internal

%% Only `__main__' looks into a namespace, so other calls do not make one.
env('__main__', Ctx, Lane) -> env(Ctx, Lane);
env(<<"__main__">>, Ctx, Lane) -> env(Ctx, Lane);
env("__main__", Ctx, Lane) -> env(Ctx, Lane);
env(Text, Ctx, Lane) when is_list(Text) -> env(py_request:text(Text), Ctx, Lane);
env(_Module, _Ctx, _Lane) -> undefined.

env(Ctx, Lane) ->
    py_context:process_env(Ctx, Lane).

on_context(Target, Fun) ->
    case py_context_router:target(Target) of
        {Ctx, Lane} -> Fun(Ctx, Lane);
        noproc -> {error, {context_died, noproc}}
    end.
