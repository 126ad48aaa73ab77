%% SPDX-License-Identifier: Apache-2.0

%% @doc A worker that lies, beside one that does not. Attacks come one after the other,
%% each in a new worker with new contexts; in turns with them another worker only burns a
%% CPU, so that it can be told what the attacks cost the neighbour.
%%
%% evil:main([Seconds, Seed, Worker, Corpus | Options]): as many seconds of attacks. Seconds
%% once: each attack once. Options: `skip=NAME', `only=NAME', `rows' for the tests of numbers.
-module(evil).

-export([main/1]).

-define(BLOCK_MS, 4000).
-define(SCENE_MS, 40000).
-define(ROW_MS, 120000).
%% The largest result of a liar that is true to its length.
-define(LARGE, (100 bsl 20)).
-define(WARM_ATTACKS, 20).
-define(WORST, 3).


-record(run, {
    worker :: binary(),
    neighbour :: pid(),
    deadline :: integer() | once,
    random :: rand:state(),
    skip :: [atom()],
    block_ms = 0 :: integer(),
    evil_ms = 0 :: integer(),
    attacks = 0 :: non_neg_integer(),
    segments = 0 :: non_neg_integer(),
    calls = 0 :: non_neg_integer(),
    ended = #{} :: #{term() => pos_integer()},
    slowest = 0 :: non_neg_integer(),
    %% how long the neighbour's longest call took during an attack, us
    longest = [] :: [{non_neg_integer(), evil_attacks:attack()}],
    failed = [] :: [{evil_attacks:attack() | control, [term()]}]
}).

