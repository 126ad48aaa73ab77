%% SPDX-License-Identifier: Apache-2.0

%% @private How much memory arrays may take together by default: half of what this VM may use.
-module(py_shared_memory).

-export([default_max/0, stats/0]).

%% @doc Half of the memory of the control group, or else of the machine.
-spec default_max() -> pos_integer().
default_max() ->
    max(1, lists:min([machine() | groups()]) div 2).

%% @doc Arrays that there are, and their memory.
-spec stats() -> #{count := N, shared_bytes := N, high_water := N, max := N} when N :: non_neg_integer().
stats() ->
    {Count, Bytes, High, Max} = ep_nif:arrays(),
    #{count => Count, shared_bytes => Bytes, high_water => High, max => Max}.

%% Internal

machine() ->
    case file:read_file("/proc/meminfo") of
        {ok, Text} ->
            {match, [Kilobytes]} = re:run(Text, "^MemTotal:\\s+(\\d+) kB", [multiline, {capture, all_but_first, binary}]),
            binary_to_integer(Kilobytes) * 1024;
        {error, _} ->
            %% /proc is not mounted; the kernel will say when memory is short
            1 bsl 46
    end.

%% The limits of the control group and of those around it: of version 2, or of version 1.
groups() ->
    case file:read_file("/proc/self/cgroup") of
        {ok, Text} -> lists:append([limits(Line) || Line <- binary:split(Text, <<"\n">>, [global, trim])]);
        {error, _} -> []
    end.

limits(Line) ->
    case binary:split(Line, <<":">>, [global]) of
        [<<"0">>, <<>>, Path] -> above("/sys/fs/cgroup", Path, "memory.max");
        [_, <<"memory">>, Path] -> above("/sys/fs/cgroup/memory", Path, "memory.limit_in_bytes");
        _ -> []
    end.

above(Root, Path, Name) ->
    Parts = string:lexemes(unicode:characters_to_list(Path), "/"),
    Directories = [filename:join([Root | lists:sublist(Parts, N)]) || N <- lists:seq(0, length(Parts))],
    lists:append([limit(filename:join(Directory, Name)) || Directory <- Directories]).

limit(File) ->
    case file:read_file(File) of
        {ok, Text} ->
            try
                [Bytes || Bytes <- [binary_to_integer(string:trim(Text))], Bytes > 0]
            catch
                %% max
                error:badarg -> []
            end;
        {error, _} ->
            []
    end.
