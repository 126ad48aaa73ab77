%% SPDX-License-Identifier: Apache-2.0

%% @private One request from its caller's side: check the arguments, submit, wait
%% within the budget. Runs in the caller's process; there is no process between
%% a caller and its worker.
-module(py_request).

-export([call3/4, call/6, eval/4, exec/3, options/2, text/1]).

-export_type([options/0]).

-type options() :: #{timeout := timeout(), kwargs := map(), flags := 0 | 4, guard => reference(), slot => none}.
-type route() :: py_context_router:route().

%% How often a parked caller looks whether its wake-up was lost. It never is;
%% the look counts `lost_wake' if it ever should be.
-define(CHECK_MS, 1000).

-spec call3(route(), py:text(), py:text(), list()) -> py:result().
call3({_Ctx, Lane, Env}, Module, Function, Args) when is_atom(Module), is_atom(Function) ->
    finish(py_nif:call(Lane, Env, Module, Function, Args, #{}, 0), 30000);
call3({_Ctx, Lane, Env}, Module, Function, Args) ->
    finish(py_nif:call(Lane, Env, text(Module), text(Function), Args, #{}, 0), 30000).

-spec call(route(), py:text(), py:text(), list(), map(), options()) -> py:result().
call(_Route, Module, Function, _Args, _Kwargs, #{timeout := 0}) ->
    no_time([Module, Function]);
call({_Ctx, Lane, Env}, Module, Function, Args, Kwargs, Options = #{flags := Flags}) ->
    guarded(py_nif:call(Lane, Env, text(Module), text(Function), Args, Kwargs, Flags), Options).

-spec eval(route(), py:text(), map(), options()) -> py:result().
eval(_Route, Code, _Locals, #{timeout := 0}) ->
    no_time([Code]);
eval({_Ctx, Lane, Env}, Code, Locals, Options = #{flags := Flags}) ->
    guarded(py_nif:eval(Lane, Env, text(Code), Locals, Flags), Options).

-spec exec(route(), py:text(), options()) -> ok | {error, term()}.
exec(_Route, Code, #{timeout := 0}) ->
    no_time([Code]);
exec({_Ctx, Lane, Env}, Code, Options = #{flags := Flags}) ->
    guarded(py_nif:exec(Lane, Env, text(Code), Flags), Options).

guarded({pending, Call}, #{guard := Guard, timeout := Timeout}) ->
    Tag = make_ref(),
    case py_nif:await(Call, Tag) of
        waiting ->
            receive
                {py_done, Tag} -> py_nif:collect(Call);
                {'DOWN', Guard, process, _, _} ->
                    _ = py_nif:cancel(Call),
                    exit(normal)
            after Timeout -> timed_out(Call, Tag)
            end;
        Answer -> Answer
    end;
guarded(Answer, #{timeout := Timeout}) ->
    finish(Answer, Timeout).

%% @doc Waits for a request within a budget in milliseconds.
-spec finish({pending, py_nif:call()} | py_nif:answer(), timeout()) -> py_nif:answer().
finish({pending, Call}, Timeout) -> wait(Call, Timeout);
finish(Answer, _Timeout) -> Answer.

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

%% Internal

%% A budget of nothing: the names are checked, nothing runs.
no_time(Texts) ->
    lists:foreach(fun text/1, Texts),
    {error, timeout}.

complete(Defaults) ->
    maps:merge(#{kwargs => #{}, flags => 0}, maps:without([traceback], Defaults)).

check_keys(Options, Defaults) ->
    case maps:without(maps:keys(Defaults), Options) of
        Unknown when map_size(Unknown) =:= 0 -> Options;
        _ -> error(badarg)
    end.

option(timeout, infinity, Acc) -> Acc#{timeout := infinity};
option(timeout, T, Acc) when is_integer(T), T >= 0, T =< 16#FFFFFFFF -> Acc#{timeout := T};
option(kwargs, Kwargs, Acc) when is_map(Kwargs) -> Acc#{kwargs := Kwargs};
option(traceback, true, Acc) -> Acc#{flags := 4};
option(traceback, false, Acc) -> Acc;
option(_Key, _Value, _Acc) -> error(badarg).


wait(Call, 0) ->
    give_up(Call);
wait(Call, Timeout) ->
    Tag = make_ref(),
    case py_nif:await(Call, Tag) of
        waiting -> receive_done(Call, Tag, Timeout, deadline(Timeout));
        Answer -> Answer
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

receive_done(Call, Tag, Left, Deadline) ->
    %% infinity, an atom, is larger than any number.
    Slice = min(Left, ?CHECK_MS),
    receive
        {py_done, Tag} -> py_nif:collect(Call)
    after Slice ->
        case left(Deadline) of
            0 ->
                timed_out(Call, Tag);
            More ->
                ok = py_nif:check(Call),
                receive_done(Call, Tag, More, Deadline)
        end
    end.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

timed_out(Call, Tag) ->
    case py_nif:cancel(Call) of
        cancelled ->
            {error, timeout};
        done ->
            %% The reply and the timeout crossed: the message is on its way.
            receive
                {py_done, Tag} -> py_nif:collect(Call)
            end
    end.

give_up(Call) ->
    case py_nif:cancel(Call) of
        cancelled -> {error, timeout};
        done -> py_nif:collect(Call)
    end.
