%% SPDX-License-Identifier: Apache-2.0

%% @private Tasks from the side of who makes them: requests that the event loop of a context's
%% interpreter runs, beside the requests of the context.
%%
%% The creator sends the task, so tasks of one process start in the order of their making. Where
%% it does not wait at once, its helper does, a process that lives as long as its creator: it turns
%% what comes into messages, and its end is that of the tasks.
-module(py_task).

-include_lib("kernel/include/logger.hrl").
-include("ep_nif.hrl").
-include("py_dictionary.hrl").

-export([create/2, await/2, run/3, forget/2, gather/2]).
%% For streams.
-export([start/3, run/4, wait/2]).

-export_type([job/0, route/0]).

-type route() :: py_context_router:route() | noproc.
-type job() ::
    {call, py:text(), py:text(), list(), map()}
    | {eval, py:text()}
    | {exec, py:text()}.
-type begun() :: {pending, ep_nif:call()} | again | ep_nif:result().

%% How soon a task is sent again for which there was no worker process, or no room.
-define(AGAIN_MS, 1).
-define(AGAIN_MAX_MS, 32).
-define(QUIET_MS, 100).

%% @doc The result comes to the creator as `{async_result, Ref, Result}'.
-spec create(route(), job()) -> reference().
create(Route, Job) ->
    Ref = make_ref(),
    Creator = self(),
    case send(Route, Job) of
        {pending, Call} ->
            _ = helper() ! {task, Ref, Call},
            Ref;
        again ->
            _ = spawn(fun() ->
                Guard = monitor(process, Creator),
                Creator ! {async_result, Ref, send_again(Route, Job, infinity, Guard)}
            end),
            Ref;
        Result ->
            self() ! {async_result, Ref, Result},
            Ref
    end.

%% @doc The budget is that of the wait, not of the task.
-spec await(reference(), timeout()) -> py:result().
await(Ref, Timeout) ->
    receive
        {async_result, Ref, Result} -> Result
    after Timeout -> {error, timeout}
    end.

%% @doc Waits in the calling process. At the timeout the task is cancelled.
-spec run(route(), job(), timeout()) -> ep_nif:result().
run(Route, Job, Timeout) ->
    finish(send(Route, Job), Route, Job, deadline(Timeout)).

%% @doc The same until a time of the monotonic clock, with these flags of a request.
-spec run(route(), job(), non_neg_integer(), integer() | infinity) -> ep_nif:result().
run(Route, Job, Flags, Deadline) ->
    case start(Route, Job, Flags) of
        again ->
            receive after ?AGAIN_MS -> ok end,
            case left(Deadline) of
                0 -> {error, timeout};
                _ -> run(Route, Job, Flags, Deadline)
            end;
        Begun ->
            finish(Begun, Route, Job, Deadline)
    end.

%% @doc Sends it once, with these flags of a request.
-spec start(route(), job(), non_neg_integer()) -> begun().
start({_Ctx, Lane, Env}, {call, Module, Function, Args, Kwargs}, Flags) ->
    ep_nif:call(Lane, Env, Module, Function, Args, Kwargs, Flags bor ?FLAG_TASK).

%% @doc Nobody hears of the result; an error is logged at level debug. Outlives the caller.
-spec forget(route(), job()) -> ok.
forget(Route, Job) ->
    Begun = send(Route, Job),
    _ = spawn(fun() -> report(finish(Begun, Route, Job, infinity)) end),
    ok.

%% @doc All of them at once; each has the budget.
-spec gather([{route(), job()}], timeout()) ->
    {ok, [term()]} | {error, {gather_failed, [{pos_integer(), term()}]}}.
gather(Tasks, Timeout) ->
    Begun = [{send(Route, Job), Route, Job} || {Route, Job} <- Tasks],
    Deadline = deadline(Timeout),
    Results = [finish(Sent, Route, Job, Deadline) || {Sent, Route, Job} <- Begun],
    case [{I, Reason} || {I, {error, Reason}} <- lists:zip(lists:seq(1, length(Results)), Results)] of
        [] -> {ok, [Value || {ok, Value} <- Results]};
        Failed -> {error, {gather_failed, Failed}}
    end.

%% Internal

-spec send(route(), job()) -> begun().
send(noproc, _Job) ->
    {error, {context_died, noproc}};
send({_Ctx, Lane, Env}, {call, Module, Function, Args, Kwargs}) ->
    ep_nif:call(Lane, Env, Module, Function, Args, Kwargs, ?FLAG_TASK);
send({_Ctx, Lane, Env}, {eval, Code}) ->
    ep_nif:eval(Lane, Env, Code, #{}, ?FLAG_TASK);
send({_Ctx, Lane, Env}, {exec, Code}) ->
    ep_nif:exec(Lane, Env, Code, ?FLAG_TASK).

helper() ->
    Helper = get(?TASK_HELPER),
    case is_pid(Helper) andalso is_process_alive(Helper) of
        true ->
            Helper;
        false ->
            Creator = self(),
            New = spawn(fun() -> help(Creator, monitor(process, Creator), #{}, infinity) end),
            _ = put(?TASK_HELPER, New),
            New
    end.

%% A call that nobody holds any more is cancelled. Quiet: how long to wait before what the results
%% have left behind, arrays and large binaries among it, is collected.
help(Creator, Guard, Calls, Quiet) ->
    receive
        {task, Ref, Call} ->
            case ep_nif:await(Call, Ref) of
                waiting ->
                    help(Creator, Guard, Calls#{Ref => Call}, Quiet);
                Result ->
                    Creator ! {async_result, Ref, Result},
                    help(Creator, Guard, Calls, ?QUIET_MS)
            end;
        {py_done, Ref} ->
            {Call, Left} = maps:take(Ref, Calls),
            Creator ! {async_result, Ref, ep_nif:collect(Call)},
            help(Creator, Guard, Left, ?QUIET_MS);
        {'DOWN', Guard, process, _, _} ->
            _ = [ep_nif:cancel(Call) || Call <- maps:values(Calls)],
            ok
    after Quiet ->
        _ = erlang:garbage_collect(),
        help(Creator, Guard, Calls, infinity)
    end.

finish({pending, Call}, _Route, _Job, Deadline) -> wait(Call, Deadline, undefined);
finish(again, Route, Job, Deadline) -> send_again(Route, Job, Deadline, undefined);
finish(Result, _Route, _Job, _Deadline) -> Result.

%% No bell tells of a worker process that has come up. Requests, which wait for it in a queue, are
%% the usual way to find out.
send_again(Route, Job, Deadline, Guard) ->
    send_again(Route, Job, Deadline, Guard, ?AGAIN_MS).

send_again(Route, Job, Deadline, Guard, Ms) ->
    receive
        {'DOWN', Guard, process, _, _} -> exit(normal)
    after min(Ms, left(Deadline)) ->
        case {left(Deadline), send(Route, Job)} of
            {_, {pending, Call}} -> wait(Call, Deadline, Guard);
            {0, again} -> {error, timeout};
            {_, again} -> send_again(Route, Job, Deadline, Guard, min(2 * Ms, ?AGAIN_MAX_MS));
            {_, Result} -> Result
        end
    end.

%% @doc Waits for one that runs; it is cancelled at the deadline.
-spec wait(ep_nif:call(), integer() | infinity) -> ep_nif:result().
wait(Call, Deadline) ->
    wait(Call, Deadline, undefined).

wait(Call, Deadline, Guard) ->
    Tag = make_ref(),
    case ep_nif:await(Call, Tag) of
        waiting -> receive_done(Call, Tag, Deadline, Guard);
        Result -> Result
    end.

receive_done(Call, Tag, Deadline, Guard) ->
    receive
        {py_done, Tag} ->
            ep_nif:collect(Call);
        {'DOWN', Guard, process, _, _} ->
            _ = ep_nif:cancel(Call),
            exit(normal)
    after left(Deadline) ->
        case ep_nif:cancel(Call) of
            cancelled ->
                {error, timeout};
            done ->
                %% The reply and the timeout crossed: the message is on its way.
                receive
                    {py_done, Tag} -> ep_nif:collect(Call)
                end
        end
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

report({error, Reason}) ->
    ?LOG_DEBUG("a task failed: ~p", [Reason], #{library => erlang_python}),
    ok;
report(_Result) ->
    ok.
