%% SPDX-License-Identifier: Apache-2.0

%% @private What a context does before its first request: chooses its event loop, imports the modules
%% of `preload' and of `imports', runs code.
-module(py_preparation).

-include("py_limits.hrl").

-export([steps/1, run/3, do/3]).

-export_type([step/0]).

-type step() :: py_config:preload() | {loop, py:context_mode()}.

-define(IMPORTS_MS, 10000).

%% @doc What the settings of a context ask for, but for `imports'. The loop before anything can use
%% it; modules before the code, which may use them.
-spec steps(map()) -> [step()].
steps(Settings) ->
    {Modules, Code} = lists:partition(fun({How, _}) -> How =:= load end, maps:get(preload, Settings, [])),
    Loop = [{loop, maps:get(mode, Settings)} || maps:get(event_loop, Settings, asyncio) =:= uvloop],
    Loop ++ Modules ++ [{code, C} || C <- [py_preload:get_code()], C =/= undefined] ++ Code.

%% @doc A process of its own: {@link do/3}, then it exits with `{preloaded, Result}'.
-spec run(py_context_router:route(), [step()], [py_code:wanted()]) -> no_return().
run(Route, Steps, Imports) ->
    exit({preloaded, do(Route, Steps, Imports)}).

%% @doc Does it, one after the other.
-spec do(py_context_router:route(), [step()], [py_code:wanted()]) -> ok | {error, term()}.
do(Route = {Ctx, Lane, _}, Steps, Imports) ->
    case run_steps(Route, Steps) of
        ok -> py_code:import_into(Ctx, Lane, Imports, ?IMPORTS_MS);
        {error, Reason} -> {error, Reason}
    end.

run_steps(_Route, []) ->
    ok;
run_steps(Route, [Step | Rest]) ->
    %% No slot: who starts a context may hold the last one.
    Options = maps:put(slot, none, ?PLAIN(infinity)),
    case run_step(Route, Step, Options) of
        {error, Reason} -> {error, Reason};
        _ -> run_steps(Route, Rest)
    end.

%% Of mode owngil only: the others know when they are asked.
run_step(_Route, {loop, owngil}, _Options) ->
    no_uvloop(<<"uvloop does not support sub-interpreters, and the mode is owngil">>);
run_step(Route, {loop, worker}, Options) ->
    case py_request:call(Route, <<"erlang._uvloop">>, <<"choose">>, [], #{}, Options) of
        {ok, none} -> ok;
        {ok, Why} -> no_uvloop(Why);
        Error -> Error
    end;
run_step(Route, {load, Module}, Options) ->
    py_request:call(Route, <<"erlang._imports">>, <<"load">>, [Module], #{}, Options);
run_step(Route, {code, Code}, Options) ->
    py_request:exec(Route, Code, Options).

no_uvloop(Why) ->
    {error, {bad_config, event_loop, uvloop, <<"event_loop: ", Why/binary>>}}.
