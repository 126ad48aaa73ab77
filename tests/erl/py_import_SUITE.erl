%% SPDX-License-Identifier: Apache-2.0

%% @doc Interrupts that fall into an import wait for its end: the module works for the next
%% caller, in the same process, and was run once.
-module(py_import_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(KILL_AFTER_MS, 150).
-define(IMPORT_MS, 400).
-define(TIMES, (py_test:times(6, 20))).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

%% Locks of imports belong to the interpreter; no slot or neighbour has to do with them.
groups() ->
    py_fixture:groups(cases(), #{
        shared => [
            is_not_cut_by_an_interrupt,
            is_not_cut_where_it_waits_for_another_thread,
            ends_although_every_caller_is_in_a_hurry,
            ends_before_its_context_does,
            raises_in_the_request_that_imports_and_in_no_other,
            is_killed_when_it_never_ends,
            survives_timeouts_of_any_length
        ]
    }).

cases() ->
    [
        is_not_cut_by_an_interrupt,
        is_not_cut_when_its_caller_goes,
        is_not_cut_in_a_lazy_loader,
        is_not_cut_in_a_plugin,
        is_not_cut_in_a_reload,
        is_not_cut_where_it_waits_for_another_thread,
        ends_although_every_caller_is_in_a_hurry,
        ends_in_a_thread_whose_starter_is_interrupted,
        ends_before_its_context_does,
        raises_in_the_request_that_imports_and_in_no_other,
        raises_at_once_what_asks_erlang,
        keeps_its_own_exception_without_an_interrupt,
        is_killed_when_it_never_ends,
        is_interrupted_when_it_never_ends_and_nobody_kills,
        survives_timeouts_of_any_length
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    Python = [{python, list_to_binary(P)} || P <- [py_test:test_python()], P =/= none],
    py_fixture:init(Mode, [{kill_after, ?KILL_AFTER_MS} | Python], Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], 20000) || Ctx <- py_context_router:contexts()],
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- modules --------------------------------------------------------------------------

%% Modules in a directory that a context finds. Each leaves a mark when its code begins,
%% waits for a file, so that anything could interrupt it, and leaves a mark at its end.
-record(held, {name, marks, go, whole}).

held(Ctx, Config) ->
    held(Ctx, Config, "").

held(Ctx, Config, Code) ->
    Mark = py_test:marker(Config, "import"),
    Name = "ep_held_" ++ integer_to_list(erlang:unique_integer([positive])),
    Go = <<Mark/binary, ".go">>,
    Whole = <<Mark/binary, ".whole">>,
    Source = [
        "import os, time\nfrom ep_probe import mark\n",
        ["mark('", Mark, "')\n"],
        ["while not os.path.exists('", Go, "'): time.sleep(0.001)\n"],
        [Code, "\nvalue = 42\n"],
        ["mark('", Whole, "')\n"]
    ],
    Dir = proplists:get_value(priv_dir, Config),
    ok = file:write_file(filename:join(Dir, Name ++ ".py"), Source),
    ok = py:exec(Ctx, [
        "import sys, importlib\n",
        ["if '", Dir, "' not in sys.path: sys.path.append('", Dir, "')\n"],
        "importlib.invalidate_caches()\n"
    ]),
    #held{name = Name, marks = Mark, go = Go, whole = Whole}.

