%% SPDX-License-Identifier: Apache-2.0

%% @private Several calls at once. Each item has a helper, so that callbacks of all
%% of them can run at the same time; a caller that dies takes its items with it.
-module(py_parallel).

-include("py_limits.hrl").

-export([run/2]).
%% Internal
-export([item/4]).

-spec run([{py:text(), py:text(), list()}], timeout()) -> {ok, [py:result()]}.
run([], _Timeout) ->
    {ok, []};
%% The guard fails for an improper list, too.
run(Calls, Timeout) when length(Calls) > 0 ->
    Items = [check(Call) || Call <- Calls],
    Members = py_pool_registry:members(default),
    tuple_size(Members) > 0 orelse py_pool_registry:refuse_stopped(default),
    How = {?PLAIN(Timeout), py_nesting:frame()},
    {Refs, _} = lists:mapfoldl(
        fun(Item, I) -> {start(Item, element(I rem tuple_size(Members) + 1, Members), How), I + 1} end,
        0,
        Items
    ),
    Results = collect(maps:from_keys(Refs, pending), length(Refs)),
    {ok, [maps:get(Ref, Results) || Ref <- Refs]};
run(_Calls, _Timeout) ->
    py_error_info:refuse(arguments).

%% @private The helper of an item. Its end carries the result, so that there is one
%% message, whatever happens to it.
-spec item(
    pid(),
    py_context_router:route(),
    {py:text(), py:text(), list(), map()},
    {py_options:options(), py_nesting:frame() | undefined}
) -> no_return().
item(Caller, Route, Item, How) ->
    exit({result, py_async:guarded(Caller, Route, Item, How)}).

%% Internal

check({Module, Function, Args}) when is_list(Args) ->
    {py_text:text(Module), py_text:text(Function), Args, #{}};
check(_) ->
    py_error_info:refuse(arguments).

start(Item, {Ctx, Lane}, How) ->
    {_Pid, Ref} = spawn_monitor(?MODULE, item, [self(), {Ctx, Lane, undefined}, Item, How]),
    Ref.

%% In order of arrival: what waits in the mailbox is looked at once.
collect(Results, 0) ->
    Results;
collect(Results, Left) ->
    receive
        {'DOWN', Ref, process, _Pid, Reason} when is_map_key(Ref, Results) ->
            collect(Results#{Ref := result(Reason)}, Left - 1)
    end.

result({result, Result}) -> Result;
%% A callback killed the process it ran in.
result(Reason) -> {error, {'CallbackError', lists:flatten(io_lib:format("exit: ~tp", [Reason]))}}.
