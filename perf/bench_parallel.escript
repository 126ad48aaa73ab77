#!/usr/bin/env escript
%% SPDX-License-Identifier: Apache-2.0
%%! +sbwt none
%%
%% Two CPU-bound calls at once on two contexts against the same two one after the
%% other, and next to it what two independent Python processes reach in the same
%% run: no bridge can be faster than the machine.
%%
%% Usage: make bench-parallel
-mode(compile).

-define(ROUNDS, 5).

main(_) ->
    ok = application:load(erlang_python),
    Python = filename:absname(".venv/bin/python"),
    Numpy = has_numpy(Python),
    filelib:is_regular(Python) andalso application:set_env(erlang_python, python, Python),
    io:format("~b CPUs, OTP ~s; medians of ~b rounds~n", [
        erlang:system_info(logical_processors_available), erlang:system_info(otp_release), ?ROUNDS
    ]),
    ok = mode(worker, "pure Python", pure(), Python),
    ok = case Numpy of
        true -> mode(worker, "numpy", numpy(), Python);
        false -> io:format("numpy is not installed in .venv; skipped~n")
    end,
    _ = start(worker),
    case py:subinterp_supported() of
        true -> ok = mode(owngil, "pure Python", pure(), Python);
        false -> io:format("owngil needs Python 3.12; skipped~n")
    end,
    application:stop(erlang_python).

pure() ->
    "def work():\n"
    "    total = 0\n"
    "    for i in range(5000000):\n"
    "        total += i * i % 7\n"
    "    return total\n".

numpy() ->
    "import numpy\n"
    "x = numpy.arange(20000, dtype='float64')\n"
    "def work():\n"
    "    y = x\n"
    "    for _ in range(12000):\n"
    "        y = numpy.sqrt(y * y + 1.0)\n"
    "    return float(y.sum())\n".

%% Ours and theirs take turns, so that what disturbs one disturbs the other.
mode(Mode, Name, Code, Python) ->
    Contexts = start(Mode),
    [ok = py_context:exec(Ctx, Code) || Ctx <- Contexts],
    Call = fun(Ctx) -> {ok, _} = py_context:call(Ctx, '__main__', work, []) end,
    Servers = [server(Python, Code) || _ <- Contexts],
    lists:foreach(Call, Contexts),
    lists:foreach(fun ask/1, Servers),
    Rounds = [
        {speed_up(Call, Contexts), speed_up_ports(Servers)}
     || _ <- lists:seq(1, ?ROUNDS)
    ],
    lists:foreach(fun erlang:port_close/1, Servers),
    Ours = median([O || {O, _} <- Rounds]),
    Machine = median([M || {_, M} <- Rounds]),
    io:format("~-7s ~-12s two contexts ~.2f, two OS processes ~.2f times as fast; ratio ~.2f~n", [
        Mode, Name, Ours, Machine, Ours / Machine
    ]),
    case Ours >= 1.9 orelse Ours >= 0.95 * Machine of
        true -> ok;
        false -> io:format("        below both 1.9 and 0.95 x two OS processes~n")
    end.

start(Mode) ->
    _ = application:stop(erlang_python),
    ok = application:set_env(erlang_python, num_contexts, 2),
    ok = application:set_env(erlang_python, context_mode, Mode),
    {ok, _} = application:ensure_all_started(erlang_python),
    py_context_router:contexts().

speed_up(Call, Contexts) ->
    {OneByOne, _} = timer:tc(fun() -> lists:foreach(Call, Contexts) end),
    {AtOnce, _} = timer:tc(fun() ->
        Refs = [spawn_monitor(fun() -> Call(Ctx) end) || Ctx <- Contexts],
        [receive {'DOWN', R, process, P, normal} -> ok end || {P, R} <- Refs]
    end),
    OneByOne / AtOnce.

%% An independent Python process that does the work once for each line it reads.
server(Python, Code) ->
    Loop = "\nimport sys\nfor line in sys.stdin:\n    work()\n    print('done', flush=True)\n",
    open_port({spawn_executable, Python}, [{args, ["-c", Code ++ Loop]}, {line, 80}]).

ask(Port) ->
    port_command(Port, "go\n"),
    answer(Port).

answer(Port) ->
    receive {Port, {data, {eol, "done"}}} -> ok end.

speed_up_ports(Ports) ->
    {OneByOne, _} = timer:tc(fun() -> lists:foreach(fun ask/1, Ports) end),
    {AtOnce, _} = timer:tc(fun() ->
        [port_command(P, "go\n") || P <- Ports],
        lists:foreach(fun answer/1, Ports)
    end),
    OneByOne / AtOnce.

has_numpy(Python) ->
    filelib:is_regular(Python) andalso
        string:find(os:cmd(Python ++ " -c 'import numpy; print(1)' 2>&1"), "1\n") =/= nomatch.

median(Values) ->
    lists:nth((length(Values) + 1) div 2, lists:sort(Values)).
