%% SPDX-License-Identifier: Apache-2.0

%% @doc How many requests may run at the same time on this node.
%%
%% Requests take and give back their slots themselves; the functions here look at
%% the limit, change it, or hold slots for something else.
-module(py_semaphore).

-include("ep_nif.hrl").
-include("py_dictionary.hrl").
-include("py_limits.hrl").
-include("py_misuse.hrl").

-export([max_concurrent/0, current/0, set_max_concurrent/1, acquire/1, release/0]).

-spec max_concurrent() -> pos_integer().
max_concurrent() ->
    {_Current, Max, _Waiting} = ep_nif:slots(),
    Max.

%% @doc Slots in use.
-spec current() -> non_neg_integer().
current() ->
    {Current, _Max, _Waiting} = ep_nif:slots(),
    Current.

%% @doc At once: more lets waiters in; fewer lets running requests end and nobody in
%% until there is room.
-spec set_max_concurrent(pos_integer()) -> ok.
set_max_concurrent(N) when is_integer(N), N > 0, N =< ?MAX_SLOTS ->
    ep_nif:set_max_slots(N);
set_max_concurrent(N) ->
    ?BADARG(arguments, [{max, N}]).

%% @doc Takes a slot for the calling process, which gives it back with release/0, or by
%% its death. It may hold several. 0: only if one is free.
-spec acquire(timeout()) -> ok | {error, max_concurrent}.
acquire(Timeout) when ?IS_TIMEOUT(Timeout) ->
    Tag = make_ref(),
    case ep_nif:slot_acquire(Tag, hold) of
        {held, Slot} ->
            hold(Slot);
        {waiting, Slot} ->
            receive
                {py_slot, Tag} -> hold(Slot)
            after Timeout -> give_up(Slot, Tag)
            end
    end;
acquire(Timeout) ->
    ?BADARG(arguments, [{timeout, Timeout}]).

%% @doc Gives a slot back. No effect unless the calling process holds one.
-spec release() -> ok.
release() ->
    case get(?HELD) of
        [Slot | Rest] ->
            _ = put(?HELD, Rest),
            held = ep_nif:slot_release(Slot),
            ok;
        _ ->
            ok
    end.

%% Internal

hold(Slot) ->
    Held =
        case get(?HELD) of
            undefined -> [];
            Slots -> Slots
        end,
    _ = put(?HELD, [Slot | Held]),
    ok.

give_up(Slot, Tag) ->
    case ep_nif:slot_release(Slot) of
        waiting ->
            {error, max_concurrent};
        held ->
            receive
                {py_slot, Tag} -> {error, max_concurrent}
            end
    end.
