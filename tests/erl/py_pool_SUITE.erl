%% SPDX-License-Identifier: Apache-2.0

%% @doc Named pools, registrations, and which context a request goes to.
-module(py_pool_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(WAIT_MS, 20000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++ [{group, processes}].

groups() ->
    [{processes, [
        answers_when_a_pool_does_not_start,
        keeps_pools_when_the_registry_ends,
        forgets_pools_and_registrations_with_the_application
    ]}
     | [{Mode, cases()} || {Mode, _} <- py_test:modes()]].

cases() ->
    [
        starts_and_stops_named_pools,
        starts_a_stopped_pool_with_another_size,
        gives_everybody_who_starts_a_pool_the_same_one,
        spreads_a_pool_over_its_workers,
        calls_on_a_pool_in_every_form,
        tells_a_pool_from_a_module_of_that_name,
        uses_the_timeout_of_calls_without_a_context,
        binds_a_process_to_one_context_of_each_pool,
        binds_by_scheduler_in_each_pool,
        binds_to_a_context_without_a_pool,
        decides_once_and_keeps_the_namespace,
        makes_the_namespace_at_the_first_request,
        follows_a_replaced_context,
        replaces_contexts_that_are_killed_at_once,
        answers_the_callers_of_a_pool_that_stops,
        sends_registered_calls_to_their_pool,
        takes_registrations_in_every_form_of_text,
        keeps_registrations_while_their_pool_is_stopped,
        prefers_the_context_of_the_callback,
        binds_inside_a_callback_for_the_time_after_it
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(processes, Config) ->
    Config;
init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = application:ensure_started(erlang_python),
    Config.

end_per_testcase(_Case, _Config) ->
    [] = [Name || {Name, _} <- py_context_router:list_pool_registrations()],
    [ok = py_context_router:stop_pool(Pool) || Pool <- [io, cpu, math]],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    py_test:clean().

mode(Config) ->
    proplists:get_value(mode, Config, worker).

thread(Ctx) ->
    {ok, Id} = py:call(Ctx, threading, get_native_id, []),
    Id.

%% --- life of a pool -------------------------------------------------------------------

starts_and_stops_named_pools(Config) ->
    Default = py_context_router:contexts(),
    false = py_context_router:pool_started(io),
    0 = py_context_router:num_contexts(io),
    [] = py_context_router:contexts(io),
    {ok, Three} = py_context_router:start_pool(io, 3, mode(Config)),
    3 = length(lists:usort(Three)),
    true = lists:all(fun is_process_alive/1, Three),
    [] = [Ctx || Ctx <- Three, lists:member(Ctx, Default)],
    true = py_context_router:pool_started(io),
    3 = py_context_router:num_contexts(io),
    Three = py_context_router:contexts(io),
    %% A running pool is returned as it is.
    {ok, Three} = py_context_router:start_pool(io, 1),
    {ok, Three} = py_context_router:start_pool(io, 7, #{mode => mode(Config), kill_after => 5}),
    {ok, Default} = py_context_router:start_pool(default, 9),
    [?assertEqual(mode(Config) =:= owngil, py_context:is_subinterp(Ctx)) || Ctx <- Three],
    ok = py_context_router:stop_pool(io),
    ok = py_context_router:stop_pool(io),
    false = py_context_router:pool_started(io),
    false = lists:any(fun is_process_alive/1, Three),
    Default = py_context_router:contexts().

starts_a_stopped_pool_with_another_size(_Config) ->
    [
        begin
            {ok, Contexts} = py_context_router:start_pool(io, Size),
            Size = length(Contexts),
            Contexts = py_context_router:contexts(io),
            {ok, 4.0} = py:call(io, math, sqrt, [16]),
            ok = py_context_router:stop_pool(io)
        end
     || Size <- [1, 3, 2]
    ].

gives_everybody_who_starts_a_pool_the_same_one(_Config) ->
    Starters = [
        py_test:spawn_caller(fun() -> py_context_router:start_pool(io, N rem 3 + 1) end)
     || N <- lists:seq(1, 8)
    ],
    [{ok, Contexts}] = lists:usort([py_test:result_of(S) || S <- Starters]),
    Contexts = py_context_router:contexts(io).

spreads_a_pool_over_its_workers(Config) ->
    Options = #{mode => mode(Config), num_workers => 2},
    {ok, Contexts} = py_context_router:start_pool(io, 5, Options),
    [A, B, A, B, A] = [py_test:os_pid(Ctx) || Ctx <- Contexts],
    true = A =/= B,
    5 = length(lists:usort([thread(Ctx) || Ctx <- Contexts])).

%% --- requests to a pool ---------------------------------------------------------------

calls_on_a_pool_in_every_form(Config) ->
    {ok, [Ctx]} = py_context_router:start_pool(io, 1, mode(Config)),
    Thread = thread(Ctx),
    {ok, Thread} = py:call(io, threading, get_native_id, []),
    {ok, Thread} = py:call(io, "threading", <<"get_native_id">>, [], #{}),
    {ok, 8} = py:call(io, builtins, pow, [2], #{exp => 3}),
    {ok, 8} = py:call(io, builtins, pow, [2], #{exp => 3}, 5000),
    {ok, 8} = py:call(io, builtins, pow, [2], #{exp => 3}, #{timeout => 5000}),
    {ok, 8} = py:call(Ctx, builtins, pow, [2], #{exp => 3}, #{traceback => true}),
    {error, {'ZeroDivisionError', _, Traceback}} =
        py:call(io, operator, truediv, [1, 0], #{}, #{traceback => true}),
    true = is_binary(Traceback),
    %% The namespace on the context is that of the process, however it is named.
    ok = py:exec(Ctx, "def mine(): return 'mine'"),
    {ok, <<"mine">>} = py:call(io, '__main__', mine, []),
    {error, {'AttributeError', _}} = py:call('__main__', mine, []).

tells_a_pool_from_a_module_of_that_name(_Config) ->
    {ok, [Ctx]} = py_context_router:start_pool(math, 1),
    Ctx = py_context_router:get_context(math),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 5000),
    {ok, 4.0} = py:call(math, math, sqrt, [16]),
    {ok, 4.0} = py:call(math, math, sqrt, [16], #{}),
    {ok, 4.0} = py:call(math, math, sqrt, [16], #{}, 5000),
    ok = py_context_router:stop_pool(math),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py_test:badarg(fun() -> py:call(math, math, sqrt, [16]) end),
    %% On a pool the fifth argument is Kwargs, on a context options.
    ok = py_test:badarg(fun() -> py:call(default, math, sqrt, [16], 5000) end),
    ok = py_test:badarg(fun() -> py:call(default, math, sqrt, [16], #{}, #{kwargs => #{}}) end),
    {error, {'TypeError', _}} = py:call(default, math, sqrt, [16], #{timeout => 5000}).

%% Budget 0 tells the default from it without waiting for half a minute.
uses_the_timeout_of_calls_without_a_context(_Config) ->
    {ok, [_]} = py_context_router:start_pool(io, 1),
    {error, timeout} = py:call(io, math, sqrt, [16], #{}, 0),
    {error, timeout} = py:call(io, math, sqrt, [16], #{}, #{timeout => 0}),
    {error, timeout} = py:call(io, time, sleep, [10], #{}, 50).

%% --- binding --------------------------------------------------------------------------

binds_a_process_to_one_context_of_each_pool(Config) ->
    {ok, [Io1, Io2]} = py_context_router:start_pool(io, 2, mode(Config)),
    {ok, [Cpu1, Cpu2]} = py_context_router:start_pool(cpu, 2, mode(Config)),
    [One, Two] = py_context_router:contexts(),
    py_test:result_of(py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(Two),
        ok = py_context_router:bind_context(io, Io1),
        ok = py_context_router:bind_context(cpu, Cpu2),
        [Two, Io1, Cpu2] = [py_context_router:get_context(P) || P <- [default, io, cpu]],
        ok = py_context_router:bind_context(io, Io2),
        [Two, Io2, Cpu2] = [py_context_router:get_context(P) || P <- [default, io, cpu]],
        ok = py_context_router:bind_context(default, One),
        One = py:context(),
        ok = py_context_router:unbind_context(io),
        true = lists:member(py_context_router:get_context(io), [Io1, Io2]),
        [One, Cpu2] = [py_context_router:get_context(P) || P <- [default, cpu]],
        %% Only a context of the pool will do.
        ok = py_test:badarg(fun() -> py_context_router:bind_context(io, Cpu1) end),
        ok = py_test:badarg(fun() -> py_context_router:bind_context(io, One) end)
    end)).

binds_by_scheduler_in_each_pool(_Config) ->
    {ok, Contexts} = py_context_router:start_pool(io, 2),
    Self = self(),
    [
        begin
            {Pid, Ref} = spawn_opt(
                fun() ->
                    Id = erlang:system_info(scheduler_id),
                    Self ! {self(), Id, py_context_router:get_context(io)}
                end,
                [monitor, {scheduler, S}]
            ),
            receive
                {Pid, Id, Ctx} -> ?assertEqual(lists:nth((Id - 1) rem 2 + 1, Contexts), Ctx)
            end,
            receive
                {'DOWN', Ref, process, Pid, normal} -> ok
            end
        end
     || S <- lists:seq(1, erlang:system_info(schedulers_online))
    ].

binds_to_a_context_without_a_pool(Config) ->
    {ok, Ctx} = py_context:new(#{mode => mode(Config)}),
    Thread = thread(Ctx),
    py_test:result_of(py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(Ctx),
        Ctx = py:context(),
        {ok, Thread} = py:call(threading, get_native_id, []),
        ok = py:exec("x = 1"),
        {ok, 1} = py:eval(Ctx, "x"),
        ok = py_context:stop(Ctx),
        true = lists:member(py:context(), py_context_router:contexts()),
        {error, {'NameError', _}} = py:eval("x")
    end)).

decides_once_and_keeps_the_namespace(_Config) ->
    [One, Two] = py_context_router:contexts(),
    py_test:result_of(py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(One),
        ok = py:exec("x = 1"),
        ok = py_context_router:bind_context(Two),
        ok = py:exec("x = 2"),
        ok = py_context_router:bind_context(One),
        {ok, 1} = py:eval("x"),
        ok = py_context_router:unbind_context(),
        {ok, X} = py:eval("x"),
        true = (X =:= 1) =:= (py:context() =:= One)
    end)).

%% 2.6: whatever the first request is.
makes_the_namespace_at_the_first_request(_Config) ->
    Ctx = py:context(1),
    ok = py_context:exec(Ctx, "seen_by = 'all'"),
    Caller = fun() ->
        {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
        ok = py_context:exec(Ctx, "seen_by = 'later ones'"),
        py:eval(Ctx, "seen_by")
    end,
    ?assertEqual({ok, <<"all">>}, py_test:result_of(py_test:spawn_caller(Caller))),
    Bound = fun() ->
        ok = py_context_router:bind_context(Ctx),
        {ok, 4.0} = py:call(math, sqrt, [16]),
        ok = py_context:exec(Ctx, "seen_by = 'the last'"),
        py:eval("seen_by")
    end,
    ?assertEqual({ok, <<"later ones">>}, py_test:result_of(py_test:spawn_caller(Bound))),
    ok = py_context:exec(Ctx, "del seen_by").

%% --- replacement ----------------------------------------------------------------------

follows_a_replaced_context(Config) ->
    {ok, [One, Two]} = py_context_router:start_pool(io, 2, mode(Config)),
    ok = py_context_router:bind_context(io, Two),
    ok = py:exec(Two, "x = 1"),
    Other = py_context_router:get_context(default),
    ok = kill(Two),
    New = py_context_router:get_context(io),
    true = New =/= Two,
    [One, New] = py_context_router:contexts(io),
    {error, {'NameError', _}} = py:eval(New, "x"),
    ?assertEqual(thread(New), element(2, py:call(io, threading, get_native_id, []))),
    ?assertEqual([], [K || {K = {'$py_env', Ctx}, _} <- get(), Ctx =:= Two]),
    Other = py_context_router:get_context(default),
    ok = py_context_router:unbind_context(io).

replaces_contexts_that_are_killed_at_once(Config) ->
    {ok, Former} = py_context_router:start_pool(io, 4, mode(Config)),
    Refs = [monitor(process, Ctx) || Ctx <- Former],
    [true = exit(Ctx, kill) || Ctx <- Former],
    [
        receive
            {'DOWN', Ref, process, _, killed} -> ok
        end
     || Ref <- Refs
    ],
    New = py_context_router:contexts(io),
    4 = length(lists:usort(New)),
    [] = [Ctx || Ctx <- New, lists:member(Ctx, Former)],
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], ?WAIT_MS) || Ctx <- New].

kill(Ctx) ->
    Ref = monitor(process, Ctx),
    true = exit(Ctx, kill),
    receive
        {'DOWN', Ref, process, Ctx, killed} -> ok
    end.

answers_the_callers_of_a_pool_that_stops(Config) ->
    {ok, [Ctx]} = py_context_router:start_pool(io, 1, mode(Config)),
    Mark = py_test:marker(Config, "stopping"),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, spin_until_interrupted, [Mark]) end),
    ok = py_test:wait_for_file(Mark),
    ok = py_context_router:stop_pool(io),
    {error, {context_died, shutdown}} = py_test:result_of(Caller),
    ok = py_test:badarg(fun() -> py:call(io, math, sqrt, [16]) end).

%% --- registrations --------------------------------------------------------------------

sends_registered_calls_to_their_pool(Config) ->
    {ok, [Io]} = py_context_router:start_pool(io, 1, mode(Config)),
    {ok, [Cpu]} = py_context_router:start_pool(cpu, 1, mode(Config)),
    [IoThread, CpuThread] = [thread(Io), thread(Cpu)],
    {ok, Bound} = py:call(threading, get_native_id, []),
    ok = py:register_pool(io, threading),
    {ok, IoThread} = py:call(threading, get_native_id, []),
    {ok, IoThread} = py:call(threading, get_native_id, [], #{}),
    {ok, IoThread} = py:call(threading, get_native_id, [], #{}, 5000),
    {ok, IoThread} = py:await(py:spawn_call(threading, get_native_id, [])),
    %% The function before the module.
    ok = py:register_pool(cpu, {threading, get_native_id}),
    {ok, CpuThread} = py:call(threading, get_native_id, []),
    [cpu, io, default] = [
        py_context_router:lookup_pool(M, F)
     || {M, F} <- [{threading, get_native_id}, {threading, get_ident}, {math, sqrt}]
    ],
    ?assertEqual(
        [{{threading, '_'}, io}, {{threading, get_native_id}, cpu}],
        lists:sort(py_context_router:list_pool_registrations())
    ),
    %% What the call names comes first; other requests are not concerned.
    {ok, IoThread} = py:call(Io, threading, get_native_id, []),
    {ok, IoThread} = py:call(io, threading, get_native_id, []),
    {ok, Bound} = py:call(default, threading, get_native_id, []),
    {ok, Bound} = py:eval("__import__('threading').get_native_id()"),
    ok = py:register_pool(default, {threading, get_native_id}),
    {ok, Bound} = py:call(threading, get_native_id, []),
    ok = py:unregister_pool({threading, get_native_id}),
    {ok, IoThread} = py:call(threading, get_native_id, []),
    ok = py:unregister_pool(threading),
    ok = py:unregister_pool(threading),
    {ok, Bound} = py:call(threading, get_native_id, []),
    [] = py_context_router:list_pool_registrations().

takes_registrations_in_every_form_of_text(Config) ->
    {ok, [Io]} = py_context_router:start_pool(io, 1, mode(Config)),
    Thread = thread(Io),
    Forms = fun(Text) -> [list_to_atom(Text), list_to_binary(Text), Text, [[Text]]] end,
    [
        begin
            ok = py_context_router:register_pool(io, M, F),
            [
                {io, {ok, Thread}} = {py_context_router:lookup_pool(M2, F2), py:call(M2, F2, [])}
             || M2 <- Forms("threading"), F2 <- Forms("get_native_id")
            ],
            ok = py_context_router:unregister_pool("threading", <<"get_native_id">>),
            ok = py_context_router:register_pool(io, M),
            [io = py_context_router:lookup_pool(M2, f) || M2 <- Forms("threading")],
            ok = py_context_router:unregister_pool(<<"threading">>)
        end
     || M <- Forms("threading"), F <- Forms("get_native_id")
    ],
    %% Longer than any atom.
    Long = binary:copy(<<"m">>, 300),
    ok = py_context_router:register_pool(io, Long),
    io = py_context_router:lookup_pool(Long, f),
    ok = py_context_router:unregister_pool(Long).

keeps_registrations_while_their_pool_is_stopped(Config) ->
    {ok, _} = py_context_router:start_pool(io, 1, mode(Config)),
    ok = py:register_pool(io, math),
    ok = py_context_router:stop_pool(io),
    io = py_context_router:lookup_pool(math, sqrt),
    ok = py_test:badarg(fun() -> py:call(math, sqrt, [16]) end),
    {ok, 3} = py:call(builtins, abs, [-3]),
    {ok, _} = py_context_router:start_pool(io, 1, mode(Config)),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py:unregister_pool(math).

%% --- inside callbacks -----------------------------------------------------------------

%% As it is while a callback runs that a request on Ctx made, in that namespace.
nested(Ctx, Env, Fun) ->
    nested_in({Ctx, py_context_table:lane(Ctx), Env}, Fun).

nested_in(Route, Fun) ->
    Saved = get('$py_bound'),
    _ = put('$py_bound', {nested, Route, Saved}),
    Result = Fun(),
    {nested, _, Now} = get('$py_bound'),
    _ = put('$py_bound', Now),
    Result.

prefers_the_context_of_the_callback(Config) ->
    {ok, [Io1, Io2]} = py_context_router:start_pool(io, 2, mode(Config)),
    {ok, [Cpu]} = py_context_router:start_pool(cpu, 1, mode(Config)),
    {ok, Env} = py_context:create_local_env(Io2),
    py_test:result_of(py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(io, Io1),
        ok = py:exec(Io2, "whose = 'of the process'"),
        ok = py_context:exec(Io2, "whose = 'of the request'\ndef f(): return whose", Env),
        nested(Io2, Env, fun() ->
            Io2 = py:context(),
            Io2 = py_context_router:get_context(io),
            Cpu = py_context_router:get_context(cpu),
            %% Implicit requests use the namespace of the request around them.
            {ok, <<"of the request">>} = py:eval("whose"),
            {ok, <<"of the request">>} = py:call('__main__', f, []),
            {ok, <<"of the request">>} = py:await(py:spawn_call('__main__', f, [])),
            {ok, <<"of the process">>} = py:eval(Io2, "whose"),
            {error, {'AttributeError', _}} = py:call(io, '__main__', f, []),
            %% A registration comes before the context of the callback.
            ok = py:register_pool(cpu, '__main__'),
            {error, {'AttributeError', _}} = py:call('__main__', f, []),
            ok = py:register_pool(io, '__main__'),
            {ok, <<"of the request">>} = py:call('__main__', f, []),
            ok = py:unregister_pool('__main__'),
            %% In a pool that it does not belong to, the binding counts.
            nested(Cpu, undefined, fun() ->
                Cpu = py:context(),
                Io1 = py_context_router:get_context(io)
            end),
            Io2 = py:context()
        end),
        true = lists:member(py:context(), py_context_router:contexts()),
        Io1 = py_context_router:get_context(io),
        %% A callback may outlive its context; there is one to name all the same.
        Route = {Io2, py_context_table:lane(Io2), Env},
        ok = kill(Io2),
        nested_in(Route, fun() ->
            {error, {context_died, _}} = py:eval("1"),
            true = is_process_alive(py:context())
        end)
    end)).

binds_inside_a_callback_for_the_time_after_it(_Config) ->
    [One, Two] = py_context_router:contexts(),
    {ok, [Io]} = py_context_router:start_pool(io, 1),
    py_test:result_of(py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(One),
        nested(Io, undefined, fun() ->
            nested(Io, undefined, fun() ->
                ok = py_context_router:bind_context(Two),
                Io = py:context(),
                Two = py_context_router:get_context(default)
            end),
            Two = py_context_router:get_context(default),
            Io = py:context()
        end),
        Two = py:context(),
        nested(Io, undefined, fun() ->
            ok = py_context_router:unbind_context(),
            Io = py:context()
        end),
        undefined = get('$py_bound')
    end)).

%% --- processes ------------------------------------------------------------------------

%% A worker process without memory does not start. Nobody else is concerned.
answers_when_a_pool_does_not_start(_Config) ->
    case os:find_executable("prlimit") of
        false ->
            {skip, "prlimit is not installed"};
        Prlimit ->
            ok = py_test:start([{num_contexts, 2}]),
            Launcher = py_test:launcher_pid(),
            Limit = fun(Bytes) ->
                [] = os:cmd(io_lib:format("~s --pid ~b --as=~s", [Prlimit, Launcher, Bytes]))
            end,
            Limit("20000000:unlimited"),
            %% No zygote of that kind runs.
            Options = #{env => [{"EP_TEST_A", "1"}]},
            Starters = [
                py_test:spawn_caller(fun() -> py_context_router:start_pool(io, 2, Options) end)
             || _ <- [1, 2, 3]
            ],
            [
                {error, {context_start_failed, io, 1, {worker_unavailable, _}}} =
                    py_test:result_of(Starter)
             || Starter <- Starters
            ],
            {ok, 4.0} = py:call(math, sqrt, [16]),
            false = py_context_router:pool_started(io),
            [] = [Id || {Id = {io, _}, _} <- pool_ids()],
            Limit("unlimited:unlimited"),
            {ok, [_, _]} = py_context_router:start_pool(io, 2, Options),
            {ok, 4.0} = py:call(io, math, sqrt, [16])
    end.

%% Of all contexts of pools that live.
pool_ids() ->
    [
        {Id, Ctx}
     || {_, Ctx, _, _} <- supervisor:which_children(py_context_sup),
        {ok, #{pool := Id}} <- [py_context_table:info(Ctx)]
    ].

keeps_pools_when_the_registry_ends(_Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    {ok, [Io]} = py_context_router:start_pool(io, 1),
    Contexts = [Io | py_context_router:contexts()],
    ok = py:register_pool(io, math),
    Registry = whereis(py_pool_registry),
    true = exit(Registry, kill),
    {ok, 4.0} = py:call(io, math, sqrt, [16]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, [Io]} = py_context_router:start_pool(io, 1),
    Contexts = [Io | py_context_router:contexts()],
    [{{math, '_'}, io}] = py_context_router:list_pool_registrations(),
    ok = py:unregister_pool(math),
    ok = py_context_router:stop_pool(io),
    false = py_context_router:pool_started(io).

forgets_pools_and_registrations_with_the_application(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, _} = py_context_router:start_pool(io, 1),
    ok = py:register_pool(io, math),
    ok = py_test:start([{num_contexts, 1}]),
    false = py_context_router:pool_started(io),
    [] = py_context_router:list_pool_registrations(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py_test:stop(),
    0 = py_context_router:num_contexts(),
    ok = py_test:badarg(fun() -> py:call(math, sqrt, [16]) end),
    ok = py_test:start([{num_contexts, 1}]).
