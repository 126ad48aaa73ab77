%% SPDX-License-Identifier: Apache-2.0

%% @doc The functions of the API, each in every mode.
-module(py_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++
        [runs_the_transcript_on_a_bare_node, every_case_holds_with_the_epoll_backend].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        calls_a_function_with_positional_arguments,
        takes_keyword_arguments_as_argument_and_as_option,
        takes_options_and_a_timeout,
        takes_text_as_atom_binary_and_string,
        takes_unicode_names,
        imports_dotted_modules,
        calls_any_callable_attribute,
        raises_badarg_on_misuse_before_anything_runs,
        keeps_what_exec_assigns_for_its_process_and_context_only,
        finds_functions_of_exec_in_main,
        makes_a_namespace_from_the_shared_one,
        looks_into_main_of_the_interpreter_but_not_into_builtins,
        evaluates_with_locals_that_are_not_kept,
        shows_locals_to_nested_scopes,
        keeps_what_a_walrus_in_eval_assigns,
        executes_statements_with_options,
        binds_a_process_by_its_scheduler,
        keeps_the_binding_until_told_otherwise,
        numbers_contexts_from_one,
        runs_parallel_calls_in_order_of_input,
        runs_parallel_calls_at_the_same_time,
        refuses_a_malformed_parallel_item_before_any_starts,
        keeps_parallel_calls_out_of_the_callers_namespace,
        answers_each_of_many_parallel_calls,
        shares_modules_as_the_mode_says,
        leaves_other_messages_alone,
        tells_version_and_mode,
        runs_the_examples_of_the_contract,
        runs_two_contexts_at_the_same_time,
        gives_python_an_empty_stdin_and_argv,
        returns_a_running_pool_as_it_is,
        starts_the_pool_with_other_sizes
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

%% --- calls ----------------------------------------------------------------------------

calls_a_function_with_positional_arguments(_Config) ->
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, 8} = py:call(builtins, pow, [2, 3]),
    {ok, {{}, #{}}} = py:call(ep_probe, identify, []),
    Many = lists:seq(1, 300),
    {ok, {Tuple, #{}}} = py:call(ep_probe, identify, Many),
    Many = tuple_to_list(Tuple).

takes_keyword_arguments_as_argument_and_as_option(_Config) ->
    Expected = {ok, {{1}, #{<<"a">> => 2, <<"b">> => 3}}},
    Kwargs = #{a => 2, <<"b">> => 3},
    Ctx = py:context(1),
    Expected = py:call(ep_probe, identify, [1], Kwargs),
    Expected = py:call(ep_probe, identify, [1], Kwargs, 5000),
    Expected = py:call(ep_probe, identify, [1], Kwargs, #{timeout => 5000}),
    Expected = py:call(Ctx, ep_probe, identify, [1], #{kwargs => Kwargs}),
    Expected = py:call(default, ep_probe, identify, [1], Kwargs),
    Expected = py:call(default, ep_probe, identify, [1], Kwargs, #{timeout => 5000}),
    Expected = py:call(Ctx, ep_probe, identify, [1], Kwargs, 5000),
    Expected = py_context:call(Ctx, ep_probe, identify, [1], Kwargs),
    {ok, {{1}, #{}}} = py:call(ep_probe, identify, [1], #{}),
    {ok, 255} = py:call(builtins, int, [<<"ff">>], #{base => 16}).

takes_options_and_a_timeout(_Config) ->
    Ctx = py:context(1),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, infinity),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 16#FFFFFFFF),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, #{}),
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, #{timeout => infinity, traceback => true}),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16], #{timeout => 5000}),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16], 5000),
    {ok, 2} = py:eval("1 + 1", #{}, 5000),
    {ok, 2} = py:eval("1 + 1", #{}, #{timeout => 5000, traceback => true}),
    {ok, 2} = py:eval(Ctx, "1 + 1", #{}, #{timeout => 5000}),
    {error, timeout} = py:call(math, sqrt, [16], #{}, 0),
    {error, timeout} = py:eval("1", #{}, 0),
    {error, timeout} = py:exec("pass", #{timeout => 0}).

takes_text_as_atom_binary_and_string(_Config) ->
    Texts = fun(Text) -> [list_to_atom(Text), list_to_binary(Text), Text, [Text, <<>>], [[Text]]] end,
    Ctx = py:context(1),
    ok = py:exec("def f(): return 'mine'"),
    ok = py:exec(Ctx, "def f(): return 'mine'"),
    [
        begin
            {ok, 4.0} = py:call(M, F, [16]),
            {ok, 4.0} = py:call(Ctx, M, F, [16]),
            {ok, [{ok, 4.0}]} = py:parallel([{M, F, [16]}])
        end
     || M <- Texts("math"), F <- Texts("sqrt")
    ],
    [
        begin
            {ok, <<"mine">>} = py:call(M, F, []),
            {ok, <<"mine">>} = py:call(Ctx, M, F, [])
        end
     || M <- Texts("__main__"), F <- Texts("f")
    ],
    [{ok, 2} = py:eval(Code) || Code <- Texts("1 + 1")],
    [{ok, 2} = py:eval(Ctx, Code) || Code <- Texts("1 + 1")],
    [ok = py:exec(Code) || Code <- Texts("x = 1")],
    [ok = py:exec(Ctx, Code) || Code <- Texts("x = 1")].

takes_unicode_names(_Config) ->
    ok = py:exec(<<"def grüße(n): return 'Grüße, ' + n"/utf8>>),
    Expected = {ok, <<"Grüße, Ω"/utf8>>},
    [
        Expected = py:call('__main__', Name, [<<"Ω"/utf8>>])
     || Name <- ['grüße', "grüße", <<"grüße"/utf8>>]
    ],
    Expected = py:eval("'Grüße, ' + x", #{x => <<"Ω"/utf8>>}),
    {ok, 1} = py:eval(<<"łódź"/utf8>>, #{'łódź' => 1}),
    {ok, #{<<"łódź"/utf8>> := 1}} = py:call(ep_probe, echo, [], #{'łódź' => 1}).

imports_dotted_modules(_Config) ->
    [{ok, <<"b">>} = py:call(M, basename, [<<"/a/b">>]) || M <- ['os.path', "os.path", <<"os.path">>]],
    {ok, _} = py:call('xml.dom.minidom', parseString, [<<"<a/>">>]),
    {error, {'ModuleNotFoundError', _}} = py:call('os.nothing', f, []),
    {error, {'AttributeError', _}} = py:call(os, 'path.basename', [<<"/a/b">>]).

calls_any_callable_attribute(_Config) ->
    {ok, 3} = py:call(builtins, int, [<<"3">>]),
    {ok, <<"1.5">>} = py:call(decimal, 'Decimal', [<<"1.5">>]),
    {error, {'TypeError', "'float' object is not callable"}} = py:call(math, pi, []).

raises_badarg_on_misuse_before_anything_runs(Config) ->
    Ctx = py:context(1),
    Mark = py_test:marker(Config, "misuse"),
    lists:foreach(fun py_test:badarg/1, [
        fun() -> py:call(math, sqrt, 16) end,
        fun() -> py:call(1, sqrt, [16]) end,
        fun() -> py:call(math, 1.5, [16]) end,
        fun() -> py:call({math}, sqrt, [16]) end,
        fun() -> py:call([16#D800], sqrt, [16]) end,
        fun() -> py:call([foo], sqrt, [16]) end,
        fun() -> py:call(math, sqrt, [16], foo) end,
        fun() -> py:call(math, sqrt, foo, #{}) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, -1) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, 16#100000000) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, 1.5) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, forever) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, #{bogus => 1}) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, #{timeout => soon}) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, #{kwargs => #{}}) end,
        fun() -> py:call(ep_probe, mark, [Mark], #{}, #{traceback => perhaps}) end,
        fun() -> py:call(Ctx, ep_probe, mark, [Mark], #{kwargs => []}) end,
        fun() -> py:call(Ctx, ep_probe, mark, Mark) end,
        fun() -> py:call(no_such_pool, ep_probe, mark, [Mark]) end,
        fun() -> py:call(<<"default">>, ep_probe, mark, [Mark]) end,
        fun() -> py:call(math, 5, [], #{}, 0) end,
        fun() -> py:eval(1) end,
        fun() -> py:eval({a}) end,
        fun() -> py:eval("1", []) end,
        fun() -> py:eval("1", #{}, -1) end,
        fun() -> py:eval("1", #{}, #{kwargs => #{}}) end,
        fun() -> py:eval(Ctx, 1) end,
        fun() -> py:eval(Ctx, "1", x) end,
        fun() -> py:eval(no_such_pool, "1") end,
        fun() -> py:exec(1) end,
        fun() -> py:exec("pass", #{kwargs => #{}}) end,
        fun() -> py:exec("pass", #{timeout => bad}) end,
        fun() -> py:exec(Ctx, 1) end,
        fun() -> py:exec(Ctx, "pass", [{timeout, 1}]) end,
        fun() -> py:context(0) end,
        fun() -> py:context(3) end,
        fun() -> py:context(-1) end,
        fun() -> py:context(one) end,
        fun() -> py:parallel(x) end,
        fun() -> py:parallel([{math, sqrt}]) end,
        fun() -> py:parallel([{math, sqrt, [1]} | tail]) end,
        fun() -> py_context:call(foo, math, sqrt, [16]) end,
        fun() -> py_context:call(Ctx, math, sqrt, 16) end,
        fun() -> py_context:call(Ctx, math, sqrt, [16], []) end,
        fun() -> py_context:call(Ctx, math, sqrt, [16], #{}, infinity, no_env) end,
        fun() -> py_context:eval(Ctx, "1", x) end,
        fun() -> py_context:exec(Ctx, 1) end,
        fun() -> py_context:stop(foo) end,
        fun() -> py_context:start_link(1, bogus) end,
        fun() -> py_context:start_link(1, worker, #{bogus => 1}) end,
        fun() -> py_context:start_link(1, worker, []) end,
        fun() -> py_context_router:start(#{bogus => 1}) end,
        fun() -> py_context_router:bind_context(self()) end
    ]),
    [] = py_test:marks(Mark).

%% --- namespaces -----------------------------------------------------------------------

keeps_what_exec_assigns_for_its_process_and_context_only(_Config) ->
    [One, Two] = [py:context(N) || N <- [1, 2]],
    ok = py:exec(One, "only_here = 1"),
    {ok, 1} = py:eval(One, "only_here"),
    {error, {'NameError', _}} = py:eval(Two, "only_here"),
    Other = py_test:spawn_caller(fun() ->
        Before = py:eval(One, "only_here"),
        ok = py:exec(One, "only_here = 2"),
        {Before, py:eval(One, "only_here")}
    end),
    {{error, {'NameError', _}}, {ok, 2}} = py_test:result_of(Other),
    {ok, 1} = py:eval(One, "only_here"),
    {error, {'NameError', _}} = py_context:eval(One, "only_here").

finds_functions_of_exec_in_main(_Config) ->
    ok = py:exec("factor = 3\ndef times(x, y=1):\n    return x * y * factor\n"),
    {ok, 21} = py:call('__main__', times, [7]),
    {ok, 42} = py:call('__main__', times, [7], #{y => 2}),
    %% exec is the globals of what was defined there.
    ok = py:exec("factor = 10"),
    {ok, 70} = py:call('__main__', times, [7]),
    {error, {'AttributeError', _}} = py_test:result_of(
        py_test:spawn_caller(fun() -> py:call('__main__', times, [7]) end)
    ).

makes_a_namespace_from_the_shared_one(_Config) ->
    Ctx = py:context(1),
    ok = py_context:exec(Ctx, "shared_before = [1]"),
    Caller = fun() ->
        {ok, [1]} = py:eval(Ctx, "shared_before"),
        ok = py_context:exec(Ctx, "shared_after = 1"),
        {error, {'NameError', _}} = py:eval(Ctx, "shared_after"),
        {ok, <<"__main__">>} = py:eval(Ctx, "__name__"),
        {ok, <<"erlang">>} = py:eval(Ctx, "erlang.__name__"),
        {ok, true} = py:eval(Ctx, "'print' in dir(__builtins__) or 'print' in __builtins__"),
        done
    end,
    done = py_test:result_of(py_test:spawn_caller(Caller)),
    ok = py_context:exec(Ctx, "del shared_before, shared_after").

looks_into_main_of_the_interpreter_but_not_into_builtins(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx, "import __main__\n__main__.in_main = lambda: 'there'"),
    {ok, <<"there">>} = py:call(Ctx, '__main__', in_main, []),
    ok = py:exec(Ctx, "def in_main(): return 'here'"),
    {ok, <<"here">>} = py:call(Ctx, '__main__', in_main, []),
    {error, {'AttributeError', _}} = py:call(Ctx, '__main__', len, [[]]),
    ok = py:exec(Ctx, "del __main__.in_main").

evaluates_with_locals_that_are_not_kept(_Config) ->
    Ctx = py:context(1),
    ok = py:exec("base = 100"),
    {ok, 107} = py:eval("base + x * y", #{x => 1, <<"y">> => 7}),
    {ok, 5} = py:eval("base", #{base => 5}),
    {ok, 100} = py:eval("base"),
    {error, {'NameError', _}} = py:eval("x"),
    {ok, 3} = py:eval(Ctx, "x + 1", #{x => 2}),
    {ok, 2} = py:eval(" \t1 + 1").

shows_locals_to_nested_scopes(_Config) ->
    {ok, 1} = py:eval("(lambda: only_local)()", #{only_local => 1}),
    {ok, 1} = py:eval("(lambda v=only_local: v)()", #{only_local => 1}).

keeps_what_a_walrus_in_eval_assigns(_Config) ->
    {ok, 5} = py:eval("(kept := 5)"),
    {ok, 5} = py:eval("kept"),
    {ok, 6} = py:eval("(not_kept := 6)", #{x => 1}),
    {error, {'NameError', _}} = py:eval("not_kept").

executes_statements_with_options(_Config) ->
    Ctx = py:context(1),
    ok = py:exec("import math\nroot = math.sqrt(16)"),
    {ok, 4.0} = py:eval("root"),
    ok = py:exec("x = 1", #{}),
    ok = py:exec(Ctx, "x = 1", #{timeout => 5000}),
    ok = py:exec(""),
    {error, {'ZeroDivisionError', "division by zero"}} = py:exec("before = 1\n1 / 0\nbefore = 2"),
    {ok, 1} = py:eval("before"),
    {error, {'NameError', _, Traceback}} = py:exec("nowhere", #{traceback => true}),
    {match, _} = re:run(Traceback, "File \"<exec>\", line 1").

%% --- contexts of the pool -------------------------------------------------------------

binds_a_process_by_its_scheduler(_Config) ->
    N = py_context_router:num_contexts(),
    Self = self(),
    [
        begin
            {Pid, Ref} = spawn_opt(
                fun() -> Self ! {self(), erlang:system_info(scheduler_id), py:context()} end,
                [monitor, {scheduler, S}]
            ),
            receive
                {Pid, Id, Ctx} -> ?assertEqual(py:context((Id - 1) rem N + 1), Ctx)
            end,
            receive
                {'DOWN', Ref, process, Pid, normal} -> ok
            end
        end
     || S <- lists:seq(1, erlang:system_info(schedulers_online))
    ].

keeps_the_binding_until_told_otherwise(_Config) ->
    [One, Two] = py_context_router:contexts(),
    py_test:result_of(
        py_test:spawn_caller(fun() ->
            ok = py_context_router:bind_context(Two),
            Two = py:context(),
            Two = py_context_router:get_context(),
            ok = py:exec("bound = 2"),
            {ok, 2} = py:eval(Two, "bound"),
            ok = py_context_router:bind_context(One),
            One = py:context(),
            {error, {'NameError', _}} = py:eval("bound"),
            ok = py_context_router:unbind_context(),
            true = lists:member(py:context(), [One, Two])
        end)
    ).

numbers_contexts_from_one(_Config) ->
    2 = py_context_router:num_contexts(),
    [One, Two] = py_context_router:contexts(),
    [One, Two] = [py:context(N) || N <- [1, 2]],
    [One, Two] = [py_context_router:get_context(N) || N <- [1, 2]],
    true = lists:all(fun is_process_alive/1, [One, Two]),
    true = py:contexts_started(),
    true = py_context_router:is_started().

%% --- parallel -------------------------------------------------------------------------

runs_parallel_calls_in_order_of_input(_Config) ->
    {ok, [{ok, 4.0}, {ok, 5.0}, {ok, 6.0}]} =
        py:parallel([{math, sqrt, [16]}, {math, sqrt, [25]}, {math, sqrt, [36]}]),
    {ok, []} = py:parallel([]),
    {ok, [{error, {'ValueError', _}}, {ok, 1.0}, {error, {'ModuleNotFoundError', _}}]} =
        py:parallel([{math, sqrt, [-1]}, {"math", <<"sqrt">>, [1]}, {no_such_module, f, []}]),
    {ok, [{error, {'TypeError', "args[0]: " ++ _}}, {ok, 1.0}]} =
        py:parallel([{math, sqrt, [fun() -> ok end]}, {math, sqrt, [1]}]).

%% Neither returns before the other runs.
runs_parallel_calls_at_the_same_time(Config) ->
    [One, Two] = [py_test:marker(Config, Name) || Name <- ["one", "two"]],
    {ok, [{ok, <<"met">>}, {ok, <<"met">>}]} =
        py:parallel([{ep_probe, meet, [One, Two]}, {ep_probe, meet, [Two, One]}]).

refuses_a_malformed_parallel_item_before_any_starts(Config) ->
    Mark = py_test:marker(Config, "parallel"),
    Good = {ep_probe, mark, [Mark]},
    [
        py_test:badarg(fun() -> py:parallel([Good, Good, Bad]) end)
     || Bad <- [bad, {math, sqrt}, {math, sqrt, 16}, {1, sqrt, [16]}, {math, sqrt, [16], #{}}]
    ],
    %% What was before on both contexts is done when these are.
    {ok, [{ok, _}, {ok, _}]} = py:parallel([{math, sqrt, [1]}, {math, sqrt, [1]}]),
    [] = py_test:marks(Mark).

keeps_parallel_calls_out_of_the_callers_namespace(_Config) ->
    ok = py:exec("def only_mine(): return 1"),
    {ok, 1} = py:call('__main__', only_mine, []),
    {ok, [{error, {'AttributeError', _}}, {error, {'AttributeError', _}}]} =
        py:parallel([{'__main__', only_mine, []}, {'__main__', only_mine, []}]).

answers_each_of_many_parallel_calls(_Config) ->
    Numbers = lists:seq(1, 2000),
    {ok, Results} = py:parallel([{ep_probe, echo, [N]} || N <- Numbers]),
    ?assertEqual([{ok, N} || N <- Numbers], Results).

%% --- interpreters ---------------------------------------------------------------------

shares_modules_as_the_mode_says(Config) ->
    [One, Two] = [py:context(N) || N <- [1, 2]],
    ok = py:exec(One, "import sys; sys.left_by = 'one'"),
    Seen = py:eval(Two, "getattr(__import__('sys'), 'left_by', None)"),
    SameProcess = py_test:os_pid(One) =:= py_test:os_pid(Two),
    case proplists:get_value(group, Config) of
        worker -> {false, {ok, none}} = {SameProcess, Seen};
        shared -> {true, {ok, <<"one">>}} = {SameProcess, Seen};
        owngil -> {true, {ok, none}} = {SameProcess, Seen};
        undefined -> ok
    end,
    %% A context has a thread of its own, the same for all its requests.
    Thread = fun(Ctx) -> py:call(Ctx, threading, get_native_id, []) end,
    ?assertEqual(Thread(One), py_test:result_of(py_test:spawn_caller(fun() -> Thread(One) end))),
    ?assertNotEqual(Thread(One), Thread(Two)),
    ok = py:exec(One, "del sys.left_by").

leaves_other_messages_alone(_Config) ->
    Messages = [first, {py_done, make_ref()}, {second, 2}],
    [self() ! M || M <- Messages],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    {ok, none} = py:call(time, sleep, [0.02]),
    {ok, _} = py:parallel([{time, sleep, [0.02]}, {math, sqrt, [1]}]),
    {messages, Messages} = process_info(self(), messages),
    [receive M -> ok end || M <- Messages].

tells_version_and_mode(Config) ->
    {ok, Version} = py:version(),
    {ok, Version} = py:eval("__import__('sys').version"),
    %% Without a GIL there is none to own.
    Mode =
        case py_test:is_free_threaded() of
            true -> worker;
            false -> proplists:get_value(mode, Config, worker)
        end,
    Mode = py:execution_mode(),
    {ok, Supported} = py:eval("__import__('sys').version_info >= (3, 12)"),
    Supported = py:subinterp_supported().

gives_python_an_empty_stdin_and_argv(_Config) ->
    {ok, [<<>>]} = py:eval("__import__('sys').argv"),
    {ok, <<>>} = py:eval("__import__('sys').stdin.read()"),
    {error, {'EOFError', _}} = py:eval("input()"),
    ok = py:exec("print('a line of the test, for the console')").

%% A5, A6, A7, A11.
runs_the_examples_of_the_contract(_Config) ->
    py_test:result_of(
        py_test:spawn_caller(fun() ->
            Ctx = py:context(1),
            {ok, Result} = py:call(Ctx, math, sqrt, [16]),
            {ok, Result} = py:call(math, sqrt, [16]),
            {ok, _} = py:start_contexts(),
            {ok, 6} = py:eval(<<"2 + 4">>),
            ok = py:exec(<<"x = 42">>),
            ok = py:exec(Ctx, <<"my_var = 'hello'">>),
            {ok, <<"hello">>} = py:eval(Ctx, <<"my_var">>),
            Ctx2 = py:context(2),
            {error, _} = py:eval(Ctx2, <<"my_var">>),
            {ok, [{ok, 4.0}, {ok, 5.0}, {ok, 6.0}]} =
                py:parallel([{math, sqrt, [16]}, {math, sqrt, [25]}, {math, sqrt, [36]}])
        end)
    ).

%% A3: each waits for the mark of the other, so neither returns unless both run.
runs_two_contexts_at_the_same_time(Config) ->
    Mode = proplists:get_value(mode, Config, worker),
    {ok, Ctx1} = py_context:start_link(1, Mode),
    {ok, Ctx2} = py_context:start_link(2, Mode),
    [A, B] = [py_test:marker(Config, Name) || Name <- ["a", "b"]],
    Code = "import os, time\n"
           "def meet(mine, theirs):\n"
           "    open(mine, 'w').close()\n"
           "    while not os.path.exists(theirs): time.sleep(0.001)\n"
           "    return 'met'\n",
    [ok = py_context:exec(Ctx, Code) || Ctx <- [Ctx1, Ctx2]],
    One = py_test:spawn_caller(fun() -> py_context:call(Ctx1, '__main__', meet, [A, B]) end),
    Two = py_test:spawn_caller(fun() -> py_context:call(Ctx2, '__main__', meet, [B, A]) end),
    {ok, <<"met">>} = py_test:result_of(One),
    {ok, <<"met">>} = py_test:result_of(Two),
    [ok = py_context:stop(Ctx) || Ctx <- [Ctx1, Ctx2]].

%% --- the pool -------------------------------------------------------------------------

returns_a_running_pool_as_it_is(_Config) ->
    Contexts = py_context_router:contexts(),
    {ok, Contexts} = py_context_router:start(),
    {ok, Contexts} = py_context_router:start(#{contexts => 8}),
    {ok, Contexts} = py:start_contexts(),
    {ok, Contexts} = py:start_contexts(#{contexts => 8, mode => worker}),
    2 = py_context_router:num_contexts().

starts_the_pool_with_other_sizes(Config) ->
    Mode = proplists:get_value(mode, Config, worker),
    Former = py_context_router:contexts(),
    ok = py_context_router:stop(),
    0 = py_context_router:num_contexts(),
    [] = py_context_router:contexts(),
    false = py_context_router:is_started(),
    false = py:contexts_started(),
    ok = py_context_router:stop(),
    false = lists:any(fun is_process_alive/1, Former),
    lists:foreach(fun py_test:badarg/1, [
        fun() -> py:call(math, sqrt, [16]) end,
        fun() -> py:context() end,
        fun() -> py:context(1) end,
        fun() -> py:parallel([{math, sqrt, [16]}]) end
    ]),
    {ok, Five} = py_context_router:start(#{contexts => 5, mode => Mode, num_workers => 2}),
    5 = length(lists:usort(Five)),
    Five = [py:context(N) || N <- lists:seq(1, 5)],
    %% Context i lives in worker process number (i - 1) rem 2 + 1.
    [A, B, A, B, A] = [py_test:os_pid(Ctx) || Ctx <- Five],
    true = A =/= B,
    ok = py:stop_contexts(),
    {ok, [One]} = py:start_contexts(#{contexts => 1, num_workers => 7}),
    One = py:context(),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py:stop_contexts(),
    {ok, [_, _]} = py:start_contexts().

%% --- VMs of their own -----------------------------------------------------------------

%% A1, A2.
runs_the_transcript_on_a_bare_node(_Config) ->
    Peer = py_test:start_vm(),
    {ok, [erlang_python]} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
    {ok, 2} = py_test:in_vm(Peer, py, eval, ["1 + 1"]),
    worker = py_test:in_vm(Peer, py, execution_mode, []),
    true = is_boolean(py_test:in_vm(Peer, py, subinterp_supported, [])),
    ok = py_test:in_vm(Peer, application, stop, [erlang_python]),
    {ok, [erlang_python]} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
    {ok, 4.0} = py_test:in_vm(Peer, py, call, [math, sqrt, [16]]),
    ok = py_test:stop_vm(Peer).

every_case_holds_with_the_epoll_backend(Config) ->
    Peer = py_test:start_vm(#{env => [{"EP_WAIT", "epoll"}]}),
    ok = py_test:in_vm(Peer, py_test, start, [[{num_contexts, 2}]]),
    [_ = py_test:in_vm(Peer, ?MODULE, Case, [[{group, worker} | Config]]) || Case <- cases()],
    #{wait_backend := epoll, lost_wake := 0} = py_test:in_vm(Peer, ep_nif, counters, []),
    ok = py_test:stop_vm(Peer).
