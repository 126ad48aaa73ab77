%% SPDX-License-Identifier: Apache-2.0

%% @doc Requests of a storm that bring more than one answer, or another one than a value: streams,
%% tasks, arrays, messages from Python. Each has one outcome: the value of the request if all that
%% it brought was right, an error of the library, or what was wrong.
-module(chaos_beside).

-include("chaos.hrl").

-export([stream/3, items/3, is_cancelled/1, orphan/3, task/3, run/4, gather/3, array/3, messages/3]).

-type how() :: none | file | state.

%% A stream that brings nothing hangs, whatever its own time says.
-define(WAIT_MS, ?PATIENCE_MS).

%% @doc All items at once, of a generator or an async generator.
-spec stream(id(), how(), non_neg_integer()) -> term().
stream(Id, How, Number) ->
    N = number_of_items(Number),
    case py:stream(ep_chaos, generator(Number), [Id, How, N, pause(Number)]) of
        {ok, Items} -> judge(Items =:= expected(Id, N), Id, {items, N, length(Items)});
        Error -> Error
    end.

%% @doc As messages, with credit or without; one in three is cancelled in the middle.
-spec items(id(), how(), non_neg_integer()) -> term().
items(Id, How, Number) ->
    N = number_of_items(Number),
    Options = case Number rem 4 of 0 -> #{}; _ -> #{credit => 1 + Number rem 70} end,
    {ok, Ref} = py:stream_start(ep_chaos, generator(Number), [Id, How, N, pause(Number)], Options),
    CancelAt = case is_cancelled(Number) of true -> Number rem (N + 1); false -> never end,
    take(Ref, Id, N, 0, CancelAt).

-spec is_cancelled(non_neg_integer()) -> boolean().
is_cancelled(Number) ->
    Number rem 3 =:= 0.

%% The number of those that have come, each the one after the last.
take(Ref, Id, N, Came, Came) ->
    ok = py:stream_cancel(Ref),
    take(Ref, Id, N, Came, cancelled);
take(Ref, Id, N, Came, CancelAt) ->
    First = chaos_history:f(Id),
    receive
        {py_stream, Ref, {data, V}} when V =:= First + Came, Came < N ->
            ok = py:stream_ack(Ref),
            take(Ref, Id, N, Came + 1, CancelAt);
        {py_stream, Ref, done} ->
            judge(Came =:= N, Id, {items, N, Came});
        {py_stream, Ref, {error, <<"cancelled">>}} when CancelAt =:= cancelled ->
            judge(true, Id, cancelled);
        {py_stream, Ref, {error, _} = Error} ->
            Error;
        {py_stream, Ref, Wrong} ->
            ok = py:stream_cancel(Ref),
            judge(false, Id, {wrong_item, Came, Wrong})
    after ?WAIT_MS ->
        judge(false, Id, {no_item, Came})
    end.

%% @doc The owner of a stream dies, or the creator of tasks: nobody hears of them any more.
-spec orphan(id(), how(), non_neg_integer()) -> ok.
orphan(Id, How, Number) ->
    Self = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        ok = dies_with(Self),
        orphaned(Id, How, Number)
    end),
    receive
        {'DOWN', Ref, process, Pid, _} -> ok
    after Number rem 30 ->
        true = exit(Pid, kill),
        receive
            {'DOWN', Ref, process, Pid, _} -> ok
        end
    end.

%% A storm ends callers, too: nobody would end what such a one has started. A link would hand on the end of the
%% calling process as well.
dies_with(Pid) ->
    Self = self(),
    _ = spawn(fun() ->
        Refs = [monitor(process, P) || P <- [Pid, Self]],
        receive
            {'DOWN', Ref, process, _, _} -> true = lists:member(Ref, Refs)
        end,
        true = exit(Self, kill)
    end),
    ok.

orphaned(Id, How, Number) when Number rem 3 =:= 0 ->
    _ = py:async_call(ep_chaos, rests, [Id, How, 3600]),
    receive after infinity -> ok end;
