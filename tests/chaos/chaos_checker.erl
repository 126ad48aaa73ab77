%% SPDX-License-Identifier: Apache-2.0

%% @doc Whether a history obeys the laws: each request has exactly one outcome, in time,
%% and the right one; no process got a message that it did not ask for; a request begins
%% at most once, and not at all if its outcome says so; an item of a channel goes to one reader at most, in its
%% order, and what Python has put is there. Pure.
-module(chaos_checker).

-include("chaos.hrl").

-export([check/1, latencies/1]).

-export_type([law/0, violation/0]).

-type law() :: lost | doubled | wrong | stray | hanging | begun | items.
-type violation() :: {law(), id() | pid(), term()}.

-define(MS, 1000000).
%% Answers to those whose worker process died: this long after it at the latest.
-define(DEATH_LIMIT_MS, 1000).
%% Errors that say that something is gone are right for so long after it went.
-define(AWAY_MS, 2000).
%% Clocks are read at different moments.
-define(SLACK_MS, 2).
-define(EXITS, ['SIGKILL', 'SIGSEGV', 'SIGABRT', kill_after, 7]).

-record(facts, {
    dead = #{} :: #{pid() => []},
    %% of processes of the system; killed: without those that went with an outage, at a moment that nobody knows
    deaths = #{} :: #{integer() => integer()},
    killed = #{} :: #{integer() => integer()},
    ended = #{} :: #{pid() => integer()},
    %% who had a place in a process that ended
    places = #{} :: #{integer() => [pid()]},
    outages = [] :: [integer()],
    losses = [] :: [integer()],
    callbacks = #{} :: #{id() => integer()}
}).

