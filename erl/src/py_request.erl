%% SPDX-License-Identifier: Apache-2.0

%% @private One request from its caller's side: check the arguments, submit, wait
%% within the budget, run the callbacks that Python makes meanwhile. All of it in the
%% caller's process; there is no process between a caller and its worker.
-module(py_request).

-export([call/4, call/6, eval/4, exec/3, options/2, text/1]).

-export_type([route/0, options/0]).

-type route() :: {py:context(), py_nif:lane(), py_nif:env() | undefined}.
%% guard: a monitor; when what it watches dies, the request is cancelled and the
%% calling process, a helper, ends.
%% slot => none: the request needs no slot.
-type options() :: #{
    timeout := timeout(),
    kwargs := map(),
    flags := 0 | 4,
    guard => reference(),
    slot => none
}.

%% How often a parked caller looks whether its wake-up was lost. It never is;
%% the look counts `lost_wake' if it ever should be.
-define(CHECK_MS, 1000).
-define(DEFAULT_MS, 30000).
-define(DEFAULTS, #{timeout => ?DEFAULT_MS, kwargs => #{}, flags => 0}).
-define(HAS_SLOT, 16#200).

-record(run, {
    route :: route(),
    timeout :: timeout(),
    deadline :: integer() | infinity,
    guard :: reference() | undefined,
    %% tells the context of the deadline while the caller runs a callback; none: there is
    %% no deadline, or that of the request around it comes first
    timer :: reference() | undefined | none
}).

%% @doc A call with the defaults, by a process that runs no callback: the commonest
%% form, and the one whose cost is measured.
-spec call(route(), py:text(), py:text(), list()) -> py:result().
call(Route = {_Ctx, Lane, Env}, Module, Function, Args) when
    is_atom(Module) orelse is_binary(Module), is_atom(Function) orelse is_binary(Function)
->
    case py_nif:call(Lane, Env, Module, Function, Args, #{}, 0) of
        {ok, _} = Answer ->
            Answer;
        {error, _} = Answer ->
            Answer;
        Outcome ->
            Submit = fun(Flags) ->
                py_nif:call(Lane, Env, Module, Function, Args, #{}, Flags)
            end,
            go_on(Outcome, Submit, run(Route, ?DEFAULT_MS, undefined))
    end;
call(Route, Module, Function, Args) ->
    call(Route, Module, Function, Args, #{}, ?DEFAULTS).

-spec call(route(), py:text(), py:text(), list(), map(), options()) -> py:result().
call(_Route, Module, Function, _Args, _Kwargs, #{timeout := 0}) ->
    no_time([Module, Function]);
call(Route = {_Ctx, _Lane, Env}, Module, Function, Args, Kwargs, Options) ->
    M = text(Module),
    F = text(Function),
    submit(Route, Options, fun(To, Flags) ->
        py_nif:call(To, Env, M, F, Args, Kwargs, Flags)
    end).

-spec eval(route(), py:text(), map(), options()) -> py:result().
eval(_Route, Code, _Locals, #{timeout := 0}) ->
    no_time([Code]);
eval(Route = {_Ctx, _Lane, Env}, Code, Locals, Options) ->
    Text = text(Code),
    submit(Route, Options, fun(To, Flags) -> py_nif:eval(To, Env, Text, Locals, Flags) end).

-spec exec(route(), py:text(), options()) -> ok | {error, term()}.
exec(_Route, Code, #{timeout := 0}) ->
    no_time([Code]);
exec(Route = {_Ctx, _Lane, Env}, Code, Options) ->
    Text = text(Code),
    submit(Route, Options, fun(To, Flags) -> py_nif:exec(To, Env, Text, Flags) end).

%% @doc Checks a timeout or a map of options. `Allowed' lists the keys that apply
%% to the function, with their defaults.
-spec options(timeout() | map(), map()) -> options().
options(Options, Defaults) when is_map(Options) ->
    maps:fold(fun option/3, complete(Defaults), check_keys(Options, Defaults));
options(Timeout, Defaults) ->
    option(timeout, Timeout, complete(Defaults)).

%% @doc Text as an atom or binary, which the NIF takes as they are.
-spec text(py:text()) -> atom() | binary().
text(Text) when is_atom(Text); is_binary(Text) ->
    Text;
text(Text) when is_list(Text) ->
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> error(badarg)
    end;
text(_) ->
    error(badarg).

%% Options

%% A budget of nothing: the names are checked, nothing runs.
no_time(Texts) ->
    lists:foreach(fun text/1, Texts),
    case {py_nif:slots(), py_nesting:frame()} of
        {{Current, Max, _}, undefined} when Current >= Max -> overloaded();
        _ -> {error, timeout}
    end.

