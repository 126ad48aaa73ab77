%% SPDX-License-Identifier: Apache-2.0

%% @doc State that Erlang and Python code of this node share: a table of terms with
%% atomic counters. It lives until the application stops.
%%
%% The number of entries is kept beside the table, and counted before an entry is
%% made, so that many processes at once cannot exceed `max_state_entries'.
-module(py_state).

-export([fetch/1, store/2, remove/1, keys/0, clear/0, incr/1, incr/2, decr/1, decr/2]).
%% Internal
-export([create_table/0]).

-define(TABLE, ?MODULE).

-spec fetch(term()) -> {ok, term()} | {error, not_found}.
fetch(Key) ->
    case ets:lookup(?TABLE, Key) of
        [{_, Value}] -> {ok, Value};
        [] -> {error, not_found}
    end.

-spec store(term(), term()) -> ok | {error, full}.
store(Key, Value) ->
    case ets:update_element(?TABLE, Key, {2, Value}) of
        true ->
            ok;
        false ->
            case insert_new(Key, Value) of
                true -> ok;
                false -> store(Key, Value);
                full -> {error, full}
            end
    end.

-spec remove(term()) -> ok.
remove(Key) ->
    uncount(length(ets:take(?TABLE, Key))).

%% @doc All keys, in any order.
-spec keys() -> [term()].
keys() ->
    ets:select(?TABLE, [{{'$1', '_'}, [], ['$1']}]).

-spec clear() -> ok.
clear() ->
    uncount(ets:select_delete(?TABLE, [{{'_', '_'}, [], [true]}])).

-spec incr(term()) -> integer() | {error, full}.
incr(Key) ->
    incr(Key, 1).

%% @doc Adds to an integer, atomically; a key that is not there counts as 0.
-spec incr(term(), integer()) -> integer() | {error, full}.
incr(Key, N) when is_integer(N) ->
    try
        ets:update_counter(?TABLE, Key, {2, N})
    catch
        error:badarg -> incr_new(Key, N)
    end;
incr(_Key, _N) ->
    error(badarg).

-spec decr(term()) -> integer() | {error, full}.
decr(Key) ->
    incr(Key, -1).

-spec decr(term(), integer()) -> integer() | {error, full}.
decr(Key, N) when is_integer(N) ->
    incr(Key, -N);
decr(_Key, _N) ->
    error(badarg).

%% Internal API

%% @private
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [
        named_table, public, {read_concurrency, true}, {write_concurrency, true}
    ]),
    persistent_term:put(?TABLE, atomics:new(1, [])).

%% Internal

incr_new(Key, N) ->
    case ets:lookup(?TABLE, Key) of
        [{_, Value}] when not is_integer(Value) ->
            error(badarg);
        [_] ->
            incr(Key, N);
        [] ->
            case insert_new(Key, N) of
                true -> N;
                false -> incr(Key, N);
                full -> {error, full}
            end
    end.

insert_new(Key, Value) ->
    Counter = persistent_term:get(?TABLE),
    case atomics:add_get(Counter, 1, 1) =< py_config:get(max_state_entries) of
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
