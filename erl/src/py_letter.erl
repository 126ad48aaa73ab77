%% SPDX-License-Identifier: Apache-2.0

%% @private Messages that Python sends to Erlang processes: how a receiver is, and how much may
%% be sent. Short messages come from the worker without asking, as long as it has credit (see
%% nif/lane/ep_letter.h); it asks here before the first one, every few milliseconds, and when
%% the credit is used up. A longer message comes as a question of its own.
%%
%% All of this runs in the process that waits for the request that sends, or in one of
%% py_callback_runner's. It waits there while the receiver has too much to do, so that Python
%% waits, and so that a worker that does not want to wait gets no credit.
-module(py_letter).

-include("ep_nif.hrl").

-export([answer/3]).
%% Internal
-export([tell_load/1]).

%% Messages in a mailbox, beyond which it is full: each further one waits a moment.
-define(FULL, 10000).
%% The same for a sender that must not wait, because an event loop runs there, and for a receiver
%% that waits for the very request that sends, so that it cannot make room. Without an end, a
%% worker that lies would fill the VM.
-define(FULL_IN_LOOP, 100000).
-define(FULL_OF_CALLER, 1000000).
%% Bytes in a mailbox beyond which it is full for a long message.
-define(FULL_BYTES, (64 bsl 20)).
%% Long messages that fit in any case.
-define(LONG_MIN, 4).
%% How many times as many fit in a loop, and for a caller.
-define(LONG_MORE, 10).
%% How long a message to a full mailbox waits, and a long one at most.
-define(PAUSE_MS, 1).
-define(LONG_PAUSE_MS, 100).
%% A process that does not say within this how much it has is busy with something else.
-define(LOOK_MS, 20).

%% What Python hears, as ep_py_letter.c knows it.
-define(DEAD, 0).
-define(OPEN, 1).
-define(FULL_NOW, 2).
-define(REMOTE, 3).

-type target() :: ep_nif:lane() | ep_nif:asker().

%% @doc The answer to a question about a receiver, or to a long message. A worker may send
%% anything: what is none of these raises.
-spec answer(target(), Question :: integer(), term()) -> {value, {What :: integer(), Limit :: non_neg_integer()}}.
answer(Target, ?QUESTION_RECEIVER, [Pid, MayWait]) when is_pid(Pid), is_boolean(MayWait) ->
    {value, receiver(Target, Pid, MayWait)};
answer(Target, ?QUESTION_DELIVER, {Size, [MayWait, Pid, Term]}) when is_pid(Pid), is_integer(MayWait) ->
    {value, deliver(Target, Pid, MayWait =/= 0, Size, Term)}.

%% Internal

receiver(Target, Pid, MayWait) ->
    Load = load(reader(Pid)),
    IsFull = is_full(Target, Pid, Load, MayWait) orelse is_sample_full(Target, Pid),
    ok = pause(IsFull),
    said(Target, Pid, Load, IsFull).

%% One that was sent to without asking about it.
is_sample_full(Target, Pid) ->
    case ep_nif:letter_sample(Target) of
        Other when is_pid(Other), Other =/= Pid -> is_full(Target, Other, load(Other), true);
        _ -> false
    end.

said(_Target, _Pid, dead, _IsFull) ->
    {?DEAD, 0};
said(Target, Pid, _Load, IsFull) ->
    {state(Pid, IsFull), ep_nif:letter_grant(Target, IsFull)}.

state(_Pid, true) -> ?FULL_NOW;
state(Pid, false) when node(Pid) =/= node() -> ?REMOTE;
state(_Pid, false) -> ?OPEN.

deliver(Target, Pid, MayWait, Size, Term) ->
    %% As if all that waits there were as long.
    Most = min(?FULL, max(?LONG_MIN, ?FULL_BYTES div Size)),
    ok = wait_for_room(Target, Pid, MayWait, Most, ?LONG_PAUSE_MS),
    case ep_nif:letter_send(Pid, Term) of
        true -> {state(Pid, false), ep_nif:letter_grant(Target, false)};
        false -> {?DEAD, 0}
    end.

wait_for_room(_Target, _Pid, _MayWait, _Most, 0) ->
    ok;
wait_for_room(Target, Pid, MayWait, Most, Ms) ->
    case has_room(Target, Pid, MayWait, Most, load(reader(Pid))) of
        true ->
            ok;
        false ->
            ok = pause(true),
            wait_for_room(Target, Pid, MayWait, Most, Ms - ?PAUSE_MS)
    end.

has_room(_Target, _Pid, _MayWait, Most, Load) when is_integer(Load), Load =< Most -> true;
has_room(_Target, _Pid, _MayWait, Most, Load) when is_integer(Load), Load > ?LONG_MORE * Most -> false;
has_room(_Target, _Pid, _MayWait, _Most, dead) -> true;
has_room(_Target, _Pid, false, _Most, _Load) -> true;
has_room(Target, Pid, true, _Most, _Load) -> waits(Target, Pid).

pause(true) -> receive after ?PAUSE_MS -> ok end;
pause(false) -> ok.

is_full(_Target, _Pid, Load, _MayWait) when is_integer(Load), Load =< ?FULL -> false;
is_full(_Target, _Pid, Load, _MayWait) when is_integer(Load), Load > ?FULL_OF_CALLER -> true;
is_full(_Target, _Pid, dead, _MayWait) -> false;
is_full(Target, Pid, Load, false) -> is_integer(Load) andalso Load > ?FULL_IN_LOOP andalso not waits(Target, Pid);
is_full(Target, Pid, _Load, true) -> not waits(Target, Pid).

%% Whether the process waits for this very request, so that it cannot make room.
waits(_Target, Pid) when Pid =:= self() -> true;
waits(Target, Pid) -> ep_nif:letter_waits(Target, Pid).

%% The process in whose mailbox a message to Pid waits.
reader(Pid) when node(Pid) =:= node() -> Pid;
reader(Pid) -> py_letter_carrier:reader(Pid).

%% How many messages a process has. It may be long in coming to say so, when it runs; so
%% another one asks.
-spec load(pid() | undefined) -> non_neg_integer() | dead | busy.
load(Pid) when Pid =:= self() ->
    {message_queue_len, N} = process_info(Pid, message_queue_len),
    N;
load(undefined) ->
    0;
load(Pid) ->
    {Asker, Ref} = spawn_monitor(?MODULE, tell_load, [Pid]),
    receive
        {'DOWN', Ref, process, Asker, {?MODULE, {message_queue_len, N}}} -> N;
        {'DOWN', Ref, process, Asker, {?MODULE, undefined}} -> dead;
        {'DOWN', Ref, process, Asker, _} -> busy
    after ?LOOK_MS ->
        true = erlang:demonitor(Ref, [flush]),
        true = exit(Asker, kill),
        busy
    end.

%% @private
-spec tell_load(pid()) -> no_return().
tell_load(Pid) ->
    exit({?MODULE, process_info(Pid, message_queue_len)}).
