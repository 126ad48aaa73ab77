%% SPDX-License-Identifier: Apache-2.0

%% @private How soon worker processes are up, how soon one that was killed serves again, and what
%% memory they take, with and without a zygote.
-module(bench_starts).

-export([run/1]).

-define(POOL, started).
-define(CONTEXTS, 8).
-define(KILLS, 30).
-define(PATIENCE_MS, 30000).

%% @doc Each row of docs/decisions/0018: modules that the workers import, and whether a zygote does it.
-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    #{level := Level} = logger:get_primary_config(),
    %% Each kill would be a line.
    ok = logger:set_primary_config(level, none),
    Results = lists:append([rows(Name, [repetition(Options) || _ <- lists:seq(1, N)]) || {Name, Options} <- kinds()]),
    ok = logger:set_primary_config(level, Level),
    Results.

%% Internal

%% `imports' makes each process import for itself.
kinds() ->
    [
        {"nothing imported", #{}},
        {"colorsys by a zygote", #{preload => [colorsys]}}
    ] ++ [Kind || bench_app:venv() =/= <<>>, Kind <- numpy()].

numpy() ->
    Python = #{python => bench_app:venv()},
    [
        {"numpy by each", Python#{imports => [numpy]}},
        {"numpy by a zygote", Python#{preload => [numpy]}}
    ].

rows(Name, Rounds) ->
    Row = fun(What, Unit, Key) ->
        Text = lists:flatten(["starts, ", Name, ": ", What]),
        bench_result:new("starts", Text, Unit, [maps:get(Key, Round) || Round <- Rounds])
    end,
    [
        Row("application with 1 context", ms, first),
        Row("PSS of that", mib, alone),
        Row("8 contexts", ms, started),
        Row("again, median", ms, median),
        Row("again, worst", ms, worst),
        Row("PSS of the 8", mib, pss)
    ].

repetition(Options) ->
    %% Its context brings the zygote up.
    ok = bench_app:start(worker, 1, maps:merge(#{python => default, preload => default, imports => default}, Options)),
    ok = application:stop(erlang_python),
    {First, ok} = timer:tc(fun() -> application:start(erlang_python) end),
    Before = bench_app:pss(),
    {Us, {ok, Contexts}} = timer:tc(fun() ->
        py_context_router:start_pool(?POOL, ?CONTEXTS, maps:with([python], Options))
    end),
    _ = [{ok, _} = py:call(Ctx, math, sqrt, [16]) || Ctx <- Contexts],
    Pss = bench_app:pss() - Before,
    Again = [again(hd(Contexts)) || _ <- lists:seq(1, ?KILLS)],
    ok = bench_app:check(),
    #{first => First / 1000, alone => Before, started => Us / 1000, median => bench_result:median(Again), worst => lists:max(Again), pss => Pss}.

%% Milliseconds from the kill to the next result.
again(Ctx) ->
    {ok, OsPid} = py:call(Ctx, os, getpid, [], ?PATIENCE_MS),
    Start = erlang:monotonic_time(microsecond),
    _ = os:cmd("kill -KILL " ++ integer_to_list(OsPid)),
    ok = serves(Ctx, OsPid, Start),
    (erlang:monotonic_time(microsecond) - Start) / 1000.

serves(Ctx, OsPid, Start) ->
    case py:call(Ctx, os, getpid, [], ?PATIENCE_MS) of
        {ok, Other} when Other =/= OsPid ->
            ok;
        _ ->
            true = erlang:monotonic_time(microsecond) - Start < ?PATIENCE_MS * 1000,
            serves(Ctx, OsPid, Start)
    end.
