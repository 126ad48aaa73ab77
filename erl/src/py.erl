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

-export([call/3, call/4, call/5, call/6, eval/1, eval/2, eval/3, eval/4, exec/1, exec/2, exec/3]).
-export([parallel/1, cast/3, cast/4, cast/5, spawn_call/3, spawn_call/4, spawn_call/5]).
-export([await/1, await/2]).
-export([context/0, context/1, start_contexts/0, start_contexts/1, stop_contexts/0]).
-export([contexts_started/0, register_pool/2, unregister_pool/1]).
-export([register_function/2, register_function/3, unregister_function/1, interrupt/1]).
-export([state_fetch/1, state_store/2, state_incr/1, state_incr/2, state_decr/1, state_decr/2]).
-export([state_remove/1, state_keys/0, state_clear/0, get_local_env/1]).
-export([stats/0, memory_stats/0, memory_stats/1, gc/0, gc/1, gc/2]).
-export([tracemalloc_start/0, tracemalloc_start/1, tracemalloc_stop/0]).
-export([version/0, execution_mode/0, subinterp_supported/0]).

-export_type([text/0, result/0, context/0, context_mode/0, pool_name/0, target/0, opts/0]).

-type text() :: atom() | binary() | string().
-type result() :: {ok, term()} | {error, term()}.
-type context() :: pid().
-type context_mode() :: worker | owngil.
-type pool_name() :: atom().
-type target() :: context() | pool_name().
-type opts() :: #{
    timeout => timeout(), kwargs => map(), traceback => boolean(), arrays => lists
}.

