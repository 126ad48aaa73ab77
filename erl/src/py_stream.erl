%% SPDX-License-Identifier: Apache-2.0

%% @private The items of a request, all at once: the caller takes them itself.
%%
%% {@link py_stream_sender} sends them to a process instead. What both do while Python asks
%% something, or when they want no more, is here.
-module(py_stream).

-include("ep_nif.hrl").
-include("py_limits.hrl").

-export([collect/2, collect/3, event/3, give_up/2]).

-export_type([event/0]).

%% How often a process that waits looks whether its wake-up was lost.
-define(CHECK_MS, 1000).

%% What comes next in a stream.
-type event() ::
    {items, [term()]}
    %% Python goes on when these, and all before them, were sent on: ep_nif:stream_go_on/2.
    | {go_on, Number :: non_neg_integer(), [term()]}
    %% They are asynchronous: a task is to take them, py_async_stream:open/5.
    | {asynchronous, Number :: non_neg_integer(), Key :: non_neg_integer()}
    %% These were the last ones.
    | {last, [term()], py:result() | ok}
    %% {py_done, Tag} comes when there is something.
    | waiting
    %% Nothing yet; look again.
    | none.

-record(collect, {
    call :: ep_nif:call(),
    run :: py_request:run(),
    route :: py_request:route(),
    %% whose items a task makes
    stream :: py_async_stream:stream() | undefined,
    tag = make_ref() :: reference(),
    %% between two items, ms
    between :: timeout(),
    %% of the next item; undefined: not needed yet
    deadline :: integer() | infinity | undefined,
    batches = [] :: [[term()]]
}).

%% @doc All items; between two of them pass at most 30 seconds.
-spec collect(py_request:route(), py_request:subject()) -> {ok, [term()]} | {error, term()}.
collect(Route, Subject) ->
    collect(Route, Subject, ?DEFAULT_MS).

-spec collect(py_request:route(), py_request:subject(), timeout()) -> {ok, [term()]} | {error, term()}.
collect(Route, Subject, Between) ->
    Result = py_request:stream(Route, Subject, ?PLAIN(?DEFAULT_MS), fun(Call, Run) ->
        gather(#collect{call = Call, run = Run, route = Route, between = Between})
    end),
    case Result of
        {asynchronous, Stream} -> py_async_stream:collect(Stream, Between);
        _ -> Result
    end.

%% @doc What comes next. Runs what Python asks meanwhile.
-spec event(ep_nif:call(), py_request:run(), reference()) -> event().
event(Call, Run, Tag) ->
    case ep_nif:stream_next(Call, Tag) of
        {items, _} = Items -> Items;
        waiting -> waiting;
        {callback, Call, Number, ?QUESTION_GO_ON, Items} -> {go_on, Number, Items};
        {callback, Call, Number, ?QUESTION_TASK, [Key]} when is_integer(Key), Key >= 0 -> {asynchronous, Number, Key};
        {callback, Call, Number, Question, Arguments} ->
            case py_request:callback(Call, Number, Question, Arguments, Run) of
                ok -> none;
                Answer -> {last, [], Answer}
            end;
        {fault, Error, Items} ->
            ok = give_up(Call, Tag),
            {last, Items, Error};
        Answer -> {last, [], Answer}
    end.

%% @doc Ends a stream now: Python is interrupted.
-spec give_up(ep_nif:call(), reference()) -> ok.
give_up(Call, Tag) ->
    case ep_nif:stream_cancel(Call) of
        cancelled ->
            ok;
        done ->
            receive
                {py_done, Tag} -> give_up(Call, Tag)
            end
    end.

%% Internal

gather(State = #collect{call = Call, run = Run, tag = Tag}) ->
    case event(Call, Run, Tag) of
        {items, Items} ->
            gather(add(Items, State));
        {go_on, Number, Items} ->
            case ep_nif:stream_go_on(Call, Number) of
                ok -> gather(add(Items, State));
                {error, _} = Error -> Error
            end;
        {asynchronous, Number, Key} ->
            open(Number, Key, State);
        {last, _, {error, _} = Error} ->
            ok = close(State),
            Error;
        {last, [], {ok, _}} when State#collect.stream =/= undefined ->
            {asynchronous, State#collect.stream};
        {last, Items, {ok, _}} ->
            #collect{batches = Batches} = add(Items, State),
            {ok, lists:append(lists:reverse(Batches))};
        waiting ->
            wait(with_deadline(State));
        none ->
            gather_in_time(with_deadline(State))
    end.

open(Number, Key, State = #collect{call = Call, route = Route, stream = Before}) ->
    case py_async_stream:open(Before, Route, Key, {Call, Number}, 0) of
        {opened, Stream} -> gather(State#collect{stream = Stream});
        ok -> gather(State);
        Result -> Result
    end.

close(#collect{stream = undefined}) -> ok;
close(#collect{stream = Stream}) -> py_async_stream:close(Stream).

add([], State) -> State;
add(Items, State = #collect{batches = Batches}) -> State#collect{batches = [Items | Batches], deadline = undefined}.

with_deadline(State = #collect{deadline = undefined, between = Between}) ->
    {Deadline, _} = py_nesting:deadline(Between),
    State#collect{deadline = Deadline};
with_deadline(State) ->
    State.

wait(State = #collect{call = Call, tag = Tag, deadline = Deadline}) ->
    %% infinity, an atom, is larger than any number.
    Slice = min(left(Deadline), ?CHECK_MS),
    receive
        {py_done, Tag} -> gather(State)
    after Slice ->
        case left(Deadline) of
            0 ->
                timed_out(State);
            _ ->
                ok = py_request:check(Call, State#collect.run),
                wait(State)
        end
    end.

%% After a callback, which may have taken long.
gather_in_time(State = #collect{deadline = Deadline}) ->
    case left(Deadline) of
        0 -> timed_out(State);
        _ -> gather(State)
    end.

timed_out(State = #collect{call = Call, tag = Tag}) ->
    ok = close(State),
    ok = give_up(Call, Tag),
    {error, timeout}.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
