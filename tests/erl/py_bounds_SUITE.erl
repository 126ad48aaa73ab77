%% SPDX-License-Identifier: Apache-2.0

%% @doc What one worker can make the VM hold: every bound, met by the smallest code that
%% exceeds it, and what honest code may do below it.
-module(py_bounds_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

all() ->
    [{group, worker}, {group, shared}, {group, owngil}, limits_of_a_pool_and_a_context, {group, fds}].

groups() ->
    Cases = [
        a_result_that_needs_too_much_heap_is_an_error,
        an_argument_that_needs_too_much_heap_raises_in_python,
        a_result_below_the_bound_comes,
        the_text_of_an_exception_is_cut,
        timeouts_leave_no_memory,
        three_thousand_threads_are_all_answered,
        callers_in_callbacks_are_answered_when_their_worker_dies,
        callers_in_callbacks_are_answered_when_their_context_stops
    ],
    [{Mode, [], Cases} || {Mode, _} <- py_test:modes()] ++
        [{fds, [], [a_start_without_file_descriptors_fails_alone]}].

init_per_suite(Config) -> Config.
end_per_suite(_Config) -> py_test:stop().

init_per_group(fds, Config) -> Config;
init_per_group(Mode, Config) -> py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) -> ok.

%% --- heap -----------------------------------------------------------------------------

a_result_that_needs_too_much_heap_is_an_error(Config) ->
    {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config), max_result_bytes => 1 bsl 20}),
    %% A message of 100 KB each, and more than a megabyte of heap.
    [
        ?assertMatch({error, {'MemoryError', "result: needs more memory of the Erlang VM" ++ _}}, py:eval(Ctx, Code))
     || Code <- [
            "[[]] * 100000",
            "[1.5] * 100000",
            "[2 ** 62] * 100000",
            "[()] * 100000",
            "tuple(range(200000))",
            "dict.fromkeys(range(50000))",
            "[{}] * 50000",
            "['x'] * 60000",
            "[2 ** 1000] * 20000"
        ]
    ],
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    ok = py_context:stop(Ctx).

an_argument_that_needs_too_much_heap_raises_in_python(Config) ->
    {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config), max_result_bytes => 1 bsl 20}),
    ok = py_callback:register(bounds_size, fun([List]) -> length(List) end),
    ok = py:exec(Ctx, <<
        "import erlang, threading\n"
        "def ask(n):\n"
        "    try:\n"
        "        return erlang.call('bounds_size', [[]] * n)\n"
        "    except MemoryError as e:\n"
        "        return str(e)\n"
        "def ask_in_thread(n):\n"
        "    answers = []\n"
        "    t = threading.Thread(target=lambda: answers.append(ask(n)))\n"
        "    t.start()\n"
        "    t.join()\n"
        "    return answers[0]\n"
    >>),
    [
        begin
            {ok, 100} = py:call(Ctx, '__main__', Ask, [100]),
            {ok, <<"args: needs more memory", _/binary>>} = py:call(Ctx, '__main__', Ask, [100000])
        end
     || Ask <- [ask, ask_in_thread]
    ],
    ok = py_callback:unregister(bounds_size),
    ok = py_context:stop(Ctx).

a_result_below_the_bound_comes(Config) ->
    {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config), max_result_bytes => 1 bsl 20}),
    %% Two words a cell: 960 KB.
    {ok, List} = py:eval(Ctx, "[[]] * 60000"),
    60000 = length(List),
    %% A large binary is not on the heap.
    {ok, Bytes} = py:eval(Ctx, "b'x' * 10000000"),
    10000000 = byte_size(Bytes),
    ok = py_context:stop(Ctx).

