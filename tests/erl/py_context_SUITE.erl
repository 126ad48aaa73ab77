% SPDX-License-Identifier: Apache-2.0

% @doc Contexts that users start themselves, each in every mode.
-module(py_context_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        starts_and_stops_a_context,
        offers_every_form_on_a_context,
        uses_the_shared_namespace_of_a_context,
        keeps_a_local_namespace_apart,
        refuses_a_namespace_of_another_context,
        ends_a_context_with_its_owner,
        keeps_a_context_when_its_owner_ends_normally,
        spares_the_owner_of_a_context_that_another_stops,
        answers_on_dead_contexts,
        makes_contexts_with_an_identity_of_their_own,
        tells_interpreters_apart,
        hands_out_references_for_the_nif,
        runs_preload_code_before_any_request,
        refuses_preload_code_that_fails,
        runs_preload_code_again_after_a_restart,
        stops_a_context_whose_preload_code_hangs,
        supervises_contexts_without_a_pool,
        drops_namespaces_of_contexts_that_ended
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:clean().

starts_and_stops_a_context(Config) ->
    Mode = proplists:get_value(mode, Config, worker),
    [
        begin
            {ok, Ctx} = Start(),
            {links, Links} = process_info(self(), links),
            true = lists:member(Ctx, Links),
            {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
            {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
            false = lists:member(Ctx, py_context_router:contexts()),
            ok = py_context:stop(Ctx),
            false = is_process_alive(Ctx),
            ok = py_context:stop(Ctx)
        end
     || Start <- [
            fun() -> py_context:start_link(1, Mode) end,
            fun() -> py_context:start_link({any, "term"}, Mode, #{}) end,
            fun() -> py_context:start_link(1, Mode, #{own_process => true, kill_after => 500}) end,
            fun() -> py_context:start_link(1, Mode, #{own_process => false, spin_us => 0}) end
        ]
    ].

offers_every_form_on_a_context(Config) ->
    {ok, Ctx} = py_context:start_link(forms, proplists:get_value(mode, Config, worker)),
    {ok, Env} = py_context:create_local_env(Ctx),
    {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
    {ok, 8} = py_context:call(Ctx, builtins, pow, [2], #{exp => 3}),
    {ok, 8} = py_context:call(Ctx, builtins, pow, [2], #{exp => 3}, 5000),
    {ok, 8} = py_context:call(Ctx, builtins, pow, [2], #{exp => 3}, #{traceback => true}),
    {ok, 8} = py_context:call(Ctx, builtins, pow, [2], #{exp => 3}, infinity, Env),
    {ok, 2} = py_context:eval(Ctx, "1 + 1"),
    {ok, 3} = py_context:eval(Ctx, "1 + x", #{x => 2}),
    {ok, 3} = py_context:eval(Ctx, "1 + x", #{x => 2}, 5000),
    {ok, 3} = py_context:eval(Ctx, "1 + x", #{x => 2}, #{timeout => 5000}, Env),
    ok = py_context:exec(Ctx, "y = 1"),
    ok = py_context:exec(Ctx, "y = 2", Env),
    {ok, 1} = py_context:eval(Ctx, "y"),
    {ok, 2} = py_context:eval(Ctx, "y", #{}, infinity, Env),
    ok = py_context:stop(Ctx).

uses_the_shared_namespace_of_a_context(Config) ->
    {ok, Ctx} = py_context:start_link(shared, proplists:get_value(mode, Config, worker)),
    ok = py_context:exec(Ctx, "common = 1\ndef common_function(): return common"),
    Other = py_test:spawn_caller(fun() ->
        {py_context:eval(Ctx, "common"), py_context:call(Ctx, '__main__', common_function, [])}
    end),
    {{ok, 1}, {ok, 1}} = py_test:result_of(Other),
    ok = py_context:stop(Ctx).

keeps_a_local_namespace_apart(Config) ->
    {ok, Ctx} = py_context:start_link(local, proplists:get_value(mode, Config, worker)),
    {ok, Env} = py_context:create_local_env(Ctx),
    {ok, Env2} = py_context:create_local_env(Ctx),
    ok = py_context:exec(Ctx, "x = 42\ndef f(): return x", Env),
    {ok, 42} = py_context:eval(Ctx, "x", #{}, infinity, Env),
    {ok, 42} = py_context:call(Ctx, '__main__', f, [], #{}, infinity, Env),
    {error, {'NameError', _}} = py_context:eval(Ctx, "x"),
    {error, {'NameError', _}} = py_context:eval(Ctx, "x", #{}, infinity, Env2),
    %% It may be passed on.
    {ok, 42} = py_test:result_of(
        py_test:spawn_caller(fun() -> py_context:eval(Ctx, "x", #{}, infinity, Env) end)
    ),
    ok = py_context:stop(Ctx).

refuses_a_namespace_of_another_context(Config) ->
    Options = #{own_process => true},
    {ok, Ctx1} = py_context:start_link(1, proplists:get_value(mode, Config, worker), Options),
    {ok, Ctx2} = py_context:start_link(2, proplists:get_value(mode, Config, worker), Options),
    {ok, Env} = py_context:create_local_env(Ctx1),
    {error, env_wrong_interpreter} = py_context:exec(Ctx2, "x = 1", Env),
    {error, env_wrong_interpreter} = py_context:eval(Ctx2, "x", #{}, infinity, Env),
    {error, env_wrong_interpreter} = py_context:call(Ctx2, math, sqrt, [1], #{}, infinity, Env),
    [ok = py_context:stop(Ctx) || Ctx <- [Ctx1, Ctx2]].

ends_a_context_with_its_owner(Config) ->
    Ctx = owned(Config, boom),
    Ref = monitor(process, Ctx),
    receive
        {'DOWN', Ref, process, Ctx, Reason} -> ?assert(lists:member(Reason, [boom, noproc]))
    after 5000 -> error(context_lives)
    end,
    {error, {context_died, _}} = py_context:call(Ctx, math, sqrt, [16]).

keeps_a_context_when_its_owner_ends_normally(Config) ->
    Ctx = owned(Config, normal),
    {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]),
    ok = py_context:stop(Ctx).

%% A context whose owner has ended.
owned(Config, Reason) ->
    Self = self(),
    {Owner, Ref} = spawn_monitor(fun() ->
        {ok, Ctx} = py_context:start_link(owned, proplists:get_value(mode, Config, worker)),
        Self ! {self(), Ctx},
        exit(Reason)
    end),
    receive
        {Owner, Ctx} ->
            receive
                {'DOWN', Ref, process, Owner, Reason} -> Ctx
            end;
        {'DOWN', Ref, process, Owner, Why} ->
            error(Why)
    end.

answers_on_dead_contexts(Config) ->
    {ok, Ctx} = py_context:start_link(dead, proplists:get_value(mode, Config, worker)),
    {ok, Env} = py_context:create_local_env(Ctx),
    ok = py_context:stop(Ctx),
    Died = {error, {context_died, noproc}},
    Died = py:call(Ctx, math, sqrt, [16]),
    Died = py:eval(Ctx, "1"),
    Died = py:exec(Ctx, "pass"),
    Died = py_context:call(Ctx, math, sqrt, [16]),
    Died = py_context:eval(Ctx, "1", #{}, infinity, Env),
    Died = py_context:exec(Ctx, "pass"),
    Died = py_context:create_local_env(Ctx),
    Died = py:call(self(), math, sqrt, [16]).

mode(Config) ->
    proplists:get_value(mode, Config, worker).

spares_the_owner_of_a_context_that_another_stops(Config) ->
    {ok, Ctx} = py_context:start_link(spared, mode(Config)),
    ok = py_test:result_of(py_test:spawn_caller(fun() -> py_context:stop(Ctx) end)),
    false = is_process_alive(Ctx).

makes_contexts_with_an_identity_of_their_own(Config) ->
    {ok, Worker} = py_context:new(#{}),
    {ok, One} = py_context:new(#{mode => mode(Config), kill_after => 500}),
    {ok, Two} = py_context:new(#{mode => mode(Config), own_process => true}),
    Contexts = [Worker, One, Two],
    {links, Links} = process_info(self(), links),
    [] = Contexts -- Links,
    Ids = [maps:get(id, element(2, py_context_table:info(Ctx))) || Ctx <- Contexts],
    3 = length(lists:usort(Ids)),
    [{ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]) || Ctx <- Contexts],
    [ok = py_context:destroy(Ctx) || Ctx <- Contexts],
    [ok = py_context:destroy(Ctx) || Ctx <- Contexts],
    false = lists:any(fun is_process_alive/1, Contexts).

tells_interpreters_apart(Config) ->
    {ok, Ctx} = py_context:new(#{mode => mode(Config)}),
    {ok, Id} = py_context:get_interp_id(Ctx),
    {ok, Id} = py_context:get_interp_id(Ctx),
    Others = [element(2, py_context:get_interp_id(C)) || C <- py_context_router:contexts()],
    3 = length(lists:usort([Id | Others])),
    ?assertEqual(mode(Config) =:= owngil, py_context:is_subinterp(Ctx)),
    ok = py_context:stop(Ctx),
    {error, {context_died, noproc}} = py_context:get_interp_id(Ctx),
    {error, {context_died, noproc}} = py_context:is_subinterp(Ctx).

%% A4, through the functions behind py_nif.
hands_out_references_for_the_nif(Config) ->
    {ok, Ctx} = py_context:new(#{mode => mode(Config)}),
    {ok, Env} = py_context:create_local_env(Ctx),
    CtxRef = py_context:get_nif_ref(Ctx),
    ok = py_nif:context_exec(CtxRef, <<"x = 42\ndef f(y=0): return x + y">>, Env),
    {ok, 42} = py_nif:context_eval(CtxRef, <<"x">>, #{}, Env),
    {ok, 43} = py_nif:context_eval(CtxRef, <<"x + y">>, #{y => 1}, Env),
    {ok, 44} = py_nif:context_call(CtxRef, '__main__', f, [], #{y => 2}, Env),
    {error, {'NameError', _}} = py_nif:context_eval(CtxRef, "x", #{}),
    ok = py_nif:context_exec(CtxRef, "x = 1"),
    {ok, 1} = py_context:eval(Ctx, "x"),
    {ok, 4.0} = py_nif:context_call(CtxRef, math, sqrt, [16], #{}),
    ok = py_context:stop(Ctx),
    {error, {context_died, shutdown}} = py_nif:context_eval(CtxRef, <<"x">>, #{}, Env),
    {error, {context_died, shutdown}} = py_nif:context_exec(CtxRef, "x = 1"),
    {error, {context_died, shutdown}} = py_nif:context_call(CtxRef, math, sqrt, [16], #{}),
    ?assertError({context_died, noproc}, py_context:get_nif_ref(Ctx)).

runs_preload_code_before_any_request(Config) ->
    Code = ["loaded = [1, 2]\n", <<"def f(): return loaded">>],
    {ok, Ctx} = py_context:new(#{mode => mode(Config), preload => Code}),
    {ok, [1, 2]} = py_context:eval(Ctx, "loaded"),
    {ok, [1, 2]} = py_context:call(Ctx, '__main__', f, []),
    %% Namespaces begin as copies of the shared one.
    {ok, [1, 2]} = py:call(Ctx, '__main__', f, []),
    ok = py_context:stop(Ctx),
    {ok, Empty} = py_context:new(#{preload => <<>>}),
    ok = py_context:stop(Empty).

refuses_preload_code_that_fails(Config) ->
    Start = fun(Code) -> py_context:new(#{mode => mode(Config), preload => Code}) end,
    {error, {preload_failed, {'ZeroDivisionError', "division by zero"}}} = Start("1 / 0"),
    {error, {preload_failed, {'SyntaxError', _}}} = Start("1 +"),
    {error, {preload_failed, {'SystemExit', "3"}}} = Start("raise SystemExit(3)"),
    {error, {worker_died, #{reason := 7}}} = Start("import os; os._exit(7)"),
    {error, {bad_config, preload, 5, _}} = Start(5),
    {error, {bad_config, preload, [1000], _}} = Start([1000]),
    {error, {bad_config, preload, [json, 1], _}} = Start([json, 1]),
    {error, {preload_failed, {'ModuleNotFoundError', _}}} = Start([json, ep_no_such_module]),
    {links, Links} = process_info(self(), links),
    [] = [Ctx || Ctx <- Links, is_pid(Ctx), py_context_table:info(Ctx) =/= noproc].

runs_preload_code_again_after_a_restart(Config) ->
    Mark = py_test:marker(Config, "preload"),
    Code = io_lib:format("import os, ep_probe\nep_probe.mark('~s', os.getpid())\nloaded = True", [Mark]),
    Options = #{mode => mode(Config), own_process => true, preload => Code},
    {ok, Ctx} = py_context:new(Options),
    OsPid = py_test:os_pid(Ctx),
    {error, {worker_died, _}} = py_context:call(Ctx, ep_probe, segfault, []),
    ok = py_test:wait_until(fun() -> length(py_test:marks(Mark)) =:= 2 end),
    New = py_test:os_pid(Ctx),
    ?assertEqual([integer_to_binary(P) || P <- [OsPid, New]], py_test:marks(Mark)),
    {ok, true} = py_context:eval(Ctx, "loaded"),
    ok = py_context:stop(Ctx).

stops_a_context_whose_preload_code_hangs(Config) ->
    Mark = py_test:marker(Config, "hangs"),
    Code = io_lib:format("import ep_probe\nep_probe.spin_until_interrupted('~s')", [Mark]),
    {Starter, Ref} = spawn_monitor(fun() ->
        exit({result, py_context:new(#{mode => mode(Config), own_process => true, preload => Code})})
    end),
    ok = py_test:wait_for_file(Mark),
    {links, [Ctx]} = process_info(Starter, links),
    ok = py_context:stop(Ctx),
    receive
        {'DOWN', Ref, process, Starter, {result, Result}} ->
            {error, {context_died, shutdown}} = Result
    end.

supervises_contexts_without_a_pool(Config) ->
    [] = py_context_sup:which_contexts(),
    Starter = py_test:spawn_caller(fun() -> py_context_sup:start_context(kept, mode(Config)) end),
    {ok, Ctx} = py_test:result_of(Starter),
    {ok, Other} = py_context_sup:start_context({any, "term"}, worker),
    {links, Links} = process_info(self(), links),
    false = lists:member(Other, Links),
    ?assertEqual(lists:sort([Ctx, Other]), lists:sort(py_context_sup:which_contexts())),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    ok = py_context_sup:stop_context(Ctx),
    [Other] = py_context_sup:which_contexts(),
    ok = py_context_sup:stop_context(Other),
    ok = py_context_sup:stop_context(Other),
    [] = py_context_sup:which_contexts().

drops_namespaces_of_contexts_that_ended(Config) ->
    [
        begin
            {ok, Ctx} = py_context:new(#{mode => mode(Config), own_process => false}),
            {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
            ok = py_context:stop(Ctx)
        end
     || _ <- lists:seq(1, 5)
    ],
    {ok, 4.0} = py:call(py:context(1), math, sqrt, [16]),
    {ok, 4.0} = py:call(py:context(2), math, sqrt, [16]),
    Left = [Ctx || {{'$py_env', Ctx}, _} <- get(), not is_process_alive(Ctx)],
    %% That of the last one goes with the next new namespace.
    true = length(Left) =< 1.
