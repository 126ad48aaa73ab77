%% SPDX-License-Identifier: Apache-2.0

%% @doc What tests of streams do with the messages of a stream.
-module(py_stream_items).

-include_lib("stdlib/include/assert.hrl").

-export([items/1, acknowledged/1, next/1, waiting/1, cancelled_after/2]).

-define(WAIT_MS, 20000).

%% All that come, and how the stream ends.
items(Ref) ->
    items(Ref, fun() -> ok end, []).

%% The same with a credit for each.
acknowledged(Ref) ->
    items(Ref, fun() -> py:stream_ack(Ref) end, []).

items(Ref, Ack, Got) ->
    receive
        {py_stream, Ref, {data, V}} ->
            ok = Ack(),
            items(Ref, Ack, [V | Got]);
        {py_stream, Ref, End} ->
            {lists:reverse(Got), End}
    after ?WAIT_MS -> error({no_end, length(Got)})
    end.
%% The next one.
next(Ref) ->
    receive
        {py_stream, Ref, {data, V}} -> V;
        {py_stream, Ref, End} -> error({ended, End})
    after ?WAIT_MS -> error(no_item)
    end.

%% How many are in the mailbox.
waiting(Ref) ->
    length([R || {py_stream, R, {data, _}} <- py_test:messages(), R =:= Ref]).

%% A stream of the function numbers that is cancelled after so many turns of this process.
cancelled_after(Turns, N) ->
    Options = case N rem 3 of 0 -> #{credit => 5}; _ -> #{} end,
    {ok, Ref} = py:stream_start('__main__', numbers, [rand:uniform(300)], Options),
    [erlang:yield() || _ <- lists:seq(1, Turns)],
    ok = py:stream_cancel(Ref),
    {Items, End} = items(Ref),
    ?assertEqual(lists:seq(0, length(Items) - 1), Items),
    ?assert(End =:= done orelse End =:= {error, <<"cancelled">>}).