orphaned(Id, How, Number) when Number rem 3 =:= 1 ->
    {ok, _} = py:stream_start(ep_chaos, generator(Number div 3), [Id, How, 1 bsl 40, pause(Number)], #{credit => 1 + Number rem 9}),
    receive after infinity -> ok end;
orphaned(Id, How, Number) ->
    %% Awaits or computes for a short time between two items.
    py:stream(ep_chaos, generator(Number div 3), [Id, How, 1 bsl 40, 1 + pause(Number)]).

%% @doc A task, awaited later.
-spec task(id(), how(), non_neg_integer()) -> term().
task(Id, How, Number) ->
    Ref = py:async_call(ep_chaos, task, [Id, How, Number rem 8]),
    receive after Number rem 3 -> ok end,
    py:async_await(Ref, infinity).

%% @doc A task with a budget.
-spec run(id(), how(), timeout(), non_neg_integer()) -> term().
run(Id, How, Budget, Number) ->
    py_event_loop:run(ep_chaos, task, [Id, How, Number rem 80], #{timeout => Budget}).

%% @doc The first of several tasks has the name of the request.
-spec gather(id(), how(), non_neg_integer()) -> term().
gather(Id, How, Number) ->
    case py:async_gather([{ep_chaos, task, [Id, How, Number rem 5]}, {ep_chaos, rest, [0.001]}, {ep_chaos, rest, [0]}]) of
        {ok, [Value, none, none]} -> {ok, Value};
        {ok, Values} -> judge(false, Id, Values);
        %% All go to one context; what one says has become of it is true.
        {error, {gather_failed, [{1, Reason} | _]}} -> {error, Reason};
        {error, {gather_failed, [{_, Reason} | _]}} -> judge(is_gone(Reason), Id, Reason)
    end.

is_gone({Reason, _}) -> lists:member(Reason, [worker_died, worker_unavailable, context_died]);
is_gone(_) -> false.

%% @doc An array of ours comes back, the same one, and beside it one that Python made.
-spec array(id(), how(), non_neg_integer()) -> fun((fun((list()) -> term())) -> term()).
array(Id, How, Number) ->
    Size = lists:nth(1 + Number rem 5, [1, 64, 5000, 70000, 1 bsl 20]),
    Bin = binary:part(binary:copy(<<Number:64>>, Size div 8 + 1), 0, Size),
    fun(Call) ->
        {ok, Array} = py_array:from_binary(Bin, uint8, {Size}),
        case Call([Id, How, Array]) of
            {ok, [<<"ok">>, Value, OsPid, [Same, Made]]} ->
                Good =
                    Same =:= Array andalso py_array:to_binary(Same) =:= {ok, Bin} andalso
                        made_right(py_array:to_binary(Made), Bin),
                case Good of
                    true -> {ok, [<<"ok">>, Value, OsPid]};
                    false -> judge(false, Id, {array, Size, Same, py_array:to_binary(Made)})
                end;
            Other ->
                Other
        end
    end.

made_right({ok, Made}, Bin) ->
    binary_to_list(Made) =:= lists:reverse(binary_to_list(Bin));
made_right(_, _) ->
    false.

%% @doc Messages of Python to a process: all, in order, before the result; with an error, the first
%% of them.
-spec messages(id(), how(), non_neg_integer()) -> fun((fun((list()) -> term())) -> term()).
messages(Id, How, Number) ->
    N = 1 + Number rem 150,
    fun(Call) ->
        Receiver = spawn_link(fun() -> collect(Id, 0) end),
        Result = Call([Id, How, Receiver, N]),
        Receiver ! {how_many, self()},
        Came = receive {came, Receiver, Count} -> Count end,
        case Result of
            {ok, _} when Came =/= N -> judge(false, Id, {messages, N, Came});
            _ when not is_integer(Came); Came > N -> judge(false, Id, {messages, N, Came});
            _ -> Result
        end
    end.

collect(Id, Came) ->
    receive
        {Id, Came} -> collect(Id, Came + 1);
        {how_many, Pid} -> Pid ! {came, self(), Came};
        Other -> receive {how_many, Pid} -> Pid ! {came, self(), {wrong, Came, Other}} end
    end.

%% Internal

number_of_items(Number) ->
    lists:nth(1 + Number rem 6, [0, 1, 7, 64, 65, 400]).

pause(Number) ->
    case Number rem 5 of
        0 -> 1;
        _ -> 0
    end.

generator(Number) ->
    case Number rem 2 of
        0 -> items;
        1 -> async_items
    end.

expected(Id, N) ->
    First = chaos_history:f(Id),
    [First + I || I <- lists:seq(0, N - 1)].

%% In the form of what Python's functions return.
judge(true, Id, _Detail) -> {ok, [<<"ok">>, chaos_history:f(Id), undefined]};
judge(false, _Id, Detail) -> {ok, [<<"ok">>, Detail, undefined]}.
