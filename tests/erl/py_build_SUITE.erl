%% SPDX-License-Identifier: Apache-2.0

%% @doc The build, as a user's project meets it: a Python that is named later, a directory
%% that was moved, a Python that only root can run, and nothing built that users do not run.
%% The scripts are copied and run with programs in front that stand for the slow ones.
-module(py_build_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [
        a_dependency_is_built_again_for_another_python,
        a_dependency_is_built_by_mix,
        a_directory_that_was_moved_is_configured_anew,
        a_configuration_that_failed_is_tried_again,
        a_python_that_only_root_can_run_is_told,
        a_build_has_nothing_of_tests_and_measurements,
        each_module_has_documentation_that_edoc_reads
    ].

init_per_testcase(Case, Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), Case),
    Bin = filename:join(Dir, "bin"),
    ok = filelib:ensure_dir(filename:join(Bin, "x")),
    [{dir, Dir}, {bin, Bin} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

%% --- cases ----------------------------------------------------------------------------

a_dependency_is_built_again_for_another_python(Config) ->
    case os:find_executable("git") of
        false -> {skip, "git is not installed"};
        _ -> builds_again(Config, proplists:get_value(dir, Config))
    end.

builds_again(Config, Dir) ->
    {Built, [One, Two]} = fakes(Config),
    Dep = dependency(Dir),
    App = filename:join(Dir, "app"),
    {0, _} = sh(Config, [], [
        "cd ", Dep, " && git init -q && git add -A && "
        "git -c user.name=t -c user.email=t@localhost commit -q -m t && git branch -f dep"
    ]),
    ok = filelib:ensure_dir(filename:join(App, "src/x")),
    ok = file:write_file(filename:join(App, "src/app.app.src"),
        "{application, app, [{vsn, \"1\"}, {description, \"\"}, {applications, [kernel, stdlib, erlang_python]}]}.\n"),
    ok = file:write_file(filename:join(App, "rebar.config"), [
        "{deps, [{erlang_python, {git, \"file://", Dep, "\", {branch, \"dep\"}}}]}.\n"
    ]),
    Compile = fun(Env) ->
        {Status, Output} = sh(Config, Env, ["cd ", App, " && rebar3 compile"]),
        ?assertEqual({0, Output}, {Status, Output})
    end,
    %% In turns: only what names another one builds. A variable that is gone changes nothing.
    [
        begin
            Compile(Env),
            ?assertEqual({Env, Expected}, {Env, lines(Built)})
        end
     || {Env, Expected} <- [
            {[{"PYTHON", One}], [One]},
            {[{"PYTHON", One}], [One]},
            {[], [One]},
            {[{"PYTHON", Two}], [One, Two]},
            {[{"PYTHON", Two}], [One, Two]},
            {[], [One, Two]},
            {[{"PYTHON", One}], [One, Two, One]}
        ]
    ],
    %% One that does not exist is an error.
    {Failed, _} = sh(Config, [{"PYTHON", "/no/such/python"}], ["cd ", App, " && rebar3 compile"]),
    ?assertNotEqual(0, Failed).

a_dependency_is_built_by_mix(Config) ->
    case os:find_executable("mix") of
        false ->
            {skip, "Elixir is not installed"};
        _ ->
            Dir = proplists:get_value(dir, Config),
            {Built, [One, Two]} = fakes(Config),
            Dep = dependency(Dir),
            App = filename:join(Dir, "app"),
            ok = filelib:ensure_dir(filename:join(App, "lib/x")),
            ok = file:write_file(filename:join(App, "mix.exs"), [
                "defmodule App.MixProject do\n"
                "  use Mix.Project\n"
                "  def project, do: [app: :app, version: \"1.0.0\", deps: deps()]\n"
                "  defp deps, do: [{:erlang_python, path: \"", Dep, "\"}]\n"
                "end\n"
            ]),
            Rebar = {"MIX_REBAR3", os:find_executable("rebar3")},
            [
                begin
                    {Status, Output} = sh(Config, [Rebar, {"PYTHON", Python}], ["cd ", App, " && ", Command]),
                    ?assertEqual({0, Output}, {Status, Output}),
                    ?assertEqual(Python, lists:last(lines(Built)))
                end
             || {Python, Command} <- [{One, "mix compile"}, {Two, "mix deps.compile erlang_python --force"}]
            ],
            true = filelib:is_regular(filename:join(App, "_build/dev/lib/erlang_python/priv/py_nif.so"))
    end.

%% The old directory stays, as after a copy.
a_directory_that_was_moved_is_configured_anew(Config) ->
    Dir = proplists:get_value(dir, Config),
    [Old, New] = [filename:join(Dir, Name) || Name <- ["old", "new"]],
    ok = copy("scripts/configure.sh", Old),
    ok = file:write_file(filename:join(Old, "CMakeLists.txt"), [
        "cmake_minimum_required(VERSION 3.20)\nproject(x LANGUAGES NONE)\n"
        "add_custom_target(build ALL COMMAND ${CMAKE_COMMAND} -E echo built ${CMAKE_SOURCE_DIR} with ${GIVEN})\n"
    ]),
    Build = fun(Top) ->
        sh(Config, [], [
            "cd ", Top, " && scripts/configure.sh _build/tree -DGIVEN=this && cmake --build _build/tree"
        ])
    end,
    Says = fun(Text, Output) -> binary:match(Output, iolist_to_binary(Text)) =/= nomatch end,
    {0, First} = Build(Old),
    true = Says(["built ", Old, " with this"], First),
    {0, _} = sh(Config, [], ["cp -r ", Old, " ", New]),
    {0, Second} = Build(New),
    true = Says(["built ", New, " with this"], Second),
    true = Says("made anew", Second),
    %% Once.
    {0, Third} = Build(New),
    true = Says(["built ", New, " with this"], Third),
    false = Says("made anew", Third),
    {0, Fourth} = Build(Old),
    false = Says("made anew", Fourth).

a_configuration_that_failed_is_tried_again(Config) ->
    Dir = proplists:get_value(dir, Config),
    ok = copy("scripts/configure.sh", Dir),
    Lists = "cmake_minimum_required(VERSION 3.20)\nproject(x LANGUAGES NONE)\n",
    Configure = ["cd ", Dir, " && scripts/configure.sh _build/tree"],
    ok = file:write_file(filename:join(Dir, "CMakeLists.txt"), [Lists, "message(FATAL_ERROR \"lacks a part\")\n"]),
    {1, Text} = sh(Config, [], Configure),
    true = binary:match(Text, <<"lacks a part">>) =/= nomatch,
    {1, _} = sh(Config, [], Configure),
    ok = file:write_file(filename:join(Dir, "CMakeLists.txt"), Lists),
    {0, _} = sh(Config, [], Configure).

a_python_that_only_root_can_run_is_told(Config) ->
    Dir = proplists:get_value(dir, Config),
    [ok = copy(File, Dir) || File <- scripts()],
    Private = filename:join(Dir, "private"),
    Library = filename:join(Private, "lib"),
    ok = filelib:ensure_dir(filename:join(Library, "x")),
    ok = file:change_mode(Private, 8#700),
    ok = file:write_file(filename:join(Library, "libpython3.13.so"), <<>>),
    Python = python(Config, "python", Library),
    Choose = fun(User) ->
        ok = program(Config, "id", ["echo ", User, "\n"]),
        _ = file:delete(filename:join(Dir, "_build/python")),
        {0, Text} = sh(Config, [{"PYTHON", Python}], [filename:join(Dir, "scripts/choose_python.sh")]),
        %% The tree itself may lie where only root may enter: that directory is told first.
        case re:run(Text, "warning: only root may enter ([^ ,;:\n]+)", [{capture, all_but_first, list}]) of
            {match, [Closed]} -> lists:prefix(Closed, Private);
            nomatch -> false
        end
    end,
    true = Choose("0"),
    false = Choose("1000"),
    %% Also when it is the first thing that make runs.
    ok = program(Config, "id", "echo 0\n"),
    ok = file:delete(filename:join(Dir, "_build/python")),
    {_, Text} = sh(Config, [{"PYTHON", Python}], [filename:join(Dir, "scripts/setup.sh"), " build"]),
    true = binary:match(Text, <<"warning: only root">>) =/= nomatch.

a_build_has_nothing_of_tests_and_measurements(Config) ->
    Tree = filename:join(root(), "_build/cmake"),
    case filelib:is_regular(filename:join(Tree, "build.ninja")) of
        false ->
            {skip, "built with something else than ninja"};
        true ->
            {0, Commands} = sh(Config, [], ["ninja -C ", Tree, " -t commands all"]),
            true = binary:match(Commands, <<"py_nif.c">>) =/= nomatch,
            ?assertEqual(nomatch, re:run(Commands, [root(), "/(perf|tests)/"])),
            %% make bench has a target of its own.
            {0, Measures} = sh(Config, [], ["ninja -C ", Tree, " -t commands ep_perf"]),
            [{match, _} = re:run(Measures, Name) || Name <- ["perf/cpu_nif\\.c", "perf/floor_wake\\.c"]]
    end.

each_module_has_documentation_that_edoc_reads(_Config) ->
    case code:which(edoc) of
        non_existing ->
            {skip, "edoc is not installed"};
        _ ->
            Sources = filelib:wildcard(filename:join(root(), "erl/src/*.erl")),
            ?assert(length(Sources) > 20),
            [{_Module, _Doc} = edoc:get_doc(Source) || Source <- Sources]
    end.

%% --- parts ----------------------------------------------------------------------------

%% What a build of the C programs takes: two Pythons to choose from, and a file that gets
%% a line for each build, with the Python it was for.
fakes(Config) ->
    Dir = proplists:get_value(dir, Config),
    Built = filename:join(Dir, "built"),
    ok = program(Config, "pkg-config", "exit 0\n"),
    ok = program(Config, "cmake", [
        "case $1 in\n"
        "--build) top=$2/../..\n"
        "    mkdir -p $top/priv && touch $top/priv/py_nif.so $top/priv/ep_launcher $top/priv/ep_worker\n"
        "    cat $top/_build/python >>", Built, " ;;\n"
        "*) printf 'CMAKE_HOME_DIRECTORY:INTERNAL=%s\\nCMAKE_CACHEFILE_DIR:INTERNAL=%s\\n' $2 $4 >$4/CMakeCache.txt ;;\n"
        "esac\n"
    ]),
    {Built, [python(Config, Name, filename:join(Dir, Name)) || Name <- ["one", "two"]]}.

%% This project, without most of its code.
dependency(Dir) ->
    Dep = filename:join(Dir, "dep"),
    [ok = copy(File, Dep) || File <- ["rebar.config", "rebar.config.script" | scripts()]],
    ok = copy("erl/src/erlang_python.app.src", Dep, "src/erlang_python.app.src"),
    ok = file:write_file(filename:join(Dep, "src/py_nothing.erl"), "-module(py_nothing).\n"),
    Dep.

%% Answers choose_python.sh as a Python would that is linked against a library in Dir.
python(Config, Name, Dir) ->
    Path = filename:join(proplists:get_value(bin, Config), Name),
    ok = program(Config, Name, [
        "printf '%s\\n' '' ", Path, " 3.13.0 ", Dir, "/include ", Dir, "/libpython3.13.so 0\n"
    ]),
    Path.

%% A program that comes before those of the system.
program(Config, Name, Code) ->
    Path = filename:join(proplists:get_value(bin, Config), Name),
    ok = file:write_file(Path, ["#!/bin/sh\n", Code]),
    file:change_mode(Path, 8#755).

scripts() ->
    ["scripts/" ++ Name || Name <- ["build_c.sh", "choose_python.sh", "configure.sh", "setup.sh"]].

copy(File, To) ->
    copy(File, To, File).

copy(File, To, As) ->
    Target = filename:join(To, As),
    ok = filelib:ensure_dir(Target),
    {ok, _} = file:copy(filename:join(root(), File), Target),
    {ok, Info} = file:read_file_info(filename:join(root(), File)),
    file:write_file_info(Target, Info).

lines(File) ->
    {ok, Text} = file:read_file(File),
    [binary_to_list(L) || L <- binary:split(Text, <<"\n">>, [global, trim_all])].

%% With what the build itself was asked for left out.
sh(Config, Env, Command) ->
    Path = proplists:get_value(bin, Config) ++ ":" ++ os:getenv("PATH"),
    Home = proplists:get_value(dir, Config),
    Clean = [{Name, false} || Name <- ["PYTHON", "PYTHON_CONFIG", "MAKEFLAGS"], not lists:keymember(Name, 1, Env)],
    Port = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", unicode:characters_to_list(Command)]},
        {env, [{"PATH", Path}, {"HOME", Home}] ++ Env ++ Clean},
        exit_status,
        stderr_to_stdout,
        binary
    ]),
    Result = {_, Output} = collect(Port, []),
    ct:log("~ts~n~ts", [Command, Output]),
    Result.

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Output, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Output)}
    end.

root() ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    filename:dirname(filename:dirname(filename:dirname(filename:absname(Source)))).
