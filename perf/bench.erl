%% SPDX-License-Identifier: Apache-2.0

%% @private The measurements of the library: runs sections, prints a table, writes JSON.
%%
%% A section is a module with run(Options) that returns results (bench_result.erl).
%% Every figure stands next to its floor, which the same section measured in turns
%% with it, so that what disturbs one disturbs the other.
-module(bench).

-export([main/1, sections/0]).

%% In the order in which they run: what needs a quiet machine comes first.
-spec sections() -> [{string(), module()}].
sections() ->
    [
        {"latency", bench_latency},
        {"throughput", bench_throughput},
        {"payload", bench_payload},
        {"arrays", bench_arrays},
        {"quiet", bench_quiet},
        {"callbacks", bench_callbacks},
        {"streams", bench_streams},
        {"messages", bench_messages},
        {"channels", bench_channels},
        {"asyncio", bench_asyncio},
        {"parallel", bench_parallel},
        {"starts", bench_starts},
        {"memory", bench_memory},
        {"sandbox", bench_sandbox},
        {"threads", bench_threads}
    ].

%% Arguments: [--out FILE] [--label TEXT] [--rounds N] [SECTION ...]
-spec main([string()]) -> no_return().
main(Args) ->
    Options = options(Args, #{out => none, label => "plain", rounds => 5, sections => []}),
    ok = application:load(erlang_python),
    %% What starts and stops between the rounds is not worth a line each.
    ok = logger:set_primary_config(level, warning),
    Results = lists:append([run(S, Options) || S <- wanted(maps:get(sections, Options))]),
    Bars = bench_bars:judge(Results),
    bench_table:bars(Bars),
    case Options of
        #{out := none} -> ok;
        #{out := File} -> write(File, document(Options, Results, Bars))
    end,
    halt(0).

options(["--out", File | Rest], Acc) -> options(Rest, Acc#{out := File});
options(["--label", Text | Rest], Acc) -> options(Rest, Acc#{label := Text});
options(["--rounds", N | Rest], Acc) -> options(Rest, Acc#{rounds := list_to_integer(N)});
options(["--" ++ _ = Unknown | _], _Acc) -> stop("unknown option " ++ Unknown);
options([Section | Rest], #{sections := Sections} = Acc) ->
    options(Rest, Acc#{sections := Sections ++ [Section]});
options([], Acc) -> Acc.

wanted([]) ->
    sections();
wanted(Names) ->
    [
        case lists:keyfind(Name, 1, sections()) of
            false -> stop("no section " ++ Name ++ "; there are " ++
                lists:join(" ", [N || {N, _} <- sections()]));
            Section -> Section
        end
     || Name <- Names
    ].

-spec stop(iodata()) -> no_return().
stop(Why) ->
    io:format(standard_error, "bench: ~s~n", [Why]),
    halt(2).

run({Name, Module}, Options) ->
    Start = erlang:monotonic_time(second),
    Results = Module:run(Options),
    _ = application:stop(erlang_python),
    bench_table:results(Name, Results),
    io:format("~w s~n", [erlang:monotonic_time(second) - Start]),
    Results.

document(Options, Results, Bars) ->
    Header = bench_machine:describe(),
    Header#{
        label => iolist_to_binary(maps:get(label, Options)),
        rounds => maps:get(rounds, Options),
        command => iolist_to_binary(["make bench", [[" ", S] || S <- maps:get(sections, Options)]]),
        results => Results,
        bars => Bars
    }.

write(File, Document) ->
    ok = filelib:ensure_dir(File),
    ok = file:write_file(File, [bench_json:encode(Document), $\n]),
    io:format("~nwritten: ~ts~n", [File]).
