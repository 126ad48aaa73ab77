%% SPDX-License-Identifier: Apache-2.0

%% @doc State that Erlang and Python code of this node share: a table of terms with
%% atomic counters. It lives until the application stops.
%%
%% The number of entries is kept beside the table, and counted before an entry is
%% made, so that many processes at once cannot exceed `max_state_entries'.
-module(py_state).

-include("py_misuse.hrl").

-export([fetch/1, store/2, remove/1, keys/0, clear/0, incr/1, incr/2, decr/1, decr/2]).
%% Internal
-export([create_table/0]).

-define(TABLE, ?MODULE).

-spec fetch(term()) -> {ok, term()} | {error, not_found}.
fetch(Key) ->
    try ets:lookup(?TABLE, Key) of
        [{_, Value}] -> {ok, Value};
        [] -> {error, not_found}
    catch
        error:badarg -> ?BADARG(not_started, [{key, Key}])
    end.

-spec store(term(), term()) -> ok | {error, full}.
store(Key, Value) ->
    ?CHECKED(put_value(Key, Value), [{key, Key}, {value, Value}]).

-spec remove(term()) -> ok.
remove(Key) ->
    ?CHECKED(uncount(length(on_table(fun() -> ets:take(?TABLE, Key) end))), [{key, Key}]).

%% @doc All keys, in any order.
-spec keys() -> [term()].
keys() ->
    ?CHECKED(on_table(fun() -> ets:select(?TABLE, [{{'$1', '_'}, [], ['$1']}]) end), []).

-spec clear() -> ok.
clear() ->
    All = [{{'_', '_'}, [], [true]}],
    ?CHECKED(uncount(on_table(fun() -> ets:select_delete(?TABLE, All) end)), []).

-spec incr(term()) -> integer() | {error, full}.
incr(Key) ->
    ?CHECKED(add(Key, 1), [{counter, Key}]).

%% @doc Adds to an integer, atomically; a key that is not there counts as 0.
-spec incr(term(), integer()) -> integer() | {error, full}.
incr(Key, N) ->
    ?CHECKED(add(Key, N), [{counter, Key}, {amount, N}]).

-spec decr(term()) -> integer() | {error, full}.
decr(Key) ->
    ?CHECKED(add(Key, -1), [{counter, Key}]).

-spec decr(term(), integer()) -> integer() | {error, full}.
decr(Key, N) ->
    ?CHECKED(subtract(Key, N), [{counter, Key}, {amount, N}]).

%% Internal API

%% @private
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [
        named_table, public, {read_concurrency, true}, {write_concurrency, true}
    ]),
    persistent_term:put(?TABLE, atomics:new(1, [])).

%% Internal

%% The table ends with the application.
on_table(Fun) ->
    try
        Fun()
    catch
        error:badarg -> py_error_info:refuse(not_started)
    end.

put_value(Key, Value) ->
    case on_table(fun() -> ets:update_element(?TABLE, Key, {2, Value}) end) of
        true ->
            ok;
        false ->
            case insert_new(Key, Value) of
                true -> ok;
                false -> put_value(Key, Value);
                full -> {error, full}
            end
    end.

subtract(Key, N) when is_integer(N) -> add(Key, -N);
subtract(_Key, _N) -> py_error_info:refuse(arguments).

add(Key, N) when is_integer(N) ->
    try
        ets:update_counter(?TABLE, Key, {2, N})
    catch
        error:badarg -> add_new(Key, N)
    end;
add(_Key, _N) ->
    py_error_info:refuse(arguments).

add_new(Key, N) ->
    case on_table(fun() -> ets:lookup(?TABLE, Key) end) of
        [{_, Value}] when not is_integer(Value) ->
            py_error_info:refuse(
                {counter, ["has the value ", {value, Value}, ", which is no integer to count with"]}
            );
        [_] ->
            add(Key, N);
        [] ->
            case insert_new(Key, N) of
                true -> N;
                false -> add(Key, N);
                full -> {error, full}
            end
    end.

insert_new(Key, Value) ->
    %% First, for a bad one is refused.
    Max = py_config:get(max_state_entries),
    case atomics:add_get(persistent_term:get(?TABLE), 1, 1) =< Max of
        true ->
            ets:insert_new(?TABLE, {Key, Value}) orelse
                begin
                    ok = uncount(1),
                    false
                end;
        false ->
            ok = uncount(1),
            full
    end.

uncount(N) ->
    atomics:sub(persistent_term:get(?TABLE), 1, N).
