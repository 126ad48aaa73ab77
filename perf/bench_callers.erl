%% SPDX-License-Identifier: Apache-2.0

%% @private Processes that repeat a call for a while, again and again; between two bursts
%% they wait in receive and cost nothing.
-module(bench_callers).

-export([start/2, burst/3, stop/1]).

-export_type([callers/0, call/0]).

-type call() :: fun(() -> term()).
-opaque callers() :: {atomics:atomics_ref(), [pid()]}.

%% What all callers of a burst look at after each call.
-define(PARK, 0).
-define(LEAD, 1).
-define(COUNT, 2).

%% @doc That many processes, linked to this one. Make runs in the process that is to make
%% the calls, and all are parked when this returns.
-spec start(pos_integer(), fun((pos_integer()) -> call())) -> callers().
start(N, Make) ->
    Phase = atomics:new(1, []),
    Self = self(),
    Pids = [spawn_link(fun() -> begin_with(Self, Phase, Make, I) end) || I <- lists:seq(1, N)],
    [receive {P, parked} -> ok end || P <- Pids],
    {Phase, Pids}.

%% @doc All call; what they do in the first LeadMs, awake but not yet in step, does not
%% count. Then During runs. The result of During, the calls that each caller ended
%% meanwhile, and how long it was, in ns.
-spec burst(callers(), non_neg_integer(), fun(() -> Result)) ->
    {Result, [non_neg_integer()], float()}.
burst({Phase, Pids}, LeadMs, During) ->
    ok = atomics:put(Phase, 1, ?LEAD),
    [P ! go || P <- Pids],
    receive
    after LeadMs -> ok
    end,
    ok = atomics:put(Phase, 1, ?COUNT),
    Start = erlang:monotonic_time(),
    Result = During(),
    ok = atomics:put(Phase, 1, ?PARK),
    Ns = bench_result:nanoseconds(erlang:monotonic_time() - Start),
    {Result, [receive {P, Count} -> Count end || P <- Pids], Ns}.

%% @doc Ends parked callers.
-spec stop(callers()) -> ok.
stop({_Phase, Pids}) ->
    Refs = [{monitor(process, P), P} || P <- Pids],
    [P ! stop || P <- Pids],
    [receive {'DOWN', R, process, P, normal} -> ok end || {R, P} <- Refs],
    ok.

begin_with(Parent, Phase, Make, I) ->
    Call = Make(I),
    Parent ! {self(), parked},
    park(Parent, Phase, Call).

park(Parent, Phase, Call) ->
    receive
        go ->
            Parent ! {self(), repeat(Phase, Call, 0)},
            park(Parent, Phase, Call);
        stop ->
            ok
    end.

repeat(Phase, Call, Count) ->
    _ = Call(),
    case atomics:get(Phase, 1) of
        ?COUNT -> repeat(Phase, Call, Count + 1);
        ?LEAD -> repeat(Phase, Call, Count);
        ?PARK -> Count
    end.
