%% SPDX-License-Identifier: Apache-2.0

%% @doc What tests of arrays ask: who holds an array, and whether there is any.
-module(py_array_holders).

-export([no_arrays/0, workers/1, nobody_holds/1, kill/1, alive/1]).

no_arrays() ->
    erlang:garbage_collect(),
    py_test:wait_until(fun() ->
        #{count := Count} = py_shared_memory:stats(),
        Count =:= 0 orelse Count
    end).

workers(A) ->
    #{holders := #{workers := N}} = py_array:info(A),
    N.

kill(Ctx) ->
    OsPid = py_test:os_pid(Ctx),
    ok = py_test:kill(OsPid),
    ok = py_test:wait_for_exit([OsPid], 10000),
    alive(Ctx).

alive(Ctx) ->
    py_test:wait_until(fun() ->
        case py:call(Ctx, math, sqrt, [16]) of
            {ok, 4.0} -> true;
            Other -> Other
        end
    end).

nobody_holds(A) ->
    py_test:wait_until(fun() -> workers(A) =:= 0 orelse workers(A) end).
