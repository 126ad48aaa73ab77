%% SPDX-License-Identifier: Apache-2.0

%% @doc Contexts of mode owngil that come and go within one process.
-module(py_subinterpreter_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [end_after_they_loaded_types_of_the_process].

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

start(N) ->
    {ok, Ctx} = py_context:start_link(N, owngil),
    Ctx.
