%% SPDX-License-Identifier: Apache-2.0

%% @doc A process that makes one request, and stays to show what it left behind.
-module(evil_caller).

-export([start/1, go/1, parked/1, parked_task/1, asked/1, answers/2, left/1]).
-export([wait/1, now/1, slow/1]).

-export_type([caller/0, outcome/0]).

-type caller() :: {pid(), reference()}.
-type outcome() :: {answer, term()} | {raised, term()} | {ended, term()} | none.

-define(POLL_MS, 1).
-define(STATE_MS, 2000).

-spec start(fun(() -> term())) -> caller().
start(Fun) ->
    Owner = self(),
    spawn_monitor(fun() ->
        Outcome =
            try
                {answer, summary(Fun())}
            catch
                Class:Reason:Stack -> {raised, {Class, Reason, Stack}}
            end,
        Owner ! {answered, self(), Outcome},
        receive
            {evil, show, Ref} -> Owner ! {Ref, strays(), get('$py_frame'), get('$py_bound')}
        end
    end).

%% @doc Lets the callback end that the caller runs, or will run.
-spec go(caller()) -> ok.
go({Pid, _}) ->
    Pid ! {evil, go},
    ok.

%% @doc Returns when the caller waits for a message: true; or when it did not come to that.
-spec parked(caller()) -> boolean().
parked({Pid, _}) ->
    is_in(Pid, receive_done, py_request).

%% @doc The same for a caller of a task.
-spec parked_task(caller()) -> boolean().
parked_task({Pid, _}) ->
    is_in(Pid, receive_done, py_task).

%% @doc The same for a caller that runs its callback.
-spec asked(caller()) -> boolean().
asked({Pid, _}) ->
    is_in(Pid, wait, ?MODULE).

%% @doc Collects the outcomes of all, until the time is over.
-spec answers([caller()], non_neg_integer()) -> #{caller() => outcome()}.
answers(Callers, Timeout) ->
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    maps:from_list([{Caller, outcome(Caller, Deadline)} || Caller <- Callers]).

%% @doc Messages and entries of its dictionary that the request left behind. Ends it.
-spec left(caller()) -> [term()].
left({Pid, Ref}) ->
    Pid ! {evil, show, Ref},
    receive
        {Ref, Strays, Frame, Bound} ->
            receive
                {'DOWN', Ref, process, Pid, _} -> ok
            end,
            [{stray, M} || M <- Strays] ++ [{frame, Frame} || Frame =/= undefined] ++
                [{bound, Bound} || is_tuple(Bound), element(1, Bound) =:= nested];
        {'DOWN', Ref, process, Pid, killed} ->
            [];
        {'DOWN', Ref, process, Pid, Reason} ->
            [{ended, Reason}]
    after 5000 -> [{silent, process_info(Pid, current_stacktrace)}]
    end.

%% Callbacks that Python, or who says that he is Python, may call.

-spec wait(list()) -> none.
wait(_Args) ->
    receive
        {evil, go} -> none
    end.

-spec now(list()) -> none.
now(_Args) ->
    none.

-spec slow(list()) -> none.
slow(_Args) ->
    receive
    after 2000 -> none
    end.

%% Internal

outcome({Pid, Ref}, Deadline) ->
    receive
        {answered, Pid, Outcome} -> Outcome;
        %% left/1 looks at it again.
        {'DOWN', Ref, process, Pid, Reason} -> self() ! {'DOWN', Ref, process, Pid, Reason}, {ended, Reason}
    after max(0, Deadline - erlang:monotonic_time(millisecond)) -> none
    end.

%% A value may be large, and is of no interest.
summary({ok, _}) -> ok;
summary({error, {'MemoryError', _} = Reason}) -> {error, Reason};
summary({error, {worker_died, #{reason := Reason, started := Started}}}) -> {error, {worker_died, Reason, Started}};
summary({error, {Type, Text}}) when is_list(Text) -> {error, {Type, lists:sublist(Text, 60)}};
summary({error, {Type, Text}}) when is_binary(Text) -> {error, {Type, byte_size(Text)}};
summary({error, Reason}) when is_atom(Reason); is_tuple(Reason) -> {error, Reason};
summary(ok) -> ok.

strays() ->
    {messages, Messages} = process_info(self(), messages),
    [M || M <- Messages, M =/= {evil, go}].

is_in(Pid, Function, Module) ->
    Deadline = erlang:monotonic_time(millisecond) + ?STATE_MS,
    is_in(Pid, Function, Module, Deadline).

is_in(Pid, Function, Module, Deadline) ->
    case process_info(Pid, [current_function, dictionary]) of
        [{current_function, {Module, Function, _}}, _] ->
            true;
        undefined ->
            false;
        [{current_function, {?MODULE, _, _}}, _] when Function =/= wait ->
            %% It has been answered.
            false;
        _ ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true ->
                    receive
                    after ?POLL_MS -> is_in(Pid, Function, Module, Deadline)
                    end;
                false ->
                    false
            end
    end.
