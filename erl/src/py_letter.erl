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
%% Fewer messages than those, if all that wait are as long as the one that is looked at: so many
%% bytes, or so many times as much in a loop, and of a caller. Some fit in any case.
-define(FULL_BYTES, (64 bsl 20)).
-define(MORE_BYTES, 10).
-define(LEAST, 4).
%% How long a message to a full mailbox waits, and a long one at most.
-define(PAUSE_MS, 1).
-define(LONG_PAUSE_MS, 100).
%% A process that does not say within this how much it has is busy with something else.
-define(LOOK_MS, 20).
%% Credit in bytes: a whole grant; what is left of it while another receiver is full, to which the
%% worker may send without asking; that of one message.
-define(GRANT, (1 bsl 20)).
-define(GRANT_LITTLE, (16 bsl 10)).
-define(GRANT_ONE, 1).
-define(GRANT_NONE, 0).

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
    Sample = ep_nif:letter_sample(Target),
    case load_of(Pid) of
        dead ->
            {?DEAD, 0};
        Load ->
            Credit = credit(Target, Pid, Load, MayWait, Sample),
            ok = pause(Credit < ?GRANT),
            {state(Pid, Credit =:= ?GRANT_ONE), ep_nif:letter_grant(Target, Credit)}
    end.

credit(Target, Pid, Load, MayWait, Sample) ->
    case is_full(Target, Pid, Load, MayWait, price(Pid, Sample)) of
        true ->
            ?GRANT_ONE;
        false ->
            case is_sample_full(Target, Pid, Sample) of
                true -> ?GRANT_LITTLE;
                false -> ?GRANT
            end
    end.

%% What the last message to the process cost, as far as is known.
price(Pid, {Pid, Price}) -> Price;
price(_Pid, _Sample) -> 1.

%% One that was sent to, perhaps without asking about it.
is_sample_full(_Target, Pid, {Pid, _Price}) -> false;
is_sample_full(Target, _Pid, {Other, Price}) -> is_full(Target, Other, sampled_load(Other), true, Price);
is_sample_full(_Target, _Pid, undefined) -> false.

%% The sample of what is for other nodes is the carrier, whose messages wait elsewhere.
sampled_load(Pid) ->
    case whereis(py_letter_carrier) of
        Pid -> lists:max([0 | [N || Reader <- [Pid | py_letter_carrier:readers()], N <- [load(Reader)], is_integer(N)]]);
        _ -> load(Pid)
    end.

state(_Pid, true) -> ?FULL_NOW;
state(Pid, false) when node(Pid) =/= node() -> ?REMOTE;
state(_Pid, false) -> ?OPEN.

deliver(Target, Pid, MayWait, Size, Term) ->
    case wait_for_room(Target, Pid, MayWait, Size, ?LONG_PAUSE_MS) andalso ep_nif:letter_send(Pid, Term) of
        true -> {state(Pid, false), ep_nif:letter_grant(Target, ?GRANT_NONE)};
        false -> {?DEAD, 0}
    end.

%% Whether it is alive.
wait_for_room(_Target, _Pid, _MayWait, _Size, 0) ->
    true;
wait_for_room(Target, Pid, MayWait, Size, Ms) ->
    Load = load_of(Pid),
    case Load =/= dead andalso is_full(Target, Pid, Load, MayWait, Size) of
        false ->
            Load =/= dead;
        true ->
            ok = pause(true),
            wait_for_room(Target, Pid, MayWait, Size, Ms - ?PAUSE_MS)
    end.

pause(true) -> receive after ?PAUSE_MS -> ok end;
pause(false) -> ok.

%% Whether a mailbox with so many messages, or one that does not say, is full for one of that size.
is_full(_Target, _Pid, dead, _MayWait, _Size) ->
    false;
is_full(Target, Pid, Load, MayWait, Size) ->
    Fit = max(?LEAST, ?FULL_BYTES div max(1, Size)),
    Full = min(?FULL, Fit),
    InLoop = min(?FULL_IN_LOOP, ?MORE_BYTES * Fit),
    OfCaller = min(?FULL_OF_CALLER, ?MORE_BYTES * Fit),
    if
        Load =< Full -> false;
        is_integer(Load), Load > OfCaller -> true;
        not MayWait, (Load =:= busy orelse Load =< InLoop) -> false;
        true -> not waits(Target, Pid)
    end.

%% Whether the process waits for this very request, so that it cannot make room.
waits(_Target, Pid) when Pid =:= self() -> true;
waits(Target, Pid) -> ep_nif:letter_waits(Target, Pid).

%% How many messages wait for the process. Nobody knows whether one of another node is alive.
load_of(Pid) when node(Pid) =:= node() ->
    load(Pid);
load_of(Pid) ->
    case load(reader(Pid)) of
        dead -> 0;
        Load -> Load
    end.

%% The process in whose mailbox a message to Pid waits.
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