let_go(#held{go = Go}) ->
    ok = file:write_file(Go, <<>>).

%% Another process than those of the tests, so that no namespace helps.
is_whole(Ctx, Held = #held{name = Name}) ->
    ?assertEqual({ok, 42}, py:eval(Ctx, ["__import__('", Name, "').value"], #{}, 20000)),
    ?assertEqual([<<".">>], py_test:marks(Held#held.marks)),
    ?assertEqual([<<".">>], py_test:marks(Held#held.whole)).

last() ->
    lists:last(py_context_router:contexts()).

%% Twice as long as it takes to kill what does not stop.
let_time_pass() ->
    receive after 2 * ?KILL_AFTER_MS -> ok end.

%% Returns when the worker has heard of it: its control thread takes one message after the
%% other, and answers the second from beside the request.
interrupt(Ctx) ->
    ok = py:interrupt(Ctx),
    {ok, _} = py:memory_stats(Ctx),
    ok.

%% Interrupts Code, which loads the module, while it does. What comes after the import does
%% not run.
interrupted(Config, Code) ->
    Ctx = last(),
    Held = #held{name = Name} = held(Ctx, Config),
    OsPid = py_test:os_pid(Ctx),
    After = py_test:marker(Config, "after"),
    Source = [string:replace(Code, "NAME", Name, all), "\nimport ep_probe; ep_probe.mark('", After, "')"],
    Caller = py_test:spawn_caller(fun() -> py:exec(Ctx, Source) end),
    ok = py_test:wait_for_file(Held#held.marks),
    ok = interrupt(Ctx),
    let_time_pass(),
    ?assertEqual([], py_test:marks(Held#held.whole)),
    let_go(Held),
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
    ?assertEqual([], py_test:marks(After)),
    is_whole(Ctx, Held),
    ?assertEqual(OsPid, py_test:os_pid(Ctx)).

%% --- no import is cut -------------------------------------------------------------------

is_not_cut_by_an_interrupt(Config) ->
    [
        interrupted(Config, Code)
     || Code <- [
            "import NAME",
            "from NAME import value",
            "__import__('NAME')",
            "import importlib; importlib.import_module('NAME')",
            "import importlib.util; importlib.util.find_spec('NAME.sub')"
        ]
    ].

is_not_cut_when_its_caller_goes(Config) ->
    Ctx = last(),
    Held = held(Ctx, Config),
    OsPid = py_test:os_pid(Ctx),
    Caller = {Pid, _} = py_test:spawn_caller(fun() -> py:call(Ctx, Held#held.name, f, []) end),
    ok = py_test:wait_for_file(Held#held.marks),
    true = exit(Pid, kill),
    killed = py_fixture:dead(Caller),
    let_time_pass(),
    let_go(Held),
    is_whole(Ctx, Held),
    ?assertEqual(OsPid, py_test:os_pid(Ctx)).

is_not_cut_in_a_lazy_loader(Config) ->
    interrupted(Config, [
        "import importlib.util as u, sys\n",
        "s = u.find_spec('NAME')\n",
        "s.loader = u.LazyLoader(s.loader)\n",
        "m = sys.modules['NAME'] = u.module_from_spec(s)\n",
        "s.loader.exec_module(m)\n",
        "m.value"
    ]).

is_not_cut_in_a_plugin(Config) ->
    interrupted(Config, [
        "import importlib.util as u, sys\n",
        "s = u.find_spec('NAME')\n",
        "m = sys.modules['NAME'] = u.module_from_spec(s)\n",
        "s.loader.exec_module(m)"
    ]).

is_not_cut_in_a_reload(Config) ->
    Ctx = last(),
    Held = #held{name = Name, marks = Marks, go = Go, whole = Whole} = held(Ctx, Config),
    let_go(Held),
    is_whole(Ctx, Held),
    [ok = file:delete(File) || File <- [Marks, Go, Whole]],
    Reload = ["__import__('importlib').reload(__import__('", Name, "'))"],
    Caller = py_test:spawn_caller(fun() -> py:eval(Ctx, Reload) end),
    ok = py_test:wait_for_file(Marks),
    ok = interrupt(Ctx),
    let_time_pass(),
    let_go(Held),
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
    is_whole(Ctx, Held).

%% Two requests of one interpreter import the same module: the second waits for the first.
is_not_cut_where_it_waits_for_another_thread(Config) ->
    Ctx = last(),
    Held = #held{name = Name} = held(Ctx, Config),
    Mark = py_test:marker(Config, "second"),
    Code = [
        "import threading, ep_probe\n",
        ["t = threading.Thread(target=__import__, args=('", Name, "',)); t.start()\n"],
        "import os, time\n",
        ["while not os.path.exists('", Held#held.marks, "'): time.sleep(0.001)\n"],
        ["ep_probe.mark('", Mark, "')\n"],
        ["import ", Name]
    ],
    Caller = py_test:spawn_caller(fun() -> py:exec(Ctx, Code) end),
    ok = py_test:wait_for_file(Mark),
    ok = imports(Ctx),
    ok = interrupt(Ctx),
    let_time_pass(),
    let_go(Held),
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
    is_whole(Ctx, Held).

%% Waits until the context says that what it runs imports.
imports(Ctx) ->
    py_test:wait_until(fun() -> ep_nif:lane_is_importing(py_context_table:lane(Ctx)) end).

%% Each call is given up long before the module is there, and is made again at once.
ends_although_every_caller_is_in_a_hurry(Config) ->
    Ctx = last(),
    Held = held(Ctx, Config, "time.sleep(1)"),
    OsPid = py_test:os_pid(Ctx),
    let_go(Held),
    Call = fun() -> py:eval(Ctx, ["__import__('", Held#held.name, "').value"], #{}, 100) end,
    ?assertEqual(ok, py_test:wait_until(fun() -> Call() =:= {ok, 42} end)),
    is_whole(Ctx, Held),
    ?assertEqual(OsPid, py_test:os_pid(Ctx)).

%% The thread is not interrupted, and its import goes on.
ends_in_a_thread_whose_starter_is_interrupted(Config) ->
    Ctx = last(),
    Held = #held{name = Name} = held(Ctx, Config),
    OsPid = py_test:os_pid(Ctx),
    Code = [
        "import threading, time\n",
        ["t = threading.Thread(target=__import__, args=('", Name, "',)); t.start()\n"],
        "while t.is_alive(): time.sleep(0.001)"
    ],
    Caller = py_test:spawn_caller(fun() -> py:exec(Ctx, Code) end),
    ok = py_test:wait_for_file(Held#held.marks),
    ok = interrupt(Ctx),
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
    let_go(Held),
    is_whole(Ctx, Held),
    ?assertEqual(OsPid, py_test:os_pid(Ctx)).

%% A context that is stopped does not cost its neighbours the process because it imports.
ends_before_its_context_does(Config) ->
    {Mode, Workers} = place(Config),
    {ok, [Stays, Goes]} =
        py_context_router:start_pool(import_pool, 2, Workers#{mode => Mode, kill_after => ?KILL_AFTER_MS}),
    Held = held(Goes, Config),
    OsPid = py_test:os_pid(Stays),
    Caller = py_test:spawn_caller(fun() -> py:call(Goes, Held#held.name, f, []) end),
    ok = py_test:wait_for_file(Held#held.marks),
    Ref = monitor(process, Goes),
    true = exit(Goes, kill),
    receive {'DOWN', Ref, process, Goes, _} -> ok end,
    {error, {context_died, killed}} = py_test:result_of(Caller),
    let_time_pass(),
    ?assertEqual([], py_test:marks(Held#held.whole)),
    let_go(Held),
    ok = py_test:wait_for_file(Held#held.whole),
    ?assertEqual(OsPid, py_test:os_pid(Stays)),
    ok = py_context_router:stop_pool(import_pool).

place(Config) ->
    case proplists:get_value(mode, Config) of
        owngil -> {owngil, #{}};
        worker -> {worker, #{num_workers => 1}}
    end.

%% --- what is raised, and where ------------------------------------------------------------

raises_in_the_request_that_imports_and_in_no_other(Config) ->
    Ctx = last(),
    [
        begin
            Held = #held{name = Name} = held(Ctx, Config),
            Code = ["__import__('", Name, "').value"],
            Caller = py_test:spawn_caller(fun() -> py:eval(Ctx, Code) end),
            ok = py_test:wait_for_file(Held#held.marks),
            Next = py_test:spawn_caller(fun() -> py:eval(Ctx, Code) end),
            [ok = interrupt(Ctx) || _ <- lists:seq(1, 3)],
            let_go(Held),
            ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
            ?assertEqual({ok, 42}, py_test:result_of(Next))
        end
     || _ <- lists:seq(1, 10)
    ].

%% Nobody would answer it: the import ends as with any exception, and can be made again.
raises_at_once_what_asks_erlang(Config) ->
    Ctx = last(),
    Self = self(),
    ok = py:register_function(ep_ask, fun([]) -> Self ! {asked, self()}, receive go -> ok end end),
    Held = #held{name = Name} = held(Ctx, Config, "import erlang; erlang.call('ep_ask')"),
    let_go(Held),
    Import = ["__import__('", Name, "').value"],
    Caller = py_test:spawn_caller(fun() -> py:eval(Ctx, Import) end),
    Pid = receive {asked, P} -> P end,
    ok = interrupt(Ctx),
    Pid ! go,
    ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
    ?assertEqual([], py_test:marks(Held#held.whole)),
    ok = py:register_function(ep_ask, fun([]) -> ok end),
    ?assertEqual({ok, 42}, py:eval(Ctx, Import)),
    ok = py:unregister_function(ep_ask).

keeps_its_own_exception_without_an_interrupt(Config) ->
    Ctx = last(),
    Held = #held{name = Name} = held(Ctx, Config, "raise ValueError('of its own')"),
    let_go(Held),
    Import = ["__import__('", Name, "')"],
    {error, {'ValueError', "of its own", Traceback}} = py:eval(Ctx, Import, #{}, #{traceback => true}),
    ?assertEqual(nomatch, binary:match(Traceback, <<"importlib">>)).

%% --- imports that never end -----------------------------------------------------------------

is_killed_when_it_never_ends(Config) ->
    Ctx = last(),
    ok = imports_end_after(Ctx, ?IMPORT_MS),
    Held = #held{name = Name} = held(Ctx, Config),
    OsPid = py_test:os_pid(Ctx),
    Caller = {Pid, _} = py_test:spawn_caller(fun() -> py:call(Ctx, Name, f, []) end),
    ok = py_test:wait_for_file(Held#held.marks),
    {Ms, ok} = py_test:elapsed(fun() ->
        true = exit(Pid, kill),
        killed = py_fixture:dead(Caller),
        py_test:wait_for_exit([OsPid], 20000)
    end),
    ?assert(Ms >= ?IMPORT_MS, Ms),
    ?assertEqual({ok, 4.0}, py:call(Ctx, math, sqrt, [16], 20000)),
    ?assertEqual([], py_test:marks(Held#held.whole)).

is_interrupted_when_it_never_ends_and_nobody_kills(Config) ->
    {Mode, _} = place(Config),
    {ok, Ctx} = py_context:start_link(patient, Mode, #{kill_after => infinity}),
    ok = imports_end_after(Ctx, ?IMPORT_MS),
    OsPid = py_test:os_pid(Ctx),
    Interrupt = fun(_Caller) -> ok = interrupt(Ctx) end,
    Leave = fun(Caller = {Pid, _}) -> true = exit(Pid, kill), killed = py_fixture:dead(Caller) end,
    [
        begin
            Held = #held{name = Name} = held(Ctx, Config),
            Caller = py_test:spawn_caller(fun() -> py:call(Ctx, Name, f, []) end),
            ok = py_test:wait_for_file(Held#held.marks),
            _ = Stop(Caller),
            {Ms, {ok, 4.0}} = py_test:elapsed(fun() -> py:call(Ctx, math, sqrt, [16]) end),
            ?assert(Ms >= ?IMPORT_MS div 2, Ms),
            Stop =:= Leave orelse ?assertEqual({error, interrupted}, py_test:result_of(Caller)),
            ?assertEqual([], py_test:marks(Held#held.whole)),
            ?assertEqual(OsPid, py_test:os_pid(Ctx))
        end
     || Stop <- [Interrupt, Leave]
    ],
    ok = py_context:stop(Ctx).

%% An import has a minute, which is long for a test.
imports_end_after(Ctx, Ms) ->
    _ = sys:replace_state(Ctx, fun(State) ->
        list_to_tuple([with_import_ms(Field, Ms) || Field <- tuple_to_list(State)])
    end),
    ok.

with_import_ms(Settings = #{kill_after := _}, Ms) -> Settings#{import_ms => Ms};
with_import_ms(Field, _Ms) -> Field.

%% --- real modules -------------------------------------------------------------------------------

%% Of the standard library and, where it is there, numpy, whose parts no process loads twice.
survives_timeouts_of_any_length(Config) ->
    {Mode, Options} = place(Config),
    {ok, HasNumpy} = py:eval("bool(__import__('importlib.util').util.find_spec('numpy'))"),
    Modules = [{asyncio, <<"iscoroutinefunction(len)">>, false}, {decimal, <<"Decimal(2) + 2 == 4">>, true}],
    Numpy = [{numpy, <<"arange(3).sum() == 3">>, true} || HasNumpy, Mode =:= worker],
    [survives(Mode, Options, Module) || Module <- Numpy ++ Modules].

survives(Mode, Options, {Module, Use, Result}) ->
    Code = ["__import__('", atom_to_list(Module), "').", Use],
    {Longest, _} = py_test:elapsed(fun() -> {ok, Result} = in_new_pool(Mode, Options, [{Code, infinity}]) end),
    Rounds = ?TIMES,
    Times = [max(1, Longest * N div Rounds) || N <- lists:seq(1, Rounds)],
    Results = [in_new_pool(Mode, Options, [{Code, T}, {Code, 30000}]) || T <- Times],
    ?assertEqual([], [{T, R} || {T, R} <- lists:zip(Times, Results), R =/= {ok, Result}]).

%% The result of the last request. The other context of the process is there before.
in_new_pool(Mode, Options, Requests) ->
    {ok, Contexts} =
        py_context_router:start_pool(import_pool, 2, Options#{mode => Mode, kill_after => ?KILL_AFTER_MS}),
    OsPids = [py_test:os_pid(C) || C <- Contexts],
    Results = [py:eval(lists:last(Contexts), Code, #{}, T) || {Code, T} <- Requests],
    ?assertEqual(OsPids, [py_test:os_pid(C) || C <- Contexts]),
    ok = py_context_router:stop_pool(import_pool),
    lists:last(Results).
