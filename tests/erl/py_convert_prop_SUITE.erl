%% SPDX-License-Identifier: Apache-2.0

%% @doc Conversions of generated values, on every way that a value can take: each comes
%% back as what section 5 of the contract says, or is refused as it says.
-module(py_convert_prop_SUITE).

-compile([export_all, nowarn_export_all]).

-define(TESTS, 400).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, worker}, {group, owngil}].

groups() ->
    Cases = [
        arguments_come_back_as_documented,
        keyword_arguments_and_locals_come_back_as_documented,
        callbacks_carry_the_same_both_ways,
        state_is_stored_unconverted,
        values_that_do_not_change_do_not_change,
        floats_keep_every_bit,
        bytes_are_bytes,
        what_has_no_counterpart_is_refused,
        values_of_python_arrive_as_documented
    ],
    [{worker, Cases}, {owngil, Cases}].

init_per_suite(Config) ->
    case py_prop:is_there() of
        true -> Config;
        false -> {skip, "PropEr is not installed (erlang-proper)"}
    end.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- properties -----------------------------------------------------------------------

arguments_come_back_as_documented(_Config) ->
    holds(?FUNCTION_NAME, term(), fun(Term) ->
        agrees(py:call(ep_probe, echo, [Term]), Term) andalso
            agrees(py:call('builtins', tuple, [[Term, 1]]), {Term, 1})
    end).

