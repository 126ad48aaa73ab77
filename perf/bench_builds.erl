%% SPDX-License-Identifier: Apache-2.0

%% @private Compares two builds of the library in one run: each round measures both, each
%% in a VM of its own, one after the other. Their figures then go to one file per build,
%% which make bench-report shows side by side.
-module(bench_builds).

-export([main/1]).

%% Arguments: ROUNDS OUT_DIR LABEL=LIB_DIR LABEL=LIB_DIR SECTION ...
-spec main([string()]) -> no_return().
main([Rounds, Dir, First, Second | Sections]) ->
    Builds = [list_to_tuple(string:split(B, "=")) || B <- [First, Second]],
    Files = [
        [{Label, measure(Label, Lib, Dir, Sections)} || {Label, Lib} <- Builds]
     || _ <- lists:seq(1, list_to_integer(Rounds))
    ],
    Merged = [{Label, merge([proplists:get_value(Label, F) || F <- Files])} || {Label, _} <- Builds],
    [
        bench:write(
            filename:join(Dir, "builds-" ++ Label ++ ".json"),
            bench:document(
                #{label => Label, rounds => length(Files), sections => Sections},
                Results,
                bench_bars:judge(Results)
            )
        )
     || {Label, Results} <- Merged
    ],
    compare(Merged),
    halt(0).

%% The results of one VM, as terms: the child writes them beside its JSON.
measure(Label, Lib, Dir, Sections) ->
    io:format("~s ...~n", [Label]),
    File = filename:join(Dir, "builds-round.term"),
    _ = file:delete(File),
    Flags = ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"],
    Code = "bench:main(init:get_plain_arguments())",
    Port = open_port({spawn_executable, os:find_executable("erl")}, [
        {args,
            ["-noshell"] ++ Flags ++ ["-pa", filename:dirname(code:which(?MODULE)), "-eval", Code] ++
                ["-extra", "--rounds", "1", "--no-ports", "--terms", File | Sections]},
        {env, [{"ERL_LIBS", filename:absname(Lib)}]},
        exit_status,
        {line, 1000}
    ]),
    ok = wait(Port),
    {ok, [Results]} = file:consult(File),
    Results.

wait(Port) ->
    receive
        {Port, {data, _}} -> wait(Port);
        {Port, {exit_status, 0}} -> ok;
        {Port, {exit_status, Status}} -> error({bench, Status})
    end.

%% Each round has one value for each figure.
merge([Round | _] = Rounds) ->
    [merge_one(R, [bench_result:find(binary_to_list(maps:get(name, R)), O) || O <- Rounds]) || R <- Round].

merge_one(#{section := Section, name := Name, unit := Unit} = First, All) ->
    Values = lists:append([maps:get(values, R) || R <- All]),
    Kept = maps:without([values, median, low, high, spread, floor, ratio, floors], First),
    Floors = lists:append([maps:get(floors, R, []) || R <- All]),
    More = case Floors of
        [] -> Kept;
        _ -> Kept#{floors => Floors}
    end,
    bench_result:new(binary_to_list(Section), binary_to_list(Name), Unit, Values, More).

compare([{LabelA, A}, {LabelB, B}]) ->
    io:format("~n~-54s ~12s ~12s ~7s~n", ["medians", LabelA, LabelB, "ratio"]),
    [
        io:format("~-54s ~12.2f ~12.2f ~7.3f~s~n", [
            Name, MedianA, MedianB, MedianB / max(MedianA, 1.0e-9), overlap(RA, RB)
        ])
     || #{name := Name, median := MedianA} = RA <- A,
        #{median := MedianB} = RB <- [bench_result:find(binary_to_list(Name), B)],
        binary:match(Name, [<<"port">>, <<"floor">>]) =:= nomatch
    ].

overlap(#{low := LowA, high := HighA}, #{low := LowB, high := HighB}) when
    LowA =< HighB, LowB =< HighA
->
    "  within the spread";
overlap(_, _) ->
    "".