complete(Defaults) ->
    maps:merge(#{kwargs => #{}, flags => 0}, maps:without([traceback, arrays], Defaults)).

check_keys(Options, Defaults) ->
    case maps:without(maps:keys(Defaults), Options) of
        Unknown when map_size(Unknown) =:= 0 -> Options;
        _ -> error(badarg)
    end.

option(timeout, infinity, Acc) -> Acc#{timeout := infinity};
option(timeout, T, Acc) when is_integer(T), T >= 0, T =< 16#FFFFFFFF -> Acc#{timeout := T};
option(kwargs, Kwargs, Acc) when is_map(Kwargs) -> Acc#{kwargs := Kwargs};
%% The only form that results have as yet.
option(arrays, lists, Acc) -> Acc;
option(traceback, true, Acc) -> Acc#{flags := 4};
option(traceback, false, Acc) -> Acc;
option(_Key, _Value, _Acc) -> error(badarg).

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

slot_flag(#{slot := none}, Flags) -> Flags bor ?HAS_SLOT;
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
    case py_nif:slot_acquire(Tag, run) of
        {held, Slot} -> with_slot(Slot, Submit, Run);
        {waiting, Slot} -> wait_for_slot(Slot, Tag, Submit, Run)
    end.

wait_for_slot(Slot, Tag, Submit, Run = #run{deadline = Deadline, guard = Guard}) ->
    receive
        {py_slot, Tag} ->
            case py_nif:slot_claim(Slot, Tag) of
                held -> with_slot(Slot, Submit, Run);
                waiting -> wait_for_slot(Slot, Tag, Submit, Run)
            end;
        {'DOWN', Guard, process, _, _} ->
            _ = py_nif:slot_release(Slot),
            exit(normal)
    after left(Deadline) ->
        Error = overloaded(),
        case py_nif:slot_release(Slot) of
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
        go(Submit(?HAS_SLOT), Run)
    after
        py_nif:slot_release(Slot)
    end.

overloaded() ->
    {Current, Max, _Waiting} = py_nif:slots(),
    {error, {overloaded, Current, Max}}.

%% Waiting

go({pending, Call}, Run) ->
    wait(Call, Run);
go({callback, Call, Number, Question, Arguments}, Run) ->
    run_callback(Call, Number, Question, Arguments, Run);
go(Answer, #run{timer = Timer}) when is_reference(Timer) ->
    _ = erlang:cancel_timer(Timer, [{async, true}, {info, false}]),
    Answer;
go(Answer, _Run) ->
    Answer.

wait(Call, Run) ->
    Tag = make_ref(),
    case py_nif:await(Call, Tag) of
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
            go(py_nif:collect(Call), Run);
        {'DOWN', Guard, process, _, _} ->
            _ = give_up(Call, Tag),
            exit(normal)
    after Slice ->
        case left(Run#run.deadline) of
            0 ->
                go(give_up(Call, Tag), Run);
            More ->
                ok = py_nif:check(Call),
                receive_done(Call, Tag, More, Run)
        end
    end.

give_up(Call, Tag) ->
    case py_nif:cancel(Call) of
        cancelled ->
            {error, timeout};
        done ->
            %% The reply and the timeout crossed: the message is on its way.
            receive
                {py_done, Tag} -> answer_or_give_up(py_nif:collect(Call))
            end
    end.

%% A callback that comes too late is not run.
answer_or_give_up({callback, Call, _, _, _}) ->
    case py_nif:cancel(Call) of
        cancelled -> {error, timeout};
        done -> answer_or_give_up(py_nif:collect(Call))
    end;
answer_or_give_up(Answer) ->
    Answer.

%% Callbacks

%% Shared state and the like run no code of the user.
run_callback(Call, Number, Question, Arguments, Run) when Question =/= 0 ->
    {How, Term} = py_callback:run(Question, Arguments),
    go(py_nif:answer(Call, Number, How, Term), Run);
run_callback(Call, Number, Question, Arguments, Run = #run{route = Route, timeout = Timeout}) ->
    Timed = #run{deadline = Deadline} = start_timer(Call, Run),
    {How, Term} = py_nesting:within(Route, Timeout, Deadline, fun() ->
        py_callback:run(Question, Arguments)
    end),
    %% If the deadline has passed meanwhile, that says so.
    go(py_nif:answer(Call, Number, How, Term), Timed).

%% While the caller runs a callback it cannot see to the deadline itself. The context
%% interrupts the call then, and those of the caller that it runs on top of it.
start_timer(Call, Run = #run{timer = undefined, deadline = Deadline, route = {Ctx, _, _}}) ->
    Message = {deadline, py_nif:call_id(Call)},
    Run#run{timer = erlang:send_after(Deadline, Ctx, Message, [{abs, true}])};
start_timer(_Call, Run) ->
    Run.
