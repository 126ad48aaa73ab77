%% SPDX-License-Identifier: Apache-2.0

%% @doc Requests of the crash points that have to do with what the VM keeps for both sides: arrays,
%% channels, byte channels, buffers, shared dicts. What is there after the end of a process has to be
%% what it had not taken, or all that it had said; and with the last term everything goes.
-module(chaos_crash_objects).

-export([kinds/0, request/2, left/0]).

-export_type([asker/0]).

%% call: a function of ep_chaos with these arguments, behind the id and how it leaves its mark; task: in a
%% coroutine; then: a call without a mark, once the context serves again.
-type asker() :: #{
    id := pos_integer(),
    dir := file:filename(),
    call := fun((atom(), [term()]) -> term()),
    task := fun((atom(), [term()]) -> term()),
    then := fun((atom(), [term()]) -> term())
}.
-type wrong() :: {atom(), term()}.

-define(ITEMS, 3).
%% So that a reader waits for it.
-define(LATER_MS, 5).
-define(SIZES, [1, 100000, 7]).
-define(BUFFER, 102400).
-define(SETTLE_MS, 2000).

-spec kinds() -> [atom()].
kinds() ->
    [array, hold, channel, channel_thread, channel_task, channel_send, buffer, shared_dict].

%% @doc The outcome, and what to ask when the context serves again: what is wrong then.
-spec request(atom(), asker()) -> {term(), fun(() -> [wrong()])}.
request(array, #{id := Id, call := Call}) ->
    Bin = binary:copy(<<Id:64>>, 9000),
    {ok, Array} = py_array:from_binary(Bin, uint8, {byte_size(Bin)}),
    case value(Id, Call(array, [Array])) of
        {ok, [[Same, Made]]} ->
            {ok, Bytes} = py_array:to_binary(Made),
            Good = Same =:= Array andalso list_to_binary(lists:reverse(binary_to_list(Bytes))) =:= Bin,
            {case Good of true -> ok; false -> {wrong, array} end, fun() -> [] end};
        Other ->
            {Other, fun() -> [{array, Array} || py_array:to_binary(Array) =/= {ok, Bin}] end}
    end;
request(hold, #{id := Id, call := Call, then := Then}) ->
    {ok, Array} = py_array:from_binary(<<Id:64>>, uint8, {8}),
    {ok, Ch} = py_channel:new(),
    Outcome = value(Id, Call(holds, [Array, Ch])),
    {Outcome, fun() ->
        %% The channel has an array, which goes with it.
        ok = py_channel:send(Ch, Array),
        case Then(lets_go, []) of
            {ok, <<"gone">>} -> [];
            Other -> [{lets_go, Other}]
        end
    end};
request(channel, Asker = #{call := Call}) ->
    receives(receives, Call, Asker);
request(channel_thread, Asker = #{call := Call}) ->
    receives(receives_in_thread, Call, Asker);
request(channel_task, Asker = #{task := Task}) ->
    receives(awaits_items, Task, Asker);
request(channel_send, Asker = #{id := Id, call := Call}) ->
    {ok, Ch} = py_byte_channel:new(),
    Outcome = value(Id, Call(puts, [Ch, ?SIZES])),
    {Outcome, fun() ->
        Came = came(Ch),
        Right = [binary:copy(<<K>>, Size) || {K, Size} <- lists:zip(lists:seq(1, length(?SIZES)), ?SIZES)],
        is_said(Outcome, length(Came), length(Right), Asker) ++ [{sent, Came} || not lists:prefix(Came, Right)]
    end};
request(buffer, #{id := Id, call := Call, then := Then}) ->
    {ok, Buffer} = py_buffer:new(),
    <<First:70000/binary, Second/binary>> = binary:copy(list_to_binary(lists:seq(0, 255)), ?BUFFER div 256),
    ok = py_buffer:write(Buffer, First),
    Writer = later(fun() ->
        ok = py_buffer:write(Buffer, Second),
        py_buffer:close(Buffer)
    end),
    Outcome = value(Id, Call(reads, [Buffer, ?BUFFER])),
    ok = await(Writer),
    {Outcome, fun() ->
        case Then(reads, [0, none, Buffer, ?BUFFER]) of
            {ok, [<<"ok">> | _]} -> [];
            Other -> [{buffer, Other}]
        end
    end};
request(shared_dict, Asker = #{id := Id, call := Call, then := Then}) ->
    {ok, Dict} = py:shared_dict_new(),
    Outcome = value(Id, Call(sets, [Dict, ?ITEMS])),
    {Outcome, fun() ->
        Keys = lists:sort(py:shared_dict_keys(Dict)),
        Right = [<<"k", (integer_to_binary(K))/binary>> || K <- lists:seq(1, ?ITEMS)],
        N = length(Keys),
        Values = [py:shared_dict_get(Dict, Key) || Key <- Keys],
        is_said(Outcome, N, ?ITEMS, Asker) ++
            [{keys, Keys} || not lists:prefix(Keys, Right)] ++
            [{values, Values} || Values =/= lists:sublist([1, [2], 3], N)] ++
            [{looks, Looks} || Looks <- [Then(looks, [Dict])], Looks =/= {ok, N}]
    end}.

%% @doc What is there still; nothing, once nobody has a term of it.
-spec left() -> [{atom(), term()}].
left() ->
    py_test:settle(
        fun() ->
            true = erlang:garbage_collect(),
            #{objects := Objects} = ep_nif:counters(),
            #{count := Arrays} = py_shared_memory:stats(),
            [{What, N} || {What, N} <- [{objects, Objects}, {arrays, Arrays}], N > 0]
        end,
        ?SETTLE_MS
    ).

%% Internal

%% The last item comes when the reader waits.
receives(Function, Ask, Asker = #{id := Id, then := Then}) ->
    {ok, Ch} = py_channel:new(),
    {Now, [Last]} = lists:split(?ITEMS - 1, lists:seq(1, ?ITEMS)),
    [ok = py_channel:send(Ch, K) || K <- Now],
    Sender = later(fun() -> py_channel:send(Ch, Last) end),
    Outcome = value(Id, Ask(Function, [Ch, ?ITEMS])),
    ok = await(Sender),
    {wrong_items(Outcome), fun() -> is_shared(Outcome, Then(drains, [Ch]), Asker) end}.

wrong_items({ok, [Items]}) ->
    case lists:seq(1, ?ITEMS) of
        Items -> ok;
        _ -> {wrong, Items}
    end;
wrong_items(Other) ->
    Other.

%% No item came twice, and none is lost but the one that was on its way to the process when it ended.
is_shared(Outcome, {ok, Rest}, Asker) ->
    %% After the rest was asked for: whoever received has ended.
    Got = marks(Asker),
    First = ?ITEMS + 1 - length(Rest),
    [{rest, Rest} || Rest =/= lists:seq(First, ?ITEMS)] ++
        [{got, Got} || Got =/= lists:seq(1, length(Got))] ++
        [{twice, {Got, Rest}} || length(Got) >= First] ++
        [{lost, {Got, Rest}} || First - 1 - length(Got) > lost_most(Outcome)];
is_shared(_Outcome, Other, _Asker) ->
    [{drains, Other}].

%% With a value it has them all.
lost_most({ok, _}) -> 0;
lost_most(_) -> 1.

%% What Python was told of is there, and at most one thing more.
is_said(Outcome, There, All, Asker) ->
    Said = length(marks(Asker)),
    [{told, {Said, There}} || There < Said orelse There > Said + 1] ++
        [{ok_of, There} || element(1, Outcome) =:= ok, There =/= All].

marks(#{id := Id, dir := Dir}) ->
    Lines = case file:read_file(filename:join(Dir, "got")) of
        {ok, Text} -> binary:split(Text, <<"\n">>, [global, trim_all]);
        {error, enoent} -> []
    end,
    Of = integer_to_binary(Id),
    [binary_to_integer(K) || Line <- Lines, [I, K] <- [binary:split(Line, <<" ">>)], I =:= Of].

came(Ch) ->
    case py_byte_channel:try_receive(Ch) of
        {ok, Message} -> [Message | came(Ch)];
        {error, empty} -> []
    end.

value(Id, {ok, [<<"ok">>, Value, _OsPid | More]}) ->
    case chaos_history:f(Id) of
        Value -> {ok, More};
        _ -> {wrong, Value}
    end;
value(_Id, {ok, Other}) ->
    {wrong, Other};
value(_Id, Other) ->
    Other.

later(Fun) ->
    spawn_monitor(fun() ->
        receive after ?LATER_MS -> ok end,
        ok = Fun()
    end).

await({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, normal} -> ok;
        {'DOWN', Ref, process, Pid, Reason} -> {error, Reason}
    end.
