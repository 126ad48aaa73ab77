%% SPDX-License-Identifier: Apache-2.0

%% @private The items of a request, as messages to a process, the owner of the stream. A helper
%% takes them from Python and sends them on, as long as the owner has given credit or, without
%% credit, while its mailbox is short. Meanwhile the items wait on their belt, and when that is
%% full Python waits.
%%
%% The reference of a stream is two things: the helper's monitor of the owner, and an alias of the
%% helper, by which acks and a cancel reach it. Both end with the helper, so nothing has to be
%% cleaned up.
-module(py_stream_sender).

-include("ep_nif.hrl").
-include("py_limits.hrl").

-export([start/3, ack/2, cancel/1]).

%% Messages in the owner's mailbox beyond which a stream without credit waits.
-define(FULL, 1000).
%% How often it looks then.
-define(PAUSE_MS, 1).
%% How long Python has to come to its next item when the owner has died, before it is interrupted.
-define(DEAD_MS, 20).
%% The same after a cancel, if kill_after says nothing.
-define(CANCEL_MS, 1000).
%% How often a helper that waits looks whether its wake-up was lost.
-define(CHECK_MS, 1000).

-record(sender, {
    ref :: reference(),
    owner :: pid(),
    route :: py_request:route(),
    %% credits left and credits at first; infinity: the mailbox counts
    credit :: non_neg_integer() | infinity,
    most :: pos_integer() | infinity,
    %% items that may be sent before the mailbox is looked at again. The first is: a look waits for a
    %% turn of the owner, which has one to come anyway
    unseen = 1 :: non_neg_integer(),
    call :: ep_nif:call() | undefined,
    run :: py_request:run() | undefined,
    flags :: non_neg_integer(),
    %% whose items a task makes
    stream :: py_async_stream:stream() | undefined,
    tag = make_ref() :: reference(),
    %% what the call waits for: nothing, this process, or an answer to a question
    rest = none :: none | message | {go_on, non_neg_integer()}
}).

