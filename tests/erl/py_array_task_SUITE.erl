%% SPDX-License-Identifier: Apache-2.0

%% @doc Arrays that tasks of asyncio take and return, and who holds them meanwhile.
-module(py_array_task_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-import(py_array_holders, [no_arrays/0, workers/1, nobody_holds/1]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        takes_and_returns_arrays,
        shares_memory_with_a_coroutine_that_waits,
        is_held_by_what_the_task_has_kept,
        is_free_when_a_task_fails,
        is_free_when_a_task_is_cancelled,
        is_free_when_a_task_is_never_begun,
        is_free_when_its_creator_dies,
        is_free_when_its_worker_dies,
        frees_many
    ].

init_per_suite(Config) ->
    py_fixture:init(worker, Config).

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = no_arrays(),
    ok = py:exec("import asyncio, erlang\n"
                 "kept = []\n"
                 "async def total(a, pause=0):\n"
                 "    await asyncio.sleep(pause)\n"
                 "    return sum(a)\n"
                 "async def share(a):\n"
                 "    await asyncio.sleep(0)\n"
                 "    return [erlang.share(bytes(a)), erlang.share(a)]\n"
                 "async def keep(a):\n"
                 "    kept.append(a)\n"
                 "async def fail(a):\n"
                 "    await asyncio.sleep(0)\n"
                 "    raise ValueError(len(a))\n"),
    Config.

end_per_testcase(_Case, _Config) ->
    ok = py:exec("kept.clear()"),
    try
        ok = no_arrays(),
        py_fixture:clean()
    catch
        Class:Reason -> {fail, {Class, Reason}}
    end.

takes_and_returns_arrays(_Config) ->
    A = array(<<1, 2, 3>>),
    ?assertEqual({ok, 6}, run(total, [A])),
    ?assertEqual({ok, 6}, run(total, [A], #{pause => 0.01})),
    {ok, [B, A]} = run(share, [A]),
    ?assertEqual({ok, <<1, 2, 3>>}, py_array:to_binary(B)),
    %% A plain function, too.
    ?assertEqual({ok, A}, py_event_loop:run(erlang, share, [A])),
    ?assertEqual({ok, 3}, py_event_loop:run(builtins, len, [A])),
    ?assertEqual([0, 0], [workers(A), workers(B)]).

shares_memory_with_a_coroutine_that_waits(_Config) ->
    Ref = py:async_call('__main__', total, [array(<<1, 2, 3>>), 0.2]),
    %% The term is gone here; what is made meanwhile may not take its place.
    erlang:garbage_collect(),
    _ = [array(<<255, 255, 255>>) || _ <- lists:seq(1, 100)],
    ?assertEqual({ok, 6}, py:async_await(Ref)).

is_held_by_what_the_task_has_kept(_Config) ->
    A = array(<<1, 2, 3>>),
    {ok, none} = run(keep, [A]),
    ?assertEqual(1, workers(A)),
    ?assertEqual({ok, [[1, 2, 3]]}, py:eval("[list(a) for a in kept]")),
    ok = py:exec("kept.clear()"),
    ok = nobody_holds(A).

is_free_when_a_task_fails(_Config) ->
    A = array(<<1, 2>>),
    ?assertMatch({error, {'ValueError', "2"}}, run(fail, [A])),
    ?assertMatch({error, {'TypeError', _}}, run(total, [A, 0, 0])),
    ?assertMatch({error, function_not_found}, run(no_such_function, [A])),
    ok = nobody_holds(A).

is_free_when_a_task_is_cancelled(_Config) ->
    A = array(<<1, 2>>),
    ?assertEqual({error, timeout}, py_event_loop:run('__main__', total, [A, 60], #{timeout => 20})),
    ok = nobody_holds(A).

%% The tasks of a context that ends.
is_free_when_a_task_is_never_begun(_Config) ->
    A = array(<<1, 2>>),
    {ok, Ctx} = py_context:start_link(array_task, worker),
    ok = py_context_router:bind_context(Ctx),
    Refs = [py:async_call(builtins, len, [A]) || _ <- lists:seq(1, 50)],
    ok = py_context:stop(Ctx),
    ok = py_context_router:unbind_context(),
    _ = [py:async_await(Ref) || Ref <- Refs],
    ok = nobody_holds(A).

is_free_when_its_creator_dies(_Config) ->
    A = array(<<1, 2>>),
    {Creator, Monitor} = spawn_monitor(fun() ->
        _ = py:async_call(asyncio, sleep, [60, A]),
        receive stop -> ok end
    end),
    ok = py_test:wait_until(fun() -> workers(A) =:= 1 orelse workers(A) end),
    Creator ! stop,
    receive {'DOWN', Monitor, process, Creator, normal} -> ok end,
    ok = nobody_holds(A).

is_free_when_its_worker_dies(_Config) ->
    A = array(<<1, 2>>),
    Ref = py:async_call(asyncio, sleep, [60, A]),
    ok = py_test:wait_until(fun() -> workers(A) =:= 1 orelse workers(A) end),
    OsPid = py_test:os_pid(py:context()),
    ok = py_test:kill(OsPid),
    ?assertMatch({error, {worker_died, _}}, py:async_await(Ref)),
    ok = nobody_holds(A),
    ok = py_test:wait_until(fun() ->
        case py:exec("kept = []") of
            ok -> true;
            Other -> Other
        end
    end).

frees_many(_Config) ->
    Arrays = [array(<<I:32>>) || I <- lists:seq(1, 1000)],
    Refs = [{py:async_call('__main__', share, [A]), A} || A <- Arrays],
    _ = [{ok, [_, A]} = py:async_await(Ref) || {Ref, A} <- Refs],
    ok = py_test:wait_until(fun() -> lists:usort([workers(A) || A <- Arrays]) =:= [0] end).

run(Function, Args) ->
    run(Function, Args, #{}).

run(Function, Args, Kwargs) ->
    py_event_loop:run('__main__', Function, Args, #{kwargs => Kwargs}).

array(Bytes) ->
    {ok, A} = py_array:from_binary(Bytes, uint8, {byte_size(Bytes)}),
    A.
