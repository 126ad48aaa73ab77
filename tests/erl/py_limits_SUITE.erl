%% SPDX-License-Identifier: Apache-2.0

%% @doc What worker processes may use: the keys `memory_limit' and `threads'.
-module(py_limits_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(LIMIT, 400000000).
-define(VARIABLES, [<<"OMP_NUM_THREADS">>, <<"OPENBLAS_NUM_THREADS">>, <<"MKL_NUM_THREADS">>]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()] ++
        [
            a_limit_too_small_for_python_says_so,
            a_context_has_a_limit_of_its_own,
            contexts_that_share_a_process_have_no_limit_of_their_own,
            a_process_that_cannot_take_it_is_reported_with_the_limit,
            threads_are_set_for_each_library,
            variables_of_the_user_win,
            auto_divides_the_cpus,
            bad_values_are_refused_with_the_reason,
            other_limits_than_those_of_a_pool_that_runs_are_said
        ].

groups() ->
    Cases = [beyond_the_limit_is_a_memory_error, shared_memory_is_not_counted],
    py_fixture:groups(py_test:modes(), Cases, #{shared => [beyond_the_limit_is_a_memory_error]}).

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    case proplists:get_value(group, Config) of
        undefined -> ok;
        Group -> ok = py_test:start([{memory_limit, ?LIMIT} | proplists:get_value(Group, py_test:modes())])
    end,
    Config.

end_per_testcase(_Case, Config) ->
    case proplists:is_defined(group, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

%% Python goes on, and what it has freed it can have again.
beyond_the_limit_is_a_memory_error(_Config) ->
    [
        begin
            {error, {'MemoryError', _}} = py:call(Ctx, builtins, bytearray, [2 * ?LIMIT], #{}, 30000),
            {ok, 100000000} = py:eval(Ctx, "len(bytearray(100000000))"),
            {ok, 100000000} = py:eval(Ctx, "len(bytearray(100000000))"),
            {ok, 4.0} = py:call(Ctx, math, sqrt, [16])
        end
     || Ctx <- py_context_router:contexts()
    ],
    {ok, [?LIMIT, ?LIMIT]} =
        py:eval("list(__import__('resource').getrlimit(__import__('resource').RLIMIT_DATA))"),
    ok.

shared_memory_is_not_counted(_Config) ->
    Big = binary:copy(<<0>>, ?LIMIT div 4),
    [{ok, _} = py:call(builtins, len, [Big]) || _ <- lists:seq(1, 6)],
    {ok, Back} = py:eval("bytes(100000000)"),
    100000000 = byte_size(Back).

a_limit_too_small_for_python_says_so(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {error, {context_start_failed, small, 1, {worker_unavailable, Why}}} =
        py_context_router:start_pool(small, 1, #{memory_limit => 2097152}),
    ?assertMatch({match, _}, re:run(Why, "2097152 bytes that memory_limit allows")),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_context_has_a_limit_of_its_own(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, Ctx} = py_context:new(#{memory_limit => ?LIMIT}),
    {error, {'MemoryError', _}} = py:call(Ctx, builtins, bytearray, [2 * ?LIMIT]),
    {ok, _} = py:eval("len(bytearray(800000000))"),
    ok = py_context:stop(Ctx).

contexts_that_share_a_process_have_no_limit_of_their_own(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {memory_limit, ?LIMIT}]),
    Refused = {error, memory_limit_requires_own_process},
    Refused = py_context:new(#{own_process => false, memory_limit => ?LIMIT}),
    Refused = py_context:new(#{mode => owngil, memory_limit => ?LIMIT}),
    %% That of the application is one of processes.
    {ok, Ctx} = py_context:new(#{own_process => false}),
    {error, {'MemoryError', _}} = py:call(Ctx, builtins, bytearray, [2 * ?LIMIT]),
    ok = py_context:stop(Ctx).

a_process_that_cannot_take_it_is_reported_with_the_limit(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {memory_limit, ?LIMIT}]),
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => error}),
    try
        {error, {worker_died, #{reason := 'SIGABRT'}}} = py:call(os, abort, []),
        receive
            {logged, Text} ->
                ?assertMatch({match, _}, re:run(Text, "perhaps because .* 400000000 bytes that memory_limit allows"))
        after 30000 -> ct:fail(nothing_logged)
        end
    after
        ok = logger:remove_handler(?MODULE)
    end.

variables(Target) ->
    [element(2, {ok, _} = py:call(Target, os, getenv, [Name])) || Name <- ?VARIABLES].

threads_are_set_for_each_library(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    [none, none, none] = variables(py:context(1)),
    {ok, [Three]} = py_context_router:start_pool(three, 1, #{threads => 3}),
    [<<"3">>, <<"3">>, <<"3">>] = variables(Three),
    {error, {worker_died, _}} = py:call(Three, os, '_exit', [1]),
    [<<"3">>, <<"3">>, <<"3">>] = variables(Three),
    {ok, Ctx} = py_context:new(#{threads => 1}),
    [<<"1">>, <<"1">>, <<"1">>] = variables(Ctx),
    ok = py_context:stop(Ctx).

variables_of_the_user_win(_Config) ->
    true = os:putenv("MKL_NUM_THREADS", "7"),
    try
        ok = py_test:start([{num_contexts, 1}, {threads, 2}, {env, [{"OPENBLAS_NUM_THREADS", false}]}]),
        {ok, [Ctx]} = py_context_router:start_pool(own, 1, #{env => [{"OMP_NUM_THREADS", "5"}]}),
        [<<"5">>, none, <<"7">>] = variables(Ctx),
        [<<"2">>, none, <<"7">>] = variables(py:context(1))
    after
        true = os:unsetenv("MKL_NUM_THREADS")
    end.

auto_divides_the_cpus(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {threads, auto}]),
    #{cpus := Cpus} = ep_nif:counters(),
    [
        begin
            {ok, [Ctx | _]} = py_context_router:start_pool(divided, Contexts, #{num_workers => Workers}),
            Expected = integer_to_binary(max(1, Cpus div Processes)),
            [Expected, Expected, Expected] = variables(Ctx),
            ok = py_context_router:stop_pool(divided)
        end
     || {Contexts, Workers, Processes} <- [{1, 1, 1}, {2, 2, 2}, {4, 1, 1}, {2, 4, 2}, {8, 8, 8}]
    ],
    ok.

bad_values_are_refused_with_the_reason(_Config) ->
    [
        begin
            {error, {erlang_python, {{bad_config, Key, Value, Why}, _}}} = py_test:restart([{Key, Value}]),
            ?assertMatch({match, _}, re:run(Why, ["^", atom_to_list(Key), ": must be "]))
        end
     || {Key, Values} <- [{memory_limit, [0, 1000, -1, 1.0e9, all]}, {threads, [0, -1, 5000, 1.5, all]}],
        Value <- Values
    ],
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, threads, none, _}} = py_context_router:start_pool(p, 1, #{threads => none}),
    {error, {bad_config, memory_limit, 1, _}} = py_context:new(#{memory_limit => 1}).

other_limits_than_those_of_a_pool_that_runs_are_said(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, Contexts} = py:start_contexts(#{contexts => 1}),
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => warning}),
    try
        {ok, Contexts} = py:start_contexts(#{contexts => 2, threads => 2, memory_limit => ?LIMIT}),
        receive
            {logged, Text} ->
                ?assertMatch({match, _}, re:run(Text, "pool default runs already.*\\(contexts, memory_limit, num_workers, threads\\)|pool default runs already.*\\(contexts, memory_limit, threads\\)"))
        after 10000 -> ct:fail(nothing_logged)
        end
    after
        ok = logger:remove_handler(?MODULE)
    end.
