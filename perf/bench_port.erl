%% SPDX-License-Identifier: Apache-2.0

%% @private What a user would pick instead: a port program with {packet, 4} and a
%% resident Python that answers external terms (port_server.py).
%%
%% One caller owns the port itself, which is the fastest way to use one. Many callers
%% go through a process that owns it, numbers their requests and passes replies on
%% as they come, without waiting for one before it sends the next.
-module(bench_port).

-export([open/0, call/4]).
-export([start/0, stop/1, call_server/4]).

-spec open() -> port().
open() ->
    Python = bench_machine:python(),
    open_port({spawn_executable, Python}, [
        {args, ["-u", filename:absname("perf/port_server.py")]}, {packet, 4}, binary, exit_status
    ]).

%% @doc By the owner of the port.
-spec call(port(), atom(), atom(), list()) -> term().
call(Port, M, F, Args) ->
    true = port_command(Port, term_to_binary({0, M, F, Args})),
    receive
        {Port, {data, Bytes}} ->
            {0, Answer} = binary_to_term(Bytes),
            Answer;
        {Port, {exit_status, Status}} ->
            error({port_server, Status})
    end.

-spec start() -> pid().
start() ->
    spawn_link(fun() -> loop(open(), 0, #{}) end).

-spec stop(pid()) -> ok.
stop(Server) ->
    true = unlink(Server),
    Ref = monitor(process, Server),
    exit(Server, kill),
    receive
        {'DOWN', Ref, process, Server, _} -> ok
    end.

-spec call_server(pid(), atom(), atom(), list()) -> term().
call_server(Server, M, F, Args) ->
    Ref = make_ref(),
    Server ! {self(), Ref, M, F, Args},
    receive
        {Ref, Answer} -> Answer
    end.

loop(Port, Next, Waiting) ->
    receive
        {Caller, Ref, M, F, Args} ->
            true = port_command(Port, term_to_binary({Next, M, F, Args})),
            loop(Port, Next + 1, Waiting#{Next => {Caller, Ref}});
        {Port, {data, Bytes}} ->
            {Id, Answer} = binary_to_term(Bytes),
            {{Caller, Ref}, Rest} = maps:take(Id, Waiting),
            Caller ! {Ref, Answer},
            loop(Port, Next, Rest)
    end.
