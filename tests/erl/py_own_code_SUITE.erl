%% SPDX-License-Identifier: Apache-2.0

%% @doc One's own modules are imported before a call needs them, and reloaded where they run.
-module(py_own_code_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(ROUNDS, (py_test:times(6, 15))).
-define(LONG_MS, 60000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()] ++
        [
            imports_of_the_configuration_are_there_at_the_start,
            an_import_that_hangs_does_not_keep_a_pool_from_starting,
            preloaded_modules_are_there_before_the_first_request,
            a_preload_that_fails_keeps_a_pool_from_starting,
            preload_code_of_all_is_in_the_shared_namespace,
            preload_code_that_fails_keeps_contexts_from_starting,
            bad_values_are_refused_with_the_reason
        ].

%% That a process stands still is found in the same way whatever runs in it, and takes half a minute.
groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{
        owngil => cases() -- [a_reload_that_hangs_costs_the_process_and_no_request],
        shared => [
            an_import_reaches_every_interpreter,
            a_reload_reaches_every_interpreter,
            a_reload_reaches_contexts_that_are_busy,
            a_reload_is_not_lost_by_workers_that_die_meanwhile,
            a_reload_loads_nothing_that_was_not_loaded,
            a_reload_happens_once_in_an_interpreter
        ]
    }).

cases() ->
    [
        an_import_reaches_every_interpreter,
        an_import_that_fails_is_logged_and_reported_where_it_is_called,
        an_import_that_hangs_keeps_nobody_waiting,
        the_registry_of_imports_tells_what_is_in_it,
        a_reload_reaches_every_interpreter,
        a_reload_reaches_contexts_that_are_busy,
        a_reload_is_not_lost_by_workers_that_die_meanwhile,
        a_reload_sees_what_changed_within_the_same_second,
        a_reload_of_what_is_broken_leaves_the_old_code,
        a_reload_that_hangs_costs_the_process_and_no_request,
        a_reload_loads_nothing_that_was_not_loaded,
        a_reload_happens_once_in_an_interpreter
    ].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "own_" ++ integer_to_list(erlang:unique_integer([positive]))),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    case proplists:get_value(group, Config) of
        undefined -> ok;
        %% Cached files as in production.
        Mode -> ok = py_test:start([{paths, [Dir]}, {env, [{"PYTHONDONTWRITEBYTECODE", false}]}, {kill_after, 600} | env(Mode)])
    end,
    [{dir, Dir} | Config].

env(Mode) ->
    proplists:get_value(Mode, py_test:modes()).

