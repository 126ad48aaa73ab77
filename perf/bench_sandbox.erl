%% SPDX-License-Identifier: Apache-2.0

%% @private What the sandbox costs: a call, a system call in Python, and the start of a process, at
%% each level in turns.
-module(bench_sandbox).

-export([run/1]).

-define(TURNS, 400).
-define(CALLS, 20).
-define(STARTS, 20).
-define(SYSTEM_CALLS, 100000).

%% @doc Levels that the kernel does not enforce are left out. The floor is `none' of the same round.
-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1, #{sandbox => default}),
    Levels = [none | levels(py:stats())],
    [{ok, _} = py_context_router:start_pool(Level, 1, #{sandbox => Level}) || Level <- Levels],
    Rounds = [round_of(turned(Round, Levels)) || Round <- lists:seq(1, N)],
    ok = bench_app:check(),
    [row(What, Unit, Level, Rounds) || {What, Unit} <- rows(), Level <- Levels].

%% Internal

levels(#{contexts := [#{sandbox := #{missing := []}} | _]}) -> [default, strict];
levels(_) -> [default].

%% Each comes first as often as the others.
turned(Round, Levels) ->
    {Last, First} = lists:split(Round rem length(Levels), Levels),
    First ++ Last.

rows() ->
    [{call, ns}, {system_call, ns}, {start, ms}].

row(What, Unit, Level, Rounds) ->
    Of = fun(L) -> [maps:get(What, maps:get(L, Round)) || Round <- Rounds] end,
    Name = lists:flatten(io_lib:format("sandbox, ~s, ~s", [text(What), Level])),
    bench_result:new("sandbox", Name, Unit, Of(Level), #{floors => Of(none)}).

text(call) -> "call, median";
text(system_call) -> "os.getppid()";
text(start) -> "start of a process, median".

round_of(Levels) ->
    Calls = calls(Levels),
    maps:from_list([{Level, repetition(Level, maps:get(Level, Calls))} || Level <- Levels]).

repetition(Level, Call) ->
    [Ctx] = py_context_router:contexts(Level),
    #{
        call => Call,
        system_call => system_call(Ctx),
        start => bench_result:median([start(Level) || _ <- lists:seq(1, ?STARTS)])
    }.

%% In short turns, so that what disturbs one level disturbs the others.
calls(Levels) ->
    Contexts = [{Level, hd(py_context_router:contexts(Level))} || Level <- Levels],
    Times = [{Level, call(Ctx)} || _ <- lists:seq(1, ?TURNS), {Level, Ctx} <- Contexts, _ <- lists:seq(1, ?CALLS)],
    maps:map(fun(_, Of) -> bench_result:median(Of) end, maps:groups_from_list(fun(T) -> element(1, T) end, fun(T) -> element(2, T) end, Times)).

call(Ctx) ->
    Start = erlang:monotonic_time(nanosecond),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    erlang:monotonic_time(nanosecond) - Start.

system_call(Ctx) ->
    Number = integer_to_list(?SYSTEM_CALLS),
    {ok, Seconds} = py:eval(Ctx, ["__import__('timeit').timeit(__import__('os').getppid, number=", Number, ")"]),
    Seconds * 1000000000 / ?SYSTEM_CALLS.

%% Until its first result.
start(Level) ->
    {Us, Ctx} = timer:tc(fun() ->
        {ok, Ctx} = py_context:new(#{sandbox => Level}),
        {ok, 1} = py:eval(Ctx, "1"),
        Ctx
    end),
    ok = py_context:stop(Ctx),
    Us / 1000.
