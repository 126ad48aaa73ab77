%% SPDX-License-Identifier: Apache-2.0

%% @private What every interpreter of the node is to find: paths that are registered for all.
%%
%% The truth lies in a table that the top supervisor owns, so a registration outlives every
%% process. Interpreters that run are told; those that start begin with what the table holds.
%% An interpreter that starts while something is registered is told by one of the two: the
%% registration changes the table before it asks the contexts, and py_worker reads the number of
%% the change before and after it has attached a context.
-module(py_code).

-export([create_table/0, add_paths/1, paths/0, is_path/1, clear_paths/0]).
-export([prologue/1, change/0, catch_up/2]).

-export_type([change/0]).

-type change() :: non_neg_integer().

%% {{path, Path}, Number}, and {change, change()}.
-define(TABLE, ?MODULE).

-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    true = ets:insert(?TABLE, {change, 0}),
    ok.

%% @doc When this returns each context has them before its next request.
-spec add_paths([binary()]) -> ok.
add_paths(Paths) ->
    New = [Path || Path <- Paths, ets:insert_new(?TABLE, {{path, Path}, erlang:unique_integer([monotonic])})],
    New =:= [] orelse tell(),
    ok.

%% @doc In the order in which they were added.
-spec paths() -> [binary()].
paths() ->
    Rows = ets:select(?TABLE, [{{{path, '$1'}, '$2'}, [], [{{'$2', '$1'}}]}]),
    [Path || {_Number, Path} <- lists:sort(Rows)].

-spec is_path(binary()) -> boolean().
is_path(Path) ->
    ets:member(?TABLE, {path, Path}).

%% @doc Interpreters that run keep them.
-spec clear_paths() -> ok.
clear_paths() ->
    true = ets:match_delete(?TABLE, {{path, '_'}, '_'}),
    ok.

%% @doc What an interpreter begins with, see {@link py_maintenance:prologue/3}. Own: paths of its
%% pool or context, which come first.
-spec prologue([binary()]) -> [{atom(), list()}].
prologue(Own) ->
    [{set_paths, [Own]} || Own =/= []] ++ [{add_paths, [Paths]} || Paths <- [paths()], Paths =/= []].

%% @doc The number of the last registration.
-spec change() -> change().
change() ->
    ets:lookup_element(?TABLE, change, 2).

%% @doc By what has attached a lane with a prologue that is not older than that change.
-spec catch_up(ep_nif:lane(), change()) -> ok.
catch_up(Lane, Change) ->
    case change() of
        Change ->
            ok;
        _ ->
            %% Nobody waits for the answer. An error: the process has ended, and so on.
            _ = ep_nif:inquire_first(Lane, make_ref(), add_paths, [paths()]),
            ok
    end.

%% Internal

tell() ->
    _ = ets:update_counter(?TABLE, change, 1),
    _ = py_inquiry:ask(py_context_table:all(), first, add_paths, [paths()]),
    ok.
