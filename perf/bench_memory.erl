%% SPDX-License-Identifier: Apache-2.0

%% @private What memory each part takes before the user's code takes any: docs/memory.md.
-module(bench_memory).

-export([run/1]).

-define(POOL, measured).
-define(CONTEXTS, 8).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    Rounds = [repetition() || _ <- lists:seq(1, N)],
    [
        bench_result:new("memory", "memory, " ++ What, mib, [proplists:get_value(What, Round) || Round <- Rounds])
     || {What, _} <- hd(Rounds)
    ].

%% Internal

repetition() ->
    ok = bench_app:start(worker, 1),
    [{What, grown(Options) / ?CONTEXTS} || {What, Options} <- kinds()].

kinds() ->
    [
        {"a process of its own, one of 8", #{num_workers => ?CONTEXTS}},
        {"a context of 8 in one process", #{num_workers => 1}}
    ] ++ [{"a context of 8 with its own GIL", #{mode => owngil}} || py:subinterp_supported()].

%% MiB that a pool adds, each of its contexts having served a call.
grown(Options) ->
    Before = bench_app:pss(),
    {ok, Contexts} = py_context_router:start_pool(?POOL, ?CONTEXTS, Options),
    _ = [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || Ctx <- Contexts],
    Pss = bench_app:pss() - Before,
    ok = py_context_router:stop_pool(?POOL),
    ok = bench_app:check(),
    Pss.
