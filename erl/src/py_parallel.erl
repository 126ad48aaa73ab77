%% SPDX-License-Identifier: Apache-2.0

%% @private Several calls at once. All are started before the first is waited for,
%% from the caller itself: no helper processes, and a caller that dies takes its
%% calls with it.
-module(py_parallel).

-export([run/2]).

-spec run([{py:text(), py:text(), list()}], timeout()) -> {ok, [py:result()]}.
%% The guard fails for an improper list, too.
run(Calls, Timeout) when length(Calls) >= 0 ->
    lists:foreach(fun check/1, Calls),
    Contexts = list_to_tuple(py_context_router:contexts()),
    tuple_size(Contexts) > 0 orelse error(badarg),
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    {Started, _} = lists:mapfoldl(
        fun(Call, I) -> {start(Call, element(I rem tuple_size(Contexts) + 1, Contexts)), I + 1} end,
        0,
        Calls
    ),
    {ok, [py_request:finish(Call, left(Deadline)) || Call <- Started]};
run(_Calls, _Timeout) ->
    error(badarg).

check({M, F, Args}) when is_list(Args) ->
    _ = py_request:text(M),
    _ = py_request:text(F),
    ok;
check(_) ->
    error(badarg).

start({M, F, Args}, Ctx) ->
    case py_context:lane(Ctx) of
        noproc -> {error, {context_died, noproc}};
        Lane -> py_request:start_call(Lane, undefined, M, F, {Args, #{}}, 0)
    end.

left(Deadline) ->
    max(0, Deadline - erlang:monotonic_time(millisecond)).
