%% SPDX-License-Identifier: Apache-2.0

%% @private What the contexts have done, how long it took, and what their processes use.
%% Reads counters, and files of /proc; waits for nobody.
-module(py_stats).

-export([get/0]).

-spec get() -> map().
get() ->
    ok = py_error_info:ensure_started(),
    {Current, Max, Waiting} = ep_nif:slots(),
    Contexts = with_usage(lists:sort(fun is_before/2, [context(C, L) || {C, L} <- py_context_table:all()])),
    #{atoms_made := Used, max_atoms := MaxAtoms} = Counters = ep_nif:counters(),
    Arrays = #{shared_bytes := ArrayBytes} = py_shared_memory:stats(),
    #{
        contexts => Contexts,
        semaphore => #{current => Current, max => Max, waiting => Waiting},
        shared_bytes => ArrayBytes + lists:sum([Bytes || #{shared_bytes := Bytes} <- Contexts]),
        arrays => Arrays,
        objects => objects(ep_nif:objects()),
        atoms => #{used => Used, max => MaxAtoms},
        wait_backend => maps:get(wait_backend, Counters),
        lost_wake => maps:get(lost_wake, Counters)
    }.

%% Internal

%% What the VM keeps for both sides.
objects({Channels, ByteChannels, Buffers, Dicts}) ->
    maps:map(fun(_Kind, {Count, Bytes}) -> #{count => Count, bytes => Bytes} end, #{
        channels => Channels, byte_channels => ByteChannels, buffers => Buffers, shared_dicts => Dicts
    }).

context(Ctx, Lane) ->
    #{queue := Queue, run := Run, reply := Reply} = Stats = ep_nif:lane_stats(Lane),
    {Pool, Index, Mode} = member(py_context_table:info(Ctx)),
    (maps:without([queue, run, reply, interrupted, sandbox], Stats))#{
        sandbox => py_sandbox:report(maps:get(sandbox, Stats)),
        context => Ctx,
        pool => Pool,
        index => Index,
        mode => Mode,
        replacements => replacements(Pool, Index),
        latency => #{queue => hist(Queue), run => hist(Run), reply => hist(Reply)}
    }.

%% Pools by their names, contexts by their numbers; then those without a pool.
is_before(A, B) -> key(A) =< key(B).

key(#{pool := Pool, index := Index, context := Ctx}) -> {Pool =:= undefined, Pool, Index, Ctx}.

replacements(undefined, _Index) -> 0;
replacements(Pool, Index) -> py_context_table:replacements(Pool, Index).

%% Contexts that share a process have the same figures.
with_usage(Contexts) ->
    OsPids = lists:usort([OsPid || #{os_pid := OsPid} <- Contexts]),
    Usage = maps:from_list([{OsPid, usage(OsPid)} || OsPid <- OsPids]),
    [maps:merge(C, maps:get(OsPid, Usage)) || C = #{os_pid := OsPid} <- Contexts].

%% Resident memory in bytes, and CPU time.
usage(undefined) ->
    #{rss => undefined, cpu_us => undefined};
usage(OsPid) ->
    Path = "/proc/" ++ integer_to_list(OsPid),
    #{
        rss => rss(file:read_file(Path ++ "/status")),
        cpu_us => cpu_us(file:read_file(Path ++ "/stat"))
    }.

rss({ok, Text}) ->
    case re:run(Text, "^VmRSS:\\s+(\\d+) kB", [multiline, {capture, all_but_first, binary}]) of
        {match, [Kilobytes]} -> binary_to_integer(Kilobytes) * 1024;
        nomatch -> undefined
    end;
%% It has just ended.
rss({error, _}) ->
    undefined.

%% Fields 14 and 15, in hundredths of a second; the name, field 2, may hold anything.
cpu_us({ok, Text}) ->
    case re:run(Text, "\\) (?:\\S+ ){11}(\\d+) (\\d+) [^)]*$", [{capture, all_but_first, binary}]) of
        {match, [User, System]} -> (binary_to_integer(User) + binary_to_integer(System)) * 10000;
        nomatch -> undefined
    end;
cpu_us({error, _}) ->
    undefined.

member({ok, #{pool := {Pool, Index}, mode := Mode}}) -> {Pool, Index, Mode};
member({ok, #{mode := Mode}}) -> {undefined, undefined, Mode};
member(noproc) -> {undefined, undefined, undefined}.

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
