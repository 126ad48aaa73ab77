%% SPDX-License-Identifier: Apache-2.0

%% @doc Namespaces: one for each process and context, made at its first request there
%% from what the context shares, and gone with the process.
-module(py_namespace_SUITE).

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
        gives_each_process_its_own,
        gives_each_context_its_own,
        starts_with_what_python_code_expects,
        copies_what_the_context_shares_at_the_first_use,
        finds_functions_of_main_in_the_namespace_first,
        does_not_keep_locals,
        ends_with_its_process,
        ends_with_its_process_however_that_ends,
        ends_with_the_reference_to_it,
        may_be_passed_to_others,
        is_that_of_the_caller_for_spawned_calls,
        is_that_of_the_caller_for_casts,
        is_the_shared_one_for_parallel,
        is_that_of_the_request_for_callbacks,
        starts_anew_when_the_worker_does,
        belongs_to_the_interpreter_otherwise
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

in_other(Fun) ->
    py_test:result_of(py_test:spawn_caller(Fun)).

gives_each_process_its_own(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx, "x = 1\ndef f(): return x\ndef set(v):\n    global x\n    x = v"),
    {error, {'NameError', _}} = in_other(fun() -> py:eval(Ctx, "x") end),
    {error, {'AttributeError', _}} = in_other(fun() -> py:call(Ctx, '__main__', f, []) end),
    2 = in_other(fun() -> ok = py:exec(Ctx, "x = 2"), {ok, X} = py:eval(Ctx, "x"), X end),
    {ok, 1} = py:eval(Ctx, "x"),
    {ok, none} = py:call(Ctx, '__main__', set, [3]),
    {ok, 3} = py:eval(Ctx, "x"),
    {ok, 3} = py:call(Ctx, '__main__', f, []),
    {error, {'NameError', _}} = py_context:eval(Ctx, "x").

gives_each_context_its_own(_Config) ->
    [Ctx1, Ctx2] = py_context_router:contexts(),
    ok = py:exec(Ctx1, "only_here = 1"),
    {ok, 1} = py:eval(Ctx1, "only_here"),
    {error, {'NameError', _}} = py:eval(Ctx2, "only_here"),
    %% Implicit requests use the same namespace as those that name the context.
    ok = py_context_router:bind_context(Ctx1),
    {ok, 1} = py:eval("only_here"),
    ok = py_context_router:bind_context(Ctx2),
    {error, {'NameError', _}} = py:eval("only_here"),
    ok = py_context_router:unbind_context().

