%% SPDX-License-Identifier: Apache-2.0

%% @doc Requests that name their context: as good as those that do not, and about as cheap.
-module(py_direct_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

%% Bursts of either kind in turns, so that whatever else the machine does hits both.
-define(PAIRS, 101).
-define(BURST, 300).
%% A measurement that says that a thing costs 5 % more than itself says nothing.
-define(NOISE, 1.05).
-define(MEASUREMENTS, 20).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [
        costs_what_an_implicit_call_costs,
        keeps_the_namespaces_apart,
        notices_that_its_context_has_ended,
        forgets_contexts_that_have_ended,
        takes_names_in_every_form,
        refuses_what_the_others_refuse,
        is_nested_inside_a_callback
    ].

init_per_suite(Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

costs_what_an_implicit_call_costs(_Config) ->
    Ctx = py:context(1),
    ok = py_context_router:bind_context(Ctx),
    Implicit = fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end,
    [
        ?assert(costs(Name, Explicit, Implicit, Most))
     || {Name, Most, Explicit} <- [
            {"py:call(Ctx, ..)", 1.15, fun() -> {ok, 4.0} = py:call(Ctx, math, sqrt, [16]) end},
            {"py_context:call(Ctx, ..)", 1.15, fun() -> {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]) end},
            {"py:eval(..)", 1.5, fun() -> {ok, 2} = py:eval(<<"1+1">>) end},
            {"py:eval(Ctx, ..)", 1.5, fun() -> {ok, 2} = py:eval(Ctx, <<"1+1">>) end},
            {"py_context:eval(Ctx, ..)", 1.5, fun() -> {ok, 2} = py_context:eval(Ctx, <<"1+1">>) end}
        ]
    ],
    py_context_router:unbind_context().

%% Measured again while the implicit call does not cost what it costs itself.
costs(Name, Explicit, Implicit, Most) ->
    costs(Name, Explicit, Implicit, Most, ?MEASUREMENTS).

costs(Name, Explicit, Implicit, Most, Left) ->
    {Ratio, Control} = measure(Explicit, Implicit),
    ct:pal("~s: ~.3f times an implicit call, which is ~.3f times itself", [Name, Ratio, Control]),
    IsQuiet = Control < ?NOISE andalso Control > 1 / ?NOISE,
    case {Ratio =< Most, IsQuiet} of
        {true, _} -> true;
        {false, true} -> false;
        {false, false} when Left > 1 -> costs(Name, Explicit, Implicit, Most, Left - 1);
        {false, false} -> false
    end.

%% Each kind warm, then in turns: implicit, explicit, implicit.
measure(Explicit, Implicit) ->
    _ = burst(Explicit),
    Rounds = [{burst(Implicit), burst(Explicit), burst(Implicit)} || _ <- lists:seq(1, ?PAIRS)],
    {
        bench_ratio:median([2 * B / (A + C) || {A, B, C} <- Rounds]),
        bench_ratio:median([C / A || {A, _, C} <- Rounds])
    }.

burst(Fun) ->
    Start = erlang:monotonic_time(nanosecond),
    ok = repeat(Fun, ?BURST),
    erlang:monotonic_time(nanosecond) - Start.

repeat(_Fun, 0) -> ok;
repeat(Fun, N) ->
    _ = Fun(),
    repeat(Fun, N - 1).

keeps_the_namespaces_apart(_Config) ->
    Ctx = py:context(2),
    _ = [
        begin
            ok = py:exec(Ctx, "x = 'mine'"),
            ok = py_context:exec(Ctx, "x = 'shared'"),
            ?assertEqual({ok, <<"mine">>}, py:eval(Ctx, <<"x">>)),
            ?assertEqual({ok, <<"shared">>}, py_context:eval(Ctx, <<"x">>)),
            ?assertEqual({ok, <<"mine">>}, py_context:eval(Ctx, <<"x">>, #{}, infinity, py:get_local_env(Ctx)))
        end
     || _ <- [first, again]
    ],
    Other = py_test:spawn_caller(fun() -> [py:eval(Ctx, <<"x">>), py_context:eval(Ctx, <<"x">>)] end),
    %% It has no x of its own.
    ?assertEqual([{ok, <<"shared">>}, {ok, <<"shared">>}], py_test:result_of(Other)).

notices_that_its_context_has_ended(_Config) ->
    {ok, Ctx} = py_context:start_link(ends, worker),
    Forms = [
        fun() -> py:call(Ctx, math, sqrt, [16]) end,
        fun() -> py_context:call(Ctx, math, sqrt, [16]) end,
        fun() -> py:eval(Ctx, <<"4.0">>) end,
        fun() -> py_context:eval(Ctx, <<"4.0">>) end
    ],
    _ = [?assertEqual({ok, 4.0}, Form()) || Form <- Forms ++ Forms],
    ok = py_context:stop(Ctx),
    [?assertEqual({error, {context_died, noproc}}, Form()) || Form <- Forms].

forgets_contexts_that_have_ended(_Config) ->
    Self = self(),
    _ = [
        begin
            {ok, Ctx} = py_context:start_link(I, worker),
            {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
            {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
            ok = py_context:stop(Ctx)
        end
     || I <- lists:seq(1, 3)
    ],
    Ctx = py:context(1),
    Kept = fun() -> [K || {K = {_, C}, _} <- get(), is_pid(C), C =/= Self, not is_process_alive(C)] end,
    ?assertMatch([_, _], Kept()),
    {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    ?assertEqual([], Kept()).

takes_names_in_every_form(_Config) ->
    Ctx = py:context(1),
    [
        begin
            ?assertEqual({ok, 4.0}, py:call(Ctx, Module, Function, [16])),
            ?assertEqual({ok, 4.0}, py_context:call(Ctx, Module, Function, [16])),
            ?assertEqual({ok, 4.0}, py_context:call(Ctx, Module, Function, [16], #{}))
        end
     || Module <- [math, <<"math">>, "math"], Function <- [sqrt, <<"sqrt">>, "sqrt"], _ <- [first, again]
    ],
    [
        begin
            ?assertEqual({ok, 2}, py:eval(Code)),
            ?assertEqual({ok, 2}, py:eval(Ctx, Code)),
            ?assertEqual({ok, 2}, py_context:eval(Ctx, Code))
        end
     || Code <- ["1+1", <<"1+1">>, '1+1'], _ <- [first, again]
    ].

refuses_what_the_others_refuse(_Config) ->
    Ctx = py:context(1),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
    [
        py_test:badarg(Bad)
     || Bad <- [
            fun() -> py:call(Ctx, 5, sqrt, [16]) end,
            fun() -> py:call(Ctx, math, sqrt, [16], #{timeout => #{traceback => true}}) end,
            fun() -> py_context:call(Ctx, math, {}, [16]) end,
            fun() -> py_context:call(Ctx, math, sqrt, 16) end,
            fun() -> py_context:call(foo, math, sqrt, [16]) end,
            fun() -> py_context:call(Ctx, math, sqrt, [16], []) end,
            fun() -> py:eval(5) end,
            fun() -> py:eval(Ctx, {}) end,
            fun() -> py_context:eval(Ctx, 5) end
        ]
    ].

%% A slot is taken already, and the context waits for the answer.
is_nested_inside_a_callback(_Config) ->
    Ctx = py:context(1),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
    ok = py:register_function(direct, fun([]) ->
        {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
        {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
        {ok, 2} = py:eval(<<"1+1">>),
        {ok, 2} = py:eval(Ctx, <<"1+1">>),
        {ok, 2} = py_context:eval(Ctx, <<"1+1">>),
        py_semaphore:current()
    end),
    ok = py_semaphore:set_max_concurrent(1),
    ?assertEqual({ok, 1}, py:eval(Ctx, "__import__('erlang').call('direct')", #{}, 20000)),
    ok = py_semaphore:set_max_concurrent(1000),
    ok = py:unregister_function(direct).
