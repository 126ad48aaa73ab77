%% SPDX-License-Identifier: Apache-2.0

%% @doc What the VM holds, and what it holds more than it did.
-module(evil_baseline).

-export([take/0, above/1, segments/0, has_segments/1]).

-export_type([baseline/0]).

-type baseline() :: #{atom() => integer()}.

-define(SETTLE_MS, 15000).
-define(POLL_MS, 100).
-define(MEMORY, 50 * 1024 * 1024).
%% Names of exceptions and atoms of results are made up to a limit of the library.
-define(LIMITS, #{rss => ?MEMORY, erlang => ?MEMORY, maps => 20, atoms => 200}).

-spec take() -> baseline().
take() ->
    _ = [garbage_collect(P) || P <- processes()],
    {Slots, _, Waiting} = ep_nif:slots(),
    Counters = ep_nif:counters(),
    #{
        rss => rss(),
        erlang => erlang:memory(total),
        fds => fds(),
        maps => maps(),
        segments => segments(),
        processes => erlang:system_info(process_count),
        ports => erlang:system_info(port_count),
        atoms => erlang:system_info(atom_count) - maps:get(atoms_made, Counters),
        tables => length(ets:all()),
        contexts => length(py_context_table:all()),
        hosts => maps:get(hosts, Counters),
        slots => Slots,
        waiting => Waiting
    }.

%% @doc Waits until nothing is above, or the time is over.
-spec above(baseline()) -> #{atom() => {Before :: integer(), After :: integer()}}.
above(Before) ->
    above(Before, erlang:monotonic_time(millisecond) + ?SETTLE_MS).

%% @doc How many segments of worker processes are mapped.
-spec segments() -> non_neg_integer().
segments() ->
    length([L || L <- lines("/proc/self/maps"), binary:match(L, <<"memfd:ep">>) =/= nomatch]).

%% @doc Whether there are so many, or soon will be: those of the last attack go with the last
%% process that knows of it, and not before a dirty scheduler has made the terms of a large
%% answer, which nobody can interrupt.
-spec has_segments(non_neg_integer()) -> boolean().
has_segments(N) ->
    has_segments(N, erlang:monotonic_time(millisecond) + ?SETTLE_MS).

%% Internal

has_segments(N, Deadline) ->
    case segments() of
        Now when Now =< N ->
            true;
        _ ->
            _ = [garbage_collect(P) || P <- processes()],
            erlang:monotonic_time(millisecond) < Deadline andalso
                receive
                after ?POLL_MS div 10 -> has_segments(N, Deadline)
                end
    end.

above(Before, Deadline) ->
    Above = maps:filter(
        fun(Key, {Then, Now}) -> Now - Then > maps:get(Key, ?LIMITS, 0) end,
        maps:map(fun(Key, Now) -> {maps:get(Key, Before), Now} end, take())
    ),
    case map_size(Above) =:= 0 orelse erlang:monotonic_time(millisecond) > Deadline of
        true ->
            Above;
        false ->
            receive
            after ?POLL_MS -> above(Before, Deadline)
            end
    end.

fds() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

maps() ->
    length(lines("/proc/self/maps")).

rss() ->
    [Line] = [L || L = <<"VmRSS:", _/binary>> <- lines("/proc/self/status")],
    [_, Kb | _] = string:lexemes(Line, " \t"),
    binary_to_integer(Kb) * 1024.

lines(Path) ->
    {ok, File} = file:open(Path, [read, raw, binary, {read_ahead, 65536}]),
    Lines = read_all(File, []),
    ok = file:close(File),
    binary:split(iolist_to_binary(Lines), <<"\n">>, [global, trim]).

read_all(File, Acc) ->
    case file:read(File, 65536) of
        {ok, Bytes} -> read_all(File, [Acc, Bytes]);
        eof -> Acc
    end.
