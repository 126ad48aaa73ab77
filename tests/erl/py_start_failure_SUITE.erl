%% SPDX-License-Identifier: Apache-2.0

%% @doc A worker process that does not start: those who wait get a sentence with cause and
%% remedy, the log has it at level error, once.
-module(py_start_failure_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    says_that_the_home_of_python_is_wrong/1,
    says_that_a_customization_exits/1,
    says_that_something_ends_the_process/1,
    says_that_the_address_space_is_too_small/1,
    says_which_call_the_kernel_refuses/1,
    waits_for_a_venv_that_was_taken_away/1,
    waits_for_the_configuration_of_a_venv/1,
    says_what_a_program_is_that_is_no_python/1,
    logs_a_failure_once_a_minute/1,
    names_what_the_loader_misses/1
]).
%% Handler of logger.
-export([log/2]).

all() ->
    [
        says_that_the_home_of_python_is_wrong,
        says_that_a_customization_exits,
        says_that_something_ends_the_process,
        says_that_the_address_space_is_too_small,
        says_which_call_the_kernel_refuses,
        waits_for_a_venv_that_was_taken_away,
        waits_for_the_configuration_of_a_venv,
        says_what_a_program_is_that_is_no_python,
        logs_a_failure_once_a_minute,
        names_what_the_loader_misses
    ].

