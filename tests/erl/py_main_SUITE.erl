%% SPDX-License-Identifier: Apache-2.0

%% @doc What Python code finds around it: `__main__', a frame below, contextvars. Each namespace has its own, and a request that runs on top of
%% another one gives back what it found.
-module(py_main_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(cases(), #{
        shared => [
            main_is_the_namespace_of_the_request,
            main_is_that_of_the_request_on_top,
            main_is_given_back_by_a_request_that_fails,
            main_stays_where_a_python_thread_calls,
            main_outlives_its_namespace,
            main_is_the_interpreters_own_where_contexts_share_it,
            pickles_what_exec_defined,
            resolves_annotations_that_are_strings,
            keeps_what_builtins_assign_from_others,
            evaluates_by_builtins_on_top_of_a_request,
            ends_contexts_that_have_a_frame,
            has_contextvars_for_each_namespace,
            gives_nested_requests_a_copy_of_contextvars
        ],
        single_worker => [
            main_is_that_of_the_request_on_top,
            evaluates_by_builtins_on_top_of_a_request,
            gives_nested_requests_a_copy_of_contextvars
        ]
    }).

cases() ->
    [
        main_is_the_namespace_of_the_request,
        main_is_that_of_the_request_on_top,
        main_is_given_back_by_a_request_that_fails,
        main_stays_where_a_python_thread_calls,
        main_outlives_its_namespace,
        main_is_there_again_for_the_next_caller,
        main_is_the_interpreters_own_where_contexts_share_it,
        pickles_what_exec_defined,
        runs_what_exec_defined_in_other_processes,
        resolves_annotations_that_are_strings,
        has_a_frame_below_each_call,
        evaluates_in_the_namespace_by_builtins,
        keeps_what_builtins_assign_from_others,
        lists_the_namespace_by_builtins,
        evaluates_by_builtins_on_top_of_a_request,
        ends_contexts_that_have_a_frame,
        has_contextvars_for_each_namespace,
        gives_nested_requests_a_copy_of_contextvars,
        gives_requests_of_python_threads_a_copy_of_contextvars,
        refuses_code_that_has_not_run
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    py_fixture:init(Group, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

in_other(Fun) ->
    py_test:result_of(py_test:spawn_caller(Fun)).

%% Whether requests of several contexts run in one interpreter.
is_shared(Config) ->
    proplists:get_value(group, Config) =:= shared.

%% Whether Python code may fork.
may_fork(Config) ->
    proplists:get_value(mode, Config) =:= worker.

-define(IS_MAIN, "__import__('sys').modules['__main__'].__dict__ is globals()").

%% --- __main__ --------------------------------------------------------------------------

main_is_the_namespace_of_the_request(Config) ->
    Ctx = py:context(1),
    Here = not is_shared(Config),
    ok = py:exec(Ctx, "import sys\nmine = 1\ndef is_main(): return " ?IS_MAIN),
    Check = fun() ->
        {ok, Here} = py:call(Ctx, '__main__', is_main, []),
        {ok, Here} = py:eval(Ctx, ?IS_MAIN),
        {ok, Here} = py:eval(Ctx, "hasattr(__import__('__main__'), 'mine')"),
        done
    end,
    done = Check(),
    %% Callers in turn, and the namespace of the context.
    Other = fun() ->
        ok = py:exec(Ctx, "def is_main(): return " ?IS_MAIN),
        {ok, Here} = py:call(Ctx, '__main__', is_main, []),
        {ok, false} = py:eval(Ctx, "hasattr(__import__('__main__'), 'mine')"),
        {ok, Here} = py_context:eval(Ctx, ?IS_MAIN)
    end,
    [begin {ok, Here} = in_other(Other), done = Check() end || _ <- lists:seq(1, 20)],
    {ok, Env} = py_context:create_local_env(Ctx),
    {ok, Here} = py_context:eval(Ctx, ?IS_MAIN, #{}, infinity, Env),
    done = Check(),
    %% It looks like the module that it stands for.
    {ok, [<<"__main__">>, none, none]} =
        py:eval(Ctx, "[getattr(__import__('__main__'), n) for n in ('__name__', '__spec__', '__package__')]"),
    ok = py:exec(Ctx, "del mine, is_main, sys").

main_is_that_of_the_request_on_top(Config) ->
    Ctx = py:context(1),
    Here = not is_shared(Config),
    {ok, Env} = py_context:create_local_env(Ctx),
    ok = py:register_function(above, fun([Levels]) ->
        {ok, Here} = py_context:eval(Ctx, ?IS_MAIN),
        {ok, Here} = py:eval(Ctx, ?IS_MAIN),
        {ok, Here} = py_context:eval(Ctx, ?IS_MAIN, #{}, infinity, Env),
        {ok, [Here, Here]} = nested(Ctx, Levels, Env),
        {error, {'ZeroDivisionError', _}} = py_context:eval(Ctx, "1 / 0"),
        done
    end),
    Code = "[erlang.above(3) == 'done', " ?IS_MAIN "]",
    [
        ?assertEqual({ok, [true, Here]}, Eval(Code))
     || Eval <- [
            fun(C) -> py:eval(Ctx, C) end,
            fun(C) -> py_context:eval(Ctx, C) end,
            fun(C) -> py_context:eval(Ctx, C, #{}, infinity, Env) end
        ]
    ],
    {ok, Here} = py:eval(Ctx, ?IS_MAIN),
    ok = py:unregister_function(above).

nested(_Ctx, 0, _Env) ->
    {ok, [true, true]};
nested(Ctx, Levels, Env) ->
    ok = py:register_function(deeper, fun([]) ->
        {ok, _} = py:eval(Ctx, "1"),
        true
    end),
    Code = "[" ?IS_MAIN ", erlang.deeper() and " ?IS_MAIN "]",
    {ok, [Here, Here]} = py_context:eval(Ctx, Code, #{}, infinity, Env),
    {ok, [Here, Here]} = py_context:eval(Ctx, Code),
    ok = py:unregister_function(deeper),
    case Levels of
        1 -> {ok, [Here, Here]};
        _ -> nested(Ctx, Levels - 1, Env)
    end.

main_is_given_back_by_a_request_that_fails(Config) ->
    Ctx = py:context(1),
    Here = not is_shared(Config),
    ok = py:register_function(fails, fun([Code]) -> {error, {Type, _}} = py_context:eval(Ctx, Code), Type end),
    [
        ?assertEqual({Code, {ok, [true, Here]}}, {Code, py:eval(Ctx, "[erlang.fails(c) != '', " ?IS_MAIN "]", #{c => Code})})
     || Code <- [<<"1 / 0">>, <<"1 +">>, <<"'\\ud800'">>, <<"__import__('sys').exit(3)">>]
    ],
    ok = py:unregister_function(fails).

main_stays_where_a_python_thread_calls(Config) ->
    Ctx = py:context(1),
    Here = not is_shared(Config),
    ok = py:exec(Ctx,
        "import concurrent.futures, erlang\n"
        "def asks():\n"
        "    with concurrent.futures.ThreadPoolExecutor(2) as pool:\n"
        "        return list(pool.map(lambda i: erlang.inside(i), range(8)))\n"
        "def is_main(): return " ?IS_MAIN "\n"),
    ok = py:register_function(inside, fun([I]) ->
        %% The namespace of the request around it, then that of the context.
        {ok, Here} = py:call('__main__', is_main, []),
        {ok, I} = py_context:eval(Ctx, "i", #{i => I}),
        I
    end),
    {ok, [[0, 1, 2, 3, 4, 5, 6, 7], Here]} = py:eval(Ctx, "[asks(), is_main()]"),
    ok = py:unregister_function(inside),
    ok = py:exec(Ctx, "del asks, is_main, concurrent").

%% What a thread left behind is still its own when the namespace is gone, and nobody else's.
main_outlives_its_namespace(_Config) ->
    Ctx = py:context(1),
    [
        begin
            ok = in_other(fun() -> py:exec(Ctx, "import __main__\nleft = 1") end),
            {ok, false} = py_context:eval(Ctx, "hasattr(__import__('__main__'), 'left')"),
            {ok, false} = py:eval(Ctx, "hasattr(__import__('__main__'), 'left')")
        end
     || _ <- lists:seq(1, 20)
    ].

%% Where contexts share an interpreter, one of them may be in the midst of code that replaces it.
main_is_there_again_for_the_next_caller(Config) ->
    Ctx = py:context(1),
    [
        begin
            ok = in_other(fun() -> py:exec(Ctx, ["import sys\n", Code]) end),
            ?assertEqual({Code, {ok, true}}, {Code, in_other(fun() -> py:eval(Ctx, ?IS_MAIN) end)})
        end
     || not is_shared(Config), Code <- ["del sys.modules['__main__']", "sys.modules['__main__'] = 5"]
    ].

%% A worker process shows the namespaces of its only context, until a second one comes.
main_is_the_interpreters_own_where_contexts_share_it(_Config) ->
    Which = "id(__import__('sys').modules['__main__'])",
    Start = fun(Id) ->
        {ok, C} = py_context:start_link(Id, worker, #{own_process => false, spin_us => 0}),
        C
    end,
    One = Start(one),
    Two = Start(two),
    OsPid = py_test:os_pid(One),
    OsPid = py_test:os_pid(Two),
    {ok, Own} = py:eval(One, Which),
    Check = fun(C) ->
        {ok, false} = py:eval(C, ?IS_MAIN),
        {ok, Own} = py:eval(C, Which),
        ok = py:exec(C, "def sq(x): return x * x"),
        {error, {'PicklingError', _}} = py:eval(C, "__import__('pickle').dumps(sq)")
    end,
    [Check(C) || C <- [One, Two, One]],
    %% For good: nobody could tell when the last request of the other one is over.
    ok = py_context:stop(Two),
    _ = Check(One),
    ok = py_context:stop(One).

pickles_what_exec_defined(Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx,
        "import pickle, copyreg, enum\n"
        "def sq(x): return x * x\n"
        "class P:\n"
        "    def __init__(self, x): self.x = x\n"
        "class E(enum.Enum):\n"
        "    ONE = 1\n"),
    Codes = [
        {"pickle.loads(pickle.dumps(sq))(3)", 9},
        {"pickle.loads(pickle.dumps(P(4))).x", 4},
        {"pickle.loads(pickle.dumps(E.ONE)) is E.ONE", true}
    ],
    [
        case is_shared(Config) of
            false -> ?assertEqual({Code, {ok, Value}}, {Code, py:eval(Ctx, Code)});
            true -> ?assertMatch({Code, {error, {'PicklingError', _}}}, {Code, py:eval(Ctx, Code)})
        end
     || {Code, Value} <- Codes
    ].

%% By forked processes, which find what was defined.
runs_what_exec_defined_in_other_processes(Config) ->
    case may_fork(Config) andalso not is_shared(Config) of
        true -> runs_in_other_processes(py:context(1));
        false -> {skip, "no forks, or no __main__, there"}
    end.

runs_in_other_processes(Ctx) ->
    ok = py:exec(Ctx,
        "import multiprocessing, concurrent.futures\n"
        "def sq(x): return x * x\n"
        "fork = multiprocessing.get_context('fork')\n"
        "def by_pool(n):\n"
        "    with fork.Pool(2) as pool:\n"
        "        return pool.map(sq, range(n))\n"
        "def by_executor(n):\n"
        "    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:\n"
        "        return list(pool.map(sq, range(n)))\n"),
    {ok, [0, 1, 4, 9]} = py:call(Ctx, '__main__', by_pool, [4]),
    {ok, [0, 1, 4, 9]} = py:call(Ctx, '__main__', by_executor, [4]).

resolves_annotations_that_are_strings(Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx,
        "import dataclasses, typing\n"
        "@dataclasses.dataclass\n"
        "class P:\n"
        "    x: int\n"
        "    count: 'typing.ClassVar[int]' = 0\n"
        "class Node:\n"
        "    next: 'Node'\n"),
    case is_shared(Config) of
        false ->
            {ok, 1} = py:eval(Ctx, "len(dataclasses.fields(P))"),
            {ok, true} = py:eval(Ctx, "typing.get_type_hints(Node)['next'] is Node");
        true ->
            {ok, 2} = py:eval(Ctx, "len(dataclasses.fields(P))")
    end.

%% --- a frame ----------------------------------------------------------------------------

has_a_frame_below_each_call(_Config) ->
    Ctx = py:context(1),
    {ok, <<"<frame at", _/binary>>} = py:call(Ctx, sys, '_getframe', [0]),
    {error, {'ValueError', _}} = py:call(Ctx, sys, '_getframe', [1]),
    {ok, [_ | _]} = py:call(Ctx, inspect, stack, []),
    {ok, none} = py:call(Ctx, warnings, warn, [<<"a warning">>]),
    {ok, <<"<class '__main__.P'>">>} = py:call(Ctx, collections, namedtuple, [<<"P">>, <<"x y">>]),
    {ok, <<"<enum 'Color'>">>} = py:call(Ctx, enum, 'Enum', [<<"Color">>, <<"R G">>]),
    ok = py:exec(Ctx, "import sys\ndef caller(): return sys._getframe(1).f_globals['__name__']"),
    {ok, <<"__main__">>} = py:call(Ctx, '__main__', caller, []),
    %% Nobody finds the way into the loop again.
    {ok, [<<"__builtins__">>, <<"__name__">>]} =
        py:eval(Ctx, "sorted(k for k in sys._getframe(1).f_globals if k != '__warningregistry__')"),
    ok = py:exec(Ctx, "del caller, sys").

evaluates_in_the_namespace_by_builtins(_Config) ->
    Ctx = py:context(1),
    Call = fun(F, Args) -> py:call(Ctx, builtins, F, Args) end,
    {ok, 2} = Call(eval, [<<"1+1">>]),
    {ok, none} = Call(exec, [<<"by_exec = 5">>]),
    {ok, 5} = py:eval(Ctx, "by_exec"),
    {ok, 6} = Call(eval, [<<"by_exec + 1">>]),
    {ok, 6} = Call(eval, [<<"by_exec + 1">>, none]),
    {ok, 7} = Call(eval, [<<"by_exec + x">>, none, #{x => 2}]),
    {ok, 3} = Call(eval, [<<"x + 1">>, #{x => 2}]),
    {error, {'NameError', _}} = Call(eval, [<<"by_exec">>, #{x => 2}]),
    {error, {'TypeError', _}} = Call(eval, []),
    {error, {'SyntaxError', _}} = Call(eval, [<<"1 +">>]),
    {error, {'ZeroDivisionError', _}} = Call(exec, [<<"1 / 0">>]),
    %% By name, as Python allows it from 3.13 on.
    {ok, IsNew} = py:eval("__import__('sys').version_info >= (3, 13)"),
    ByName = fun(Kwargs) -> py:call(Ctx, builtins, eval, [<<"by_exec">>], #{kwargs => Kwargs}) end,
    case IsNew of
        true ->
            {ok, 5} = ByName(#{globals => none}),
            {ok, 8} = ByName(#{locals => #{by_exec => 8}}),
            {ok, 9} = ByName(#{globals => #{by_exec => 9}});
        false ->
            {error, {'TypeError', _}} = ByName(#{globals => none})
    end,
    {ok, none} = Call(exec, [<<"del by_exec">>]).

keeps_what_builtins_assign_from_others(_Config) ->
    Ctx = py:context(1),
    {ok, none} = py:call(Ctx, builtins, exec, [<<"mine = 1">>]),
    {error, {'NameError', _}} = in_other(fun() -> py:call(Ctx, builtins, eval, [<<"mine">>]) end),
    {error, {'NameError', _}} = py_context:call(Ctx, builtins, eval, [<<"mine">>]),
    {ok, 1} = py:call(Ctx, builtins, eval, [<<"mine">>]),
    {ok, none} = py:call(Ctx, builtins, exec, [<<"del mine">>]).

lists_the_namespace_by_builtins(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx, "listed = 1"),
    [
        begin
            {ok, #{<<"listed">> := 1, <<"__name__">> := <<"__main__">>}} = py:call(Ctx, builtins, F, []),
            {ok, Without} = in_other(fun() -> py:call(Ctx, builtins, F, []) end),
            false = is_map_key(<<"listed">>, Without)
        end
     || F <- [globals, locals, vars]
    ],
    {ok, Names} = py:call(Ctx, builtins, dir, []),
    true = lists:member(<<"listed">>, Names),
    Names = lists:sort(Names),
    %% With an argument they ask nobody.
    {ok, Of} = py:call(Ctx, builtins, dir, [1]),
    true = lists:member(<<"bit_length">>, Of),
    {error, {'TypeError', _}} = py:call(Ctx, builtins, vars, [1]),
    ok = py:exec(Ctx, "del listed").

%% Not in the function that waits below.
evaluates_by_builtins_on_top_of_a_request(_Config) ->
    Ctx = py:context(1),
    ok = py:register_function(look, fun([]) ->
        {error, {'NameError', _}} = py:call(Ctx, builtins, eval, [<<"inner">>]),
        {ok, none} = py:call(Ctx, builtins, exec, [<<"assigned = 1">>]),
        {ok, Names} = py:call(Ctx, builtins, dir, []),
        {lists:member(<<"inner">>, Names), lists:member(<<"assigned">>, Names)}
    end),
    ok = py:exec(Ctx, "def waits():\n    inner = 1\n    return erlang.look(), 'assigned' in locals()"),
    {ok, {{false, true}, false}} = py:call(Ctx, '__main__', waits, []),
    {ok, 1} = py:eval(Ctx, "assigned"),
    ok = py:unregister_function(look),
    ok = py:exec(Ctx, "del waits, assigned").

ends_contexts_that_have_a_frame(Config) ->
    Mode = proplists:get_value(mode, Config),
    [
        begin
            {ok, Ctx} = py_context:start_link(N, Mode),
            {ok, 2} = py:call(Ctx, builtins, eval, [<<"1+1">>]),
            OsPid = py_test:os_pid(Ctx),
            ok = py_context:stop(Ctx),
            %% An interpreter that cannot end takes its process along.
            ok = py_test:wait_until(fun() -> Mode =:= owngil orelse not py_test:is_running(OsPid) end)
        end
     || N <- lists:seq(1, 5)
    ],
    {ok, Last} = py_context:start_link(last, Mode),
    {ok, 4.0} = py:call(Last, math, sqrt, [16]),
    ok = py_context:stop(Last).

%% --- contextvars -------------------------------------------------------------------------

-define(PREC, "__import__('decimal').getcontext().prec").

has_contextvars_for_each_namespace(_Config) ->
    Ctx = py:context(1),
    {ok, 28} = py:eval(Ctx, ?PREC),
    ok = py:exec(Ctx, "import decimal\ndecimal.getcontext().prec = 3"),
    [
        begin
            {ok, 28} = in_other(fun() -> py:eval(Ctx, ?PREC) end),
            {ok, 28} = py_context:eval(Ctx, ?PREC),
            {ok, 3} = py:eval(Ctx, ?PREC),
            {ok, <<"0.333">>} = py:eval(Ctx, "decimal.Decimal(1) / 3")
        end
     || _ <- lists:seq(1, 10)
    ],
    ok = py_context:exec(Ctx, "import decimal\ndecimal.getcontext().prec = 4"),
    {ok, 3} = py:eval(Ctx, ?PREC),
    {ok, 4} = py_context:eval(Ctx, ?PREC),
    {ok, 28} = in_other(fun() -> py:eval(Ctx, ?PREC) end),
    ok = py_context:exec(Ctx, "decimal.getcontext().prec = 28\ndel decimal"),
    ok = py:exec(Ctx, "decimal.getcontext().prec = 28\ndel decimal").

gives_nested_requests_a_copy_of_contextvars(_Config) ->
    Ctx = py:context(1),
    {ok, Env} = py_context:create_local_env(Ctx),
    Set = fun(V) -> ["import ep_vars\nep_vars.var.set('", V, "')"] end,
    Get = "__import__('ep_vars').var.get()",
    ok = py_context:exec(Ctx, Set("of env"), Env),
    ok = py:register_function(above, fun([]) ->
        Own = py:eval(Ctx, Get),
        ok = py:exec(Ctx, Set("nested")),
        Other = py_context:eval(Ctx, Get, #{}, infinity, Env),
        ok = py_context:exec(Ctx, Set("nested"), Env),
        [element(2, Own), element(2, Other)]
    end),
    ok = py:exec(Ctx, Set("own")),
    %% What it saw, and what the request below has afterwards.
    {ok, [[<<"own">>, <<"of env">>], <<"own">>]} = py:eval(Ctx, "[erlang.above(), " ++ Get ++ "]"),
    %% Code below may run in a context of its own.
    {ok, [[<<"own">>, <<"of env">>], <<"inner">>, <<"own">>]} = py:eval(Ctx,
        "[*__import__('contextvars').copy_context().run(lambda:"
        " [__import__('ep_vars').var.set('own') and erlang.above(),"
        "  __import__('ep_vars').var.set('inner') and " ++ Get ++ "]), " ++ Get ++ "]"),
    {ok, <<"of env">>} = py_context:eval(Ctx, Get, #{}, infinity, Env),
    {ok, <<"own">>} = py:eval(Ctx, Get),
    {ok, <<"none">>} = in_other(fun() -> py:eval(Ctx, Get) end),
    ok = py:unregister_function(above).

gives_requests_of_python_threads_a_copy_of_contextvars(_Config) ->
    Ctx = py:context(1),
    Get = "__import__('ep_vars').var.get()",
    ok = py:exec(Ctx,
        "import threading, ep_vars, erlang\n"
        "def in_thread():\n"
        "    seen = []\n"
        "    def body():\n"
        "        ep_vars.var.set('of the thread')\n"
        "        seen.extend([erlang.above(), ep_vars.var.get()])\n"
        "    thread = threading.Thread(target=body)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    return seen\n"),
    ok = py:register_function(above, fun([]) ->
        {ok, Seen} = py:eval(Ctx, Get),
        ok = py:exec(Ctx, "__import__('ep_vars').var.set('nested')"),
        Seen
    end),
    {ok, [<<"of the thread">>, <<"of the thread">>]} = py:call(Ctx, '__main__', in_thread, []),
    ok = py:unregister_function(above),
    ok = py:exec(Ctx, "del in_thread, threading").

%% --- results that are none ----------------------------------------------------------------

refuses_code_that_has_not_run(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx,
        "import asyncio, erlang\n"
        "def numbers():\n    yield 1\n    yield 2\n"
        "async def fetch():\n    return 3\n"
        "async def ticks():\n    yield 4\n"
        "started = fetch()\n"),
    [
        begin
            {error, {'TypeError', Text}} = py:eval(Ctx, Code),
            [?assertMatch({Code, Text, [_ | _]}, {Code, Text, string:find(Text, Word)}) || Word <- Words]
        end
     || {Code, Words} <- [
            {"numbers()", ["result: generator numbers", "list(...)"]},
            {"(i for i in [1])", ["generator <genexpr>", "list(...)"]},
            {"started", ["result: coroutine fetch", "asyncio.run(...)"]},
            {"ticks()", ["result: asynchronous generator ticks", "asyncio.run()"]},
            {"[1, {'k': numbers()}]", ["result[1]['k']: generator numbers"]},
            {"{numbers(): 1}", ["result: generator numbers"]}
        ]
    ],
    {error, {'TypeError', "result: coroutine fetch" ++ _}} = py:eval(Ctx, "started"),
    %% What the texts say works.
    {ok, [1, 2]} = py:eval(Ctx, "list(numbers())"),
    {ok, 3} = py:eval(Ctx, "asyncio.run(started)"),
    ok = py:exec(Ctx, "async def all_of(): return [x async for x in ticks()]"),
    {ok, [4]} = py:eval(Ctx, "asyncio.run(all_of())"),
    %% On the way to Erlang as well.
    ok = py:register_function(takes, fun([X]) -> X end),
    {error, {'TypeError', "args[0]: generator numbers" ++ _}} = py:eval(Ctx, "erlang.takes(numbers())"),
    ok = py:unregister_function(takes),
    %% Other iterators are text, as everything else is.
    {ok, <<"<map object", _/binary>>} = py:eval(Ctx, "map(int, [])"),
    ok = py:exec(Ctx, "del numbers, fetch, ticks, started, all_of").
