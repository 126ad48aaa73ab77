%% SPDX-License-Identifier: Apache-2.0

%% @private The configuration key `python': an executable or the directory of a
%% virtual environment. It must be of the minor version that the worker embeds,
%% or its extension modules would not load.
-module(py_interpreter).

-export([check/1, is_venv/1, look/2, venv_version/1]).

-define(TIMEOUT_MS, 20000).
-define(ASK, "import sys; print('%d.%d' % sys.version_info[:2] + ' free-threaded' * ('t' in getattr(sys, 'abiflags', '')))").
%% A line of its own; others may come before it.
-define(ANSWER, "^(\\d+\\.\\d+(?: free-threaded)?)$").
%% More than a Python says that is asked for its version.
-define(OUTPUT_MAX, 65536).

%% @doc Returns the executable, or why it cannot be used.
-spec check(term()) -> {ok, binary()} | {error, iodata()}.
check(Value) when is_list(Value); is_binary(Value); is_atom(Value) ->
    case unicode:characters_to_list(to_chardata(Value)) of
        Path when is_list(Path), Path =/= [] -> check_path(executable(Path));
        _ -> {error, "must be the path of a Python executable or virtual environment"}
    end;
check(_) ->
    {error, "must be the path of a Python executable or virtual environment"}.

%% @doc Whether an executable belongs to a virtual environment. The empty name is the Python built against.
-spec is_venv(binary()) -> boolean().
is_venv(<<>>) -> false;
is_venv(Executable) -> filelib:is_regular(venv_config(Executable)).

%% @doc Whether a Python that was good once is there still, at little cost. Without this the
%% worker would run with the base installation of a virtual environment that was taken away.
-spec look(binary(), WasVenv :: boolean()) -> ok | {error, iodata()}.
look(<<>>, _WasVenv) ->
    ok;
look(Executable, WasVenv) ->
    case {filelib:is_regular(Executable), file:read_file(venv_config(Executable))} of
        {false, _} ->
            {error, ["the configured Python ", Executable, " is not there any more; put it back, or configure another one"]};
        {true, {ok, Text}} ->
            look_at_version(Executable, venv_version(Text));
        {true, {error, Posix}} when WasVenv ->
            {error, ["the virtual environment of the configured Python ", Executable, " has lost its pyvenv.cfg (",
                     atom_to_list(Posix), "); make the environment again, or configure another one"]};
        {true, {error, _}} ->
            ok
    end.

look_at_version(Executable, Found) ->
    case {Found, maps:get(version, py_python:built())} of
        {unknown, _} -> ok;
        {Built, Built} -> ok;
        {_, Built} ->
            {error, ["the virtual environment of the configured Python ", Executable, " is one of Python ", Found,
                     " now, and erlang_python was built for ", Built, "; make it again with that version"]}
    end.

venv_config(Executable) ->
    filename:join(filename:dirname(filename:dirname(Executable)), "pyvenv.cfg").

%% @doc The version that a pyvenv.cfg tells: venv writes version, virtualenv and uv write version_info.
-spec venv_version(binary()) -> binary() | unknown.
venv_version(Text) ->
    case re:run(Text, "^version(?:_info)? *= *(\\d+\\.\\d+)", [multiline, {capture, all_but_first, binary}]) of
        {match, [Version]} -> Version;
        nomatch -> unknown
    end.

to_chardata(Atom) when is_atom(Atom) -> atom_to_list(Atom);
to_chardata(Text) -> Text.

executable(Path) ->
    case filelib:is_dir(Path) of
        true -> filename:join([Path, "bin", "python"]);
        false -> Path
    end.

check_path(Path) ->
    case filelib:is_regular(Path) of
        true -> check_version(filename:absname(Path));
        false -> {error, ["found no file ", Path, "; give a Python executable or a venv"]}
    end.

check_version(Path) ->
    Built = lists:append([built_version() | [" free-threaded" || maps:get(free_threaded, py_python:built())]]),
    case ask(Path) of
        {ok, Built} -> {ok, unicode:characters_to_binary(Path)};
        {ok, Found} -> {error, ["found Python ", Found, ", built for ", Built]};
        {error, Why} -> {error, [Path, " is not a Python that runs: ", Why]}
    end.

built_version() ->
    unicode:characters_to_list(maps:get(version, py_python:built())).

ask(Path) ->
    Options = [{args, ["-I", "-S", "-c", ?ASK]}, exit_status, stderr_to_stdout, hide, in],
    try open_port({spawn_executable, Path}, Options) of
        Port ->
            Deadline = erlang:monotonic_time(millisecond) + ?TIMEOUT_MS,
            collect(Port, Deadline, [])
    catch
        error:Posix -> {error, io_lib:format("~tp", [Posix])}
    end.

collect(Port, Deadline, Output) ->
    receive
        {Port, {data, Data}} when length(Data) + length(Output) =< ?OUTPUT_MAX ->
            collect(Port, Deadline, Output ++ Data);
        {Port, {data, _}} ->
            ok = close(Port),
            {error, "it prints without end"};
        {Port, {exit_status, Status}} ->
            answer(Status, Output)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        ok = close(Port),
        {error, io_lib:format("it did not say its version within ~b s", [?TIMEOUT_MS div 1000])}
    end.

answer(Status, Output) ->
    case re:run(Output, ?ANSWER, [multiline, {capture, all_but_first, list}]) of
        {match, [Version]} when Status =:= 0 -> {ok, Version};
        _ -> {error, io_lib:format("asked for its version, it ended with ~b and printed ~ts", [Status, quoted(Output)])}
    end.

%% Bytes of another program, for a sentence.
quoted(Output) ->
    case py_stderr:last_lines(py_stderr:text(list_to_binary(Output)), 3, 200) of
        [] -> "nothing";
        Lines -> ["'", lists:join(" / ", Lines), "'"]
    end.

%% It may have ended meanwhile.
close(Port) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end.