init_per_testcase(_Case, Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = logger:remove_handler(?MODULE),
    _ = logged(),
    py_test:stop().

log(#{level := Level, msg := {Format, Args}, meta := #{library := erlang_python}}, #{config := #{to := To}}) ->
    To ! {logged, Level, unicode:characters_to_binary(io_lib:format(Format, Args))},
    ok;
log(_Event, _Config) ->
    ok.

logged() ->
    receive
        {logged, Level, Text} -> [{Level, Text} | logged()]
    after 0 -> []
    end.

contains(Text, Parts) ->
    [?assertNotEqual({Part, nomatch}, {Part, re:run(Text, Part)}) || Part <- Parts],
    ok.

%% --- at the start of the application --------------------------------------------------

says_that_the_home_of_python_is_wrong(_Config) ->
    Text = not_started("PYTHONHOME=/nonexistent "),
    ok = contains(Text, [
        "ERROR REPORT", "no Python worker process can be started for pool default, context 1: Python does not start",
        "PYTHONHOME is '/nonexistent': unset it"
    ]).

says_that_a_customization_exits(Config) ->
    Text = not_started(["PYTHONPATH=", sitecustomize("import sys; sys.exit(5)", Config), " "]),
    ok = contains(Text, ["Failed to import the site module: SystemExit: 5; look at sitecustomize"]).

says_that_something_ends_the_process(Config) ->
    Code = "import os; os.write(2, b'so it ends\\n'); os._exit(3)",
    Text = not_started(["PYTHONPATH=", sitecustomize(Code, Config), " "]),
    ok = contains(Text, ["ended before Python was up \\(exit status 3\\); look .*sitecustomize", "it wrote: so it ends"]).

says_that_the_address_space_is_too_small(_Config) ->
    Text = not_started("ulimit -v 6000000; "),
    ok = contains(Text, ["address space", "\\(ulimit -v, 6144000000 now\\)"]).

says_which_call_the_kernel_refuses(_Config) ->
    Filter = filename:join(py_test:python_dir(), "without_call.py"),
    [
        ok = contains(not_started(["python3 ", Filter, " ", Call, " "]), ["the kernel refuses .*\\(eperm\\).* allow .*" ++ Call])
     || Call <- ["memfd_create", "pidfd_open"]
    ].

sitecustomize(Code, Config) ->
    Dir = unicode:characters_to_list(py_test:marker(Config, "site")),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:write_file(filename:join(Dir, "sitecustomize.py"), Code),
    Dir.

%% What a VM prints in which the application cannot start.
not_started(Before) ->
    Ebin = filename:dirname(code:which(py)),
    Text = os:cmd(unicode:characters_to_list([
        Before, "erl -noshell -pa ", Ebin, " -eval 'application:set_env(erlang_python, num_contexts, 1), "
        "{error, R} = application:ensure_all_started(erlang_python), io:format(\"~0tp~n\", [R]), halt().' </dev/null 2>&1"
    ])),
    ?assertMatch({match, _}, re:run(Text, "context_start_failed.*worker_unavailable", [dotall])),
    ?assertMatch({match, [_]}, re:run(Text, "\nno Python worker process can be started", [global])),
    Text.

%% --- while it runs --------------------------------------------------------------------

waits_for_a_venv_that_was_taken_away(Config) ->
    {Ctx, Venv} = start_in_venv(Config),
    ok = file:rename(Venv, Venv ++ ".away"),
    ok = refused(Ctx, "is not there any more"),
    ok = file:rename(Venv ++ ".away", Venv),
    ok = serves_in(Ctx, Venv).

%% Without it the executable is that of the base installation.
waits_for_the_configuration_of_a_venv(Config) ->
    {Ctx, Venv} = start_in_venv(Config),
    File = filename:join(Venv, "pyvenv.cfg"),
    ok = file:rename(File, File ++ ".away"),
    ok = refused(Ctx, "has lost its pyvenv.cfg"),
    ok = file:write_file(File, "home = /usr/bin\nversion = 3.2.1\n"),
    ok = refused_on(Ctx, "is one of Python 3.2 now"),
    ok = file:rename(File ++ ".away", File),
    ok = serves_in(Ctx, Venv).

start_in_venv(Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, Python} = py:eval("__import__('sys').executable"),
    ok = py_test:stop(),
    Venv = unicode:characters_to_list(py_test:marker(Config, "venv")),
    [] = os:cmd(unicode:characters_to_list(["'", Python, "' -m venv --without-pip '", Venv, "'"])),
    ok = py_test:start([{num_contexts, 1}, {python, Venv}]),
    Ctx = py:context(1),
    ok = serves_in(Ctx, Venv),
    {Ctx, Venv}.

serves_in(Ctx, Venv) ->
    Prefix = unicode:characters_to_binary(Venv),
    py_test:wait_until(fun() -> {ok, Prefix} =:= py:eval(Ctx, "__import__('sys').prefix", #{}, 5000) end).

refused(Ctx, Why) ->
    {error, {worker_died, #{reason := 3}}} = py:call(Ctx, os, '_exit', [3]),
    refused_on(Ctx, Why).

refused_on(Ctx, Why) ->
    py_test:wait_until(fun() ->
        case py:call(Ctx, math, sqrt, [16]) of
            {error, {worker_unavailable, Sentence}} -> re:run(Sentence, Why) =/= nomatch orelse Sentence;
            Other -> Other
        end
    end).

logs_a_failure_once_a_minute(Config) ->
    {Ctx, Venv} = start_in_venv(Config),
    ok = file:rename(Venv, Venv ++ ".away"),
    ok = refused(Ctx, "is not there any more"),
    %% Some tries later.
    receive after 500 -> ok end,
    [{error, Died}, {error, Failed}] = logged(),
    ok = contains(Died, ["exit status 3"]),
    ok = contains(Failed, ["can be started for pool default, context 1: the configured Python .* is not there any more"]),
    ok = file:rename(Venv ++ ".away", Venv),
    ok = serves_in(Ctx, Venv),
    receive
        {logged, notice, Again} -> ok = contains(Again, ["start again"])
    after 10000 -> error(not_logged)
    end,
    %% A new failure is told at once.
    ok = file:rename(Venv, Venv ++ ".away"),
    ok = refused(Ctx, "is not there any more"),
    [{error, _}, {error, _}] = logged().

says_what_a_program_is_that_is_no_python(Config) ->
    Yes = unicode:characters_to_list(py_test:marker(Config, "yes")),
    ok = file:write_file(Yes, "#!/bin/sh\nexec yes\n"),
    ok = file:change_mode(Yes, 8#755),
    [
        begin
            {error, {erlang_python, {{bad_config, python, Program, Why}, _}}} = py_test:restart([{python, Program}]),
            ok = contains(Why, [Words])
        end
     || {Program, Words} <- [
            {"/usr/bin/true", "is not a Python that runs: .*it ended with 0 and printed nothing"},
            {"/bin/echo", "is not a Python that runs"},
            {"/bin/false", "it ended with 1 and printed nothing"},
            {Yes, "is not a Python that runs: it prints without end"},
            {"/etc/passwd", "is not a Python that runs"}
        ]
    ].

%% --- pure -----------------------------------------------------------------------------

names_what_the_loader_misses(_Config) ->
    Wrote = <<"ep_worker: error while loading shared libraries: libpython3.13.so.1.0: cannot open shared object file">>,
    ok = contains(py_start_failure:sentence({exited, 127}, Wrote), ["^the worker program needs the library libpython3.13.so.1.0, .*install it"]),
    ok = contains(py_start_failure:sentence({exited, 127}, <<"ep_launcher: cannot execute /x: Permission denied\n">>), [
        "^the worker process does not start: cannot execute /x: Permission denied$"
    ]),
    %% Only what may come of a limit names it.
    ok = contains(py_start_failure:sentence({exited, 'SIGABRT', 1048576}, <<>>), ["1048576 bytes that memory_limit allows"]),
    Same = [{'SIGABRT', infinity}, {'SIGKILL', 1048576}, {emfile, 1048576}, {127, 1048576}],
    [?assertEqual(py_start_failure:sentence({exited, R}, <<>>), py_start_failure:sentence({exited, R, B}, <<>>)) || {R, B} <- Same],
    ok = contains(py_start_failure:sentence({exited, emfile}, <<>>), ["RLIMIT_NOFILE, ulimit -n, \\d+ now"]),
    [
        ?assert(byte_size(py_start_failure:sentence(Cause, <<>>)) > 40)
     || Cause <- [
            {exited, 'SIGSYS'}, {exited, 'SIGKILL'}, {exited, eagain}, {exited, enomem}, {too_slow, 60}, {dies_young, 9},
            {prepare, emfile}, {prepare, enosys}, {launcher, etimedout}, {launcher, launcher_gone},
            {launcher, {launcher_exited, 1}}, {launcher, {enoent, "/x"}}
        ]
    ].