-define(DEFAULT_MS, 30000).
-define(DEFAULTS, #{timeout => ?DEFAULT_MS, kwargs => #{}, flags => 0}).
-define(IS_TARGET(T), is_pid(T) orelse is_atom(T)).

%% --- requests -------------------------------------------------------------------------

%% @doc Calls `Module.Function(*Args)' in the context of the calling process.
-spec call(text(), text(), list()) -> result().
call(Module, Function, Args) when is_list(Args) ->
    case py_context_router:cached() of
        none ->
            Route = py_context_router:route(Module, Function),
            py_request:call(Route, Module, Function, Args, #{}, ?DEFAULTS);
        Route ->
            py_request:call(Route, Module, Function, Args)
    end;
call(_Module, _Function, _Args) ->
    error(badarg).

%% @doc With keyword arguments: `call(Module, Function, Args, Kwargs)'; or on a given
%% context or pool: `call(Target, Module, Function, Args)'.
-spec call
    (text(), text(), list(), map()) -> result();
    (target(), text(), text(), list()) -> result().
call(Module, Function, Args, Kwargs) when is_list(Args), is_map(Kwargs) ->
    Route = py_context_router:route(Module, Function),
    py_request:call(Route, Module, Function, Args, Kwargs, ?DEFAULTS);
call(Target, Module, Function, Args) when ?IS_TARGET(Target), is_list(Args) ->
    call_on(Target, Module, Function, Args, #{}, defaults(Target));
call(_, _, _, _) ->
    error(badarg).

%% @doc With a timeout in milliseconds or options; on a given context with options; on
%% a given pool with keyword arguments.
-spec call
    (text(), text(), list(), map(), timeout() | opts()) -> result();
    (context(), text(), text(), list(), timeout() | opts()) -> result();
    (pool_name(), text(), text(), list(), map()) -> result().
call(Module, Function, Args, Kwargs, Options) when is_list(Args), is_map(Kwargs) ->
    %% Two ways to give keyword arguments at once would be one too many.
    Checked = py_request:options(Options, #{timeout => ?DEFAULT_MS, traceback => false, arrays => lists}),
    Route = py_context_router:route(Module, Function),
    py_request:call(Route, Module, Function, Args, Kwargs, Checked);
call(Ctx, Module, Function, Args, Options) when is_pid(Ctx), is_list(Args) ->
    Allowed = #{timeout => infinity, kwargs => #{}, traceback => false, arrays => lists},
    Checked = py_request:options(Options, Allowed),
    call_on(Ctx, Module, Function, Args, maps:get(kwargs, Checked), Checked);
call(Pool, Module, Function, Args, Kwargs) when is_atom(Pool), is_list(Args), is_map(Kwargs) ->
    call_on(Pool, Module, Function, Args, Kwargs, defaults(Pool));
call(_, _, _, _, _) ->
    error(badarg).

%% @doc On a given context or pool, with keyword arguments and a timeout or options.
-spec call(target(), text(), text(), list(), map(), timeout() | opts()) -> result().
call(Target, Module, Function, Args, Kwargs, Options) when
    ?IS_TARGET(Target), is_list(Args), is_map(Kwargs)
->
    Allowed = #{timeout => default_timeout(Target), traceback => false, arrays => lists},
    call_on(Target, Module, Function, Args, Kwargs, py_request:options(Options, Allowed));
call(_, _, _, _, _, _) ->
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
eval(Ctx, Code) when is_pid(Ctx) ->
    eval(Ctx, Code, #{}, infinity);
eval(_, _) ->
    error(badarg).

%% @doc With a timeout or options; or on a given context with local variables.
-spec eval
    (text(), map(), timeout() | opts()) -> result();
    (context(), text(), map()) -> result().
eval(Ctx, Code, Locals) when is_pid(Ctx), is_map(Locals) ->
    eval(Ctx, Code, Locals, infinity);
eval(Code, Locals, Options) when is_map(Locals) ->
    Checked = py_request:options(Options, #{timeout => ?DEFAULT_MS, traceback => false, arrays => lists}),
    py_request:eval(py_context_router:bound(), Code, Locals, Checked);
eval(_, _, _) ->
    error(badarg).

%% @doc On a given context, with local variables and a timeout or options.
-spec eval(context(), text(), map(), timeout() | opts()) -> result().
eval(Ctx, Code, Locals, Options) when is_pid(Ctx), is_map(Locals) ->
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false, arrays => lists}),
    on(Ctx, fun(Route) -> py_request:eval(Route, Code, Locals, Checked) end);
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
    py_request:exec(py_context_router:bound(), Code, Checked);
exec(Ctx, Code) ->
    exec(Ctx, Code, #{}).

%% @doc On a given context, with options.
-spec exec(context(), text(), opts()) -> ok | {error, term()}.
exec(Ctx, Code, Options) when is_pid(Ctx), is_map(Options) ->
    Checked = py_request:options(Options, #{timeout => infinity, traceback => false}),
    on(Ctx, fun(Route) -> py_request:exec(Route, Code, Checked) end);
exec(_, _, _) ->
    error(badarg).

%% @doc Runs several calls at once, item i on context `((i - 1) rem N) + 1', with 30
%% seconds for each. The results are in the order of the items.
-spec parallel([{text(), text(), list()}]) -> {ok, [result()]}.
parallel(Calls) ->
    py_parallel:run(Calls, ?DEFAULT_MS).

%% @doc Starts a call whose result nobody waits for. Casts of one process to one
%% context run in the order they were made, also when the process ends meanwhile.
%% Errors are logged at level debug.
-spec cast(text(), text(), list()) -> ok.
cast(Module, Function, Args) ->
    async(fun py_async:cast/6, implicit, Module, Function, Args, #{}).

-spec cast
    (text(), text(), list(), map()) -> ok;
    (target(), text(), text(), list()) -> ok.
cast(Module, Function, Args, Kwargs) when is_map(Kwargs) ->
    async(fun py_async:cast/6, implicit, Module, Function, Args, Kwargs);
cast(Target, Module, Function, Args) ->
    async(fun py_async:cast/6, {on, Target}, Module, Function, Args, #{}).

-spec cast(target(), text(), text(), list(), map()) -> ok.
cast(Target, Module, Function, Args, Kwargs) ->
    async(fun py_async:cast/6, {on, Target}, Module, Function, Args, Kwargs).

%% @doc Starts a call; its result comes to the calling process as the message
%% `{py_response, Ref, Result}', which {@link await/1} takes. The death of the
%% calling process cancels it.
-spec spawn_call(text(), text(), list()) -> reference().
spawn_call(Module, Function, Args) ->
    async(fun py_async:spawn_call/6, implicit, Module, Function, Args, #{}).

-spec spawn_call
    (text(), text(), list(), map()) -> reference();
    (target(), text(), text(), list()) -> reference().
spawn_call(Module, Function, Args, Kwargs) when is_map(Kwargs) ->
    async(fun py_async:spawn_call/6, implicit, Module, Function, Args, Kwargs);
spawn_call(Target, Module, Function, Args) ->
    async(fun py_async:spawn_call/6, {on, Target}, Module, Function, Args, #{}).

-spec spawn_call(target(), text(), text(), list(), map()) -> reference().
spawn_call(Target, Module, Function, Args, Kwargs) ->
    async(fun py_async:spawn_call/6, {on, Target}, Module, Function, Args, Kwargs).

%% @doc The result of {@link spawn_call/3}.
-spec await(reference()) -> result().
await(Ref) ->
    await(Ref, ?DEFAULT_MS).

%% @doc `{error, timeout}' ends the waiting, not the call: it may be awaited again.
-spec await(reference(), timeout()) -> result().
await(Ref, Timeout) when is_reference(Ref), not is_map(Timeout) ->
    #{timeout := Checked} = py_request:options(Timeout, #{timeout => infinity}),
    py_async:await(Ref, Checked);
await(_, _) ->
    error(badarg).

%% --- contexts and pools ---------------------------------------------------------------

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

%% @doc Sends calls of a module, or of one of its functions, to a pool that runs.
-spec register_pool(pool_name(), text() | {text(), text()}) -> ok.
register_pool(Pool, {Module, Function}) ->
    py_context_router:register_pool(Pool, Module, Function);
register_pool(Pool, Module) ->
    py_context_router:register_pool(Pool, Module).

%% @doc Ends such a registration.
-spec unregister_pool(text() | {text(), text()}) -> ok.
unregister_pool({Module, Function}) ->
    py_context_router:unregister_pool(Module, Function);
unregister_pool(Module) ->
    py_context_router:unregister_pool(Module).

%% --- callbacks and shared state -------------------------------------------------------

%% @doc Lets Python call an Erlang function by that name: `erlang.call(Name, ...)' or
%% `erlang.Name(...)'. It gets the list of the arguments, and runs in the process that
%% waits for Python. Registering again replaces.
-spec register_function(text(), fun((list()) -> term())) -> ok.
register_function(Name, Fun) when is_function(Fun, 1) ->
    py_callback:register(Name, Fun);
register_function(_, _) ->
    error(badarg).

%% @doc The same for `Module:Function/1'.
-spec register_function(text(), module(), atom()) -> ok.
register_function(Name, Module, Function) ->
    py_callback:register(Name, {Module, Function}).

-spec unregister_function(text()) -> ok.
unregister_function(Name) ->
    py_callback:unregister(Name).

-spec state_fetch(term()) -> {ok, term()} | {error, not_found}.
state_fetch(Key) ->
    py_state:fetch(Key).

-spec state_store(term(), term()) -> ok | {error, full}.
state_store(Key, Value) ->
    py_state:store(Key, Value).

-spec state_incr(term()) -> integer() | {error, full}.
state_incr(Key) ->
    py_state:incr(Key).

-spec state_incr(term(), integer()) -> integer() | {error, full}.
state_incr(Key, N) ->
    py_state:incr(Key, N).

-spec state_decr(term()) -> integer() | {error, full}.
state_decr(Key) ->
    py_state:decr(Key).

-spec state_decr(term(), integer()) -> integer() | {error, full}.
state_decr(Key, N) ->
    py_state:decr(Key, N).

-spec state_remove(term()) -> ok.
state_remove(Key) ->
    py_state:remove(Key).

-spec state_keys() -> [term()].
state_keys() ->
    py_state:keys().

-spec state_clear() -> ok.
state_clear() ->
    py_state:clear().

%% @doc The namespace of the calling process on a context; made if it has none.
-spec get_local_env(context()) -> py_nif:env().
get_local_env(Ctx) when is_pid(Ctx) ->
    case py_context_router:target(Ctx) of
        {Ctx, _Lane, Env} -> Env;
        noproc -> error({context_died, noproc})
    end;
get_local_env(_) ->
    error(badarg).

%% @doc Raises KeyboardInterrupt in the request that runs on a context; its caller gets
%% `{error, interrupted}' unless Python handles it. Never hits a later request.
-spec interrupt(context()) -> ok | not_running.
interrupt(Ctx) when is_pid(Ctx) ->
    py_context:interrupt(Ctx);
interrupt(_) ->
    error(badarg).

%% --- information ----------------------------------------------------------------------

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

%% @doc Calls, errors, restarts, queues and latencies of all contexts; the limit; shared
%% memory. Never waits for Python.
-spec stats() -> map().
stats() ->
    py_stats:get().

%% @doc Python's garbage collector and traced memory, over all interpreters and for each
%% context.
-spec memory_stats() -> {ok, map()}.
memory_stats() ->
    py_maintenance:memory_stats().

-spec memory_stats(context()) -> {ok, map()} | {error, term()}.
memory_stats(Ctx) when is_pid(Ctx) ->
    py_maintenance:memory_stats(Ctx);
memory_stats(_) ->
    error(badarg).

%% @doc Runs Python's garbage collector in every interpreter, beside the requests there.
-spec gc() -> {ok, non_neg_integer()}.
gc() ->
    py_maintenance:gc(2).

-spec gc(0..2 | context()) -> {ok, non_neg_integer()} | {error, term()}.
gc(Generation) when is_integer(Generation), Generation >= 0, Generation =< 2 ->
    py_maintenance:gc(Generation);
gc(Ctx) when is_pid(Ctx) ->
    py_maintenance:gc(Ctx, 2);
gc(_) ->
    error(badarg).

-spec gc(context(), 0..2) -> {ok, non_neg_integer()} | {error, term()}.
gc(Ctx, Generation) when
    is_pid(Ctx), is_integer(Generation), Generation >= 0, Generation =< 2
->
    py_maintenance:gc(Ctx, Generation);
gc(_, _) ->
    error(badarg).

%% @doc Traces memory in all contexts, and in those started before the stop.
-spec tracemalloc_start() -> ok.
tracemalloc_start() ->
    tracemalloc_start(1).

-spec tracemalloc_start(pos_integer()) -> ok.
tracemalloc_start(Frames) when is_integer(Frames), Frames > 0, Frames =< 65535 ->
    py_maintenance:tracemalloc_start(Frames);
tracemalloc_start(_) ->
    error(badarg).

-spec tracemalloc_stop() -> ok.
tracemalloc_stop() ->
    py_maintenance:tracemalloc_stop().

%% --- internal -------------------------------------------------------------------------

defaults(Target) ->
    #{timeout => default_timeout(Target), kwargs => #{}, flags => 0}.

default_timeout(Target) when is_pid(Target) -> infinity;
default_timeout(_Pool) -> ?DEFAULT_MS.

call_on(Target, Module, Function, Args, Kwargs, Options) ->
    on(Target, fun(Route) ->
        py_request:call(Route, Module, Function, Args, Kwargs, Options)
    end).

on(Target, Fun) ->
    case py_context_router:target(Target) of
        noproc -> {error, {context_died, noproc}};
        Route -> Fun(Route)
    end.

%% Whatever can be wrong is found here, in the caller.
async(Start, How, Module, Function, Args, Kwargs) when is_list(Args), is_map(Kwargs) ->
    Names = {py_request:text(Module), py_request:text(Function)},
    {Route, Options} = async_route(How, Names),
    Start(Route, element(1, Names), element(2, Names), Args, Kwargs, Options);
async(_Start, _How, _Module, _Function, _Args, _Kwargs) ->
    error(badarg).

async_route(implicit, {Module, Function}) ->
    {py_context_router:route(Module, Function), ?DEFAULTS};
async_route({on, Target}, _Names) ->
    {py_context_router:target(Target), defaults(Target)}.
