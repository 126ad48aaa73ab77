%% SPDX-License-Identifier: Apache-2.0

%% @doc Tasks of asyncio, made from Erlang.
%%
%% Each interpreter has an event loop in a thread of its own, which starts with its first task. A
%% task runs in the interpreter, and in the namespace, that a request of the calling process would
%% use; it does not occupy the context: requests run beside it. A coroutine is awaited, any other
%% function is called, and its value is the result.
-module(py_event_loop).

-include("py_limits.hrl").
-include("py_misuse.hrl").

-export([create_task/3, create_task/4, await/1, await/2, run/3, run/4]).
-export([spawn_task/3, spawn_task/4, exec/1, eval/1]).
%% Internal
-export([job/4, to_gather/2]).

%% The budget of await/1 and run/3.
-define(TASK_MS, 5000).

%% @doc Starts a task. Its result comes to the calling process as `{async_result, Ref, Result}',
%% which {@link await/1} takes. The death of the calling process cancels it.
-spec create_task(py:text(), py:text(), list()) -> reference().
create_task(Module, Function, Args) ->
    ?CHECKED_THEN(job(Module, Function, Args, #{}), {Route, Job}, py_task:create(Route, Job), [
        {module, Module}, {function, Function}, {args, Args}
    ]).

-spec create_task(py:text(), py:text(), list(), map()) -> reference().
create_task(Module, Function, Args, Kwargs) ->
    ?CHECKED_THEN(job(Module, Function, Args, Kwargs), {Route, Job}, py_task:create(Route, Job), [
        {module, Module}, {function, Function}, {args, Args}, {kwargs, Kwargs}
    ]).

%% @doc The result of {@link create_task/3}.
-spec await(reference()) -> py:result().
await(Ref) ->
    ?RUN_CHECKED(to_await(Ref, ?TASK_MS), [{ref, Ref}]).

%% @doc `{error, timeout}' ends the waiting, not the task: it may be awaited again.
-spec await(reference(), timeout()) -> py:result().
await(Ref, Timeout) ->
    ?RUN_CHECKED(to_await(Ref, Timeout), [{ref, Ref}, {timeout, Timeout}]).

%% @doc Starts a task and waits for it, 5 seconds at most.
-spec run(py:text(), py:text(), list()) -> py:result().
run(Module, Function, Args) ->
    ?CHECKED_THEN(job(Module, Function, Args, #{}), {Route, Job}, py_task:run(Route, Job, ?TASK_MS), [
        {module, Module}, {function, Function}, {args, Args}
    ]).

%% @doc With keyword arguments and a timeout, at which the task is cancelled.
-spec run(py:text(), py:text(), list(), #{timeout => timeout(), kwargs => map()}) -> py:result().
run(Module, Function, Args, Options) ->
    ?CHECKED_THEN(
        run_job(Module, Function, Args, Options),
        {Route, Job, Timeout},
        py_task:run(Route, Job, Timeout),
        [{module, Module}, {function, Function}, {args, Args}, {options, Options}]
    ).

%% @doc Starts a task of which nobody waits for the result. It outlives the calling process.
%% Errors are logged at level debug.
-spec spawn_task(py:text(), py:text(), list()) -> ok.
spawn_task(Module, Function, Args) ->
    ?CHECKED_THEN(job(Module, Function, Args, #{}), {Route, Job}, py_task:forget(Route, Job), [
        {module, Module}, {function, Function}, {args, Args}
    ]).

-spec spawn_task(py:text(), py:text(), list(), map()) -> ok.
spawn_task(Module, Function, Args, Kwargs) ->
    ?CHECKED_THEN(job(Module, Function, Args, Kwargs), {Route, Job}, py_task:forget(Route, Job), [
        {module, Module}, {function, Function}, {args, Args}, {kwargs, Kwargs}
    ]).

%% @doc Runs statements on the thread of the loop, in the namespace of the calling process.
-spec exec(py:text()) -> ok | {error, term()}.
exec(Code) ->
    ?CHECKED_THEN(code(exec, Code), {Route, Job}, py_task:run(Route, Job, infinity), [{code, Code}]).

%% @doc The same for an expression. A value that can be awaited is.
-spec eval(py:text()) -> py:result().
eval(Code) ->
    ?CHECKED_THEN(code(eval, Code), {Route, Job}, py_task:run(Route, Job, ?DEFAULT_MS), [{code, Code}]).

%% --- internal -------------------------------------------------------------------------

%% @private Checks what a task is made of, and finds its way.
-spec job(py:text(), py:text(), list(), map()) -> {py_task:route(), py_task:job()}.
job(Module, Function, Args, Kwargs) when is_list(Args), is_map(Kwargs) ->
    M = py_text:text(Module),
    F = py_text:text(Function),
    {py_context_router:route(M, F), {call, M, F, Args, Kwargs}};
job(_, _, _, _) ->
    py_error_info:refuse(arguments).

%% @private
-spec to_gather([{py:text(), py:text(), list()}], timeout()) ->
    fun(() -> {ok, [term()]} | {error, {gather_failed, [{pos_integer(), term()}]}}).
%% The guard fails for an improper list, too.
to_gather(Calls, Timeout) when length(Calls) >= 0, not is_map(Timeout) ->
    Tasks = [gather_job(Call) || Call <- Calls],
    Checked = py_options:timeout(Timeout),
    fun() -> py_task:gather(Tasks, Checked) end;
to_gather(_, _) ->
    py_error_info:refuse(arguments).

gather_job({Module, Function, Args}) -> job(Module, Function, Args, #{});
gather_job(_) -> py_error_info:refuse(arguments).

run_job(Module, Function, Args, Options) when is_map(Options) ->
    #{timeout := Timeout, kwargs := Kwargs} = py_options:task(Options, ?TASK_MS),
    {Route, Job} = job(Module, Function, Args, Kwargs),
    {Route, Job, Timeout};
run_job(_, _, _, _) ->
    py_error_info:refuse(arguments).

code(Kind, Code) ->
    Text = py_text:text(Code),
    {py_context_router:bound(), {Kind, Text}}.

to_await(Ref, Timeout) when is_reference(Ref), not is_map(Timeout) ->
    Checked = py_options:timeout(Timeout),
    fun() -> py_task:await(Ref, Checked) end;
to_await(_, _) ->
    py_error_info:refuse(arguments).
