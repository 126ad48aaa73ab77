%% SPDX-License-Identifier: Apache-2.0

%% @doc Bars on time, beside a control of the same moment. A test may say that something
%% takes at most so long; it cannot say that other programs leave it a processor. So what
%% the system withheld meanwhile is measured, too, and does not count: how long threads of
%% this VM and of the processes below it were ready to run and did not, and how late at
%% worst a process was woken that asked for nothing else. On a quiet machine that is next
%% to nothing, and the bar is what it says.
-module(py_pace).

-export([timed/1, timed/2, within/2]).

-define(TICK_MS, 5).
%% Between two looks at processes that may end.
-define(LOOK_MS, 50).
%% One process reads all: each file that the VM reads itself costs a turn of two threads.
-define(LOOK, "cd /proc && cat [0-9]*/stat 2>&1; echo; grep -s '' [0-9]*/task/*/schedstat").

-type thread() :: {OsPid :: non_neg_integer(), Thread :: binary()}.
-type waited() :: #{thread() => Ns :: non_neg_integer()}.

%% @doc How long Fun took, how much of that the system withheld, and what Fun returned.
-spec timed(fun(() -> Result)) -> {Ms :: float(), Withheld :: float(), Result}.
timed(Fun) ->
    timed(Fun, []).

%% @doc Also with what was withheld from these processes, which may end meanwhile.
-spec timed(fun(() -> Result), [non_neg_integer()]) -> {Ms :: float(), Withheld :: float(), Result}.
timed(Fun, More) ->
    Before = waited(More),
    Self = self(),
    Controls = [
        spawn_link(fun() -> Self ! {self(), ready}, Control() end)
     || Control <- [fun() -> tick(0.0) end | [fun() -> look(More, Before) end || More =/= []]]
    ],
    [receive {C, ready} -> ok end || C <- Controls],
    Start = erlang:monotonic_time(),
    Result = Fun(),
    Ms = ms(erlang:monotonic_time() - Start),
    [C ! {stop, Self} || C <- Controls],
    [Late | Looks] = [receive {C, Seen} -> Seen end || C <- Controls],
    %% Also what has begun meanwhile.
    After = lists:foldl(fun maps:merge/2, #{}, Looks ++ [waited(More)]),
    Ns = maps:fold(fun(Thread, Waited, Sum) -> Sum + Waited - maps:get(Thread, Before, 0) end, 0, After),
    {Ms, Late + Ns / 1.0e6, Result}.

%% @doc Asserts that Fun takes less than that long, what the system withholds aside.
-spec within(number(), fun(() -> Result)) -> Result.
within(Bar, Fun) ->
    {Ms, Withheld, Result} = timed(Fun),
    case Ms - Withheld < Bar of
        true -> Result;
        false -> error({took, Ms, {withheld, Withheld}, {bar, Bar}})
    end.

%% Internal

tick(Late) ->
    Start = erlang:monotonic_time(),
    receive
        {stop, From} -> From ! {self(), max(Late, ms(erlang:monotonic_time() - Start) - ?TICK_MS)}
    after ?TICK_MS -> tick(max(Late, ms(erlang:monotonic_time() - Start) - ?TICK_MS))
    end.

look(More, Waited) ->
    receive
        {stop, From} -> From ! {self(), Waited}
    after ?LOOK_MS -> look(More, maps:merge(Waited, waited(More)))
    end.

%% How long each thread of ours has been ready and waited for a processor.
-spec waited([non_neg_integer()]) -> waited().
waited(More) ->
    [Stats, Waits] = binary:split(unicode:characters_to_binary(os:cmd(?LOOK)), <<"\n\n">>),
    Parents = maps:from_list([
        {binary_to_integer(OsPid), binary_to_integer(Parent)}
     || [OsPid, Parent] <- matches(Stats, "^(\\d+) \\(.*\\) \\S (\\d+) ")
    ]),
    Vm = py_test:vm_pid(),
    maps:from_list([
        {{OsPid, Thread}, binary_to_integer(Ns)}
     || [Text, Thread, Ns] <- matches(Waits, "^(\\d+)/task/(\\d+)/schedstat:\\d+ (\\d+) "),
        OsPid <- [binary_to_integer(Text)],
        lists:member(OsPid, More) orelse is_below(OsPid, Vm, Parents)
    ]).

matches(Text, Pattern) ->
    case re:run(Text, Pattern, [multiline, global, {capture, all_but_first, binary}]) of
        {match, Found} -> Found;
        nomatch -> []
    end.

is_below(Vm, Vm, _Parents) -> true;
is_below(OsPid, Vm, Parents) ->
    case Parents of
        #{OsPid := Parent} -> is_below(Parent, Vm, Parents);
        #{} -> false
    end.

ms(Native) ->
    erlang:convert_time_unit(Native, native, microsecond) / 1000.
