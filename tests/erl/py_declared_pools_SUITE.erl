%% SPDX-License-Identifier: Apache-2.0

%% @doc Pools that the configuration declares, and pools below a supervisor of the user.
-module(py_declared_pools_SUITE).

-compile([export_all, nowarn_export_all]).
-behaviour(supervisor).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [
        pools_of_the_configuration_start_with_the_application_and_come_back,
        registrations_come_and_go_with_their_pool,
        a_pool_that_cannot_start_keeps_the_application_from_starting,
        bad_pools_are_refused_with_the_reason,
        a_pool_that_runs_with_other_options_is_said_once,
        code_runs_on_pools,
        a_supervised_pool_lives_and_dies_with_its_supervisor,
        a_supervised_pool_starts_again_when_it_is_stopped_or_killed,
        a_supervised_pool_that_is_there_is_an_error,
        a_supervised_pool_that_cannot_start_says_why,
        a_supervised_pool_ends_with_the_application
    ].

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    Result = py_test:clean(),
    ok = py_test:stop(),
    Result.

%% --- configuration --------------------------------------------------------------------

pools_of_the_configuration_start_with_the_application_and_come_back(_Config) ->
    Pools = [
        {io, #{contexts => 2, register => [json, {math, sqrt}, "os.path"], env => [{"EP_TEST_POOL", "io"}]}},
        {cpu, #{contexts => 1, num_workers => 1}}
    ],
    ok = py_test:start([{num_contexts, 1}, {pools, Pools}]),
    Check = fun() ->
        [1, 2, 1] = [py_context_router:num_contexts(P) || P <- [default, io, cpu]],
        [true, true] = [py_context_router:pool_started(P) || P <- [io, cpu]],
        [io, io, default, io, io] =
            [py_context_router:lookup_pool(M, F) || {M, F} <- [{json, dumps}, {math, sqrt}, {math, floor}, {'os.path', join}, {<<"os.path">>, f}]],
        {ok, <<"io">>} = py:call(io, os, getenv, [<<"EP_TEST_POOL">>]),
        {ok, none} = py:call(cpu, os, getenv, [<<"EP_TEST_POOL">>]),
        {ok, 4.0} = py:call(math, sqrt, [16])
    end,
    Check(),
    ok = application:stop(erlang_python),
    {ok, _} = application:ensure_all_started(erlang_python),
    Check(),
    true = exit(whereis(py_pool_sup), kill),
    ok = py_test:wait_until(fun() -> [true] =:= lists:usort([py_context_router:pool_started(P) || P <- [io, cpu]]) end),
    Check().

registrations_come_and_go_with_their_pool(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, _} = py_context_router:start_pool(io, 1, #{register => [json]}),
    ok = py:register_pool(io, math),
    [io, io] = [py_context_router:lookup_pool(M, f) || M <- [json, math]],
    ok = py_context_router:stop_pool(io),
    %% What was registered by hand stays.
    [default, io] = [py_context_router:lookup_pool(M, f) || M <- [json, math]],
    {ok, _} = py:call(json, dumps, [1]),
    {ok, _} = py_context_router:start_pool(io, 1, #{register => [json]}),
    {ok, _} = py_context_router:start_pool(cpu, 1, #{register => [json]}),
    cpu = py_context_router:lookup_pool(json, f),
    %% It is not that pool's any more.
    ok = py_context_router:stop_pool(io),
    cpu = py_context_router:lookup_pool(json, f),
    ok = py:unregister_pool(math).

a_pool_that_cannot_start_keeps_the_application_from_starting(_Config) ->
    {error, {erlang_python, {{context_start_failed, io, 1, {preload_failed, {'ModuleNotFoundError', _}}}, _}}} =
        py_test:restart([{num_contexts, 1}, {pools, [{io, #{contexts => 1, preload => [ep_no_such_module]}}]}]),
    false = py_error_info:is_started(),
    ok = py_test:start([{num_contexts, 1}]).

bad_pools_are_refused_with_the_reason(_Config) ->
    [
        begin
            {error, {erlang_python, {{bad_config, pools, _, Why}, _}}} = py_test:restart([{pools, Pools}]),
            ?assertMatch({match, _}, re:run(Why, ["^pools: ", Expected]))
        end
     || {Pools, Expected} <- [
            {x, "must be a list"},
            {[io], "must be a list of \\{Pool, Options\\}"},
            {[{"io", #{}}], "must be a list of \\{Pool, Options\\}"},
            {[{default, #{}}], "pool default has keys of its own"},
            {[{io, #{}}, {io, #{}}], "io is there twice"},
            {[{io, #{contexts => 0}}], "io: contexts: must be"},
            {[{io, #{register => json}}], "io: register: must be a list"},
            {[{io, #{register => [1]}}], "io: register: must be a list of modules"},
            {[{io, #{contxts => 1}}], "io: an option is unknown"}
        ]
    ],
    ok = py_test:start([{num_contexts, 1}]).

a_pool_that_runs_with_other_options_is_said_once(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, Contexts} = py_context_router:start_pool(io, 2, #{kill_after => 500}),
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => warning}),
    try
        {ok, Contexts} = py_context_router:start_pool(io, 2),
        {ok, Contexts} = py_context_router:start_pool(io, 2, #{kill_after => 500}),
        {ok, _} = py:start_contexts(),
        {ok, _} = py:start_contexts(#{contexts => 1, mode => worker}),
        [] = logged(),
        {ok, Contexts} = py_context_router:start_pool(io, 3, #{kill_after => 600}),
        [Text] = logged(),
        ?assertMatch({match, _}, re:run(Text, "pool io runs already, and with other options \\(contexts, kill_after\\)")),
        {ok, [_]} = py:start_contexts(#{contexts => 4}),
        [_] = logged()
    after
        ok = logger:remove_handler(?MODULE)
    end.

logged() ->
    receive
        {logged, Text} -> [Text | logged()]
    after 0 -> []
    end.

code_runs_on_pools(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, [Ctx]} = py_context_router:start_pool(io, 1),
    ok = py:exec(io, "x = 41"),
    {ok, 42} = py:eval(io, "x + 1"),
    {ok, 43} = py:eval(io, <<"x + y">>, #{y => 2}),
    {ok, 41} = py:eval(io, x),
    {error, timeout} = py:eval(io, "__import__('time').sleep(10)", #{}, 50),
    ok = py:exec(io, "y = 1", #{traceback => true}),
    {ok, 42} = py:eval(Ctx, "x + y"),
    {error, {'NameError', _}} = py:eval("x"),
    {ok, 3} = py:eval("a + b", #{a => 1, b => 2}),
    [
        ok = py_test:badarg(F)
     || F <- [
            fun() -> py:eval(no_such_pool, "1") end,
            fun() -> py:exec(no_such_pool, "1") end,
            fun() -> py:eval(io, 1) end,
            fun() -> py:eval(io, "1", x) end
        ]
    ],
    ok.

%% --- a supervisor of the user ---------------------------------------------------------

%% @private
init(Specs) ->
    {ok, {#{strategy => one_for_one, intensity => 3, period => 5}, Specs}}.

supervise(Specs) ->
    {ok, Sup} = supervisor:start_link(?MODULE, Specs),
    Sup.

stop(Sup) ->
    true = unlink(Sup),
    Ref = monitor(process, Sup),
    true = exit(Sup, shutdown),
    receive
        {'DOWN', Ref, process, Sup, shutdown} -> ok
    end.

a_supervised_pool_lives_and_dies_with_its_supervisor(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Spec = py_context_router:child_spec(mine, #{contexts => 2, register => [json]}),
    Sup = supervise([Spec]),
    2 = py_context_router:num_contexts(mine),
    {ok, <<"[1]">>} = py:call(json, dumps, [[1]]),
    OsPids = [py_test:os_pid(Ctx) || Ctx <- py_context_router:contexts(mine)],
    ok = stop(Sup),
    false = py_context_router:pool_started(mine),
    default = py_context_router:lookup_pool(json, dumps),
    ok = py_test:wait_for_exit(OsPids, 5000),
    %% Also when nobody has the time to say so.
    Again = supervise([Spec]),
    [{_, Owner, _, _}] = supervisor:which_children(Again),
    true = unlink(Again),
    Ref = monitor(process, Owner),
    true = exit(Again, kill),
    receive
        {'DOWN', Ref, process, Owner, _} -> ok
    end,
    ok = py_test:wait_until(fun() -> py_context_router:pool_started(mine) =:= false end),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_supervised_pool_starts_again_when_it_is_stopped_or_killed(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Sup = supervise([py_context_router:child_spec(mine, #{contexts => 1})]),
    Serves = fun() -> py_context_router:pool_started(mine) andalso py:call(mine, math, sqrt, [16]) =:= {ok, 4.0} end,
    Owner = fun() ->
        case supervisor:which_children(Sup) of
            [{_, Pid, _, _}] when is_pid(Pid) -> Pid;
            _ -> Owner0 = restarting, Owner0
        end
    end,
    First = Owner(),
    ok = py_context_router:stop_pool(mine),
    ok = py_test:wait_until(fun() -> is_pid(Owner()) andalso Owner() =/= First andalso Serves() end),
    Second = Owner(),
    true = exit(Second, kill),
    ok = py_test:wait_until(fun() -> is_pid(Owner()) andalso Owner() =/= Second andalso Serves() end),
    %% The processes of the library come back by themselves: the user's supervisor hears nothing.
    Third = Owner(),
    {ok, Server} = py_pool_registry:server(mine),
    true = exit(Server, kill),
    ok = py_test:wait_until(fun() -> {ok, Server} =/= py_pool_registry:server(mine) andalso Serves() end),
    Third = Owner(),
    ok = stop(Sup),
    false = py_context_router:pool_started(mine).

a_supervised_pool_that_is_there_is_an_error(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, Contexts} = py_context_router:start_pool(mine, 1),
    Sup = supervise([]),
    Spec = py_context_router:child_spec(mine, #{contexts => 2}),
    Pid = already_started(supervisor:start_child(Sup, Spec)),
    {ok, Pid} = py_pool_registry:server(mine),
    Contexts = py_context_router:contexts(mine),
    _ = already_started(supervisor:start_child(Sup, py_context_router:child_spec(default, #{}))),
    ok = py_context_router:stop_pool(mine),
    {ok, Owner} = supervisor:start_child(Sup, Spec),
    {error, {already_started, Owner}} = supervisor:start_child(Sup, Spec),
    ok = supervisor:terminate_child(Sup, {py_pool, mine}),
    false = py_context_router:pool_started(mine),
    {ok, _} = supervisor:restart_child(Sup, {py_pool, mine}),
    2 = py_context_router:num_contexts(mine),
    ok = stop(Sup).

%% Newer supervisors pass it on as it is.
already_started({error, {{already_started, Pid}, _Child}}) -> Pid;
already_started({error, {already_started, Pid}}) -> Pid.

a_supervised_pool_that_cannot_start_says_why(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Sup = supervise([]),
    Start = fun(Options) ->
        {error, {Reason, _Child}} = supervisor:start_child(Sup, py_context_router:child_spec(mine, Options)),
        {error, Reason}
    end,
    {error, {bad_config, contexts, 0, _}} = Start(#{contexts => 0}),
    {error, {context_start_failed, mine, 1, {preload_failed, _}}} = Start(#{contexts => 1, preload => [ep_no_such_module]}),
    false = py_context_router:pool_started(mine),
    ok = py_test:badarg(fun() -> py_context_router:child_spec("mine", #{}) end),
    ok = py_test:badarg(fun() -> py_context_router:child_spec(mine, []) end),
    ok = py_test:stop(),
    {error, not_started} = Start(#{contexts => 1}),
    ok = stop(Sup).

a_supervised_pool_ends_with_the_application(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {Sup, Ref} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        Sup = supervise([py_context_router:child_spec(mine, #{contexts => 1})]),
        receive
            {'EXIT', Sup, Reason} -> exit(Reason)
        end
    end),
    ok = py_test:wait_until(fun() -> py_context_router:pool_started(mine) end),
    ok = py_test:stop(),
    %% It starts its child again, in vain.
    receive
        {'DOWN', Ref, process, Sup, shutdown} -> ok
    after 10000 -> error(supervisor_lives)
    end.
