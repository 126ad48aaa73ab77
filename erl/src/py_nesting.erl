%% SPDX-License-Identifier: Apache-2.0

%% @private Whether the calling process runs a callback, and for which request.
%%
%% A request made meanwhile is nested: it takes no slot, and a context that waits
%% for an answer runs it on top of its stack. Without a context of its own it goes
%% to the context that made the callback, with the namespace of the request around
%% it, and it ends no later than that one.
-module(py_nesting).

-include("ep_nif.hrl").
-include("py_dictionary.hrl").

-export([frame/0, via/3, deadline/1, within/4, for_thread/2, inherit/2]).

-export_type([frame/0]).

-record(frame, {
    route :: py_request:route(),
    %% of the request around it: its budget, and when that ends, absolute, ms
    timeout :: timeout(),
    deadline :: integer() | infinity,
    %% the Python thread that made the callback, if it is none of the context's own
    asker :: ep_nif:asker() | undefined
}).

-opaque frame() :: #frame{}.

%% @doc The callback that the calling process is in.
-spec frame() -> frame() | undefined.
frame() ->
    get(?FRAME).

%% @doc Where a request to a context goes, and its flags: a nested one says so, and one
%% to the context of a Python thread that made the callback is run by that thread.
-spec via(py:context(), ep_nif:lane(), non_neg_integer()) ->
    {ep_nif:lane() | ep_nif:asker(), non_neg_integer()}.
via(Ctx, Lane, Flags) ->
    case get(?FRAME) of
        undefined -> {Lane, Flags};
        #frame{asker = Asker, route = {Ctx, _, _}} when Asker =/= undefined -> {Asker, Flags bor ?FLAG_NESTED};
        _ -> {Lane, Flags bor ?FLAG_NESTED}
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
-spec for_thread(ep_nif:asker(), fun(() -> Result)) -> Result.
for_thread(Asker, Fun) ->
    case ep_nif:asker(Asker) of
        {Ctx, Lane, Env, true} ->
            Frame = #frame{
                route = {Ctx, Lane, Env}, timeout = infinity, deadline = infinity, asker = Asker
            },
            enter(Frame, Fun);
        {Ctx, Lane, _, false} ->
            %% Its requests are ordinary ones, but go to that context.
            Route = {Ctx, Lane, py_direct:process_env(Ctx, Lane)},
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

%% Whatever Fun does, also with the dictionary of the process, the caller goes on as before.
enter(Frame = #frame{route = Route}, Fun) ->
    Outer = put(?FRAME, Frame),
    Bound = put(?BOUND, {nested, Route, get(?BOUND)}),
    try
        Fun()
    after
        restore(?BOUND, bound_since(get(?BOUND), Bound)),
        restore(?FRAME, Outer)
    end.

%% Whatever the callback bound the process to is in there.
bound_since({nested, _Route, Bound}, _Before) -> Bound;
bound_since(_Overwritten, Before) -> Before.

restore(Key, undefined) ->
    _ = erase(Key),
    ok;
restore(Key, Value) ->
    _ = put(Key, Value),
    ok.
