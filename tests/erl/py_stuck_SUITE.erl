%% SPDX-License-Identifier: Apache-2.0

%% @doc Worker processes that take nothing: stopped, or with the GIL in the hands of a Python
%% thread. The next call works, and nobody else notices.
-module(py_stuck_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(BUDGET_MS, 100).
-define(KILL_AFTER_MS, 300).
%% A thread that takes the GIL and does not give it back, once the request is over.
-define(HOLD, "
import ctypes, threading, time
def hold(seconds):
    time.sleep(0.1)
    open(mark, 'w').close()
    ctypes.PyDLL(None).sleep(seconds)
threading.Thread(target=hold, args=(seconds,), daemon=True).start()
").

%% One bytecode, and a few seconds.
-define(COMPUTE, "
import threading, time
def compute():
    time.sleep(0.1)
    open(mark, 'w').close()
    sum(range(150_000_000))
threading.Thread(target=compute, daemon=True).start()
").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

%% What the VM does alone needs one mode.
groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{
        shared => [
            is_found_when_it_was_stopped_while_idle,
            is_found_when_it_was_stopped_while_it_ran,
            is_found_when_a_thread_holds_the_gil,
            is_busy_while_a_request_waits,
            is_found_although_its_neighbour_was_stopped
        ],
        owngil => cases() -- [is_left_alone_while_its_thread_computes_and_nobody_has_a_budget, is_left_alone_for_ever_if_so_configured]
    }).

modes() ->
    py_test:modes().

cases() ->
    [
        is_found_when_it_was_stopped_while_idle,
        is_found_when_it_was_stopped_while_it_ran,
        is_found_when_it_was_stopped_while_it_imported,
        is_found_when_a_thread_holds_the_gil,
        is_not_what_waits_for_a_callback_that_nobody_wants,
        is_logged_through_the_default_handler,
        costs_callers_without_a_budget_a_moment,
        is_left_alone_for_ever_if_so_configured,
        is_left_alone_while_its_thread_computes_and_nobody_has_a_budget,
        is_busy_while_a_request_waits,
        is_found_although_its_neighbour_was_stopped
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    py_fixture:init(Group, [{kill_after, ?KILL_AFTER_MS}], Config).

end_per_group(_Group, _Config) ->
    ok.

%% Without a GIL nobody can hold it.
init_per_testcase(Case, Config) when Case =:= is_found_when_a_thread_holds_the_gil; Case =:= is_found_although_its_neighbour_was_stopped ->
    case py_test:is_free_threaded() of
        true -> {skip, "this Python has no GIL"};
        false -> Config
    end;
init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

is_found_when_it_was_stopped_while_idle(_Config) ->
    Ctx = py:context(2),
    OsPid = py_test:os_pid(Ctx),
    stop(OsPid),
    replaced(Ctx, OsPid).

is_found_when_it_was_stopped_while_it_ran(Config) ->
    Ctx = py:context(2),
    OsPid = py_test:os_pid(Ctx),
    Mark = py_test:marker(Config, "running"),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, ep_probe, spin_until_interrupted, [Mark]) end),
    ok = py_test:wait_for_file(Mark),
    stop(OsPid),
    replaced(Ctx, OsPid),
    ?assertMatch({error, {worker_died, #{started := true}}}, py_test:result_of(Caller)).

%% By the watch of the import, whose caller has gone: the next caller does not look.
is_found_when_it_was_stopped_while_it_imported(Config) ->
    Ctx = py:context(2),
    OsPid = py_test:os_pid(Ctx),
    Mark = py_test:marker(Config, "imports"),
    Module = "ep_slow_" ++ atom_to_list(group_of(Config)),
    Dir = filename:dirname(unicode:characters_to_list(Mark)),
    Source = ["import time\nopen('", Mark, "', 'w').close()\ntime.sleep(60)\n"],
    ok = file:write_file(filename:join(Dir, Module ++ ".py"), Source),
    ok = py:exec(Ctx, ["import sys\nsys.path.append('", Dir, "')\n"]),
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, builtins, '__import__', [list_to_binary(Module)], #{timeout => 1000}) end),
    ok = py_test:wait_for_file(Mark),
    stop(OsPid),
    ?assertMatch({error, _}, py_test:result_of(Caller)),
    ?assertEqual({ok, 4.0}, py:call(Ctx, math, sqrt, [16], #{timeout => 30000})),
    ?assertNotEqual(OsPid, py_test:os_pid(Ctx)).

%% Python has given up at the end of the budget; Erlang goes on with the callback.
is_not_what_waits_for_a_callback_that_nobody_wants(_Config) ->
    [Other, Ctx] = py_context_router:contexts(),
    OsPids = [py_test:os_pid(C) || C <- [Other, Ctx]],
    Self = self(),
    ok = py:register_function(hold_on, fun([]) ->
        Self ! {holding, self()},
        receive
            let_go -> done
        end
    end),
    Caller = py_test:spawn_caller(fun() -> py:eval(Ctx, "erlang.call('hold_on')", #{}, ?BUDGET_MS) end),
    Holding =
        receive
            {holding, Pid} -> Pid
        end,
    Until = erlang:monotonic_time(millisecond) + ?BUDGET_MS + 4 * ?KILL_AFTER_MS,
    ok = serve([Other, Ctx], Until),
    Holding ! let_go,
    ?assertEqual({error, timeout}, py_test:result_of(Caller)),
    ?assertEqual(OsPids, [py_test:os_pid(C) || C <- [Other, Ctx]]),
    ok = py:unregister_function(hold_on).

serve(Contexts, Until) ->
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || Ctx <- Contexts],
    case erlang:monotonic_time(millisecond) < Until of
        true -> serve(Contexts, Until);
        false -> ok
    end.

is_found_when_a_thread_holds_the_gil(Config) ->
    Ctx = py:context(2),
    OsPid = py_test:os_pid(Ctx),
    hold(Ctx, 60, Config),
    replaced(Ctx, OsPid).

is_logged_through_the_default_handler(_Config) ->
    Ctx = py:context(2),
    OsPid = py_test:os_pid(Ctx),
    {ok, #{filters := Filters, filter_default := Default}} = logger:get_handler_config(default),
    ok = logger:add_handler(?MODULE, ?MODULE, #{
        config => self(), filters => Filters, filter_default => Default
    }),
    stop(OsPid),
    replaced(Ctx, OsPid),
    ok = logger:remove_handler(?MODULE),
    receive
        {log, #{level := warning, meta := Meta}} ->
            ?assertMatch(#{library := erlang_python, context := Ctx, pool := default, index := 2}, Meta),
            ?assertMatch(#{os_pid := OsPid, reason := stuck}, Meta)
    after 0 -> ct:fail(not_logged)
    end.

%% They take all slots.
costs_callers_without_a_budget_a_moment(Config) ->
    Ctx = py:context(2),
    Other = own_process(Config),
    OsPid = py_test:os_pid(Ctx),
    ok = py_semaphore:set_max_concurrent(5),
    stop(OsPid),
    Callers = [py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end) || _ <- lists:seq(1, 5)],
    ok = py_test:wait_until(fun() -> py_semaphore:current() =:= 5 end),
    ?assertEqual({ok, 4.0}, py:call(Other, math, sqrt, [16])),
    ?assertEqual(lists:duplicate(5, {ok, 4.0}), lists:map(fun py_test:result_of/1, Callers)),
    ?assertNotEqual(OsPid, py_test:os_pid(Ctx)),
    ok = py_context:stop(Other),
    ok = py_semaphore:set_max_concurrent(1000).

is_left_alone_for_ever_if_so_configured(Config) ->
    {ok, Ctx} = py_context:new(#{mode => mode(Config), kill_after => infinity, own_process => true}),
    OsPid = py_test:os_pid(Ctx),
    stop(OsPid),
    Waits = py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end),
    [{error, timeout} = py:call(Ctx, math, sqrt, [16], #{timeout => ?BUDGET_MS}) || _ <- lists:seq(1, 10)],
    ?assert(py_test:is_running(OsPid)),
    [] = os:cmd("kill -CONT " ++ integer_to_list(OsPid)),
    ?assertEqual({ok, 4.0}, py_test:result_of(Waits)),
    ?assertEqual(OsPid, py_test:os_pid(Ctx)),
    ok = py_context:stop(Ctx).

%% A thread that computes in C gives the GIL back one day.
is_left_alone_while_its_thread_computes_and_nobody_has_a_budget(Config) ->
    Ctx = py:context(2),
    OsPid = py_test:os_pid(Ctx),
    Mark = py_test:marker(Config, "computes"),
    ok = py:exec(Ctx, ["mark = '", Mark, "'", ?COMPUTE]),
    ok = py_test:wait_for_file(Mark),
    ?assertEqual({ok, 4.0}, py:call(Ctx, math, sqrt, [16])),
    ?assertEqual(OsPid, py_test:os_pid(Ctx)).

is_busy_while_a_request_waits(_Config) ->
    Ctx = py:context(2),
    OsPid = py_test:os_pid(Ctx),
    stop(OsPid),
    Waits = py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16]) end),
    ok = py_test:wait_until(fun() -> [S || #{context := C, state := S} <- contexts(), C =:= Ctx] =:= [busy] end),
    [] = os:cmd("kill -CONT " ++ integer_to_list(OsPid)),
    ?assertEqual({ok, 4.0}, py_test:result_of(Waits)).

%% A context that ends in the same process, if it got as far as that, is no excuse.
is_found_although_its_neighbour_was_stopped(Config) ->
    Own = #{worker => 2, shared => 1, owngil => 1},
    Options = #{mode => mode(Config), num_workers => maps:get(group_of(Config), Own), kill_after => ?KILL_AFTER_MS},
    {ok, [Neighbour, Ctx]} = py_context_router:start_pool(pair, 2, Options),
    OsPid = py_test:os_pid(Ctx),
    hold(Ctx, 60, Config),
    Stopping = py_test:spawn_caller(fun() -> py_context:stop(Neighbour) end),
    replaced(Ctx, OsPid),
    ok = py_test:result_of(Stopping),
    ok = py_context_router:stop_pool(pair).

%% Internal

%% Calls with a budget time out until the process is replaced.
replaced(Ctx, OsPid) ->
    Call = fun() -> py:call(Ctx, math, sqrt, [16], #{timeout => ?BUDGET_MS}) end,
    ?assertEqual({error, timeout}, Call()),
    ok = py_test:wait_until(fun() -> Call() =:= {ok, 4.0} end),
    ?assertNotEqual(OsPid, py_test:os_pid(Ctx)).

hold(Ctx, Seconds, Config) ->
    Mark = py_test:marker(Config, "held"),
    ok = py:exec(Ctx, ["mark = '", Mark, "'\nseconds = ", integer_to_list(Seconds), ?HOLD]),
    ok = py_test:wait_for_file(Mark).

stop(OsPid) ->
    [] = os:cmd("kill -STOP " ++ integer_to_list(OsPid)),
    %% One thread takes the signal when it has a CPU, and stops the others.
    py_test:wait_until(fun() ->
        Files = filelib:wildcard("/proc/" ++ integer_to_list(OsPid) ++ "/task/*/status"),
        lists:all(
            fun(File) ->
                {ok, Status} = file:read_file(File),
                binary:match(Status, <<"State:\tT">>) =/= nomatch
            end,
            Files
        )
    end).

contexts() ->
    maps:get(contexts, py:stats()).

group_of(Config) ->
    proplists:get_value(group, Config).

mode(Config) ->
    proplists:get_value(mode, Config).

own_process(Config) ->
    {ok, Ctx} = py_context:new(#{mode => mode(Config), own_process => true}),
    Ctx.

%% A logger handler.
log(Event = #{meta := Meta}, #{config := Pid}) ->
    maps:get(reason, Meta, none) =:= stuck andalso (Pid ! {log, Event}),
    ok.
