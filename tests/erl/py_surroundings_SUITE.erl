%% SPDX-License-Identifier: Apache-2.0

%% @doc Environment and working directory of worker processes: keys of the application, of pools
%% and of contexts.
-module(py_surroundings_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++
        [
            a_pool_has_its_own_and_wins,
            contexts_of_different_environments_share_no_process,
            a_context_without_a_pool_has_its_own,
            much_environment_arrives_whole,
            bad_values_are_refused_with_the_reason,
            a_working_directory_that_goes_is_said_and_found_again
        ].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        the_environment_is_there_from_the_start_and_after_a_crash,
        children_of_python_inherit_it,
        the_working_directory_is_there_from_the_start_and_after_a_crash
    ].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    case proplists:get_value(group, Config) of
        undefined ->
            Config;
        Group ->
            true = os:putenv("EP_TEST_GONE", "still there"),
            Dir = filename:join(proplists:get_value(priv_dir, Config), [16#E9, 16#4E16, $\s, $d]),
            ok = filelib:ensure_dir(filename:join(Dir, "x")),
            Env = [{"EP_TEST_A", "1"}, {<<"EP_TEST_B">>, <<"\xc3\xa9=x "/utf8>>}, {'EP_TEST_GONE', false}, {"EP_TEST_EMPTY", ""}],
            ok = py_test:start([{env, Env}, {cwd, Dir} | proplists:get_value(Group, py_test:modes())]),
            [{dir, unicode:characters_to_binary(Dir)} | Config]
    end.

end_per_testcase(_Case, Config) ->
    true = os:unsetenv("EP_TEST_GONE"),
    case proplists:is_defined(group, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

getenv(Ctx, Name) ->
    {ok, Value} = py:call(Ctx, os, getenv, [Name], #{}, 30000),
    Value.

the_environment_is_there_from_the_start_and_after_a_crash(_Config) ->
    Check = fun(Ctx) ->
        <<"1">> = getenv(Ctx, <<"EP_TEST_A">>),
        <<"\xc3\xa9=x "/utf8>> = getenv(Ctx, <<"EP_TEST_B">>),
        none = getenv(Ctx, <<"EP_TEST_GONE">>),
        <<>> = getenv(Ctx, <<"EP_TEST_EMPTY">>),
        Home = list_to_binary(os:getenv("PATH")),
        Home = getenv(Ctx, <<"PATH">>)
    end,
    [Check(Ctx) || Ctx <- py_context_router:contexts()],
    {error, {worker_died, _}} = py:call(py:context(1), os, '_exit', [1]),
    [Check(Ctx) || Ctx <- py_context_router:contexts()],
    "still there" = os:getenv("EP_TEST_GONE").

children_of_python_inherit_it(_Config) ->
    [
        {ok, <<"1|">>} =
            py:eval(Ctx, "__import__('subprocess').check_output('printf %s \"$EP_TEST_A|$EP_TEST_GONE\"', shell=True)")
     || Ctx <- py_context_router:contexts()
    ],
    ok.

the_working_directory_is_there_from_the_start_and_after_a_crash(Config) ->
    Dir = proplists:get_value(dir, Config),
    [{ok, Dir} = py:call(Ctx, os, getcwd, []) || Ctx <- py_context_router:contexts()],
    {error, {worker_died, _}} = py:call(py:context(1), os, '_exit', [1]),
    [{ok, Dir} = py:call(Ctx, os, getcwd, []) || Ctx <- py_context_router:contexts()],
    {ok, Vm} = file:get_cwd(),
    ?assertNotEqual(unicode:characters_to_binary(Vm), Dir).

a_pool_has_its_own_and_wins(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {env, [{"EP_TEST_A", "app"}, {"EP_TEST_C", "app"}]}]),
    {ok, [Ctx]} = py_context_router:start_pool(own, 1, #{env => [{"EP_TEST_A", "pool"}, {"OMP_NUM_THREADS", "2"}], cwd => "/"}),
    [<<"pool">>, <<"app">>, <<"2">>] = [getenv(Ctx, N) || N <- [<<"EP_TEST_A">>, <<"EP_TEST_C">>, <<"OMP_NUM_THREADS">>]],
    {ok, <<"/">>} = py:call(Ctx, os, getcwd, []),
    [<<"app">>, <<"app">>, none] =
        [getenv(py:context(1), N) || N <- [<<"EP_TEST_A">>, <<"EP_TEST_C">>, <<"OMP_NUM_THREADS">>]].

contexts_of_different_environments_share_no_process(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Shared = #{own_process => false},
    Options = [Shared, Shared#{env => [{"EP_TEST_A", "1"}]}, Shared#{env => [{"EP_TEST_A", "1"}]}, Shared#{cwd => "/"}],
    Contexts = [element(2, {ok, _} = py_context:new(O)) || O <- Options],
    [A, B, B, C] = [py_test:os_pid(Ctx) || Ctx <- Contexts],
    3 = length(lists:usort([A, B, C])),
    [none, <<"1">>, <<"1">>, none] = [getenv(Ctx, <<"EP_TEST_A">>) || Ctx <- Contexts],
    [ok = py_context:stop(Ctx) || Ctx <- Contexts],
    ok.

a_context_without_a_pool_has_its_own(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, Ctx} = py_context:start_link(a, worker, #{env => [{"EP_TEST_A", "ctx"}], cwd => <<"/">>}),
    <<"ctx">> = getenv(Ctx, <<"EP_TEST_A">>),
    {ok, <<"/">>} = py:call(Ctx, os, getcwd, []),
    ok = py_context:stop(Ctx).

much_environment_arrives_whole(_Config) ->
    Big = binary:copy(<<"0123456789">>, 5000),
    ok = py_test:start([{num_contexts, 8}, {env, [{"EP_TEST_BIG", Big}]}]),
    [Big = getenv(Ctx, <<"EP_TEST_BIG">>) || Ctx <- py_context_router:contexts()],
    ok.

bad_values_are_refused_with_the_reason(_Config) ->
    [
        begin
            {error, {erlang_python, {{bad_config, Key, Value, Why}, _}}} = py_test:restart([{Key, Value}]),
            ?assertMatch({match, _}, re:run(Why, ["^", atom_to_list(Key), ": .*", Expected]))
        end
     || {Key, Value, Expected} <- [
            {env, x, "must be a list"},
            {env, [{"A", 1}], "name and value must be text"},
            {env, [{"A", "b\0c"}], "without NUL"},
            {env, [{"A", <<255>>}], "UTF-8"},
            {env, [{"", "b"}], "no name of a variable"},
            {env, [{"A=B", "b"}], "no name of a variable"},
            {env, ["A=B"], "not \\{Name, Value\\}"},
            {env, [{"A", binary:copy(<<"x">>, 60000)}], "more than 60000 bytes"},
            {env, [{"EP_LAUNCHER_MARK", "1"}], "belongs to the library"},
            {cwd, "/no/such/dir", "there is no directory /no/such/dir"},
            {cwd, 1, "must be text"},
            {cwd, "", "must not be empty"},
            {cwd, {priv, ep_no_such_app}, "no application"}
        ]
    ],
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, cwd, "/x/y", _}} = py_context_router:start_pool(p, 1, #{cwd => "/x/y"}),
    {error, {bad_config, env, [a], _}} = py_context:new(#{env => [a]}).

%% It is looked for again at each start, as everything that a start needs.
a_working_directory_that_goes_is_said_and_found_again(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "goes"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = py_test:start([{num_contexts, 1}, {cwd, Dir}]),
    ok = file:del_dir(Dir),
    {error, {worker_died, _}} = py:call(os, '_exit', [1]),
    {error, {worker_unavailable, Why}} = unavailable(),
    Expected = io_lib:format("cannot enter the configured working directory \\(cwd\\) ~ts: No such file", [Dir]),
    ?assertMatch({match, _}, re:run(Why, Expected)),
    ok = file:make_dir(Dir),
    ok = py_test:wait_until(fun() -> py:call(math, sqrt, [16]) =:= {ok, 4.0} end).

unavailable() ->
    case py:call(math, sqrt, [16]) of
        {error, {worker_died, _}} -> unavailable();
        Result -> Result
    end.
