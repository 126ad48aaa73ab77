%% SPDX-License-Identifier: Apache-2.0

%% @doc Pools of contexts, and which context a request goes to.
%%
%% The first that applies: the context or pool that the call names; the pool that
%% the function, else its module, is registered to; inside a callback, the context
%% that made it; pool `default'. Within a pool, a process is bound at first use to
%% the context whose number follows from its scheduler, and keeps that number.
%%
%% No process is asked on the way: pools lie in persistent terms, bindings in the
%% process dictionary of the caller.
-module(py_context_router).

-export([start/0, start/1, stop/0, is_started/0]).
-export([start_pool/2, start_pool/3, stop_pool/1, pool_started/1]).
-export([get_context/0, get_context/1, num_contexts/0, num_contexts/1, contexts/0, contexts/1]).
-export([bind_context/1, bind_context/2, unbind_context/0, unbind_context/1]).
-export([register_pool/2, register_pool/3, unregister_pool/1, unregister_pool/2]).
-export([lookup_pool/2, list_pool_registrations/0]).
%% Internal
-export([bound/0, cached/0, route/2, target/1]).

-export_type([route/0]).

-type route() :: py_pool_binding:route().

-define(BOUND, '$py_bound').

%% --- pools ----------------------------------------------------------------------------

%% @doc Starts pool `default' with the configured size; a running pool is returned
%% as it is.
-spec start() -> {ok, [py:context()]} | {error, term()}.
start() ->
    start(#{}).

%% @doc With `contexts', `mode', `num_workers', `kill_after', `python', `spin_us'.
-spec start(map()) -> {ok, [py:context()]} | {error, term()}.
start(Options) ->
    case py_config:pool_options(Options) of
        {ok, Settings} -> start_checked(default, Settings);
        {error, Reason} -> {error, Reason}
    end.

-spec stop() -> ok.
stop() ->
    stop_pool(default).

-spec is_started() -> boolean().
is_started() ->
    pool_started(default).

%% @doc Starts a pool of that many contexts in mode `worker'; a running pool is
%% returned as it is.
-spec start_pool(py:pool_name(), pos_integer()) -> {ok, [py:context()]} | {error, term()}.
start_pool(Pool, Size) ->
    start_pool(Pool, Size, #{}).

%% @doc With a mode, or `mode' and the other options of {@link start/1}.
-spec start_pool(py:pool_name(), pos_integer(), py:context_mode() | map()) ->
    {ok, [py:context()]} | {error, term()}.
start_pool(Pool, Size, Mode) when Mode =:= worker; Mode =:= owngil ->
    start_pool(Pool, Size, #{mode => Mode});
start_pool(Pool, Size, Options) when
    is_atom(Pool), is_integer(Size), Size > 0, is_map(Options), not is_map_key(contexts, Options)
->
    case py_config:pool_options(maps:merge(defaults(Pool), Options#{contexts => Size})) of
        {ok, Settings} -> start_checked(Pool, Settings);
        {error, Reason} -> {error, Reason}
    end;
start_pool(_, _, _) ->
    error(badarg).

%% The configured mode is that of pool `default'.
defaults(default) -> #{};
defaults(_Pool) -> #{mode => worker}.

%% @doc Stops a pool; requests on its contexts get `{error, {context_died, shutdown}}'.
%% Registrations to it stay: until it runs again, such calls raise `badarg'.
-spec stop_pool(py:pool_name()) -> ok.
stop_pool(Pool) when is_atom(Pool) ->
    case py_pool_registry:server(Pool) of
        undefined ->
            ok;
        Server ->
            %% Whatever it says, it has ended.
            _ = py_pool:stop(Server),
            ok
    end;
stop_pool(_) ->
    error(badarg).

-spec pool_started(py:pool_name()) -> boolean().
pool_started(Pool) ->
    num_contexts(Pool) > 0.

%% @doc Sends calls of a module to a pool that runs. A registration of one of its
%% functions comes first.
-spec register_pool(py:pool_name(), py:text()) -> ok.
register_pool(Pool, Module) when is_atom(Pool) ->
    py_pool_registry:register(Pool, {Module});
register_pool(_, _) ->
    error(badarg).

-spec register_pool(py:pool_name(), py:text(), py:text()) -> ok.
register_pool(Pool, Module, Function) when is_atom(Pool) ->
    py_pool_registry:register(Pool, {Module, Function});
register_pool(_, _, _) ->
    error(badarg).

%% @doc Ends the registration of a module; those of its functions stay.
-spec unregister_pool(py:text()) -> ok.
unregister_pool(Module) ->
    py_pool_registry:unregister({Module}).

-spec unregister_pool(py:text(), py:text()) -> ok.
unregister_pool(Module, Function) ->
    py_pool_registry:unregister({Module, Function}).

%% @doc The pool that calls of a function go to.
-spec lookup_pool(py:text(), py:text()) -> py:pool_name().
lookup_pool(Module, Function) ->
    {_, Registrations} = py_pool_registry:table(),
    %% Converted here, for a bad name is one also where nothing is registered.
    Name = {py_request:text(Module), py_request:text(Function)},
    case py_pool_registry:lookup(element(1, Name), element(2, Name), Registrations) of
        undefined -> default;
        Pool -> Pool
    end.

%% @doc What is registered, with `_' for a whole module.
-spec list_pool_registrations() -> [{{py:text(), py:text() | '_'}, py:pool_name()}].
list_pool_registrations() ->
    py_pool_registry:registrations().

%% --- contexts -------------------------------------------------------------------------

%% @doc The context that a request of the calling process would go to; binds it.
-spec get_context() -> py:context().
get_context() ->
    {Ctx, _Lane, _Env} = bound(),
    case is_process_alive(Ctx) of
        true -> Ctx;
        %% Inside a callback of a context that has ended, the pool still has one.
        false -> get_context(default)
    end.

%% @doc Number N of pool `default', from 1; or the bound context of a pool.
-spec get_context(pos_integer() | py:pool_name()) -> py:context().
get_context(N) when is_integer(N), N > 0 ->
    case py_pool_registry:slots(default) of
        Slots when N =< tuple_size(Slots) ->
            {Ctx, _Lane} = element(N, Slots),
            live(Ctx, default, fun() -> get_context(N) end);
        _ ->
            error(badarg)
    end;
get_context(Pool) when is_atom(Pool) ->
    {Ctx, _Lane, _Env} = pool_route(Pool, named),
    live(Ctx, Pool, fun() -> get_context(Pool) end);
get_context(_) ->
    error(badarg).

%% @doc Binds the calling process to a context, of whatever pool or none.
-spec bind_context(py:context()) -> ok.
bind_context(Ctx) when is_pid(Ctx) ->
    case py_pool_binding:bind(default, Ctx, py_pool_registry:slots(default)) of
        true ->
            ok;
        false ->
            case py_context:lane(Ctx) of
                noproc -> error(badarg);
                Lane -> py_pool_binding:pin(Ctx, Lane)
            end
    end;
bind_context(_) ->
    error(badarg).

%% @doc Binds the calling process, as far as that pool goes, to a context of it.
-spec bind_context(py:pool_name(), py:context()) -> ok.
bind_context(Pool, Ctx) when is_atom(Pool), is_pid(Ctx) ->
    py_pool_binding:bind(Pool, Ctx, py_pool_registry:slots(Pool)) orelse error(badarg),
    ok;
bind_context(_, _) ->
    error(badarg).

%% @doc The next use binds by scheduler again.
-spec unbind_context() -> ok.
unbind_context() ->
    py_pool_binding:unbind(default).

-spec unbind_context(py:pool_name()) -> ok.
unbind_context(Pool) when is_atom(Pool) ->
    py_pool_binding:unbind(Pool);
unbind_context(_) ->
    error(badarg).

-spec num_contexts() -> non_neg_integer().
num_contexts() ->
    num_contexts(default).

-spec num_contexts(py:pool_name()) -> non_neg_integer().
num_contexts(Pool) when is_atom(Pool) ->
    tuple_size(py_pool_registry:slots(Pool));
num_contexts(_) ->
    error(badarg).

-spec contexts() -> [py:context()].
contexts() ->
    contexts(default).

%% @doc The contexts in the order of their numbers, all alive.
-spec contexts(py:pool_name()) -> [py:context()].
contexts(Pool) when is_atom(Pool) ->
    Contexts = [Ctx || {Ctx, _Lane} <- tuple_to_list(py_pool_registry:slots(Pool))],
    case [Ctx || Ctx <- Contexts, not is_process_alive(Ctx)] of
        [] ->
            Contexts;
        Dead ->
            lists:foreach(fun(Ctx) -> await_replaced(Ctx, Pool) end, Dead),
            contexts(Pool)
    end;
contexts(_) ->
    error(badarg).

%% --- internal API ---------------------------------------------------------------------

%% @private The way of a call that names no context, if the calling process has made one
%% before, runs no callback, and no function is registered: the first step of most calls.
-spec cached() -> route() | none.
cached() ->
    case py_pool_registry:table() of
        {Slots, none} -> cached(Slots);
        _ -> none
    end.

%% @private The same without these conditions.
-spec route(py:text(), py:text()) -> route().
route(Module, Function) ->
    case py_pool_registry:table() of
        {Slots, none} ->
            bound(Slots);
        {Slots, Registrations} ->
            case py_pool_registry:lookup(Module, Function, Registrations) of
                undefined -> bound(Slots);
                Pool -> pool_route(Pool, registered)
            end
    end.

%% @private The way of any other request that names no context.
-spec bound() -> route().
bound() ->
    {Slots, _} = py_pool_registry:table(),
    bound(Slots).

%% @private The way to a context or pool that a request names. The namespace is that
%% of the calling process.
-spec target(py:target()) -> route() | noproc.
target(Ctx) when is_pid(Ctx) ->
    case py_context:lane(Ctx) of
        noproc -> noproc;
        Lane -> {Ctx, Lane, py_context:process_env(Ctx, Lane)}
    end;
target(Pool) when is_atom(Pool) ->
    pool_route(Pool, named);
target(_) ->
    error(badarg).

%% --- internal -------------------------------------------------------------------------

cached(Slots) ->
    case get(?BOUND) of
        %% By pid alone: to compare lanes, which are references, costs a function call. In
        %% a callback it is `nested' that stands in the place of the number.
        {Number, Ctx, Route} when element(1, element(Number, Slots)) =:= Ctx -> Route;
        _ -> none
    end.

bound(Slots) ->
    case cached(Slots) of
        none -> py_pool_binding:implicit(Slots);
        Route -> Route
    end.

pool_route(Pool, How) ->
    py_pool_binding:in_pool(Pool, py_pool_registry:slots(Pool), How).

start_checked(Pool, Settings) ->
    case py_pool:contexts(py_pool_registry:start_pool(Pool, Settings)) of
        %% It was about to end: the next one starts as asked.
        gone -> start_checked(Pool, Settings);
        Answer -> Answer
    end.

%% A context that has just been killed is replaced before its successor is named.
live(Ctx, Pool, Again) ->
    case is_process_alive(Ctx) of
        true ->
            Ctx;
        false ->
            ok = await_replaced(Ctx, Pool),
            Again()
    end.

await_replaced(Ctx, Pool) ->
    case py_pool_registry:server(Pool) of
        undefined ->
            ok;
        Server ->
            _ = py_pool:replaced(Server, Ctx),
            ok
    end.
