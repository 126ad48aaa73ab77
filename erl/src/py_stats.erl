%% SPDX-License-Identifier: Apache-2.0

%% @private What the contexts have done and how long it took. Reads counters; waits for
%% nobody.
-module(py_stats).

-export([get/0]).

-spec get() -> map().
get() ->
    {Current, Max, Waiting} = py_nif:slots(),
    Contexts = [context(Ctx, Lane) || {Ctx, Lane} <- py_context:all()],
    #{atoms_made := Used, max_atoms := MaxAtoms} = Counters = py_nif:counters(),
    #{
        contexts => Contexts,
        semaphore => #{current => Current, max => Max, waiting => Waiting},
        shared_bytes => lists:sum([Bytes || #{shared_bytes := Bytes} <- Contexts]),
        atoms => #{used => Used, max => MaxAtoms},
        wait_backend => maps:get(wait_backend, Counters),
        lost_wake => maps:get(lost_wake, Counters)
    }.

%% Internal

context(Ctx, Lane) ->
    #{queue := Queue, run := Run, reply := Reply} = Stats = py_nif:lane_stats(Lane),
    {Pool, Index, Mode} = place(py_context:info(Ctx)),
    (maps:without([queue, run, reply], Stats))#{
        context => Ctx,
        pool => Pool,
        index => Index,
        mode => Mode,
        replacements => 0,
        latency => #{queue => hist(Queue), run => hist(Run), reply => hist(Reply)}
    }.

place({ok, #{pool := {Pool, Index}, mode := Mode}}) -> {Pool, Index, Mode};
place({ok, #{mode := Mode}}) -> {undefined, undefined, Mode};
place(noproc) -> {undefined, undefined, undefined}.

%% Bucket I counts what took less than 2^I us, and not less than the bucket before.
hist({Count, Sum, Max, Counts}) ->
    Buckets = lists:zip([1 bsl I || I <- lists:seq(0, length(Counts) - 1)], Counts),
    #{
        count => Count,
        sum_us => Sum,
        max_us => Max,
        p50_us => percentile(Count * 50, Buckets, Max),
        p90_us => percentile(Count * 90, Buckets, Max),
        p99_us => percentile(Count * 99, Buckets, Max),
        buckets => Buckets
    }.

%% The upper end of the bucket that it lies in, which no value exceeds.
percentile(Rank, Buckets, Max) -> percentile(Rank, Buckets, 0, Max).

percentile(_Rank, [], _Seen, Max) -> Max;
percentile(0, _Buckets, _Seen, _Max) -> 0;
percentile(Rank, [{_Upper, 0} | Rest], Seen, Max) -> percentile(Rank, Rest, Seen, Max);
percentile(Rank, [{Upper, N} | _], Seen, Max) when (Seen + N) * 100 >= Rank -> min(Upper, Max);
percentile(Rank, [{_Upper, N} | Rest], Seen, Max) -> percentile(Rank, Rest, Seen + N, Max).
