%% SPDX-License-Identifier: Apache-2.0

%% @private Which context of a pool the calling process uses: what lies in its
%% process dictionary, and how it comes there.
%%
%% `$py_bound' holds the binding to pool `default'; `{$py_bound, Pool}' that to
%% another pool. While a callback runs, `$py_bound' is `{nested, Route, Saved}':
%% Route is that of the request that made the callback, Saved what was there
%% before, so that the end of the callback restores what the process was bound to.
-module(py_pool_binding).

-include("py_dictionary.hrl").

-export([implicit/1, in_pool/3, nested/0, bind/3, pin/2, unbind/1]).

-export_type([route/0, binding/0]).

-type route() :: {py:context(), ep_nif:lane(), ep_nif:env() | undefined}.
%% Number, the context that was there when it was looked up, and the way there. Or, for pool
%% `default' only, a context outside of the pool.
-type binding() ::
    {pos_integer(), py:context(), route()} | {pinned, py:context(), route()}.

%% @doc The route of a request that names no context and is not registered: the
%% part that is not cached.
-spec implicit(py_pool_registry:members()) -> route().
implicit(Members) ->
    case nested() of
        none -> bound(default, Members);
        Route -> Route
    end.

%% @doc The route of a request to a pool. `named': the caller named the pool, so
%% its own namespace applies; `registered': the request is implicit all the same.
-spec in_pool(py:pool_name(), py_pool_registry:members(), named | registered) -> route().
in_pool(Pool, Members, How) ->
    case nested() of
        none ->
            bound(Pool, Members);
        Route = {Ctx, Lane, _Env} ->
            case number_of(Ctx, Members) of
                none -> bound(Pool, Members);
                _ when How =:= registered -> Route;
                _ -> own_route(Ctx, Lane)
            end
    end.

%% @doc The route of the request around the callback that the process runs.
-spec nested() -> route() | none.
nested() ->
    case get(?BOUND) of
        {nested, Route, _Saved} -> Route;
        _ -> none
    end.

%% @doc Binds to the context of that pool. `false': it is none of it.
-spec bind(py:pool_name(), py:context(), py_pool_registry:members()) -> boolean().
bind(Pool, Ctx, Members) ->
    case number_of(Ctx, Members) of
        none ->
            false;
        Number ->
            _ = bind_number(Pool, Number, Members),
            true
    end.

%% @doc Binds to a context that belongs to no pool, in the place of pool `default'.
-spec pin(py:context(), ep_nif:lane()) -> ok.
pin(Ctx, Lane) ->
    store(default, {pinned, Ctx, own_route(Ctx, Lane)}).

-spec unbind(py:pool_name()) -> ok.
unbind(Pool) ->
    store(Pool, undefined).

%% Internal

bound(Pool, Members) ->
    case binding(Pool) of
        {Number, Ctx, Route} when element(1, element(Number, Members)) =:= Ctx -> Route;
        {pinned, Ctx, Route} -> pinned(Pool, Ctx, Route, Members);
        %% Its context was replaced, or the pool was started anew.
        {Number, _, _} when Number =< tuple_size(Members) -> bind_number(Pool, Number, Members);
        _ -> bind_by_scheduler(Pool, Members)
    end.

pinned(Pool, Ctx, Route, Members) ->
    case py_context_table:lane(Ctx) of
        noproc -> bind_by_scheduler(Pool, Members);
        _ -> Route
    end.

bind_by_scheduler(Pool, {}) ->
    py_pool_registry:refuse_stopped(Pool);
bind_by_scheduler(Pool, Members) ->
    Number = (erlang:system_info(scheduler_id) - 1) rem tuple_size(Members) + 1,
    bind_number(Pool, Number, Members).

bind_number(Pool, Number, Members) ->
    {Ctx, Lane} = element(Number, Members),
    Route = own_route(Ctx, Lane),
    ok = store(Pool, {Number, Ctx, Route}),
    Route.

own_route(Ctx, Lane) ->
    {Ctx, Lane, py_direct:process_env(Ctx, Lane)}.

number_of(Ctx, Members) ->
    number_of(Ctx, tuple_to_list(Members), 1).

number_of(_Ctx, [], _N) -> none;
number_of(Ctx, [{Ctx, _} | _], N) -> N;
number_of(Ctx, [_ | Rest], N) -> number_of(Ctx, Rest, N + 1).

binding(default) -> innermost(get(?BOUND));
binding(Pool) -> get({?BOUND, Pool}).

innermost({nested, _Route, Saved}) -> innermost(Saved);
innermost(Binding) -> Binding.

store(default, Binding) -> set(?BOUND, nest(get(?BOUND), Binding));
store(Pool, Binding) -> set({?BOUND, Pool}, Binding).

nest({nested, Route, Saved}, Binding) -> {nested, Route, nest(Saved, Binding)};
nest(_Former, Binding) -> Binding.

set(Key, undefined) ->
    _ = erase(Key),
    ok;
set(Key, Binding) ->
    _ = put(Key, Binding),
    ok.
