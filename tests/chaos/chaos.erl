%% SPDX-License-Identifier: Apache-2.0

%% @doc make chaos: callers under a storm of faults, and the laws that hold all the same.
%% `KILLS=2000 SEED=1', FAULTS="kill stop" for some kinds only, CALLERS=4 for less to do.
-module(chaos).

-include("chaos.hrl").

-export([main/0, storm/3, directory/0, clear_marks/1, one_clock/0]).

-define(CALLERS, 14).
%% Kills from which on latencies are judged.
-define(JUDGED_KILLS, 1000).
-define(ERROR_P99_MS, 20).
-define(SERVING_P99_MS, 150).
-define(BACK_MS, 1000).
-define(SETTLE_MS, 10000).

-spec main() -> no_return().
main() ->
    Kills = number("KILLS", 100),
    Seed = number("SEED", 1),
    Kinds = kinds(os:getenv("FAULTS", "")),
    ok = chaos_report:create(),
    ok = quiet(),
    [chaos_report:check(["checker: ", Name], Ok, Detail) || {Name, Ok, Detail} <- chaos_checker_cases:run()],
    Dir = directory(),
    ok = storm_and_leaks(Kills, Seed, Kinds, Dir),
    ok = file:del_dir_r(Dir),
    Ok = chaos_report:finish(),
    halt(case Ok of true -> 0; false -> 1 end).

%% @doc One storm on targets that run; its history and how many faults of each kind hit.
-spec storm([chaos_nemesis:fault()], integer(), file:filename()) -> {#history{}, #{atom() => integer()}}.
storm(Faults, Seed, Dir) ->
    Load = chaos_load:start(number("CALLERS", ?CALLERS), Seed),
    Counts = chaos_nemesis:run(Faults, Load),
    ok = chaos_load:stop(Load),
    {chaos_history:dump(Dir), Counts}.

%% @doc A new directory for what Python writes, and the environment of the processes that
%% start from now on.
-spec directory() -> file:filename().
directory() ->
    Dir = filename:join(["_build", "chaos", "run." ++ os:getpid()]),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    true = os:putenv("EP_CHAOS_DIR", filename:absname(Dir)),
    true = os:putenv("PYTHONPATH", py_test:python_dir()),
    true = os:putenv("PYTHONDONTWRITEBYTECODE", "1"),
    Dir.

%% Internal

number(Name, Default) ->
    case os:getenv(Name, "") of
        "" -> Default;
        Text -> list_to_integer(Text)
    end.

kinds("") -> [Kind || {Kind, _} <- chaos_nemesis:kinds()];
kinds(Text) -> [list_to_atom(Word) || Word <- string:lexemes(Text, " ,")].

%% Thousands of deaths are reported otherwise.
quiet() ->
    logger:set_primary_config(level, case os:getenv("EP_CHAOS_LOG") of false -> none; Level -> list_to_atom(Level) end).

storm_and_leaks(Kills, Seed, Kinds, Dir) ->
    ok = chaos_history:create(),
    _ = [{module, _} = code:ensure_loaded(M) || M <- [chaos_nemesis, chaos_checker, io_lib_pretty]],
    _ = chaos_leaks:snapshot(),
    Bare = in_process(fun() -> first_round(Dir) end, fun() -> chaos_leaks:bare(?SETTLE_MS) end),
    Differs = in_process(
        fun() -> second_round(Kills, Seed, Kinds, Dir) end,
        fun() -> py_test:settle(fun() -> chaos_leaks:compare(Bare, chaos_leaks:snapshot()) end, ?SETTLE_MS) end
    ),
    chaos_report:check("a stopped application leaves nothing", Differs =:= [], Differs),
    chaos_history:destroy().

%% What a process that used Python refers to ends with it.
in_process(Fun, After) ->
    {Pid, Ref} = spawn_monitor(Fun),
    receive
        {'DOWN', Ref, process, Pid, Reason} -> normal = Reason
    end,
    After().

first_round(Dir) ->
    %% The first round makes what stays: code, atoms, tables.
    ok = chaos_targets:start(),
    {ok, Modules} = application:get_key(erlang_python, modules),
    ok = code:ensure_modules_loaded(Modules),
    ok = one_clock(),
    ok = chaos_load:register_callbacks(),
    ok = chaos_load:one_of_each(),
    ok = chaos_targets:stop(),
    ok = chaos_history:clear(),
    clear_marks(Dir).

second_round(Kills, Seed, Kinds, Dir) ->
    ok = chaos_targets:start(),
    ok = chaos_load:register_callbacks(),

    Start = erlang:monotonic_time(millisecond),
    Cpu = cpu(),
    {History, Counts} = storm(chaos_nemesis:plan(Kills, Seed, Kinds), Seed, Dir),
    Seconds = (erlang:monotonic_time(millisecond) - Start) / 1000,
    Idle = idle(Cpu, cpu()),
    chaos_report:check("everything serves after the storm", is_ok(chaos_targets:all_serve(5000)), chaos_targets:all_serve(1000)),
    Left = py_test:settle(fun chaos_leaks:running/0, ?SETTLE_MS),
    chaos_report:check("an idle application holds nothing of what was", Left =:= [], Left),
    ok = judge(History, Counts, Seconds, Idle),
    ok = chaos_targets:stop(),
    chaos_history:clear().

is_ok({ok, _}) -> true;
is_ok(_) -> false.

%% @doc Marks of Python and of this VM are compared.
-spec one_clock() -> ok.
one_clock() ->
    {ok, There} = py:call(ep_chaos, monotonic_ns, []),
    Here = chaos_history:now_ns(),
    true = abs(Here - There) < 1000000000,
    ok.

%% @doc Forgets what Python has written so far.
-spec clear_marks(file:filename()) -> ok.
clear_marks(Dir) ->
    %% Workers have them open.
    [ok = file:write_file(filename:join(Dir, Name), <<>>) || Name <- ["begun", "deaths"]],
    ok.

%% What all CPUs have done since the start of the system, and how much of it was nothing.
cpu() ->
    {ok, Text} = file:read_file("/proc/stat"),
    [<<"cpu">> | Numbers] = string:lexemes(hd(binary:split(Text, <<"\n">>)), " "),
    Ticks = [binary_to_integer(N) || N <- Numbers],
    {lists:sum(Ticks), lists:nth(4, Ticks)}.

%% Percent.
idle({All0, Idle0}, {All1, Idle1}) ->
    100 * (Idle1 - Idle0) / max(1, All1 - All0).

judge(History = #history{requests = Requests, events = Events}, Counts, Seconds, Idle) ->
    Violations = chaos_checker:check(History),
    Laws = [lost, doubled, wrong, stray, hanging, begun, items],
    [
        chaos_report:check([atom_to_list(Law), " requests: none"], Bad =:= [], {length(Bad), lists:sublist(Bad, 3)})
     || Law <- Laws, Bad <- [[V || V = {L, _, _} <- Violations, L =:= Law]]
    ],
    #{errors := Errors, stops := Stops, serving := Serving} = chaos_checker:latencies(History),
    Backs = [{Ms, Name} || {_, {back, Name, Ms}} <- Events],
    {E50, E99, Emax} = chaos_report:percentiles(Errors),
    {S50, S99, Smax} = chaos_report:percentiles(Stops),
    {R50, R99, Rmax} = chaos_report:percentiles(Serving),
    {B50, B99, Bmax} = chaos_report:percentiles([Ms || {Ms, _} <- Backs, is_number(Ms)]),
    Bad = lists:sort([Back || Back = {Ms, _} <- Backs, Ms > ?BACK_MS]),
    %% Of a few deaths the p99 is the slowest one, which says how busy the machine was.
    case lists:sum(maps:values(Counts)) >= ?JUDGED_KILLS of
        true ->
            chaos_report:check("error latency p99", E99 =< ?ERROR_P99_MS, {E50, E99, Emax}),
            chaos_report:check("serving again p99", R99 =< ?SERVING_P99_MS, {R50, R99, Rmax});
        false ->
            ok
    end,
    chaos_report:check("everything back within a second of a child's death", Bad =:= [], {length(Bad), Bad}),
    %% Without it a process that is killed waits for a CPU to end, and latencies say how busy the machine was.
    io:format("the CPUs were idle for ~.1f %~n", [float(Idle)]),
    io:format("faults: ~ts~n", [[io_lib:format(" ~s ~b", [K, N]) || {K, N} <- lists:sort(maps:to_list(Counts))]]),
    io:format("requests:~ts~n", [kinds_line(Requests)]),
    io:format(
        "kills ~b, requests ~b in ~.1f s; lost ~b doubled ~b wrong ~b stray ~b hanging ~b begun ~b items ~b; "
        "error after death ~.1f/~.1f/~.1f ms (~b), after stop ~.1f/~.1f/~.1f (~b), serving again ~.1f/~.1f/~.1f (~b), "
        "back after a child ~.1f/~.1f/~.1f (~b)~n",
        [lists:sum(maps:values(Counts)), length(Requests), Seconds] ++
            [chaos_report:count(Law, Violations) || Law <- Laws] ++
            [float(X) || X <- [E50, E99, Emax]] ++ [length(Errors)] ++
            [float(X) || X <- [S50, S99, Smax]] ++ [length(Stops)] ++
            [float(X) || X <- [R50, R99, Rmax]] ++ [length(Serving)] ++
            [float(X) || X <- [B50, B99, Bmax]] ++ [length(Backs)]
    ).

kinds_line(Requests) ->
    Counts = lists:foldl(
        fun(#request{kind = K}, Acc) -> maps:update_with(K, fun(N) -> N + 1 end, 1, Acc) end, #{}, Requests
    ),
    [io_lib:format(" ~s ~b", [K, N]) || {K, N} <- lists:sort(maps:to_list(Counts))].
