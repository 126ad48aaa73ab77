%% SPDX-License-Identifier: Apache-2.0

%% @doc One attack: a worker with two contexts, callers in the state that the attack is
%% about, the attack, ordinary calls after it, the end, and what was wrong with all that.
%%
%% Lane 1 has the callers. Lane 2 has nobody and so can order what happens to lane 1.
-module(evil_scene).

-export([run/2]).

-export_type([report/0]).

-type report() :: #{
    %% empty: as it should be
    faults := [term()],
    ended := term(),
    calls := non_neg_integer(),
    %% from the end of the worker to the last answer of its callers
    error_ms := non_neg_integer() | none
}.

-define(KILL_AFTER_MS, 300).
-define(ORDER_MS, 3000).
-define(AFTER_MS, 150).
-define(ENDS_MS, 3000).
-define(ANSWERS_MS, 5000).
-define(STOP_MS, 2000).
%% More than the ring takes.
-define(QUEUED, 270).
-define(PAYLOAD, 300000).
-define(MAILBOX_MOST, 40000).
-define(LONG_MOST, 6000).

-record(scene, {
    attack :: evil_attacks:attack(),
    host :: pid(),
    victim :: py:context(),
    director :: py:context(),
    callers = [] :: [evil_caller:caller()],
    suspended = [] :: [pid()],
    %% the worker has pids of these: one reads nothing, one reads all
    receivers :: {pid(), pid()},
    faults = [] :: [term()]
}).

