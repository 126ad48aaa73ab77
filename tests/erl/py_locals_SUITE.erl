%% SPDX-License-Identifier: Apache-2.0

%% @doc Locals of an eval, which nested scopes see, too.
-module(py_locals_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups([
        shows_locals_to_nested_scopes,
        shows_locals_that_change_their_names,
        shows_locals_that_are_no_names,
        does_not_take_code_apart_for_locals
    ], #{}).

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    py_fixture:init(Group, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

shows_locals_to_nested_scopes(_Config) ->
    ok = py:exec("k = 100\nglobal_one = 7\ndef f(): return k"),
    Rows = [
        {"sum(i * k for i in range(3))", 6},
        {"(lambda: k)()", 2},
        {"(lambda x: x + k)(1)", 3},
        {"[i * k for i in range(3)]", [0, 2, 4]},
        {"{i: k for i in range(2)}", #{0 => 2, 1 => 2}},
        {"[[k + j for _ in range(1)] for j in range(2)]", [[2], [3]]},
        {"(lambda: (lambda: k)())()", 2},
        {"[(lambda: k)() for _ in range(2)]", [2, 2]},
        {"list(map(lambda x: x * k + global_one, [1, 2]))", [9, 11]},
        {"sorted([3, 1, 2], key=lambda x: -x * k)", [3, 2, 1]},
        %% Before the namespace, but not in place of it.
        {"[(lambda: k)(), f()]", [2, 100]},
        {"(lambda: (k, v))()", {2, <<"v">>}},
        {"(k, *[v for _ in range(2)])", {2, <<"v">>, <<"v">>}},
        {"k, (lambda: v)()", {2, <<"v">>}},
        {"(lambda: k)() # a comment", 2},
        {"\n(lambda:\n k)()\n", 2},
        {" \t(lambda: k)()", 2},
        {"[y := (lambda: k)(), y]", [2, 2]},
        {"(lambda: globals()['k'])()", 100},
        {"sorted(n for n in [*locals()] if n in 'kv') + [(lambda: 1)()]", [<<"k">>, <<"v">>, 1]}
    ],
    %% A second time from the cache.
    [
        ?assertEqual({Code, {ok, Value}}, {Code, py:eval(Code, #{k => 2, v => <<"v">>})})
     || _ <- [1, 2], {Code, Value} <- Rows
    ],
    Long = "(lambda: k)()" ++ lists:duplicate(500, $\s),
    {ok, 2} = py:eval(Long, #{k => 2}),
    {ok, 100} = py:eval("k"),
    {error, {'NameError', _}} = py:eval("v"),
    {error, {'NameError', _}} = py:eval("(lambda: v)()"),
    %% Names that the expression assigns are those of the namespace until then.
    ok = py:exec("y = 10"),
    {ok, 34} = py:eval("sum((y := y + i * k) for i in range(3))", #{k => 1}),
    {ok, {10, [1, 2], 2}} = py:eval("(y, [y := i * (lambda: k)() for i in (1, 2)], y)", #{k => 1}),
    {ok, 10} = py:eval("y"),
    ok = py:exec("del y"),
    {error, {'SyntaxError', _}} = py:eval("(yield (lambda: k)())", #{k => 2}),
    {error, {'SyntaxError', _}} = py:eval("(lambda: k)()) + (1", #{k => 2}),
    {error, {'ZeroDivisionError', _, Traceback}} =
        py:eval("(lambda: 1 / k)()", #{k => 0}, #{traceback => true}),
    {match, _} = re:run(Traceback, "line 1, in <module>"),
    ok = py:exec("del k, global_one, f").

%% One text with other locals each time.
shows_locals_that_change_their_names(_Config) ->
    Code = "(lambda: [n for n in ('a', 'b', 'c') if n in names] + [a])()",
    [
        ?assertEqual(
            {ok, Expected ++ [N]},
            py:eval(Code, maps:merge(#{names => Expected, a => N}, Extra))
        )
     || N <- lists:seq(1, 3),
        {Expected, Extra} <- [
            {[<<"a">>], #{}},
            {[<<"a">>, <<"b">>], #{b => 1}},
            {[<<"b">>, <<"c">>], #{<<"c">> => 1, 'B' => 2}}
        ]
    ],
    {error, {'NameError', _}} = py:eval(Code, #{names => []}),
    ok = py:exec("a = 5"),
    {ok, [5]} = py:eval(Code, #{names => []}),
    ok = py:exec("del a").

shows_locals_that_are_no_names(_Config) ->
    Locals = #{
        k => 2, 'a b' => 1, <<"1">> => 1, class => 1, 'None' => 1, '__debug__' => 1, <<"ä"/utf8>> => 3, match => 4, '' => 1
    },
    {ok, 2} = py:eval("(lambda: k)()", maps:remove('__debug__', Locals)),
    {ok, [3, 4]} = py:eval(<<"(lambda: [ä, match])()"/utf8>>, maps:remove('__debug__', Locals)),
    {ok, 2} = py:eval("(lambda: k)()", Locals),
    {ok, 1} = py:eval("locals()['a b']", Locals).

%% Code that looks like the end of what it is put into.
does_not_take_code_apart_for_locals(_Config) ->
    [
        ?assertMatch({Code, {error, {'SyntaxError', _}}}, {Code, py:eval(Code, #{k => 1})})
     || Code <- [
            "(lambda: k)()\n)\nimport os\n(", "(lambda: k)(); 1", "(lambda: k)() if", "await (lambda: k)()", "x = (lambda: k)()"
        ]
    ],
    %% As deep as Python goes.
    Deep = lists:duplicate(198, $() ++ "(lambda: k)()" ++ lists:duplicate(198, $)),
    {ok, 5} = py:eval(Deep, #{k => 5}).
