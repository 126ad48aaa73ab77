%% SPDX-License-Identifier: Apache-2.0

%% @private One of the two VMs of make bench-pair. Its argument is the name of a row; when
%% that is ready and its callers are parked, it says so on its standard output, and then
%% does what the lines on its standard input say:
%%
%%     ready          nothing runs here until a line comes
%%     burst          the callers call for a burst; the answer is the figure, a float
%%     end            ends callers, workers and the VM; so does the end of the input
%%
%% What goes wrong ends the VM.
-module(bench_turn).

-export([main/1]).

%% Longer than workers and callers of the other VM look for more work before they sleep.
-define(LEAD_MS, 5).

-spec main([string()]) -> no_return().
main([Name]) ->
    %% The clock of a burst is punctual, however many callers would run before it.
    _ = process_flag(priority, high),
    ok = logger:set_primary_config(level, warning),
    ok = application:load(erlang_python),
    #{contexts := Contexts, max_concurrent := Max, callers := N, make := Make} = Row = bench_row:find(Name),
    ok = bench_app:start(worker, Contexts, #{max_concurrent => Max}),
    Callers = bench_callers:start(N, Make),
    %% Pages, code and budgets of waits are not those of a start any more.
    _ = burst(Row, Callers),
    answer("ready"),
    loop(Row, Callers).

loop(Row, Callers) ->
    case io:get_line("") of
        "burst\n" ->
            answer(float_to_list(burst(Row, Callers))),
            loop(Row, Callers);
        Last when Last =:= "end\n"; Last =:= eof ->
            ok = bench_callers:stop(Callers),
            ok = application:stop(erlang_python),
            halt(0)
    end.

answer(Line) ->
    io:put_chars([Line, $\n]).

burst(#{figure := calls, burst_ms := Ms}, Callers) ->
    {ok, Counts, Ns} = bench_callers:burst(Callers, ?LEAD_MS, fun() -> pause(Ms) end),
    lists:sum(Counts) / Ns * 1.0e9;
burst(#{figure := fairness, burst_ms := Ms} = Row, Callers) ->
    {ok, Counts, _} = bench_callers:burst(Callers, ?LEAD_MS, fun() -> pause(Ms) end),
    %% One at least, so that there is a ratio.
    max(1, lists:min(Counts)) * maps:get(callers, Row) / lists:sum(Counts);
burst(#{figure := ping, burst_ms := Ms}, Callers) ->
    {Trips, _, _} = bench_callers:burst(Callers, ?LEAD_MS, fun() -> bench_ping:trips(Ms) end),
    bench_result:nanoseconds(bench_result:percentile(Trips, 99)) / 1000.

pause(Ms) ->
    receive
    after Ms -> ok
    end.
