%% SPDX-License-Identifier: Apache-2.0

%% @doc One's own modules are found: by every interpreter, those that run, those that start and
%% those that start again, also by the ones that were busy or died while a path was added.
-module(py_paths_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(MANY, 4000).
-define(ROUNDS, (py_test:times(8, 30))).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()] ++
        [
            configured_paths_take_every_form,
            a_path_of_a_pool_is_that_pools_only,
            contexts_that_share_an_interpreter_share_their_paths,
            bad_paths_are_refused_with_the_reason,
            a_bad_path_in_the_configuration_keeps_the_application_from_starting
        ].

groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{
        shared => [
            a_path_is_there_for_the_next_request,
            a_path_is_there_although_the_context_was_busy,
            a_path_is_there_for_contexts_that_start_later,
            no_path_is_lost_by_workers_that_die_meanwhile,
            cleared_paths_stay_where_they_are_and_go_with_the_process
        ],
        owngil => cases() -- [a_path_is_there_although_the_gil_was_held_too_long, thousands_of_paths_are_taken]
    }).

cases() ->
    [
        a_path_is_there_for_the_next_request,
        a_path_is_there_after_a_crash,
        a_path_is_there_for_contexts_that_start_later,
        a_path_is_there_although_the_context_was_busy,
        a_path_is_there_although_the_gil_was_held_too_long,
        no_path_is_lost_by_workers_that_die_meanwhile,
        paths_come_before_pythons_own_and_in_their_order,
        a_directory_may_appear_later,
        thousands_of_paths_are_taken,
        a_path_may_have_any_letters,
        cleared_paths_stay_where_they_are_and_go_with_the_process,
        an_import_error_names_the_paths_and_what_is_wrong_with_them,
        an_import_error_names_the_file_that_failed
    ].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    case proplists:is_defined(group, Config) of
        true ->
            ok = py_test:stop(),
            {ok, _} = application:ensure_all_started(erlang_python),
            Config;
        false ->
            Config
    end.

end_per_testcase(_Case, Config) ->
    case proplists:is_defined(group, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

%% --- modules --------------------------------------------------------------------------

%% A directory that is new, with a module whose function f returns its name.
module(Config, Code) ->
    N = integer_to_list(erlang:unique_integer([positive])),
    Name = "ep_own_" ++ N,
    {directory(Config, "dir_" ++ N, Name, Code), list_to_atom(Name)}.

module(Config) ->
    module(Config, "def f(): return __name__\n").

directory(Config, Dir, Name, Code) ->
    Path = unicode:characters_to_binary(filename:join(proplists:get_value(priv_dir, Config), Dir)),
    File = <<Path/binary, "/", (unicode:characters_to_binary(Name))/binary, ".py">>,
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, unicode:characters_to_binary(Code)),
    Path.

