%% SPDX-License-Identifier: Apache-2.0

%% @private One request from its caller's side: check the arguments, submit, wait
%% within the budget. Runs in the caller's process; there is no process between
%% a caller and its worker.
-module(py_request).

-export([call/7, eval/5, exec/4, start_call/6, finish/2, options/2, text/1]).

-export_type([options/0]).

-type options() :: #{timeout := timeout(), kwargs := map(), flags := 0 | 4}.

%% How often a parked caller looks whether its wake-up was lost. It never is;
%% the look counts `lost_wake' if it ever should be.
-define(CHECK_MS, 1000).

-spec call(
    py_nif:lane(),
    py_nif:env() | undefined,
    py:text(),
    py:text(),
    list(),
    map(),
    options()
) -> py:result().
call(_Lane, _Env, Module, Function, _Args, _Kwargs, #{timeout := 0}) ->
    no_time([Module, Function]);
call(Lane, Env, Module, Function, Args, Kwargs, #{timeout := Timeout, flags := Flags}) ->
    finish(start_call(Lane, Env, Module, Function, {Args, Kwargs}, Flags), Timeout).

%% @doc The first half of call/7, for callers that start several: wait for each
%% with finish/2.
-spec start_call(
    py_nif:lane(), py_nif:env() | undefined, py:text(), py:text(), {list(), map()}, 0 | 4
) -> {pending, py_nif:call()} | py_nif:answer().
start_call(Lane, Env, Module, Function, {Args, Kwargs}, Flags) ->
    py_nif:call(Lane, Env, text(Module), text(Function), Args, Kwargs, Flags).

-spec eval(py_nif:lane(), py_nif:env() | undefined, py:text(), map(), options()) -> py:result().
eval(_Lane, _Env, Code, _Locals, #{timeout := 0}) ->
    no_time([Code]);
eval(Lane, Env, Code, Locals, #{timeout := Timeout, flags := Flags}) ->
    finish(py_nif:eval(Lane, Env, text(Code), Locals, Flags), Timeout).

-spec exec(py_nif:lane(), py_nif:env() | undefined, py:text(), options()) -> ok | {error, term()}.
exec(_Lane, _Env, Code, #{timeout := 0}) ->
    no_time([Code]);
exec(Lane, Env, Code, #{timeout := Timeout, flags := Flags}) ->
    finish(py_nif:exec(Lane, Env, text(Code), Flags), Timeout).

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
