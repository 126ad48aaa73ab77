%% SPDX-License-Identifier: Apache-2.0

%% @doc Large data: it comes back unchanged, whoever converts it, and the shared memory
%% that it took comes back too.
-module(py_large_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(MIB, 1048576).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{
        shared => [
            serves_callers_that_fill_the_memory_together
        ]
    }).

cases() ->
    [
        returns_binaries_of_any_size_unchanged,
        returns_large_binaries_in_containers_unchanged,
        returns_many_numbers_exactly,
        returns_a_million_terms,
        returns_a_map_of_100000_keys,
        gives_memory_back_when_the_rest_cannot_be_converted,
        serves_callers_that_fill_the_memory_together
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
    ok = py:exec("def same(*x): return x[0] if len(x) == 1 else x"),
    Config.

%% Where something changes hands: the slot, the block, the dirty scheduler, the message
%% that is one binary.
returns_binaries_of_any_size_unchanged(_Config) ->
    Edges = [192, 512, 16384, 32768, 65536, 131072, ?MIB, ?MIB + 4096, 2 * ?MIB, 16 * ?MIB],
    [
        begin
            Bytes = bytes(Size),
            ?assertEqual({Size, true}, {Size, {ok, Bytes} =:= py:call('__main__', same, [{bytes, Bytes}])})
        end
     || Edge <- Edges, Size <- [Edge - 64, Edge - 5, Edge, Edge + 5]
    ].

returns_large_binaries_in_containers_unchanged(_Config) ->
    Large = bytes(200000),
    Cases = [
        [Large, 1, <<"a">>, Large],
        #{<<"k">> => Large, <<"l">> => [Large, #{<<"m">> => Large}]},
        [bytes(N) || N <- lists:seq(30000, 40000, 500)],
        [1, bytes(70000) | lists:seq(1, 6000)],
        lists:seq(1, 6000) ++ [bytes(2 * ?MIB)]
    ],
    [?assert({ok, Case} =:= py:call('__main__', same, [Case])) || Case <- Cases],
    ?assert({ok, {Large, 1, Large}} =:= py:call('__main__', same, [Large, 1, Large])),
    ?assert({ok, Large} =:= py:eval("x", #{x => Large})),
    ?assert({ok, #{<<"k">> => Large}} =:= py:call(builtins, dict, [], #{k => Large})).

%% Numbers in lists have a path of their own, in each direction.
returns_many_numbers_exactly(_Config) ->
    Powers = [S * (1 bsl P) + D || P <- [0, 7, 8, 15, 16, 31, 32, 62, 63, 64, 65, 200], S <- [1, -1], D <- [-1, 0, 1]],
    Reals = [0.0, -0.0, 1.5, -2.5e300, 5.0e-324, 1.7976931348623157e308],
    Mixed = Powers ++ Reals ++ [<<"text">>, true, [], [1, 2.5], {1, 2}, #{1 => [2]}],
    Lists = [
        Powers,
        Reals,
        Mixed,
        lists:append(lists:duplicate(300, Mixed)),
        [P || P <- Powers, _ <- lists:seq(1, 200)],
        [[I, I * 0.5] || I <- lists:seq(1, 2000)]
    ],
    [?assert({ok, List} =:= py:call('__main__', same, [List])) || List <- Lists],
    ?assertEqual({ok, [<<"int">>, <<"float">>, <<"int">>]}, py:eval("[type(v).__name__ for v in x]", #{x => [1, 2.0, 3]})).

returns_a_million_terms(_Config) ->
    List = [I - 500000 || I <- lists:seq(1, 1000000)],
    ?assert({ok, List} =:= py:call('__main__', same, [List])).

returns_a_map_of_100000_keys(_Config) ->
    Map = maps:from_list([{integer_to_binary(I), I} || I <- lists:seq(1, 100000)]),
    ?assert({ok, Map} =:= py:call('__main__', same, [Map])).

gives_memory_back_when_the_rest_cannot_be_converted(_Config) ->
    Large = bytes(8 * ?MIB),
    [
        ?assertMatch({error, {'TypeError', "args[1]: a fun" ++ _}}, py:call('__main__', same, [Large, fun() -> ok end]))
     || _ <- lists:seq(1, 40)
    ],
    Larger = bytes(60 * ?MIB),
    ?assert({ok, Larger} =:= py:call('__main__', same, [{bytes, Larger}])).

serves_callers_that_fill_the_memory_together(_Config) ->
    Large = {bytes, bytes(30 * ?MIB)},
    Callers = [
        spawn_monitor(fun() -> exit(py:call(py:context(1), builtins, len, [Large])) end)
     || _ <- lists:seq(1, 12)
    ],
    [
        receive
            {'DOWN', Ref, process, Pid, Result} -> ?assertEqual({ok, 30 * ?MIB}, Result)
        end
     || {Pid, Ref} <- Callers
    ].

%% Neither text nor all the same.
bytes(Size) ->
    binary:part(binary:copy(<<0, 255, 1, 254, 7>>, Size div 5 + 1), 0, Size).