%% @doc Starts a stream. Everything is checked.
-spec start(py_request:route() | noproc, py_request:subject(), py_options:stream()) -> {ok, reference()}.
start(noproc, _Subject, #{owner := Owner}) ->
    Ref = make_ref(),
    ok = tell(Owner, Ref, {error, {context_died, noproc}}),
    {ok, Ref};
start(Route, Subject, Options) ->
    Frame = py_nesting:frame(),
    Starter = self(),
    {Helper, Monitor} = spawn_monitor(fun() -> init(Starter, Frame, Route, Subject, Options) end),
    receive
        {py_stream_started, Helper, Ref} ->
            true = demonitor(Monitor, [flush]),
            {ok, Ref};
        {'DOWN', Monitor, process, Helper, Reason} ->
            erlang:error({helper_died, Reason})
    end.

%% @doc Gives credit back.
-spec ack(reference(), pos_integer()) -> ok.
ack(Ref, N) ->
    _ = Ref ! {py_stream_ack, Ref, N},
    ok.

-spec cancel(reference()) -> ok.
cancel(Ref) ->
    _ = Ref ! {py_stream_cancel, Ref},
    ok.

%% The helper

init(Starter, Frame, Route, Subject, #{owner := Owner, credit := Credit, flags := Flags}) ->
    Ref = monitor(process, Owner, [{alias, explicit_unalias}]),
    %% Not before the request is on its way: so Python begins while this is told.
    Begun = fun() ->
        _ = Starter ! {py_stream_started, self(), Ref},
        ok
    end,
    Sender = #sender{ref = Ref, owner = Owner, credit = Credit, most = Credit, route = Route, flags = Flags},
    Options = #{timeout => ?DEFAULT_MS, kwargs => #{}, guard => Ref, flags => Flags},
    Result = py_nesting:inherit(Frame, fun() ->
        py_request:stream(Route, Subject, Options, Begun, fun(Call, Run) ->
            run(Sender#sender{call = Call, run = Run})
        end)
    end),
    ended(Sender, Result).

%% ok: the owner knows, or is dead.
ended(_Sender, ok) -> ok;
ended(_Sender, {asynchronous, Sender}) -> ended(Sender, run_asynchronous(Sender));
ended(#sender{owner = Owner, ref = Ref}, {ok, _}) -> tell(Owner, Ref, done);
ended(#sender{owner = Owner, ref = Ref}, {error, Reason}) -> tell(Owner, Ref, {error, reason(Reason)}).

tell(Owner, Ref, Event) ->
    _ = Owner ! {py_stream, Ref, Event},
    ok.

%% What an exception says, or a term of the library.
reason(cancelled) ->
    <<"cancelled">>;
reason({Type, Text}) when is_list(Text) orelse is_binary(Text), Type =/= worker_unavailable ->
    unicode:characters_to_binary(Text);
reason(Reason) ->
    Reason.

run(Sender) ->
    try
        loop(Sender)
    catch
        throw:{?MODULE, cancelled, Last} -> cancelled(Last);
        throw:{?MODULE, owner_died, Last} -> finish(Last, ?DEAD_MS)
    end.

loop(Sender = #sender{call = Call, run = Run, tag = Tag}) ->
    case py_stream:event(Call, Run, Tag) of
        {items, Items} ->
            loop(send(Items, look(Sender)));
        {go_on, Number, Items} ->
            Sent = send(Items, look(Sender#sender{rest = {go_on, Number}})),
            case ep_nif:stream_go_on(Call, Number) of
                ok -> loop(Sent#sender{rest = none});
                Error -> Error
            end;
        {asynchronous, Number, Key} ->
            open(Number, Key, Sender);
        {last, [], {ok, _}} when Sender#sender.stream =/= undefined ->
            {asynchronous, Sender};
        {last, Items, Result} ->
            _ = send(Items, Sender),
            ok = close(Sender),
            Result;
        waiting ->
            loop(wait(Sender#sender{rest = message}));
        none ->
            loop(look(Sender))
    end.

%% --- a task makes the items -------------------------------------------------------------

open(Number, Key, Sender = #sender{call = Call, route = Route, flags = Flags, stream = Before}) ->
    case py_async_stream:open(Before, Route, Key, {Call, Number}, Flags) of
        {opened, Stream} -> loop(Sender#sender{stream = Stream});
        ok -> loop(Sender);
        Result -> Result
    end.

close(#sender{stream = undefined}) -> ok;
close(#sender{stream = Stream}) -> py_async_stream:close(Stream).

%% The task ends with this process at the latest.
run_asynchronous(Sender) ->
    try
        fetch(Sender)
    catch
        throw:{?MODULE, cancelled, #sender{owner = Owner, ref = Ref}} ->
            ok = tell(Owner, Ref, {error, <<"cancelled">>}),
            close(Sender);
        throw:{?MODULE, owner_died, _} ->
            close(Sender)
    end.

fetch(Sender = #sender{stream = Stream}) ->
    case py_async_stream:fetch(Stream) of
        {pending, Call} ->
            {Result, Next} = await(Call, Sender),
            fetched(Result, Next);
        again ->
            fetch(receive_any(Sender, ?PAUSE_MS));
        Result ->
            fetched(Result, Sender)
    end.

fetched(Result, Sender = #sender{stream = Stream}) ->
    case py_async_stream:fetched(Result, Stream) of
        {items, Items, Next} ->
            fetch(send(Items, look(Sender#sender{stream = Next})));
        {again, Next} ->
            fetch(Sender#sender{stream = Next});
        over ->
            {End, _} = await(py_async_stream:maker(Stream), Sender),
            End;
        Error ->
            ok = close(Sender),
            Error
    end.

await(Call, Sender = #sender{tag = Tag}) ->
    case ep_nif:await(Call, Tag) of
        waiting ->
            Next = wait_for_task(Sender),
            {ep_nif:collect(Call), Next};
        Result ->
            {Result, Sender}
    end.

wait_for_task(Sender = #sender{ref = Ref, tag = Tag}) ->
    receive
        {py_done, Tag} -> Sender;
        {py_stream_ack, Ref, N} -> wait_for_task(acked(N, Sender));
        {py_stream_cancel, Ref} -> throw({?MODULE, cancelled, Sender});
        {'DOWN', Ref, process, _, _} -> throw({?MODULE, owner_died, Sender})
    end.

%% --- sending ----------------------------------------------------------------------------

send([], Sender) ->
    Sender;
send(Items, Sender = #sender{credit = 0}) ->
    send(Items, receive_any(Sender, infinity));
send(Items, Sender = #sender{credit = infinity, unseen = 0}) ->
    send(Items, wait_for_room(Sender));
send([Item | Items], Sender = #sender{owner = Owner, ref = Ref}) ->
    ok = tell(Owner, Ref, {data, Item}),
    send(Items, count(Sender)).

count(Sender = #sender{credit = infinity, unseen = Unseen}) -> Sender#sender{unseen = Unseen - 1};
count(Sender = #sender{credit = Credit}) -> Sender#sender{credit = Credit - 1}.

%% Others send to the owner, too: half of what fits, before the next look.
wait_for_room(Sender = #sender{owner = Owner}) ->
    case process_info(Owner, message_queue_len) of
        {message_queue_len, N} when N =< ?FULL -> Sender#sender{unseen = 1 + (?FULL - N) div 2};
        _ -> wait_for_room(receive_any(Sender, ?PAUSE_MS))
    end.

%% --- what comes meanwhile ------------------------------------------------------------------

look(Sender) ->
    receive_any(Sender, 0).

receive_any(Sender = #sender{ref = Ref}, Ms) ->
    receive
        {py_stream_ack, Ref, N} -> acked(N, Sender);
        {py_stream_cancel, Ref} -> throw({?MODULE, cancelled, Sender});
        {'DOWN', Ref, process, _, _} -> throw({?MODULE, owner_died, Sender})
    after Ms -> Sender
    end.

%% Until there is something in the stream.
wait(Sender = #sender{ref = Ref, tag = Tag, call = Call, run = Run}) ->
    receive
        {py_done, Tag} -> Sender#sender{rest = none};
        {py_stream_ack, Ref, N} -> wait(acked(N, Sender));
        {py_stream_cancel, Ref} -> throw({?MODULE, cancelled, Sender});
        {'DOWN', Ref, process, _, _} -> throw({?MODULE, owner_died, Sender})
    after ?CHECK_MS ->
        ok = py_request:check(Call, Run),
        wait(Sender)
    end.

acked(_N, Sender = #sender{credit = infinity}) -> Sender;
acked(N, Sender = #sender{credit = Credit, most = Most}) -> Sender#sender{credit = min(Most, Credit + N)}.

%% --- the end -----------------------------------------------------------------------------------

cancelled(Sender = #sender{owner = Owner, ref = Ref, route = {Ctx, _, _}}) ->
    ok = tell(Owner, Ref, {error, <<"cancelled">>}),
    finish(Sender, patience(py_context_table:info(Ctx))).

patience({ok, #{kill_after := Ms}}) when is_integer(Ms) -> Ms;
patience(_) -> ?CANCEL_MS.

%% Python ends the stream at its next item; if it comes to none, it is interrupted.
finish(Sender = #sender{call = Call, tag = Tag, rest = Rest}, Ms) ->
    ok = close(Sender),
    try ep_nif:stream_finish(Call) of
        true -> rest(Rest, Sender, erlang:monotonic_time(millisecond) + Ms);
        false -> py_stream:give_up(Call, Tag)
    catch
        %% It has ended.
        error:badarg -> ok
    end.

rest(none, Sender, Deadline) ->
    drain(Sender, Deadline);
rest(message, Sender, Deadline) ->
    drain_later(Sender, Deadline);
rest({go_on, Number}, Sender = #sender{call = Call}, Deadline) ->
    case ep_nif:stream_go_on(Call, Number) of
        ok -> drain(Sender, Deadline);
        {error, timeout} -> ok
    end.

drain(Sender = #sender{call = Call, run = Run, tag = Tag}, Deadline) ->
    case py_stream:event(Call, Run, Tag) of
        {last, _, _} -> ok;
        {go_on, Number, _} -> rest({go_on, Number}, Sender, Deadline);
        {asynchronous, Number, _} -> refuse(Number, Sender, Deadline);
        waiting -> drain_later(Sender, Deadline);
        _ItemsOrNone -> drain(Sender, Deadline)
    end.

refuse(Number, Sender = #sender{call = Call}, Deadline) ->
    case py_async_stream:refuse(Call, Number) of
        ok -> drain(Sender, Deadline);
        _ -> ok
    end.

drain_later(Sender = #sender{call = Call, tag = Tag, ref = Ref}, Deadline) ->
    receive
        {py_done, Tag} -> drain(Sender, Deadline);
        {py_stream_ack, Ref, _} -> drain_later(Sender, Deadline);
        {py_stream_cancel, Ref} -> drain_later(Sender, Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) -> py_stream:give_up(Call, Tag)
    end.
