%% SPDX-License-Identifier: Apache-2.0

%% @private Streams of what is asynchronous: tasks of the event loop, beside the requests of the
%% context.
%%
%% One task makes the items and lives as long as the stream. Others fetch them: the next one says
%% how many of the last were sent on. See service/python/erlang/_streams.py.
-module(py_async_stream).

-include("ep_nif.hrl").

-export([open/5, refuse/2, fetch/1, fetched/2, maker/1, collect/2, close/1]).

-export_type([stream/0]).

-define(PYTHON, <<"erlang._streams">>).
%% Items that one fetch brings.
-define(MOST, 64).
%% How soon what found no room is tried again, and how often at the start, while Python waits.
-define(AGAIN_MS, 1).
-define(TRIES, 1000).
%% Of an exception, what Python says of it.
-define(IS_TEXT(Text), (is_list(Text) orelse is_binary(Text))).

-record(stream, {
    route :: py_request:route(),
    key :: non_neg_integer(),
    %% of the request: how items look
    flags :: non_neg_integer(),
    %% the task that makes the items
    maker :: ep_nif:call(),
    %% items that were fetched last, and are sent on when the next ones are fetched
    sent = 0 :: non_neg_integer(),
    most = ?MOST :: pos_integer()
}).

-opaque stream() :: #stream{}.

%% @doc A request asks for a task that takes what lies under that key. It goes on then, and ends.
%% Before: what it has asked for already, which is none if the worker does not lie.
-spec open(stream() | undefined, py_request:route(), non_neg_integer(), {ep_nif:call(), non_neg_integer()},
           non_neg_integer()) -> {opened, stream()} | ok | py:result().
open(#stream{}, _Route, _Key, {Call, Number}, _Flags) ->
    refuse(Call, Number);
open(undefined, Route, Key, {Call, Number}, Flags) ->
    case begin_task(Route, {call, ?PYTHON, <<"open">>, [Key], #{}}, Flags, ?TRIES) of
        {pending, Maker} ->
            Stream = #stream{route = Route, key = Key, flags = Flags, maker = Maker},
            case py_request:answer(Call, Number, {value, true}) of
                ok ->
                    {opened, Stream};
                Result ->
                    ok = close(Stream),
                    Result
            end;
        _ ->
            refuse(Call, Number)
    end.

%% @doc No task takes it. ok: the request goes on.
-spec refuse(ep_nif:call(), non_neg_integer()) -> ok | py:result().
refuse(Call, Number) ->
    py_request:answer(Call, Number, {raise, {'RuntimeError', <<"the stream has no task to make its items">>}}).

%% @doc Asks for the next items. {@link fetched/2} says what the result means. `again': there is
%% no room, later again.
-spec fetch(stream()) -> {pending, ep_nif:call()} | again | ep_nif:result().
fetch(#stream{route = Route, flags = Flags} = Stream) ->
    py_task:start(Route, fetch_job(Stream), Flags).

%% @doc What comes next in the stream. `over': no items are left, and
%% {@link maker/1} ends.
-spec fetched(ep_nif:result(), stream()) -> {items, [term()], stream()} | {again, stream()} | over | {error, term()}.
fetched({ok, []}, _Stream) ->
    over;
fetched({ok, Items}, Stream = #stream{most = Most}) when is_list(Items), length(Items) =< Most ->
    {items, Items, Stream#stream{sent = length(Items), most = min(2 * Most, ?MOST)}};
%% Not of our code: a worker that lies.
fetched({ok, _}, _Stream) ->
    {error, {'RuntimeError', "what fetches the items of a stream has returned something else"}};
%% One of them cannot be converted, or they are too long together: those before it come first.
fetched({error, {_Type, Text}}, Stream = #stream{most = Most}) when ?IS_TEXT(Text), Most > 1 ->
    {again, Stream#stream{sent = 0, most = 1}};
fetched({error, {Type, Text}}, _Stream) when ?IS_TEXT(Text) ->
    {error, {Type, of_item(Text)}};
fetched({error, _} = Error, _Stream) ->
    Error.

%% @doc The task that makes the items: its result is that of the stream.
-spec maker(stream()) -> ep_nif:call().
maker(#stream{maker = Maker}) ->
    Maker.

%% @doc All items; Between is the budget for each.
-spec collect(stream(), timeout()) -> {ok, [term()]} | {error, term()}.
collect(Stream, Between) ->
    case collect(Stream, Between, []) of
        {ok, _} = All ->
            All;
        Error ->
            ok = close(Stream),
            Error
    end.

%% @doc Cancels the task: Python closes the iterable.
-spec close(stream()) -> ok.
close(#stream{maker = Maker}) ->
    try ep_nif:cancel(Maker) of
        _ -> ok
    catch
        %% It has ended.
        error:badarg -> ok
    end.

%% Internal

collect(Stream = #stream{route = Route, flags = Flags}, Between, Batches) ->
    {Deadline, _} = py_nesting:deadline(Between),
    case fetched(py_task:run(Route, fetch_job(Stream), Flags, Deadline), Stream) of
        {items, Items, Next} -> collect(Next, Between, [Items | Batches]);
        {again, Next} -> collect(Next, Between, Batches);
        over -> collected(py_task:wait(maker(Stream), Deadline), Batches);
        Error -> Error
    end.

collected({ok, _}, Batches) -> {ok, lists:append(lists:reverse(Batches))};
collected(Error, _Batches) -> Error.

fetch_job(#stream{key = Key, sent = Sent, most = Most}) ->
    {call, ?PYTHON, <<"fetch">>, [Key, Sent, Most], #{}}.

begin_task(Route, Job, Flags, Tries) ->
    case py_task:start(Route, Job, Flags) of
        again when Tries > 0 ->
            receive after ?AGAIN_MS -> begin_task(Route, Job, Flags, Tries - 1) end;
        Begun ->
            Begun
    end.

%% Python says where in the list something is amiss; it was the only one there.
of_item(Text) when is_binary(Text) ->
    case Text of
        <<"result[0]", Rest/binary>> -> <<"item", Rest/binary>>;
        _ -> Text
    end;
of_item("result[0]" ++ Rest) ->
    "item" ++ Rest;
of_item(Text) ->
    Text.
