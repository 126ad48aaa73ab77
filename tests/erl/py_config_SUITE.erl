%% SPDX-License-Identifier: Apache-2.0
-module(py_config_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, end_per_testcase/2]).
-export([
    a_bad_value_stops_the_start_with_one_sentence/1,
    a_key_that_this_version_lacks_is_bad_config/1,
    an_event_loop_that_cannot_be_is_bad_config/1,
    a_key_that_nobody_knows_is_one_warning/1,
    a_bad_pool_option_is_an_error_and_an_unknown_one_badarg/1,
    a_bad_context_option_is_an_error_and_an_unknown_one_badarg/1,
    a_python_that_does_not_exist_is_named/1,
    a_python_of_another_version_is_named/1,
    uses_the_configured_virtual_environment/1,
    takes_the_number_of_contexts_and_workers_from_the_configuration/1,
    works_without_spinning/1,
    works_with_either_wait_backend/1,
    refuses_an_unknown_wait_backend/1,
    uses_epoll_where_io_uring_is_blocked/1,
    says_so_when_a_blocked_io_uring_is_demanded/1,
    the_nif_loads_again_after_a_purge_while_calls_run/1,
    a_second_load_of_the_nif_says_what_to_do/1
]).
-export([backend/0, load_failure/0]).

all() ->
    [
        a_bad_value_stops_the_start_with_one_sentence,
        a_key_that_this_version_lacks_is_bad_config,
        an_event_loop_that_cannot_be_is_bad_config,
        a_key_that_nobody_knows_is_one_warning,
        a_bad_pool_option_is_an_error_and_an_unknown_one_badarg,
        a_bad_context_option_is_an_error_and_an_unknown_one_badarg,
        a_python_that_does_not_exist_is_named,
        a_python_of_another_version_is_named,
        uses_the_configured_virtual_environment,
        takes_the_number_of_contexts_and_workers_from_the_configuration,
        works_without_spinning,
        works_with_either_wait_backend,
        refuses_an_unknown_wait_backend,
        uses_epoll_where_io_uring_is_blocked,
        says_so_when_a_blocked_io_uring_is_demanded,
        the_nif_loads_again_after_a_purge_while_calls_run,
        a_second_load_of_the_nif_says_what_to_do
    ].

end_per_testcase(_Case, _Config) ->
    py_test:stop().

a_bad_value_stops_the_start_with_one_sentence(_Config) ->
    [
        begin
            {bad_config, Key, Value, Why} = start_failure([{Key, Value}]),
            ?assert(is_binary(Why)),
            ?assertMatch({0, _}, binary:match(Why, atom_to_binary(Key)))
        end
     || {Key, Values} <- bad_values(), Value <- Values
    ],
    {ok, _} = py_test:restart([]).

bad_values() ->
    [
        {num_contexts, [0, -1, 1.5, many, 100000]},
        {context_mode, [thread, <<"worker">>, 1]},
        {num_workers, [0, -1, all]},
        {kill_after, [-1, 1.5, never, 1 bsl 40]},
        {spin_us, [-1, 1001, 1000000000, 1.5, yes]},
        {max_result_bytes, [0, -1, 1.5, infinity, 1 bsl 64]},
        {max_shared_bytes, [0, -1, 1.5, infinity, 1 bsl 64]},
        {max_atoms, [-1, lots]},
        {sandbox, [restricted, "strict", true]},
        {python, [1, "", {path, "x"}, [[[]]]]}
    ].

