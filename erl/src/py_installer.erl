%% SPDX-License-Identifier: Apache-2.0

%% @private Runs a program that makes or fills a virtual environment, without a shell, in a
%% process of its own. One that says nothing for long is ended.
-module(py_installer).

-export([run/2]).
-export([init/3]).

-define(SILENT_MS, 300000).
%% The end of the output is what says why.
-define(OUTPUT_MAX, 65536).

-type error() ::
    {exit_code, non_neg_integer(), binary()}
    | {executable_not_found, binary()}
    | {spawn_failed, binary(), term()}
    | timeout.

%% @doc The program is a path, or found in PATH.
-spec run(binary(), [binary()]) -> ok | {error, error()}.
run(Program, Args) ->
    case os:find_executable(unicode:characters_to_list(Program)) of
        false ->
            {error, {executable_not_found, Program}};
        Path ->
            {_Pid, Ref} = spawn_monitor(?MODULE, init, [self(), Path, Args]),
            receive
                {'DOWN', Ref, process, _, {installed, Result}} -> Result;
                {'DOWN', Ref, process, _, Reason} -> {error, {spawn_failed, Program, Reason}}
            end
    end.

%% @private Ends the program when its caller does.
-spec init(pid(), file:filename(), [binary()]) -> no_return().
init(Caller, Path, Args) ->
    Monitor = monitor(process, Caller),
    Options = [{args, Args}, exit_status, stderr_to_stdout, binary, hide, in],
    try open_port({spawn_executable, Path}, Options) of
        Port -> exit({installed, collect(Port, Monitor, <<>>)})
    catch
        error:Reason -> exit({installed, {error, {spawn_failed, unicode:characters_to_binary(Path), Reason}}})
    end.

collect(Port, Monitor, Output) ->
    receive
        {Port, {data, Data}} ->
            collect(Port, Monitor, last(<<Output/binary, Data/binary>>));
        {Port, {exit_status, 0}} ->
            ok;
        {Port, {exit_status, Code}} ->
            {error, {exit_code, Code, Output}};
        {'DOWN', Monitor, process, _, _} ->
            kill(Port)
    after ?SILENT_MS -> kill(Port)
    end.

last(Output) when byte_size(Output) > ?OUTPUT_MAX -> binary:part(Output, byte_size(Output), -?OUTPUT_MAX);
last(Output) -> Output.

%% And what it has started, which is found by its parent.
kill(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, OsPid} -> lists:foreach(fun kill_process/1, [OsPid | descendants(OsPid)]);
        undefined -> ok
    end,
    {error, timeout}.

kill_process(OsPid) ->
    _ = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    ok.

descendants(OsPid) ->
    File = io_lib:format("/proc/~b/task/~b/children", [OsPid, OsPid]),
    case file:read_file(File) of
        {ok, Text} ->
            Children = [binary_to_integer(Child) || Child <- binary:split(Text, <<" ">>, [global, trim_all])],
            Children ++ lists:append([descendants(Child) || Child <- Children]);
        {error, _} ->
            []
    end.
