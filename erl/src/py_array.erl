%% SPDX-License-Identifier: Apache-2.0

%% @doc Arrays in memory that Erlang and Python share.
%%
%% An array is a term: it may be sent to any process of this node, stored, compared, and passed
%% to Python at any depth of an argument, where it is a read-only `numpy.ndarray' over the same
%% memory. Data lie in C order and native byte order. See `docs/arrays.md'.
-module(py_array).

-include("py_misuse.hrl").

-export([
    from_binary/3,
    new/2,
    write/3,
    seal/1,
    to_binary/1,
    from_list/2,
    to_list/1,
    slice/3,
    shape/1,
    dtype/1,
    nbytes/1,
    is_array/1,
    info/1
]).

-export_type([py_array/0, dtype/0, shape/0]).

%% Opaque for users; a reference, so that guards tell it from other terms.
-type py_array() :: reference().
-type dtype() ::
    bool
    | int8
    | int16
    | int32
    | int64
    | uint8
    | uint16
    | uint32
    | uint64
    | float16
    | float32
    | float64
    | complex64
    | complex128.
%% `{}' for a single element.
-type shape() :: tuple().
-type no_memory() :: {'MemoryError', string()}.

-define(DTYPES, [
    bool,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
    float16,
    float32,
    float64,
    complex64,
    complex128
]).

%% See EP_ARRAY_DIMS_MAX.
-define(DIMS_MAX, 32).

%% What is checked below says badarg; what users see says which of the arguments it is.
-define(ON_ARRAY(Expression, Named),
    try
        Expression
    catch
        error:badarg -> ?BADARG(fault(Named), Named)
    end
).

%% @doc Copies a binary into a new array, which is sealed. `badarg' if the size is not that of the
%% shape.
-spec from_binary(binary(), dtype(), shape()) -> {ok, py_array()} | {error, no_memory()}.
from_binary(Bin, Dtype, Shape) ->
    ?ON_ARRAY(ep_nif:array_from_binary(Bin, Dtype, Shape), [{bin, Bin}, {dtype, Dtype}, {shape, Shape}]).

%% @doc Makes an array of zeros that only the calling process may write, until it seals it.
-spec new(dtype(), shape()) -> {ok, py_array()} | {error, no_memory()}.
new(Dtype, Shape) ->
    ?ON_ARRAY(ep_nif:array_new(Dtype, Shape), [{dtype, Dtype}, {shape, Shape}]).

%% @doc Writes into an array that the calling process has made and not sealed.
-spec write(py_array(), non_neg_integer(), binary()) -> ok | {error, sealed | not_owner | lost}.
write(Array, ByteOffset, Bin) ->
    ?ON_ARRAY(ep_nif:array_write(Array, ByteOffset, Bin), [{array, Array}, {byte_offset, ByteOffset}, {bin, Bin}]).

%% @doc From now on everybody may read the array, and nobody may write it.
-spec seal(py_array()) -> ok | {error, not_owner | lost}.
seal(Array) ->
    ?ON_ARRAY(ep_nif:array_seal(Array), [{array, Array}]).

%% @doc The bytes of an array. From 64 KiB up the binary refers to the shared memory if no worker
%% process can write it, which holds for arrays made by Erlang; else it is a copy.
-spec to_binary(py_array()) -> {ok, binary()} | {error, not_sealed | lost | no_memory()}.
to_binary(Array) ->
    ?ON_ARRAY(ep_nif:array_to_binary(Array), [{array, Array}]).

%% @doc A part of an array: rows of its leading axis, counted from 0, in the same memory.
-spec slice(py_array(), non_neg_integer(), non_neg_integer()) ->
    {ok, py_array()} | {error, not_sealed | lost | no_memory()}.
slice(Array, Start, Length) ->
    ?ON_ARRAY(ep_nif:array_slice(Array, Start, Length), [{array, Array}, {start, Start}, {rows, Length}]).

-spec shape(py_array()) -> shape().
shape(Array) ->
    ?ON_ARRAY(element(2, known(Array)), [{array, Array}]).

-spec dtype(py_array()) -> dtype().
dtype(Array) ->
    ?ON_ARRAY(element(1, known(Array)), [{array, Array}]).

-spec nbytes(py_array()) -> non_neg_integer().
nbytes(Array) ->
    ?ON_ARRAY(element(3, known(Array)), [{array, Array}]).

-spec is_array(term()) -> boolean().
is_array(Term) ->
    ep_nif:array_info(Term) =/= false.

