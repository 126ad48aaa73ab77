%% SPDX-License-Identifier: Apache-2.0

%% @private Two CPU-bound calls at once on two contexts against the same two one after
%% the other, and next to it what two independent Python processes reach in the same
%% run: no bridge can be faster than the machine.
-module(bench_parallel).

-export([run/1]).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    Python = filename:absname(".venv/bin/python"),
    Numpy = has_numpy(Python),
    More = case filelib:is_regular(Python) of
        true -> #{python => Python};
        false -> #{}
    end,
    ok = bench_app:start(worker, 1),
    Modes = bench_app:modes(),
    Numpy orelse io:format("numpy is not installed in .venv; left out~n"),
    lists:append(
        [mode(worker, "Python", pure(), Python, More, N)] ++
            [mode(worker, "numpy", numpy(), Python, More, N) || Numpy] ++
            [mode(owngil, "Python", pure(), Python, More, N) || lists:member(owngil, Modes)]
    ).

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
mode(Mode, Name, Code, Python, More, N) ->
    ok = bench_app:start(Mode, 2, More),
    Contexts = py_context_router:contexts(),
    [ok = py_context:exec(Ctx, Code) || Ctx <- Contexts],
    Call = fun(Ctx) -> {ok, _} = py_context:call(Ctx, '__main__', work, []) end,
    Servers = [server(Python, Code) || _ <- Contexts],
    lists:foreach(Call, Contexts),
    lists:foreach(fun ask/1, Servers),
    Rounds = [{speed_up(Call, Contexts), speed_up_ports(Servers)} || _ <- lists:seq(1, N)],
    lists:foreach(fun erlang:port_close/1, Servers),
    Theirs = [T || {_, T} <- Rounds],
    Text = "parallel " ++ Name ++ ", " ++ atom_to_list(Mode),
    [
        bench_result:new("parallel", Text ++ ", two OS processes", x, Theirs),
        bench_result:new("parallel", Text ++ ", two contexts", x, [O || {O, _} <- Rounds],
            #{floors => Theirs})
    ].

speed_up(Call, Contexts) ->
    {OneByOne, _} = timer:tc(fun() -> lists:foreach(Call, Contexts) end),
    {AtOnce, _} = timer:tc(fun() ->
        Refs = [spawn_monitor(fun() -> Call(Ctx) end) || Ctx <- Contexts],
        [receive {'DOWN', R, process, P, normal} -> ok end || {P, R} <- Refs]
    end),
    OneByOne / AtOnce.

%% An independent Python process that does the work once for each line it reads.
server(Venv, Code) ->
    Python = case filelib:is_regular(Venv) of
        true -> Venv;
        false -> bench_machine:python()
    end,
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
