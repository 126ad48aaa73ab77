%% SPDX-License-Identifier: Apache-2.0

%% @private What nothing can beat: runs the C programs floor_*.c, and the NIF.
-module(bench_floor).

-export([call/0, clock/0, program/1, program/2]).

%% @doc Parts and sum of the floor of one call, in ns: an empty NIF call, a cache line
%% to another process and back, the same Python call through the C API.
-spec call() -> #{empty := float(), line := float(), python := float(), total := float()}.
call() ->
    #{"line" := Line} = program("floor_line"),
    #{"call" := Python} = program("floor_py", ["call"]),
    Samples = bench_result:samples(fun() -> ep_nif:empty() end, 50000),
    Empty = max(0.0, bench_result:nanoseconds(bench_result:median(Samples)) - clock()),
    #{empty => Empty, line => Line, python => Python, total => Empty + Line + Python}.

%% @doc What timing a call costs itself, in ns; subtracted from small figures.
-spec clock() -> float().
clock() ->
    bench_result:nanoseconds(bench_result:median(bench_result:samples(fun() -> ok end, 50000))).

-spec program(string()) -> #{string() => float()}.
program(Name) ->
    program(Name, []).

%% @doc Runs a program that prints lines `NAME NUMBER'.
-spec program(string(), [string()]) -> #{string() => float()}.
program(Name, Args) ->
    Path = bench_machine:perf_file(Name),
    Port = open_port({spawn_executable, Path}, [exit_status, {line, 100}, {args, Args}]),
    lines(Port, Name, #{}).

lines(Port, Name, Acc) ->
    receive
        {Port, {data, {eol, Text}}} ->
            [Key, Number] = string:lexemes(Text, " "),
            lines(Port, Name, Acc#{Key => list_to_float(Number)});
        {Port, {exit_status, 0}} ->
            Acc;
        {Port, {exit_status, Status}} ->
            error({failed, Name, Status})
    after 60000 -> error({no_answer, Name})
    end.
