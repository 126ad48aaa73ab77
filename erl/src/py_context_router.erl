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

-include("py_dictionary.hrl").
-include("py_misuse.hrl").

-export([start/0, start/1, stop/0, is_started/0]).
-export([start_pool/2, start_pool/3, child_spec/2, stop_pool/1, pool_started/1]).
-export([get_context/0, get_context/1, num_contexts/0, num_contexts/1, contexts/0, contexts/1]).
-export([bind_context/1, bind_context/2, unbind_context/0, unbind_context/1]).
-export([register_pool/2, register_pool/3, unregister_pool/1, unregister_pool/2]).
-export([lookup_pool/2, list_pool_registrations/0]).
%% Internal
-export([bound/0, cached/0, route/2, target/1]).

-export_type([route/0]).

-type route() :: py_pool_binding:route().

%% How often, and how many times, to look whether a context that has ended was replaced.
-define(REPLACE_MS, 5).
-define(REPLACE_TRIES, 1000).

%% --- pools ----------------------------------------------------------------------------

%% @doc Starts pool `default' with the configured size; a running pool is returned
%% as it is.
-spec start() -> {ok, [py:context()]} | {error, term()}.
start() ->
    ?CHECKED(start_default(#{}), []).

%% @doc With `contexts', `mode', `register', and the keys of the configuration that pools have. A
%% pool that runs with other options keeps them; a warning says so.
-spec start(map()) -> {ok, [py:context()]} | {error, term()}.
start(Options) ->
    ?CHECKED(start_default(Options), [{options, Options}]).

-spec stop() -> ok.
stop() ->
    py_pool:stop(default).

-spec is_started() -> boolean().
is_started() ->
    py_pool_registry:members(default) =/= {}.

%% @doc Starts a pool of that many contexts in mode `worker'; a running pool is
%% returned as it is.
-spec start_pool(py:pool_name(), pos_integer()) -> {ok, [py:context()]} | {error, term()}.
start_pool(Pool, Size) ->
    ?CHECKED(start_sized(Pool, Size, #{}), [{pool, Pool}, {size, Size}]).

%% @doc With a mode, or `mode' and the other options of {@link start/1}.
-spec start_pool(py:pool_name(), pos_integer(), py:context_mode() | map()) ->
    {ok, [py:context()]} | {error, term()}.
start_pool(Pool, Size, Options) ->
    ?CHECKED(start_sized(Pool, Size, Options), [
        {pool, Pool}, {size, Size}, {mode_or_options, Options}
    ]).

start_sized(Pool, Size, Mode) when Mode =:= worker; Mode =:= owngil ->
    start_sized(Pool, Size, #{mode => Mode});
start_sized(_Pool, _Size, #{contexts := _}) ->
    py_error_info:refuse({mode_or_options, ["has the option contexts, which is Size here"]});
start_sized(Pool, Size, Options) when is_atom(Pool), is_integer(Size), Size > 0, is_map(Options) ->
    start_checked(Pool, Options#{contexts => Size});
start_sized(_, _, _) ->
    py_error_info:refuse(arguments).

start_default(Options) when is_map(Options) ->
    start_checked(default, Options);
start_default(_Options) ->
    py_error_info:refuse(arguments).

start_checked(Pool, Options) ->
    ok = py_error_info:ensure_started(),
    case py_config:pool_options(maps:merge(defaults(Pool), Options)) of
        {ok, Settings} ->
            Runs = py_pool_registry:settings(Pool),
            ok = say_other_options(Pool, Runs, maps:with(maps:keys(Options), Settings)),
            py_pool:start(Pool, Settings);
        {error, Reason} ->
            {error, Reason}
    end.

%% Options that are not given are those of the pool that runs.
say_other_options(_Pool, none, _Wanted) ->
    ok;
say_other_options(Pool, Runs, Wanted) ->
    case [Key || {Key, Value} <- lists:sort(maps:to_list(Wanted)), maps:get(Key, Runs) =/= Value] of
        [] -> ok;
        Keys -> py_report:runs_otherwise(Pool, Keys)
    end.

%% The configured mode is that of pool `default'.
defaults(default) -> #{};
defaults(_Pool) -> #{mode => worker}.

%% @doc A child specification of a pool for a supervisor of your own: the pool starts and ends with
%% it. Options: those of {@link start/1}. A pool of that name that runs already is the error
%% `{already_started, Pid}'.
-spec child_spec(py:pool_name(), map()) -> supervisor:child_spec().
child_spec(Pool, Options) when is_atom(Pool), is_map(Options) ->
    py_pool_owner:child_spec(Pool, maps:merge(defaults(Pool), Options));
child_spec(Pool, Options) ->
    ?BADARG(arguments, [{pool, Pool}, {options, Options}]).

%% @doc Stops a pool; requests on its contexts get `{error, {context_died, shutdown}}'.
%% Registrations to it stay: until it runs again, such calls raise `badarg'.
-spec stop_pool(py:pool_name()) -> ok.
stop_pool(Pool) when is_atom(Pool) ->
    py_pool:stop(Pool);
stop_pool(Pool) ->
    ?BADARG(arguments, [{pool, Pool}]).

-spec pool_started(py:pool_name()) -> boolean().
pool_started(Pool) when is_atom(Pool) ->
    py_pool_registry:members(Pool) =/= {};
pool_started(Pool) ->
    ?BADARG(arguments, [{pool, Pool}]).

%% @doc Sends calls of a module and its submodules to a pool that runs. A registration of a
%% submodule comes before that of the module above it, one of a function before both.
-spec register_pool(py:pool_name(), py:text()) -> ok.
register_pool(Pool, Module) ->
    ?CHECKED(py_pool_registry:register(Pool, {Module}), [{pool, Pool}, {module, Module}]).

-spec register_pool(py:pool_name(), py:text(), py:text()) -> ok.
register_pool(Pool, Module, Function) ->
    ?CHECKED(py_pool_registry:register(Pool, {Module, Function}), [
        {pool, Pool}, {module, Module}, {function, Function}
    ]).

%% @doc Ends the registration of a module; those of its functions stay.
-spec unregister_pool(py:text()) -> ok.
unregister_pool(Module) ->
    ?CHECKED(py_pool_registry:unregister({Module}), [{module, Module}]).

-spec unregister_pool(py:text(), py:text()) -> ok.
unregister_pool(Module, Function) ->
    ?CHECKED(py_pool_registry:unregister({Module, Function}), [
        {module, Module}, {function, Function}
    ]).

%% @doc The pool that calls of a function go to.
-spec lookup_pool(py:text(), py:text()) -> py:pool_name().
lookup_pool(Module, Function) ->
    case ?CHECKED(py_pool_registry:lookup(Module, Function), [{module, Module}, {function, Function}]) of
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
    ?CHECKED(bound_context(), []).

%% @doc Number N of pool `default', from 1; or the bound context of a pool.
-spec get_context(pos_integer() | py:pool_name()) -> py:context().
get_context(N) when is_integer(N), N > 0 ->
    ?CHECKED(numbered(N), [{number, N}]);
get_context(Pool) when is_atom(Pool) ->
    ?CHECKED(live_in(Pool), [{pool, Pool}]);
get_context(N) ->
    ?BADARG(arguments, [{number_or_pool, N}]).

%% @doc Binds the calling process to a context, of whatever pool or none.
-spec bind_context(py:context()) -> ok.
bind_context(Ctx) when is_pid(Ctx) ->
    case py_pool_binding:bind(default, Ctx, py_pool_registry:members(default)) of
        true ->
            ok;
        false ->
            case ?CHECKED(py_context_request:lane(Ctx), [{ctx, Ctx}]) of
                noproc -> ?BADARG({ctx, ["is no live context"]}, [{ctx, Ctx}]);
                Lane -> py_pool_binding:pin(Ctx, Lane)
            end
    end;
bind_context(Ctx) ->
    ?BADARG(arguments, [{ctx, Ctx}]).

%% @doc Binds the calling process, as far as that pool goes, to a context of it.
-spec bind_context(py:pool_name(), py:context()) -> ok.
bind_context(Pool, Ctx) ->
    ?CHECKED(bind_in(Pool, Ctx), [{pool, Pool}, {ctx, Ctx}]).

%% @doc The next use binds by scheduler again.
-spec unbind_context() -> ok.
unbind_context() ->
    py_pool_binding:unbind(default).

-spec unbind_context(py:pool_name()) -> ok.
unbind_context(Pool) when is_atom(Pool) ->
    py_pool_binding:unbind(Pool);
unbind_context(Pool) ->
    ?BADARG(arguments, [{pool, Pool}]).

-spec num_contexts() -> non_neg_integer().
num_contexts() ->
    tuple_size(py_pool_registry:members(default)).

-spec num_contexts(py:pool_name()) -> non_neg_integer().
num_contexts(Pool) when is_atom(Pool) ->
    tuple_size(py_pool_registry:members(Pool));
num_contexts(Pool) ->
    ?BADARG(arguments, [{pool, Pool}]).

-spec contexts() -> [py:context()].
contexts() ->
    contexts_of(default).

%% @doc The contexts in the order of their numbers, all alive.
-spec contexts(py:pool_name()) -> [py:context()].
contexts(Pool) when is_atom(Pool) ->
    contexts_of(Pool);
contexts(Pool) ->
    ?BADARG(arguments, [{pool, Pool}]).

%% --- internal API ---------------------------------------------------------------------

%% @private The way of a call that names no context, if the calling process has made one
%% before, runs no callback, and no function is registered: the first step of most calls.
-spec cached() -> route() | none.
cached() ->
    case py_pool_registry:table() of
        {Members, none} -> cached(Members);
        _ -> none
    end.

%% @private The same without these conditions.
-spec route(py:text(), py:text()) -> route().
route(Module, Function) ->
    case py_pool_registry:table() of
        {Members, none} ->
            bound(Members);
        {Members, Registrations} ->
            case py_pool_names:lookup(Module, Function, Registrations) of
                undefined -> bound(Members);
                Pool -> pool_route(Pool, registered)
            end
    end.

%% @private The way of any other request that names no context.
-spec bound() -> route().
bound() ->
    {Members, _} = py_pool_registry:table(),
    bound(Members).

%% @private The way to a context or pool that a request names. The namespace is that
%% of the calling process.
-spec target(py:target()) -> route() | noproc.
target(Ctx) when is_pid(Ctx) ->
    case py_context_request:lane(Ctx) of
        noproc -> noproc;
        Lane -> {Ctx, Lane, py_direct:process_env(Ctx, Lane)}
    end;
target(Pool) when is_atom(Pool) ->
    pool_route(Pool, named);
target(_) ->
    py_error_info:refuse(arguments).

%% --- internal -------------------------------------------------------------------------

cached(Members) ->
    case get(?BOUND) of
        %% By pid alone: to compare lanes, which are references, costs a function call. In
        %% a callback it is `nested' that stands in the place of the number.
        {Number, Ctx, Route} when element(1, element(Number, Members)) =:= Ctx -> Route;
        _ -> none
    end.

bound(Members) ->
    case cached(Members) of
        none -> py_pool_binding:implicit(Members);
        Route -> Route
    end.

pool_route(Pool, How) ->
    py_pool_binding:in_pool(Pool, py_pool_registry:members(Pool), How).

bound_context() ->
    {Ctx, _Lane, _Env} = bound(),
    case is_process_alive(Ctx) of
        true -> Ctx;
        %% Inside a callback of a context that has ended, the pool still has one.
        false -> live_in(default)
    end.

numbered(N) ->
    case py_pool_registry:members(default) of
        Members when N =< tuple_size(Members) ->
            {Ctx, _Lane} = element(N, Members),
            live(Ctx, default, fun() -> numbered(N) end);
        {} ->
            py_pool_registry:refuse_stopped(default);
        Members ->
            py_error_info:refuse({number, [
                "is ", {value, N}, ", and the last context of pool default has the number ",
                integer_to_list(tuple_size(Members))
            ]})
    end.

live_in(Pool) ->
    {Ctx, _Lane, _Env} = pool_route(Pool, named),
    live(Ctx, Pool, fun() -> live_in(Pool) end).

bind_in(Pool, Ctx) when is_atom(Pool), is_pid(Ctx) ->
    Members = py_pool_registry:members(Pool),
    case py_pool_binding:bind(Pool, Ctx, Members) of
        true -> ok;
        false when Members =:= {} -> py_pool_registry:refuse_stopped(Pool);
        false when node(Ctx) =/= node() -> py_error_info:refuse(arguments);
        false -> py_error_info:refuse({ctx, ["is no context of pool ", {value, Pool}]})
    end;
bind_in(_, _) ->
    py_error_info:refuse(arguments).

contexts_of(Pool) ->
    Contexts = [Ctx || {Ctx, _Lane} <- tuple_to_list(py_pool_registry:members(Pool))],
    case [Ctx || Ctx <- Contexts, not is_process_alive(Ctx)] of
        [] ->
            Contexts;
        Dead ->
            case lists:usort([await_replaced(Ctx, Pool) || Ctx <- Dead]) of
                [ok] -> contexts_of(Pool);
                _ -> [Ctx || Ctx <- Contexts, is_process_alive(Ctx)]
            end
    end.

%% A context that has just been killed is replaced before its successor is named; unless
%% that takes very long.
live(Ctx, Pool, Again) ->
    case is_process_alive(Ctx) of
        true ->
            Ctx;
        false ->
            case await_replaced(Ctx, Pool) of
                ok -> Again();
                given_up -> Ctx
            end
    end.

await_replaced(Ctx, Pool) ->
    await_replaced(Ctx, Pool, ?REPLACE_TRIES).

await_replaced(_Ctx, _Pool, 0) ->
    given_up;
await_replaced(Ctx, Pool, Tries) ->
    _ = Tries =:= ?REPLACE_TRIES orelse (receive after ?REPLACE_MS -> ok end),
    case is_member(Ctx, Pool) andalso py_pool_registry:server(Pool) of
        {ok, Server} ->
            _ = py_pool:replaced(Server, Ctx),
            case is_member(Ctx, Pool) of
                true -> await_replaced(Ctx, Pool, Tries - 1);
                false -> ok
            end;
        wait ->
            await_replaced(Ctx, Pool, Tries - 1);
        _Gone ->
            ok
    end.

is_member(Ctx, Pool) ->
    lists:keymember(Ctx, 1, tuple_to_list(py_pool_registry:members(Pool))).
