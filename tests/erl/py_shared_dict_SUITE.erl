%% SPDX-License-Identifier: Apache-2.0

%% @doc Shared dicts: what a value becomes on either side, and how long it stays.
-module(py_shared_dict_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, worker}].

groups() ->
    [
        {worker, [
            gives_what_python_would_return,
            refuses_what_python_cannot_pickle,
            keeps_what_python_has_set,
            is_a_mapping_in_python,
            ends_when_it_is_destroyed,
            outlives_workers,
            holds_many_keys,
            refuses_misuse
        ]}
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    py_test:init_mode(Group, Config).

end_per_group(_Group, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    py_test:clean().

gives_what_python_would_return(_Config) ->
    {ok, D} = py:shared_dict_new(),
    ?assertEqual(undefined, py:shared_dict_get(D, <<"k">>)),
    ?assertEqual(default, py:shared_dict_get(D, <<"k">>, default)),
    [
        begin
            ok = py:shared_dict_set(D, <<"k">>, Value),
            {ok, Returned} = py:call(ep_channels, same, [Value]),
            ?assertEqual(Returned, py:shared_dict_get(D, <<"k">>)),
            ?assertEqual({ok, Returned}, py:call(ep_channels, dict_get, [D, <<"k">>]))
        end
     || Value <- [
            1,
            -1.5,
            1 bsl 100,
            true,
            none,
            undefined,
            foo,
            <<"text">>,
            <<255>>,
            "abc",
            [],
            {},
            {a, {bytes, <<"b">>}, [none]},
            #{k => v, <<"l">> => [#{1 => 2}]},
            binary:copy(<<"x">>, 200000),
            lists:seq(1, 20000)
        ]
    ],
    ?assertEqual([<<"k">>], py:shared_dict_keys(D)),
    ok = py:shared_dict_del(D, <<"k">>),
    ok = py:shared_dict_del(D, <<"k">>),
    ?assertEqual([], py:shared_dict_keys(D)).

refuses_what_python_cannot_pickle(_Config) ->
    {ok, D} = py:shared_dict_new(),
    [
        ?assertEqual({error, pickle_failed}, py:shared_dict_set(D, <<"k">>, Value))
     || Value <- [fun() -> ok end, self(), make_ref(), [1 | 2], <<1:1>>, #{1 => a, 1.0 => b}, #{a => 1, <<"a">> => 2}]
    ],
    ?assertEqual([], py:shared_dict_keys(D)).

keeps_what_python_has_set(_Config) ->
    {ok, D} = py:shared_dict_new(),
    {ok, Facts} = py:call(ep_channels, dict_round, [D]),
    ?assertEqual([true || _ <- Facts], Facts),
    ?assertEqual(<<"2020-01-02">>, py:shared_dict_get(D, <<"k0">>)),
    ?assertEqual(<<"abc">>, py:shared_dict_get(D, <<"k1">>)),
    ?assertEqual({1, <<"x">>}, py:shared_dict_get(D, <<"k2">>)),
    ?assertEqual(none, py:shared_dict_get(D, <<"k4">>)),
    ?assertEqual(1 bsl 70, py:shared_dict_get(D, <<"k6">>)),
    %% What Erlang has no term for is text.
    ?assert(is_binary(py:shared_dict_get(D, <<"k8">>))).

is_a_mapping_in_python(_Config) ->
    {ok, D} = py:shared_dict_new(),
    {ok, [true, false, none, 3, [<<"a">>, <<"b">>], 2, <<"KeyError">>, <<"TypeError">>, _]} =
        py:call(ep_channels, dict_methods, [D]),
    ?assertEqual(2, py:shared_dict_get(D, <<"b">>)).

ends_when_it_is_destroyed(_Config) ->
    {ok, D} = py:shared_dict_new(),
    ok = py:shared_dict_set(D, <<"k">>, 1),
    ok = py:shared_dict_destroy(D),
    ok = py:shared_dict_destroy(D),
    [
        ?assertError(badarg, Fun())
     || Fun <- [
            fun() -> py:shared_dict_get(D, <<"k">>) end,
            fun() -> py:shared_dict_set(D, <<"k">>, 1) end,
            fun() -> py:shared_dict_set(D, <<"k">>, fun() -> ok end) end,
            fun() -> py:shared_dict_del(D, <<"k">>) end,
            fun() -> py:shared_dict_keys(D) end
        ]
    ],
    ?assertMatch({error, {'RuntimeError', _}}, py:call(ep_channels, dict_get, [D, <<"k">>])),
    {ok, Other} = py:shared_dict_new(),
    {ok, none} = py:call(ep_channels, dict_destroy, [Other]),
    ?assertError(badarg, py:shared_dict_keys(Other)).

outlives_workers(_Config) ->
    Ctx = py:context(1),
    {ok, D} = py:shared_dict_new(),
    {ok, none} = py:call(Ctx, ep_channels, dict_set, [D, <<"k">>, {1, <<"kept">>}]),
    ok = py_test:kill(py_test:os_pid(Ctx)),
    ?assertEqual({ok, {1, <<"kept">>}}, py:call(py:context(2), ep_channels, dict_get, [D, <<"k">>])),
    ?assertEqual({1, <<"kept">>}, py:shared_dict_get(D, <<"k">>)).

holds_many_keys(_Config) ->
    {ok, D} = py:shared_dict_new(),
    Keys = [integer_to_binary(I) || I <- lists:seq(1, 3000)],
    [ok = py:shared_dict_set(D, K, K) || K <- Keys],
    ?assertEqual(lists:sort(Keys), lists:sort(py:shared_dict_keys(D))),
    {ok, InPython} = py:eval(<<"sorted(__import__('erlang').SharedDict(d).keys())">>, #{d => D}),
    ?assertEqual(lists:sort(Keys), InPython),
    [ok = py:shared_dict_del(D, K) || K <- Keys, binary_to_integer(K) rem 2 =:= 0],
    ?assertEqual(1500, length(py:shared_dict_keys(D))).

refuses_misuse(_Config) ->
    {ok, D} = py:shared_dict_new(),
    [
        ?assertError(badarg, Fun())
     || Fun <- [
            fun() -> py:shared_dict_get(make_ref(), <<"k">>) end,
            fun() -> py:shared_dict_get(D, key) end,
            fun() -> py:shared_dict_set(D, "key", 1) end,
            fun() -> py:shared_dict_destroy(x) end
        ]
    ].
