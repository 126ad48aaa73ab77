%% SPDX-License-Identifier: Apache-2.0

%% @private One request from its caller's side: check the arguments, submit, wait
%% within the budget, run the callbacks that Python makes meanwhile. All of it in the
%% caller's process; there is no process between a caller and its worker.
-module(py_request).

-include("ep_nif.hrl").

-export([plain_call/5, plain_eval/3, call/6, eval/4, exec/3, stream/4, stream/5, callback/5, answer/3, check/2]).

-export_type([route/0, run/0, subject/0]).

-type route() :: {py:context(), ep_nif:lane(), ep_nif:env() | undefined}.

%% How often a parked caller looks whether its wake-up was lost. It never is;
%% the look counts `lost_wake' if it ever should be.
-define(CHECK_MS, 1000).

-record(run, {
    route :: route(),
    timeout :: timeout(),
    deadline :: integer() | infinity,
    guard :: reference() | undefined,
    %% tells the context of the deadline while the caller runs a callback; none: there is
    %% no deadline, or that of the request around it comes first
    timer :: reference() | undefined | none,
    %% a stream: who takes its items
    reader :: reader() | undefined
}).

-opaque run() :: #run{}.
%% What a stream is of.
-type subject() :: {call, py:text(), py:text(), list(), map()} | {eval, py:text(), map()}.
%% asynchronous: the request has ended, and a task makes the items.
-type streamed() :: py:result() | ok | {asynchronous, term()}.
-type reader() :: fun((ep_nif:call(), run()) -> streamed()).

%% @doc A call without options, by a process that runs no callback: the commonest
%% form, and the one whose cost is measured.
-spec plain_call(route(), Name, Name, list(), timeout()) -> py:result() when Name :: atom() | binary().
plain_call(Route = {_Ctx, Lane, Env}, Module, Function, Args, Timeout) ->
    case ep_nif:call(Lane, Env, Module, Function, Args, #{}, 0) of
        {ok, _} = Answer ->
            Answer;
        {error, _} = Answer ->
            Answer;
        Outcome ->
            Submit = fun(Flags) ->
                ep_nif:call(Lane, Env, Module, Function, Args, #{}, Flags)
            end,
            go_on(Outcome, Submit, run(Route, Timeout, undefined))
    end.

%% @doc The same for an expression without variables.
-spec plain_eval(route(), atom() | binary(), timeout()) -> py:result().
plain_eval(Route = {_Ctx, Lane, Env}, Code, Timeout) ->
    case ep_nif:eval(Lane, Env, Code, #{}, 0) of
        {ok, _} = Answer ->
            Answer;
        {error, _} = Answer ->
            Answer;
        Outcome ->
            Submit = fun(Flags) -> ep_nif:eval(Lane, Env, Code, #{}, Flags) end,
            go_on(Outcome, Submit, run(Route, Timeout, undefined))
    end.

-spec call(route(), py:text(), py:text(), list(), map(), py_options:options()) -> py:result().
call(_Route, Module, Function, _Args, _Kwargs, #{timeout := 0}) ->
    no_time([Module, Function]);
call(Route = {_Ctx, _Lane, Env}, Module, Function, Args, Kwargs, Options) ->
    M = py_text:text(Module),
    F = py_text:text(Function),
    submit(Route, Options, fun(To, Flags) ->
        ep_nif:call(To, Env, M, F, Args, Kwargs, Flags)
    end).

-spec eval(route(), py:text(), map(), py_options:options()) -> py:result().
eval(_Route, Code, _Locals, #{timeout := 0}) ->
    no_time([Code]);
eval(Route = {_Ctx, _Lane, Env}, Code, Locals, Options) ->
    Text = py_text:text(Code),
    submit(Route, Options, fun(To, Flags) -> ep_nif:eval(To, Env, Text, Locals, Flags) end).

-spec exec(route(), py:text(), py_options:options()) -> ok | {error, term()}.
exec(_Route, Code, #{timeout := 0}) ->
    no_time([Code]);
exec(Route = {_Ctx, _Lane, Env}, Code, Options) ->
    Text = py_text:text(Code),
    submit(Route, Options, fun(To, Flags) -> ep_nif:exec(To, Env, Text, Flags) end).

%% @doc A request whose items Reader takes, with {@link ep_nif:stream_next/2}. Options: the timeout is
%% for the slot, not for what comes after.
-spec stream(route(), subject(), py_options:options(), reader()) -> streamed().
stream(Route, Subject, Options, Reader) ->
    stream(Route, Subject, Options, fun() -> ok end, Reader).

%% @doc The same; Begun is called when the request was sent, or is to wait for its slot.
-spec stream(route(), subject(), py_options:options(), fun(() -> ok), reader()) -> streamed().
stream(Route = {Ctx, Lane, Env}, Subject, Options = #{timeout := Timeout, flags := Set}, Begun, Reader) ->
    %% A Python thread that asks serves plain requests only; its context serves this one.
    {_, Flags} = py_nesting:via(Ctx, Lane, slot_flag(Options, Set bor ?FLAG_STREAM)),
    Submit = fun(More) -> submit_stream(Lane, Env, Subject, Flags bor More) end,
    Run = run(Route, Timeout, maps:get(guard, Options, undefined)),
    Outcome = Submit(0),
    ok = Begun(),
    go_on(Outcome, Submit, Run#run{reader = Reader}).

submit_stream(Lane, Env, {call, Module, Function, Args, Kwargs}, Flags) ->
    ep_nif:call(Lane, Env, py_text:text(Module), py_text:text(Function), Args, Kwargs, Flags);
submit_stream(Lane, Env, {eval, Code, Locals}, Flags) ->
    ep_nif:eval(Lane, Env, py_text:text(Code), Locals, Flags).

%% @doc Runs a callback of a stream. ok: it goes on.
-spec callback(ep_nif:call(), non_neg_integer(), integer() | raise, term(), run()) -> py:result() | ok.
callback(Call, Number, Question, Arguments, Run) ->
    answer(Call, Number, ask(Question, Arguments, Run)).

%% @doc By one that has waited for a second.
-spec check(ep_nif:call(), run()) -> ok.
check(Call, Run) ->
    checked(ep_nif:check(Call), infinity, Call, Run).

%% A budget of nothing: the names are checked, nothing runs.
no_time(Texts) ->
    lists:foreach(fun py_text:text/1, Texts),
    case {ep_nif:slots(), py_nesting:frame()} of
        {{Current, Max, _}, undefined} when Current >= Max -> overloaded();
        _ -> {error, timeout}
    end.

%% Submitting

submit(Route = {Ctx, Lane, _Env}, Options = #{flags := Flags}, Fun) ->
    {To, All} = py_nesting:via(Ctx, Lane, slot_flag(Options, Flags)),
    case submit_to(To, All, Route, Options, Fun) of
        %% The Python thread that the request was meant for waits no more; it has not run.
        Gone when To =/= Lane, (Gone =:= gone orelse Gone =:= {error, cancelled}) ->
            submit_to(Lane, All, Route, Options, Fun);
        Answer ->
            Answer
    end.

submit_to(To, Flags, Route, Options = #{timeout := Timeout}, Fun) ->
    Submit = fun(More) -> Fun(To, Flags bor More) end,
    case Submit(0) of
        {ok, _} = Answer -> Answer;
        gone -> gone;
        Outcome -> go_on(Outcome, Submit, run(Route, Timeout, maps:get(guard, Options, undefined)))
    end.

slot_flag(#{slot := none}, Flags) -> Flags bor ?FLAG_HAS_SLOT;
slot_flag(_Options, Flags) -> Flags.

run(Route, Timeout, Guard) ->
    case py_nesting:deadline(Timeout) of
        {Deadline, true} ->
            #run{route = Route, timeout = Timeout, deadline = Deadline, guard = Guard};
        {Deadline, false} ->
            #run{
                route = Route, timeout = Timeout, deadline = Deadline, guard = Guard, timer = none
            }
    end.

go_on(overloaded, Submit, Run) ->
    wait_for_slot(Submit, Run);
go_on(Outcome, _Submit, Run) ->
    go(Outcome, Run).

wait_for_slot(Submit, Run) ->
    Tag = make_ref(),
    case ep_nif:slot_acquire(Tag, run) of
        {held, Slot} -> with_slot(Slot, Submit, Run);
        {waiting, Slot} -> wait_for_slot(Slot, Tag, Submit, Run)
    end.

wait_for_slot(Slot, Tag, Submit, Run = #run{deadline = Deadline, guard = Guard}) ->
    receive
        {py_slot, Tag} ->
            case ep_nif:slot_claim(Slot, Tag) of
                held -> with_slot(Slot, Submit, Run);
                waiting -> wait_for_slot(Slot, Tag, Submit, Run)
            end;
        {'DOWN', Guard, process, _, _} ->
            _ = ep_nif:slot_release(Slot),
            exit(normal);
        {py_stream_cancel, Guard} ->
            _ = ep_nif:slot_release(Slot),
            {error, cancelled}
    after left(Deadline) ->
        Error = overloaded(),
        case ep_nif:slot_release(Slot) of
            waiting ->
                Error;
            held ->
                %% The slot and the timeout crossed: the message is on its way.
                receive
                    {py_slot, Tag} -> Error
                end
        end
    end.

with_slot(Slot, Submit, Run) ->
    try
        go(Submit(?FLAG_HAS_SLOT), Run)
    after
        ep_nif:slot_release(Slot)
    end.

overloaded() ->
    {Current, Max, _Waiting} = ep_nif:slots(),
    {error, {overloaded, Current, Max}}.

%% Waiting

go({pending, Call}, Run = #run{reader = undefined}) ->
    wait(Call, Run);
go({pending, Call}, #run{reader = Reader, route = Route, guard = Guard}) ->
    Reader(Call, run(Route, infinity, Guard));
go({callback, Call, Number, Question, Arguments}, Run) ->
    run_callback(Call, Number, Question, Arguments, Run);
go(Answer, #run{timer = Timer}) when is_reference(Timer) ->
    _ = erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
    Answer;
go(Answer, _Run) ->
    Answer.

wait(Call, Run) ->
    Tag = make_ref(),
    case ep_nif:await(Call, Tag) of
        waiting -> receive_done(Call, Tag, left(Run#run.deadline), Run);
        Outcome -> go(Outcome, Run)
    end.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

receive_done(Call, Tag, Left, Run = #run{guard = Guard}) ->
    %% infinity, an atom, is larger than any number.
    Slice = min(Left, ?CHECK_MS),
    receive
        {py_done, Tag} ->
            go(ep_nif:collect(Call), Run);
        {'DOWN', Guard, process, _, _} ->
            _ = give_up(Call, Tag),
            exit(normal)
    after Slice ->
        case left(Run#run.deadline) of
            0 ->
                go(give_up(Call, Tag), Run);
            More ->
                ok = checked(ep_nif:check(Call), More, Call, Run),
                receive_done(Call, Tag, More, Run)
        end
    end.

%% A request whose budget ends is watched from then on; one without tells its context.
checked(neglected, infinity, Call, #run{route = {Ctx, _, _}}) ->
    _ = Ctx ! {py_lane, {neglected, ep_nif:call_id(Call)}},
    ok;
checked(_, _More, _Call, _Run) ->
    ok.

give_up(Call, Tag) ->
    case ep_nif:cancel(Call) of
        cancelled ->
            {error, timeout};
        done ->
            %% The reply and the timeout crossed: the message is on its way.
            receive
                {py_done, Tag} -> answer_or_give_up(ep_nif:collect(Call))
            end
    end.

%% A callback that comes too late is not run.
answer_or_give_up({callback, Call, _, _, _}) ->
    case ep_nif:cancel(Call) of
        cancelled -> {error, timeout};
        done -> answer_or_give_up(ep_nif:collect(Call))
    end;
answer_or_give_up(Answer) ->
    Answer.

%% Callbacks

%% Whatever goes wrong here, the call gives its slot back and the caller gets an answer.
run_callback(Call, Number, Question, Arguments, Run) ->
    Timed = start_timer(Call, Question, Run),
    Answer = ask(Question, Arguments, Timed),
    ok = expire_if_over(Call, Question, Timed),
    go(answer(Call, Number, Answer), Timed).

%% Shared state and the like run no code of the user.
ask(Question, Arguments, #run{route = {_, Lane, _}}) when Question =/= ?QUESTION_CALL ->
    py_callback:run(Lane, Question, Arguments);
ask(Question, Arguments, #run{route = Route = {_, Lane, _}, timeout = Timeout, deadline = Deadline}) ->
    py_nesting:within(Route, Timeout, Deadline, fun() -> py_callback:run(Lane, Question, Arguments) end).

%% @private If the deadline has passed meanwhile, that says so. Of a stream, ok: it goes on.
-spec answer(ep_nif:call(), non_neg_integer(), {value | failed | raise, term()}) -> ep_nif:outcome() | ok.
answer(Call, Number, {How, Term}) ->
    try
        ep_nif:answer(Call, Number, How, Term)
    catch
        error:badarg -> answer_refused(Call, Number)
    end.

answer_refused(Call, Number) ->
    {How, Term} = py_callback:refused(),
    try
        ep_nif:answer(Call, Number, How, Term)
    catch
        error:badarg ->
            ok = abandon(Call),
            {error, {'RuntimeError', "a callback could not be answered"}}
    end.

abandon(Call) ->
    try ep_nif:cancel(Call) of
        cancelled ->
            ok;
        done ->
            _ = answer_or_give_up(ep_nif:collect(Call)),
            ok
    catch
        %% It has ended already.
        error:badarg -> ok
    end.

%% While the caller runs a callback it cannot see to the deadline itself. The context
%% interrupts the call then, and those of the caller that it runs on top of it.
start_timer(Call, ?QUESTION_CALL, Run = #run{timer = undefined, deadline = Deadline, route = {Ctx, _, _}}) ->
    Message = {deadline, ep_nif:call_id(Call)},
    Run#run{timer = erlang:send_after(Deadline, Ctx, Message, [{abs, true}])};
start_timer(_Call, _Question, Run) ->
    Run.

%% The context may be late: Python does not get an answer after the deadline, and could
%% not return it in time.
expire_if_over(Call, ?QUESTION_CALL, #run{timer = Timer, deadline = Deadline, route = {_, Lane, _}}) when is_reference(Timer) ->
    case left(Deadline) of
        0 -> ep_nif:lane_expire(Lane, ep_nif:call_id(Call));
        _ -> ok
    end;
expire_if_over(_Call, _Question, _Run) ->
    ok.
