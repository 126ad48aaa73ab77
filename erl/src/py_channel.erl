%% SPDX-License-Identifier: Apache-2.0

%% @doc Channels: terms from Erlang to Python, in order, without a request for each.
%%
%% A channel is a term. Give it to Python code as an argument; there `erlang.channel.Channel' takes
%% what was sent. It lives as long as anybody has it, on either side, whatever becomes of worker
%% processes. See `docs/channels.md'.
-module(py_channel).

-include("py_misuse.hrl").
-include("py_objects.hrl").

-export([new/0, new/1, send/2, close/1, info/1]).

-export_type([channel/0, options/0, info/0]).

%% Opaque for users; a reference, so that guards tell it from other terms.
-type channel() :: reference().
%% The bytes that may wait in the channel. 0, as by default: no limit, and what nobody takes stays
%% in memory.
-type options() :: #{max_size => non_neg_integer()}.
-type info() :: #{size := non_neg_integer(), max_size := non_neg_integer(), closed := boolean()}.

%% @doc A channel without a limit: as {@link new/1}.
-spec new() -> {ok, channel()}.
new() ->
    new(#{}).

-spec new(options()) -> {ok, channel()}.
new(Options) ->
    ?ON_OBJECT(py_object:new(?OBJECT_CHANNEL, Options), [{channel_options, Options}]).

%% @doc Sends a term. It is converted at once: what Python cannot have is refused here. `busy': the
%% channel would have more than `max_size' bytes; nothing was sent.
-spec send(channel(), term()) -> ok | busy | {error, closed | {atom() | binary(), string()}}.
send(Channel, Term) ->
    ?ON_OBJECT(ep_nif:channel_send(Channel, Term), [{channel, Channel}, {any, Term}]).

%% @doc Nothing more can be sent. What is there can still be taken; then readers hear of the end.
-spec close(channel()) -> ok.
close(Channel) ->
    ?ON_OBJECT(py_object:close(?OBJECT_CHANNEL, Channel), [{channel, Channel}]).

%% @doc How many bytes wait, and of how many.
-spec info(channel()) -> info().
info(Channel) ->
    ?ON_OBJECT(py_object:info(?OBJECT_CHANNEL, Channel), [{channel, Channel}]).