%% @doc What is known of an array. `holders': whether the VM holds it, which it does as long as
%% somebody can ask, and how many worker processes do.
-spec info(py_array()) ->
    #{
        shape := shape(),
        dtype := dtype(),
        nbytes := non_neg_integer(),
        state := open | sealed | lost,
        owner := pid() | undefined,
        holders := #{vm := pos_integer(), workers := non_neg_integer()}
    }.
info(Array) ->
    {Dtype, Shape, Bytes, State, Owner, Workers} = ?ON_ARRAY(known(Array), [{array, Array}]),
    #{
        shape => Shape,
        dtype => Dtype,
        nbytes => Bytes,
        state => State,
        owner => Owner,
        holders => #{vm => 1, workers => Workers}
    }.

known(Array) ->
    case ep_nif:array_info(Array) of
        false -> error(badarg);
        Info -> Info
    end.

%% @doc Makes an array of numbers in nested lists, or of one number. `badarg' if the lists of one
%% level have different lengths, or a number does not fit.
-spec from_list(number() | boolean() | list(), dtype()) -> {ok, py_array()} | {error, no_memory()}.
from_list(Nested, Dtype) ->
    ?ON_ARRAY(of_list(Nested, Dtype), [{nested, Nested}, {dtype, Dtype}]).

of_list(Nested, Dtype) ->
    Encode = encoder(Dtype),
    Shape = shape_of(Nested),
    Bin = iolist_to_binary(encode(Nested, Shape, Encode)),
    ep_nif:array_from_binary(Bin, Dtype, list_to_tuple(Shape)).

shape_of([First | _] = List) -> [length(List) | shape_of(First)];
shape_of([]) -> [0];
shape_of(_Number) -> [].

encode(List, [Length | Shape], Encode) when length(List) =:= Length ->
    [encode(Element, Shape, Encode) || Element <- List];
encode(Number, [], Encode) when not is_list(Number) ->
    Encode(Number);
encode(_Ragged, _Shape, _Encode) ->
    error(badarg).

encoder(bool) ->
    fun
        (true) -> 1;
        (false) -> 0;
        (_) -> error(badarg)
    end;
encoder(Dtype) ->
    case kind(Dtype) of
        {float, Bits} -> fun(X) -> float_bytes(X, Bits) end;
        {complex, Bits} -> fun(X) -> complex_bytes(X, Bits div 2) end;
        Kind -> fun(X) -> integer_bytes(X, Kind) end
    end.

integer_bytes(X, {signed, Bits}) when is_integer(X), X >= -(1 bsl (Bits - 1)), X < 1 bsl (Bits - 1) ->
    <<X:Bits/signed-native>>;
integer_bytes(X, {unsigned, Bits}) when is_integer(X), X >= 0, X < 1 bsl Bits ->
    <<X:Bits/unsigned-native>>;
integer_bytes(_X, _Kind) ->
    error(badarg).

%% As results have them.
float_bytes(nan, 64) -> <<16#7FF8000000000000:64/native>>;
float_bytes(infinity, 64) -> <<16#7FF0000000000000:64/native>>;
float_bytes(neg_infinity, 64) -> <<16#FFF0000000000000:64/native>>;
float_bytes(nan, 32) -> <<16#7FC00000:32/native>>;
float_bytes(infinity, 32) -> <<16#7F800000:32/native>>;
float_bytes(neg_infinity, 32) -> <<16#FF800000:32/native>>;
float_bytes(nan, 16) -> <<16#7E00:16/native>>;
float_bytes(infinity, 16) -> <<16#7C00:16/native>>;
float_bytes(neg_infinity, 16) -> <<16#FC00:16/native>>;
float_bytes(X, Bits) when is_number(X) -> <<X:Bits/float-native>>;
float_bytes(_X, _Bits) -> error(badarg).

complex_bytes({Re, Im}, Bits) -> [float_bytes(Re, Bits), float_bytes(Im, Bits)];
complex_bytes(Re, Bits) -> [float_bytes(Re, Bits), float_bytes(0, Bits)].

