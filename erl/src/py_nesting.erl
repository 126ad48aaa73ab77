%% SPDX-License-Identifier: Apache-2.0

%% @private Whether the calling process runs a callback, and for which request.
%%
%% A request made meanwhile is nested: it takes no slot, and a context that waits
%% for an answer runs it on top of its stack. Without a context of its own it goes
%% to the context that made the callback, with the namespace of the request around
%% it, and it ends no later than that one.
-module(py_nesting).

-export([frame/0, flags/1, cap/1, within/3, inherit/2]).

-export_type([frame/0]).

-define(FRAME, '$py_frame').
%% Where py_context_router keeps what a process is bound to.
-define(BOUND, '$py_bound').
-define(NESTED, 16#100).

-record(frame, {
    route :: py_request:route(),
    %% of the request around it; absolute, ms
    deadline :: integer() | infinity
}).

-opaque frame() :: #frame{}.

%% @doc The callback that the calling process is in.
-spec frame() -> frame() | undefined.
frame() ->
    get(?FRAME).

%% @doc Flags of a request, with that of a nested one if it is one.
-spec flags(non_neg_integer()) -> non_neg_integer().
flags(Flags) ->
    case get(?FRAME) of
        undefined -> Flags;
        _ -> Flags bor ?NESTED
    end.

%% @doc The earlier of a deadline and that of the request around the callback.
-spec cap(integer() | infinity) -> integer() | infinity.
cap(Deadline) ->
    case get(?FRAME) of
        undefined -> Deadline;
        %% infinity, an atom, is larger than any number.
        #frame{deadline = Outer} -> min(Deadline, Outer)
    end.

%% @doc Runs a callback of a request.
-spec within(py_request:route(), integer() | infinity, fun(() -> Result)) -> Result.
within(Route, Deadline, Fun) ->
    enter(#frame{route = Route, deadline = Deadline}, Fun).

%% @doc Runs the work of a helper as a part of the callback that its caller was in. The
%% caller's deadline is not the helper's.
-spec inherit(frame() | undefined, fun(() -> Result)) -> Result.
inherit(undefined, Fun) ->
    Fun();
inherit(Frame = #frame{}, Fun) ->
    enter(Frame#frame{deadline = infinity}, Fun).

%% Internal

%% Fun raises nothing that has to be caught here: py_callback:run/2 catches all, and a
%% helper ends with its work.
enter(Frame = #frame{route = Route}, Fun) ->
    Outer = put(?FRAME, Frame),
    Saved = put(?BOUND, {nested, Route, get(?BOUND)}),
    Result = Fun(),
    {nested, _, Bound} = get(?BOUND),
    %% What the callback was bound to when it ended stays, as for any function.
    restore(?BOUND, bound(Saved, Bound)),
    restore(?FRAME, Outer),
    Result.

bound({nested, Route, _}, Bound) -> {nested, Route, innermost(Bound)};
bound(_, Bound) -> innermost(Bound).

innermost({nested, _, Bound}) -> innermost(Bound);
innermost(Bound) -> Bound.

restore(Key, undefined) ->
    _ = erase(Key),
    ok;
restore(Key, Value) ->
    _ = put(Key, Value),
    ok.
