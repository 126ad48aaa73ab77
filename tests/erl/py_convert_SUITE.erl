%% SPDX-License-Identifier: Apache-2.0

%% @doc Terms to Python objects and back: every row of the conversion tables, what
%% cannot be converted, and that what must come back unchanged does.
-module(py_convert_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(PROPER_TESTS, 600).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

%% The codec does not know whether contexts share an interpreter.
groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{}) ++ [{numpy, [], numpy_cases()}].

cases() ->
    [
        gives_python_what_the_table_says,
        returns_to_erlang_what_the_table_says,
        converts_integers_of_any_size_exactly,
        converts_floats_exactly,
        returns_subclasses_as_their_base_type,
        returns_text_for_everything_else,
        converts_the_same_in_arguments_keywords_and_locals,
        returns_pids_and_references_identically,
        returns_references_of_resources_usable,
        treats_handles_as_opaque_values,
        returns_generated_terms_unchanged
    ].

numpy_cases() ->
    [returns_arrays_as_nested_lists, returns_array_scalars_as_numbers, returns_arrays_in_containers].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(numpy, Config) ->
    case py_test:test_python() of
        none ->
            {skip, "EP_TEST_PYTHON names no Python"};
        Python ->
            ok = py_test:start([{num_contexts, 1}, {python, Python}]),
            case py:exec("import numpy") of
                ok -> Config;
                {error, {'ModuleNotFoundError', _}} -> {skip, "numpy is not installed"}
            end
    end;
init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    %% Whatever was refused, the contexts go on.
    {ok, 4.0} = py:call(py:context(1), math, sqrt, [16]),
    py_test:clean().

%% --- the tables -----------------------------------------------------------------------

