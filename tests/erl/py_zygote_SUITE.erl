%% SPDX-License-Identifier: Apache-2.0

%% @doc Worker processes that a zygote forks: modules of `preload' are imported once for all of them.
-module(py_zygote_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++
        [
            what_is_registered_retires_it,
            a_reload_retires_it,
            one_for_each_kind_of_process,
            the_environment_is_that_of_the_pool,
            a_module_with_a_thread_is_reported_and_imported_by_each,
            a_module_that_does_not_survive_a_fork_is_reported,
            a_module_that_fails_fails_the_start,
            a_zygote_that_is_stopped_holds_nobody,
            a_memory_limit_holds,
            processes_are_replaced_by_it,
            pools_without_modules_share_one,
            the_first_context_alone_starts_by_itself,
            so_many_and_no_more_without_modules,
            one_that_is_stopped_is_replaced,
            the_first_that_dies_young_is_waited_for,
            a_site_module_with_a_thread_is_reported,
            a_site_module_that_does_not_survive_a_fork_is_reported,
            one_that_does_not_come_up_holds_nobody_for_long,
            the_last_pool_takes_it_away
        ].

groups() ->
    [
        {Mode, [
            modules_are_imported_once,
            workers_are_children_of_the_launcher,
            no_descriptor_stays_in_the_zygote,
            generators_of_random_numbers_differ,
            a_worker_that_dies_comes_back_with_the_modules,
            what_a_worker_has_started_ends_with_it,
            starts_go_on_while_zygotes_are_killed,
            the_fork_is_python_s
        ]}
     || {Mode, _} <- py_test:modes()
    ].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Case),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Imported = filename:join(Dir, "imported"),
    _ = file:delete(Imported),
    ok = write(Dir, "ep_forked", [
        "import os, random\nwith open('", Imported, "', 'a') as f: f.write('x')\nPID = os.getpid()\n",
        "forks = []\nos.register_at_fork(before=lambda: forks.append('before'), after_in_child=lambda: forks.append('child'))\n"
    ]),
    Own = [{dir, Dir}, {imported, Imported} | Config],
    case proplists:get_value(group, Config) of
        undefined ->
            ok = py_test:start([{num_contexts, 1}]);
        Group ->
            Env = [{preload, [ep_forked]}, {paths, [Dir]}],
            ok = py_test:start(Env ++ proplists:get_value(Group, py_test:modes()))
    end,
    Own.

end_per_testcase(_Case, Config) ->
    case proplists:is_defined(group, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

write(Dir, Module, Text) ->
    file:write_file(filename:join(Dir, Module ++ ".py"), Text).

pool(Name, Config, Options) ->
    {ok, Contexts} = py_context_router:start_pool(
        Name, 2, maps:merge(#{paths => [proplists:get_value(dir, Config)], preload => [ep_forked]}, Options)
    ),
    Contexts.

%% The process in which the module was imported.
importer(Ctx) ->
    {ok, Pid} = py:eval(Ctx, "__import__('ep_forked').PID", #{}, 30000),
    Pid.

%% Those with a module.
zygotes() ->
    [Zygote || {#{modules := [_ | _]}, Zygote} <- all_zygotes()].

all_zygotes() ->
    {state, Zygotes} = sys:get_state(py_zygote),
    maps:to_list(Zygotes).

os_zygotes() ->
    py_test:zygotes(py_test:launcher_pid()).

%% The seed of Python's hashes: those that one zygote has forked have the same.
seed(Ctx) ->
    {ok, Hash} = py:eval(Ctx, "hash('seed')", #{}, 30000),
    Hash.

die(Ctx) ->
    {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
    ok.

%% Sub-interpreters import once more each, in their worker process.
is_owngil(Config) ->
    proplists:get_value(mode, Config) =:= owngil.

modules_are_imported_once(Config) ->
    Contexts = py_context_router:contexts(),
    OsPids = lists:usort([py_test:os_pid(Ctx) || Ctx <- Contexts]),
    {ok, Marks} = file:read_file(proplists:get_value(imported, Config)),
    case is_owngil(Config) of
        true ->
            ?assertEqual(1 + length(Contexts), byte_size(Marks));
        false ->
            [Importer] = lists:usort([importer(Ctx) || Ctx <- Contexts]),
            ?assertNot(lists:member(Importer, OsPids)),
            ?assert(py_test:is_running(Importer)),
            ?assertEqual(1, byte_size(Marks))
    end.

workers_are_children_of_the_launcher(_Config) ->
    [OsPid | _] = OsPids = [py_test:os_pid(Ctx) || Ctx <- py_context_router:contexts()],
    Launcher = py_test:launcher_pid(),
    ?assert(lists:member(OsPid, py_test:children(Launcher))),
    %% What the system shows of the environment names the worker itself.
    [
        begin
            {ok, Environ} = file:read_file(["/proc/", integer_to_list(P), "/environ"]),
            ?assertMatch({match, _}, re:run(Environ, io_lib:format("EP_LAUNCHER_MARK=0*~b\\0", [P])))
        end
     || P <- lists:usort(OsPids)
    ],
    %% Neither does a process in between stay.
    ok = py_test:wait_until(fun() -> py_test:children(zygote_pid()) =:= [] end).

zygote_pid() ->
    Workers = lists:usort([py_test:os_pid(Ctx) || Ctx <- py_context_router:contexts()]),
    [Zygote] = py_test:children(py_test:launcher_pid()) -- Workers,
    Zygote.

%% Standard streams, the socket, the control pipe and the doorbell of its own.
no_descriptor_stays_in_the_zygote(_Config) ->
    Before = py_test:fd_count(zygote_pid()),
    ?assert(Before =< 8),
    [
        begin
            {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
            _ = py_test:os_pid(Ctx)
        end
     || _ <- lists:seq(1, 5), Ctx <- [py:context(1)]
    ],
    ok = py_test:wait_until(fun() -> py_test:fd_count(zygote_pid()) =:= Before end).

generators_of_random_numbers_differ(_Config) ->
    Contexts = py_context_router:contexts(),
    Numbers = [element(2, {ok, _} = py:eval(Ctx, "__import__('random').getrandbits(64)")) || Ctx <- Contexts],
    ?assertEqual(length(Contexts), length(lists:usort(Numbers))),
    {ok, Again} = begin
        {error, {worker_died, _}} = py:call(hd(Contexts), os, '_exit', [1]),
        py:eval(hd(Contexts), "__import__('random').getrandbits(64)")
    end,
    ?assertNot(lists:member(Again, Numbers)).

a_worker_that_dies_comes_back_with_the_modules(Config) ->
    Ctx = py:context(1),
    Importer = importer(Ctx),
    [
        begin
            Former = py_test:os_pid(Ctx),
            {error, {worker_died, #{reason := 'SIGSEGV'}}} = py:call(Ctx, ctypes, string_at, [0]),
            ?assertNotEqual(Former, py_test:os_pid(Ctx)),
            is_owngil(Config) orelse ?assertEqual(Importer, importer(Ctx))
        end
     || _ <- lists:seq(1, 5)
    ],
    ok.

%% Also a child that has left the process group, and executed nothing.
what_a_worker_has_started_ends_with_it(Config) ->
    Ctx = py:context(1),
    Fork =
        case is_owngil(Config) of
            true -> "__import__('subprocess').Popen(['sleep', '1000'], start_new_session=True).pid";
            false -> "(lambda os, p: p if p else (os.setsid(), __import__('time').sleep(1000)))(__import__('os'), __import__('os').fork())"
        end,
    {ok, Child} = py:eval(Ctx, Fork, #{}, 30000),
    {ok, Other} = py:eval(Ctx, "__import__('subprocess').Popen(['sleep', '1000'], start_new_session=True).pid"),
    ?assert(py_test:is_running(Child)),
    {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
    ok = py_test:wait_for_exit([Child, Other], 20000),
    _ = py_test:os_pid(Ctx).

starts_go_on_while_zygotes_are_killed(_Config) ->
    Ctx = py:context(1),
    Launcher = py_test:launcher_pid(),
    [
        begin
            %% Whatever it does at the moment.
            _ = [os:cmd("kill -9 " ++ integer_to_list(P)) || P <- py_test:zygotes(Launcher)],
            _ = py:call(Ctx, os, '_exit', [1]),
            ok = py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end, 30000)
        end
     || _ <- lists:seq(1, 6)
    ],
    %% One comes back.
    ok = py_test:wait_until(fun() -> [Z || Z <- zygotes(), element(2, Z) =:= up] =/= [] end, 60000).

%% Functions of register_at_fork run once in each worker, and Python takes its thread for the main one.
the_fork_is_python_s(Config) ->
    [
        begin
            {ok, [<<"before">>, <<"before">>, <<"child">>]} = sorted(py:eval(Ctx, "__import__('ep_forked').forks[:1] + __import__('ep_forked').forks[-2:]")),
            {ok, true} = py:eval(Ctx, "__import__('threading').main_thread() is not None"),
            {ok, 1} = py:eval(Ctx, "sum(1 for f in __import__('ep_forked').forks if f == 'child')")
        end
     || not is_owngil(Config), Ctx <- py_context_router:contexts()
    ],
    {ok, true} = py:eval(py:context(1), "__import__('threading').current_thread() is __import__('threading').main_thread()"),
    ok.

sorted({ok, List}) -> {ok, lists:sort(List)}.

what_is_registered_retires_it(Config) ->
    [Ctx, _] = pool(p, Config, #{}),
    First = importer(Ctx),
    ok = py_import:add_path("/tmp"),
    {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
    Second = importer(Ctx),
    ?assertNotEqual(First, Second),
    ok = py_test:wait_until(fun() -> not py_test:is_running(First) end),
    {ok, true} = py:eval(Ctx, "'/tmp' in __import__('sys').path"),
    ok = py_import:clear_paths().

a_reload_retires_it(Config) ->
    [Ctx, Other] = pool(p, Config, #{}),
    First = importer(Ctx),
    ok = write(proplists:get_value(dir, Config), "ep_forked", "import os\nPID = os.getpid()\nNEW = True\n"),
    ok = py:reload(ep_forked),
    {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
    {ok, true} = py:eval(Ctx, "__import__('ep_forked').NEW"),
    {ok, true} = py:eval(Other, "__import__('ep_forked').NEW"),
    ?assertNotEqual(First, importer(Ctx)),
    ok = py_test:wait_until(fun() -> not py_test:is_running(First) end).

one_for_each_kind_of_process(Config) ->
    [A, B] = pool(a, Config, #{}),
    [C, D] = pool(b, Config, #{}),
    [E, F] = pool(c, Config, #{env => [{"EP_TEST_A", "1"}]}),
    [One] = lists:usort([importer(Ctx) || Ctx <- [A, B, C, D]]),
    [Two] = lists:usort([importer(Ctx) || Ctx <- [E, F]]),
    ?assertNotEqual(One, Two).

the_environment_is_that_of_the_pool(Config) ->
    [Ctx, _] = pool(a, Config, #{env => [{"EP_TEST_A", "1"}], cwd => "/", threads => 3}),
    {ok, <<"1">>} = py:call(Ctx, os, getenv, [<<"EP_TEST_A">>]),
    {ok, <<"3">>} = py:call(Ctx, os, getenv, [<<"OMP_NUM_THREADS">>]),
    {ok, <<"/">>} = py:call(Ctx, os, getcwd, []).

reported(Fun) ->
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => warning}),
    try
        ok = Fun(),
        receive_warning()
    after
        ok = logger:remove_handler(?MODULE)
    end.

receive_warning() ->
    receive
        {logged, Text} ->
            case re:run(Text, "each Python worker process") of
                {match, _} -> Text;
                nomatch -> receive_warning()
            end
    after 30000 -> ct:fail(nothing_logged)
    end.

a_module_with_a_thread_is_reported_and_imported_by_each(Config) ->
    ok = write(proplists:get_value(dir, Config), "ep_thread", [
        "import os, threading, time\nPID = os.getpid()\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    ]),
    Text = reported(fun() ->
        Contexts = pool(p, Config, #{preload => [ep_thread]}),
        [begin {ok, P} = py:eval(Ctx, "__import__('ep_thread').PID"), P = py_test:os_pid(Ctx) end || Ctx <- Contexts],
        ok
    end),
    ?assertMatch({match, _}, re:run(Text, "imports ep_thread by itself.*the import of ep_thread starts a Python thread")).

a_module_that_does_not_survive_a_fork_is_reported(Config) ->
    ok = write(proplists:get_value(dir, Config), "ep_dies", [
        "import os\nPID = os.getpid()\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n"
    ]),
    Text = reported(fun() ->
        Contexts = pool(p, Config, #{preload => [ep_dies]}),
        [begin {ok, P} = py:eval(Ctx, "__import__('ep_dies').PID"), P = py_test:os_pid(Ctx) end || Ctx <- Contexts],
        ok
    end),
    ?assertMatch({match, _}, re:run(Text, "imports ep_dies by itself.*a child that was forked for a trial fails")).

a_module_that_fails_fails_the_start(Config) ->
    ok = write(proplists:get_value(dir, Config), "ep_fails", "raise ValueError('no')\n"),
    {error, {context_start_failed, p, 1, {preload_failed, {'ValueError', "no"}}}} =
        py_context_router:start_pool(p, 2, #{paths => [proplists:get_value(dir, Config)], preload => [ep_fails]}).

%% It is found out, and the start goes on without it.
a_zygote_that_is_stopped_holds_nobody(Config) ->
    [Ctx, _] = pool(p, Config, #{}),
    Zygote = importer(Ctx),
    [] = os:cmd("kill -STOP " ++ integer_to_list(Zygote)),
    {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16], #{}, 60000),
    ok = py_test:wait_until(fun() -> not py_test:is_running(Zygote) end).

a_memory_limit_holds(Config) ->
    [Ctx, _] = pool(p, Config, #{memory_limit => 400000000}),
    ?assertNotEqual(py_test:os_pid(Ctx), importer(Ctx)),
    {error, {'MemoryError', _}} = py:call(Ctx, builtins, bytearray, [800000000]).

processes_are_replaced_by_it(Config) ->
    [Ctx, _] = pool(p, Config, #{max_requests => 20}),
    Importer = importer(Ctx),
    Seen = (fun Until(Pids) when length(Pids) > 4 -> Pids; Until(Pids) -> Until(lists:usort([py_test:os_pid(Ctx) | Pids])) end)([]),
    ?assertNot(lists:member(Importer, Seen)),
    ?assertEqual(Importer, importer(Ctx)).

%% Other paths do not matter; another environment does.
pools_without_modules_share_one(Config) ->
    {ok, A} = py_context_router:start_pool(a, 2, #{}),
    {ok, B} = py_context_router:start_pool(b, 2, #{mode => mode(), paths => [proplists:get_value(dir, Config)]}),
    {ok, C} = py_context_router:start_pool(c, 2, #{env => [{"EP_TEST_A", "1"}]}),
    [Seed] = lists:usort([seed(Ctx) || Ctx <- [py:context(1) | A ++ B]]),
    [Other] = lists:usort([seed(Ctx) || Ctx <- C]),
    ?assertNotEqual(Seed, Other),
    ok = die(hd(A)),
    ?assertEqual(Seed, seed(hd(A))),
    %% What is registered does not retire it.
    ok = py_import:add_path("/tmp"),
    ok = die(hd(A)),
    {ok, true} = py:eval(hd(A), "'/tmp' in __import__('sys').path"),
    ?assertEqual(Seed, seed(hd(A))),
    ok = py_import:clear_paths(),
    ?assertEqual(2, length(os_zygotes())).

mode() ->
    case py:subinterp_supported() of
        true -> owngil;
        false -> worker
    end.

the_first_context_alone_starts_by_itself(_Config) ->
    Options = #{env => [{"EP_TEST_A", "1"}]},
    [First, Second, Third] = [element(2, {ok, _} = py_context:start_link(I, worker, Options)) || I <- [1, 2, 3]],
    ?assertNotEqual(seed(First), seed(Second)),
    ?assertEqual(seed(Second), seed(Third)),
    ok = die(First),
    ?assertEqual(seed(Second), seed(First)),
    [Zygote] = os_zygotes() -- bare_zygote(),
    [ok = py_context:stop(Ctx) || Ctx <- [First, Second, Third]],
    ok = py_test:wait_until(fun() -> not py_test:is_running(Zygote) end).

%% That of the default pool.
bare_zygote() ->
    [P || P <- os_zygotes(), {ok, Environ} <- [file:read_file(["/proc/", integer_to_list(P), "/environ"])],
          binary:match(Environ, <<"EP_TEST_A">>) =:= nomatch].

so_many_and_no_more_without_modules(_Config) ->
    Pools = [list_to_atom("p" ++ integer_to_list(I)) || I <- lists:seq(1, 9)],
    [{ok, [_]} = py_context_router:start_pool(P, 1, #{env => [{"EP_TEST_A", atom_to_list(P)}]}) || P <- Pools],
    ?assertEqual(8, length(os_zygotes())),
    [{ok, 4.0} = py:call(P, math, sqrt, [16]) || P <- Pools].

%% Before anybody asks it to fork.
one_that_is_stopped_is_replaced(_Config) ->
    [Zygote] = os_zygotes(),
    Seed = seed(py:context(1)),
    [] = os:cmd("kill -STOP " ++ integer_to_list(Zygote)),
    ok = py_test:wait_until(fun() -> not py_test:is_running(Zygote) end),
    ok = py_test:wait_until(fun() -> case os_zygotes() of [P] -> P =/= Zygote; _ -> false end end),
    ok = die(py:context(1)),
    ?assertNotEqual(Seed, seed(py:context(1))).

%% It has just come up; whoever starts meanwhile is forked from the next one.
the_first_that_dies_young_is_waited_for(_Config) ->
    {ok, Contexts = [First, Second]} = py_context_router:start_pool(bare, 2, #{}),
    [Former] = lists:usort([seed(Ctx) || Ctx <- Contexts]),
    [Zygote] = os_zygotes(),
    [{_, Before}] = all_zygotes(),
    [] = os:cmd("kill -9 " ++ integer_to_list(Zygote)),
    %% Its number goes with it.
    ok = py_test:wait_until(fun() -> [{_, Now}] = all_zygotes(), element(8, Now) =/= element(8, Before) end),
    ok = die(First),
    ok = die(Second),
    Seed = seed(First),
    ?assertEqual(Seed, seed(Second)),
    ?assertNotEqual(Former, Seed).

site_module(Config, Text) ->
    ok = write(proplists:get_value(dir, Config), "sitecustomize", Text),
    #{env => [{"PYTHONPATH", proplists:get_value(dir, Config)}]}.

a_site_module_with_a_thread_is_reported(Config) ->
    Options = site_module(Config, "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"),
    Text = reported(fun() ->
        {ok, Contexts} = py_context_router:start_pool(p, 2, Options),
        [{ok, true} = py:eval(Ctx, "__import__('threading').active_count() > 1") || Ctx <- Contexts],
        ok
    end),
    ?assertMatch({match, _}, re:run(Text, "process starts Python by itself.*runs 1 threads")).

a_site_module_that_does_not_survive_a_fork_is_reported(Config) ->
    Options = site_module(Config, "import os\nos.register_at_fork(after_in_child=lambda: os._exit(3))\n"),
    Text = reported(fun() ->
        {ok, [Ctx]} = py_context_router:start_pool(p, 1, Options),
        [begin ok = die(Ctx), _ = py_test:os_pid(Ctx) end || _ <- lists:seq(1, 3)],
        ok
    end),
    ?assertMatch({match, _}, re:run(Text, "process starts Python by itself.*forked from it do not come up")).

one_that_does_not_come_up_holds_nobody_for_long(Config) ->
    Options = site_module(Config, "import time\nif '\\0zygote\\0' in open('/proc/self/cmdline').read(): time.sleep(1000)\n"),
    {ok, [Ctx, _]} = py_context_router:start_pool(p, 2, Options),
    ok = die(Ctx),
    _ = seed(Ctx).

the_last_pool_takes_it_away(Config) ->
    [Ctx, _] = pool(a, Config, #{}),
    _ = pool(b, Config, #{}),
    Zygote = importer(Ctx),
    ok = py_context_router:stop_pool(a),
    ?assert(py_test:is_running(Zygote)),
    ok = py_context_router:stop_pool(b),
    ok = py_test:wait_until(fun() -> not py_test:is_running(Zygote) end),
    ok = py_test:wait_until(fun() -> zygotes() =:= [] end).
