%% SPDX-License-Identifier: Apache-2.0

%% @private What channels, byte channels, buffers and shared dicts have in common.
-module(py_object).

-include("py_objects.hrl").

-export([new/2, close/2, info/2, fault/1]).

%% See EP_DICT_KEY_MAX.
-define(KEY_MAX, 65536).

-spec new(0..3, #{max_size => non_neg_integer()}) -> {ok, reference()}.
new(Kind, Options) when is_map(Options) ->
    case maps:to_list(Options) of
        [] -> make(Kind, 0);
        [{max_size, Size}] when is_integer(Size), Size >= 0, Size < 1 bsl 64 -> make(Kind, Size);
        _ -> error(badarg)
    end;
new(_Kind, _Options) ->
    error(badarg).

make(Kind, MaxSize) ->
    case ep_nif:object_new(Kind, MaxSize) of
        Object when is_reference(Object) -> {ok, Object};
        {error, enomem} -> error(system_limit)
    end.

-spec close(0..3, reference()) -> ok.
close(Kind, Object) ->
    {Kind, _, _, _, _} = known(Kind, Object),
    ep_nif:object_close(Object).

-spec info(0..3, reference()) ->
    #{size := non_neg_integer(), max_size := non_neg_integer(), closed := boolean()}.
info(Kind, Object) ->
    {Kind, Bytes, MaxSize, IsClosed, _} = known(Kind, Object),
    #{size => Bytes, max_size => MaxSize, closed => IsClosed}.

%% @doc What was wrong with the arguments of a function that has failed.
-spec fault(py_error_info:named()) -> py_error_info:why().
fault([{Role, Value} | Rest]) ->
    case is_good(Role, Value) of
        true -> fault(Rest);
        false -> {Role, [must(Role), ", and is ", {value, Value}]}
    end;
fault([]) ->
    arguments.

is_good(channel, Object) -> is_kind(?OBJECT_CHANNEL, Object);
is_good(byte_channel, Object) -> is_kind(?OBJECT_BYTE_CHANNEL, Object);
is_good(buffer, Object) -> is_kind(?OBJECT_BUFFER, Object);
is_good(dict, Object) -> is_kind(?OBJECT_DICT, Object) andalso not is_closed(Object);
is_good(dict_key, Key) -> is_binary(Key) andalso byte_size(Key) =< ?KEY_MAX;
is_good(bin, Bin) -> is_binary(Bin);
%% The only thing that can be wrong where there are these.
is_good(Role, _) when Role =:= channel_options; Role =:= content_length -> false;
is_good(_Role, _Value) -> true.

must(channel) -> "must be made by py_channel:new/0,1";
must(byte_channel) -> "must be made by py_byte_channel:new/0,1";
must(buffer) -> "must be made by py_buffer:new/0,1";
must(dict) -> "must be made by py:shared_dict_new/0, and not be destroyed";
must(dict_key) -> ["must be a binary of at most ", integer_to_list(?KEY_MAX), " bytes"];
must(bin) -> "must be a binary";
must(channel_options) -> "must be #{} or #{max_size => Bytes}";
must(content_length) -> "must be undefined, or a number of bytes".

is_kind(Kind, Object) ->
    case ep_nif:object_info(Object) of
        {Kind, _, _, _, _} -> true;
        _ -> false
    end.

is_closed(Object) ->
    {_, _, _, IsClosed, _} = ep_nif:object_info(Object),
    IsClosed.

known(Kind, Object) ->
    case ep_nif:object_info(Object) of
        {Kind, _, _, _, _} = Info -> Info;
        _ -> error(badarg)
    end.
