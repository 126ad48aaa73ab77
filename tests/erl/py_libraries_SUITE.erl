%% SPDX-License-Identifier: Apache-2.0

%% @doc Real libraries, used as people use them (tests/py/ep_libraries.py): from two
%% contexts at once, from the second context of a process, cut by timeouts during their
%% import and their use, then used again. Some of them in each run of the tests; all that
%% it knows with EP_LIBRARIES=all, which make test-libraries installs.
-module(py_libraries_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

%% Of a call that has as long as it takes.
-define(LONG_MS, 120000).
-define(DIED, {error, {worker_died, _}}).

suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()].

groups() ->
    [
        Group
     || {Mode, _} <- py_test:modes(),
        Group <- [
            {Mode, [{group, group(Mode, L)} || L <- libraries(Mode)]}
            | [{group(Mode, L), cases()} || L <- libraries(Mode)]
        ]
    ].

cases() ->
    [
        serves_two_contexts_at_once,
        is_imported_after_timeouts_that_cut_its_import,
        is_used_again_after_timeouts_that_cut_its_use
    ].

group(Mode, Library) ->
    list_to_atom(lists:concat([Mode, "_", Library])).

libraries(owngil) ->
    %% Most extension modules refuse sub-interpreters, and so does os.fork.
    [asyncio, sqlite3];
libraries(Worker) ->
    case is_whole() of
        true -> all_libraries();
        %% What one interpreter is to two contexts.
        false when Worker =:= shared -> [numpy, asyncio];
        false -> [numpy, multiprocessing, asyncio, sqlite3]
    end.

all_libraries() ->
    [
        numpy, pandas, scipy, scikit_learn, pyarrow, polars, pillow, matplotlib, orjson, pydantic, cryptography, lxml,
        sqlite3, requests, httpx, multiprocessing, joblib, asyncio
    ].

is_whole() ->
    os:getenv("EP_LIBRARIES") =:= "all".

%% How many timeouts are spread over an import.
cuts(Library) ->
    case is_whole() of
        true ->
            case lists:member(Library, [numpy, pandas, asyncio, orjson, pydantic, polars]) of
                true -> 20;
                false -> 8
            end;
        false ->
            3
    end.

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    case [{M, L} || {M, _} <- py_test:modes(), L <- all_libraries(), group(M, L) =:= Group] of
        [] -> init_mode(Group, Config);
        [{Mode, Library}] -> init_library(Library, [{library, Library}, {of_mode, Mode} | Config])
    end.

init_mode(Mode, Config) ->
    case py_test:test_python() of
        none -> {skip, "EP_TEST_PYTHON names no Python"};
        Python -> py_fixture:init(Mode, [{kill_after, 5000}, {python, Python}], Config)
    end.

%% Where all are asked for, one that is missing is an error.
init_library(Library, Config) ->
    {ok, IsInstalled} = py:call(ep_libraries, is_installed, [Library]),
    case IsInstalled orelse is_whole() of
        true -> Config;
        false -> {skip, io_lib:format("~s is not installed", [Library])}
    end.

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(Case, Config) ->
    Name = lists:concat([proplists:get_value(of_mode, Config), ".", library(Config), ".", Case]),
    Dir = unicode:characters_to_binary(filename:join(proplists:get_value(priv_dir, Config), Name)),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    [{dir, Dir} | Config].

end_per_testcase(_Case, _Config) ->
    %% Files, children and memory of the libraries end with their processes.
    Result = py_fixture:clean(),
    [ok = fresh(Ctx) || Ctx <- py_context_router:contexts()],
    Result.

library(Config) ->
    proplists:get_value(library, Config).

%% --- cases ----------------------------------------------------------------------------

%% Both import it first, then both use it, then the second alone.
serves_two_contexts_at_once(Config) ->
    [_, Second] = Contexts = py_context_router:contexts(),
    [
        begin
            Callers = [py_test:spawn_caller(fun() -> use(Ctx, Config, ?LONG_MS) end) || Ctx <- Contexts],
            [?assertEqual(right(Config), result_of(C)) || C <- Callers]
        end
     || _ <- [import, use]
    ],
    ?assertEqual(right(Config), use(Second, Config, ?LONG_MS)).

%% A budget for each part of what the first use takes, in a process that has imported nothing.
is_imported_after_timeouts_that_cut_its_import(Config) ->
    [First, Second] = py_context_router:contexts(),
    ok = fresh(Second),
    {Ms, Right} = py_test:elapsed(fun() -> use(Second, Config, ?LONG_MS) end),
    ?assertEqual(right(Config), Right),
    Cuts = cuts(library(Config)),
    Results = [
        begin
            ok = fresh(Second),
            Cut = use(Second, Config, Budget),
            true = Cut =:= {error, timeout} orelse Cut =:= Right,
            ?assertEqual({Budget, Right}, {Budget, use(Second, Config, ?LONG_MS)}),
            ?assertEqual({Budget, Right}, {Budget, use(First, Config, ?LONG_MS)}),
            Cut
        end
     || N <- lists:seq(1, Cuts), Budget <- [max(1, N * Ms div (Cuts + 1))]
    ],
    ct:pal("~s takes ~b ms at first; ~b of ~b budgets cut it", [
        library(Config), Ms, length([cut || {error, timeout} <- Results]), Cuts
    ]).

is_used_again_after_timeouts_that_cut_its_use(Config) ->
    [First, Second] = py_context_router:contexts(),
    Library = library(Config),
    Dir = proplists:get_value(dir, Config),
    [
        begin
            ?assertEqual(right(Config), use(Second, Config, ?LONG_MS)),
            {error, timeout} = py:call(Second, ep_libraries, use_forever, [Library, Dir], Budget),
            ?assertEqual({Budget, right(Config)}, {Budget, use(Second, Config, ?LONG_MS)}),
            ?assertEqual({Budget, right(Config)}, {Budget, use(First, Config, ?LONG_MS)})
        end
     || Budget <- [10, 60, 250]
    ].

%% --- parts ----------------------------------------------------------------------------

use(Ctx, Config, Budget) ->
    py:call(Ctx, ep_libraries, library(Config), [proplists:get_value(dir, Config)], Budget).

right(Config) ->
    {ok, atom_to_binary(library(Config))}.

%% The limit of a call is the one that counts.
result_of({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, {result, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> error({caller, Reason})
    end.

%% The context has a process that has imported nothing.
fresh(Ctx) ->
    ?DIED = py:call(Ctx, os, '_exit', [0], ?LONG_MS),
    ok = py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16], ?LONG_MS) =:= {ok, 4.0} end).
