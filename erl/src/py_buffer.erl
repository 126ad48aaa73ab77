%% SPDX-License-Identifier: Apache-2.0

%% @doc Buffers: bytes that Erlang writes and Python reads as a file, while they come.
%%
%% In Python a buffer is an `erlang.PyBuffer', fit for `wsgi.input'. See `docs/channels.md'.
-module(py_buffer).

-include("py_misuse.hrl").
-include("py_objects.hrl").

-export([new/0, new/1, write/2, close/1]).

-export_type([buffer/0]).

%% Opaque for users; a reference, so that guards tell it from other terms.
-type buffer() :: reference().

-spec new() -> {ok, buffer()}.
new() ->
    new(undefined).

%% @doc ContentLength says how much will come, if that is known. It is no limit.
-spec new(undefined | non_neg_integer()) -> {ok, buffer()}.
new(undefined) ->
    py_object:new(?OBJECT_BUFFER, #{});
new(ContentLength) when is_integer(ContentLength), ContentLength >= 0 ->
    py_object:new(?OBJECT_BUFFER, #{});
new(ContentLength) ->
    Named = [{content_length, ContentLength}],
    ?BADARG(py_object:fault(Named), Named).

%% @doc Appends. `write_failed': memory is short.
-spec write(buffer(), binary()) -> ok | {error, closed | write_failed | invalid_buffer}.
write(Buffer, Bin) ->
    ?ON_OBJECT(ep_nif:buffer_write(Buffer, Bin), [{any, Buffer}, {bin, Bin}]).

%% @doc Marks the end: readers need not wait for more.
-spec close(buffer()) -> ok.
close(Buffer) ->
    ?ON_OBJECT(py_object:close(?OBJECT_BUFFER, Buffer), [{buffer, Buffer}]).