-spec main([string()]) -> no_return().
main([Seconds, Seed, Worker, Corpus | Options]) ->
    ok = start_application(),
    Run = #run{
        worker = unicode:characters_to_binary(Worker),
        neighbour = evil_neighbour:start(),
        deadline = once,
        random = rand:seed_s(exsss, list_to_integer(Seed)),
        skip = skipped(Options)
    },
    Before = warm(Run),
    Ran = attacks(Seconds, Corpus, Run#run{segments = evil_baseline:segments()}),
    Rows = rows(Options, Run),
    Results = evil_neighbour:stop(Run#run.neighbour),
    Checks = Rows ++ checks(Before, Results, Ran),
    report(Checks, Results, Seed, Ran),
    halt(length([no || {_, {no, _}} <- Checks]) + length(Ran#run.failed)).

%% Internal

start_application() ->
    ok = logger:set_primary_config(level, critical),
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, num_contexts, 1),
    %% So that the calls that a liar does not answer keep no others from running.
    ok = application:set_env(erlang_python, max_concurrent, 5000),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = py_callback:register(<<"evil_wait">>, fun evil_caller:wait/1),
    ok = py_callback:register(<<"evil_now">>, fun evil_caller:now/1),
    ok = py_callback:register(<<"evil_slow">>, fun evil_caller:slow/1).

skipped(Options) ->
    Names = evil_attacks:names(),
    named(Options, "skip=") ++
        case named(Options, "only=") of
            [] -> [];
            Only -> Names -- Only
        end.

named(Options, Prefix) ->
    [
        Name
     || Option <- Options,
        Name <- evil_attacks:names(),
        Option =:= Prefix ++ atom_to_list(Name)
    ].

%% What is made once and stays is there before anything is counted.
warm(Run = #run{random = Random}) ->
    {[Harmless], _} = evil_attacks:plan(Random, evil_attacks:names() -- [word_cpu]),
    Warm = lists:foldl(fun attack/2, Run, lists:duplicate(?WARM_ATTACKS, Harmless)),
    [] = Warm#run.failed,
    _ = burn(Run, 200),
    ok = large_binaries(2),
    evil_baseline:take().

%% The VM keeps the memory of some large binaries for the next ones, those that dirty
%% schedulers make apart; a liar may send such results.
large_binaries(N) ->
    Path = "_build/evil/zeros",
    {ok, File} = file:open(Path, [write, raw]),
    {ok, _} = file:position(File, ?LARGE),
    ok = file:truncate(File),
    ok = file:close(File),
    {Pid, Ref} = spawn_monitor(fun() ->
        Binaries = [element(2, file:read_file(Path)) || _ <- lists:seq(1, N)],
        exit({sizes, [byte_size(B) || B <- Binaries]})
    end),
    receive
        {'DOWN', Ref, process, Pid, {sizes, [?LARGE | _]}} -> file:delete(Path)
    end.

attacks(Seconds, Corpus, Run) ->
    Replayed = evil(replay(Corpus), Run),
    {Once, Random} = evil_attacks:once(Replayed#run.random, Run#run.skip),
    All = evil(Once, Replayed#run{random = Random}),
    case Seconds of
        "once" -> finish_block(All);
        _ -> until(list_to_integer(Seconds) * 1000, All)
    end.

until(Ms, Run = #run{evil_ms = Done}) when Done >= Ms ->
    finish_block(Run);
until(Ms, Run = #run{random = Random, skip = Skip}) ->
    {Plan, Next} = evil_attacks:plan(Random, Skip),
    until(Ms, evil_while(Plan, Ms, Run#run{random = Next})).

evil_while([Attack | Plan], Ms, Run = #run{evil_ms = Done}) when Done < Ms ->
    evil_while(Plan, Ms, evil([Attack], Run));
evil_while(_Plan, _Ms, Run) ->
    Run.

replay(Corpus) ->
    {ok, Text} = file:read_file(Corpus),
    Lines = string:lexemes(binary_to_list(Text), "\n"),
    [evil_attacks:parse(Line) || Line = [C | _] <- Lines, C =/= $#].

%% Attacks and control take turns.
evil([], Run) ->
    Run;
evil([Attack | Attacks], Run = #run{neighbour = Neighbour}) ->
    _ = evil_neighbour:phase(Neighbour, evil),
    Start = erlang:monotonic_time(millisecond),
    Attacked = leaves(Attack, attack(Attack, Run)),
    Took = erlang:monotonic_time(millisecond) - Start,
    Longest = evil_neighbour:phase(Neighbour, off),
    Next = Attacked#run{
        evil_ms = Run#run.evil_ms + Took,
        block_ms = Run#run.block_ms + Took,
        longest = lists:sublist(lists:reverse(lists:sort([{Longest, Attack} | Run#run.longest])), ?WORST)
    },
    case Next#run.block_ms >= ?BLOCK_MS of
        true -> evil(Attacks, finish_block(Next));
        false -> evil(Attacks, Next)
    end.

finish_block(Run = #run{neighbour = Neighbour, block_ms = Ms}) ->
    _ = evil_neighbour:phase(Neighbour, control),
    {Pid, Ref} = spawn_monitor(fun() -> burn(Run, Ms) end),
    Ended =
        receive
            {'DOWN', Ref, process, Pid, Reason} -> Reason
        end,
    _ = evil_neighbour:phase(Neighbour, off),
    Burnt = Run#run{block_ms = 0},
    case Ended of
        normal -> Burnt;
        _ -> failed(control, [Ended], Burnt)
    end.

burn(#run{worker = Worker}, Ms) ->
    {ok, Host} = evil_host:start(Worker),
    Ctx = evil_host:context(Host, 1, #{}),
    {ok, _} = py:call(Ctx, evil, burn_cpu, [1, 0, 1, Ms]),
    {ok, _} = py:call(Ctx, evil, sleep, [Ms], #{}, infinity),
    ok = py_context:stop(Ctx),
    {0, []} = evil_host:stop(Host),
    receive
        {evil_host, Host, {exited, 0}} -> ok
    end,
    evil_host:close(Host).

attack(Attack, Run = #run{worker = Worker}) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({report, evil_scene:run(Attack, Worker)}) end),
    receive
        {'DOWN', Ref, process, Pid, {report, Report}} ->
            add(Attack, Report, Run);
        {'DOWN', Ref, process, Pid, Reason} ->
            failed(Attack, [{scene, Reason}], Run)
    after ?SCENE_MS ->
        Where = process_info(Pid, current_stacktrace),
        true = exit(Pid, kill),
        receive
            {'DOWN', Ref, process, Pid, _} -> failed(Attack, [{hangs, Where}], Run)
        end
    end.

%% Tells at once who leaves a worker's memory mapped.
leaves(Attack, Run = #run{segments = Before}) ->
    case evil_baseline:has_segments(Before) of
        true ->
            Run;
        false ->
            Now = evil_baseline:segments(),
            failed(Attack, [{leaves_segments, Now - Before}], Run#run{segments = Now})
    end.

add(Attack, #{faults := Faults, ended := Ended, calls := Calls, error_ms := Ms}, Run) ->
    Counted = Run#run{
        attacks = Run#run.attacks + 1,
        calls = Run#run.calls + Calls,
        slowest = max(Ms, Run#run.slowest),
        ended = maps:update_with(Ended, fun(N) -> N + 1 end, 1, Run#run.ended)
    },
    case Faults of
        [] -> Counted;
        _ -> failed(Attack, Faults, Counted)
    end.

failed(Attack, Faults, Run = #run{failed = Failed}) ->
    Text =
        case Attack of
            control -> "control";
            _ -> evil_attacks:text(Attack)
        end,
    io:format("failed: ~s~n    ~0tP~n", [Text, lists:sublist(Faults, 3), 40]),
    Run#run{failed = [{Attack, Faults} | Failed]}.

rows(Options, #run{worker = Worker, neighbour = Neighbour}) ->
    case lists:member("rows", Options) of
        true ->
            row(forged, fun() -> evil_rows:forged(Worker, Neighbour) end) ++
                row(threads, fun evil_rows:threads/0);
        false ->
            []
    end.

%% In a process of its own: a failure of one leaves the others.
row(Name, Fun) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({checks, Fun()}) end),
    receive
        {'DOWN', Ref, process, Pid, {checks, Checks}} -> Checks;
        {'DOWN', Ref, process, Pid, Reason} -> [{Name, {no, Reason}}]
    after ?ROW_MS ->
        true = exit(Pid, kill),
        [{Name, {no, hangs}}]
    end.

%% What has to be true in the end.

checks(Before, Results = #{control := Control}, Run) ->
    Above = evil_baseline:above(Before),
    Longer = evil_times:longer(evil_times:read()),
    ControlP99 = evil_neighbour:percentile(99, Control),
    Bar = max(3 * ControlP99, ControlP99 + 4000),
    [
        {nothing_left, yes_or_no(map_size(Above) =:= 0, Above)},
        {attacked, yes_or_no(Run#run.attacks > 0, Run#run.attacks)},
        {no_nif_takes_a_millisecond, yes_or_no(Longer =:= [], Longer)}
    ] ++ lists:append([neighbour(Phase, maps:get(Phase, Results), Bar) || Phase <- [evil, forged]]).

neighbour(_Phase, #{calls := 0}, _Bar) ->
    [];
neighbour(Phase, Result = #{wrong := Wrong}, Bar) ->
    P99 = evil_neighbour:percentile(99, Result),
    [
        {neighbour_right, yes_or_no(Wrong =:= [], {Phase, Wrong})},
        {neighbour_quick, yes_or_no(P99 =< Bar, {Phase, p99_us, P99, bar_us, Bar})}
    ].

yes_or_no(true, _) -> yes;
yes_or_no(false, Why) -> {no, Why}.

report(Checks, #{control := Control, evil := Evil, forged := Forged}, Seed, Run) ->
    Failed = [{Check, Why} || {Check, {no, Why}} <- Checks],
    [io:format("failed: ~s ~0tP~n", [Check, Why, 40]) || {Check, Why} <- Failed],
    N = length(Run#run.failed),
    [io:format("longest call of the neighbour: ~b us: ~s~n", [Us, evil_attacks:text(A)]) || {Us, A} <- Run#run.longest],
    io:format("evil: seed ~s, ~b attacks in ~b s, ~b calls, ended ~0tp, slowest answer ~b ms; "
              "neighbour p50/p99/max us: control ~b/~b/~b, evil ~b/~b/~b of ~b calls, forged ~b/~b/~b; "
              "longest nif ~0tp, long by what the host withheld ~b~n",
              [Seed, Run#run.attacks, Run#run.evil_ms div 1000, Run#run.calls, maps:to_list(Run#run.ended),
               Run#run.slowest] ++ figures(Control) ++ figures(Evil) ++ [maps:get(calls, Evil)] ++ figures(Forged) ++
                  [hd(evil_times:read()), evil_times:stolen(evil_times:read())]),
    io:format("~b passed, ~b failed~n",
              [Run#run.attacks - N + length(Checks) - length(Failed), N + length(Failed)]).

figures(#{calls := 0}) ->
    [0, 0, 0];
figures(Result) ->
    [evil_neighbour:percentile(P, Result) || P <- [50, 99, 100]].
