%% SPDX-License-Identifier: Apache-2.0

%% @private Watches the requests of a context that ought to have ended or begun, and has the
%% worker process killed that does not go on. For the process of the context, which keeps
%% the timers: their messages come back to it, for {@link overdue/3} and {@link neglected/3}.
%%
%% ```
%% a request that was given up:
%%   runs     interrupted, and kill_after later still at it: killed
%%   imports  the interrupt waits for the end of an import: looked at again, for a minute,
%%            since to cut it would lose the module to the process; then killed
%%   waits    for its turn, or below another one: looked at again
%%   still    for its turn, although nothing is at work: kill_after later still so: stuck
%%   stopped  nothing in the process goes on, not even what never waits for Python: the same
%% a request without a budget that its lane has not taken (`neglected'):
%%   still, stopped   the same; while the process computes, only after 30 s
%%   else             it may wait for ever: its callers say so again
%% '''
-module(py_watch).

-include("py_limits.hrl").

-export([cancelled/2, interrupted/2, overdue/3, neglected/2, neglected/3]).
-export([closed/2, closed_overdue/3]).

-export_type([subject/0, watch/0, neglect/0, closed/0]).

%% meta: what the log says of the context.
%% import_ms: how long an import may keep an interrupt; for tests.
-type subject() :: #{
    lane := ep_nif:lane(),
    kill_after := timeout(),
    meta := map(),
    import_ms => pos_integer(),
    until => integer()
}.
-type look() ::
    runs | stopped | {waits | imports, Ms :: pos_integer()} | {still, Taken :: integer()}.
-opaque watch() :: importing | {look(), Until :: integer()}.
-opaque closed() :: {running | importing, Until :: integer()}.
-opaque neglect() :: stopped | {Taken :: integer(), CpuUs :: integer(), SinceMs :: integer()}.

%% How soon to look again at a request that waits; then twice that.
-define(WATCH_MS, 10).
-define(IMPORT_MS, 60000).
%% On a busy machine an idle thread may have to wait for a CPU, and for nothing else.
-define(STILL_MS, 200).
%% A budget for requests that have none, while something computes: the default one.
-define(PATIENCE_MS, ?DEFAULT_MS).
%% A process that uses less of a CPU does not compute. Nor is it one of many that want a CPU,
%% if it is looked at for long enough; threads that wait for the GIL use some.
-define(COMPUTES_PERCENT, 2).
-define(COMPUTES_MS, 1000).

%% @doc A request was interrupted and given up.
-spec cancelled(non_neg_integer(), subject()) -> ok.
cancelled(CallId, Subject = #{kill_after := infinity}) ->
    interrupted(CallId, Subject);
cancelled(CallId, Subject) ->
    Until = now_ms() + import_ms(Subject),
    watch(CallId, progress(CallId, Subject), ?WATCH_MS, Subject#{until => Until}).

%% @doc A request was interrupted, and nobody kills it: an import does not keep the interrupt
%% for ever.
-spec interrupted(non_neg_integer(), subject()) -> ok.
interrupted(CallId, Subject) ->
    case progress(CallId, Subject) of
        Runs when Runs =:= runs; Runs =:= imports ->
            again(import_ms(Subject), {overdue, CallId, importing});
        _ ->
            ok
    end.

%% @doc `{overdue, CallId, Watch}' has come.
-spec overdue(non_neg_integer(), watch(), subject()) -> ok.
overdue(CallId, importing, #{lane := Lane}) ->
    ep_nif:lane_interrupt_import(Lane, CallId);
overdue(CallId, {Look, Until}, Subject) ->
    overdue(CallId, Look, progress(CallId, Subject), Subject#{until => Until}).

%% @doc A request without a budget was not taken. Whether it is watched now.
-spec neglected(non_neg_integer(), subject()) -> boolean().
neglected(_CallId, #{kill_after := infinity}) ->
    false;
neglected(CallId, Subject) ->
    neglect(CallId, progress(CallId, Subject), now_ms(), Subject).

%% @doc `{neglected, CallId, Neglect}' has come. Whether it is watched still.
-spec neglected(non_neg_integer(), neglect(), subject()) -> boolean().
neglected(CallId, Neglect, Subject) ->
    case {Neglect, progress(CallId, Subject)} of
        {stopped, stopped} ->
            ok = stuck(stopped, Subject),
            false;
        {{Taken, CpuUs, Since}, Progress = {still, Taken, Now}} ->
            Computes = (Now - CpuUs) * 100 > neglect_ms(Subject) * 1000 * ?COMPUTES_PERCENT,
            case Computes andalso now_ms() - Since < ?PATIENCE_MS of
                true ->
                    neglect(CallId, Progress, Since, Subject);
                false ->
                    ok = stuck(still, Subject),
                    false
            end;
        {_, Progress} ->
            neglect(CallId, Progress, now_ms(), Subject)
    end.

%% @doc Watches a lane whose context has ended and interrupted what ran there. Sends
%% `{overdue, Lane, Closed}'.
-spec closed(ep_nif:lane(), py_worker:options()) -> ok.
closed(_Lane, #{kill_after := infinity}) ->
    ok;
closed(Lane, Settings = #{kill_after := KillAfter}) ->
    closed_later(KillAfter, Lane, {running, now_ms() + import_ms(Settings)}).

%% @doc What to do about `{overdue, Lane, Closed}'. Who is still at it would keep its
%% thread, and perhaps the GIL of the others, for ever.
-spec closed_overdue(ep_nif:lane(), closed(), py_worker:options()) -> ok.
closed_overdue(Lane, {Was, Until}, #{kill_after := KillAfter}) ->
    Imports = now_ms() < Until andalso ep_nif:lane_is_importing(Lane),
    case ep_nif:lane_is_idle(Lane) of
        true -> ok;
        false when Imports -> closed_later(max(1, KillAfter), Lane, {importing, Until});
        false when Was =:= importing -> closed_later(KillAfter, Lane, {running, Until});
        false -> kill(Lane)
    end.

%% Given up

overdue(_CallId, runs, runs, #{lane := Lane}) ->
    kill(Lane);
overdue(_CallId, stopped, stopped, Subject) ->
    stuck(stopped, Subject);
overdue(_CallId, {still, Taken}, {still, Taken, _}, Subject) ->
    stuck(still, Subject);
overdue(CallId, Former, imports, Subject = #{lane := Lane, until := Until}) ->
    case now_ms() >= Until of
        true -> kill(Lane);
        false -> watch(CallId, imports, next_ms(Former), Subject)
    end;
overdue(CallId, {waits, Ms}, Progress, Subject) ->
    watch(CallId, Progress, 2 * Ms, Subject);
overdue(CallId, _Former, Progress, Subject) ->
    watch(CallId, Progress, ?WATCH_MS, Subject).

next_ms({imports, Ms}) -> 2 * Ms;
next_ms(_Former) -> ?WATCH_MS.

watch(_CallId, ended, _Ms, _Subject) ->
    ok;
watch(CallId, Progress, Ms, Subject = #{kill_after := KillAfter}) when
    Progress =:= waits; Progress =:= imports
->
    Next = max(1, min(Ms, KillAfter)),
    look(Next, CallId, {Progress, Next}, Subject);
watch(CallId, {still, Taken, _CpuUs}, _Ms, Subject) ->
    look(still_ms(Subject), CallId, {still, Taken}, Subject);
watch(CallId, Progress, _Ms, Subject = #{kill_after := KillAfter}) ->
    look(KillAfter, CallId, Progress, Subject).

look(Ms, CallId, Look, #{until := Until}) ->
    again(Ms, {overdue, CallId, {Look, Until}}).

%% Neglected

neglect(CallId, {still, Taken, CpuUs}, Since, Subject) ->
    ok = again(neglect_ms(Subject), {neglected, CallId, {Taken, CpuUs, Since}}),
    true;
neglect(CallId, stopped, _Since, Subject) ->
    ok = again(still_ms(Subject), {neglected, CallId, stopped}),
    true;
neglect(_CallId, _Progress, _Since, _Subject) ->
    false.

%% Internal

progress(CallId, #{lane := Lane}) ->
    ep_nif:lane_progress(Lane, CallId).

again(Ms, Message) ->
    _ = erlang:send_after(Ms, self(), Message),
    ok.

closed_later(Ms, Lane, Closed) ->
    again(Ms, {overdue, Lane, Closed}).

import_ms(Subject) ->
    maps:get(import_ms, Subject, ?IMPORT_MS).

still_ms(#{kill_after := KillAfter}) ->
    max(KillAfter, ?STILL_MS).

neglect_ms(Subject) ->
    max(?COMPUTES_MS, still_ms(Subject)).

stuck(Why, Subject = #{lane := Lane, meta := Meta}) ->
    #{os_pid := OsPid} = ep_nif:lane_stats(Lane),
    %% Others may have found out at the same time.
    case ep_nif:lane_kill(Lane) of
        ok -> py_report:stuck(Why, still_ms(Subject), OsPid, Meta);
        dying -> ok
    end.

kill(Lane) ->
    _ = ep_nif:lane_kill(Lane),
    ok.

now_ms() ->
    erlang:monotonic_time(millisecond).
