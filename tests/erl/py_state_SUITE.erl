%% SPDX-License-Identifier: Apache-2.0

%% @doc State that Erlang and Python share: the same table from both sides, counters that
%% lose nothing, and a cap that holds.
-module(py_state_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++ [survives_workers_and_ends_with_the_application].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        keeps_any_erlang_term_as_it_is,
        is_one_table_for_both_languages,
        takes_keys_of_every_kind,
        counts_from_nothing,
        counts_beyond_machine_words,
        leaves_what_is_no_integer_unchanged,
        refuses_misuse,
        refuses_what_does_not_convert,
        counts_right_when_all_start_at_once,
        counts_right_beside_callbacks,
        takes_no_more_entries_than_allowed,
        reads_the_cap_at_each_new_key,
        keeps_the_cap_when_all_come_at_once,
        forgets_what_is_removed
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(survives_workers_and_ends_with_the_application, Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Config;
init_per_testcase(_Case, Config) ->
    ok = application:unset_env(erlang_python, max_state_entries),
    ok = py:state_clear(),
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

keeps_any_erlang_term_as_it_is(_Config) ->
    Terms = [1, -1.0, a, "list", <<"bin">>, <<1:3>>, {}, #{a => [b]}, self(), make_ref(), fun lists:sum/1, [a | b]],
    [
        begin
            ok = py:state_store(Term, {Term}),
            {ok, {Term}} = py:state_fetch(Term),
            {ok, {Term}} = py_state:fetch(Term)
        end
     || Term <- Terms
    ],
    ?assertEqual(lists:sort(Terms), lists:sort(py:state_keys())),
    ok = py:state_store(a, new),
    {ok, new} = py:state_fetch(a),
    ok = py:state_remove(a),
    {error, not_found} = py:state_fetch(a),
    ok = py:state_remove(a),
    ok = py:state_clear(),
    [] = py:state_keys().

is_one_table_for_both_languages(_Config) ->
    ok = py:state_store(<<"config">>, #{model => <<"gpt-4">>, limits => {1, 2.5, none}}),
    {ok, true} = py:eval("erlang.state_get('config') == {'model': 'gpt-4', 'limits': (1, 2.5, None)}"),
    {ok, none} = py:eval("erlang.state_get('absent')"),
    {ok, none} = py:eval("erlang.state_set('from python', {'a': [1, (2, None)], 'b': b'\\xff'})"),
    {ok, #{<<"a">> := [1, {2, none}], <<"b">> := <<16#FF>>}} = py:state_fetch(<<"from python">>),
    {ok, [<<"config">>, <<"from python">>]} = py:eval("sorted(erlang.state_keys())"),
    {ok, none} = py:eval("erlang.state_delete('config')"),
    {error, not_found} = py:state_fetch(<<"config">>),
    {ok, none} = py:eval("erlang.state_delete('config')"),
    %% All contexts see the same.
    [{ok, [1, {2, none}]} = py:eval(C, "erlang.state_get('from python')['a']") || C <- py_context_router:contexts()],
    {ok, none} = py:eval("erlang.state_clear()"),
    [] = py:state_keys(),
    %% What Python got is a copy.
    ok = py:state_store(<<"list">>, [1]),
    ok = py:exec("from erlang import state_get\nl = state_get('list')\nl.append(2)"),
    {ok, [1]} = py:state_fetch(<<"list">>).

takes_keys_of_every_kind(_Config) ->
    [
        begin
            {ok, none} = py:eval(["erlang.state_set(", Python, ", 'x')"]),
            {Erlang, {ok, <<"x">>}} = {Erlang, py:state_fetch(Erlang)},
            {ok, <<"x">>} = py:eval(["erlang.state_get(", Python, ")"])
        end
     || {Python, Erlang} <- [
            {"'text'", <<"text">>},
            {"'gr\\xf6\\xdfe'", <<"größe"/utf8>>},
            {"b'\\xff'", <<16#FF>>},
            {"17", 17},
            {"2.5", 2.5},
            {"None", none},
            {"True", true},
            {"('a', 1)", {<<"a">>, 1}},
            {"['a']", [<<"a">>]}
        ]
    ].

counts_from_nothing(_Config) ->
    1 = py:state_incr(n),
    3 = py:state_incr(n, 2),
    2 = py:state_decr(n),
    -8 = py:state_decr(n, 10),
    -1 = py:state_decr(other),
    -5 = py_state:decr(third, 5),
    {ok, [1, 6, 5, -5]} =
        py:eval("[erlang.state_incr('k'), erlang.state_incr('k', 5), "
                "erlang.state_decr('k'), erlang.state_decr('k', 10)]"),
    -4 = py:state_incr(<<"k">>),
    {ok, -4} = py:eval("erlang.state_get('k')"),
    {ok, -1} = py:eval("erlang.state_decr('new')"),
    0 = py:state_incr(zero, 0),
    {ok, 0} = py:state_fetch(zero).

counts_beyond_machine_words(_Config) ->
    Big = 1 bsl 200,
    Big = py:state_incr(<<"big">>, Big),
    {ok, true} = py:eval("erlang.state_incr('big', 1 << 63) == (1 << 200) + (1 << 63)"),
    {ok, true} = py:eval("erlang.state_decr('big', 1 << 200) == 1 << 63"),
    ?assertEqual((1 bsl 63) - 1, py:state_decr(<<"big">>)).

leaves_what_is_no_integer_unchanged(_Config) ->
    [
        begin
            ok = py:state_store(<<"k">>, Value),
            [ok = py_test:badarg(F) || F <- [
                fun() -> py:state_incr(<<"k">>) end,
                fun() -> py:state_incr(<<"k">>, 2) end,
                fun() -> py:state_decr(<<"k">>) end
            ]],
            {error, {_, _}} = py:eval("erlang.state_incr('k')"),
            {error, {_, _}} = py:eval("erlang.state_decr('k', 2)"),
            {ok, Value} = py:state_fetch(<<"k">>)
        end
     || Value <- [<<"1">>, 1.0, none, [1]]
    ].

refuses_misuse(_Config) ->
    [ok = py_test:badarg(F) || F <- [
        fun() -> py:state_incr(k, 1.0) end,
        fun() -> py:state_incr(k, a) end,
        fun() -> py:state_decr(k, "1") end
    ]],
    [
        {error, {'TypeError', _}} = py:eval(["erlang.", Call])
     || Call <- [
            "state_get()", "state_get(1, 2)", "state_set('k')", "state_set()", "state_set(1, 2, 3)", "state_incr()",
            "state_incr('k', 'x')", "state_incr('k', 1.5)", "state_incr('k', 1, 2)", "state_decr('k', None)",
            "state_delete()", "state_keys(1)", "state_clear(1)"
        ]
    ],
    {error, not_found} = py:state_fetch(<<"k">>),
    [] = py:state_keys().

refuses_what_does_not_convert(_Config) ->
    {error, {'ValueError', _}} = py:eval("erlang.state_set('k', {'a': 1, b'a': 2})"),
    {error, {'UnicodeEncodeError', _}} = py:eval("erlang.state_set('\\ud800', 1)"),
    [] = py:state_keys(),
    ok = py:state_store(<<"fun">>, fun lists:sum/1),
    {error, {'TypeError', "result: " ++ _}} = py:eval("erlang.state_get('fun')"),
    ok = py:state_store(fun lists:sum/1, 1),
    {error, {'TypeError', "result" ++ _}} = py:eval("erlang.state_keys()"),
    {ok, 1} = py:eval("erlang.state_incr('n')").

%% --- many at once ---------------------------------------------------------------------

%% Nobody is first: each number is returned once.
counts_right_when_all_start_at_once(_Config) ->
    Code = "def count(key, n): return [erlang.state_incr(key) for _ in range(n)]",
    Pythons = [
        begin
            Self = self(),
            spawn_monitor(fun() ->
                ok = py:exec(Ctx, Code),
                Self ! {ready, self()},
                counter(fun(Key, N) -> {ok, L} = py:call(Ctx, '__main__', count, [Key, N]), L end)
            end)
        end
     || Ctx <- py_context_router:contexts()
    ],
    [receive {ready, Pid} -> ok end || {Pid, _} <- Pythons],
    Erlangs = [
        spawn_monitor(fun() -> counter(fun(Key, N) -> [py:state_incr(Key) || _ <- lists:seq(1, N)] end) end)
     || _ <- lists:seq(1, 4)
    ],
    All = Pythons ++ Erlangs,
    [
        begin
            Key = <<"key ", (integer_to_binary(I))/binary>>,
            [Pid ! {count, self(), Key, 40} || {Pid, _} <- All],
            Seen = lists:append([receive {counted, Pid, L} -> L end || {Pid, _} <- All]),
            ?assertEqual(lists:seq(1, 40 * length(All)), lists:sort(Seen))
        end
     || I <- lists:seq(1, 40)
    ],
    [Pid ! stop || {Pid, _} <- All],
    [normal = py_fixture:dead(C) || C <- All].

counter(Count) ->
    receive
        {count, From, Key, N} ->
            From ! {counted, self(), Count(Key, N)},
            counter(Count);
        stop ->
            ok
    end.

counts_right_beside_callbacks(_Config) ->
    ok = py:register_function(incr, fun([Key]) -> py:state_incr(Key) end),
    Callers = [
        py_test:spawn_caller(fun() ->
            ok = py:exec("def f(n):\n    for _ in range(n):\n        erlang.incr('c')\n        erlang.state_incr('c')"),
            {ok, none} = py:call('__main__', f, [200])
        end)
     || _ <- lists:seq(1, 6)
    ],
    [{ok, none} = py_test:result_of(C) || C <- Callers],
    {ok, 2400} = py:state_fetch(<<"c">>).

%% --- the cap --------------------------------------------------------------------------

takes_no_more_entries_than_allowed(_Config) ->
    ok = application:set_env(erlang_python, max_state_entries, 2),
    ok = py:state_store(<<"a">>, 1),
    1 = py:state_incr(<<"b">>),
    {error, full} = py:state_store(<<"c">>, 1),
    {error, full} = py:state_incr(<<"c">>),
    {error, full} = py:state_decr(<<"c">>, 2),
    {ok, {<<"error">>, <<"full">>}} = py:eval("erlang.state_set('c', 1)"),
    {ok, {<<"error">>, <<"full">>}} = py:eval("erlang.state_incr('c')"),
    ?assertEqual([<<"a">>, <<"b">>], lists:sort(py:state_keys())),
    %% Overwriting always works.
    ok = py:state_store(<<"a">>, 2),
    {ok, none} = py:eval("erlang.state_set('a', 3)"),
    2 = py:state_incr(<<"b">>),
    {ok, 3} = py:eval("erlang.state_incr('b')"),
    %% And there is room again.
    ok = py:state_remove(<<"a">>),
    ok = py:state_store(<<"c">>, 1),
    {error, full} = py:state_store(<<"a">>, 1),
    ok = py:state_clear(),
    [ok = py:state_store(K, 1) || K <- [1, 2]],
    {error, full} = py:state_store(3, 1).

reads_the_cap_at_each_new_key(_Config) ->
    ok = application:set_env(erlang_python, max_state_entries, 0),
    {error, full} = py:state_store(a, 1),
    ok = application:set_env(erlang_python, max_state_entries, 1),
    ok = py:state_store(a, 1),
    {error, full} = py:state_store(b, 1),
    ok = application:set_env(erlang_python, max_state_entries, infinity),
    [ok = py:state_store(K, 1) || K <- lists:seq(1, 100)],
    ok = application:set_env(erlang_python, max_state_entries, 10),
    {error, full} = py:state_store(b, 1),
    ok = py:state_store(a, 2).

keeps_the_cap_when_all_come_at_once(_Config) ->
    ok = application:set_env(erlang_python, max_state_entries, 20),
    Callers = [
        py_test:spawn_caller(fun() ->
            [store(1 + (I * 7 + J * 13) rem 60, I + J) || J <- lists:seq(1, 300)],
            ok
        end)
     || I <- lists:seq(1, 16)
    ],
    Watcher = py_test:spawn_caller(fun() -> watch(0) end),
    [ok = py_test:result_of(C) || C <- Callers],
    element(1, Watcher) ! stop,
    ?assert(py_test:result_of(Watcher) =< 20),
    %% Nothing was counted twice, or not at all.
    ok = py:state_clear(),
    [ok = py:state_store({new, K}, 1) || K <- lists:seq(1, 20)],
    {error, full} = py:state_store(one_more, 1).

store(Key, N) when N rem 5 =:= 0 -> py:state_remove(Key);
store(Key, N) when N rem 5 =:= 1 -> py:state_incr(Key);
store(Key, N) -> py:state_store(Key, N).

watch(Highest) ->
    receive
        stop -> Highest
    %% Not the keys: those are no snapshot while others write.
    after 0 -> watch(max(Highest, ets:info(py_state, size)))
    end.

forgets_what_is_removed(_Config) ->
    [ok = py:state_store(K, binary:copy(<<"x">>, 1000)) || K <- lists:seq(1, 1000)],
    [ok = py:state_remove(K) || K <- lists:seq(1, 999)],
    [1000] = py:state_keys(),
    {ok, [1000]} = py:eval("erlang.state_keys()").

survives_workers_and_ends_with_the_application(_Config) ->
    {ok, none} = py:eval("erlang.state_set('k', 1)"),
    {error, {worker_died, _}} = py:call(ep_probe, leave, [0]),
    {ok, 1} = py:eval("erlang.state_get('k')"),
    ok = py:stop_contexts(),
    {ok, 1} = py:state_fetch(<<"k">>),
    ok = py_test:start([{num_contexts, 1}]),
    {error, not_found} = py:state_fetch(<<"k">>).
