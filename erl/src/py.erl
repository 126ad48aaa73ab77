%% SPDX-License-Identifier: Apache-2.0

%% @doc Calls Python from Erlang.
%%
%% Python runs in worker processes of the operating system, so nothing that Python
%% code does can take the Erlang VM down. Every function here runs in the process
%% that calls it; none blocks a scheduler while Python runs.
%%
%% Results are `{ok, Value}' or `{error, Reason}'; misuse (wrong types, unknown
%% options) raises `badarg' in the caller before anything runs, with a text (EEP 54) that
%% names the argument and what is wrong with it.
-module(py).

-include("py_limits.hrl").
-include("py_misuse.hrl").
-include("py_objects.hrl").

-export([call/3, call/4, call/5, call/6, eval/1, eval/2, eval/3, eval/4, exec/1, exec/2, exec/3]).
-export([parallel/1, cast/3, cast/4, cast/5, spawn_call/3, spawn_call/4, spawn_call/5]).
-export([await/1, await/2]).
-export([async_call/3, async_call/4, async_await/1, async_await/2, async_gather/1, async_gather/2]).
-export([stream/3, stream/4, stream_eval/1, stream_eval/2, stream_start/3, stream_start/4]).
-export([stream_ack/1, stream_ack/2, stream_cancel/1]).
-export([context/0, context/1, start_contexts/0, start_contexts/1, stop_contexts/0]).
-export([contexts_started/0, register_pool/2, unregister_pool/1]).
-export([register_function/2, register_function/3, unregister_function/1, interrupt/1]).
-export([state_fetch/1, state_store/2, state_incr/1, state_incr/2, state_decr/1, state_decr/2]).
-export([state_remove/1, state_keys/0, state_clear/0, get_local_env/1]).
-export([shared_dict_new/0, shared_dict_get/2, shared_dict_get/3, shared_dict_set/3]).
-export([shared_dict_del/2, shared_dict_keys/1, shared_dict_destroy/1]).
-export([stats/0, memory_stats/0, memory_stats/1, gc/0, gc/1, gc/2]).
-export([tracemalloc_start/0, tracemalloc_start/1, tracemalloc_stop/0, reload/1]).
-export([ensure_venv/2, ensure_venv/3, activate_venv/1, deactivate_venv/0, venv_info/0]).
-export([version/0, execution_mode/0, subinterp_supported/0]).

-export_type([text/0, result/0, context/0, context_mode/0, pool_name/0, target/0, opts/0]).

-type text() :: atom() | binary() | string().
-type result() :: {ok, term()} | {error, term()}.
-type context() :: pid().
-type context_mode() :: worker | owngil.
-type pool_name() :: atom().
-type target() :: context() | pool_name().
-type opts() :: #{
    timeout => timeout(),
    kwargs => map(),
    traceback => boolean(),
    arrays => lists | shared,
    none => none | nil | undefined,
    error_text => list | binary
}.

%% Arguments of functions, for what is said of a bad one.
-define(MFA, {module, Module}, {function, Function}, {args, Args}).
-define(TARGET_MFA, {target, Target}, {module, Module}, {function, Function}, {args_of_target, Args}).

%% --- requests -------------------------------------------------------------------------

%% @doc Calls `Module.Function(*Args)' in the context of the calling process.
-spec call(text(), text(), list()) -> result().
call(Module, Function, Args) ->
    %% The commonest form, and the one whose cost is measured: nothing is left to be checked.
    case
        is_list(Args) andalso ?IS_NAME(Module) andalso ?IS_NAME(Function) andalso
            py_context_router:cached()
    of
        Cached when is_tuple(Cached) ->
            py_request:plain_call(Cached, Module, Function, Args, ?DEFAULT_MS);
        _ ->
            ?CHECKED_THEN(
                py_arguments:implicit_call(Module, Function, Args, #{}),
                Route,
                py_request:call(Route, Module, Function, Args, #{}, ?PLAIN(?DEFAULT_MS)),
                [?MFA]
            )
    end.

%% @doc With keyword arguments: `call(Module, Function, Args, Kwargs)'; or on a given
%% context or pool: `call(Target, Module, Function, Args)'.
-spec call
    (text(), text(), list(), map()) -> result();
    (target(), text(), text(), list()) -> result().
call(Target, Module, Function, Args) when is_list(Args) ->
    case
        is_pid(Target) andalso ?IS_NAME(Module) andalso ?IS_NAME(Function) andalso
            py_direct:route(Target)
    of
        Route when is_tuple(Route) ->
            py_request:plain_call(Route, Module, Function, Args, infinity);
        _ ->
            Defaults = py_arguments:defaults(Target),
            ?RUN_CHECKED(py_arguments:call_on(Target, Module, Function, Args, #{}, Defaults), [?TARGET_MFA])
    end;
call(Module, Function, Args, Kwargs) ->
    ?CHECKED_THEN(
        py_arguments:implicit_call(Module, Function, Args, Kwargs),
        Route,
        py_request:call(Route, Module, Function, Args, Kwargs, ?PLAIN(?DEFAULT_MS)),
        [?MFA, {kwargs, Kwargs}]
    ).

%% @doc With a timeout in milliseconds or options; on a given context with options; on
%% a given pool with keyword arguments.
-spec call
    (text(), text(), list(), map(), timeout() | opts()) -> result();
    (context(), text(), text(), list(), timeout() | opts()) -> result();
    (pool_name(), text(), text(), list(), map()) -> result().
call(Ctx, Module, Function, Args, Options) when is_pid(Ctx) ->
    ?RUN_CHECKED(py_arguments:call_with(Ctx, Module, Function, Args, Options), [
        {ctx, Ctx}, ?MFA, {timeout_or_options, Options}
    ]);
call(Pool, Module, Function, Args, Kwargs) when
    is_list(Args), not is_integer(Kwargs), Kwargs =/= infinity
->
    ?RUN_CHECKED(py_arguments:call_on(Pool, Module, Function, Args, Kwargs, py_arguments:defaults(Pool)), [
        {target, Pool}, {module, Module}, {function, Function}, {args_of_target, Args}, {kwargs, Kwargs}
    ]);
call(Module, Function, Args, Kwargs, Options) ->
    %% Two ways to give keyword arguments at once would be one too many.
    ?CHECKED_THEN(
        {
            py_options:call(Options, ?DEFAULT_MS),
            py_arguments:implicit_call(Module, Function, Args, Kwargs)
        },
        {Checked, Route},
        py_request:call(Route, Module, Function, Args, Kwargs, Checked),
        [?MFA, {kwargs, Kwargs}, {timeout_or_options, Options}]
    ).

%% @doc On a given context or pool, with keyword arguments and a timeout or options.
-spec call(target(), text(), text(), list(), map(), timeout() | opts()) -> result().
call(Target, Module, Function, Args, Kwargs, Options) ->
    ?RUN_CHECKED(
        py_arguments:call_on(
            Target, Module, Function, Args, Kwargs,
            py_options:call(Options, py_arguments:default_timeout(Target))
        ),
        [{target, Target}, ?MFA, {kwargs, Kwargs}, {timeout_or_options, Options}]
    ).

%% @doc Evaluates one Python expression in the namespace of the calling process.
-spec eval(text()) -> result().
eval(Code) ->
    case ?IS_NAME(Code) andalso py_context_router:cached() of
        Cached when is_tuple(Cached) ->
            py_request:plain_eval(Cached, Code, ?DEFAULT_MS);
        _ ->
            ?RUN_CHECKED(py_arguments:to_eval(Code, #{}, ?DEFAULT_MS), [{code, Code}])
    end.

%% @doc With local variables; or on a given context or pool.
-spec eval
    (text(), map()) -> result();
    (target(), text()) -> result().
eval(Ctx, Code) when is_pid(Ctx) ->
    case ?IS_NAME(Code) andalso py_direct:route(Ctx) of
        Route when is_tuple(Route) -> py_request:plain_eval(Route, Code, infinity);
        _ -> ?RUN_CHECKED(py_arguments:eval_on(Ctx, Code, #{}, infinity), [{ctx, Ctx}, {code, Code}])
    end;
eval(Pool, Code) when ?IS_POOL(Pool, Code) ->
    ?RUN_CHECKED(py_arguments:eval_on(Pool, Code, #{}, ?DEFAULT_MS), [{target, Pool}, {code, Code}]);
eval(Code, Locals) ->
    ?RUN_CHECKED(py_arguments:to_eval(Code, Locals, ?DEFAULT_MS), [{code, Code}, {locals_or_code, Locals}]).

%% @doc With a timeout or options; or on a given context or pool with local variables.
-spec eval
    (text(), map(), timeout() | opts()) -> result();
    (target(), text(), map()) -> result().
eval(Target, Code, Locals) when is_pid(Target); ?IS_POOL(Target, Code) ->
    ?RUN_CHECKED(py_arguments:eval_on(Target, Code, Locals, py_arguments:default_timeout(Target)), [
        {role(Target), Target}, {code, Code}, {locals, Locals}
    ]);
eval(Code, Locals, Options) ->
    ?RUN_CHECKED(py_arguments:to_eval(Code, Locals, Options), [
        {code, Code}, {locals_or_code, Locals}, {timeout_or_options, Options}
    ]).

%% @doc On a given context or pool, with local variables and a timeout or options.
-spec eval(target(), text(), map(), timeout() | opts()) -> result().
eval(Target, Code, Locals, Options) ->
    ?RUN_CHECKED(py_arguments:eval_on(Target, Code, Locals, Options), [
        {role(Target), Target}, {code, Code}, {locals, Locals}, {timeout_or_options, Options}
    ]).

%% @doc Executes Python statements in the namespace of the calling process.
-spec exec(text()) -> ok | {error, term()}.
exec(Code) ->
    ?RUN_CHECKED(py_arguments:to_exec(Code, #{}), [{code, Code}]).

%% @doc With options; or on a given context or pool.
-spec exec
    (text(), opts()) -> ok | {error, term()};
    (target(), text()) -> ok | {error, term()}.
exec(Target, Code) when is_pid(Target); ?IS_POOL(Target, Code) ->
    ?RUN_CHECKED(py_arguments:exec_on(Target, Code, #{}), [{role(Target), Target}, {code, Code}]);
exec(Code, Options) ->
    ?RUN_CHECKED(py_arguments:to_exec(Code, Options), [{code, Code}, {options_or_code, Options}]).

%% @doc On a given context or pool, with options.
-spec exec(target(), text(), opts()) -> ok | {error, term()}.
exec(Target, Code, Options) ->
    ?RUN_CHECKED(py_arguments:exec_on(Target, Code, Options), [
        {role(Target), Target}, {code, Code}, {options, Options}
    ]).

%% @doc Runs several calls at once, item i on context `((i - 1) rem N) + 1', with 30
%% seconds for each. The results are in the order of the items.
-spec parallel([{text(), text(), list()}]) -> {ok, [result()]}.
parallel(Calls) ->
    ?CHECKED(py_parallel:run(Calls, ?DEFAULT_MS), [{calls, Calls}]).

%% @doc Starts a call whose result nobody waits for. Casts of one process to one
%% context run in the order they were made, also when the process ends meanwhile.
%% Errors are logged at level debug.
-spec cast(text(), text(), list()) -> ok.
cast(Module, Function, Args) ->
    ?CHECKED(py_arguments:async(fun py_async:cast/6, implicit, Module, Function, Args, #{}), [?MFA]).

-spec cast
    (text(), text(), list(), map()) -> ok;
    (target(), text(), text(), list()) -> ok.
cast(Target, Module, Function, Args) when is_list(Args) ->
    ?CHECKED(py_arguments:async(fun py_async:cast/6, {on, Target}, Module, Function, Args, #{}), [
        ?TARGET_MFA
    ]);
cast(Module, Function, Args, Kwargs) ->
    ?CHECKED(py_arguments:async(fun py_async:cast/6, implicit, Module, Function, Args, Kwargs), [
        ?MFA, {kwargs, Kwargs}
    ]).

-spec cast(target(), text(), text(), list(), map()) -> ok.
cast(Target, Module, Function, Args, Kwargs) ->
    ?CHECKED(py_arguments:async(fun py_async:cast/6, {on, Target}, Module, Function, Args, Kwargs), [
        {target, Target}, ?MFA, {kwargs, Kwargs}
    ]).

%% @doc Starts a call; its result comes to the calling process as the message
%% `{py_response, Ref, Result}', which {@link await/1} takes. The death of the
%% calling process cancels it.
-spec spawn_call(text(), text(), list()) -> reference().
spawn_call(Module, Function, Args) ->
    ?CHECKED(py_arguments:async(fun py_async:spawn_call/6, implicit, Module, Function, Args, #{}), [?MFA]).

-spec spawn_call
    (text(), text(), list(), map()) -> reference();
    (target(), text(), text(), list()) -> reference().
spawn_call(Target, Module, Function, Args) when is_list(Args) ->
    ?CHECKED(py_arguments:async(fun py_async:spawn_call/6, {on, Target}, Module, Function, Args, #{}), [
        ?TARGET_MFA
    ]);
spawn_call(Module, Function, Args, Kwargs) ->
    ?CHECKED(py_arguments:async(fun py_async:spawn_call/6, implicit, Module, Function, Args, Kwargs), [
        ?MFA, {kwargs, Kwargs}
    ]).

-spec spawn_call(target(), text(), text(), list(), map()) -> reference().
spawn_call(Target, Module, Function, Args, Kwargs) ->
    ?CHECKED(py_arguments:async(fun py_async:spawn_call/6, {on, Target}, Module, Function, Args, Kwargs), [
        {target, Target}, ?MFA, {kwargs, Kwargs}
    ]).

%% @doc The result of {@link spawn_call/3}.
-spec await(reference()) -> result().
await(Ref) ->
    ?RUN_CHECKED(py_arguments:to_await(Ref, ?DEFAULT_MS), [{ref, Ref}]).

%% @doc `{error, timeout}' ends the waiting, not the call: it may be awaited again.
-spec await(reference(), timeout()) -> result().
await(Ref, Timeout) ->
    ?RUN_CHECKED(py_arguments:to_await(Ref, Timeout), [{ref, Ref}, {timeout, Timeout}]).

%% @doc Starts a task on the event loop of the context's interpreter, as
%% {@link py_event_loop:create_task/3}. The result comes as `{async_result, Ref, Result}'.
-spec async_call(text(), text(), list()) -> reference().
async_call(Module, Function, Args) ->
    ?DELEGATED(py_event_loop:create_task(Module, Function, Args), [Module, Function, Args]).

-spec async_call(text(), text(), list(), map()) -> reference().
async_call(Module, Function, Args, Kwargs) ->
    ?DELEGATED(py_event_loop:create_task(Module, Function, Args, Kwargs), [Module, Function, Args, Kwargs]).

%% @doc The result of {@link async_call/3}.
-spec async_await(reference()) -> result().
async_await(Ref) ->
    ?DELEGATED(py_event_loop:await(Ref, ?DEFAULT_MS), [Ref]).

%% @doc `{error, timeout}' ends the waiting, not the task: it may be awaited again.
-spec async_await(reference(), timeout()) -> result().
async_await(Ref, Timeout) ->
    ?DELEGATED(py_event_loop:await(Ref, Timeout), [Ref, Timeout]).

%% @doc Several tasks at once, with 30 seconds for each: all values, or all failures with the
%% numbers of the calls, from 1.
-spec async_gather([{text(), text(), list()}]) ->
    {ok, [term()]} | {error, {gather_failed, [{pos_integer(), term()}]}}.
async_gather(Calls) ->
    ?RUN_CHECKED(py_event_loop:to_gather(Calls, ?DEFAULT_MS), [{calls, Calls}]).

%% @doc A task that has not ended at its timeout is cancelled.
-spec async_gather([{text(), text(), list()}], timeout()) ->
    {ok, [term()]} | {error, {gather_failed, [{pos_integer(), term()}]}}.
async_gather(Calls, Timeout) ->
    ?RUN_CHECKED(py_event_loop:to_gather(Calls, Timeout), [{calls, Calls}, {timeout, Timeout}]).

%% --- streams --------------------------------------------------------------------------

%% @doc All items of the iterable that `Module.Function(*Args)' returns: a generator, a list, a
%% file. Between two items pass at most 30 seconds.
-spec stream(text(), text(), list()) -> {ok, [term()]} | {error, term()}.
stream(Module, Function, Args) ->
    ?RUN_CHECKED(py_arguments:to_stream({call, Module, Function, Args, #{}}), [?MFA]).

-spec stream(text(), text(), list(), map()) -> {ok, [term()]} | {error, term()}.
stream(Module, Function, Args, Kwargs) ->
    ?RUN_CHECKED(py_arguments:to_stream({call, Module, Function, Args, Kwargs}), [?MFA, {kwargs, Kwargs}]).

%% @doc The same for the value of an expression.
-spec stream_eval(text()) -> {ok, [term()]} | {error, term()}.
stream_eval(Code) ->
    ?RUN_CHECKED(py_arguments:to_stream({eval, Code, #{}}), [{code, Code}]).

-spec stream_eval(text(), map()) -> {ok, [term()]} | {error, term()}.
stream_eval(Code, Locals) ->
    ?RUN_CHECKED(py_arguments:to_stream({eval, Code, Locals}), [{code, Code}, {locals, Locals}]).

%% @doc Has the items sent to the calling process: `{py_stream, Ref, {data, Item}}' for each, then
%% one of `{py_stream, Ref, done}' and `{py_stream, Ref, {error, Reason}}'.
-spec stream_start(text(), text(), list()) -> {ok, reference()}.
stream_start(Module, Function, Args) ->
    ?CHECKED(py_arguments:start_stream(Module, Function, Args, #{}), [?MFA]).

%% @doc Options: `owner', the process that gets the items; `credit', how many of them it may leave
%% unacknowledged ({@link stream_ack/2}); `kwargs'.
-spec stream_start(text(), text(), list(), map()) -> {ok, reference()}.
stream_start(Module, Function, Args, Options) ->
    ?CHECKED(py_arguments:start_stream(Module, Function, Args, Options), [?MFA, {options, Options}]).

%% @doc Gives one credit back.
-spec stream_ack(reference()) -> ok.
stream_ack(Ref) when is_reference(Ref) ->
    py_stream_sender:ack(Ref, 1);
stream_ack(Ref) ->
    ?BADARG(arguments, [{ref, Ref}]).

-spec stream_ack(reference(), pos_integer()) -> ok.
stream_ack(Ref, N) when is_reference(Ref), is_integer(N), N > 0 ->
    py_stream_sender:ack(Ref, N);
stream_ack(Ref, N) ->
    ?BADARG(arguments, [{ref, Ref}, {credit, N}]).

%% @doc Python ends the stream when it comes to its next item: a generator is closed.
-spec stream_cancel(reference()) -> ok.
stream_cancel(Ref) when is_reference(Ref) ->
    py_stream_sender:cancel(Ref);
stream_cancel(Ref) ->
    ?BADARG(arguments, [{ref, Ref}]).

%% --- contexts and pools ---------------------------------------------------------------

%% @doc The context that the calling process is bound to; binds it.
-spec context() -> context().
context() ->
    ?DELEGATED(py_context_router:get_context(), []).

%% @doc Number N of the default pool, counted from 1.
-spec context(pos_integer()) -> context().
context(N) when is_integer(N) ->
    ?DELEGATED(py_context_router:get_context(N), [N]);
context(N) ->
    ?BADARG(arguments, [{number, N}]).

%% @doc Starts the default pool, if it is not running.
-spec start_contexts() -> {ok, [context()]} | {error, term()}.
start_contexts() ->
    ?DELEGATED(py_context_router:start(), []).

%% @doc The same with `contexts', `mode', `num_workers' and `kill_after'.
-spec start_contexts(map()) -> {ok, [context()]} | {error, term()}.
start_contexts(Options) ->
    ?DELEGATED(py_context_router:start(Options), [Options]).

%% @doc Stops the default pool.
-spec stop_contexts() -> ok.
stop_contexts() ->
    py_context_router:stop().

-spec contexts_started() -> boolean().
contexts_started() ->
    py_context_router:is_started().

%% @doc Sends calls of a module and its submodules, or of one of its functions, to a pool
%% that runs.
-spec register_pool(pool_name(), text() | {text(), text()}) -> ok.
register_pool(Pool, Registered) ->
    ?CHECKED(py_pool_registry:register(Pool, registered(Registered)), [
        {pool, Pool}, {registered, Registered}
    ]).

%% @doc Ends such a registration.
-spec unregister_pool(text() | {text(), text()}) -> ok.
unregister_pool(Registered) ->
    ?CHECKED(py_pool_registry:unregister(registered(Registered)), [{registered, Registered}]).

%% --- callbacks and shared state -------------------------------------------------------

%% @doc Lets Python call an Erlang function by that name: `erlang.call(Name, ...)' or
%% `erlang.Name(...)'. It gets the list of the arguments, and runs in the process that
%% waits for Python. Registering again replaces.
-spec register_function(text(), fun((list()) -> term())) -> ok.
register_function(Name, Fun) when is_function(Fun, 1) ->
    ?DELEGATED(py_callback:register(Name, Fun), [Name, Fun]);
register_function(Name, Fun) ->
    ?BADARG(arguments, [{name, Name}, {fun_1, Fun}]).

%% @doc The same for `Module:Function/1'.
-spec register_function(text(), module(), atom()) -> ok.
register_function(Name, Module, Function) ->
    ?CHECKED(py_callback:set(Name, {Module, Function}), [{name, Name}, {mod, Module}, {fn, Function}]).

-spec unregister_function(text()) -> ok.
unregister_function(Name) ->
    ?DELEGATED(py_callback:unregister(Name), [Name]).

-spec state_fetch(term()) -> {ok, term()} | {error, not_found}.
state_fetch(Key) ->
    ?DELEGATED(py_state:fetch(Key), [Key]).

-spec state_store(term(), term()) -> ok | {error, full}.
state_store(Key, Value) ->
    ?DELEGATED(py_state:store(Key, Value), [Key, Value]).

-spec state_incr(term()) -> integer() | {error, full}.
state_incr(Key) ->
    ?DELEGATED(py_state:incr(Key), [Key]).

-spec state_incr(term(), integer()) -> integer() | {error, full}.
state_incr(Key, N) ->
    ?DELEGATED(py_state:incr(Key, N), [Key, N]).

-spec state_decr(term()) -> integer() | {error, full}.
state_decr(Key) ->
    ?DELEGATED(py_state:decr(Key), [Key]).

-spec state_decr(term(), integer()) -> integer() | {error, full}.
state_decr(Key, N) ->
    ?DELEGATED(py_state:decr(Key, N), [Key, N]).

-spec state_remove(term()) -> ok.
state_remove(Key) ->
    ?DELEGATED(py_state:remove(Key), [Key]).

-spec state_keys() -> [term()].
state_keys() ->
    ?DELEGATED(py_state:keys(), []).

-spec state_clear() -> ok.
state_clear() ->
    ?DELEGATED(py_state:clear(), []).

%% @doc The namespace of the calling process on a context; made if it has none.
-spec get_local_env(context()) -> py_nif:env().
get_local_env(Ctx) ->
    case ?CHECKED(on_context(Ctx), [{ctx, Ctx}]) of
        noproc -> ?FAIL({context_died, noproc}, {ctx, ["is no live context"]}, [{ctx, Ctx}]);
        {_Ctx, _Lane, Env} -> Env
    end.

%% @doc Raises KeyboardInterrupt in the request that runs on a context; its caller gets
%% `{error, interrupted}' unless Python handles it. Never hits a later request.
-spec interrupt(context()) -> ok | not_running.
interrupt(Ctx) ->
    ?DELEGATED(py_context:interrupt(Ctx), [Ctx]).

%% --- information ----------------------------------------------------------------------

%% @doc Python's `sys.version'.
-spec version() -> {ok, binary()} | {error, term()}.
version() ->
    ?DELEGATED(eval(<<"__import__('sys').version">>), []).

%% @doc The mode of the default pool; on a free-threaded Python always `worker'.
-spec execution_mode() -> context_mode().
execution_mode() ->
    case py_python:info() of
        #{free_threaded := true} -> worker;
        _ -> ?CHECKED(py_config:context_mode(), [])
    end.

%% @doc Whether the Python in use has sub-interpreters with a GIL of their own (3.12).
-spec subinterp_supported() -> boolean().
subinterp_supported() ->
    maps:get(owngil, py_python:info()).

%% @doc Figures of all contexts, of the limit and of shared memory. Never waits for Python.
-spec stats() -> map().
stats() ->
    ?CHECKED(py_stats:get(), []).

%% @doc Python's garbage collector and traced memory, over all interpreters and for each context.
-spec memory_stats() -> {ok, map()}.
memory_stats() ->
    ?CHECKED(py_maintenance:memory_stats(), []).

-spec memory_stats(context()) -> {ok, map()} | {error, term()}.
memory_stats(Ctx) ->
    ?CHECKED(py_maintenance:memory_stats(Ctx), [{ctx, Ctx}]).

%% @doc Runs Python's garbage collector in every interpreter, beside the requests there.
-spec gc() -> {ok, non_neg_integer()}.
gc() ->
    ?CHECKED(py_maintenance:gc(2), []).

-spec gc(0..2 | context()) -> {ok, non_neg_integer()} | {error, term()}.
gc(Ctx) when is_pid(Ctx) ->
    ?CHECKED(py_maintenance:gc(Ctx, 2), [{ctx, Ctx}]);
gc(Generation) ->
    ?CHECKED(py_maintenance:gc(Generation), [{gc_target, Generation}]).

-spec gc(context(), 0..2) -> {ok, non_neg_integer()} | {error, term()}.
gc(Ctx, Generation) ->
    ?CHECKED(py_maintenance:gc(Ctx, Generation), [{ctx, Ctx}, {generation, Generation}]).

%% @doc Traces memory in all contexts, and in those started before the stop.
-spec tracemalloc_start() -> ok.
tracemalloc_start() ->
    ?CHECKED(py_maintenance:tracemalloc_start(1), []).

-spec tracemalloc_start(pos_integer()) -> ok.
tracemalloc_start(Frames) ->
    ?CHECKED(py_maintenance:tracemalloc_start(Frames), [{frames, Frames}]).

-spec tracemalloc_stop() -> ok.
tracemalloc_stop() ->
    ?CHECKED(py_maintenance:tracemalloc_stop(), []).

%% @doc Loads a module that has changed on disk anew (importlib.reload), in every interpreter of
%% every pool that has loaded it. The next request of each context runs the new code; a request
%% that runs goes on with the functions that it has. Names that other modules have taken from it
%% (`from m import f') stay the old ones, until those modules are reloaded too.
%%
%% The exceptions of those contexts that could not reload it, which go on with the old code; or
%% `timeout' if one did not within five seconds, and then will before its next request.
-spec reload(text()) -> ok | {error, [{context(), {atom() | binary(), string()} | timeout}]}.
reload(Module) ->
    ?CHECKED(py_code:reload(py_text:utf8(Module)), [{module, Module}]).

%% @doc Makes a virtual environment if there is none at that path, installs a requirements file into
%% it, or the project of a `pyproject.toml' in editable form, and activates it.
-spec ensure_venv(text(), text()) -> ok | {error, py_venv:error()}.
ensure_venv(Path, File) ->
    ?CHECKED(py_venv:ensure(Path, File, []), [{venv, Path}, {requirements, File}]).

-spec ensure_venv(text(), text(), [py_venv:option()]) -> ok | {error, py_venv:error()}.
ensure_venv(Path, File, Options) ->
    ?CHECKED(py_venv:ensure(Path, File, Options), [
        {venv, Path}, {requirements, File}, {venv_options, Options}
    ]).

%% @doc Puts the packages of a virtual environment before all others, in every interpreter.
-spec activate_venv(text()) -> ok | {error, py_venv:error()}.
activate_venv(Path) ->
    ?CHECKED(py_venv:activate(Path), [{venv, Path}]).

-spec deactivate_venv() -> ok.
deactivate_venv() ->
    ?CHECKED(py_venv:deactivate(), []).

-spec venv_info() -> {ok, #{binary() => boolean() | binary() | [binary()]}}.
venv_info() ->
    ?CHECKED(py_venv:info(), []).

%% @doc Makes a shared dict: a table in the VM for Erlang and all worker processes.
-spec shared_dict_new() -> {ok, py_shared_dict:dict()}.
shared_dict_new() -> py_shared_dict:new().
-spec shared_dict_get(py_shared_dict:dict(), binary()) -> term() | undefined.
shared_dict_get(Dict, Key) -> ?ON_OBJECT(py_shared_dict:get(Dict, Key, undefined), [{dict, Dict}, {dict_key, Key}]).
-spec shared_dict_get(py_shared_dict:dict(), binary(), Default) -> term() | Default.
shared_dict_get(Dict, Key, Default) ->
    ?ON_OBJECT(py_shared_dict:get(Dict, Key, Default), [{dict, Dict}, {dict_key, Key}, {any, Default}]).
%% @doc Sets a key. The value comes back as if it had been to Python and returned.
-spec shared_dict_set(py_shared_dict:dict(), binary(), term()) -> ok | {error, pickle_failed}.
shared_dict_set(Dict, Key, Value) ->
    ?ON_OBJECT(py_shared_dict:set(Dict, Key, Value), [{dict, Dict}, {dict_key, Key}, {any, Value}]).
-spec shared_dict_del(py_shared_dict:dict(), binary()) -> ok.
shared_dict_del(Dict, Key) -> ?ON_OBJECT(py_shared_dict:del(Dict, Key), [{dict, Dict}, {dict_key, Key}]).
-spec shared_dict_keys(py_shared_dict:dict()) -> [binary()].
shared_dict_keys(Dict) -> ?ON_OBJECT(py_shared_dict:keys(Dict), [{dict, Dict}]).
-spec shared_dict_destroy(py_shared_dict:dict()) -> ok.
shared_dict_destroy(Dict) -> ?ON_OBJECT(py_shared_dict:destroy(Dict), [{dict, Dict}]).

%% --- internal -------------------------------------------------------------------------

on_context(Ctx) when is_pid(Ctx) -> py_context_router:target(Ctx);
on_context(_) -> py_error_info:refuse(arguments).

role(Pool) when is_atom(Pool) -> target;
role(_Ctx) -> ctx.

registered({Module, Function}) -> {Module, Function};
registered(Module) -> {Module}.