starts_with_what_python_code_expects(_Config) ->
    {ok, <<"__main__">>} = py:eval("__name__"),
    {ok, true} = py:eval("'__builtins__' in globals()"),
    {ok, true} = py:eval("erlang is __import__('erlang')"),
    ok = py:exec("main = []\nif __name__ == '__main__': main.append(len([1, 2]))"),
    {ok, [2]} = py:eval("main"),
    %% In namespaces made by hand as well.
    {ok, Env} = py_context:create_local_env(py:context(1)),
    {ok, {<<"__main__">>, true}} =
        py_context:eval(py:context(1), "(__name__, erlang is __import__('erlang'))", #{}, infinity, Env).

copies_what_the_context_shares_at_the_first_use(_Config) ->
    Ctx = py:context(1),
    ok = py_context:exec(Ctx, "common = 1\ndef get(): return common"),
    Self = self(),
    {Early, Ref} = spawn_monitor(fun() ->
        {ok, 1} = py:eval(Ctx, "common"),
        Self ! {self(), ready},
        receive go -> ok end,
        {ok, 1} = py:eval(Ctx, "common"),
        ok = py:exec(Ctx, "common = 'mine'"),
        {ok, <<"mine">>} = py:eval(Ctx, "common"),
        %% A function sees where it was defined.
        {ok, 2} = py:call(Ctx, '__main__', get, [])
    end),
    receive {Early, ready} -> ok end,
    ok = py_context:exec(Ctx, "common = 2"),
    {ok, 2} = in_other(fun() -> py:eval(Ctx, "common") end),
    Early ! go,
    normal = py_fixture:dead({Early, Ref}),
    {ok, 2} = py_context:eval(Ctx, "common"),
    ok = py_context:exec(Ctx, "del common, get").

finds_functions_of_main_in_the_namespace_first(Config) ->
    Ctx = py:context(1),
    %% Where contexts share an interpreter __main__ is its own, else that very namespace.
    ok = py:exec(Ctx, "import __main__\n__main__.where = lambda: 'module'"),
    {ok, <<"module">>} = py:call(Ctx, '__main__', where, []),
    ok = py:exec(Ctx, "def where(): return 'namespace'"),
    {ok, <<"namespace">>} = py:call(Ctx, '__main__', where, []),
    ok = py:exec(Ctx, "del where"),
    case {proplists:get_value(group, Config), py:call(Ctx, '__main__', where, [])} of
        {shared, {ok, <<"module">>}} -> ok = py:exec(Ctx, "del __main__.where");
        {_, {error, {'AttributeError', _}}} -> ok
    end,
    %% Builtins are not searched.
    {error, {'AttributeError', _}} = py:call(Ctx, '__main__', len, [[]]),
    ok = py:exec(Ctx, "del __main__").

does_not_keep_locals(_Config) ->
    {ok, 3} = py:eval("a + b", #{a => 1, <<"b">> => 2}),
    {error, {'NameError', _}} = py:eval("a"),
    ok = py:exec("a = 10"),
    {ok, 1} = py:eval("a", #{a => 1}),
    {ok, 1} = py:eval("(lambda: a)()", #{a => 1}),
    {ok, 10} = py:eval("a"),
    {ok, 10} = py:eval("(lambda: a)()").

%% --- its end --------------------------------------------------------------------------

ends_with_its_process(_Config) ->
    ok = py_semaphore:set_max_concurrent(100),
    Tag = tag(),
    %% Each is part of a cycle.
    Cycle =
        case py_test:frees_functions() of
            true -> "def f(): return ep_tag\nx = [f]";
            false -> "x = [globals()]"
        end,
    Code = ["ep_tag = '", Tag, "'\n", Cycle],
    Contexts = py_context_router:contexts(),
    [
        begin
            Callers = [
                py_test:spawn_caller(fun() -> [ok = py:exec(C, Code) || C <- Contexts], ok end)
             || _ <- lists:seq(1, 500)
            ],
            [ok = py_test:result_of(C) || C <- Callers]
        end
     || _ <- lists:seq(1, 6)
    ],
    none_left(Tag).

%% In no context is there a namespace with that tag. What has died is dropped with the
%% next request.
none_left(Tag) ->
    py_test:wait_until(fun() ->
        %% Contexts may share an interpreter: the drops of all of them first.
        _ = [py:eval(Ctx, "1") || Ctx <- py_context_router:contexts()],
        Left = [py:call(Ctx, ep_steps, namespaces, [Tag]) || Ctx <- py_context_router:contexts()],
        lists:usort(Left) =:= [{ok, 0}] orelse Left
    end).

tag() ->
    integer_to_binary(erlang:unique_integer([positive])).

ends_with_its_process_however_that_ends(Config) ->
    Ctx = py:context(1),
    Tag = tag(),
    Code = ["ep_tag = '", Tag, "'"],
    Self = self(),
    ok = py:register_function(inside, fun([]) -> Self ! {inside, self()}, receive never -> ok end end),
    Runs = [
        fun() -> py:call(Ctx, ep_probe, spin_until_interrupted, [py_test:marker(Config, "m")]) end,
        fun() -> py:eval(Ctx, "erlang.inside()") end,
        fun() -> receive never -> ok end end
    ],
    Callers = [
        py_test:spawn_caller(fun() ->
            ok = py:exec(Ctx, Code),
            Self ! {here, self()},
            %% One that runs keeps the others from the context.
            receive go -> Run() end
        end)
     || Run <- Runs, _ <- lists:seq(1, 5)
    ],
    [receive {here, Pid} -> ok end || {Pid, _} <- Callers],
    [Pid ! go || {Pid, _} <- Callers],
    [true = exit(Pid, kill) || {Pid, _} <- Callers],
    [killed = py_fixture:dead(C) || C <- Callers],
    none_left(Tag),
    flush_inside().

flush_inside() ->
    receive
        {inside, _} -> flush_inside()
    after 0 -> ok
    end.

ends_with_the_reference_to_it(_Config) ->
    Ctx = py:context(1),
    Tag = tag(),
    [
        in_other(fun() ->
            {ok, Env} = py_context:create_local_env(Ctx),
            ok = py_context:exec(Ctx, ["ep_tag = '", Tag, "'"], Env)
        end)
     || _ <- lists:seq(1, 200)
    ],
    none_left(Tag).

may_be_passed_to_others(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx, "x = 'of the test'"),
    Env = py:get_local_env(Ctx),
    Env = py:get_local_env(Ctx),
    {ok, <<"of the test">>} = in_other(fun() -> py_context:eval(Ctx, "x", #{}, infinity, Env) end),
    ok = in_other(fun() -> py_context:exec(Ctx, "x = 'changed'", Env) end),
    {ok, <<"changed">>} = py:eval(Ctx, "x"),
    %% Made if absent.
    {ok, 1} = in_other(fun() ->
        Mine = py:get_local_env(Ctx),
        ok = py:exec(Ctx, "y = 1"),
        py_context:eval(Ctx, "y", #{}, infinity, Mine)
    end),
    %% It outlives its process as long as somebody has it.
    Other = in_other(fun() -> ok = py:exec(Ctx, "z = 7"), py:get_local_env(Ctx) end),
    {ok, 7} = py_context:eval(Ctx, "z", #{}, infinity, Other),
    [ok = py_test:badarg(fun() -> py:get_local_env(Bad) end) || Bad <- [default, 1]].

%% --- whose it is ----------------------------------------------------------------------

is_that_of_the_caller_for_spawned_calls(_Config) ->
    ok = py:exec("x = 1\ndef get(): return x\ndef set(v):\n    global x\n    x = v"),
    {ok, 1} = py:await(py:spawn_call('__main__', get, [])),
    {ok, none} = py:await(py:spawn_call('__main__', set, [2])),
    {ok, 2} = py:eval("x"),
    [
        begin
            ok = py:exec(Ctx, "def where(n): return (n, __name__)"),
            {ok, {N, <<"__main__">>}} = py:await(py:spawn_call(Ctx, '__main__', where, [N]))
        end
     || {N, Ctx} <- lists:enumerate(py_context_router:contexts())
    ].

is_that_of_the_caller_for_casts(_Config) ->
    Self = self(),
    ok = py:register_function(tell, fun([X]) -> Self ! {told, X}, ok end),
    ok = py:exec("x = 0\ndef add(n):\n    global x\n    x += n\n    erlang.tell(x)"),
    [ok = py:cast('__main__', add, [N]) || N <- lists:seq(1, 10)],
    [1, 3, 6, 10, 15, 21, 28, 36, 45, 55] = [receive {told, X} -> X end || _ <- lists:seq(1, 10)],
    {ok, 55} = py:eval("x").

is_the_shared_one_for_parallel(_Config) ->
    ok = py:exec("def mine(): return 1"),
    {ok, [{error, {'AttributeError', _}}]} = py:parallel([{'__main__', mine, []}]),
    [ok = py_context:exec(Ctx, "def ours(n): return n") || Ctx <- py_context_router:contexts()],
    {ok, [{ok, 1}, {ok, 2}, {ok, 3}]} = py:parallel([{'__main__', ours, [N]} || N <- [1, 2, 3]]),
    [ok = py_context:exec(Ctx, "del ours") || Ctx <- py_context_router:contexts()].

is_that_of_the_request_for_callbacks(_Config) ->
    [Ctx1, Ctx2] = py_context_router:contexts(),
    ok = py:register_function(see, fun([]) ->
        {ok, Seen} = py:eval("x"),
        ok = py:exec("seen = True"),
        {ok, ByCall} = py:await(py:spawn_call('__main__', get, [])),
        [Seen, ByCall]
    end),
    Define = fun(X) -> ["x = '", X, "'\ndef get(): return x"] end,
    %% The process's own, on the context that it is bound to or another.
    [
        begin
            ok = py:exec(Ctx, Define("own")),
            {ok, [<<"own">>, <<"own">>]} = py:eval(Ctx, "erlang.see()"),
            {ok, true} = py:eval(Ctx, "seen")
        end
     || Ctx <- [Ctx1, Ctx2]
    ],
    %% One made by hand.
    {ok, Env} = py_context:create_local_env(Ctx1),
    ok = py_context:exec(Ctx1, Define("by hand"), Env),
    {ok, [<<"by hand">>, <<"by hand">>]} = py_context:eval(Ctx1, "erlang.see()", #{}, infinity, Env),
    %% The shared one.
    ok = py_context:exec(Ctx2, Define("shared")),
    {ok, [<<"shared">>, <<"shared">>]} = py_context:eval(Ctx2, "erlang.see()"),
    ok = py_context:exec(Ctx2, "del x, get, seen"),
    %% A context that is named means the process's own there.
    ok = py:register_function(cross, fun([]) -> {ok, X} = py:eval(Ctx1, "x"), X end),
    {ok, <<"own">>} = py:eval(Ctx2, "erlang.cross()"),
    {ok, <<"own">>} = py_context:eval(Ctx1, "erlang.cross()", #{}, infinity, Env).

starts_anew_when_the_worker_does(_Config) ->
    Ctx = py:context(1),
    {ok, Env} = py_context:create_local_env(Ctx),
    ok = py:exec(Ctx, "x = 1"),
    ok = py_context:exec(Ctx, "x = 2", Env),
    ok = py_context:exec(Ctx, "x = 3"),
    {error, {worker_died, _}} = py:call(Ctx, ep_probe, leave, [0]),
    [
        begin
            {error, {'NameError', _}} = Eval("x"),
            {ok, <<"__main__">>} = Eval("__name__")
        end
     || Eval <- [
            fun(Code) -> py:eval(Ctx, Code) end,
            fun(Code) -> py_context:eval(Ctx, Code, #{}, infinity, Env) end,
            fun(Code) -> py_context:eval(Ctx, Code) end
        ]
    ],
    ok = py:exec(Ctx, "x = 4"),
    ok = py_context:exec(Ctx, "x = 5", Env),
    {ok, 4} = py:eval(Ctx, "x"),
    {ok, 5} = py_context:eval(Ctx, "x", #{}, infinity, Env).

belongs_to_the_interpreter_otherwise(Config) ->
    [Ctx1, Ctx2] = py_context_router:contexts(),
    ok = py:exec(Ctx1, "import sys, os\nsys.ep_mark = 1\nimport ep_probe\nep_probe.ep_mark = 2"),
    Expected =
        case proplists:get_value(group, Config) of
            shared -> {ok, [1, 2]};
            _ -> {ok, [none, none]}
        end,
    Expected = py:eval(Ctx2, "[getattr(__import__(m), 'ep_mark', None) for m in ('sys', 'ep_probe')]"),
    %% Another process on the same context: the same modules.
    {ok, [1, 2]} = in_other(fun() ->
        py:eval(Ctx1, "[getattr(__import__(m), 'ep_mark', None) for m in ('sys', 'ep_probe')]")
    end),
    ok = py:exec(Ctx1, "del sys.ep_mark, ep_probe.ep_mark").
