%% SPDX-License-Identifier: Apache-2.0

%% @doc The honest neighbour: one call each millisecond on a context of its own, beside
%% what goes on elsewhere. It counts wrong answers, and how long each took.
-module(evil_neighbour).

-export([start/0, phase/2, stop/1, percentile/2]).

-export_type([result/0]).

-type phase() :: off | control | evil | forged.
-type result() :: #{calls := non_neg_integer(), wrong := [term()], times := counters:counters_ref()}.

%% Times are counted by 20 us, up to two seconds.
-define(STEP_US, 20).
-define(STEPS, 100000).
-define(TIMEOUT_MS, 20000).

-record(state, {
    phase = off :: phase(),
    n = 0 :: non_neg_integer(),
    longest = 0 :: non_neg_integer(),
    results :: #{phase() => result()}
}).

-spec start() -> pid().
start() ->
    spawn_link(fun() ->
        process_flag(priority, high),
        loop(#state{results = maps:from_list([{P, empty()} || P <- [control, evil, forged]])})
    end).

%% @doc What the calls count for from now on. Returns how long the longest took since this
%% was said last, in microseconds.
-spec phase(pid(), phase()) -> non_neg_integer().
phase(Pid, Phase) ->
    Ref = make_ref(),
    Pid ! {phase, Phase, self(), Ref},
    receive
        {Ref, Longest} -> Longest
    end.

-spec stop(pid()) -> #{phase() => result()}.
stop(Pid) ->
    Ref = make_ref(),
    Pid ! {stop, self(), Ref},
    receive
        {Ref, Results} -> Results
    end.

%% @doc Microseconds.
-spec percentile(number(), result()) -> non_neg_integer().
percentile(P, #{calls := N, times := Times}) ->
    percentile(Times, 1, max(1, ceil(P * N / 100))).

%% Internal

empty() ->
    #{calls => 0, wrong => [], times => counters:new(?STEPS, [])}.

percentile(_Times, ?STEPS, _Left) ->
    ?STEPS * ?STEP_US;
percentile(Times, Step, Left) ->
    case counters:get(Times, Step) of
        N when N >= Left -> Step * ?STEP_US;
        N -> percentile(Times, Step + 1, Left - N)
    end.

loop(State) ->
    receive
        {phase, Phase, From, Ref} ->
            From ! {Ref, State#state.longest},
            loop(State#state{phase = Phase, longest = 0});
        {stop, From, Ref} ->
            From ! {Ref, State#state.results}
    after 1 ->
        loop(call(State))
    end.

call(State = #state{phase = Phase, n = N, results = Results}) ->
    Start = erlang:monotonic_time(microsecond),
    Root = float(N rem 1000),
    Answer =
        try
            py:call(math, sqrt, [Root * Root], #{}, ?TIMEOUT_MS)
        catch
            Class:Reason -> {raised, Class, Reason}
        end,
    Took = erlang:monotonic_time(microsecond) - Start,
    Next = State#state{n = N + 1, longest = max(Took, State#state.longest)},
    case Phase of
        off -> Next;
        _ -> Next#state{results = maps:update_with(Phase, fun(R) -> count(R, Took, Answer, {ok, Root}) end, Results)}
    end.

count(Result = #{calls := N, times := Times, wrong := Wrong}, Took, Answer, Right) ->
    ok = counters:add(Times, min(?STEPS, Took div ?STEP_US + 1), 1),
    Result#{calls := N + 1, wrong := [Answer || Answer =/= Right, length(Wrong) < 10] ++ Wrong}.
