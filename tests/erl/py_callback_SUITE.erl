%% SPDX-License-Identifier: Apache-2.0

%% @doc Python that calls Erlang: names, conversions, errors, and whose process it is.
%% py_nesting_SUITE has what happens on top of each other and within budgets,
%% py_callback_thread_SUITE the callbacks of Python threads.
-module(py_callback_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(cases(), #{
        shared => [
            offers_registered_names_as_attributes_and_imports,
            replaces_and_removes_at_once_in_all_workers,
            runs_in_the_process_of_the_caller,
            runs_each_callback_once,
            runs_each_callback_once_when_the_worker_dies_after_it,
            survives_the_death_of_the_worker_during_a_callback,
            survives_the_death_of_the_caller_in_a_callback
        ],
        single_worker => [
            runs_in_the_process_of_the_caller,
            runs_in_the_helper_where_there_is_one,
            runs_each_callback_once,
            survives_the_death_of_the_worker_during_a_callback,
            survives_the_death_of_the_caller_in_a_callback
        ]
    }).

cases() ->
    [
        calls_erlang_from_call_eval_and_exec,
        offers_registered_names_as_attributes_and_imports,
        takes_names_of_every_kind,
        calls_a_function_of_a_module_with_one_list,
        replaces_and_removes_at_once_in_all_workers,
        keeps_the_names_of_the_module_itself,
        says_when_a_name_is_not_registered,
        refuses_misuse_with_a_type_error,
        refuses_to_register_what_is_no_function,
        raises_an_error_of_each_class_in_python,
        prints_a_reason_that_does_not_convert,
        passes_an_uncaught_callback_error_to_the_caller,
        returns_an_error_tuple_as_a_value,
        refuses_arguments_that_do_not_convert,
        refuses_results_that_do_not_convert,
        carries_large_arguments_and_results,
        runs_in_the_process_of_the_caller,
        runs_in_the_helper_where_there_is_one,
        runs_each_callback_once,
        runs_each_callback_once_when_the_worker_dies_after_it,
        survives_the_death_of_the_worker_during_a_callback,
        survives_the_death_of_the_caller_in_a_callback,
        leaves_other_messages_alone,
        looks_up_and_executes_without_python
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

%% --- names ----------------------------------------------------------------------------

calls_erlang_from_call_eval_and_exec(_Config) ->
    ok = py:register_function(twice, fun([X]) -> 2 * X end),
    {ok, 42} = py:eval("erlang.call('twice', 21)"),
    {ok, 42} = py:eval("erlang.twice(n)", #{n => 21}),
    ok = py:exec("import erlang\nr = erlang.call('twice', 4)\ndef f(x): return erlang.twice(x) + 1"),
    {ok, 8} = py:eval("r"),
    {ok, 11} = py:call('__main__', f, [5]),
    {ok, 6} = py:call(erlang, call, [<<"twice">>, 3]),
    {ok, 6} = py:call(erlang, twice, [3]),
    Ctx = py:context(),
    {ok, 8} = py_context:call(Ctx, erlang, call, [<<"twice">>, 4]),
    {ok, 10} = py_context:eval(Ctx, "erlang.twice(5)").

offers_registered_names_as_attributes_and_imports(_Config) ->
    ok = py:register_function(inc, fun([X]) -> X + 1 end),
    ok = py:exec("from erlang import inc, call\nr = inc(inc(1))"),
    {ok, 3} = py:eval("r"),
    {ok, <<"<erlang function 'inc'>">>} = py:eval("repr(inc)"),
    {ok, true} = py:eval("type(inc) is erlang.Function and callable(inc)"),
    {ok, [2, 3, 4]} = py:eval("list(map(inc, [1, 2, 3]))"),
    {ok, true} = py:eval("hasattr(erlang, 'inc')"),
    {ok, false} = py:eval("hasattr(erlang, 'no_such_name')"),
    {error, {'AttributeError', _}} = py:eval("erlang.no_such_name"),
    {error, {'ImportError', _}} = py:exec("from erlang import no_such_name").

takes_names_of_every_kind(_Config) ->
    [
        begin
            ok = py:register_function(Name, fun([]) -> found end),
            {ok, <<"found">>} = py:call(erlang, call, [Text]),
            ok = py:unregister_function(Name),
            {error, {'CallbackError', _}} = py:call(erlang, call, [Text])
        end
     || {Name, Text} <- [
            {an_atom, <<"an_atom">>},
            {<<"a binary">>, <<"a binary">>},
            {"a string", <<"a string">>},
            {<<"größe"/utf8>>, <<"größe"/utf8>>},
            {[16#4E2D, 16#6587], <<"中文"/utf8>>},
            {'', <<>>}
        ]
    ],
    %% One registry: the same text is the same name.
    ok = py:register_function("same", fun([]) -> 1 end),
    ok = py:register_function(same, fun([]) -> 2 end),
    {ok, 2} = py:eval("erlang.same()"),
    ok = py:unregister_function(<<"same">>),
    ok = py:unregister_function(<<"same">>).

calls_a_function_of_a_module_with_one_list(_Config) ->
    ok = py:register_function(total, lists, sum),
    {ok, 6} = py:eval("erlang.total(1, 2, 3)"),
    ok = py:register_function(total, ?MODULE, given),
    {ok, {<<"given">>, [1, <<"b">>, [3]]}} = py:eval("erlang.total(1, 'b', [3])"),
    {ok, {<<"given">>, []}} = py:eval("erlang.total()").

given(Args) ->
    {given, Args}.

replaces_and_removes_at_once_in_all_workers(_Config) ->
    Contexts = py_context_router:contexts(),
    [
        begin
            ok = py:register_function(current, fun([]) -> N end),
            [{ok, [N, N]} = py:eval(C, "[erlang.call('current'), erlang.current()]") || C <- Contexts],
            ok = py:unregister_function(current),
            [{ok, false} = py:eval(C, "hasattr(erlang, 'current')") || C <- Contexts],
            [{error, {'CallbackError', _}} = py:eval(C, "erlang.call('current')") || C <- Contexts]
        end
     || N <- lists:seq(1, 100)
    ],
    %% Also within one request.
    ok = py:register_function(come, fun([]) -> py:register_function(guest, fun([]) -> here end) end),
    ok = py:register_function(go, fun([]) -> py:unregister_function(guest) end),
    Code = "def f():\n"
           "    seen = [hasattr(erlang, 'guest')]\n"
           "    erlang.come()\n"
           "    seen.append(erlang.guest())\n"
           "    guest = erlang.guest\n"
           "    erlang.go()\n"
           "    seen.append(hasattr(erlang, 'guest'))\n"
           "    try: guest()\n"
           "    except erlang.CallbackError as e: seen.append(str(e))\n"
           "    return seen",
    ok = py:exec(Code),
    {ok, [false, <<"here">>, false, <<"Function 'guest' not registered">>]} =
        py:call('__main__', f, []).

keeps_the_names_of_the_module_itself(_Config) ->
    [ok = py:register_function(Name, fun(_) -> wrong end) || Name <- ['call', 'Pid', 'state_get']],
    ok = py:register_function(right, fun([]) -> right end),
    {ok, <<"right">>} = py:eval("erlang.call('right')"),
    {ok, none} = py:eval("erlang.state_get('no such key')"),
    {ok, <<"wrong">>} = py:eval("erlang.call('call')"),
    [ok = py:unregister_function(Name) || Name <- ['call', 'Pid', 'state_get', right]].

says_when_a_name_is_not_registered(_Config) ->
    {error, {'CallbackError', "Function 'nobody' not registered"}} = py:eval("erlang.call('nobody', 1)"),
    {ok, {<<"error">>, {<<"not_found">>, <<"nobody">>}, [], <<"Function 'nobody' not registered">>}} =
        caught("erlang.call('nobody')").

refuses_misuse_with_a_type_error(_Config) ->
    ok = py:register_function(id, fun([X]) -> X end),
    [
        {error, {'TypeError', _}} = py:eval(Code)
     || Code <- [
            "erlang.call()",
            "erlang.call(1)",
            "erlang.call(None, 1)",
            "erlang.call(b'id', 1)",
            "erlang.call('id', x=1)",
            "erlang.call('id', 1, x=1)",
            "erlang.id(x=1)",
            "erlang.id(1, x=1)"
        ]
    ],
    {ok, 1} = py:eval("erlang.id(1)").

refuses_to_register_what_is_no_function(_Config) ->
    [
        ok = py_test:badarg(Fun)
     || Fun <- [
            fun() -> py:register_function(f, fun() -> 1 end) end,
            fun() -> py:register_function(f, fun(A, B) -> {A, B} end) end,
            fun() -> py:register_function(f, not_a_fun) end,
            fun() -> py:register_function(1, fun(X) -> X end) end,
            fun() -> py:register_function([-1], fun(X) -> X end) end,
            fun() -> py:register_function(f, "m", f) end,
            fun() -> py:register_function(f, m, 1) end,
            fun() -> py:unregister_function({f}) end
        ]
    ].

%% --- errors ---------------------------------------------------------------------------

raises_an_error_of_each_class_in_python(_Config) ->
    ok = py:register_function(fail, fun([Class, Reason]) ->
        erlang:raise(binary_to_existing_atom(Class), Reason, [{?MODULE, somewhere, 2, [{file, "a.erl"}, {line, 7}]}])
    end),
    [
        begin
            Text = <<Class/binary, ": {<<\"bang\">>,1}">>,
            {ok, {Class, {<<"bang">>, 1}, Stack, Text}} =
                caught(["erlang.fail('", Class, "', ('bang', 1))"]),
            ?assert(is_list(Stack)),
            [5 = tuple_size(Entry) || Entry <- Stack]
        end
     || Class <- [<<"error">>, <<"exit">>, <<"throw">>]
    ],
    ok = py:register_function(bang, fun([]) -> error(bang) end),
    {ok, {<<"error">>, <<"bang">>, [{Module, Function, 1, File, Line} | _], <<"error: bang">>}} =
        caught("erlang.bang()"),
    ?assertEqual(atom_to_binary(?MODULE), Module),
    ?assertMatch(<<"-raises_an_error_", _/binary>>, Function),
    ?assertEqual(<<"py_callback_SUITE.erl">>, filename:basename(File)),
    ?assert(Line > 0),
    {ok, true} = py:eval("issubclass(erlang.CallbackError, RuntimeError)"),
    %% A call that fails at once has its arguments in the Erlang stack trace.
    ok = py:register_function(undef, no_such_module, no_such_function),
    {ok, {<<"error">>, <<"undef">>, [{<<"no_such_module">>, <<"no_such_function">>, 1, <<>>, 0} | _], _}} =
        caught("erlang.undef(1)"),
    ok = py:register_function(clause, fun([1]) -> ok end),
    {ok, {<<"error">>, <<"function_clause">>, [_ | _], <<"error: function_clause">>}} =
        caught("erlang.clause(2)").

%% What Python sees of the failure of an expression.
caught(Expression) ->
    ok = py:exec([
        "def attempt():\n"
        "    try:\n"
        "        return ", Expression, "\n"
        "    except erlang.CallbackError as e:\n"
        "        assert getattr(e, 'class') == e.class_\n"
        "        return (e.class_, e.reason, e.stacktrace, str(e))\n"
    ]),
    py:call('__main__', attempt, []).

prints_a_reason_that_does_not_convert(_Config) ->
    ok = py:register_function(fail, fun([]) -> exit({odd, fun lists:sum/1, <<"größe"/utf8>>}) end),
    {ok, {<<"exit">>, Reason, _, Text}} = caught("erlang.fail()"),
    ?assertMatch(<<"{odd,", _/binary>>, Reason),
    ?assertMatch(<<"exit: {odd,", _/binary>>, Text),
    %% However large.
    ok = py:register_function(fail, fun([]) -> error({large, lists:seq(1, 100000), fun lists:sum/1}) end),
    {ok, {<<"error">>, Large, _, _}} = caught("erlang.fail()"),
    ?assert(is_binary(Large)),
    ?assert(byte_size(Large) < 10000).

passes_an_uncaught_callback_error_to_the_caller(_Config) ->
    ok = py:register_function(bang, fun([]) -> error(bang) end),
    {error, {'CallbackError', "error: bang"}} = py:eval("erlang.bang()"),
    {error, {'CallbackError', "error: bang"}} = py:exec("erlang.bang()"),
    {error, {'CallbackError', "error: bang"}} = py:call(erlang, bang, []),
    {error, {'CallbackError', "error: bang", Traceback}} =
        py:exec("erlang.bang()", #{traceback => true}),
    ?assertMatch({_, _}, binary:match(Traceback, <<"CallbackError: error: bang">>)),
    %% Through another level, which does not match.
    ok = py:register_function(outer, fun([]) -> {ok, X} = py:eval("1 / 0"), X end),
    {ok, {<<"error">>, {<<"badmatch">>, {<<"error">>, {<<"ZeroDivisionError">>, "division by zero"}}}, _, _}} =
        caught("erlang.outer()").

returns_an_error_tuple_as_a_value(_Config) ->
    ok = py:register_function(result, fun([X]) -> {error, X} end),
    {ok, {<<"error">>, <<"x">>}} = py:eval("erlang.result('x')"),
    {ok, true} = py:eval("erlang.result(1) == ('error', 1)").

%% --- conversions ----------------------------------------------------------------------

%% They are refused before anything is sent, so the function does not run.
refuses_arguments_that_do_not_convert(_Config) ->
    Runs = counters:new(1, []),
    ok = py:register_function(taker, fun(_) -> counters:add(Runs, 1, 1) end),
    ok = py:exec("import ep_probe\nclass Bad:\n    def __str__(self): raise LookupError('no text')\n"),
    [
        ?assertEqual({ok, {Type, Place}}, raised(["erlang.taker(", Args, ")"], length(binary_to_list(Place))))
     || {Args, Type, Place} <- [
            {"{'a': 1, b'a': 2}", <<"ValueError">>, <<"args[0]: ">>},
            {"1, [0, {1: 'a', 1.0: 'b', 'k': {'b': 1, b'b': 2}}]", <<"ValueError">>, <<"args[1][1]['k']: ">>},
            {"ep_probe.itself('list')", <<"RecursionError">>, <<"args">>},
            {"1, 2, ep_probe.nest('list', 1001)", <<"RecursionError">>, <<"args">>},
            {"Bad()", <<"LookupError">>, <<"args[0]: ">>}
        ]
    ],
    {ok, {<<"UnicodeEncodeError">>, Text}} = raised("erlang.taker('x', ['\\ud800'])", 1000),
    match = re:run(Text, "args\\[1\\]\\[0\\]: surrogates not allowed", [{capture, none}]),
    0 = counters:get(Runs, 1),
    {ok, <<"ok">>} = py:eval("erlang.taker(1)"),
    1 = counters:get(Runs, 1).

%% Type and the beginning of the message of what an expression raises.
raised(Expression, Length) ->
    ok = py:exec([
        "def attempt():\n"
        "    try:\n"
        "        return ", Expression, "\n"
        "    except BaseException as e:\n"
        "        return (type(e).__name__, str(e)[:", integer_to_list(Length), "])\n"
    ]),
    py:call('__main__', attempt, []).

%% The function has run by then.
refuses_results_that_do_not_convert(_Config) ->
    Runs = counters:new(1, []),
    Results = [
        {fun lists:sum/1, <<"TypeError">>, <<"result: ">>},
        {[1, {2, hd(erlang:ports())}], <<"TypeError">>, <<"result[1][1]: ">>},
        {<<1:3>>, <<"TypeError">>, <<"result: ">>},
        {[1 | 2], <<"TypeError">>, <<"result: ">>},
        {#{k => [<<1:1>>]}, <<"TypeError">>, <<"result['k'][0]: ">>},
        {#{[1] => 1}, <<"TypeError">>, <<"result: ">>},
        {#{1 => a, 1.0 => b}, <<"ValueError">>, <<"result: ">>}
    ],
    ok = py:register_function(giver, fun([N]) ->
        counters:add(Runs, 1, 1),
        element(1, lists:nth(N, Results))
    end),
    [
        begin
            {_, Type, Place} = lists:nth(N, Results),
            Code = io_lib:format("erlang.giver(~b)", [N]),
            ?assertEqual({N, {ok, {Type, Place}}}, {N, raised(Code, byte_size(Place))})
        end
     || N <- lists:seq(1, length(Results))
    ],
    ?assertEqual(length(Results), counters:get(Runs, 1)).

carries_large_arguments_and_results(_Config) ->
    ok = py:register_function(size, fun([Bin]) -> byte_size(Bin) end),
    ok = py:register_function(make, fun([Size]) -> {bytes, binary:copy(<<16#FF>>, Size)} end),
    ok = py:register_function(echo, fun([X]) -> X end),
    [
        begin
            {ok, Size} = py:eval("erlang.size(b'x' * n)", #{n => Size}),
            {ok, Size} = py:eval("len(erlang.make(n))", #{n => Size})
        end
     || Size <- [0, 1, 31, 32, 33, 191, 192, 193, 4095, 65536, 1 bsl 20, 32 bsl 20]
    ],
    {ok, true} = py:eval("erlang.echo(list(range(200000))) == list(range(200000))"),
    {ok, true} = py:eval("(lambda d: erlang.echo(d) == d)({str(i): i for i in range(20000)})"),
    %% Too large for one message: of memory that nobody touches.
    {error, {'MemoryError', _}} = py:eval("erlang.size(memoryview(__import__('mmap').mmap(-1, 3 << 30)))"),
    {ok, 3} = py:eval("erlang.size(b'abc')").

%% --- whose process --------------------------------------------------------------------

runs_in_the_process_of_the_caller(_Config) ->
    ok = py:register_function(who, fun([]) ->
        [self(), get(own), group_leader() =:= get(leader)]
    end),
    put(own, 17),
    put(leader, group_leader()),
    Self = self(),
    {ok, [Self, 17, true]} = py:eval("erlang.who()"),
    {ok, [Self, 17, true]} = py:call(erlang, who, []),
    {ok, [Self, 17, true]} = py:call(py:context(1), erlang, call, [who]),
    {ok, [Self, 17, true]} = py_context:eval(py:context(1), "erlang.who()"),
    %% What a callback puts there stays.
    ok = py:register_function(remember, fun([X]) -> put(own, X) end),
    {ok, 17} = py:eval("erlang.remember(18)"),
    18 = get(own),
    %% And nothing of ours that would make later requests nested.
    undefined = py_nesting:frame(),
    %% Others at the same time are themselves.
    Others = [py_test:spawn_caller(fun() -> {self(), py:eval("erlang.who()[0]")} end) || _ <- lists:seq(1, 20)],
    [begin {Pid, {ok, Pid}} = py_test:result_of(O) end || O <- Others].

runs_in_the_helper_where_there_is_one(_Config) ->
    Self = self(),
    ok = py:register_function(who, fun([]) -> self() end),
    {ok, Helper} = py:await(py:spawn_call(erlang, who, [])),
    ?assertNotEqual(Self, Helper),
    {ok, Results} = py:parallel([{erlang, who, []}, {erlang, call, [who]}]),
    [true = is_pid(Pid) andalso Pid =/= Self || {ok, Pid} <- Results],
    ok = py:register_function(tell, fun([]) -> Self ! {told, self()}, ok end),
    ok = py:cast(erlang, tell, []),
    receive
        {told, Pid} -> ?assertNotEqual(Self, Pid)
    after 10000 -> error(nothing_told)
    end.

%% --- exactly once ---------------------------------------------------------------------

runs_each_callback_once(_Config) ->
    Runs = counters:new(1, []),
    ok = py:register_function(count, fun([N]) -> counters:add(Runs, 1, 1), N end),
    ok = py:exec("def many(n):\n    return sum(erlang.count(i) for i in range(n))"),
    {ok, 12497500} = py:call('__main__', many, [5000]),
    5000 = counters:get(Runs, 1),
    Callers = [
        py_test:spawn_caller(fun() ->
            ok = py:exec("def many(n):\n    return sum(erlang.count(i) for i in range(n))"),
            py:call('__main__', many, [500])
        end)
     || _ <- lists:seq(1, 10)
    ],
    [{ok, 124750} = py_test:result_of(C) || C <- Callers],
    10000 = counters:get(Runs, 1).

runs_each_callback_once_when_the_worker_dies_after_it(_Config) ->
    Runs = counters:new(1, []),
    ok = py:register_function(count, fun([]) -> counters:add(Runs, 1, 1) end),
    [
        begin
            {error, {worker_died, #{started := true}}} =
                py:exec("import os\nerlang.count()\nos.kill(os.getpid(), 9)"),
            N = counters:get(Runs, 1)
        end
     || N <- lists:seq(1, 10)
    ].

survives_the_death_of_the_worker_during_a_callback(_Config) ->
    Runs = counters:new(1, []),
    Ctx = py:context(1),
    [
        begin
            OsPid = py_test:os_pid(Ctx),
            ok = py:register_function(murder, fun([]) ->
                counters:add(Runs, 1, 1),
                ok = py_test:kill(OsPid),
                %% Nested in a request that is no more: an answer comes all the same.
                Inner = py:call(Ctx, math, sqrt, [16]),
                true = element(1, Inner) =:= error orelse Inner =:= {ok, 4.0},
                done
            end),
            {error, {worker_died, #{reason := 'SIGKILL', started := true, os_pid := OsPid}}} =
                py:eval(Ctx, "erlang.murder()"),
            N = counters:get(Runs, 1),
            {ok, 4.0} = py:call(Ctx, math, sqrt, [16])
        end
     || N <- lists:seq(1, 5)
    ].

survives_the_death_of_the_caller_in_a_callback(Config) ->
    Self = self(),
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    ok = py:register_function(wait, fun([]) -> Self ! {inside, self()}, receive never -> ok end end),
    Mark = py_test:marker(Config, "interrupted"),
    Code = "import ep_probe\n"
           "try:\n"
           "    erlang.wait()\n"
           "except KeyboardInterrupt:\n"
           "    ep_probe.mark('" ++ binary_to_list(Mark) ++ "')\n"
           "    raise\n",
    Caller = {Pid, _} = py_test:spawn_caller(fun() -> py:exec(Ctx, Code) end),
    receive {inside, Pid} -> ok end,
    true = exit(Pid, kill),
    killed = py_fixture:dead(Caller),
    %% Python was interrupted; nothing had to be killed.
    {ok, OsPid} = py:call(Ctx, os, getpid, []),
    [<<".">>] = py_test:marks(Mark),
    %% Two levels up as well.
    ok = py:register_function(deeper, fun([]) -> py:eval(Ctx, "erlang.wait()") end),
    Caller2 = {Pid2, _} = py_test:spawn_caller(fun() -> py:eval(Ctx, "erlang.deeper()") end),
    receive {inside, Pid2} -> ok end,
    true = exit(Pid2, kill),
    killed = py_fixture:dead(Caller2),
    {ok, OsPid} = py:call(Ctx, os, getpid, []).

leaves_other_messages_alone(_Config) ->
    self() ! {py_done, make_ref()},
    self() ! before,
    ok = py:register_function(mail, fun([N]) -> self() ! {during, N}, N end),
    {ok, [1, 2]} = py:eval("[erlang.mail(1), erlang.mail(2)]"),
    {messages, [{py_done, _}, before, {during, 1}, {during, 2}]} = process_info(self(), messages),
    [receive _ -> ok end || _ <- [1, 2, 3, 4]].

looks_up_and_executes_without_python(_Config) ->
    ok = py_callback:register(local, fun([X]) -> X * 2 end),
    {ok, Fun} = py_callback:lookup(<<"local">>),
    4 = Fun([2]),
    {ok, 4} = py_callback:execute(local, [2]),
    {error, {error, badarith, [_ | _]}} = py_callback:execute(local, [a]),
    ok = py_callback:register(local, {lists, sum}),
    {ok, 6} = py_callback:execute("local", [1, 2, 3]),
    {ok, 6} = py:eval("erlang.local(1, 2, 3)"),
    ok = py_callback:unregister(local),
    {error, not_found} = py_callback:lookup(local),
    {error, {not_found, local}} = py_callback:execute(local, []).