limits_of_a_pool_and_a_context(_Config) ->
    ok = py_test:start([{max_result_bytes, 1 bsl 20}, {num_contexts, 1}]),
    {error, {'MemoryError', _}} = py:eval("[[]] * 100000"),
    {ok, [Ctx]} = py_context_router:start_pool(bounds_large, 1, #{max_result_bytes => 1 bsl 24}),
    {ok, [_ | _]} = py:eval(Ctx, "[[]] * 100000"),
    {error, {bad_config, max_result_bytes, 0, _}} = py_context:new(#{max_result_bytes => 0}),
    ok = py_context_router:stop_pool(bounds_large),
    {error, {erlang_python, _}} = py_test:restart([{max_result_bytes, -1}]),
    ok = py_test:start([]).

the_text_of_an_exception_is_cut(_Config) ->
    {error, {'ValueError', Text}} = py:eval(py:context(1), "int('x' * 10 ** 7)", #{}, 30000),
    ?assert(length(Text) =< 4096),
    ok = py:exec(py:context(1), "def fail(n): raise ValueError('x' * n)"),
    {error, {'ValueError', Cut}} = py:call(py:context(1), '__main__', fail, [10000000]),
    ?assert(length(Cut) =< 4096).

%% --- time-outs ------------------------------------------------------------------------

timeouts_leave_no_memory(Config) ->
    Ctx = py:context(1),
    ok = time_out(Ctx, 20000, Config),
    Before = vm_memory(),
    ok = time_out(Ctx, 20000, Config),
    Grown = vm_memory() - Before,
    ct:pal("20000 time-outs: the VM grew by ~b bytes", [Grown]),
    ?assert(Grown < 4000000, Grown).

%% Callers that park, and give up while another request runs.
time_out(Ctx, N, Config) ->
    Mark = py_test:marker(Config, "sleeps"),
    Sleeper = py_test:spawn_caller(fun() ->
        py:call(Ctx, ep_probe, spin_until_interrupted, [Mark], #{}, infinity)
    end),
    ok = py_test:wait_for_file(Mark),
    Callers = [
        py_test:spawn_caller(fun() ->
            [{error, timeout} = py:call(Ctx, math, sqrt, [16], #{}, 1) || _ <- lists:seq(1, N div 100)]
        end)
     || _ <- lists:seq(1, 100)
    ],
    _ = [py_test:result_of(Caller) || Caller <- Callers],
    ok = py:interrupt(Ctx),
    {error, interrupted} = py_test:result_of(Sleeper),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    ok.

vm_memory() ->
    _ = [erlang:garbage_collect(P) || P <- processes()],
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [Kb]} = re:run(Status, "RssAnon:\\s+(\\d+) kB", [{capture, all_but_first, list}]),
    1024 * list_to_integer(Kb).

%% --- threads --------------------------------------------------------------------------

three_thousand_threads_are_all_answered(_Config) ->
    ok = py_callback:register(bounds_wait, fun([N]) ->
        receive after 500 -> N end
    end),
    Violations = maps:get(violations, ep_nif:counters()),
    Expected = lists:seq(1, 3000),
    {ok, Expected} = py:call(py:context(1), ep_steps, from_threads, [bounds_wait, 3000], #{}, 120000),
    {ok, 4.0} = py:call(py:context(2), math, sqrt, [16]),
    Violations = maps:get(violations, ep_nif:counters()),
    ok = py_callback:unregister(bounds_wait).

%% --- ends in callbacks ----------------------------------------------------------------

-define(DEATHS, 60).

callers_in_callbacks_are_answered_when_their_worker_dies(Config) ->
    in_callbacks(Config, fun(_Ctx, OsPid) -> py_test:kill(OsPid) end, fun(Ctx) ->
        ok = py_context:stop(Ctx)
    end).

callers_in_callbacks_are_answered_when_their_context_stops(Config) ->
    in_callbacks(Config, fun(Ctx, _OsPid) -> py_context:stop(Ctx) end, fun(_Ctx) -> ok end).

%% Each time the end comes at another moment of a loop of callbacks, with another request
%% behind it.
in_callbacks(Config, End, Finish) ->
    Test = self(),
    ok = py_callback:register(bounds_begin, fun([N]) -> Test ! {asks, N} end),
    ok = py_callback:register(bounds_echo, fun([N]) -> N end),
    [
        begin
            {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config), own_process => true}),
            OsPid = py_test:os_pid(Ctx),
            Asks = py_test:spawn_caller(fun() ->
                py:call(Ctx, ep_steps, ask_forever, [<<"bounds_begin">>, <<"bounds_echo">>], #{}, infinity)
            end),
            receive {asks, 1} -> ok end,
            Waits = py_test:spawn_caller(fun() -> py:call(Ctx, math, sqrt, [16], #{}, infinity) end),
            ok = busy_wait_us(I * 97 rem 5000),
            _ = End(Ctx, OsPid),
            [
                case py_test:result_of(Caller) of
                    {error, {worker_died, #{}}} -> ok;
                    {error, {context_died, _}} -> ok;
                    %% It came after the death.
                    {ok, 4.0} when Caller =:= Waits -> ok
                end
             || Caller <- [Asks, Waits]
            ],
            Finish(Ctx)
        end
     || I <- lists:seq(1, py_test:times(20, ?DEATHS))
    ],
    0 = py_semaphore:current(),
    ok = py_callback:unregister(bounds_begin),
    ok = py_callback:unregister(bounds_echo).

%% The moment of the end, not a wait for a state.
busy_wait_us(Us) ->
    Until = erlang:monotonic_time(microsecond) + Us,
    Wait = fun Wait() -> erlang:monotonic_time(microsecond) >= Until orelse Wait() end,
    true = Wait(),
    ok.

%% --- file descriptors -----------------------------------------------------------------

%% In a VM of its own, which has 24 file descriptors left: starts fail one by one, with the
%% reason, and the contexts that run go on.
a_start_without_file_descriptors_fails_alone(_Config) ->
    _ = [
        begin
            Vm = py_test:start_vm(),
            try
                Left = py_test:in_vm(Vm, ?MODULE, start_until_full, [Whose]),
                ct:pal("~p: ~p", [Whose, Left]),
                #{failed := Failed, works := true, launcher := same, recovers := true} = Left,
                ?assert(length(Failed) >= 3, Left),
                [?assertMatch({error, {worker_unavailable, _}}, F) || F <- Failed]
            after
                py_test:stop_vm(Vm)
            end
        end
     || Whose <- [vm, launcher]
    ],
    ok.

start_until_full(Whose) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    Launcher = py_test:launcher_pid(),
    ok = limit_fds(Whose, #{vm => 24, launcher => 5}),
    Results = [py_context:new(#{mode => worker}) || _ <- lists:seq(1, 12)],
    Works = {ok, 4.0} =:= py:call(math, sqrt, [16]),
    Started = [Ctx || {ok, Ctx} <- Results],
    _ = [{ok, 4.0} = py:call(Ctx, math, sqrt, [16]) || Ctx <- Started],
    ok = limit_fds(Whose, #{vm => 1000, launcher => 1000}),
    Recovers = starts(),
    Same =
        case py_test:launcher_pid() of
            Launcher -> same;
            Other -> {was, Launcher, is, Other}
        end,
    #{
        failed => [R || R = {error, _} <- Results],
        works => Works,
        recovers => Recovers,
        launcher => Same
    }.

starts() ->
    case py_context:new(#{mode => worker}) of
        {ok, Ctx} -> {ok, 4.0} =:= py:call(Ctx, math, sqrt, [16]);
        {error, _} -> false
    end.

%% So many more than it has. The launcher needs six for a moment for each start, and keeps
%% none.
limit_fds(Whose, More) ->
    OsPid =
        case Whose of
            vm -> py_test:vm_pid();
            launcher -> py_test:launcher_pid()
        end,
    Command = io_lib:format("prlimit --nofile=~b: --pid ~b", [
        py_test:fd_count(OsPid) + maps:get(Whose, More), OsPid
    ]),
    [] = os:cmd(lists:flatten(Command)),
    ok.
