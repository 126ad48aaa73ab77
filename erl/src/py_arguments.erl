%% SPDX-License-Identifier: Apache-2.0

%% @private The arguments of the functions of `py', checked in the process that has called: what
%% they are wrong with is refused before anything runs. Those with a context or pool make the fun
%% that goes on.
-module(py_arguments).

-include("py_limits.hrl").

-export([implicit_call/4, call_with/5, call_on/6, to_eval/3, eval_on/4, to_exec/2, exec_on/3]).
-export([to_stream/1, start_stream/4, to_await/2, async/6, defaults/1, default_timeout/1]).

-type run() :: fun(() -> py:result()).

-spec defaults(py:target()) -> py_options:options().
defaults(Target) ->
    ?PLAIN(default_timeout(Target)).

-spec default_timeout(py:target()) -> timeout().
default_timeout(Target) when is_pid(Target) -> infinity;
default_timeout(_Pool) -> ?DEFAULT_MS.

-spec implicit_call(py:text(), py:text(), list(), map()) -> py_context_router:route().
implicit_call(Module, Function, Args, Kwargs) when is_list(Args), is_map(Kwargs) ->
    ok = py_text:check(Module),
    ok = py_text:check(Function),
    py_context_router:route(Module, Function);
implicit_call(_, _, _, _) ->
    py_error_info:refuse(arguments).

-spec call_with(py:context(), py:text(), py:text(), list(), timeout() | map()) -> run().
call_with(Ctx, Module, Function, Args, Options) ->
    Checked = #{kwargs := Kwargs} = py_options:call_on(Options),
    call_on(Ctx, Module, Function, Args, Kwargs, Checked).

-spec call_on(py:target(), py:text(), py:text(), list(), map(), py_options:options()) -> run().
call_on(Target, Module, Function, Args, Kwargs, Options) when is_list(Args), is_map(Kwargs) ->
    ok = py_text:check(Module),
    ok = py_text:check(Function),
    case py_context_router:target(Target) of
        noproc -> fun noproc/0;
        Route -> fun() -> py_request:call(Route, Module, Function, Args, Kwargs, Options) end
    end;
call_on(_, _, _, _, _, _) ->
    py_error_info:refuse(arguments).

%% In the context of the calling process, as all that name no target.
-spec to_eval(py:text(), map(), timeout() | map()) -> run().
to_eval(Code, Locals, Options) ->
    {Route, Checked} = implicit_eval(Code, Locals, Options),
    fun() -> py_request:eval(Route, Code, Locals, Checked) end.

implicit_eval(Code, Locals, Options) when is_map(Locals) ->
    Checked = py_options:call(Options, ?DEFAULT_MS),
    ok = py_text:check(Code),
    {py_context_router:bound(), Checked};
implicit_eval(_, _, _) ->
    py_error_info:refuse(arguments).

-spec to_stream(py_request:subject()) -> fun(() -> {ok, [term()]} | {error, term()}).
to_stream(Subject = {call, Module, Function, Args, Kwargs}) ->
    Route = implicit_call(Module, Function, Args, Kwargs),
    fun() -> py_stream:collect(Route, Subject) end;
to_stream(Subject = {eval, Code, Locals}) ->
    {Route, _} = implicit_eval(Code, Locals, ?DEFAULT_MS),
    fun() -> py_stream:collect(Route, Subject) end.

-spec start_stream(py:text(), py:text(), list(), map()) -> {ok, reference()}.
start_stream(Module, Function, Args, Options) ->
    Checked = #{kwargs := Kwargs} = py_options:stream(Options),
    Route = implicit_call(Module, Function, Args, Kwargs),
    py_stream_sender:start(Route, {call, Module, Function, Args, Kwargs}, Checked).

-spec eval_on(py:target(), py:text(), map(), timeout() | map()) -> run().
eval_on(Target, Code, Locals, Options) when is_map(Locals) ->
    Checked = py_options:call(Options, default_timeout(Target)),
    ok = py_text:check(Code),
    case py_context_router:target(Target) of
        noproc -> fun noproc/0;
        Route -> fun() -> py_request:eval(Route, Code, Locals, Checked) end
    end;
eval_on(_, _, _, _) ->
    py_error_info:refuse(arguments).

-spec to_exec(py:text(), map()) -> fun(() -> ok | {error, term()}).
to_exec(Code, Options) when is_map(Options) ->
    Checked = py_options:exec(Options),
    ok = py_text:check(Code),
    Route = py_context_router:bound(),
    fun() -> py_request:exec(Route, Code, Checked) end;
to_exec(_, _) ->
    py_error_info:refuse(arguments).

-spec exec_on(py:target(), py:text(), map()) -> fun(() -> ok | {error, term()}).
exec_on(Target, Code, Options) when is_map(Options) ->
    Checked = py_options:exec(Options),
    ok = py_text:check(Code),
    case py_context_router:target(Target) of
        noproc -> fun noproc/0;
        Route -> fun() -> py_request:exec(Route, Code, Checked) end
    end;
exec_on(_, _, _) ->
    py_error_info:refuse(arguments).

noproc() -> {error, {context_died, noproc}}.

-spec to_await(reference(), timeout()) -> run().
to_await(Ref, Timeout) when is_reference(Ref), not is_map(Timeout) ->
    Checked = py_options:timeout(Timeout),
    fun() -> py_async:await(Ref, Checked) end;
to_await(_, _) ->
    py_error_info:refuse(arguments).

%% Whatever can be wrong is found here, in the caller.
-spec async(fun(), implicit | {on, py:target()}, py:text(), py:text(), list(), map()) -> term().
async(Start, How, Module, Function, Args, Kwargs) when is_list(Args), is_map(Kwargs) ->
    Names = {py_text:text(Module), py_text:text(Function)},
    {Route, Options} = async_route(How, Names),
    Start(Route, element(1, Names), element(2, Names), Args, Kwargs, Options);
async(_Start, _How, _Module, _Function, _Args, _Kwargs) ->
    py_error_info:refuse(arguments).

async_route(implicit, {Module, Function}) ->
    {py_context_router:route(Module, Function), ?PLAIN(?DEFAULT_MS)};
async_route({on, Target}, _Names) ->
    {py_context_router:target(Target), defaults(Target)}.
