%% SPDX-License-Identifier: Apache-2.0

%% @private Requests made by helpers, processes that wait in the place of their
%% caller. A helper carries what the caller would have used (route, namespace,
%% nesting), and ends the request when the caller dies, except for casts.
-module(py_async).

-include_lib("kernel/include/logger.hrl").
-include("py_dictionary.hrl").

-export([cast/6, spawn_call/6, await/2, guarded/4]).

-type arguments() :: {py:text(), py:text(), list(), map()}.

%% @doc One helper for the casts of a process to a context keeps them in order. It
%% lives as long as both and as there is work. The budget of a cast starts with its
%% turn.
-spec cast(
    py_context_router:route() | noproc, py:text(), py:text(), list(), map(), py_options:options()
) -> ok.
cast(noproc, _Module, _Function, _Args, _Kwargs, _Options) ->
    report({error, {context_died, noproc}});
cast(Route = {Ctx, _, _}, Module, Function, Args, Kwargs, Options) ->
    _ = caster(Ctx) ! {cast, Route, {Module, Function, Args, Kwargs}, Options, py_nesting:frame()},
    ok.

%% @doc The result comes to the calling process as `{py_response, Ref, Result}'.
-spec spawn_call(
    py_context_router:route() | noproc, py:text(), py:text(), list(), map(), py_options:options()
) -> reference().
spawn_call(noproc, _Module, _Function, _Args, _Kwargs, _Options) ->
    Ref = make_ref(),
    self() ! {py_response, Ref, {error, {context_died, noproc}}},
    Ref;
spawn_call(Route, Module, Function, Args, Kwargs, Options) ->
    Ref = make_ref(),
    Caller = self(),
    Frame = py_nesting:frame(),
    _ = spawn(fun() ->
        Arguments = {Module, Function, Args, Kwargs},
        Caller ! {py_response, Ref, guarded(Caller, Route, Arguments, {Options, Frame})}
    end),
    Ref.

-spec await(reference(), timeout()) -> py:result().
await(Ref, Timeout) ->
    receive
        {py_response, Ref, Result} -> Result
    after Timeout -> {error, timeout}
    end.

%% @doc By a helper: makes a call for a process whose death ends it.
-spec guarded(
    pid(), py_context_router:route(), arguments(), {py_options:options(), py_nesting:frame() | undefined}
) -> py:result().
guarded(Caller, Route, Arguments, {Options, Frame}) ->
    Guard = monitor(process, Caller),
    case is_process_alive(Caller) of
        true -> run(Route, Arguments, Options#{guard => Guard}, Frame);
        %% As if it died while the request waits.
        false -> exit(normal)
    end.

%% Internal

run(Route, {Module, Function, Args, Kwargs}, Options, Frame) ->
    py_nesting:inherit(Frame, fun() ->
        py_request:call(Route, Module, Function, Args, Kwargs, Options)
    end).

caster(Ctx) ->
    Helper = get(?CASTER(Ctx)),
    case is_pid(Helper) andalso is_process_alive(Helper) of
        true -> Helper;
        false -> new_caster(Ctx)
    end.

new_caster(Ctx) ->
    Caller = self(),
    Helper = spawn(fun() ->
        cast_loop(monitor(process, Caller), monitor(process, Ctx))
    end),
    ok = py_direct:keep(?CASTER(Ctx), Helper),
    Helper.

%% What the caller sent comes before the message that it is dead.
cast_loop(OfCaller, OfContext) ->
    receive
        {cast, Route, Arguments, Options, Frame} ->
            ok = report(run(Route, Arguments, Options, Frame)),
            cast_loop(OfCaller, OfContext);
        {'DOWN', OfCaller, process, _, _} ->
            ok;
        {'DOWN', OfContext, process, _, _} ->
            cast_rest()
    end.

%% The context is dead, and nothing can come of these but a report.
cast_rest() ->
    receive
        {cast, Route, Arguments, Options, Frame} ->
            ok = report(run(Route, Arguments, Options, Frame)),
            cast_rest()
    after 0 -> ok
    end.

report({error, Reason}) ->
    ?LOG_DEBUG("a cast failed: ~p", [Reason], #{library => erlang_python}),
    ok;
report(_Result) ->
    ok.
