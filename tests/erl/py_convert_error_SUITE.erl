% SPDX-License-Identifier: Apache-2.0

% @doc What cannot be converted, either way: the error says where, and the context goes on.
-module(py_convert_error_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

%% The codec does not know whether contexts share an interpreter.
groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{}).

cases() ->
    [
        says_where_an_argument_cannot_be_converted,
        says_where_a_result_cannot_be_converted,
        refuses_keys_that_become_the_same,
        refuses_keys_that_are_not_text,
        refuses_keys_that_cannot_be_hashed,
        converts_a_thousand_levels_and_no_more,
        names_the_outer_part_of_a_deep_place,
        survives_a_million_levels,
        refuses_what_contains_itself,
        refuses_lone_surrogates,
        keeps_integers_within_the_limit_of_the_vm,
        treats_a_nul_in_a_name_as_a_python_error,
        converts_long_lists_of_small_integers,
        notices_a_container_that_changes_while_it_is_converted
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

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

says_where_an_argument_cannot_be_converted(_Config) ->
    Fun = fun() -> ok end,
    Port = hd(erlang:ports()),
    Call = fun(Args) -> py:call(ep_probe, echo, Args) end,
    Type = fun({error, {'TypeError', Msg}}) -> Msg end,
    Starts = fun(Prefix, Result) ->
        Msg = Type(Result),
        ?assertEqual({Prefix, Msg}, {string:slice(Msg, 0, length(Prefix)), Msg})
    end,
    [
        begin
            Starts("args[0]: ", Call([Bad])),
            Starts("args[1]: ", Call([1, Bad])),
            Starts("args[0]['k'][3]: ", Call([#{k => [0, 1, 2, Bad]}])),
            Starts("args[0]['k'][3]: ", Call([#{<<"k">> => {0, 1, 2, Bad}}])),
            Starts("args[0][7]: ", Call([#{7 => Bad}])),
            Starts("kwargs['k']: ", py:call(ep_probe, echo, [], #{k => Bad})),
            Starts("kwargs['k'][1]: ", py:call(ep_probe, echo, [], #{<<"k">> => [1, Bad]})),
            Starts("locals['x']: ", py:eval("1", #{x => Bad})),
            Starts("locals['x']['y']: ", py_context:eval(py:context(1), "1", #{x => #{y => Bad}}))
        end
     || Bad <- [Fun, fun lists:map/2, Port, <<1:3>>, <<"ab", 0:1>>, [1 | 2], [[], [] | tail]]
    ],
    Starts("args: ", py:call(ep_probe, echo, [1 | 2])).

says_where_a_result_cannot_be_converted(_Config) ->
    ok = py:exec("import ep_probe\nloud = ep_probe.Loud()"),
    Rows = [
        {"loud", 'LookupError', "result: no text of this"},
        {"[1, loud]", 'LookupError', "result[1]: no text of this"},
        {"[0, 0, {'k': (loud,)}]", 'LookupError', "result[2]['k'][0]: no text of this"},
        {"{7: loud}", 'LookupError', "result[7]: no text of this"}
    ],
    [?assertEqual({Code, {error, {T, M}}}, {Code, py:eval(Code)}) || {Code, T, M} <- Rows],
    %% The function has run.
    ok = py:exec("ran = []\ndef f():\n    ran.append(1)\n    return loud"),
    {error, {'LookupError', _}} = py:call('__main__', f, []),
    {ok, [1]} = py:eval("ran").

refuses_keys_that_become_the_same(_Config) ->
    Same = fun(Place, Result) ->
        {error, {'ValueError', Msg}} = Result,
        ?assertMatch({_, [_ | _]}, {Msg, string:find(Msg, Place)})
    end,
    [
        begin
            Same("args[0]", py:call(ep_probe, echo, [Map])),
            Same("args[1][0]", py:call(ep_probe, echo, [1, [Map]])),
            Same("locals['x']", py:eval("1", #{x => Map}))
        end
     || Map <- [
            #{1 => a, 1.0 => b},
            #{true => a, 1 => b},
            #{false => a, 0.0 => b},
            #{a => 1, <<"a">> => 2},
            #{nil => 1, undefined => 2},
            #{{1} => 1, {1.0} => 2}
        ]
    ],
    Same("kwargs", py:call(ep_probe, echo, [], #{a => 1, <<"a">> => 2})),
    Same("locals", py:eval("a", #{a => 1, <<"a">> => 2})),
    Same("result", py:eval("{'a': 1, b'a': 2}")),
    Same("result[1]", py:eval("[0, {'a': 1, b'a': 2}]")),
    Same("result", py:eval("{float('nan'): 1, float('nan'): 2}")),
    Same("result", py:eval("{None: 1, __import__('erlang').Pid: 2, str(__import__('erlang').Pid): 3}")).

refuses_keys_that_are_not_text(_Config) ->
    [
        begin
            {error, {'TypeError', "kwargs" ++ _}} = py:call(ep_probe, echo, [], #{Key => 1}),
            {error, {'TypeError', "locals" ++ _}} = py:eval("1", #{Key => 1})
        end
     || Key <- [1, 1.5, "k", {k}, self(), [], <<1:3>>]
    ].

refuses_keys_that_cannot_be_hashed(_Config) ->
    [
        begin
            {error, {'TypeError', "args[0]" ++ _}} = py:call(ep_probe, echo, [#{Key => 1}]),
            {error, {'TypeError', "locals['x']" ++ _}} = py:eval("1", #{x => #{Key => 1}})
        end
     || Key <- [[1], [], #{}, {1, [2]}, "text"]
    ].

converts_a_thousand_levels_and_no_more(_Config) ->
    Kinds = [list, tuple, dict],
    [
        begin
            {ok, 1000} = py:call(ep_probe, depth, [nest(Kind, 1000)]),
            Deep = nest(Kind, 1000),
            {ok, Deep} = py:call(ep_probe, nest, [Kind, 1000]),
            {ok, Deep} = py:call(ep_probe, echo, [Deep]),
            {ok, Deep} = py:eval("x", #{x => Deep}),
            {error, {'RecursionError', "args[0]" ++ _}} =
                py:call(ep_probe, depth, [nest(Kind, 1001)]),
            {error, {'RecursionError', "locals['x']" ++ _}} =
                py:eval("1", #{x => nest(Kind, 1001)}),
            {error, {'RecursionError', "kwargs['x']" ++ _}} =
                py:call(ep_probe, echo, [], #{x => nest(Kind, 1001)}),
            {error, {'RecursionError', "result" ++ _}} = py:call(ep_probe, nest, [Kind, 1001])
        end
     || Kind <- Kinds
    ],
    Wide = [nest(list, 999), nest(tuple, 999), nest(dict, 999)],
    {ok, Wide} = py:call(ep_probe, echo, [Wide]).

%% What lies deep is told by how it begins; the reason comes soon.
names_the_outer_part_of_a_deep_place(_Config) ->
    Deep = fun(N, Leaf) -> lists:foldl(fun(_, Acc) -> [Acc] end, Leaf, lists:seq(1, N)) end,
    {error, {'RecursionError', "args[0][0][0][0][0][0][0][0]...: more than 1000 levels of containers"}} =
        py:call(ep_probe, echo, [Deep(1001, x)]),
    {error, {'RecursionError', "locals['x'][0][0][0][0][0][0][0]...: more than 1000 levels of containers"}} =
        py:eval("x", #{x => Deep(1001, x)}),
    {error, {'TypeError', "args[0][0][0][0][0][0][0][0]...: a fun cannot" ++ _}} =
        py:call(ep_probe, echo, [Deep(900, fun() -> ok end)]),
    {error, {'TypeError', "args[0][0][0]: a fun cannot" ++ _}} =
        py:call(ep_probe, echo, [Deep(2, fun() -> ok end)]),
    {error, {'RecursionError', "result: more than 1000 levels"}} = py:call(ep_probe, nest, [list, 1001]),
    Nested = "(lambda f: f(f, ~b))(lambda f, n: '\\ud800' if n == 0 else {'key': [f(f, n - 2)]})",
    {error, {'UnicodeEncodeError', "result['key'][0]['key'][0]['key'][0]['key'][0]...: 'utf-8'" ++ _}} =
        py:eval(io_lib:format(Nested, [200])),
    {error, {'UnicodeEncodeError', "result['key'][0]['key'][0]['key'][0]['key'][0]: 'utf-8'" ++ _}} =
        py:eval(io_lib:format(Nested, [8])),
    %% With keys as long as they come.
    Long = "(lambda f: f(f, 20))(lambda f, n: '\\ud800' if n == 0 else {'k' * 70: f(f, n - 1)})",
    {error, {'UnicodeEncodeError', Text}} = py:eval(Long),
    Path = lists:append(lists:duplicate(8, "['" ++ lists:duplicate(70, $k) ++ "']")),
    "result" ++ _ = Text,
    Path = lists:sublist(Text, 7, length(Path)),
    "...: 'utf-8'" ++ _ = lists:nthtail(6 + length(Path), Text).

survives_a_million_levels(_Config) ->
    Pid = py_test:os_pid(py:context(1)),
    [
        begin
            {error, {'RecursionError', _}} = py:call(ep_probe, echo, [nest(Kind, 1000000)]),
            {error, {'RecursionError', _}} = py:eval("x", #{x => nest(Kind, 1000000)}),
            {error, {'RecursionError', _}} = py:call(ep_probe, nest, [Kind, 1000000])
        end
     || Kind <- [list, tuple, dict]
    ],
    Pid = py_test:os_pid(py:context(1)).

refuses_what_contains_itself(_Config) ->
    {error, {'RecursionError', "result" ++ _}} = py:call(ep_probe, itself, [list]),
    {error, {'RecursionError', "result" ++ _}} = py:call(ep_probe, itself, [dict]).

refuses_lone_surrogates(_Config) ->
    {error, {'UnicodeEncodeError', "result: " ++ _}} = py:eval("'\\ud800'"),
    {error, {'UnicodeEncodeError', "result[1]: " ++ _}} = py:eval("['a', 'b\\udfffc']"),
    {error, {'UnicodeEncodeError', "result" ++ _}} = py:eval("{'\\ud800': 1}"),
    {error, {'UnicodeEncodeError', "result: " ++ _}} = py:eval("'\\ud800' * 100000"),
    %% In a message, where nothing must be lost, it is written out.
    {error, {'ValueError', "\\ud800"}} = py:exec("raise ValueError('\\ud800')").

%% 4 Mbit since OTP 27, far more before.
keeps_integers_within_the_limit_of_the_vm(_Config) ->
    {ok, 1} = py:eval("x >> 4000000", #{x => 1 bsl 4000000}),
    {ok, Large} = py:eval("1 << 4000000"),
    true = Large =:= 1 bsl 4000000,
    case erlang:system_info(otp_release) >= "27" of
        true ->
            {error, {'OverflowError', "result" ++ _}} = py:eval("1 << 5000000"),
            {error, {'OverflowError', "result" ++ _}} = py:eval("[1, -(1 << 5000000)]");
        false ->
            {ok, Larger} = py:eval("1 << 5000000"),
            %% A function call, for OTP 27 refuses the constant.
            true = Larger =:= erlang:'bsl'(id(1), 5000000)
    end.

treats_a_nul_in_a_name_as_a_python_error(_Config) ->
    Python = fun({error, {Type, Msg}}) -> is_atom(Type) andalso is_list(Msg) end,
    true = lists:all(Python, [
        py:call(<<"ma", 0, "th">>, sqrt, [16]),
        py:call("ma\0th", sqrt, [16]),
        py:call(math, <<"sq", 0, "rt">>, [16]),
        py:call(<<0>>, <<0>>, []),
        py:call('__main__', <<"f", 0>>, []),
        py:eval(<<"1", 0>>),
        py:eval(<<0>>),
        py:exec(<<"x = 1", 0, "\n">>),
        py:call(math, sqrt, [], #{<<"x", 0>> => 1}),
        py:call(<<>>, <<>>, []),
        py:eval(<<>>)
    ]),
    {ok, #{<<"a", 0>> := 1}} = py:call(ep_probe, echo, [], #{<<"a", 0>> => 1}),
    %% Nor does text that is not Unicode do harm.
    [
        begin
            Outcome = try Fun() catch error:badarg -> badarg end,
            ?assert(Outcome =:= badarg orelse element(1, Outcome) =:= error)
        end
     || Fun <- [
            fun() -> py:call(<<255>>, sqrt, [16]) end,
            fun() -> py:call(math, <<255>>, [16]) end,
            fun() -> py:eval(<<"'", 255, "'">>) end
        ]
    ].

%% The wire has a form of its own for those, up to 65535 elements.
converts_long_lists_of_small_integers(_Config) ->
    [
        begin
            List = [N rem 256 || N <- lists:seq(1, Length)],
            {ok, List} = py:call(ep_probe, echo, [List]),
            {ok, {Args, #{}}} = py:call(ep_probe, identify, List),
            ?assertEqual(List, tuple_to_list(Args))
        end
     || Length <- [1, 255, 256, 65535, 65536, 100000]
    ].

notices_a_container_that_changes_while_it_is_converted(_Config) ->
    ok = py:exec(
        "items = []\n"
        "class Shrink:\n"
        "    def __str__(self):\n"
        "        items.clear()\n"
        "        return 'gone'\n"
        "class Grow:\n"
        "    def __str__(self):\n"
        "        table[len(table)] = 1\n"
        "        return 'grown'\n"
        "items.extend([Shrink() for _ in range(50)])\n"
        "table = {i: Grow() for i in range(50)}\n"
    ),
    {error, {'RuntimeError', _}} = py:eval("items"),
    {error, {'RuntimeError', _}} = py:eval("table").

nest(Kind, Depth) ->
    nest(Kind, Depth, 0).

nest(_Kind, 0, Acc) -> Acc;
nest(list, N, Acc) -> nest(list, N - 1, [Acc]);
nest(tuple, N, Acc) -> nest(tuple, N - 1, {Acc});
nest(dict, N, Acc) -> nest(dict, N - 1, #{<<"k">> => Acc}).

id(X) ->
    X.
