%% SPDX-License-Identifier: Apache-2.0

%% @private What a call from Python back into Erlang costs, next to a plain call of the
%% same process in the same round.
-module(bench_callbacks).

-export([run/1]).

-define(CALLS, 10000).
-define(LEVELS, 100).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1),
    %% In a process of its own: what the sections before have left in the heap of this one
    %% is copied whenever that grows, and callbacks run in the heap of their caller.
    {Pid, Ref} = spawn_monitor(fun() -> exit({results, measure(N)}) end),
    Results =
        receive
            {'DOWN', Ref, process, Pid, {results, R}} -> R;
            {'DOWN', Ref, process, Pid, Why} -> error(Why)
        end,
    ok = bench_app:check(),
    Results.

measure(N) ->
    ok = py:register_function(bench_next, fun([I]) -> I + 1 end),
    ok = py:register_function(bench_level, fun level/1),
    ok = py:exec(code()),
    {ok, 10} = py:call('__main__', many_calls, [10]),
    Rounds = [
        #{
            plain => plain(),
            call => time(many_calls, ?CALLS) / ?CALLS,
            incr => time(many_incr, ?CALLS) / ?CALLS,
            level => nested() / ?LEVELS
        }
     || _ <- lists:seq(1, N)
    ],
    Floors = [maps:get(plain, R) || R <- Rounds],
    [bench_result:new("callbacks", "py:call, the same caller", us, Floors)] ++
        [
            bench_result:new("callbacks", Name, us, [maps:get(Key, R) || R <- Rounds], #{
                floors => Floors
            })
         || {Name, Key} <- [
                {"erlang.call from Python", call},
                {"erlang.state_incr from Python", incr},
                {"one of 100 levels of nesting", level}
            ]
        ].

level([N]) when N >= ?LEVELS -> N;
level([N]) ->
    {ok, Top} = py:call('__main__', next_level, [N + 1]),
    Top.

%% Microseconds of a plain call in a loop of them.
plain() ->
    {Us, _} = timer:tc(fun() -> [{ok, 4.0} = py:call(math, sqrt, [16]) || _ <- lists:seq(1, ?CALLS)] end),
    Us / ?CALLS.

%% Of one Python function that asks that many times.
time(Function, Calls) ->
    {Us, {ok, Calls}} = timer:tc(fun() -> py:call('__main__', Function, [Calls]) end),
    Us.

%% Of a call that nests to the top, the middle one of many.
nested() ->
    bench_result:median([
        element(1, timer:tc(fun() -> {ok, ?LEVELS} = py:call('__main__', next_level, [1]) end))
     || _ <- lists:seq(1, 100)
    ]).

code() ->
    "import erlang\n"
    "def many_calls(n):\n"
    "    x = 0\n"
    "    for _ in range(n):\n"
    "        x = erlang.call('bench_next', x)\n"
    "    return x\n"
    "def many_incr(n):\n"
    "    for _ in range(n):\n"
    "        erlang.state_incr('bench_count')\n"
    "    return n\n"
    "def next_level(n):\n"
    "    return erlang.call('bench_level', n)\n".
