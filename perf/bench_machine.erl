%% SPDX-License-Identifier: Apache-2.0

%% @private Where a measurement ran: kind of machine and versions, no names.
-module(bench_machine).

-export([describe/0, python/0, perf_file/1]).

-spec describe() -> map().
describe() ->
    #{
        machine => #{
            cpu => cpu(),
            cpus => erlang:system_info(logical_processors_available),
            virtual => virtual(),
            kernel => line("uname -r"),
            system => line(". /etc/os-release && echo \"$PRETTY_NAME\"")
        },
        versions => #{
            otp => list_to_binary(erlang:system_info(otp_release)),
            erts => list_to_binary(erlang:system_info(version)),
            emulator => erlang:system_info(emu_flavor),
            python => line(python() ++ " -c 'import sys; print(sys.version.split()[0])'"),
            compiler => line("cc -dumpfullversion"),
            commit => line("git rev-parse --short HEAD 2>/dev/null")
        },
        date => list_to_binary(calendar:system_time_to_rfc3339(erlang:system_time(second), [
            {offset, "Z"}
        ]))
    }.

%% @doc The Python that the workers embed: baselines use the same.
-spec python() -> string().
python() ->
    case file:read_file("_build/python") of
        {ok, Path} -> string:trim(binary_to_list(Path));
        {error, _} -> "python3"
    end.

%% @doc A program or library that CMake built from perf/.
-spec perf_file(string()) -> file:filename().
perf_file(Name) ->
    filename:absname(filename:join("_build/cmake/perf", Name)).

cpu() ->
    {ok, Text} = file:read_file("/proc/cpuinfo"),
    case re:run(Text, "model name\\s*: (.*)", [{capture, [1], binary}]) of
        {match, [Name]} -> Name;
        nomatch -> <<"unknown">>
    end.

virtual() ->
    {ok, Text} = file:read_file("/proc/cpuinfo"),
    binary:match(Text, <<" hypervisor">>) =/= nomatch.

line(Command) ->
    unicode:characters_to_binary(string:trim(os:cmd(Command))).
