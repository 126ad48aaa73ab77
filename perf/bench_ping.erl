%% SPDX-License-Identifier: Apache-2.0

%% @private What processes that have nothing to do with Python notice of those that have:
%% round trips between two of them.
-module(bench_ping).

-export([trips/1]).

%% @doc The round trips of that many ms, in native units, sorted. A ping leaves each
%% millisecond, and there are pairs enough for all schedulers: pings as fast as they
%% can would count the good moments of a scheduler a thousand times and the bad once.
-spec trips(pos_integer()) -> [non_neg_integer(), ...].
trips(Ms) ->
    Self = self(),
    Until = erlang:monotonic_time(millisecond) + Ms,
    Pairs = 2 * erlang:system_info(schedulers_online),
    Pingers = [
        spawn_link(fun() -> Self ! {self(), trips(spawn_link(fun echo/0), Until, [])} end)
     || _ <- lists:seq(1, Pairs)
    ],
    lists:sort(lists:append([receive {P, Trips} -> Trips end || P <- Pingers])).

echo() ->
    receive
        {ping, From} -> From ! pong
    end,
    echo().

trips(Echo, Until, Acc) ->
    receive
    after 1 -> ok
    end,
    T0 = erlang:monotonic_time(),
    Echo ! {ping, self()},
    receive
        pong -> ok
    end,
    T1 = erlang:monotonic_time(),
    case erlang:monotonic_time(millisecond) < Until of
        true ->
            trips(Echo, Until, [T1 - T0 | Acc]);
        false ->
            true = unlink(Echo),
            true = exit(Echo, kill),
            [T1 - T0 | Acc]
    end.
