%% SPDX-License-Identifier: Apache-2.0

%% @doc Contexts of mode owngil that come and go within one process.
-module(py_subinterpreter_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [end_after_they_loaded_types_of_the_process, tell_of_loops_that_stand_still].

init_per_suite(Config) ->
    py_fixture:init(owngil, Config).

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% Two that have loaded it end, and two more; the process serves the context that stays.
end_after_they_loaded_types_of_the_process(_Config) ->
    Stays = start(stays),
    OsPid = py_test:os_pid(Stays),
    [
        begin
            Goes = [start(N) || N <- [1, 2]],
            ?assertEqual([OsPid, OsPid], [py_test:os_pid(C) || C <- Goes]),
            Import = ["bool(__import__('", Module, "'))"],
            ?assertEqual([{ok, true}, {ok, true}], [py:eval(C, Import) || C <- Goes]),
            [ok = py_context:stop(C) || C <- Goes],
            ?assertEqual({Module, OsPid}, {Module, py_test:os_pid(Stays)})
        end
     || Module <- ["datetime", "sqlite3", "email.message", "zoneinfo", "decimal", "statistics"],
        _ <- [1, 2]
    ],
    ok = py_context:stop(Stays).

%% The stack of each goes to the log.
tell_of_loops_that_stand_still(_Config) ->
    Contexts = [start(N) || N <- [1, 2, 3, 4]],
    Before = [py_test:os_pid(C) || C <- Contexts],
    Callers = [
        py_test:spawn_caller(fun() ->
            ok = py_context_router:bind_context(C),
            py_event_loop:run(time, sleep, [1.6], #{timeout => 20000})
        end)
     || C <- Contexts, _ <- [1, 2]
    ],
    ?assertEqual([{ok, none}], lists:usort([py_test:result_of(Caller) || Caller <- Callers])),
    ?assertEqual(Before, [py_test:os_pid(C) || C <- Contexts]),
    [ok = py_context:stop(C) || C <- Contexts].

start(N) ->
    {ok, Ctx} = py_context:start_link(N, owngil),
    Ctx.