-spec run(evil_attacks:attack(), binary()) -> report().
run(Attack, Worker) ->
    {ok, Host} = evil_host:start(Worker),
    Scene = #scene{
        attack = Attack,
        host = Host,
        victim = evil_host:context(Host, 1, #{kill_after => ?KILL_AFTER_MS}),
        director = evil_host:context(Host, 2, #{kill_after => ?KILL_AFTER_MS}),
        receivers = {spawn_link(fun read_nothing/0), spawn_link(fun read_all/0)}
    },
    Set = set(maps:get(target, Attack), Scene),
    After = aftermath(attack(Set)),
    finish(filled(After)).

%% A mailbox is full at 10,000 short messages, or 64 MiB; then come a last grant, and what is given
%% in the time of an attack.
filled(Scene = #scene{receivers = {Nothing, All}, attack = #{name := Name}}) ->
    {message_queue_len, N} = process_info(Nothing, message_queue_len),
    [Receiver ! {evil, stop} || Receiver <- [Nothing, All]],
    Most =
        case Name of
            letter_flood_long -> ?LONG_MOST;
            _ -> ?MAILBOX_MOST
        end,
    case N > Most of
        true -> fault({mailbox, N}, Scene);
        false -> Scene
    end.

%% Internal

%% Callers

set(own, Scene) ->
    Scene;
set(unknown, Scene) ->
    Scene;
set(ended, Scene) ->
    call(ordinary, 1000, Scene);
set(held, Scene) ->
    Held = lists:foldl(fun(T, S) -> call(hold, T, S) end, Scene, [infinity, 20, infinity, 30]),
    [A, B, C, _] = Held#scene.callers,
    [evil_caller:parked(Caller) || Caller <- [A, B, C]],
    %% The last one that is held is the one that the attack is about; another one dies.
    {Pid, _} = C,
    true = exit(Pid, kill),
    Held;
set(asked, Scene) ->
    Asked = lists:foldl(fun(T, S) -> call(ask, T, S) end, Scene, [50, infinity]),
    [evil_caller:asked(Caller) || Caller <- Asked#scene.callers],
    Asked;
set(later, Scene) ->
    Set = #scene{callers = [Caller = {Pid, _}]} = call(later, infinity, Scene),
    case evil_caller:parked(Caller) of
        true ->
            true = erlang:suspend_process(Pid),
            ok = order(Set, release, []),
            Set#scene{suspended = [Pid]};
        false ->
            fault({not_parked, later}, Set)
    end;
set(in_ring, Scene) ->
    ok = order(Scene, stall_victim, []),
    lists:foldl(fun(T, S) -> call(ordinary, T, S) end, Scene, [infinity, 100, infinity]);
set(in_queue, Scene) ->
    ok = order(Scene, stall_victim, []),
    lists:foldl(
        fun(N, S) -> call(ordinary, lists:nth(N rem 3 + 1, [infinity, 100, 200]), S) end, Scene, lists:seq(1, ?QUEUED)
    );
set(closed, Scene) ->
    Held = set(held, Scene),
    ok = stop(Held#scene.victim),
    Held.

call(Function, Timeout, Scene = #scene{victim = Victim, callers = Callers}) ->
    Caller = evil_caller:start(fun() ->
        py:call(Victim, evil, Function, [], #{}, Timeout)
    end),
    Scene#scene{callers = [Caller | Callers]}.

order(#scene{director = Director}, Function, Args) ->
    {ok, _} = py:call(Director, evil, Function, Args, #{}, ?ORDER_MS),
    ok.

%% The attack

attack(Scene = #scene{attack = Attack, victim = Victim, director = Director, callers = Callers}) ->
    #{name := Name, target := Target, via := Via, ms := Ms, seed := Seed} = Attack,
    Args = [Seed, number(Target), via(Via), Ms | handles(Scene)],
    Ctx =
        case Target of
            own -> Victim;
            _ -> Director
        end,
    Caller = evil_caller:start(fun() -> py:call(Ctx, evil, Name, Args, #{}, ?ORDER_MS) end),
    Outcomes = evil_caller:answers([Caller], ?ORDER_MS + ?ANSWERS_MS),
    %% Collected once more at the end: it has to have one answer.
    {Pid, _} = Caller,
    [self() ! {answered, Pid, Outcome} || Outcome <- maps:values(Outcomes), Outcome =/= none],
    Scene#scene{callers = [Caller | Callers]}.

%% As evil_letter.c knows them.
handles(#scene{receivers = {Nothing, All}}) ->
    {Dead, Ref} = spawn_monitor(fun() -> ok end),
    receive
        {'DOWN', Ref, process, Dead, _} -> [Nothing, All, Dead, Ref]
    end.

read_nothing() ->
    receive
        {evil, stop} -> ok
    end.

read_all() ->
    receive
        {evil, stop} -> ok;
        _ -> read_all()
    end.

%% enum evil_target of evil_wire.h
number(own) -> 0;
number(held) -> 1;
number(asked) -> 2;
number(later) -> 3;
number(ended) -> 4;
number(in_ring) -> 5;
number(in_queue) -> 6;
number(unknown) -> 7;
number(closed) -> 1.

via(control) -> 0;
via(lane) -> 1.

%% What others do who know nothing of it.
aftermath(Scene = #scene{attack = #{via := Via}}) ->
    Payload = binary:copy(<<"evil">>, ?PAYLOAD div 4),
    Called = lists:foldl(fun(Args, S) -> after_call(Args, S) end, Scene, [[], [Payload], [1], [Payload]]),
    case Via of
        control -> inquiry(Called);
        lane -> Called
    end.

after_call(Args, Scene = #scene{victim = Victim, callers = Callers}) ->
    Caller = evil_caller:start(fun() ->
        py:call(Victim, honest, function, Args, #{}, ?AFTER_MS)
    end),
    Scene#scene{callers = [Caller | Callers]}.

%% Asks all contexts, the honest one too.
inquiry(Scene = #scene{callers = Callers}) ->
    Caller = evil_caller:start(fun() ->
        {ok, #{}} = py:memory_stats()
    end),
    Scene#scene{callers = [Caller | Callers]}.

%% The end

finish(Scene = #scene{attack = #{seed := Seed}}) ->
    Expected = expected(Scene),
    Ended = ended(Seed rem 3, Expected),
    gone(Ended).

expected(Scene = #scene{attack = Attack, host = Host}) ->
    case evil_attacks:expected(Attack) of
        any ->
            Scene;
        ends ->
            receive
                {evil_host, Host, {exited, protocol_violation}} -> Scene;
                {evil_host, Host, {exited, Reason}} -> fault({ended, Reason}, Scene)
            after ?ENDS_MS -> fault(not_ended, Scene)
            end
    end.

%% The contexts end first, the worker does, or the callbacks do.
ended(0, Scene) ->
    let_go(kill_host(stop_contexts(Scene)));
ended(1, Scene) ->
    stop_contexts(kill_host(let_go(Scene)));
ended(2, Scene) ->
    stop_contexts(let_go(kill_host(Scene))).

stop_contexts(Scene = #scene{victim = Victim, director = Director}) ->
    lists:foldl(
        fun(Ctx, S) ->
            {Us, ok} = timer:tc(fun() -> stop(Ctx) end),
            case Us div 1000 of
                Ms when Ms > ?STOP_MS -> fault({stop_took_ms, Ms}, S);
                _ -> S
            end
        end,
        Scene,
        [Victim, Director]
    ).

stop(Ctx) ->
    py_context:stop(Ctx).

kill_host(Scene = #scene{host = Host, attack = #{seed := Seed}}) ->
    {_Reason, Strange} =
        case Seed rem 2 of
            0 -> evil_host:stop(Host);
            1 -> evil_host:kill(Host)
        end,
    lists:foldl(fun(S, Acc) -> fault({strange, S}, Acc) end, Scene, Strange).

let_go(Scene = #scene{callers = Callers, suspended = Suspended}) ->
    lists:foreach(fun evil_caller:go/1, Callers),
    lists:foreach(fun(Pid) -> is_process_alive(Pid) andalso erlang:resume_process(Pid) end, Suspended),
    Scene#scene{suspended = []}.

gone(Scene = #scene{host = Host, callers = Callers}) ->
    Start = erlang:monotonic_time(millisecond),
    Outcomes = evil_caller:answers(Callers, ?ANSWERS_MS),
    Took = erlang:monotonic_time(millisecond) - Start,
    Judged = maps:fold(fun judge/3, Scene, Outcomes),
    Left = lists:foldl(
        fun(Caller, S) ->
            case maps:get(Caller, Outcomes) of
                none -> S;
                _ -> lists:foldl(fun fault/2, S, evil_caller:left(Caller))
            end
        end,
        Judged,
        Callers
    ),
    {Reason, _} = evil_host:stop(Host),
    ok = evil_host:close(Host),
    #{faults => Left#scene.faults, ended => Reason, calls => length(Callers), error_ms => Took}.

judge(_Caller, {answer, _}, Scene) -> Scene;
judge(_Caller, {ended, killed}, Scene) -> Scene;
judge({Pid, _}, none, Scene) -> fault({unanswered, process_info(Pid, current_stacktrace)}, Scene);
judge(_Caller, Other, Scene) -> fault(Other, Scene).

fault(Fault, Scene = #scene{faults = Faults}) ->
    Scene#scene{faults = [Fault | Faults]}.