keyword_arguments_and_locals_come_back_as_documented(_Config) ->
    holds(?FUNCTION_NAME, term(), fun(Term) ->
        agrees(py:call(ep_probe, echo, [], #{x => Term}), Term) andalso
            agrees(py:eval("x", #{<<"x">> => Term}), Term)
    end).

callbacks_carry_the_same_both_ways(_Config) ->
    ok = py:register_function(seen, fun([Term]) -> put(seen, Term), Term end),
    holds(?FUNCTION_NAME, term(), fun(Term) ->
        _ = erase(seen),
        Answer = py:eval("erlang.seen(x)", #{x => Term}),
        case image(Term) of
            {Image, []} ->
                {Twice, []} = image(Image),
                same(get(seen), Image) andalso same(Answer, {ok, Twice});
            {_, _} ->
                get(seen) =:= undefined andalso agrees(Answer, Term)
        end
    end).

state_is_stored_unconverted(_Config) ->
    holds(?FUNCTION_NAME, term(), fun(Term) ->
        ok = py:state_store(<<"k">>, Term),
        {ok, Stored} = py:state_fetch(<<"k">>),
        same(Stored, Term) andalso agrees(py:eval("erlang.state_get('k')"), Term)
    end).

values_that_do_not_change_do_not_change(_Config) ->
    holds(?FUNCTION_NAME, unchanged(), fun(Term) ->
        same(py:call(ep_probe, echo, [Term]), {ok, Term}) andalso
            same(py:eval("[x, {'k': x}]", #{x => Term}), {ok, [Term, #{<<"k">> => Term}]})
    end).

floats_keep_every_bit(_Config) ->
    Bits = proper_types:binary(8),
    holds(?FUNCTION_NAME, Bits, fun(Binary) ->
        case Binary of
            <<Float/float>> ->
                {ok, Back} = py:call(ep_probe, echo, [Float]),
                {ok, Hex} = py:eval("__import__('struct').pack('>d', x).hex()", #{x => Float}),
                same(Back, Float) andalso binary:decode_hex(Hex) =:= Binary;
            _ ->
                true
        end
    end).

bytes_are_bytes(_Config) ->
    holds(?FUNCTION_NAME, proper_types:binary(), fun(Binary) ->
        Kind =
            case unicode:characters_to_binary(Binary) of
                Binary -> <<"str">>;
                _ -> <<"bytes">>
            end,
        Locals = #{x => Binary, y => {bytes, Binary}},
        Kinds = py:eval("[type(x).__name__, type(y).__name__]", Locals),
        Kinds =:= {ok, [Kind, <<"bytes">>]} andalso
            py:eval("(x, y)", Locals) =:= {ok, {Binary, Binary}}
    end).

%% Wherever it lies.
what_has_no_counterpart_is_refused(_Config) ->
    Port = hd(erlang:ports()),
    Odd = proper_types:union([exactly(X) || X <- [fun lists:sum/1, Port, <<5:3>>, [1 | 2]]]),
    holds(?FUNCTION_NAME, proper_types:tuple([term(), Odd, wrapper()]), fun({Term, Bad, Wrap}) ->
        case image(Term) of
            {_, []} ->
                {error, {'TypeError', "args[0]" ++ _}} = py:call(ep_probe, echo, [Wrap([Term, Bad])]),
                {error, {'TypeError', "locals['x']" ++ _}} = py:eval("x", #{x => Wrap([Bad, Term])}),
                true;
            _ ->
                true
        end
    end).

values_of_python_arrive_as_documented(_Config) ->
    ok = py:exec(
        "import datetime, decimal, enum, uuid, collections, pathlib\n"
        "class Colour(enum.IntEnum):\n    RED = 3\n"
        "class Plain(enum.Enum):\n    A = 1\n"
        "Point = collections.namedtuple('Point', 'x y')\n"
        "class Str(str): pass\nclass Int(int): pass\nclass Float(float): pass\nclass Dict(dict): pass\n"
    ),
    holds(?FUNCTION_NAME, proper_types:sized(fun python/1), fun({Source, Expected}) ->
        same(py:eval(Source), {ok, Expected}) andalso
            same(py:eval(["(lambda x: x)(", Source, ")"]), {ok, Expected})
    end).

%% --- what the contract says -----------------------------------------------------------

agrees(Answer, Term) ->
    case image(Term) of
        {Image, []} -> same(Answer, {ok, Image});
        {_, Errors} -> is_one_of(Answer, Errors)
    end.

is_one_of({error, {Type, Message}}, Errors) ->
    lists:member(Type, Errors) andalso is_list(Message);
is_one_of(_, _) ->
    false.

%% What a term comes back as, and what may be wrong with it.
image(X) when is_boolean(X) -> {X, []};
image(X) when X =:= none; X =:= nil; X =:= undefined -> {none, []};
image(X) when is_atom(X) -> {atom_to_binary(X), []};
image({bytes, X}) when is_binary(X) -> {X, []};
image(X) when is_list(X) -> images(X);
image(X) when is_tuple(X) ->
    {Images, Errors} = images(tuple_to_list(X)),
    {list_to_tuple(Images), Errors};
image(X) when is_map(X) ->
    {Keys, KeyErrors} = images(maps:keys(X)),
    {Values, ValueErrors} = images(maps:values(X)),
    Unhashable = ['TypeError' || not lists:all(fun is_hashable/1, Keys)],
    Equal = [as_key(Key) || Key <- Keys],
    Same = ['ValueError' || length(lists:usort(Equal)) < length(Equal)],
    {maps:from_list(lists:zip(Keys, Values)), KeyErrors ++ ValueErrors ++ Unhashable ++ Same};
image(X) -> {X, []}.

images(List) ->
    {Images, Errors} = lists:unzip([image(X) || X <- List]),
    {Images, lists:append(Errors)}.

is_hashable(X) when is_list(X); is_map(X) -> false;
is_hashable(X) when is_tuple(X) -> lists:all(fun is_hashable/1, tuple_to_list(X));
is_hashable(_) -> true.

%% Keys that are equal in Python have the same one.
as_key(true) -> 1;
as_key(false) -> 0;
as_key(X) when is_float(X), trunc(X) == X -> trunc(X);
as_key(X) when is_tuple(X) -> list_to_tuple([as_key(E) || E <- tuple_to_list(X)]);
as_key(X) -> X.

%% Equal to the last bit: 0.0 and -0.0 are not the same.
same(A, B) when is_float(A), is_float(B) -> <<A/float>> =:= <<B/float>>;
same([A | As], [B | Bs]) -> same(A, B) andalso same(As, Bs);
same(A, B) when is_tuple(A), is_tuple(B) -> same(tuple_to_list(A), tuple_to_list(B));
same(A, B) when is_map(A), is_map(B) ->
    map_size(A) =:= map_size(B) andalso
        same(lists:sort(maps:to_list(A)), lists:sort(maps:to_list(B)));
same(A, B) -> A =:= B.

%% --- generators -----------------------------------------------------------------------

holds(Name, Generator, Predicate) ->
    py_prop:check(Name, py_prop:forall(Generator, Predicate), ?TESTS).

exactly(X) ->
    proper_types:exactly(X).

number() ->
    proper_types:union([
        proper_types:integer(),
        big(),
        proper_types:float(),
        proper_types:union([
            exactly(X)
         || X <- [-0.0, 0.0, 5.0e-324, -1.7976931348623157e308] ++
                [1 bsl 63, -(1 bsl 63), (1 bsl 64) - 1, 1 bsl 64]
        ])
    ]).

big() ->
    proper_types:bind(
        proper_types:tuple([proper_types:integer(), proper_types:integer(0, 700)]),
        fun({N, Bits}) -> (N bsl Bits) + N end,
        false
    ).

text() ->
    proper_types:bind(
        proper_types:list(proper_types:union([
            proper_types:integer($a, $z),
            proper_types:integer(16#A0, 16#D7FF),
            proper_types:integer(16#E000, 16#10FFFF),
            exactly(0)
        ])),
        fun unicode:characters_to_binary/1,
        false
    ).

scalar() ->
    proper_types:union([number(), text(), proper_types:binary(), proper_types:boolean(), handle()]).

handle() ->
    proper_types:union([exactly(self()), exactly(make_ref())]).

%% Those that are not unchanged.
changing() ->
    proper_types:union([
        proper_types:atom(),
        proper_types:union([exactly(X) || X <- [none, nil, undefined, null, nan, infinity, neg_infinity, '', bytes]]),
        proper_types:bind(proper_types:binary(), fun(B) -> {bytes, B} end, false)
    ]).

term() ->
    nested(proper_types:weighted_union([{3, scalar()}, {1, changing()}]), any).

unchanged() ->
    proper_types:add_constraint(
        nested(scalar(), text()),
        fun(T) -> element(2, image(T)) =:= [] andalso same(element(1, image(T)), T) end,
        true
    ).

%% Containers around leaves; any: keys of every kind, such that cannot be keys too.
nested(Leaf, Key) ->
    proper_types:sized(fun(Size) -> nested(Size, Leaf, Key) end).

nested(0, Leaf, _Key) ->
    Leaf;
nested(Size, Leaf, Key) ->
    Inner = proper_types:lazy(fun() -> nested(Size div 3, Leaf, Key) end),
    Keys = case Key of any -> proper_types:weighted_union([{6, text()}, {2, number()}, {1, Inner}]); _ -> Key end,
    List = proper_types:resize(min(Size, 8), proper_types:list(Inner)),
    Pairs = proper_types:resize(min(Size, 8), proper_types:list(proper_types:tuple([Keys, Inner]))),
    proper_types:weighted_union([
        {2, Leaf},
        {2, List},
        {2, proper_types:bind(List, fun erlang:list_to_tuple/1, false)},
        {2, proper_types:bind(Pairs, fun maps:from_list/1, false)}
    ]).

wrapper() ->
    proper_types:union([
        exactly(fun(X) -> X end),
        exactly(fun(X) -> {X, 1} end),
        exactly(fun(X) -> #{<<"k">> => X} end),
        exactly(fun(X) -> [[#{1 => {a, X}}]] end)
    ]).

%% A Python expression and what it is in Erlang.
python(0) ->
    proper_types:union([
        source(proper_types:integer(), fun integer_to_list/1, fun(N) -> N end),
        source(big(), fun integer_to_list/1, fun(N) -> N end),
        source(proper_types:float(), fun(F) -> io_lib:format("~w", [F]) end, fun(F) -> F end),
        source(proper_types:binary(), fun bytes/1, fun(B) -> B end),
        source(proper_types:binary(), fun(B) -> ["bytearray(", bytes(B), ")"] end, fun(B) -> B end),
        source(proper_types:binary(), fun(B) -> ["memoryview(", bytes(B), ")"] end, fun(B) -> B end),
        source(text(), fun str/1, fun(T) -> T end),
        source(text(), fun(T) -> ["Str(", str(T), ")"] end, fun(T) -> T end),
        source(proper_types:integer(), fun(N) -> ["Int(", integer_to_list(N), ")"] end, fun(N) -> N end),
        source(proper_types:float(), fun(F) -> io_lib:format("Float(~w)", [F]) end, fun(F) -> F end),
        source(
            proper_types:integer(0, 50),
            fun(N) -> io_lib:format("range(~b)", [N]) end,
            fun(N) -> lists:seq(0, N - 1) end
        ),
        source(proper_types:integer(), fun(N) -> io_lib:format("frozenset({~b})", [N]) end, fun(N) -> [N] end),
        proper_types:union([exactly(Pair) || Pair <- [
            {"None", none}, {"True", true}, {"False", false}, {"float('nan')", nan}, {"float('inf')", infinity},
            {"float('-inf')", neg_infinity}, {"-0.0", -0.0}, {"Colour.RED", 3}, {"Plain.A", <<"Plain.A">>},
            {"set()", []}, {"()", {}}, {"{}", #{}}, {"Point(1, 'y')", {1, <<"y">>}},
            {"1+2j", <<"(1+2j)">>}, {"decimal.Decimal('1.50')", <<"1.50">>},
            {"datetime.date(2024, 2, 29)", <<"2024-02-29">>}, {"pathlib.PurePosixPath('/a/b')", <<"/a/b">>},
            {"uuid.UUID(int=0)", <<"00000000-0000-0000-0000-000000000000">>}, {"ValueError('x')", <<"x">>},
            {"{'a': 1}.keys()", <<"dict_keys(['a'])">>}, {"int", <<"<class 'int'>">>}
        ]])
    ]);
python(Size) ->
    Inner = proper_types:lazy(fun() -> python(Size div 3) end),
    Several = proper_types:resize(min(Size, 6), proper_types:list(Inner)),
    proper_types:union([
        python(0),
        source(Several, fun(Ps) -> ["[", [[S, ","] || {S, _} <- Ps], "]"] end, fun(Ps) -> [E || {_, E} <- Ps] end),
        source(Several, fun(Ps) -> ["(", [[S, ","] || {S, _} <- Ps], ")"] end, fun tuple/1),
        source(
            Several,
            fun(Ps) ->
                Items = [[integer_to_list(N), ":", S, ","] || {N, {S, _}} <- lists:enumerate(Ps)],
                ["Dict({", Items, "})"]
            end,
            fun(Ps) -> maps:from_list([{N, E} || {N, {_, E}} <- lists:enumerate(Ps)]) end
        )
    ]).

%% () with a comma is no Python.
tuple(Ps) -> list_to_tuple([E || {_, E} <- Ps]).

source(Generator, Source, Value) ->
    proper_types:bind(
        Generator,
        fun(X) -> {unicode:characters_to_list(fix(Source(X))), Value(X)} end,
        false
    ).

fix(["(", [], ")"]) -> "()";
fix(Source) -> Source.

bytes(Binary) ->
    ["bytes([", lists:join(",", [integer_to_list(B) || <<B>> <= Binary]), "])"].

str(Text) ->
    ["'", [io_lib:format("\\U~8.16.0b", [C]) || C <- unicode:characters_to_list(Text)], "'"].
