%% SPDX-License-Identifier: Apache-2.0

%% @private The configuration key `python': an executable or the directory of a
%% virtual environment. It must be of the minor version that the worker embeds,
%% or its extension modules would not load.
-module(py_interpreter).

-export([check/1]).

-define(TIMEOUT_MS, 20000).
-define(ASK, "import sys; print('%d.%d' % sys.version_info[:2])").

%% @doc Returns the executable, or why it cannot be used.
-spec check(term()) -> {ok, binary()} | {error, iodata()}.
check(Value) when is_list(Value); is_binary(Value); is_atom(Value) ->
    case unicode:characters_to_list(to_chardata(Value)) of
        Path when is_list(Path), Path =/= [] -> check_path(executable(Path));
        _ -> {error, "must be the path of a Python executable or virtual environment"}
    end;
check(_) ->
    {error, "must be the path of a Python executable or virtual environment"}.

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
    Built = built_version(),
    case ask(Path) of
        {ok, Built} -> {ok, unicode:characters_to_binary(Path)};
        {ok, Found} -> {error, ["found Python ", Found, ", built for ", Built]};
        error -> {error, [Path, " is not a Python that runs"]}
    end.

%% The build writes down which Python the worker embeds.
built_version() ->
    case file:read_file(filename:join(py_paths:priv_dir(), "python_version")) of
        {ok, Text} -> string:trim(unicode:characters_to_list(Text));
        {error, _} -> "an unknown version (run make build)"
    end.

ask(Path) ->
    Options = [{args, ["-I", "-S", "-c", ?ASK]}, exit_status, stderr_to_stdout, hide, in],
    try open_port({spawn_executable, Path}, Options) of
        Port -> collect(Port, [])
    catch
        error:_ -> error
    end.

collect(Port, Acc) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Acc | Data]);
        {Port, {exit_status, 0}} -> {ok, string:trim(lists:flatten(Acc))};
        {Port, {exit_status, _}} -> error
    after ?TIMEOUT_MS ->
        ok = close(Port),
        error
    end.

%% It may have ended meanwhile.
close(Port) ->
    try port_close(Port) of
        true -> ok
    catch
        error:badarg -> ok
    end.
