%% SPDX-License-Identifier: Apache-2.0

%% @private Large data there and back: bytes, a list of integers, a map.
-module(bench_payload).

-export([run/1]).

-define(SIZES, [{"64 KiB", 65536, 200}, {"1 MiB", 1048576, 40}, {"16 MiB", 16777216, 5}]).
-define(INTS, 100000).
-define(KEYS, 1000).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1),
    Cases = cases(),
    Rounds = [bench_round(Cases) || _ <- lists:seq(1, N)],
    ok = bench_app:check(),
    lists:append([results(Case, [maps:get(Name, R) || R <- Rounds]) || {Name, _, _, _} = Case <- Cases]).

%% Name, value to send, what comes back, calls per round.
cases() ->
    Ints = lists:seq(1, ?INTS),
    Map = maps:from_list([{key(I), I} || I <- lists:seq(1, ?KEYS)]),
    [{Name, {bytes, bytes(Size)}, bytes(Size), Calls} || {Name, Size, Calls} <- ?SIZES] ++
        [{"100000 integers", Ints, Ints, 20}, {"map of 1000 keys", Map, Map, 200}].

bytes(Size) -> binary:copy(<<0, 255, 1, 254>>, Size div 4).

key(I) -> iolist_to_binary(io_lib:format("key_~4..0b", [I])).

bench_round(Cases) ->
    Floors = floors(),
    maps:from_list([
        {Name, {
            in_process(fun() -> ours(Sent, Back, Calls) end),
            in_process(fun() -> by_port(for_port(Sent), Back, max(3, Calls div 10)) end),
            maps:get(Name, Floors)
        }}
     || {Name, Sent, Back, Calls} <- Cases
    ]).

for_port({bytes, Bytes}) -> Bytes;
for_port(Term) -> Term.

%% A process of its own: one that has had large binaries keeps garbage longer, and the
%% next figure would depend on the one before.
in_process(Fun) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({result, Fun()}) end),
    receive
        {'DOWN', Ref, process, Pid, {result, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Why} -> error(Why)
    end.

ours(Sent, Back, Calls) ->
    ok = bench_app:same(),
    measure(fun() -> py:call('__main__', same, [Sent]) end, Back, Calls).

by_port(Sent, Back, Calls) ->
    Port = bench_port:open(),
    Us = measure(fun() -> bench_port:call(Port, bench, same, [Sent]) end, Back, Calls),
    true = port_close(Port),
    Us.

%% The median of the calls, in us.
measure(Fun, Back, Calls) ->
    {ok, Back} = Fun(),
    bench_result:nanoseconds(bench_result:median(bench_result:samples(Fun, Calls))) / 1000.

%% What cannot be avoided, in us: three copies of the bytes; the objects of each side
%% made, and those of Python freed, once per direction.
floors() ->
    Copies = bench_floor:program("floor_copy"),
    #{"ints" := PyInts, "map" := PyMap} = bench_floor:program("floor_py", ["convert"]),
    ErlInts = bench_result:median([floor_nif:ints(?INTS) || _ <- lists:seq(1, 21)]),
    ErlMap = bench_result:median([floor_nif:map(?KEYS) || _ <- lists:seq(1, 101)]),
    Bytes = [{Name, maps:get(integer_to_list(Size), Copies) / 1000} || {Name, Size, _} <- ?SIZES],
    maps:from_list(Bytes ++ [
        {"100000 integers", (PyInts + ErlInts) / 1000},
        {"map of 1000 keys", (PyMap + ErlMap) / 1000}
    ]).

results({Name, Sent, _, _}, Figures) ->
    Floors = [F || {_, _, F} <- Figures],
    More = #{floors => Floors, bytes => erlang:external_size(for_port(Sent))},
    [
        bench_result:new("payload", "payload " ++ Name, us, [O || {O, _, _} <- Figures], More),
        bench_result:new("payload", "payload " ++ Name ++ " by port", us, [P || {_, P, _} <- Figures], More)
    ].