end_per_testcase(_Case, Config) ->
    ok = py_preload:clear_code(),
    case proplists:is_defined(group, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

%% --- modules --------------------------------------------------------------------------

new_name() ->
    list_to_atom("ep_mine_" ++ integer_to_list(erlang:unique_integer([positive]))).

write(Config, Module, Code) ->
    File = filename:join(proplists:get_value(dir, Config), atom_to_list(Module) ++ ".py"),
    ok = file:write_file(File, unicode:characters_to_binary(Code)).

version(Config, Module, N) ->
    write(Config, Module, ["def f(): return ", integer_to_list(N), "\n"]).

new_module(Config, Code) ->
    Module = new_name(),
    ok = write(Config, Module, Code),
    Module.

f(Ctx, Module) ->
    py:call(Ctx, Module, f, [], #{}, ?LONG_MS).

%% Its worker process may have been killed just now.
eventually(Ctx, Module) ->
    case f(Ctx, Module) of
        {error, {Unlucky, _}} when Unlucky =:= worker_died; Unlucky =:= worker_unavailable -> eventually(Ctx, Module);
        Result -> Result
    end.

contexts() ->
    py_context_router:contexts().

is_loaded(Ctx, Module) ->
    {ok, IsLoaded} = py:eval(Ctx, "name in __import__('sys').modules", #{name => Module}, ?LONG_MS),
    IsLoaded.

%% Code that waits for a file.
waits(Config) ->
    Mark = py_test:marker(Config, "hangs"),
    Go = <<Mark/binary, ".go">>,
    Code = [
        "import os, time\nfrom ep_probe import mark\n", ["mark('", Mark, "')\n"],
        ["while not os.path.exists('", Go, "'): time.sleep(0.005)\n"], "def f(): return 'whole'\n"
    ],
    {Code, Mark, Go}.

%% --- imports --------------------------------------------------------------------------

an_import_reaches_every_interpreter(Config) ->
    Module = new_module(Config, "def f(): return 1\n"),
    [false = is_loaded(Ctx, Module) || Ctx <- contexts()],
    ok = py_import:ensure_imported(Module),
    [true = is_loaded(Ctx, Module) || Ctx <- contexts()],
    {ok, New} = py_context:new(#{mode => proplists:get_value(mode, Config)}),
    true = is_loaded(New, Module),
    ok = py_context:stop(New),
    {error, {worker_died, _}} = py:call(py:context(1), os, '_exit', [1]),
    %% It serves while it imports.
    [ok = py_test:wait_until(fun() -> is_loaded(Ctx, Module) end) || Ctx <- contexts()],
    ok.

an_import_that_fails_is_logged_and_reported_where_it_is_called(Config) ->
    Broken = new_module(Config, "import ep_not_there\n"),
    Exits = new_module(Config, "raise SystemExit(3)\n"),
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => warning}),
    try
        ok = py_import:ensure_imported(Broken),
        ok = py_import:ensure_imported(Exits),
        ok = py_import:ensure_imported(os, ep_no_function),
        [First, Second, Third] = logged(),
        ?assertMatch({match, _}, re:run(First, "No module named 'ep_not_there'; imported in .*/ep_mine_[0-9]+.py, line 1")),
        ?assertMatch({match, _}, re:run(Second, "SystemExit: 3")),
        ?assertMatch({match, _}, re:run(Third, "module 'os' has no attribute 'ep_no_function'"))
    after
        ok = logger:remove_handler(?MODULE)
    end,
    [{error, {'ModuleNotFoundError', _}} = f(Ctx, Broken) || Ctx <- contexts()],
    [{error, {'SystemExit', "3"}} = f(Ctx, Exits) || Ctx <- contexts()],
    ok.

logged() ->
    receive
        {logged, Text} -> [Text | logged()]
    after 0 -> []
    end.

an_import_that_hangs_keeps_nobody_waiting(Config) ->
    {Code, Mark, Go} = waits(Config),
    Module = new_module(Config, Code),
    Import = py_test:spawn_caller(fun() -> py_import:ensure_imported(Module) end),
    ok = py_test:wait_for_file(Mark),
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], #{}, ?LONG_MS) || Ctx <- contexts()],
    %% It gives up waiting; the import goes on.
    ok = py_test:result_of(Import),
    ok = file:write_file(Go, <<>>),
    [{ok, <<"whole">>} = f(Ctx, Module) || Ctx <- contexts()],
    ok.

the_registry_of_imports_tells_what_is_in_it(_Config) ->
    [] = py_import:all_imports(),
    {error, main_not_cacheable} = py_import:ensure_imported('__main__'),
    {error, main_not_cacheable} = py_import:ensure_imported("__main__", f),
    ok = py_import:ensure_imported("os.path", <<"join">>),
    ok = py_import:ensure_imported('os.path', exists),
    ok = py_import:ensure_imported(json),
    ok = py_import:ensure_imported(<<"json">>),
    [{<<"os.path">>, <<"join">>}, {<<"os.path">>, <<"exists">>}, {<<"json">>, all}] = py_import:all_imports(),
    {ok, #{<<"os.path">> := [<<"join">>, <<"exists">>], <<"json">> := []}} = py_import:import_list(),
    [true, true, false] = [py_import:is_imported(M) || M <- [json, "os.path", os]],
    [true, false, false] = [py_import:is_imported(M, F) || {M, F} <- [{'os.path', join}, {'os.path', f}, {json, dumps}]],
    ok = py_import:clear_imports(),
    [] = py_import:all_imports(),
    false = py_import:is_imported(json).

imports_of_the_configuration_are_there_at_the_start(Config) ->
    [A, B] = [new_module(Config, "def f(): return 1\n") || _ <- [1, 2]],
    [
        begin
            ok = py_test:start([{paths, [proplists:get_value(dir, Config)]}, {imports, [A, {A, f}]} | env(Mode)]),
            [true = is_loaded(Ctx, A) || Ctx <- contexts()],
            [{A1, all}, {A1, <<"f">>}] = py_import:all_imports(),
            {ok, Pool} = py_context_router:start_pool(own, 2, #{imports => [atom_to_list(B)]}),
            [true = is_loaded(Ctx, M) || Ctx <- Pool, M <- [A, B]],
            [false = is_loaded(Ctx, B) || Ctx <- contexts()]
        end
     || {Mode, _} <- py_test:modes(), Mode =/= owngil orelse py_nif:subinterp_supported(), A1 <- [atom_to_binary(A)]
    ],
    ok.

an_import_that_hangs_does_not_keep_a_pool_from_starting(Config) ->
    {Code, Mark, Go} = waits(Config),
    Module = new_module(Config, Code),
    ok = py_test:start([{num_contexts, 1}, {paths, [proplists:get_value(dir, Config)]}, {imports, [Module]}]),
    true = filelib:is_file(Mark),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = file:write_file(Go, <<>>),
    {ok, <<"whole">>} = f(py:context(1), Module).

%% --- reload ---------------------------------------------------------------------------

a_reload_reaches_every_interpreter(Config) ->
    Module = new_name(),
    ok = version(Config, Module, 1),
    {ok, Pool} = py_context_router:start_pool(other, 2, proplists:get_value(mode, Config)),
    {ok, Single} = py_context:new(#{mode => proplists:get_value(mode, Config)}),
    All = [Single | Pool] ++ contexts(),
    [{ok, 1} = f(Ctx, Module) || Ctx <- All],
    ok = version(Config, Module, 20),
    [{ok, 1} = f(Ctx, Module) || Ctx <- All],
    ok = py:reload(Module),
    [{ok, 20} = f(Ctx, Module) || Ctx <- All],
    {error, {worker_died, _}} = py:call(hd(contexts()), os, '_exit', [1]),
    [{ok, 20} = f(Ctx, Module) || Ctx <- All],
    ok = py_context:stop(Single),
    ok = py_context_router:stop_pool(other).

a_reload_reaches_contexts_that_are_busy(Config) ->
    Module = new_name(),
    ok = version(Config, Module, 1),
    [{ok, 1} = f(Ctx, Module) || Ctx <- contexts()],
    Held = [py_fixture:hold(Ctx, Config) || Ctx <- contexts()],
    Waiting = [py_test:spawn_caller(fun() -> f(Ctx, Module) end) || Ctx <- contexts()],
    ok = version(Config, Module, 2),
    ok = py:reload(Module),
    [ok = py_fixture:let_go(H) || H <- Held],
    [{ok, 2} = py_test:result_of(W) || W <- Waiting],
    ok.

a_reload_is_not_lost_by_workers_that_die_meanwhile(Config) ->
    Module = new_name(),
    [
        begin
            ok = version(Config, Module, N),
            OsPids = [Pid || Ctx <- contexts(), {ok, Pid} <- [py:call(Ctx, os, getpid, [])]],
            Killer = py_test:spawn_caller(fun() -> py_test:kill(lists:nth(N rem length(OsPids) + 1, OsPids)) end),
            Reloaded = py:reload(Module),
            During = [eventually(Ctx, Module) || Ctx <- contexts()],
            ok = py_test:result_of(Killer),
            After = [eventually(Ctx, Module) || Ctx <- contexts()],
            Good = [{ok, N} || _ <- contexts()],
            ?assertEqual({N, ok, Good, Good}, {N, Reloaded, During, After})
        end
     || N <- lists:seq(1, ?ROUNDS)
    ],
    ok.

%% As long as before, and as old in seconds: by the cached file they are the same.
a_reload_sees_what_changed_within_the_same_second(Config) ->
    Module = new_name(),
    [
        begin
            ok = version(Config, Module, N),
            ok = py:reload(Module),
            [{ok, N} = f(Ctx, Module) || Ctx <- contexts()]
        end
     || N <- lists:seq(10, 30)
    ],
    {error, {worker_died, _}} = py:call(hd(contexts()), os, '_exit', [1]),
    [{ok, 30} = f(Ctx, Module) || Ctx <- contexts()],
    ok.

a_reload_of_what_is_broken_leaves_the_old_code(Config) ->
    Module = new_name(),
    ok = version(Config, Module, 1),
    [{ok, 1} = f(Ctx, Module) || Ctx <- contexts()],
    ok = write(Config, Module, "def f(:\n"),
    {error, Failures} = py:reload(Module),
    ?assertEqual(lists:sort(contexts()), [Ctx || {Ctx, _} <- Failures]),
    [
        begin
            {'SyntaxError', Text} = Reason,
            ?assertMatch({match, _}, re:run(Text, "in .*/ep_mine_[0-9]+.py"))
        end
     || {_, Reason} <- Failures
    ],
    [{ok, 1} = f(Ctx, Module) || Ctx <- contexts()],
    ok = write(Config, Module, "raise KeyError('x')\n"),
    {error, [{_, {'KeyError', "'x'"}} | _]} = py:reload(Module),
    ok = version(Config, Module, 2),
    ok = py:reload(Module),
    [{ok, 2} = f(Ctx, Module) || Ctx <- contexts()],
    ok = file:delete(filename:join(proplists:get_value(dir, Config), atom_to_list(Module) ++ ".py")),
    {error, [{_, {'ModuleNotFoundError', _}} | _]} = py:reload(Module).

a_reload_that_hangs_costs_the_process_and_no_request(Config) ->
    Module = new_name(),
    ok = version(Config, Module, 1),
    [{ok, 1} = f(Ctx, Module) || Ctx <- contexts()],
    {Code, _Mark, Go} = waits(Config),
    ok = write(Config, Module, Code),
    {error, Failures} = py:reload(Module),
    [timeout = Reason || {_, Reason} <- Failures],
    ?assertEqual(lists:sort(contexts()), [Ctx || {Ctx, _} <- Failures]),
    %% They wait for it, until the process is found to stand still.
    Waiting = [py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end) || Ctx <- contexts()],
    [{ok, 4.0} = py_test:result_of(W) || W <- Waiting],
    ok = file:write_file(Go, <<>>),
    [{ok, <<"whole">>} = f(Ctx, Module) || Ctx <- contexts()],
    ok.

a_reload_loads_nothing_that_was_not_loaded(Config) ->
    Module = new_module(Config, "raise ValueError('it was loaded')\n"),
    ok = py:reload(Module),
    ok = py:reload(ep_no_such_module),
    [false = is_loaded(Ctx, Module) || Ctx <- contexts()],
    ok.

a_reload_happens_once_in_an_interpreter(Config) ->
    Mark = py_test:marker(Config, "loaded"),
    Module = new_module(Config, ["from ep_probe import mark\nmark('", Mark, "')\ndef f(): return 1\n"]),
    [{ok, 1} = f(Ctx, Module) || Ctx <- contexts()],
    Interpreters = marks(Mark),
    ok = py:reload(Module),
    ?assertEqual(2 * Interpreters, marks(Mark)).

marks(Mark) ->
    {ok, Text} = file:read_file(Mark),
    length(binary:split(Text, <<"\n">>, [global, trim])).

%% --- preload --------------------------------------------------------------------------

preloaded_modules_are_there_before_the_first_request(Config) ->
    [A, B] = [new_module(Config, "def f(): return 1\n") || _ <- [1, 2]],
    [
        begin
            ok = py_test:start([{paths, [proplists:get_value(dir, Config)]}, {preload, [A]} | env(Mode)]),
            [true = is_loaded(Ctx, A) || Ctx <- contexts()],
            {ok, [Ctx1, _]} = py_context_router:start_pool(own, 2, #{preload => [B]}),
            [false, true] = [is_loaded(Ctx1, M) || M <- [A, B]],
            {ok, Single} = py_context:new(#{preload => [B]}),
            [false, true] = [is_loaded(Single, M) || M <- [A, B]],
            {ok, With} = py_context:new(#{preload => "x = 5"}),
            {ok, 5} = py_context:eval(With, "x"),
            [ok = py_context:stop(C) || C <- [Single, With]],
            {error, {worker_died, _}} = py:call(hd(contexts()), os, '_exit', [1]),
            ok = py_test:wait_until(fun() -> is_loaded(hd(contexts()), A) end)
        end
     || {Mode, _} <- py_test:modes(), Mode =/= owngil orelse py_nif:subinterp_supported()
    ],
    ok.

a_preload_that_fails_keeps_a_pool_from_starting(Config) ->
    Broken = new_module(Config, "import ep_not_there\n"),
    Paths = {paths, [proplists:get_value(dir, Config)]},
    ok = py_test:start([{num_contexts, 1}, Paths]),
    {error, {context_start_failed, own, 1, {preload_failed, {'ModuleNotFoundError', Text}}}} =
        py_context_router:start_pool(own, 1, #{preload => [Broken]}),
    ?assertMatch({match, _}, re:run(Text, "No module named 'ep_not_there'; imported in .*/ep_mine_[0-9]+.py, line 1")),
    {error, {preload_failed, {'ModuleNotFoundError', _}}} = py_context:new(#{preload => [ep_not_there]}),
    {error, {erlang_python, {{context_start_failed, default, 1, {preload_failed, _}}, _}}} =
        py_test:restart([{num_contexts, 1}, Paths, {preload, [Broken]}]).

preload_code_of_all_is_in_the_shared_namespace(_Config) ->
    false = py_preload:has_preload(),
    undefined = py_preload:get_code(),
    ok = py_preload:set_code(["import math\n", <<"base = 40\n">>, "def area(r): return math.floor(r * r * 3)\n"]),
    true = py_preload:has_preload(),
    [
        begin
            ok = py_test:start(env(Mode)),
            [{ok, 42} = py:eval(Ctx, "base + 2") || Ctx <- contexts()],
            [{ok, 12} = py:call(Ctx, '__main__', area, [2]) || Ctx <- contexts()],
            {ok, 40} = py_context:eval(hd(contexts()), "base"),
            %% The code of a context comes after it.
            {ok, Single} = py_context:new(#{preload => "base += 1"}),
            {ok, 41} = py_context:eval(Single, "base"),
            ok = py_context:stop(Single)
        end
     || {Mode, _} <- py_test:modes(), Mode =/= owngil orelse py_nif:subinterp_supported()
    ],
    <<"import math", _/binary>> = py_preload:get_code(),
    ok = py_preload:clear_code(),
    {ok, 40} = py_context:eval(hd(contexts()), "base"),
    {ok, Later} = py_context:new(#{}),
    {error, {'NameError', _}} = py_context:eval(Later, "base"),
    ok = py_context:stop(Later).

preload_code_that_fails_keeps_contexts_from_starting(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    ok = py_preload:set_code("x = = 1"),
    {error, {preload_failed, {'SyntaxError', _}}} = py_context:new(#{}),
    {error, {context_start_failed, own, 1, {preload_failed, {'SyntaxError', _}}}} = py_context_router:start_pool(own, 1),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py_test:badarg(fun() -> py_preload:set_code(x) end),
    ok = py_test:badarg(fun() -> py_preload:set_code([1000]) end).

bad_values_are_refused_with_the_reason(_Config) ->
    [
        begin
            {error, {erlang_python, {{bad_config, Key, Value, Why}, _}}} = py_test:restart([{Key, Value}]),
            ?assertMatch({match, _}, re:run(Why, ["^", atom_to_list(Key), ": .*", Expected]))
        end
     || {Key, Value, Expected} <- [
            {imports, x, "must be a list of modules"},
            {imports, [1], "as text"},
            {imports, [{a, 1}], "as text"},
            {imports, ['__main__'], "cannot be imported"},
            {preload, "x = 1", "must be a list of modules, atoms"},
            {preload, x, "must be a list of modules, atoms"}
        ]
    ],
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, preload, "x = 1", _}} = py_context_router:start_pool(own, 1, #{preload => "x = 1"}),
    {error, {bad_config, preload, {x}, _}} = py_context:new(#{preload => {x}}),
    {error, {bad_config, imports, [1], _}} = py_context:new(#{imports => [1]}),
    [ok = py_test:badarg(F) || F <- [
        fun() -> py:reload(1) end,
        fun() -> py_import:ensure_imported({a}) end,
        fun() -> py_import:ensure_imported(a, 1) end,
        fun() -> py_import:is_imported(1) end
    ]],
    ok = py_test:stop(),
    [ok = py_test:badarg(F) || F <- [fun() -> py:reload(a) end, fun() -> py_import:ensure_imported(a) end, fun py_import:all_imports/0]],
    ok.
