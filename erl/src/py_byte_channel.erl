%% SPDX-License-Identifier: Apache-2.0

%% @doc Byte channels: binaries in both directions, each message as it was sent.
%%
%% What one side sends the other one receives. As long as Python was not given the channel, both
%% ends are Erlang's. See `docs/channels.md'.
-module(py_byte_channel).

-include("py_limits.hrl").
-include("py_misuse.hrl").
-include("py_objects.hrl").

-export([new/0, new/1, send/2, try_receive/1, recv/1, recv/2, close/1, info/1]).

-export_type([channel/0]).

%% How long a receiver leaves what Erlang has sent to Python code that has not been given the channel.
-define(GIVE_MS, 100).

%% Opaque for users; a reference, so that guards tell it from other terms.
-type channel() :: reference().

-spec new() -> {ok, channel()}.
new() ->
    new(#{}).

%% @doc `max_size': the bytes that may wait in each direction.
-spec new(py_channel:options()) -> {ok, channel()}.
new(Options) ->
    ?ON_OBJECT(py_object:new(?OBJECT_BYTE_CHANNEL, Options), [{channel_options, Options}]).

%% @doc `busy': there would be more than `max_size' bytes; nothing was sent.
-spec send(channel(), binary()) -> ok | busy | {error, closed | {atom() | binary(), string()}}.
send(Channel, Bin) ->
    ?ON_OBJECT(ep_nif:channel_put(Channel, Bin), [{byte_channel, Channel}, {bin, Bin}]).

-spec try_receive(channel()) -> {ok, binary()} | {error, empty | closed}.
try_receive(Channel) ->
    ?ON_OBJECT(take(Channel), [{byte_channel, Channel}]).

take(Channel) ->
    case ep_nif:channel_take(Channel) of
        {ok, _} = Answer -> Answer;
        {error, Why} -> take_back(Channel, Why)
    end.

take_back(Channel, Why) ->
    case ep_nif:channel_take_back(Channel) of
        {ok, _} = Answer -> Answer;
        {error, _} -> {error, Why}
    end.

%% @doc As {@link recv/2}, without end.
-spec recv(channel()) -> {ok, binary()} | {error, closed | waiter_exists}.
recv(Channel) ->
    ?ON_OBJECT(receive_until(Channel, infinity), [{byte_channel, Channel}]).

%% @doc Waits for a message. `waiter_exists': another process waits already. After a timeout
%% nothing stays registered.
-spec recv(channel(), timeout()) -> {ok, binary()} | {error, closed | timeout | waiter_exists}.
recv(Channel, Timeout) when ?IS_TIMEOUT(Timeout) ->
    ?ON_OBJECT(receive_until(Channel, deadline(Timeout)), [{byte_channel, Channel}, {timeout, Timeout}]);
recv(Channel, Timeout) ->
    ?BADARG(arguments, [{byte_channel, Channel}, {timeout, Timeout}]).

deadline(infinity) -> infinity;
deadline(Ms) -> erlang:monotonic_time(millisecond) + Ms.

receive_until(Channel, Deadline) ->
    case ep_nif:channel_take(Channel) of
        {ok, _} = Answer -> Answer;
        {error, closed} -> take_back(Channel, closed);
        {error, empty} -> wait(Channel, Deadline)
    end.

wait(Channel, Deadline) ->
    case left(Deadline) of
        0 ->
            take_back(Channel, timeout);
        Left ->
            Tag = make_ref(),
            case ep_nif:channel_wait(Channel, Tag) of
                {waiting, IsShown} -> woken(Channel, Tag, slice(IsShown, Left), Deadline);
                again -> receive_until(Channel, Deadline);
                waiter_exists -> {error, waiter_exists}
            end
    end.

%% Python may be about to be given the channel; if it is not, what Erlang has sent is for Erlang.
slice(true, Left) -> Left;
%% infinity, an atom, is larger than any number.
slice(false, Left) -> min(Left, ?GIVE_MS).

woken(Channel, Tag, Slice, Deadline) ->
    receive
        {py_object, Tag} -> receive_until(Channel, Deadline)
    after Slice ->
        case ep_nif:channel_unwait(Channel, Tag) of
            true ->
                not_woken(Channel, Deadline);
            false ->
                %% The message and the timeout crossed: it is on its way, and there is something.
                receive
                    {py_object, Tag} -> receive_until(Channel, Deadline)
                end
        end
    end.

not_woken(Channel, Deadline) ->
    case take_back(Channel, timeout) of
        {error, timeout} -> receive_until(Channel, Deadline);
        Answer -> Answer
    end.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

-spec close(channel()) -> ok.
close(Channel) ->
    ?ON_OBJECT(py_object:close(?OBJECT_BYTE_CHANNEL, Channel), [{byte_channel, Channel}]).

%% @doc `size': the bytes that wait, in both directions.
-spec info(channel()) -> py_channel:info().
info(Channel) ->
    ?ON_OBJECT(py_object:info(?OBJECT_BYTE_CHANNEL, Channel), [{byte_channel, Channel}]).
