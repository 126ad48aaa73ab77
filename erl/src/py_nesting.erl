%% SPDX-License-Identifier: Apache-2.0

%% @private Whether the calling process runs a callback, and for which request.
%%
%% A request made meanwhile is nested: it takes no slot, and a context that waits
%% for an answer runs it on top of its stack. Without a context of its own it goes
%% to the context that made the callback, with the namespace of the request around
%% it, and it ends no later than that one.
-module(py_nesting).

-export([frame/0, via/3, deadline/1, within/4, for_thread/2, inherit/2]).

-export_type([frame/0]).

-define(FRAME, '$py_frame').
%% Where py_context_router keeps what a process is bound to.
-define(BOUND, '$py_bound').
-define(NESTED, 16#100).

-record(frame, {
    route :: py_request:route(),
    %% of the request around it: its budget, and when that ends, absolute, ms
    timeout :: timeout(),
    deadline :: integer() | infinity,
    %% the Python thread that made the callback, if it is none of the context's own
    asker :: py_nif:asker() | undefined
}).

-opaque frame() :: #frame{}.

%% @doc The callback that the calling process is in.
-spec frame() -> frame() | undefined.
frame() ->
    get(?FRAME).

%% @doc Where a request to a context goes, and its flags: a nested one says so, and one
%% to the context of a Python thread that made the callback is run by that thread.
-spec via(py:context(), py_nif:lane(), non_neg_integer()) ->
    {py_nif:lane() | py_nif:asker(), non_neg_integer()}.
via(Ctx, Lane, Flags) ->
    case get(?FRAME) of
        undefined -> {Lane, Flags};
        #frame{asker = Asker, route = {Ctx, _, _}} when Asker =/= undefined -> {Asker, Flags bor ?NESTED};
        _ -> {Lane, Flags bor ?NESTED}
    end.

%% @doc When a request with that budget ends, and whether that is its own deadline: not
%% if the request around the callback ends first. A clock costs as much as a tenth of a
%% call, so it is read only if it can matter.
-spec deadline(timeout()) -> {integer() | infinity, Own :: boolean()}.
deadline(Timeout) ->
    case get(?FRAME) of
        undefined ->
            own(Timeout);
        %% infinity, an atom, is larger than any number.
        #frame{timeout = Outer, deadline = Deadline} when Timeout >= Outer ->
            {Deadline, false};
        #frame{deadline = Outer} ->
            case own(Timeout) of
                {Deadline, _} when Deadline >= Outer -> {Outer, false};
                Own -> Own
            end
    end.

%% @doc Runs a callback of a request.
-spec within(py_request:route(), timeout(), integer() | infinity, fun(() -> Result)) -> Result.
within(Route, Timeout, Deadline, Fun) ->
    enter(#frame{route = Route, timeout = Timeout, deadline = Deadline}, Fun).

%% @doc Runs a callback of a Python thread: for the request that ran on its context, or
%% for none.
-spec for_thread(py_nif:asker(), fun(() -> Result)) -> Result.
for_thread(Asker, Fun) ->
    case py_nif:asker(Asker) of
        {Ctx, Lane, Env, true} ->
            Frame = #frame{
                route = {Ctx, Lane, Env}, timeout = infinity, deadline = infinity, asker = Asker
            },
            enter(Frame, Fun);
        {Ctx, Lane, _, false} ->
            %% Its requests are ordinary ones, but go to that context.
            Route = {Ctx, Lane, py_context:process_env(Ctx, Lane)},
            _ = put(?BOUND, {nested, Route, undefined}),
            Fun()
    end.

%% @doc Runs the work of a helper as a part of the callback that its caller was in. The
%% caller's deadline is not the helper's.
-spec inherit(frame() | undefined, fun(() -> Result)) -> Result.
inherit(undefined, Fun) ->
    Fun();
inherit(Frame = #frame{}, Fun) ->
    enter(Frame#frame{timeout = infinity, deadline = infinity}, Fun).

%% Internal

own(infinity) -> {infinity, false};
own(Timeout) -> {erlang:monotonic_time(millisecond) + Timeout, true}.

%% Fun raises nothing that has to be caught here: py_callback:run/2 catches all, and a
%% helper ends with its work.
enter(Frame = #frame{route = Route}, Fun) ->
    Outer = put(?FRAME, Frame),
    _ = put(?BOUND, {nested, Route, get(?BOUND)}),
    Result = Fun(),
    %% Whatever the callback bound the process to is in there.
    {nested, _Route, Bound} = get(?BOUND),
    restore(?BOUND, Bound),
    restore(?FRAME, Outer),
    Result.

restore(Key, undefined) ->
    _ = erase(Key),
    ok;
restore(Key, Value) ->
    _ = put(Key, Value),
    ok.