-spec check(#history{}) -> [violation()].
check(History = #history{requests = Requests, outcomes = Outcomes, events = Events, begun = Begun}) ->
    Facts = facts(History),
    Known = maps:from_list([{Id, []} || #request{id = Id} <- Requests]),
    lists:append([
        lists:flatmap(fun(R) -> request(R, maps:get(R#request.id, Outcomes, []), Begun, Facts) end, Requests),
        [{stray, Pid, stray(What, Requests, Outcomes)} || {_, {stray, Pid, What}} <- Events],
        [{stray, Id, L} || {Id, L} <- maps:to_list(Outcomes), not is_map_key(Id, Known)],
        [{begun, Id, {unknown, N}} || {Id, N} <- maps:to_list(Begun), not is_map_key(Id, Known)],
        [{items, Pid, {N, Readers}} || {_, {items, Pid, N, Readers}} <- Events, not is_shared(Readers, 1, 0, N)],
        [{items, Pid, {N, Came, IsOk}} || {_, {sent, Pid, N, Came, IsOk}} <- Events, not is_sent(Came, N, IsOk)]
    ]).

%% @doc `errors': from the death of a worker process, unless it went with an outage, to the moment when each of its
%% callers had the error; `stops': the same for contexts; `serving': from the death to the
%% first answer of a successor, for each context. Milliseconds.
-spec latencies(#history{}) -> #{errors | stops | serving => [float()]}.
latencies(History = #history{requests = Requests, outcomes = Outcomes}) ->
    Facts = facts(History),
    Errors = [
        {Kind, Ms}
     || R = #request{id = Id} <- Requests,
        {T, {error, Reason}} <- maps:get(Id, Outcomes, []),
        {Kind, Ms} <- [latency(R, T, Reason, Facts)]
    ],
    #{
        errors => [Ms || {death, Ms} <- Errors],
        stops => [Ms || {stop, Ms} <- Errors],
        serving => serving(History, Facts)
    }.

%% Internal

facts(#history{events = Events}) ->
    lists:foldl(fun fact/2, #facts{}, Events).

fact({_, {caller_dead, Pid}}, F = #facts{dead = Dead}) ->
    F#facts{dead = Dead#{Pid => []}};
fact({T, {death, OsPid, Why, Contexts}}, F = #facts{deaths = Deaths, killed = Killed, losses = Losses}) ->
    place(OsPid, Contexts, F#facts{
        deaths = maps:merge(#{OsPid => T}, Deaths),
        killed = case Why of outage -> Killed; _ -> maps:merge(#{OsPid => T}, Killed) end,
        losses = [T | Losses]
    });
fact({_, {aimed, OsPid, Contexts}}, F) ->
    place(OsPid, Contexts, F);
fact({T, {context_end, Ctx, _}}, F = #facts{ended = Ended, losses = Losses}) ->
    F#facts{ended = maps:merge(#{Ctx => T}, Ended), losses = [T | Losses]};
fact({T, {outage, _}}, F = #facts{outages = Outages, losses = Losses}) ->
    F#facts{outages = [T | Outages], losses = [T | Losses]};
fact({T, {callback_end, Id}}, F = #facts{callbacks = Callbacks}) ->
    F#facts{callbacks = maps:update_with(Id, fun(Old) -> max(Old, T) end, T, Callbacks)};
fact(_, F) ->
    F.

place(OsPid, Contexts, F = #facts{places = Places}) ->
    F#facts{places = maps:update_with(OsPid, fun(Known) -> Contexts ++ Known end, Contexts, Places)}.

%% The message, and what its receiver had asked for before.
stray({Message, Ids}, Requests, Outcomes) when is_list(Ids) ->
    {Message, [{R, maps:get(Id, Outcomes, none)} || R = #request{id = Id} <- Requests, lists:member(Id, Ids)]};
stray(Message, _Requests, _Outcomes) ->
    Message.

%% --- one request ------------------------------------------------------------------------

request(R = #request{kind = Kind, id = Id}, Outcomes, Begun, _Facts) when Kind =:= cast; Kind =:= orphan ->
    [{stray, Id, Outcomes} || Outcomes =/= []] ++ marks(R, cast, maps:get(Id, Begun, 0));
request(R = #request{id = Id}, [], Begun, Facts) ->
    [{lost, Id, R} || not may_be_silent(R, Facts)] ++ marks(R, none, maps:get(Id, Begun, 0));
request(R = #request{id = Id}, [{T, Outcome}], Begun, Facts) ->
    value(R, T, Outcome, Facts) ++ in_time(R, T, Outcome, Facts) ++ marks(R, Outcome, maps:get(Id, Begun, 0));
request(#request{id = Id}, Several, _Begun, _Facts) ->
    [{doubled, Id, Several}].

%% Next: the first item that nobody has had; Lost: how many from there on may have gone to readers that failed.
is_shared([], _Next, _Lost, _N) ->
    true;
is_shared([{failed, Most} | Rest], Next, Lost, N) ->
    is_shared(Rest, Next, Lost + Most, N);
is_shared([{ok, [], IsAll} | Rest], Next, Lost, N) ->
    IsAll andalso Next + Lost > N andalso is_shared(Rest, N + 1, 0, N);
is_shared([{ok, Items = [First | _], IsAll} | Rest], Next, Lost, N) ->
    Last = First + length(Items) - 1,
    Items =:= lists:seq(First, Last) andalso First >= Next andalso First =< Next + Lost andalso Last =< N andalso
        (not IsAll orelse Last =:= N) andalso is_shared(Rest, Last + 1, 0, N).

is_sent(Came, N, IsOk) ->
    Came =:= lists:seq(1, length(Came)) andalso length(Came) =< N andalso (not IsOk orelse length(Came) =:= N).

%% Who died asks for nothing any more; who ran a callback for a Python thread may end with
%% what watched over it.
may_be_silent(#request{caller = Caller, role = caller}, #facts{dead = Dead}) ->
    is_map_key(Caller, Dead);
may_be_silent(#request{caller = Caller, role = helper, invoked = T}, #facts{dead = Dead, outages = Outages}) ->
    is_map_key(Caller, Dead) orelse lists:any(fun(O) -> O >= T end, Outages).

value(#request{id = Id}, _T, hanging, _Facts) ->
    [{hanging, Id, never}];
value(#request{expected = none}, _T, {ok, _, _}, _Facts) ->
    [];
value(#request{expected = Expected}, _T, {ok, Expected, _}, _Facts) ->
    [];
value(R = #request{id = Id}, T, Outcome, Facts) ->
    [{wrong, Id, {Outcome, R}} || not is_right(R, T, Outcome, Facts)].

is_right(_R, _T, {ok, _Other, _}, _Facts) ->
    false;
is_right(#request{kind = Kind}, _T, {inner, _}, _Facts) ->
    %% What failed inside has an entry of its own, or is a thread whose callback ended.
    Kind =:= nested orelse Kind =:= threads;
is_right(R, T, {raised, error, badarg}, Facts) ->
    is_away(R, T, Facts#facts.outages);
is_right(R, T, {raised, exit, {Reason, {gen_server, call, _}}}, Facts) ->
    lists:member(Reason, [noproc, killed, shutdown]) andalso is_away(R, T, Facts#facts.outages);
is_right(_R, _T, {raised, _, _}, _Facts) ->
    false;
is_right(R, T, {error, Reason}, Facts) ->
    is_reason(R, T, Reason, Facts);
is_right(_R, _T, _Unknown, _Facts) ->
    false.

is_reason(#request{budget = infinity, is_limited = IsLimited}, _T, timeout, _Facts) ->
    IsLimited;
is_reason(#request{budget = Budget, invoked = T0, is_limited = IsLimited}, T, timeout, _Facts) ->
    IsLimited orelse T - T0 >= (Budget - ?SLACK_MS) * ?MS;
is_reason(_R, T, {worker_died, #{os_pid := OsPid, reason := Why, started := Started}}, Facts) ->
    lists:member(Why, ?EXITS) andalso is_boolean(Started) andalso has_died(OsPid, Why, T, Facts);
is_reason(R, T, {worker_unavailable, _}, Facts) ->
    is_away(R, T, Facts#facts.losses);
is_reason(R = #request{context = Ctx}, T, {context_died, Why}, Facts = #facts{ended = Ended}) ->
    lists:member(Why, [noproc, shutdown, killed]) andalso
        case Ended of
            #{Ctx := At} -> At =< T;
            _ when Ctx =:= undefined -> is_away(R, T, Facts#facts.losses);
            _ -> is_away(R, T, Facts#facts.outages)
        end;
is_reason(_R, _T, _Reason, _Facts) ->
    false.

%% Of deaths by kill_after the moment is not known.
has_died(_OsPid, kill_after, _T, _Facts) -> true;
has_died(OsPid, _Why, T, #facts{deaths = Deaths}) -> maps:get(OsPid, Deaths, T + 1) =< T.

%% Something had gone, or went while the request was under way.
is_away(#request{invoked = T0}, T, Moments) ->
    lists:any(fun(At) -> At =< T andalso At >= T0 - ?AWAY_MS * ?MS end, Moments).

in_time(R = #request{id = Id, budget = Budget, invoked = T0}, T, Outcome, Facts) ->
    Limit =
        case Budget of
            infinity -> ?PATIENCE_MS;
            _ -> Budget + ?GRACE_MS
        end,
    [{hanging, Id, {took_ms, (T - T0) div ?MS, R}} || T - T0 > Limit * ?MS] ++
        [{hanging, Id, {after_death_ms, Late, R}} || {error, Reason} <- [Outcome],
                                                     {_, Late} <- [latency(R, T, Reason, Facts)],
                                                     Late > ?DEATH_LIMIT_MS].

%% A caller that runs a callback hears of the end when it returns.
busy_until(#request{id = Id}, At, #facts{callbacks = Callbacks}) ->
    max(At, maps:get(Id, Callbacks, At)).

marks(#request{mark = none}, _Outcome, 0) -> [];
marks(#request{id = Id}, _Outcome, N) when N > 1 -> [{begun, Id, {times, N}}];
marks(#request{id = Id, mark = none}, _Outcome, N) -> [{begun, Id, {times, N}}];
marks(R = #request{id = Id}, {ok, _, _}, 0) -> [{begun, Id, {ok_without_a_begin, R}}];
marks(R = #request{id = Id}, Outcome, 1) -> [{begun, Id, {Outcome, R}} || has_not_begun(Outcome)];
marks(_R, _Outcome, 0) -> [].

has_not_begun({error, {worker_died, #{started := false}}}) -> true;
has_not_begun({error, {worker_unavailable, _}}) -> true;
has_not_begun({error, {overloaded, _, _}}) -> true;
has_not_begun({error, {context_died, noproc}}) -> true;
has_not_begun({raised, error, badarg}) -> true;
has_not_begun(_) -> false.

%% --- latencies ----------------------------------------------------------------------------

%% It waits for the other tasks, too, and those may wait for the next process.
latency(#request{kind = gather}, _T, _Reason, _Facts) ->
    unknown;
latency(R, T, {worker_died, #{os_pid := OsPid}}, Facts = #facts{deaths = Deaths, killed = Killed}) ->
    case {Killed, Deaths} of
        {#{OsPid := At}, _} when At =< T -> {death, since(R, At, T, Facts)};
        {_, #{OsPid := At}} when At =< T -> {outage, since(R, At, T, Facts)};
        _ -> unknown
    end;
latency(R = #request{context = Ctx, invoked = T0}, T, {context_died, _}, Facts = #facts{ended = Ended}) ->
    case Ended of
        #{Ctx := At} when At >= T0, At =< T -> {stop, since(R, At, T, Facts)};
        _ -> unknown
    end;
latency(_R, _T, _Reason, _Facts) ->
    unknown.

%% Who made the request later than that had to wait only since then.
since(R = #request{invoked = T0}, At, T, Facts) ->
    (T - max(T0, busy_until(R, At, Facts))) / ?MS.

%% The answers of each context: when, and of which process. Where the next process of a context was killed, too, or
%% the whole application had an outage, nobody knows what took its time.
serving(#history{requests = Requests, outcomes = Outcomes, events = Events}, Facts = #facts{ended = Ended}) ->
    Answers = lists:foldl(
        fun(#request{id = Id, context = Ctx}, Acc) ->
            case maps:get(Id, Outcomes, []) of
                [{T, {ok, _, OsPid}}] when is_pid(Ctx), is_integer(OsPid) ->
                    maps:update_with(Ctx, fun(L) -> [{T, OsPid} | L] end, [{T, OsPid}], Acc);
                _ ->
                    Acc
            end
        end,
        #{},
        Requests
    ),
    %% Where the successor was killed, too, or the way to it, the restart has a back-off.
    Deaths = maps:from_list([
        {OsPid, At}
     || {At, {death, OsPid, Why, _}} <- lists:reverse(Events), Why =/= young, Why =/= outage
    ]),
    lists:flatmap(
        fun({Ctx, Unordered}) ->
            In = lists:sort(Unordered),
            Pids = lists:usort([P || {_, P} <- In]),
            [
                (T - At) / ?MS
             || P <- Pids, {ok, At} <- [maps:find(P, Deaths)], {T, _} <- first(In, At, P), maps:get(Ctx, Ended, T) >= T,
                not is_hit_again(Ctx, P, At, T, Facts)
            ]
        end,
        maps:to_list(Answers)
    ).

is_hit_again(Ctx, Former, At, T, #facts{deaths = Deaths, places = Places, outages = Outages}) ->
    Within = fun(Moment) -> Moment > At andalso Moment =< T end,
    lists:any(Within, Outages) orelse
        lists:any(
            fun({OsPid, Contexts}) ->
                OsPid =/= Former andalso lists:member(Ctx, Contexts) andalso Within(maps:get(OsPid, Deaths, At))
            end,
            maps:to_list(Places)
        ).

first([{T, P} | _], At, Dead) when T > At, P =/= Dead -> [{T, P}];
first([_ | Rest], At, Dead) -> first(Rest, At, Dead);
first([], _At, _Dead) -> [].
