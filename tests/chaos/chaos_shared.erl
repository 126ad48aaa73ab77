%% SPDX-License-Identifier: Apache-2.0

%% @doc Requests of a storm that use what the VM keeps for both sides: channels, byte channels, buffers, shared
%% dicts. Each request has an outcome as any other; beside that, an event says what came through, for the checker.
-module(chaos_shared).

-include("chaos.hrl").

-export([channel/2, byte_channel/4, dict/4, buffer/4]).

-export_type([reader/0]).

%% One after the other: the items and whether they were the last ones; or how many of them the reader may have had
%% when it failed: none if it had not started.
-type reader() :: {ok, [pos_integer()], IsAll :: boolean()} | {failed, Most :: non_neg_integer()}.
-type call() :: fun((atom(), [term()]) -> term()).

%% Readers of one channel, the others go with it.
-define(READERS, 5).
-define(PAGE, 256).

%% @doc The items of a channel are shared by several requests, each made when the one before has ended. Reader makes
%% one of them: it gets the function that asks, and gives its outcome.
-spec channel(non_neg_integer(), fun((fun((id(), none | file | state, call()) -> term())) -> term())) -> ok.
channel(Number, Reader) ->
    N = 1 + Number rem 60,
    {ok, Ch} = py_channel:new(),
    Send = fun(Pause) ->
        [begin ok = py_channel:send(Ch, K), receive after Pause -> ok end end || K <- lists:seq(1, N)],
        ok = py_channel:close(Ch)
    end,
    case Number rem 3 of
        %% It goes with the caller, which may be killed.
        0 -> _ = spawn_link(fun() -> Send(Number rem 2) end);
        _ -> Send(0)
    end,
    Readers = read(Ch, 1 + Number rem 17, Reader, ?READERS),
    chaos_history:event({items, self(), N, Readers}).

read(_Ch, _Most, _Reader, 0) ->
    [];
read(Ch, Most, Reader, Left) ->
    Self = self(),
    Tag = make_ref(),
    Outcome = Reader(fun(Id, How, Call) ->
        case Call(takes, [Id, How, Ch, Most]) of
            {ok, [<<"ok">>, Value, OsPid, Items, IsAll]} ->
                Self ! {Tag, Items, IsAll},
                {ok, [<<"ok">>, Value, OsPid]};
            Other ->
                Other
        end
    end),
    Read =
        receive
            {Tag, Items, IsAll} -> {ok, Items, IsAll}
        after 0 -> {failed, may_have_had(Outcome, Most)}
        end,
    case Read of
        {ok, _, true} -> [Read];
        _ -> [Read | read(Ch, Most, Reader, Left - 1)]
    end.

may_have_had({error, {worker_died, #{started := false}}}, _Most) -> 0;
may_have_had({error, {worker_unavailable, _}}, _Most) -> 0;
may_have_had({error, {context_died, noproc}}, _Most) -> 0;
may_have_had({raised, error, badarg}, _Most) -> 0;
may_have_had(_, Most) -> Most.

%% @doc Messages of Python: all of them if it says so, else the first of them.
-spec byte_channel(id(), none | file | state, non_neg_integer(), call()) -> term().
byte_channel(Id, How, Number, Call) ->
    Sizes = [lists:nth(1 + (Number + K) rem 4, [1, 300, 40000, 0]) || K <- lists:seq(1, 1 + Number rem 12)],
    {ok, Ch} = py_byte_channel:new(),
    Result = Call(puts, [Id, How, Ch, Sizes]),
    Came = came(Ch),
    Right = [binary:copy(<<K>>, Size) || {K, Size} <- lists:zip(lists:seq(1, length(Sizes)), Sizes)],
    sent(Result, length(Sizes), [place(K, Message, Right) || {K, Message} <- lists:zip(lists:seq(1, length(Came)), Came)]).

came(Ch) ->
    case py_byte_channel:try_receive(Ch) of
        {ok, Message} -> [Message | came(Ch)];
        {error, empty} -> []
    end.

%% The number of a message if it is the one that belongs there.
place(K, Message, Right) ->
    case K =< length(Right) andalso lists:nth(K, Right) of
        Message -> K;
        _ -> wrong
    end.

%% @doc Keys that Python sets one after the other.
-spec dict(id(), none | file | state, non_neg_integer(), call()) -> term().
dict(Id, How, Number, Call) ->
    N = 1 + Number rem 8,
    {ok, Dict} = py:shared_dict_new(),
    Result = Call(sets, [Id, How, Dict, N]),
    Keys = lists:sort([{binary_to_integer(K), Key} || Key = <<"k", K/binary>> <- py:shared_dict_keys(Dict)]),
    Came = [
        case py:shared_dict_get(Dict, Key) of
            K when K rem 2 =:= 1 -> K;
            [K] when K rem 2 =:= 0 -> K;
            _ -> wrong
        end
     || {K, Key} <- Keys
    ],
    ok = py:shared_dict_destroy(Dict),
    sent(Result, N, Came).

sent(Result, N, Came) ->
    IsOk = case Result of {ok, [<<"ok">> | _]} -> true; _ -> false end,
    ok = chaos_history:event({sent, self(), N, Came, IsOk}),
    Result.

%% @doc A buffer that is written while it is read.
-spec buffer(id(), none | file | state, non_neg_integer(), call()) -> term().
buffer(Id, How, Number, Call) ->
    Pages = 1 + Number rem 400,
    Page = list_to_binary(lists:seq(0, ?PAGE - 1)),
    {ok, Buffer} = py_buffer:new(),
    _ = spawn_link(fun() ->
        [begin ok = py_buffer:write(Buffer, Page), K rem 100 =:= 0 andalso receive after 1 -> ok end end || K <- lists:seq(1, Pages)],
        ok = py_buffer:close(Buffer)
    end),
    Call(reads, [Id, How, Buffer, Pages * ?PAGE]).
