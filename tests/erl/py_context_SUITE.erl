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
        answers_on_dead_contexts
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