%% @doc The numbers of an array in nested lists; of one without dimensions, the number. A complex
%% number is `{Re, Im}'.
-spec to_list(py_array()) -> {ok, term()} | {error, not_sealed | lost | no_memory()}.
to_list(Array) ->
    case ?ON_ARRAY(ep_nif:array_to_binary(Array), [{array, Array}]) of
        {ok, Bin} ->
            {Dtype, Shape, Bytes, _, _, _} = known(Array),
            {ok, decode(Bin, tuple_to_list(Shape), Bytes, decoder(Dtype))};
        Error ->
            Error
    end.

decode(Bin, [], _Bytes, Decode) ->
    Decode(Bin);
decode(_Bin, [0 | _], _Bytes, _Decode) ->
    [];
decode(Bin, [Length | Shape], Bytes, Decode) ->
    Size = Bytes div Length,
    [decode(binary:part(Bin, I * Size, Size), Shape, Size, Decode) || I <- lists:seq(0, Length - 1)].

decoder(bool) ->
    fun(<<X>>) -> X =/= 0 end;
decoder(Dtype) ->
    case kind(Dtype) of
        {signed, Bits} ->
            fun(Bin) ->
                <<X:Bits/signed-native>> = Bin,
                X
            end;
        {unsigned, Bits} ->
            fun(Bin) ->
                <<X:Bits/unsigned-native>> = Bin,
                X
            end;
        {float, Bits} ->
            fun(Bin) -> number(Bin, Bits) end;
        {complex, Bits} ->
            Half = Bits div 16,
            fun(Bin) ->
                <<Re:Half/binary, Im:Half/binary>> = Bin,
                {number(Re, Bits div 2), number(Im, Bits div 2)}
            end
    end.

number(Bin, Bits) ->
    case Bin of
        <<X:Bits/float-native>> -> X;
        _ -> no_number(Bin, Bits)
    end.

no_number(Bin, Bits) ->
    <<X:Bits/native>> = Bin,
    Mantissa = X band ((1 bsl mantissa(Bits)) - 1),
    case {Mantissa, X bsr (Bits - 1)} of
        {0, 0} -> infinity;
        {0, 1} -> neg_infinity;
        _ -> nan
    end.

mantissa(64) -> 52;
mantissa(32) -> 23;
mantissa(16) -> 10.

kind(int8) -> {signed, 8};
kind(int16) -> {signed, 16};
kind(int32) -> {signed, 32};
kind(int64) -> {signed, 64};
kind(uint8) -> {unsigned, 8};
kind(uint16) -> {unsigned, 16};
kind(uint32) -> {unsigned, 32};
kind(uint64) -> {unsigned, 64};
kind(float16) -> {float, 16};
kind(float32) -> {float, 32};
kind(float64) -> {float, 64};
kind(complex64) -> {complex, 64};
kind(complex128) -> {complex, 128};
kind(_Unknown) -> error(badarg).

%% Misuse

%% What was wrong with the arguments of a function that has failed.
fault(Named) ->
    case [{Role, must(Role), Value} || {Role, Value} <- Named, not is_good(Role, Value)] of
        [{Role, Must, Value} | _] -> {Role, [Must, ", and is ", {value, Value}]};
        [] -> together(Named)
    end.

is_good(array, Array) -> is_array(Array);
is_good(bin, Bin) -> is_binary(Bin);
is_good(dtype, Dtype) -> lists:member(Dtype, ?DTYPES);
is_good(shape, Shape) -> is_tuple(Shape) andalso tuple_size(Shape) =< ?DIMS_MAX andalso are_sizes(Shape);
is_good(nested, _Nested) -> true;
is_good(_Size, Size) -> is_integer(Size) andalso Size >= 0.

are_sizes(Shape) ->
    lists:all(fun(Size) -> is_integer(Size) andalso Size >= 0 andalso Size < 1 bsl 64 end, tuple_to_list(Shape)).

must(array) -> "must be an array, such as py_array:from_binary/3 makes";
must(bin) -> "must be a binary";
must(dtype) -> ["must be one of ", lists:join(", ", [atom_to_list(Dtype) || Dtype <- ?DTYPES])];
must(shape) -> ["must be a tuple of at most ", integer_to_list(?DIMS_MAX), " sizes, such as {2, 3}"];
must(nested) -> "must be a number that fits the type, or nested lists of such numbers, as long as each other at each level";
must(_Size) -> "must be an integer from 0".

%% Each is good alone.
together([{bin, Bin}, {dtype, Dtype}, {shape, Shape}]) ->
    Needed = lists:foldl(fun(Size, Product) -> Size * Product end, size_of(Dtype), tuple_to_list(Shape)),
    {bin, [
        "must have as many bytes as the shape and the type, ", integer_to_list(Needed), ", and has ",
        integer_to_list(byte_size(Bin))
    ]};
together([{array, Array}, {byte_offset, Offset}, {bin, Bin}]) ->
    case element(3, known(Array)) - Offset of
        Rest when Rest < 0 ->
            {byte_offset, ["must be at most ", integer_to_list(Offset + Rest), ", the bytes of the array, and is ", {value, Offset}]};
        Rest ->
            {bin, ["must have at most ", integer_to_list(Rest), " bytes, what there is from ByteOffset on, and has ", integer_to_list(byte_size(Bin))]}
    end;
together([{array, Array}, {start, Start}, {rows, Length}]) ->
    case element(2, known(Array)) of
        {} ->
            {array, ["has no dimension that it could be sliced along"]};
        Shape when Start > element(1, Shape) ->
            {start, ["must be at most ", integer_to_list(element(1, Shape)), ", and is ", {value, Start}]};
        Shape ->
            Most = integer_to_list(element(1, Shape) - Start),
            {rows, ["must be at most ", Most, " from there, and is ", {value, Length}]}
    end;
together([{nested, Nested}, {dtype, _}]) ->
    {nested, [must(nested), ", and is ", {value, Nested}]};
together(_Named) ->
    arguments.

size_of(bool) ->
    1;
size_of(Dtype) ->
    {_, Bits} = kind(Dtype),
    Bits div 8.
