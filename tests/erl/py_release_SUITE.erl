%% SPDX-License-Identifier: Apache-2.0

%% @doc A release of the application in examples/release runs, with Python code of its own in priv/,
%% from a directory that nobody may write to, and as another user where the tests run as root.
-module(py_release_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {minutes, 3}}].

all() ->
    [runs_from_a_directory_that_is_read_only, runs_as_another_user].

%% The directories of Common Test may lie where only their owner may go.
init_per_suite(Config) ->
    Dir = string:trim(os:cmd("mktemp -d /tmp/ep_release_XXXXXX")),
    ok = file:change_mode(Dir, 8#755),
    Application = filename:join(root(), "examples/release"),
    {0, _} = run(["cp -r ", Application, "/. ", Dir]),
    {Status, Said} = run([
        "cd ", Dir, " && ERL_LIBS=", libs(), " rebar3 release && chmod -R a+rX,a-w _build/default/rel"
    ]),
    Status =:= 0 orelse ct:fail("~ts", [Said]),
    [{dir, Dir} | Config].

end_per_suite(Config) ->
    {0, _} = run(["chmod -R u+w ", ?config(dir, Config), " && rm -r ", ?config(dir, Config)]),
    ok.

%% Cases

runs_from_a_directory_that_is_read_only(Config) ->
    is_answer(run([program(Config)]), Config).

runs_as_another_user(Config) ->
    case run(["command -v setpriv && [ $(id -u) = 0 ]"]) of
        {0, _} -> is_answer(run([as_nobody(), program(Config)]), Config);
        {_, _} -> {skip, "needs root and setpriv"}
    end.

%% Internal

libs() ->
    filename:dirname(code:lib_dir(erlang_python)).

program(Config) ->
    [?config(dir, Config), "/_build/default/rel/readings/bin/readings"].

%% HOME is nobody's, so that nothing of the user's own helps; a crash would leave its dump there.
as_nobody() ->
    ["HOME=/nonexistent ERL_CRASH_DUMP_SECONDS=0 setpriv --reuid=65534 --regid=65534 --clear-groups ", reach(), " "].

%% A Python under the home of root cannot be read by others; then the other user may read everything.
reach() ->
    {ok, Prefix} = python_prefix(),
    case run(["setpriv --reuid=65534 --regid=65534 --clear-groups test -r ", Prefix]) of
        {0, _} -> "";
        {_, _} -> "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
    end.

python_prefix() ->
    ok = py_test:start([{num_contexts, 1}]),
    Answer = py:eval(<<"__import__('sys').base_prefix">>),
    ok = py_test:stop(),
    Answer.

is_answer({Status, Said}, Config) ->
    ct:log("~ts", [Said]),
    ?assertEqual(0, Status),
    ?assertMatch({match, _}, re:run(Said, "smoothed: \\[1\\.5,4\\.0,4\\.5\\]")),
    Place = [?config(dir, Config), "/_build/default/rel/readings/lib/readings-0.1.0/priv/python/smooth.py"],
    ?assertMatch({match, _}, re:run(Said, ["by: ", Place])).

run(Command) ->
    Port = open_port({spawn_executable, "/bin/sh"}, [
        {args, ["-c", unicode:characters_to_list(Command)]}, exit_status, stderr_to_stdout, binary, hide
    ]),
    collect(Port, []).

collect(Port, Said) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Said, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Said)}
    end.

%% The checkout that the tests are of.
root() ->
    filename:join(filename:dirname(proplists:get_value(source, ?MODULE:module_info(compile))), "../..").
