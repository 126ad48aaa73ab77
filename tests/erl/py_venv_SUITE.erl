%% SPDX-License-Identifier: Apache-2.0

%% @doc Virtual environments, made and filled from wheels of this suite: no package index is
%% asked. Active in every interpreter, those that run, start, or start again.
-module(py_venv_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(LONG_MS, 60000).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++
        [
            an_environment_is_made_filled_and_activated_by_pip,
            an_environment_is_made_filled_and_activated_by_uv,
            a_project_is_installed_in_editable_form,
            two_who_want_the_same_environment_make_it_once,
            what_an_installer_says_is_in_the_error,
            programs_that_are_not_there_are_named,
            what_is_no_environment_is_refused,
            bad_arguments_are_refused
        ].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        an_environment_comes_before_everything_and_goes_again,
        an_environment_is_there_after_a_crash_and_for_contexts_that_start_later,
        an_environment_is_there_although_the_context_was_busy,
        a_request_waits_for_what_is_being_registered,
        activating_again_finds_what_came_meanwhile
    ].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    Env = proplists:get_value(proplists:get_value(group, Config, none), py_test:modes(), [{num_contexts, 1}]),
    ok = py_test:start(Env),
    Config.

end_per_testcase(_Case, Config) ->
    case proplists:is_defined(group, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

%% --- what is installed ----------------------------------------------------------------

fresh(Config, Name) ->
    Unique = Name ++ integer_to_list(erlang:unique_integer([positive])),
    filename:join(proplists:get_value(priv_dir, Config), Unique).

%% A wheel is a zip file: a module, and what pip wants to know about it.
wheel(Config, Name, Code) ->
    Info = Name ++ "-1.0.dist-info/",
    Files = [
        {Name ++ ".py", Code},
        {Info ++ "METADATA", ["Metadata-Version: 2.1\nName: ", Name, "\nVersion: 1.0\n"]},
        {Info ++ "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
        {Info ++ "RECORD", [[F, ",,\n"] || F <- [Name ++ ".py", Info ++ "METADATA", Info ++ "WHEEL", Info ++ "RECORD"]]}
    ],
    Dir = fresh(Config, "wheels"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    File = filename:join(Dir, Name ++ "-1.0-py3-none-any.whl"),
    {ok, _} = zip:create(File, [{F, iolist_to_binary(Text)} || {F, Text} <- Files]),
    File.

requirements(Config, Lines) ->
    File = fresh(Config, "requirements") ++ ".txt",
    ok = file:write_file(File, [[Line, "\n"] || Line <- Lines]),
    File.

%% What activating looks at, without the seconds that making one takes.
bare_venv(Config, Modules) ->
    Venv = fresh(Config, "venv"),
    Site = site(Venv),
    ok = filelib:ensure_dir(filename:join(Site, "x")),
    ok = file:write_file(filename:join(Venv, "pyvenv.cfg"), ["version = ", version(), ".0\n"]),
    [ok = file:write_file(filename:join(Site, Name), Text) || {Name, Text} <- Modules],
    Venv.

site(Venv) ->
    Free = case py_test:is_free_threaded() of true -> "t"; false -> "" end,
    filename:join([Venv, "lib", "python" ++ version() ++ Free, "site-packages"]).

version() ->
    binary_to_list(maps:get(version, py_python:built())).

contexts() ->
    py_context_router:contexts().

f(Ctx, Module) ->
    py:call(Ctx, Module, f, [], #{}, ?LONG_MS).

%% --- activation -----------------------------------------------------------------------

an_environment_comes_before_everything_and_goes_again(Config) ->
    Extra = fresh(Config, "extra"),
    ok = filelib:ensure_dir(filename:join(Extra, "x")),
    ok = file:write_file(filename:join(Extra, "ep_by_pth.py"), "def f(): return 'pth'\n"),
    Venv = bare_venv(Config, [{"ep_in_venv.py", "def f(): return 'venv'\n"}, {"ep.pth", [Extra, "\nimport sys; sys.ep_pth = 1\n"]}]),
    Path = fresh(Config, "path"),
    ok = filelib:ensure_dir(filename:join(Path, "x")),
    ok = file:write_file(filename:join(Path, "ep_in_venv.py"), "def f(): return 'path'\n"),
    ok = py_import:add_path(Path),
    {ok, #{<<"active">> := false} = Inactive} = py:venv_info(),
    1 = map_size(Inactive),
    ok = py:activate_venv(Venv),
    [Site1, Extra1, Path1, Venv1] = [unicode:characters_to_binary(P) || P <- [site(Venv), Extra, Path, Venv]],
    [
        begin
            {ok, <<"venv">>} = f(Ctx, ep_in_venv),
            {ok, <<"pth">>} = f(Ctx, ep_by_pth),
            {ok, [Site1, Extra1, Path1]} = py:eval(Ctx, "__import__('sys').path[:3]")
        end
     || Ctx <- contexts()
    ],
    {ok, #{<<"active">> := true, <<"venv_path">> := Venv1, <<"site_packages">> := Site1, <<"sys_path">> := [Site1, Extra1, Path1 | _]}} =
        py:venv_info(),
    ok = py:deactivate_venv(),
    {ok, #{<<"active">> := false}} = py:venv_info(),
    [
        begin
            {ok, [Path1]} = py:eval(Ctx, "__import__('sys').path[:1]"),
            {ok, []} = py:eval(Ctx, "[p for p in __import__('sys').path if p in gone]", #{gone => [Site1, Extra1]})
        end
     || Ctx <- contexts()
    ],
    ok = py:deactivate_venv().

an_environment_is_there_after_a_crash_and_for_contexts_that_start_later(Config) ->
    Venv = bare_venv(Config, [{"ep_in_venv.py", "def f(): return 'venv'\n"}]),
    ok = py:activate_venv(Venv),
    {ok, Later} = py_context:new(#{mode => proplists:get_value(mode, Config)}),
    {ok, <<"venv">>} = f(Later, ep_in_venv),
    ok = py_context:stop(Later),
    {error, {worker_died, _}} = py:call(hd(contexts()), os, '_exit', [1]),
    [{ok, <<"venv">>} = f(Ctx, ep_in_venv) || Ctx <- contexts()],
    ok = py:deactivate_venv(),
    {error, {worker_died, _}} = py:call(hd(contexts()), os, '_exit', [1]),
    {error, {'ModuleNotFoundError', _}} = f(hd(contexts()), ep_in_venv),
    ok.

an_environment_is_there_although_the_context_was_busy(Config) ->
    Venv = bare_venv(Config, [{"ep_in_venv.py", "def f(): return 'venv'\n"}]),
    Held = [py_fixture:hold(Ctx, Config) || Ctx <- contexts()],
    Waiting = [py_test:spawn_caller(fun() -> f(Ctx, ep_in_venv) end) || Ctx <- contexts()],
    ok = py:activate_venv(Venv),
    [ok = py_fixture:let_go(H) || H <- Held],
    [{ok, <<"venv">>} = py_test:result_of(W) || W <- Waiting],
    ok.

%% Activating takes as long as the code in a .pth file takes.
a_request_waits_for_what_is_being_registered(Config) ->
    Mark = py_test:marker(Config, "pth"),
    Go = <<Mark/binary, ".go">>,
    Blocks = [
        "import os, time, ep_probe\nep_probe.mark('", Mark, "')\n",
        "while not os.path.exists('", Go, "'): time.sleep(0.005)\n"
    ],
    Venv = bare_venv(Config, [{"ep_blocks.py", Blocks}, {"ep.pth", "import ep_blocks\n"}]),
    Activation = py_test:spawn_caller(fun() -> py:activate_venv(Venv) end),
    ok = py_test:wait_until(fun() -> filelib:is_file(Mark) andalso length(py_test:marks(Mark)) =:= interpreters() end),
    %% Its place is the first one only at the end.
    First = fun(Ctx) -> py:eval(Ctx, "__import__('sys').path[0]") end,
    Waiting = [py_test:spawn_caller(fun() -> First(Ctx) end) || Ctx <- contexts()],
    ok = py_test:wait_until(fun() -> lists:all(fun({Pid, _}) -> waits_or_is_done(Pid) end, Waiting) end),
    ok = file:write_file(Go, <<>>),
    Site = unicode:characters_to_binary(site(Venv)),
    [{ok, Site} = py_test:result_of(W) || W <- Waiting],
    ok = py_test:result_of(Activation).

waits_or_is_done(Pid) ->
    case process_info(Pid, current_function) of
        {current_function, {py_request, receive_done, _}} -> true;
        undefined -> true;
        _ -> false
    end.

%% Contexts of mode worker in one process share one.
interpreters() ->
    case py:execution_mode() of
        owngil -> 2;
        worker -> length(lists:usort([maps:get(os_pid, C) || C <- maps:get(contexts, py:stats())]))
    end.

activating_again_finds_what_came_meanwhile(Config) ->
    Extra = fresh(Config, "extra"),
    ok = filelib:ensure_dir(filename:join(Extra, "x")),
    ok = file:write_file(filename:join(Extra, "ep_by_pth.py"), "def f(): return 'pth'\n"),
    Venv = bare_venv(Config, []),
    ok = py:activate_venv(Venv),
    [{error, {'ModuleNotFoundError', _}} = f(Ctx, ep_by_pth) || Ctx <- contexts()],
    ok = file:write_file(filename:join(site(Venv), "ep.pth"), [Extra, "\n"]),
    ok = py:activate_venv(Venv),
    [{ok, <<"pth">>} = f(Ctx, ep_by_pth) || Ctx <- contexts()],
    Other = bare_venv(Config, [{"ep_in_other.py", "def f(): return 'other'\n"}]),
    ok = py:activate_venv(Other),
    Site = unicode:characters_to_binary(site(Venv)),
    [
        begin
            {ok, <<"other">>} = f(Ctx, ep_in_other),
            {ok, false} = py:eval(Ctx, "site in __import__('sys').path", #{site => Site})
        end
     || Ctx <- contexts()
    ],
    ok.

%% --- installers -----------------------------------------------------------------------

an_environment_is_made_filled_and_activated_by_pip(Config) ->
    fills(Config, pip).

an_environment_is_made_filled_and_activated_by_uv(Config) ->
    case os:find_executable("uv") of
        false -> {skip, "uv is not installed"};
        _ -> fills(Config, uv)
    end.

fills(Config, Installer) ->
    Venv = fresh(Config, [16#E9, $\s, $v]),
    First = requirements(Config, [wheel(Config, "ep_pack_one", "def f(): return 1\n")]),
    ok = py:ensure_venv(Venv, First, [{installer, Installer}]),
    {ok, 1} = f(py:context(1), ep_pack_one),
    %% It is there now: only what is new is installed.
    {ok, Made} = file:read_file_info(filename:join(Venv, "pyvenv.cfg")),
    Second = requirements(Config, [wheel(Config, "ep_pack_two", "def f(): return 2\n")]),
    ok = py:ensure_venv(unicode:characters_to_binary(Venv), Second, [{installer, Installer}]),
    {ok, Made} = file:read_file_info(filename:join(Venv, "pyvenv.cfg")),
    {ok, 2} = f(py:context(1), ep_pack_two),
    {error, {worker_died, _}} = py:call(py:context(1), os, '_exit', [1]),
    [{ok, 1}, {ok, 2}] = [f(py:context(1), M) || M <- [ep_pack_one, ep_pack_two]],
    ok = py:ensure_venv(Venv, Second, [force, {installer, Installer}]),
    {error, {worker_died, _}} = py:call(py:context(1), os, '_exit', [1]),
    {error, {'ModuleNotFoundError', _}} = f(py:context(1), ep_pack_one),
    {ok, 2} = f(py:context(1), ep_pack_two),
    ok = py:deactivate_venv().

%% With a build backend that lies in the project, so that nothing is fetched.
a_project_is_installed_in_editable_form(Config) ->
    Project = fresh(Config, "project"),
    ok = filelib:ensure_dir(filename:join(Project, "x")),
    Write = fun(Name, Text) -> ok = file:write_file(filename:join(Project, Name), Text) end,
    Write("pyproject.toml", [
        "[project]\nname = 'ep-project'\nversion = '1.0'\n[project.optional-dependencies]\nextra = []\n",
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    ]),
    Write("ep_project.py", "def f(): return 'one'\n"),
    Write("backend.py", [
        "import os, zipfile\n"
        "def build_editable(directory, settings=None, metadata=None):\n"
        "    name = 'ep_project-1.0-py3-none-any.whl'\n"
        "    info = 'ep_project-1.0.dist-info/'\n"
        "    with zipfile.ZipFile(os.path.join(directory, name), 'w') as z:\n"
        "        z.writestr('ep_project.pth', os.getcwd() + '\\n')\n"
        "        z.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: ep-project\\nVersion: 1.0\\nProvides-Extra: extra\\n')\n"
        "        z.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "        z.writestr(info + 'RECORD', 'ep_project.pth,,\\n' + info + 'RECORD,,\\n')\n"
        "    return name\n"
        "def build_wheel(*args):\n    raise NotImplementedError\n"
    ]),
    Venv = fresh(Config, "venv"),
    ok = py:ensure_venv(Venv, filename:join(Project, "pyproject.toml"), [{installer, pip}, {extras, ["extra"]}]),
    {ok, <<"one">>} = f(py:context(1), ep_project),
    Write("ep_project.py", "def f(): return 'two, and longer'\n"),
    ok = py:reload(ep_project),
    {ok, <<"two, and longer">>} = f(py:context(1), ep_project).

two_who_want_the_same_environment_make_it_once(Config) ->
    Venv = fresh(Config, "venv"),
    File = requirements(Config, [wheel(Config, "ep_pack_three", "def f(): return 3\n")]),
    Both = [py_test:spawn_caller(fun() -> py:ensure_venv(Venv, File, [{installer, pip}]) end) || _ <- [1, 2]],
    [ok = py_test:result_of(C) || C <- Both],
    {ok, 3} = f(py:context(1), ep_pack_three).

what_an_installer_says_is_in_the_error(Config) ->
    Venv = fresh(Config, "venv"),
    Missing = requirements(Config, ["/no/such/wheel-1.0-py3-none-any.whl"]),
    {error, {exit_code, 1, Output}} = py:ensure_venv(Venv, Missing, [{installer, pip}]),
    ?assertMatch({match, _}, re:run(Output, "/no/such/wheel")),
    {error, {exit_code, _, _}} = py:ensure_venv(Venv, "/no/such/requirements.txt", [{installer, pip}]),
    %% It was not activated.
    {ok, #{<<"active">> := false}} = py:venv_info().

programs_that_are_not_there_are_named(Config) ->
    File = requirements(Config, []),
    {error, {executable_not_found, <<"/no/such/python">>}} =
        py:ensure_venv(fresh(Config, "venv"), File, [{installer, pip}, {python, "/no/such/python"}]),
    Path = os:getenv("PATH"),
    true = os:putenv("PATH", "/nowhere"),
    try
        {error, {executable_not_found, <<"uv">>}} = py:ensure_venv(fresh(Config, "venv"), File, [{installer, uv}])
    after
        os:putenv("PATH", Path)
    end.

what_is_no_environment_is_refused(Config) ->
    Dir = unicode:characters_to_binary(fresh(Config, "venv")),
    {error, {invalid_venv, Dir}} = py:activate_venv(Dir),
    Venv = bare_venv(Config, []),
    ok = file:write_file(filename:join(Venv, "pyvenv.cfg"), "version_info = 3.8.1\n"),
    Built = list_to_binary(version()),
    {error, {invalid_venv, {version_mismatch, Built, <<"3.8">>}}} = py:activate_venv(Venv),
    Empty = bare_venv(Config, []),
    ok = file:del_dir_r(filename:join(Empty, "lib")),
    {error, {invalid_venv, no_site_packages_found}} = py:activate_venv(Empty),
    {ok, #{<<"active">> := false}} = py:venv_info().

bad_arguments_are_refused(_Config) ->
    Calls = [
        fun() -> py:activate_venv(1) end,
        fun() -> py:activate_venv("") end,
        fun() -> py:ensure_venv(1, "r.txt") end,
        fun() -> py:ensure_venv("/tmp/ep_never", 1) end,
        fun() -> py:ensure_venv("/tmp/ep_never", "r.txt", x) end,
        fun() -> py:ensure_venv("/tmp/ep_never", "r.txt", [forced]) end,
        fun() -> py:ensure_venv("/tmp/ep_never", "r.txt", [{installer, conda}]) end,
        fun() -> py:ensure_venv("/tmp/ep_never", "r.txt", [{extras, x}]) end,
        fun() -> py:ensure_venv("/tmp/ep_never", "r.txt", [{python, 1}]) end
    ],
    [ok = py_test:badarg(Call) || Call <- Calls],
    false = filelib:is_file("/tmp/ep_never"),
    ok = py_test:stop(),
    [ok = py_test:badarg(F) || F <- [fun() -> py:activate_venv("/x") end, fun py:deactivate_venv/0, fun py:venv_info/0]],
    ok.
