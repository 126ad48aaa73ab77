%% SPDX-License-Identifier: Apache-2.0

%% @doc Asks a module of its own, prints the answer, and ends the release: what a first try of a
%% deployment needs. A real application starts its supervisor here.
-module(readings_app).
-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Arguments) ->
    {ok, Smooth} = py:call(smooth, moving_average, [[1.0, 2.0, 6.0, 3.0], 2]),
    {ok, Where} = py:call(smooth, where, []),
    io:format("smoothed: ~p~nby: ~ts~n", [Smooth, Where]),
    {ok, spawn_link(fun init:stop/0)}.

-spec stop(term()) -> ok.
stop(_State) ->
    ok.
