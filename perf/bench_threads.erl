%% SPDX-License-Identifier: Apache-2.0

%% @private What the key `threads' does to numerical code: products of matrices per second, by one
%% caller and with all contexts busy.
-module(bench_threads).

-export([run/1]).

-define(CONTEXTS, [2, 8]).
-define(SECONDS, 2).

%% @doc Nothing where numpy is not there.
-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    case bench_app:venv() of
        <<>> -> [];
        Python -> lists:append([of_pool(Contexts, Python, N) || Contexts <- ?CONTEXTS])
    end.

%% Internal

%% The settings in turns, so that a slow moment hits both.
of_pool(Contexts, Python, N) ->
    Rounds = [{Threads, repetition(Contexts, Python, Threads)} || _ <- lists:seq(1, N), Threads <- [default, auto]],
    [
        bench_result:new("threads", name(Contexts, Callers, Threads), 'calls/s', [
            element(Place, Rates)
         || {T, Rates} <- Rounds, T =:= Threads
        ])
     || {Callers, Place} <- [{"one caller", 1}, {"all busy", 2}], Threads <- [default, auto]
    ].

name(Contexts, Callers, Threads) ->
    lists:flatten(io_lib:format("threads, ~b contexts, ~s, ~s", [Contexts, Callers, Threads])).

repetition(Contexts, Python, Threads) ->
    ok = bench_app:start(worker, Contexts, #{python => Python, threads => Threads}),
    All = py_context_router:contexts(),
    [ok = py_context:exec(Ctx, code()) || Ctx <- All],
    Rates = {rate([hd(All)]), rate(All)},
    ok = bench_app:check(),
    Rates.

code() ->
    "import numpy\n"
    "a = numpy.random.rand(700, 700)\n"
    "def product():\n"
    "    (a @ a).sum()\n"
    "product()\n".

%% Products per second, one caller for each context.
rate(Contexts) ->
    End = erlang:monotonic_time(millisecond) + ?SECONDS * 1000,
    Callers = [spawn_monitor(fun() -> exit({done, products(Ctx, End, 0)}) end) || Ctx <- Contexts],
    lists:sum([
        receive
            {'DOWN', Ref, process, Pid, {done, Count}} -> Count
        end
     || {Pid, Ref} <- Callers
    ]) / ?SECONDS.

products(Ctx, End, Count) ->
    case erlang:monotonic_time(millisecond) < End of
        true ->
            {ok, none} = py_context:call(Ctx, '__main__', product, []),
            products(Ctx, End, Count + 1);
        false ->
            Count
    end.
