%% SPDX-License-Identifier: Apache-2.0

%% @private One of two builds that take turns, as its conductor sees it: a VM of its own,
%% told what to do by lines (bench_turn.erl). It ends with the process that started it.
-module(bench_side).

-export([start/2, ready/1, burst/1, stop/1]).

-export_type([build/0, side/0]).

%% Ebin holds the library, driver the modules of perf/ compiled for it.
-type build() :: #{label := string(), ebin := file:filename(), driver := file:filename()}.
-opaque side() :: {Label :: string(), port()}.

%% An answer takes a burst, or the start of a VM.
-define(ANSWER_MS, 60000).

%% @doc A VM that gets ready for a row, while others do.
-spec start(build(), Row :: string()) -> side().
start(#{label := Label, ebin := Ebin, driver := Driver}, Row) ->
    %% Schedulers that look for work a while take the CPU that a worker needs.
    Quiet = ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"],
    %% The standard output is for answers.
    Log = ["-kernel", "logger", "[{handler, default, logger_std_h, #{config => #{type => standard_error}}}]"],
    Code = ["-pa", Driver, Ebin, "-eval", "bench_turn:main(init:get_plain_arguments())", "-extra", Row],
    Port = open_port({spawn_executable, os:find_executable("erl")}, [
        {args, ["-noshell"] ++ Quiet ++ Log ++ Code},
        exit_status,
        {line, 200}
    ]),
    {Label, Port}.

%% @doc From here on it does nothing until it is asked.
-spec ready(side()) -> ok.
ready(Side) ->
    "ready" = answer(Side),
    ok.

%% @doc The figure of one burst.
-spec burst(side()) -> float().
burst({_Label, Port} = Side) ->
    true = port_command(Port, "burst\n"),
    list_to_float(answer(Side)).

-spec stop(side()) -> ok.
stop({_Label, Port} = Side) ->
    true = port_command(Port, "end\n"),
    {exit_status, 0} = answer(Side),
    ok.

answer({Label, Port}) ->
    receive
        {Port, {data, {eol, Line}}} -> Line;
        {Port, {exit_status, 0}} -> {exit_status, 0};
        {Port, {exit_status, Status}} -> error({side, Label, {exit_status, Status}})
    after ?ANSWER_MS -> error({side, Label, no_answer})
    end.