finds(Ctx, Module) ->
    Name = atom_to_binary(Module),
    {ok, Name} = py:call(Ctx, Module, f, [], #{}, 30000),
    ok.

%% Its worker process has been killed just now.
eventually_finds(Ctx, Module) ->
    case py:call(Ctx, Module, f, [], #{}, 30000) of
        {error, {Unlucky, _}} when Unlucky =:= worker_died; Unlucky =:= worker_unavailable ->
            eventually_finds(Ctx, Module);
        {ok, Name} ->
            Name = atom_to_binary(Module),
            ok
    end.

contexts() ->
    py_context_router:contexts().

%% --- in every mode --------------------------------------------------------------------

a_path_is_there_for_the_next_request(Config) ->
    {Dir, Module} = module(Config),
    [{error, {'ModuleNotFoundError', _}} = py:call(Ctx, Module, f, []) || Ctx <- contexts()],
    false = py_import:is_path_added(Dir),
    ok = py_import:add_path(Dir),
    [ok = finds(Ctx, Module) || Ctx <- contexts()],
    true = py_import:is_path_added(unicode:characters_to_list(Dir) ++ "/"),
    ok = py_import:add_path(Dir),
    [Dir] = py_import:all_paths().

a_path_is_there_after_a_crash(Config) ->
    {Dir, Module} = module(Config),
    ok = py_import:add_path(Dir),
    [
        begin
            {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [3]),
            ok = finds(Ctx, Module)
        end
     || Ctx <- contexts()
    ],
    [true = exit(Ctx, kill) || Ctx <- contexts()],
    [ok = finds(py:context(N), Module) || N <- [1, 2]].

a_path_is_there_for_contexts_that_start_later(Config) ->
    {Dir, Module} = module(Config),
    {ok, Before} = py_context:new(#{mode => proplists:get_value(mode, Config)}),
    ok = py_import:add_path(Dir),
    {ok, After} = py_context:new(#{mode => proplists:get_value(mode, Config)}),
    {ok, Pool} = py_context_router:start_pool(later, 1, proplists:get_value(mode, Config)),
    [ok = finds(Ctx, Module) || Ctx <- [Before, After | Pool]],
    ok = py_context_router:stop_pool(later),
    [ok = py_context:stop(Ctx) || Ctx <- [Before, After]],
    ok.

a_path_is_there_although_the_context_was_busy(Config) ->
    {Dir, Module} = module(Config),
    Held = [py_fixture:hold(Ctx, Config) || Ctx <- contexts()],
    Waiting = [py_test:spawn_caller(fun() -> finds(Ctx, Module) end) || Ctx <- contexts()],
    ok = py_import:add_path(Dir),
    [ok = py_fixture:let_go(H) || H <- Held],
    [ok = py_test:result_of(W) || W <- Waiting],
    ok.

%% The interpreter hears of the path when the function returns, after the registration gave up
%% on it. The request that waits finds the path all the same.
a_path_is_there_although_the_gil_was_held_too_long(Config) ->
    case proplists:get_value(mode, Config) =:= owngil orelse py_test:is_free_threaded() of
        true -> {skip, "ctypes is not for every sub-interpreter; without a GIL nothing holds it"};
        false -> gil_is_held(Config)
    end.

gil_is_held(Config) ->
    {Dir, Module} = module(Config),
    [Ctx | _] = contexts(),
    Mark = py_test:marker(Config, "gil"),
    Hold = py_test:spawn_caller(fun() ->
        py:exec(Ctx, ["import ctypes\nfrom ep_probe import mark\nmark('", Mark, "')\nctypes.PyDLL(None).sleep(7)\n"])
    end),
    ok = py_test:wait_for_file(Mark),
    Waiting = py_test:spawn_caller(fun() -> finds(Ctx, Module) end),
    ok = py_import:add_path(Dir),
    ok = finds(Ctx, Module),
    ok = py_test:result_of(Waiting),
    ok = py_test:result_of(Hold).

no_path_is_lost_by_workers_that_die_meanwhile(Config) ->
    Killer = py_test:spawn_caller(fun() -> kill_again_and_again() end),
    Modules = [
        begin
            {Dir, Module} = module(Config),
            ok = py_import:add_path(Dir),
            Module
        end
     || _ <- lists:seq(1, ?ROUNDS)
    ],
    {Pid, _} = Killer,
    Pid ! stop,
    ok = py_test:result_of(Killer),
    [ok = eventually_finds(Ctx, Module) || Ctx <- contexts(), Module <- Modules],
    ok.

kill_again_and_again() ->
    _ = [os:cmd("kill -KILL " ++ integer_to_list(Pid)) || Pid <- os_pids()],
    receive
        stop -> ok
    after 0 -> kill_again_and_again()
    end.

%% Of those that serve: a worker that dies young, time after time, is not started again at once.
os_pids() ->
    lists:usort([Pid || Ctx <- contexts(), {ok, Pid} <- [py:call(Ctx, os, getpid, [])]]).

paths_come_before_pythons_own_and_in_their_order(Config) ->
    First = directory(Config, "first", "ep_twice", "def f(): return 1\n"),
    Second = directory(Config, "second", "ep_twice", "def f(): return 2\n"),
    _ = directory(Config, "second", "colorsys", "def f(): return 3\n"),
    ok = py_import:add_paths([First, Second, First]),
    [First, Second] = py_import:all_paths(),
    [
        begin
            {ok, 1} = py:call(Ctx, ep_twice, f, []),
            {ok, 3} = py:call(Ctx, colorsys, f, []),
            {ok, [First, Second]} = py:eval(Ctx, "__import__('sys').path[:2]")
        end
     || Ctx <- contexts()
    ],
    ok.

a_directory_may_appear_later(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "appears"),
    ok = py_import:add_path(Dir),
    Absent = [py:call(Ctx, ep_appears, f, []) || Ctx <- contexts()],
    [{error, {'ModuleNotFoundError', _}} = Result || Result <- Absent],
    _ = directory(Config, "appears", "ep_appears", "def f(): return 'now'\n"),
    ok = py_import:add_path(Dir ++ "/other"),
    [{ok, <<"now">>} = py:call(Ctx, ep_appears, f, []) || Ctx <- contexts()],
    ok = file:del_dir_r(Dir).

thousands_of_paths_are_taken(Config) ->
    {Dir, Module} = module(Config),
    Paths = [<<"/no/such/directory/of/a/longer/name/", (integer_to_binary(N))/binary>> || N <- lists:seq(1, ?MANY)],
    ok = py_import:add_paths(Paths ++ [Dir]),
    [ok = finds(Ctx, Module) || Ctx <- contexts()],
    {error, {'ModuleNotFoundError', Text}} = py:call(hd(contexts()), ep_nowhere, f, []),
    ?assertNotEqual(nomatch, string:find(Text, "3989 more")),
    ok = py_test:kill(py_test:os_pid(hd(contexts()))),
    [ok = eventually_finds(Ctx, Module) || Ctx <- contexts()],
    ?assertEqual(?MANY + 1, length(py_import:all_paths())).

a_path_may_have_any_letters(Config) ->
    Dir = directory(Config, [16#E9, 16#4E16, $\s, $', 16#1F40D], "ep_letters", "def f(): return __file__\n"),
    ok = py_import:add_path(Dir),
    File = <<Dir/binary, "/ep_letters.py">>,
    [{ok, File} = py:call(Ctx, ep_letters, f, []) || Ctx <- contexts()],
    ok.

cleared_paths_stay_where_they_are_and_go_with_the_process(Config) ->
    {Dir, Module} = module(Config),
    ok = py_import:add_path(Dir),
    ok = py_import:clear_paths(),
    [] = py_import:all_paths(),
    [ok = finds(Ctx, Module) || Ctx <- contexts()],
    {error, {worker_died, _}} = py:call(hd(contexts()), os, '_exit', [0]),
    {error, {'ModuleNotFoundError', _}} = py:call(hd(contexts()), Module, f, []),
    ok.

%% --- errors ---------------------------------------------------------------------------

an_import_error_names_the_paths_and_what_is_wrong_with_them(Config) ->
    {Dir, _Module} = module(Config),
    Ctx = hd(contexts()),
    {error, {'ModuleNotFoundError', "No module named 'ep_absent'"}} = py:call(Ctx, ep_absent, f, []),
    {error, {'ModuleNotFoundError', _, Traceback}} =
        py:call(Ctx, ep_absent, f, [], #{traceback => true}),
    ?assertMatch({match, _}, re:run(Traceback, "py_import:add_path/1")),
    ok = py_import:add_paths([Dir, "/no/such/dir"]),
    {error, {'ModuleNotFoundError', Text}} = py:call(Ctx, 'ep_absent.sub', f, []),
    Expected = io_lib:format(
        "No module named 'ep_absent'; searched in ~ts, /no/such/dir (no such directory), then in Python's own paths", [Dir]
    ),
    ?assertEqual(lists:flatten(Expected), Text).

an_import_error_names_the_file_that_failed(Config) ->
    {Dir, Needs} = module(Config, "import os\nimport ep_absent\n"),
    {Dir2, Broken} = module(Config, "def f(:\n    pass\n"),
    {Dir3, Lacks} = module(Config, "import os\n\nfrom os import ep_lacks\n"),
    {Dir4, Outer} = module(Config, ["import ", atom_to_list(Broken), "\n"]),
    ok = py_import:add_paths([Dir, Dir2, Dir3, Dir4]),
    Ctx = hd(contexts()),
    {error, {'ModuleNotFoundError', T1}} = py:call(Ctx, Needs, f, []),
    names(T1, ["No module named 'ep_absent'; imported in ", Dir, "/", atom_to_list(Needs), ".py, line 2"]),
    {error, {'SyntaxError', T2}} = py:call(Ctx, Broken, f, []),
    names(T2, ["invalid syntax in ", Dir2, "/", atom_to_list(Broken), ".py (", atom_to_list(Broken), ".py, line 1)"]),
    {error, {'ImportError', T3}} = py:call(Ctx, Lacks, f, []),
    names(T3, ["imported in ", Dir3, "/", atom_to_list(Lacks), ".py, line 3"]),
    {error, {'SyntaxError', T4}} = py:call(Ctx, Outer, f, []),
    names(T4, ["invalid syntax in ", Dir2, "/", atom_to_list(Broken), ".py"]),
    %% Once it is mended, it works.
    _ = directory(Config, filename:basename(Dir2), atom_to_list(Broken), "def f(): return __name__\n"),
    ok = finds(Ctx, Broken).

names(Text, Expected) ->
    ?assertNotEqual(nomatch, string:find(Text, unicode:characters_to_list(Expected)), Text).

%% --- configuration --------------------------------------------------------------------

configured_paths_take_every_form(Config) ->
    {AsString, M1} = module(Config),
    {AsBinary, M2} = module(Config),
    {AsPriv, App, M3} = application(Config),
    Paths = [unicode:characters_to_list(AsString), AsBinary, {priv, App}, {priv, App, "sub"}, {priv, App, <<"no/such">>}],
    [
        begin
            ok = py_test:start([{paths, Paths} | Env]),
            [ok = finds(Ctx, Module) || Ctx <- contexts(), Module <- [M1, M2, M3]],
            [{ok, <<"sub">>} = py:call(Ctx, ep_in_sub, f, []) || Ctx <- contexts()],
            [AsString, AsBinary, AsPriv, _, _] = py_import:all_paths()
        end
     || {Mode, Env} <- py_test:modes(), Mode =/= owngil orelse subinterpreters()
    ],
    true = code:del_path(App).

%% As it lies in a release: in the code path, not started, not even loaded.
application(Config) ->
    App = list_to_atom("ep_app_" ++ integer_to_list(erlang:unique_integer([positive]))),
    Lib = atom_to_list(App) ++ "-1.0",
    {_, Module} = module(Config),
    Priv = directory(Config, Lib ++ "/priv", atom_to_list(Module), "def f(): return __name__\n"),
    _ = directory(Config, Lib ++ "/priv/sub", "ep_in_sub", "def f(): return 'sub'\n"),
    Ebin = filename:join([proplists:get_value(priv_dir, Config), Lib, "ebin"]),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    true = code:add_pathz(Ebin),
    {Priv, App, Module}.

subinterpreters() ->
    py_nif:subinterp_supported().

a_path_of_a_pool_is_that_pools_only(Config) ->
    {Dir, Module} = module(Config),
    ok = py_test:start([{num_contexts, 1}]),
    {ok, [Ctx | _] = Pool} = py_context_router:start_pool(own, 2, #{paths => [Dir]}),
    [ok = finds(C, Module) || C <- Pool],
    {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [3]),
    [ok = finds(C, Module) || C <- Pool],
    {error, {'ModuleNotFoundError', _}} = py:call(Module, f, []),
    [] = py_import:all_paths(),
    {ok, Single} = py_context:new(#{paths => [Dir]}),
    ok = finds(Single, Module),
    ok = py_context:stop(Single).

contexts_that_share_an_interpreter_share_their_paths(Config) ->
    {Dir, Module} = module(Config),
    ok = py_test:start([{num_contexts, 1}]),
    Shared = #{own_process => false},
    [With1, With2, Without] =
        [element(2, {ok, _} = py_context:new(O)) || O <- [Shared#{paths => [Dir]}, Shared#{paths => [Dir]}, Shared]],
    [ok = finds(C, Module) || C <- [With1, With2]],
    {error, {'ModuleNotFoundError', _}} = py:call(Without, Module, f, []),
    {ok, Pid} = py:call(With1, os, getpid, []),
    {ok, Pid} = py:call(With2, os, getpid, []),
    {ok, Other} = py:call(Without, os, getpid, []),
    ?assertNotEqual(Pid, Other),
    [ok = py_context:stop(C) || C <- [With1, With2, Without]],
    ok.

bad_paths_are_refused_with_the_reason(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    [
        ?assertMatch(#{1 := _}, refusal(fun() -> py_import:add_path(Path) end), Path)
     || Path <- [1, "", <<>>, [a], <<255>>, "a\0b", {priv, ep_no_such_app}, {priv, 1}, #{}]
    ],
    #{1 := NoApp} = refusal(fun() -> py_import:add_path({priv, ep_no_such_app}) end),
    ?assertMatch({match, _}, re:run(NoApp, "no application ep_no_such_app in the code path")),
    [?assertMatch(#{1 := _}, refusal(fun() -> py_import:add_paths(P) end)) || P <- [x, ["/a" | "/b"], ["/a", 1]]],
    [] = py_import:all_paths(),
    ok = py_test:stop(),
    [
        ?assertMatch(#{reason := _}, refusal(F))
     || F <- [
            fun() -> py_import:add_path("/x") end,
            fun() -> py_import:all_paths() end,
            fun() -> py_import:is_path_added("/x") end,
            fun() -> py_import:clear_paths() end
        ]
    ],
    ok.

refusal(Fun) ->
    try Fun() of
        Result -> error({no_badarg, Result})
    catch
        error:badarg:Stack -> py_test:error_texts(badarg, Stack)
    end.

a_bad_path_in_the_configuration_keeps_the_application_from_starting(_Config) ->
    [
        begin
            {error, {erlang_python, {{bad_config, paths, Paths, Why}, _}}} = py_test:restart([{paths, Paths}]),
            ?assertMatch({match, _}, re:run(Why, Expected))
        end
     || {Paths, Expected} <- [
            {"/a/string", "directory must be text"},
            {[{priv, ep_no_such_app}], "no application ep_no_such_app"},
            {[""], "must not be empty"},
            {x, "must be a list of directories"}
        ]
    ],
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, paths, [1], _}} = py_context_router:start_pool(p, 1, #{paths => [1]}),
    {error, {bad_config, paths, [1], _}} = py_context:new(#{paths => [1]}).
