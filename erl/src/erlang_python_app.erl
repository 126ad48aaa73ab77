%% SPDX-License-Identifier: Apache-2.0

%% @private Starts the application: checks the configuration before anything
%% else, and is up when the contexts of the configured pools accept requests.
-module(erlang_python_app).
-behaviour(application).

-export([start/2, stop/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case py_config:check() of
        ok -> start_checked();
        {error, Reason} -> {error, Reason}
    end.

start_checked() ->
    ok = py_config:warn_of_unknown(),
    ok = ep_nif:set_max_atoms(py_config:max_atoms()),
    ok = ep_nif:set_max_shared_bytes(py_config:get(max_shared_bytes)),
    ok = py_semaphore:set_max_concurrent(py_config:get(max_concurrent)),
    case erlang_python_sup:start_link() of
        {ok, Sup} ->
            %% The contexts begin with what is registered.
            ok = py_code:add_paths(py_config:get(paths)),
            ok = py_code:import(py_config:get(imports)),
            start_pools(Sup);
        {error, Reason} -> {error, Reason}
    end.

start_pools(Sup) ->
    case start_pools(py_context_router:start(), py_config:pools()) of
        ok ->
            {ok, Sup};
        {error, Reason} ->
            unlink(Sup),
            Ref = monitor(process, Sup),
            exit(Sup, shutdown),
            receive
                {'DOWN', Ref, process, Sup, _} -> {error, Reason}
            end
    end.

start_pools({ok, _Contexts}, []) -> ok;
start_pools({ok, _Contexts}, [{Pool, Settings} | Rest]) -> start_pools(py_pool:start(Pool, Settings), Rest);
start_pools({error, Reason}, _) -> {error, Reason}.

-spec stop(term()) -> ok.
stop(_State) ->
    ok = py_maintenance:forget(),
    ok = py_pool_registry:forget(),
    py_python:forget().
