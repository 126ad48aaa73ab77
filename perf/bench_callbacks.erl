%% SPDX-License-Identifier: Apache-2.0

%% @private What erlang.call costs from Python, and erlang.state_incr, once the library
%% has callbacks. Without them the section says so and measures nothing.
-module(bench_callbacks).

-export([run/1]).

-define(CALLS, 10000).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    {module, py} = code:ensure_loaded(py),
    case erlang:function_exported(py, register_function, 2) of
        true ->
            ok = bench_app:start(worker, 1),
            measure(N);
        false ->
            io:format("py:register_function/2 is not there: callbacks are not measured~n"),
            []
    end.

measure(N) ->
    %% By apply: the function is looked for at run time.
    ok = apply(py, register_function, [<<"bench_next">>, fun([I]) -> I + 1 end]),
    ok = py:exec(code()),
    {ok, 10} = py:call('__main__', many_calls, [10]),
    [
        bench_result:new("callbacks", "erlang.call from Python", us, times(many_calls, N)),
        bench_result:new("callbacks", "erlang.state_incr from Python", us, times(many_incr, N))
    ].

code() ->
    "import erlang\n"
    "def many_calls(n):\n"
    "    x = 0\n"
    "    for _ in range(n):\n"
    "        x = erlang.call('bench_next', x)\n"
    "    return x\n"
    "def many_incr(n):\n"
    "    for _ in range(n):\n"
    "        erlang.state_incr('bench_count')\n"
    "    return n\n".

%% Microseconds of one of 10,000 in a single Python function.
times(Function, N) ->
    [
        begin
            {Us, {ok, ?CALLS}} = timer:tc(fun() -> py:call('__main__', Function, [?CALLS]) end),
            Us / ?CALLS
        end
     || _ <- lists:seq(1, N)
    ].