%% To ignore them would leave a program without what it relies on.
a_key_that_this_version_lacks_is_bad_config(_Config) ->
    [
        begin
            {bad_config, Key, Value, Why} = start_failure([{Key, Value}]),
            ?assertMatch({match, _}, re:run(Why, ["^", atom_to_list(Key), ": this version .* does not have it"]))
        end
     || {Key, Value} <- [
            {output, log}, {event_loop_pool_size, 2},
            {event_loop_pool_owngil, false}
        ]
    ],
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, output, log, _}} = py_context_router:start_pool(p, 1, #{output => log}),
    {error, {bad_config, output, log, _}} = py_context:start_link(x, worker, #{output => log}),
    {ok, Ctx} = py_context:start_link(x, worker, #{preload => "x = 1"}),
    ok = py_context:stop(Ctx).

an_event_loop_that_cannot_be_is_bad_config(_Config) ->
    {bad_config, event_loop, tornado, <<"event_loop: must be asyncio or uvloop">>} = start_failure([{event_loop, tornado}]),
    {bad_config, event_loop, uvloop, _} = start_failure([{event_loop, uvloop}, {context_mode, owngil}]),
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, event_loop, uvloop, _}} = py_context:start_link(x, owngil, #{event_loop => uvloop}),
    {ok, HasUvloop} = py:eval("__import__('importlib.util').util.find_spec('uvloop') is not None"),
    case HasUvloop andalso not py_test:is_free_threaded() of
        true ->
            {ok, Ctxs} = py_context_router:start_pool(uv, 1, #{event_loop => uvloop}),
            ok = py_context_router:bind_context(hd(Ctxs)),
            {ok, <<"uvloop">>} = py_event_loop:eval("type(__import__('asyncio').get_running_loop()).__module__"),
            ok = py_context_router:unbind_context(),
            ok = py_context_router:stop_pool(uv);
        false ->
            {error, {bad_config, event_loop, uvloop, Why}} = py_context_router:start_pool(uv, 1, #{event_loop => uvloop}),
            {match, _} = re:run(Why, "^event_loop: uvloop (is not installed|does not support)")
    end.

a_key_that_nobody_knows_is_one_warning(_Config) ->
    ok = py_test:start([]),
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => warning}),
    try
        ok = py_test:start([{num_contexts, 1}, {num_context, 3}, {completely_else, 4}]),
        Warnings = lists:sort(warnings()),
        ?assertMatch([_, _], Warnings),
        [Else, Near] = Warnings,
        ?assertMatch({match, _}, re:run(Else, "completely_else in its application environment$")),
        ?assertMatch({match, _}, re:run(Near, "num_context .*\\(is num_contexts meant\\?\\)"))
    after
        ok = logger:remove_handler(?MODULE)
    end.

warnings() ->
    receive
        {logged, Text} -> [Text | warnings()]
    after 0 -> []
    end.

start_failure(Env) ->
    {error, {erlang_python, {{bad_config, _, _, _} = Reason, _}}} = py_test:restart(Env),
    Reason.

a_bad_pool_option_is_an_error_and_an_unknown_one_badarg(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    ok = py_context_router:stop(),
    {error, {bad_config, contexts, 0, _}} = py_context_router:start(#{contexts => 0}),
    {error, {bad_config, mode, x, _}} = py_context_router:start(#{mode => x}),
    ok = py_test:badarg(fun() -> py_context_router:start(#{context => 1}) end),
    ok = py_test:badarg(fun() -> py_context_router:start([]) end),
    false = py_context_router:is_started(),
    {ok, [_, _]} = py_context_router:start(#{contexts => 2}),
    {ok, 4.0} = py:call(math, sqrt, [16]).

a_bad_context_option_is_an_error_and_an_unknown_one_badarg(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, kill_after, soon, _}} =
        py_context:start_link(x, worker, #{kill_after => soon}),
    ok = py_test:badarg(fun() -> py_context:start_link(x, worker, #{contexts => 1}) end),
    ok = py_test:badarg(fun() -> py_context:start_link(x, thread) end).

a_python_that_does_not_exist_is_named(_Config) ->
    {bad_config, python, _, Why} = start_failure([{python, "/nonexistent/python3"}]),
    ?assertNotEqual(nomatch, binary:match(Why, <<"/nonexistent/python3">>)).

a_python_of_another_version_is_named(Config) ->
    %% A program that answers as another Python would.
    Fake = filename:join(proplists:get_value(priv_dir, Config), "python"),
    ok = file:write_file(Fake, "#!/bin/sh\necho 3.2\n"),
    ok = file:change_mode(Fake, 8#755),
    {bad_config, python, _, Why} = start_failure([{python, Fake}]),
    ?assertMatch({match, _}, re:run(Why, "found Python 3\\.2, built for 3\\.[0-9]+")),
    ok = file:write_file(Fake, "#!/bin/sh\nexit 1\n"),
    {bad_config, python, _, Broken} = start_failure([{python, Fake}]),
    ?assertNotEqual(nomatch, binary:match(Broken, <<"is not a Python that runs">>)).

uses_the_configured_virtual_environment(_Config) ->
    case py_test:test_python() of
        none ->
            {skip, "EP_TEST_PYTHON names no Python"};
        Python ->
            ok = py_test:start([{num_contexts, 1}, {python, Python}]),
            Venv = list_to_binary(filename:dirname(filename:dirname(Python))),
            {ok, Venv} = py:eval("__import__('sys').prefix"),
            ok = py_test:start([{num_contexts, 1}, {python, Venv}]),
            {ok, Venv} = py:eval("__import__('sys').prefix")
    end.

takes_the_number_of_contexts_and_workers_from_the_configuration(_Config) ->
    ok = py_test:start([{num_contexts, 5}, {num_workers, 2}]),
    5 = py_context_router:num_contexts(),
    [A, B, A, B, A] = [py_test:os_pid(C) || C <- py_context_router:contexts()],
    ?assertNotEqual(A, B).

works_without_spinning(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {spin_us, 0}]),
    [{ok, N} = py:call(builtins, abs, [-N]) || N <- lists:seq(1, 2000)],
    ?assertEqual(0, maps:get(lost_wake, ep_nif:counters())).

works_with_either_wait_backend(_Config) ->
    [
        begin
            Peer = py_test:start_vm(#{env => [{"EP_WAIT", atom_to_list(Backend)}]}),
            try
                ?assertEqual({Backend, 0}, py_test:in_vm(Peer, ?MODULE, backend, []))
            after
                py_test:stop_vm(Peer)
            end
        end
     || Backend <- backends()
    ].

%% Containers may refuse io_uring; then epoll is all there is.
backends() ->
    case maps:get(wait_backend, ep_nif:counters()) of
        io_uring -> [io_uring, epoll];
        epoll -> [epoll]
    end.

%% Calls that spin and calls that park, and a death.
backend() ->
    _ = application:load(erlang_python),
    ok = application:set_env(erlang_python, num_contexts, 2),
    {ok, _} = application:ensure_all_started(erlang_python),
    [{ok, N} = py:call(builtins, abs, [-N]) || N <- lists:seq(1, 1000)],
    Callers = [
        py_test:spawn_caller(fun() -> [{ok, none} = py:call(time, sleep, [0.0005]) || _ <- lists:seq(1, 50)], ok end)
     || _ <- lists:seq(1, 8)
    ],
    [ok = py_test:result_of(C) || C <- Callers],
    {error, {worker_died, _}} = py:call(os, '_exit', [1]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    #{wait_backend := Backend, lost_wake := LostWake} = ep_nif:counters(),
    {Backend, LostWake}.

refuses_an_unknown_wait_backend(_Config) ->
    Peer = py_test:start_vm(#{env => [{"EP_WAIT", "kqueue"}]}),
    try
        Text = py_test:in_vm(Peer, ?MODULE, load_failure, []),
        ?assertMatch({match, _}, re:run(Text, "EP_WAIT"))
    after
        py_test:stop_vm(Peer)
    end.

uses_epoll_where_io_uring_is_blocked(_Config) ->
    without_io_uring([], fun(Peer) ->
        ?assertEqual({epoll, 0}, py_test:in_vm(Peer, ?MODULE, backend, []))
    end).

says_so_when_a_blocked_io_uring_is_demanded(_Config) ->
    without_io_uring([{"EP_WAIT", "io_uring"}], fun(Peer) ->
        Text = py_test:in_vm(Peer, ?MODULE, load_failure, []),
        ?assertMatch({match, _}, re:run(Text, "io_uring"))
    end).

without_io_uring(Env, Fun) ->
    Script = filename:join(py_test:python_dir(), "without_call.py"),
    Exec = {os:find_executable("python3"), [Script, "io_uring_setup", os:find_executable("erl")]},
    Peer = py_test:start_vm(#{exec => Exec, env => Env}),
    try
        Fun(Peer)
    after
        py_test:stop_vm(Peer)
    end.

%% What the runtime logs when the module cannot be loaded.
load_failure() ->
    ok = logger:add_handler(?MODULE, py_test, #{config => self()}),
    {error, on_load_failure} = code:load_file(ep_nif),
    receive
        {logged, Text} -> Text
    after 5000 -> error(nothing_logged)
    end.

the_nif_loads_again_after_a_purge_while_calls_run(_Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    Stop = atomics:new(1, []),
    Callers = [
        py_test:spawn_caller(fun() -> call_until(Stop, 1) end)
     || _ <- lists:seq(1, 4)
    ],
    [
        begin
            ok = purge(ep_nif),
            {module, ep_nif} = code:load_file(ep_nif),
            {ok, N} = py:call(builtins, abs, [-N])
        end
     || N <- lists:seq(1, 20)
    ],
    ok = atomics:put(Stop, 1, 1),
    [ok = py_test:result_of(C) || C <- Callers],
    {error, {worker_died, _}} = py:call(os, '_exit', [1]),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% As an upgrade does: a hard purge kills a caller that is still in the old code.
purge(Module) ->
    case code:soft_purge(Module) of
        true ->
            ok;
        false ->
            erlang:yield(),
            purge(Module)
    end.

call_until(Stop, N) ->
    case atomics:get(Stop, 1) of
        1 ->
            ok;
        0 ->
            {ok, N} = py:call(builtins, abs, [-N]),
            call_until(Stop, N + 1)
    end.

a_second_load_of_the_nif_says_what_to_do(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {error, {_, Text}} = ep_nif:try_load(),
    ?assertMatch({match, _}, re:run(Text, "purge")),
    {ok, 4.0} = py:call(math, sqrt, [16]).
