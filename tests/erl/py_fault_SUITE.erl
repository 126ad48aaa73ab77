%% SPDX-License-Identifier: Apache-2.0

%% @doc What worker processes, and callbacks, do wrong: it costs one of them one answer, and
%% nobody else anything. Each case is the smallest one that shows a fault which once got
%% through.
-module(py_fault_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(NEVER_MS, 20000).

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [
        ends_a_worker_that_says_twice_that_it_is_up,
        ignores_what_a_worker_says_without_reason,
        answers_any_question,
        gives_the_slot_back_when_an_answer_cannot_be_sent,
        restores_the_caller_whatever_its_callback_does,
        answers_callbacks_that_fail_in_any_way,
        answers_python_when_the_process_of_a_callback_is_killed,
        leaves_out_contexts_whose_statistics_make_no_sense,
        waits_for_no_helper_that_was_killed,
        refuses_requests_to_a_worker_that_dies_young,
        replaces_a_worker_at_once_that_a_request_killed,
        serves_soon_after_all_workers_were_killed,
        gives_few_workers_a_turn_at_a_time,
        ends_the_turns_of_a_launcher_that_was_lost,
        starts_a_launcher_that_does_not_start_again,
        opens_the_breaker_after_three_young_deaths,
        backs_off_with_jitter
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- events of a worker process -------------------------------------------------------

%% A py_worker of the default pool, and the number of the process that it has.
worker_of(Ctx) ->
    Worker = py_context_table:worker(Ctx),
    State = sys:get_state(Worker),
    Id = element(4, State),
    true = is_integer(Id),
    {Worker, Id}.

ends_a_worker_that_says_twice_that_it_is_up(_Config) ->
    [Ctx, Other] = py_context_router:contexts(),
    OsPid = py_test:os_pid(Ctx),
    OtherPid = py_test:os_pid(Other),
    Known = py_python:info(),
    {Worker, Id} = worker_of(Ctx),
    Worker ! {py_host, Id, {ready, OsPid, <<"forged">>, false, true}},
    ok = py_test:wait_for_exit([OsPid], 5000),
    ?assertEqual(Known, py_python:info()),
    ok = py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end),
    ?assertEqual(Worker, py_context_table:worker(Ctx)),
    ?assertEqual(OtherPid, py_test:os_pid(Other)).

ignores_what_a_worker_says_without_reason(_Config) ->
    [Ctx | _] = py_context_router:contexts(),
    {Worker, Id} = worker_of(Ctx),
    [
        Worker ! Message
     || Message <- [
            {py_host, Id + 1, {exited, 'SIGKILL'}},
            {py_host, 0, {ready, 1, <<>>, true, true}},
            {py_launcher, make_ref(), {error, enoent}},
            {timeout, make_ref(), start_timeout},
            {attach, 7, Id},
            {'DOWN', make_ref(), process, self(), killed},
            {'EXIT', self(), killed},
            unused,
            rubbish
        ]
    ],
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    ?assertEqual({Worker, Id}, worker_of(Ctx)).

%% --- questions and answers ------------------------------------------------------------

answers_any_question(_Config) ->
    Questions = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1, 1 bsl 70, foo, raise, <<>>],
    Arguments = [
        [], [a], [a, b], [a, b, c], [a | b], {}, {a}, {<<"x">>, [1 | 2]}, {<<"x">>, 7}, {[[16#D800]], []},
        {5, []}, {<<"no such function">>, []}, #{}, <<>>, 5, foo, self()
    ],
    [
        begin
            {How, _Term} = py_callback:run(make_ref(), Question, Argument),
            ?assert(lists:member(How, [value, failed, raise]))
        end
     || Question <- Questions, Argument <- Arguments
    ],
    ?assertMatch({raise, {'RuntimeError', _}}, py_callback:run(make_ref(), 99, [])),
    ?assertMatch({raise, {'RuntimeError', _}}, py_callback:run(make_ref(), 0, [])),
    ?assertMatch({raise, {'RuntimeError', _}}, py_callback:run(make_ref(), 2, [a, b])).

%% A stack that a program made itself need not be one.
gives_the_slot_back_when_an_answer_cannot_be_sent(_Config) ->
    ok = py:register_function(odd, fun([]) ->
        erlang:raise(error, odd, [{m, f, [1], [{file, "x"}, {line, -1}]}])
    end),
    ok = py:register_function(huge_line, fun([]) ->
        erlang:raise(error, odd, [{m, f, 255, [{file, "x"}, {line, 1 bsl 80}]}])
    end),
    [
        {error, {Type, _}} = py:eval(["erlang.", Name, "()"])
     || Name <- ["odd", "huge_line"], Type <- ['CallbackError']
    ],
    undefined = get('$py_frame'),
    0 = py_semaphore:current(),
    [ok = py:unregister_function(Name) || Name <- [odd, huge_line]].

restores_the_caller_whatever_its_callback_does(_Config) ->
    ok = py:register_function(tamper, fun([What]) -> tamper(What) end),
    Bound = py:context(),
    [
        begin
            _ = py:eval("erlang.tamper(what)", #{what => What}),
            ?assertEqual(undefined, get('$py_frame')),
            ?assertEqual(0, py_semaphore:current()),
            ?assertEqual(Bound, py:context()),
            {ok, 3} = py:eval("1 + 2")
        end
     || What <- [erase, overwrite, erase_all, throw, exit, error, unencodable]
    ],
    ok = py:unregister_function(tamper).

tamper(<<"erase">>) -> erase('$py_bound'), erase('$py_frame'), 1;
tamper(<<"overwrite">>) -> put('$py_bound', x), put('$py_frame', y), 1;
tamper(<<"erase_all">>) -> erase(), 1;
tamper(<<"throw">>) -> throw(a_ball);
tamper(<<"exit">>) -> exit(bye);
tamper(<<"error">>) -> error({odd, fun() -> ok end});
tamper(<<"unencodable">>) -> {self, fun() -> ok end, [a | b]}.

answers_callbacks_that_fail_in_any_way(_Config) ->
    ok = py:register_function(tamper, fun([What]) -> tamper(What) end),
    [{error, {'CallbackError', _}} = py:eval("erlang.tamper(w)", #{w => W}) || W <- [throw, exit, error]],
    {error, {'TypeError', _}} = py:eval("erlang.tamper('unencodable')"),
    ok = py:unregister_function(tamper),
    {error, {'CallbackError', _}} = py:eval("erlang.call('tamper', 1)").

%% That of a Python thread: there is no caller whose death would tell.
answers_python_when_the_process_of_a_callback_is_killed(_Config) ->
    ok = py:register_function(dies, fun([N]) ->
        N =:= 2 andalso exit(self(), kill),
        N
    end),
    ?assertMatch(
        {ok, [1, {<<"CallbackError">>, <<"exit: killed">>}, 3]},
        py:call(py:context(1), ep_steps, from_threads, [dies, 3])
    ),
    ok = py:unregister_function(dies).

%% --- maintenance ----------------------------------------------------------------------

leaves_out_contexts_whose_statistics_make_no_sense(_Config) ->
    [Ctx, Other] = py_context_router:contexts(),
    [
        begin
            OsPid = py_test:os_pid(Ctx),
            ok = py:exec(Ctx, ["import gc\ngc.", Function, " = lambda *a: ", Answer]),
            ok = Check(py_pace:within(4000, Ask)),
            ok = py_test:wait_for_exit([OsPid], ?NEVER_MS),
            ok = py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end)
        end
     || {Function, Answers, Ask, Check} <- [
            {"get_stats", ["'x'", "[]", "[1, 2, 3]", "[{'collections': 1}] * 3", "{'a': 1}"],
                fun() -> py:memory_stats() end, fun(R) -> check_stats(R, Other) end},
            {"get_count", ["(1, 2)", "(1, 2, 'x')", "10 ** 30"],
                fun() -> py:memory_stats() end, fun(R) -> check_stats(R, Other) end},
            {"collect", ["'x'", "1.5", "10 ** 30"],
                fun() -> py:gc() end, fun({ok, N}) when is_integer(N) -> ok end},
            {"get_stats", ["'x'"],
                fun() -> py:memory_stats(Ctx) end, fun({error, timeout}) -> ok end}
        ],
        Answer <- Answers
    ],
    {ok, #{contexts := Both}} = py:memory_stats(),
    2 = map_size(Both).

check_stats({ok, #{gc_stats := [_, _, _], contexts := Contexts}}, Other) ->
    ?assertEqual([Other], maps:keys(Contexts)),
    ok.

waits_for_no_helper_that_was_killed(Config) ->
    {Caller, Fifo} = py_fixture:hold(py:context(1), Config),
    ok = py:exec(py:context(2), "import gc, time\ngc.get_stats = lambda: time.sleep(60)"),
    Asker = py_test:spawn_caller(fun() -> py:memory_stats() end),
    Helper = helper_of(element(1, Asker)),
    true = exit(Helper, kill),
    ?assertMatch({ok, #{gc_stats := []}}, py_test:result_of(Asker)),
    ok = py_fixture:let_go({Caller, Fifo}),
    ok = py_test:kill(py_test:os_pid(py:context(2))),
    ok = py_test:wait_until(fun() -> py:call(py:context(2), math, sqrt, [16]) =:= {ok, 4.0} end).

%% What the process waits for.
helper_of(Pid) ->
    case process_info(Pid, monitors) of
        {monitors, [{process, Helper}]} -> Helper;
        _ -> erlang:yield(), helper_of(Pid)
    end.

%% --- restarts -------------------------------------------------------------------------

%% Python starts, says that it is up, and dies; all before a request could reach it.
refuses_requests_to_a_worker_that_dies_young(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Flag = filename:join(Dir, "die_young"),
    Starts = filename:join(Dir, "starts"),
    ok = file:write_file(filename:join(Dir, "sitecustomize.py"), sitecustomize(Flag, Starts)),
    Path = os:getenv("PYTHONPATH"),
    ok = py_test:stop(),
    true = os:putenv("PYTHONPATH", Dir ++ ":" ++ Path),
    {ok, _} = application:ensure_all_started(erlang_python),
    Log = ets:new(log, [public, duplicate_bag]),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => Log}),
    try
        [Ctx, Other] = py_context_router:contexts(),
        OsPid = py_test:os_pid(Ctx),
        {ok, 4.0} = py:call(Other, math, sqrt, [16]),
        ok = file:write_file(Flag, <<>>),
        ok = file:write_file(Starts, <<>>),
        ok = py_test:kill(OsPid),
        %% A request would be answered in the moment that each of them lives.
        ok = py_test:wait_until(fun() -> state_of(Ctx) =:= unavailable end),
        {error, {worker_unavailable, Why}} = py:call(Ctx, math, sqrt, [16]),
        ?assertMatch({match, _}, re:run(Why, "die as soon as they are up \\(exit status 9\\)")),
        {ok, 4.0} = py:call(Other, math, sqrt, [16]),
        %% Fewer and fewer tries.
        receive after 1500 -> ok end,
        Tries = length(py_test:marks(Starts)),
        ?assert(Tries =< 10, Tries),
        ok = py_test:wait_until(fun() -> length(py_test:marks(Starts)) >= 3 end, ?NEVER_MS),
        %% Each of them has an event of its own, the first one has been of use.
        ok = py_test:wait_until(fun() -> count_logged(Log, <<"exit status 9">>) >= 3 end),
        1 = count_logged(Log, <<"SIGKILL">>),
        ok = file:delete(Flag),
        ok = py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end, ?NEVER_MS),
        0 = count_logged(Log, <<"can be started">>)
    after
        ok = logger:remove_handler(?MODULE),
        true = ets:delete(Log),
        true = os:putenv("PYTHONPATH", Path)
    end,
    ok = py_test:start([{num_contexts, 2}]).

%% Only a start that reads PYTHONPATH runs it, before the process says that it is up, and what that
%% forks; the thread ends the process a moment after that.
sitecustomize(Flag, Starts) ->
    io_lib:format(
        "import os, threading, time\n"
        "def leave():\n"
        "    time.sleep(0.05)\n"
        "    os._exit(9)\n"
        "def look():\n"
        "    if os.path.exists('~ts'):\n"
        "        with open('~ts', 'a') as f:\n"
        "            f.write('x\\n')\n"
        "        threading.Thread(target=leave, daemon=True).start()\n"
        "look()\n"
        "os.register_at_fork(after_in_child=look)\n",
        [Flag, Starts]
    ).

%% Of a logger handler.
log(#{msg := Message}, #{config := Log}) ->
    true = ets:insert(Log, {logged, text(Message)}).

text({string, Text}) -> unicode:characters_to_binary(Text);
text({report, Report}) -> unicode:characters_to_binary(io_lib:format("~tp", [Report]));
text({Format, Args}) -> unicode:characters_to_binary(io_lib:format(Format, Args)).

state_of(Ctx) ->
    #{contexts := Contexts} = py:stats(),
    [State] = [S || #{context := C, state := S} <- Contexts, C =:= Ctx],
    State.

count_logged(Log, Text) ->
    length([M || {logged, M} <- ets:tab2list(Log), binary:match(M, Text) =/= nomatch]).

%% Again and again, with nothing answered in between: it is the request, not the process.
replaces_a_worker_at_once_that_a_request_killed(_Config) ->
    Ctx = py:context(1),
    [
        {error, {worker_died, #{reason := Status, started := true}}} = py:call(Ctx, os, '_exit', [Status])
     || Status <- lists:seq(1, 8)
    ],
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]).

serves_soon_after_all_workers_were_killed(_Config) ->
    {ok, Io} = py_context_router:start_pool(io, 4),
    Contexts = Io ++ py_context_router:contexts(),
    [
        begin
            _ = [py:call(C, math, sqrt, [16]) || C <- Contexts],
            Workers = [integer_to_list(py_test:os_pid(C)) || C <- Contexts],
            [] = os:cmd("kill -9 " ++ lists:join(" ", Workers)),
            {Ms, Withheld, ok} = py_pace:timed(fun() -> serve(Contexts) end),
            ct:pal("all served again after ~.1f ms; the system withheld ~.1f ms", [Ms, Withheld]),
            ?assert(Ms - Withheld =< 1000, {Ms, Withheld})
        end
     || _ <- [1, 2, 3]
    ],
    ok = py_context_router:stop_pool(io).

serve(Contexts) ->
    lists:foreach(
        fun(Ctx) -> py_test:wait_until(fun() -> py:call(Ctx, math, sqrt, [16]) =:= {ok, 4.0} end) end,
        Contexts
    ).

gives_few_workers_a_turn_at_a_time(_Config) ->
    Most = max(4, erlang:system_info(schedulers_online)),
    ok = py_test:wait_until(fun() -> turns() =:= 0 end),
    Self = self(),
    Takers = [
        spawn_monitor(fun() ->
            Turn = py_launcher:want_turn(),
            receive
                {py_launcher, Turn, {ok, _}} -> Self ! {turn, self()}
            end,
            receive
                done -> py_launcher:end_turn(Turn, failed);
                die -> exit(killed)
            end
        end)
     || _ <- lists:seq(1, 3 * Most)
    ],
    take_turns(length(Takers), Most),
    [
        receive
            {'DOWN', Ref, process, Pid, _} -> ok
        end
     || {Pid, Ref} <- Takers
    ],
    ok = py_test:wait_until(fun() -> turns() =:= 0 end).

%% Those whose process was being started do not keep others waiting for a second.
ends_the_turns_of_a_launcher_that_was_lost(_Config) ->
    ok = py_test:wait_until(fun() -> turns() =:= 0 end),
    Launcher = py_test:launcher_pid(),
    Self = self(),
    Holder = spawn(fun() ->
        Turn = py_launcher:want_turn(),
        receive
            {py_launcher, Turn, {ok, _}} -> Self ! {turn, self()}
        end,
        receive never -> ok end
    end),
    receive
        {turn, Holder} -> ok
    end,
    ok = py_pace:within(900, fun() ->
        ok = py_test:kill(Launcher),
        py_test:wait_until(fun() -> turns() =:= 0 end)
    end),
    true = exit(Holder, kill),
    ok = py_test:wait_until(fun() -> py:call(py:context(1), math, sqrt, [16]) =:= {ok, 4.0} end),
    ok = py_test:wait_until(fun() -> py:call(py:context(2), math, sqrt, [16]) =:= {ok, 4.0} end).

%% Those who have one end it in order, or die, in turns.
take_turns(0, _Most) ->
    ok;
take_turns(Left, Most) ->
    receive
        {turn, Pid} ->
            ?assert(turns() =< Most),
            Pid ! lists:nth(1 + Left rem 2, [done, die]),
            take_turns(Left - 1, Most)
    end.

%% How many workers have a turn at the moment.
turns() ->
    [Turns, _Late] = [M || M <- tuple_to_list(sys:get_state(py_launcher)), is_map(M)],
    map_size(Turns).

%% Requests are refused meanwhile, and served soon after it can be started.
starts_a_launcher_that_does_not_start_again(_Config) ->
    Program = unicode:characters_to_list(py_paths:launcher()),
    Hidden = Program ++ ".hidden",
    Fds = py_test:fd_count(py_test:vm_pid()),
    ok = file:rename(Program, Hidden),
    try
        Service = whereis(py_launcher),
        Ref = monitor(process, Service),
        true = exit(Service, kill),
        receive
            {'DOWN', Ref, process, Service, _} -> ok
        end,
        ok = py_test:wait_until(fun() ->
            case py:call(py:context(1), math, sqrt, [16], 1000) of
                {error, {worker_unavailable, Why}} -> {match, _} = re:run(Why, "cannot be executed \\(enoent\\)"), true;
                {error, {worker_died, _}} -> false;
                {ok, _} -> false
            end
        end)
    after
        ok = file:rename(Hidden, Program)
    end,
    ok = py_test:wait_until(fun() -> py:call(py:context(1), math, sqrt, [16]) =:= {ok, 4.0} end),
    ok = py_test:wait_until(fun() -> py:call(py:context(2), math, sqrt, [16]) =:= {ok, 4.0} end),
    %% Nothing of the tries that failed.
    ok = py_test:wait_until(fun() ->
        _ = [garbage_collect(P) || P <- processes()],
        py_test:fd_count(py_test:vm_pid()) =< Fds
    end).

%% --- pure -----------------------------------------------------------------------------

opens_the_breaker_after_three_young_deaths(_Config) ->
    B0 = py_breaker:new(),
    {{queue, 0, unchanged}, B1} = py_breaker:died(young, B0),
    {{queue, Second, unchanged}, B2} = py_breaker:died(young, B1),
    {{refuse, Third, changed}, B3} = py_breaker:died(young, B2),
    {{refuse, Fourth, unchanged}, B4} = py_breaker:died(young, B3),
    Near = fun(Ms, Delay) -> ?assert(Delay >= Ms * 3 div 4 - 1 andalso Delay =< Ms * 5 div 4 + 1, {Ms, Delay}) end,
    [Near(Ms, Delay) || {Ms, Delay} <- [{50, Second}, {100, Third}, {200, Fourth}]],
    %% Up to 30 s.
    {{refuse, Late, unchanged}, B5} =
        lists:foldl(fun(_, {_, B}) -> py_breaker:not_started(B) end, {none, B4}, lists:seq(1, 20)),
    Near(30000, Late),
    %% One that was of use closes it, and so does one that stays up.
    {{queue, 0, changed}, B6} = py_breaker:died(useful, B5),
    {changed, B6} = py_breaker:healthy(B5),
    {unchanged, B6} = py_breaker:healthy(B6),
    %% Three in a row.
    {_, B7} = py_breaker:died(young, B6),
    {_, B8} = py_breaker:died(young, B7),
    {{queue, 0, unchanged}, B9} = py_breaker:died(useful, B8),
    {{queue, _, unchanged}, _} = py_breaker:died(young, B9),
    %% A start that fails opens it at once.
    {{refuse, _, changed}, _} = py_breaker:not_started(B0).

backs_off_with_jitter(_Config) ->
    B0 = py_backoff:new(2, 10, 40),
    {0, B1} = py_backoff:next(B0),
    {0, B2} = py_backoff:next(B1),
    Delays = [element(1, py_backoff:next(B2)) || _ <- lists:seq(1, 200)],
    ?assert(lists:min(Delays) >= 8 andalso lists:max(Delays) =< 12, lists:usort(Delays)),
    ?assert(length(lists:usort(Delays)) > 1),
    {_, B3} = py_backoff:next(B2),
    {Twice, B4} = py_backoff:next(B3),
    ?assert(Twice >= 15 andalso Twice =< 25),
    {Most, B5} = py_backoff:next(B4),
    {Most2, _} = py_backoff:next(B5),
    [?assert(Ms >= 30 andalso Ms =< 50, Ms) || Ms <- [Most, Most2]],
    ?assertEqual(B0, py_backoff:reset(B5)).