gives_python_what_the_table_says(_Config) ->
    Rows = [
        {0, "0"},
        {-1, "-1"},
        {1.5, "1.5"},
        {true, "True"},
        {false, "False"},
        {none, "None"},
        {nil, "None"},
        {undefined, "None"},
        {some_atom, "'some_atom'"},
        {nan, "'nan'"},
        {infinity, "'infinity'"},
        {neg_infinity, "'neg_infinity'"},
        {null, "'null'"},
        {'', "''"},
        {'é', "'é'"},
        {'Ω', "'Ω'"},
        {<<"text">>, "'text'"},
        {<<"grüße"/utf8>>, "'grüße'"},
        {<<"😀"/utf8>>, "'😀'"},
        {<<>>, "''"},
        {<<0>>, "'\\x00'"},
        {<<255, 0>>, "b'\\xff\\x00'"},
        {<<16#ED, 16#A0, 16#80>>, "b'\\xed\\xa0\\x80'"},
        {<<16#C0, 16#80>>, "b'\\xc0\\x80'"},
        {<<16#F4, 16#90, 16#80, 16#80>>, "b'\\xf4\\x90\\x80\\x80'"},
        {<<"cut", 16#C3>>, "b'cut\\xc3'"},
        {{bytes, <<"text">>}, "b'text'"},
        {{bytes, <<>>}, "b''"},
        {{bytes, 1}, "('bytes', 1)"},
        {{bytes, <<"a">>, 1}, "('bytes', 'a', 1)"},
        {{<<"bytes">>, <<"a">>}, "('bytes', 'a')"},
        {[], "[]"},
        {"abc", "[97, 98, 99]"},
        {[1, [2, []]], "[1, [2, []]]"},
        {[{bytes, <<1>>}], "[b'\\x01']"},
        {{}, "()"},
        {{1}, "(1,)"},
        {{record, 1, "a"}, "('record', 1, [97])"},
        {#{}, "{}"},
        {#{a => 1}, "{'a': 1}"},
        {#{<<"a">> => [true]}, "{'a': [True]}"},
        {#{1 => 2.0}, "{1: 2.0}"},
        {#{undefined => nil}, "{None: None}"},
        {#{{1, <<"x">>} => #{}}, "{(1, 'x'): {}}"},
        {#{{bytes, <<"k">>} => 1}, "{b'k': 1}"}
    ],
    [
        ?assertEqual({Term, {ok, unicode:characters_to_binary(Repr)}}, {Term, repr(Term)})
     || {Term, Repr} <- Rows
    ].

returns_to_erlang_what_the_table_says(_Config) ->
    Rows = [
        {"True", true},
        {"False", false},
        {"None", none},
        {"0", 0},
        {"-7", -7},
        {"1.5", 1.5},
        {"float('nan')", nan},
        {"float('inf')", infinity},
        {"-float('inf')", neg_infinity},
        {"'text'", <<"text">>},
        {"''", <<>>},
        {"'grüße Ω 😀'", <<"grüße Ω 😀"/utf8>>},
        {"'a\\0b'", <<"a", 0, "b">>},
        {"b'\\xff'", <<255>>},
        {"b''", <<>>},
        {"bytearray(b'ab')", <<"ab">>},
        {"memoryview(b'abcd')", <<"abcd">>},
        {"memoryview(b'abcdef')[::2]", <<"ace">>},
        {"memoryview(bytearray())", <<>>},
        {"[]", []},
        {"[1, 'a', [2.0]]", [1, <<"a">>, [2.0]]},
        {"range(3)", [0, 1, 2]},
        {"range(0)", []},
        {"range(10, 0, -4)", [10, 6, 2]},
        {"{1}", [1]},
        {"set()", []},
        {"frozenset(['a'])", [<<"a">>]},
        {"()", {}},
        {"(1, (2,))", {1, {2}}},
        {"{}", #{}},
        {"{'a': 1, 2: b'b', None: True}", #{<<"a">> => 1, 2 => <<"b">>, none => true}},
        {"{(1, 'a'): {}}", #{{1, <<"a">>} => #{}}},
        {"{1.5: 1, True: 2}", #{1.5 => 1, true => 2}},
        {"[None, float('nan')]", [none, nan]},
        {"('bytes', 'x')", {<<"bytes">>, <<"x">>}}
    ],
    [?assertEqual({Code, {ok, Term}}, {Code, eval(Code)}) || {Code, Term} <- Rows],
    {ok, Set} = py:eval("set(range(100))"),
    ?assertEqual(lists:seq(0, 99), lists:sort(Set)).

converts_integers_of_any_size_exactly(_Config) ->
    Powers = [7, 8, 15, 16, 27, 28, 31, 32, 53, 59, 60, 62, 63, 64, 65, 127, 128, 1000, 2039, 2040,
              2041, 2048, 100000],
    Integers = lists:append([[P, P - 1, P + 1, -P, -P - 1, -P + 1] || N <- Powers, P <- [1 bsl N]]),
    [
        begin
            {ok, N} = py:eval("x", #{x => N}),
            {ok, N} = py:eval("int(x, 16)", #{x => integer_to_binary(N, 16)}),
            Hex = string:lowercase(integer_to_binary(N, 16)),
            {ok, Hex} = py:eval("format(x, 'x')", #{x => N})
        end
     || N <- Integers
    ].

converts_floats_exactly(_Config) ->
    Bits = [
        0,
        16#8000000000000000,
        1,
        16#8000000000000001,
        16#000FFFFFFFFFFFFF,
        16#0010000000000000,
        16#7FEFFFFFFFFFFFFF,
        16#FFEFFFFFFFFFFFFF,
        16#3FF0000000000001,
        16#3FB999999999999A
    ],
    [
        begin
            <<F/float>> = <<B:64>>,
            {ok, Back} = py:eval("x", #{x => F}),
            ?assertEqual(<<B:64>>, <<Back/float>>),
            {ok, Hex} = py:eval("__import__('struct').pack('>d', x).hex()", #{x => F}),
            ?assertEqual(B, binary_to_integer(Hex, 16))
        end
     || B <- Bits
    ].

returns_subclasses_as_their_base_type(_Config) ->
    ok = py:exec(
        "import enum, collections\n"
        "class I(int): pass\n"
        "class F(float): pass\n"
        "class S(str):\n    def __str__(self): return 'not this'\n"
        "class B(bytes): pass\n"
        "class L(list): pass\n"
        "class T(tuple): pass\n"
        "class D(dict): pass\n"
        "class E(enum.IntEnum):\n    TWO = 2\n"
        "class G(enum.IntFlag):\n    FOUR = 4\n"
        "P = collections.namedtuple('P', 'x y')\n"
    ),
    Rows = [
        {"I(3)", 3},
        {"I(1 << 100)", 1 bsl 100},
        {"F(1.5)", 1.5},
        {"F('nan')", nan},
        {"S('ä')", <<"ä"/utf8>>},
        {"B(b'x')", <<"x">>},
        {"L([1])", [1]},
        {"T((1, 2))", {1, 2}},
        {"D(a=1)", #{<<"a">> => 1}},
        {"E.TWO", 2},
        {"{E.TWO: S('v')}", #{2 => <<"v">>}},
        {"G.FOUR", 4},
        {"P(1, y=2)", {1, 2}},
        {"collections.OrderedDict(a=1)", #{<<"a">> => 1}},
        {"collections.defaultdict(int, a=1)", #{<<"a">> => 1}},
        {"collections.Counter('aab')", #{<<"a">> => 2, <<"b">> => 1}}
    ],
    [?assertEqual({Code, {ok, Term}}, {Code, eval(Code)}) || {Code, Term} <- Rows].

returns_text_for_everything_else(_Config) ->
    ok = py:exec(
        "import datetime, decimal, uuid, pathlib, enum, dataclasses, fractions, collections\n"
        "class Color(enum.Enum):\n    RED = 1\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\n"
        "def function(): pass\n"
    ),
    Exact = [
        {"datetime.datetime(2024, 2, 29, 1, 2, 3)", "2024-02-29 01:02:03"},
        {"datetime.date(2024, 2, 29)", "2024-02-29"},
        {"datetime.timedelta(days=1)", "1 day, 0:00:00"},
        {"decimal.Decimal('1.10')", "1.10"},
        {"fractions.Fraction(1, 3)", "1/3"},
        {"uuid.UUID(int=1)", "00000000-0000-0000-0000-000000000001"},
        {"pathlib.PurePosixPath('/a/ä')", "/a/ä"},
        {"Color.RED", "Color.RED"},
        {"1 + 2j", "(1+2j)"},
        {"{'a': 1}.keys()", "dict_keys(['a'])"},
        {"collections.deque([1])", "deque([1])"},
        {"Point(1)", "Point(x=1)"},
        {"ValueError('why')", "why"},
        {"int", "<class 'int'>"},
        {"...", "Ellipsis"}
    ],
    [
        ?assertEqual({Code, {ok, unicode:characters_to_binary(Text)}}, {Code, eval(Code)})
     || {Code, Text} <- Exact
    ],
    [
        begin
            {ok, Text} = eval(Code),
            ?assertEqual({Code, 0}, {Code, string:str(binary_to_list(Text), Start) - 1})
        end
     || {Code, Start} <- [
            {"function", "<function function at"},
            {"iter([1])", "<list_iterator object"},
            {"map(int, [])", "<map object"},
            {"lambda: 0", "<function <lambda> at"},
            {"object()", "<object object"},
            {"__import__('math')", "<module 'math'"}
        ]
    ],
    {ok, [<<"1.10">>, #{<<"k">> := {<<"1/3">>}}]} =
        py:eval("[decimal.Decimal('1.10'), {'k': (fractions.Fraction(1, 3),)}]"),
    {ok, #{<<"2024-02-29">> := 1}} = py:eval("{datetime.date(2024, 2, 29): 1}").

converts_the_same_in_arguments_keywords_and_locals(_Config) ->
    Term = [1, -2.5, <<"a">>, <<255>>, {}, {x, #{}}, #{1 => [nil, true]}, 1 bsl 70, self()],
    Expected = {ok, [1, -2.5, <<"a">>, <<255>>, {}, {<<"x">>, #{}}, #{1 => [none, true]}, 1 bsl 70, self()]},
    Ctx = py:context(1),
    Expected = py:call(ep_probe, echo, [Term]),
    Expected = py:call(Ctx, ep_probe, echo, [Term]),
    Expected = py:eval("x", #{x => Term}),
    {ok, Back} = Expected,
    {ok, #{<<"k">> := Back}} = py:call(ep_probe, echo, [], #{k => Term}),
    {ok, [Expected]} = py:parallel([{ep_probe, echo, [Term]}]).

%% --- handles --------------------------------------------------------------------------

returns_pids_and_references_identically(_Config) ->
    Node = atom_to_binary(node()),
    RemotePid = binary_to_term(
        <<131, 88, 119, 10, "other@host", 5:32, 7:32, 1234567:32>>
    ),
    RemoteRef = binary_to_term(
        <<131, 90, 3:16, 119, 10, "other@host", 1234567:32, 1:32, 2:32, 3:32>>
    ),
    'other@host' = node(RemotePid),
    Alias = alias(),
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    Handles = [self(), Pid, whereis(init), RemotePid, make_ref(), Monitor, Alias, RemoteRef],
    [{ok, Handle} = py:eval("x", #{x => Handle}) || Handle <- Handles],
    {ok, Handles} = py:eval("x", #{x => Handles}),
    Map = maps:from_list([{H, {H, Node}} || H <- Handles]),
    {ok, Map} = py:eval("x", #{x => Map}),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end,
    {ok, Pid} = py:eval("x", #{x => Pid}),
    true = unalias(Alias).

%% The reference of a resource stands for the resource when it comes back.
returns_references_of_resources_usable(_Config) ->
    Counter = atomics:new(1, []),
    ok = atomics:put(Counter, 1, 42),
    {ok, Back} = py:call(ep_probe, echo, [Counter]),
    42 = atomics:get(Back, 1),
    {ok, Env} = py_context:create_local_env(py:context(1)),
    {ok, Env} = py:call(ep_probe, echo, [Env]).

treats_handles_as_opaque_values(_Config) ->
    Locals = #{x => self(), y => self(), z => whereis(init), r => make_ref()},
    {ok, true} = py:eval("x == y and x != z and x != r and hash(x) == hash(y)", Locals),
    {ok, true} = py:eval("isinstance(x, erlang.Pid) and isinstance(r, erlang.Ref)", Locals),
    {ok, 3} = py:eval("len({x, y, z, r})", Locals),
    {error, {'TypeError', _}} = py:eval("erlang.Pid()"),
    {error, {'TypeError', _}} = py:eval("erlang.Ref(b'1')"),
    {error, {'TypeError', _}} = py:eval("type('P', (erlang.Pid,), {})"),
    {error, {_, _}} = py:eval("__import__('pickle').dumps(x)", Locals),
    {error, {_, _}} = py:eval("__import__('copyreg').__reduce_ex__(x, 4)", Locals).

%% --- numpy ----------------------------------------------------------------------------

returns_arrays_as_nested_lists(_Config) ->
    ok = py:exec("import numpy as np"),
    Rows = [
        {"np.array([1, 2, 3])", [1, 2, 3]},
        {"np.array([[1.5, 2.0], [3.0, -0.5]])", [[1.5, 2.0], [3.0, -0.5]]},
        {"np.zeros((2, 0))", [[], []]},
        {"np.array([])", []},
        {"np.array(5)", 5},
        {"np.array(2.5)", 2.5},
        {"np.array([True, False])", [true, false]},
        {"np.array([[1.25, 2], [3, 4]], dtype='longdouble')", [[1.25, 2.0], [3.0, 4.0]]},
        {"np.array(1.25, dtype='longdouble')", 1.25},
        {"np.array([1, 2], dtype='>i4')", [1, 2]},
        {"np.array([1 << 63], dtype='uint64')", [1 bsl 63]},
        {"np.array([float('nan'), float('inf'), -float('inf')])", [nan, infinity, neg_infinity]},
        {"np.arange(6).reshape(2, 3)[:, ::2]", [[0, 2], [3, 5]]},
        {"np.asfortranarray(np.arange(4).reshape(2, 2))", [[0, 1], [2, 3]]},
        {"np.array(['a', 'ä'])", [<<"a">>, <<"ä"/utf8>>]},
        {"np.array([b'a'])", [<<"a">>]},
        {"np.array([1, 'a', None], dtype=object)", [1, <<"a">>, none]},
        {"np.array([1 + 2j])", [<<"(1+2j)">>]},
        {"np.array(['2024-02-29'], dtype='datetime64[D]')", [<<"2024-02-29">>]},
        {"np.array([(1, 2.5)], dtype=[('a', 'i4'), ('b', 'f8')])", [{1, 2.5}]}
    ],
    [?assertEqual({Code, {ok, Term}}, {Code, eval(Code)}) || {Code, Term} <- Rows],
    {ok, List} = py:eval("np.arange(100000)"),
    ?assertEqual(lists:seq(0, 99999), List).

returns_array_scalars_as_numbers(_Config) ->
    ok = py:exec("import numpy as np"),
    Rows = [
        {"np.int8(-5)", -5},
        {"np.uint64((1 << 64) - 1)", (1 bsl 64) - 1},
        {"np.float32(1.5)", 1.5},
        {"np.float16(0.5)", 0.5},
        {"np.float64(0.1)", 0.1},
        {"np.float64('nan')", nan},
        {"np.longdouble(1.25)", 1.25},
        {"np.longdouble(-1)", -1.0},
        {"np.longdouble('nan')", nan},
        {"np.longdouble('-inf')", neg_infinity},
        {"[np.longdouble(0.1), {1: np.longdouble(2)}]", [0.1, #{1 => 2.0}]},
        {"np.clongdouble(1 + 2j)", <<"(1+2j)">>},
        {"np.float32('inf')", infinity},
        {"np.bool_(True)", true},
        {"np.int64(7) + 1", 8},
        {"np.str_('a')", <<"a">>},
        {"np.bytes_(b'a')", <<"a">>},
        {"{np.int64(1): np.bool_(False)}", #{1 => false}}
    ],
    [?assertEqual({Code, {ok, Term}}, {Code, eval(Code)}) || {Code, Term} <- Rows].

returns_arrays_in_containers(_Config) ->
    ok = py:exec("import numpy as np"),
    {ok, #{<<"a">> := [1, 2], <<"b">> := {[1.0], 3}}} =
        py:eval("{'a': np.array([1, 2]), 'b': (np.ones(1), np.int32(3))}"),
    {ok, [[2.0, 4.0]]} = py:call(numpy, multiply, [[[1.0, 2.0]], 2]).

%% --- generated terms ------------------------------------------------------------------

returns_generated_terms_unchanged(_Config) ->
    Property = proper:forall(term(), fun(Term) ->
        {ok, Term} =:= py:eval("x", #{x => Term}) andalso
            {ok, Term} =:= py:call(ep_probe, echo, [Term])
    end),
    %% PropEr keeps a seed that is there.
    _ = rand:seed(exsplus, {20, 24, 11}),
    Options = [{numtests, ?PROPER_TESTS}, {max_size, 36}, long_result, {on_output, fun ct:log/2}],
    Result = proper:quickcheck(Property, Options),
    ?assertEqual(true, Result).

term() ->
    proper_types:sized(fun term/1).

term(0) ->
    leaf();
term(Size) ->
    Part = proper_types:lazy(fun() -> term(Size div 4) end),
    proper_types:frequency([
        {2, leaf()},
        {2, proper_types:resize(Size, proper_types:list(Part))},
        {2, proper_types:add_constraint(
            proper_types:loose_tuple(Part), fun(T) -> not is_bytes(T) end, true
        )},
        {2, proper_types:bind(
            proper_types:list(proper_types:tuple([key(), Part])), fun maps:from_list/1, false
        )}
    ]).

leaf() ->
    proper_types:oneof([
        proper_types:integer(),
        proper_types:integer(-(1 bsl 70), 1 bsl 70),
        proper_types:integer(-(1 bsl 2100), 1 bsl 2100),
        proper_types:float(),
        proper_types:boolean(),
        proper_types:binary(),
        proper_types:bind(proper_types:list(character()), fun unicode:characters_to_binary/1, false),
        proper_types:elements([self(), whereis(init), whereis(code_server)]),
        proper_types:elements([make_ref(), make_ref()])
    ]).

%% Keys that Python can hash, and that do not become the same there: text is not among
%% the binaries twice, and no float or boolean equals an integer.
key() ->
    proper_types:oneof([
        proper_types:integer(),
        proper_types:integer(-(1 bsl 70), 1 bsl 70),
        proper_types:bind(proper_types:integer(), fun(N) -> N + 0.5 end, false),
        proper_types:binary(),
        proper_types:elements([self(), whereis(init)]),
        proper_types:tuple([proper_types:binary(), proper_types:integer()])
    ]).

character() ->
    proper_types:oneof([
        proper_types:integer(0, 16#7F), proper_types:integer(16#80, 16#D7FF), proper_types:integer(16#E000, 16#10FFFF)
    ]).

is_bytes({bytes, _}) -> true;
is_bytes(_) -> false.

%% --- helpers --------------------------------------------------------------------------

repr(Term) ->
    py:call(builtins, repr, [Term]).

eval(Code) ->
    py:eval(unicode:characters_to_binary(Code)).
