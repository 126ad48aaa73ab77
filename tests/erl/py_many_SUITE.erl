%% SPDX-License-Identifier: Apache-2.0

%% @doc Very many contexts that start at once, whatever the number of schedulers: each in a VM
%% of its own.
-module(py_many_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(MANY, 64).
-define(SCHEDULERS, ["+S", "48:48"]).
-define(TIMES, 5).

suite() ->
    [{timetrap, {minutes, 10}}].

all() ->
    [
        start_with_a_scheduler_for_each_of_48,
        start_as_a_pool,
        start_as_a_pool_in_mode_owngil,
        start_each_by_a_process_of_its_own,
        start_while_the_launcher_stands_still_for_a_moment,
        start_as_far_as_there_are_file_descriptors
    ].

start_with_a_scheduler_for_each_of_48(_Config) ->
    in_vm(defaults, []).

start_as_a_pool(_Config) ->
    _ = [in_vm(pool, [?MANY, #{}]) || _ <- lists:seq(1, py_test:times(1, ?TIMES))],
    ok.

start_as_a_pool_in_mode_owngil(_Config) ->
    in_vm(pool, [?MANY, #{mode => owngil, num_workers => ?MANY div 2}]).

start_each_by_a_process_of_its_own(_Config) ->
    in_vm(links, [?MANY]).

start_while_the_launcher_stands_still_for_a_moment(_Config) ->
    in_vm(links_with_a_slow_launcher, [?MANY]).

%% Those that have one work, the others say what they lack.
start_as_far_as_there_are_file_descriptors(_Config) ->
    in_vm(links_without_descriptors, [?MANY]).

%% --- in the VM ----------------------------------------------------------------------------

in_vm(Function, Args) ->
    Vm = py_test:start_vm(#{}, ?SCHEDULERS),
    try
        ok = py_test:in_vm(Vm, ?MODULE, Function, Args)
    after
        py_test:stop_vm(Vm)
    end.

defaults() ->
    ok = py_test:start([]),
    ok = serve(py_context_router:contexts(), 48).

pool(N, Options) ->
    ok = py_test:start([{num_contexts, 1}]),
    case maps:get(mode, Options, worker) =:= owngil andalso not py:subinterp_supported() of
        true ->
            ok;
        false ->
            {ok, Contexts} = py_context_router:start_pool(many, N, Options),
            serve(Contexts, N)
    end.

links(N) ->
    ok = py_test:start([{num_contexts, 1}]),
    serve([Ctx || {ok, Ctx} <- start_links(N, fun() -> ok end)], N).

%% The requests of the first that ask fill its socket.
links_with_a_slow_launcher(N) ->
    ok = py_test:start([{num_contexts, 1}]),
    Launcher = integer_to_list(py_test:launcher_pid()),
    [] = os:cmd("kill -STOP " ++ Launcher),
    GoOn = fun() ->
        receive after 3000 -> ok end,
        [] = os:cmd("kill -CONT " ++ Launcher)
    end,
    serve([Ctx || {ok, Ctx} <- start_links(N, GoOn)], N).

links_without_descriptors(N) ->
    ok = py_test:start([{num_contexts, 1}]),
    OsPid = py_test:vm_pid(),
    [] = os:cmd(lists:flatten(io_lib:format("prlimit --nofile=~b: --pid ~b", [py_test:fd_count(OsPid) + 60, OsPid]))),
    Results = start_links(N, fun() -> ok end),
    Contexts = [Ctx || {ok, Ctx} <- Results],
    Failed = [R || R = {error, _} <- Results],
    ?assert(length(Contexts) >= 5, Results),
    ?assert(length(Failed) >= 5, Results),
    [?assertMatch({error, {worker_unavailable, _}}, F) || F <- Failed],
    serve(Contexts, length(Contexts)).

start_links(N, Meanwhile) ->
    Self = self(),
    _ = [
        spawn(fun() ->
            Self ! {started, py_context:start_link(I, worker)},
            receive after infinity -> ok end
        end)
     || I <- lists:seq(1, N)
    ],
    _ = Meanwhile(),
    [receive {started, Result} -> Result end || _ <- lists:seq(1, N)].

serve(Contexts, N) ->
    ?assertEqual(N, length(Contexts)),
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || Ctx <- Contexts],
    ok.
