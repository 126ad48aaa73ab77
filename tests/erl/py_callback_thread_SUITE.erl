%% SPDX-License-Identifier: Apache-2.0

%% @doc Callbacks of Python threads, for which no caller waits: whose process runs them, and
%% what the requests are that they make.
-module(py_callback_thread_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _} <- modes()].

groups() ->
    [{Group, cases()} || {Group, _} <- modes()].

%% Groups, and the configuration of each.
modes() ->
    [
        {threads_worker, worker},
        {threads_shared, shared},
        {threads_owngil, owngil},
        {threads_single, single_worker},
        {threads_single_owngil, single_owngil}
    ].

cases() ->
    [
        runs_callbacks_of_threads_that_the_request_waits_for,
        runs_callbacks_of_a_thread_pool,
        runs_callbacks_of_threads_that_outlive_their_request,
        runs_nested_requests_on_the_thread_that_made_the_callback,
        nests_from_a_thread,
        takes_no_slot_for_what_threads_call,
        counts_threads_without_a_request_as_nobody,
        interrupts_a_thread_pool_that_is_waited_for,
        raises_what_a_callback_of_a_thread_raised,
        says_that_the_process_of_a_thread_was_killed
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    case py_fixture:init(proplists:get_value(Group, modes()), Config) of
        {skip, _} = Skip -> Skip;
        More -> with_threads(More)
    end.

%% Skips what is not there yet.
with_threads(Config) ->
    ok = py:register_function(f, fun([X]) -> X end),
    Probe = "import threading, erlang\n"
            "seen = []\n"
            "def ask():\n"
            "    try: seen.append(erlang.call('f', 1))\n"
            "    except Exception as e: seen.append(str(e))\n"
            "t = threading.Thread(target=ask); t.start(); t.join(5)\n",
    ok = py:exec(Probe, #{timeout => 10000}),
    case py:eval("seen") of
        {ok, [1]} -> Config;
        {ok, [<<"a forked process has no way to Erlang">>]} -> {skip, "callbacks of Python threads are not there"}
    end.

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

runs_callbacks_of_threads_that_the_request_waits_for(_Config) ->
    Runs = counters:new(1, []),
    Self = self(),
    ok = py:register_function(count, fun([N]) -> counters:add(Runs, 1, 1), {N, self() =:= Self} end),
    ok = py:exec("import threading\n"
                 "def f(n):\n"
                 "    seen = []\n"
                 "    ts = [threading.Thread(target=lambda i=i: seen.append(erlang.count(i))) for i in range(n)]\n"
                 "    for t in ts: t.start()\n"
                 "    for t in ts: t.join()\n"
                 "    return sorted(seen)"),
    Expected = [{N, false} || N <- lists:seq(0, 49)],
    {ok, Expected} = py:call('__main__', f, [50]),
    50 = counters:get(Runs, 1).

runs_callbacks_of_a_thread_pool(_Config) ->
    %% Each calls Python again, on the context that waits for the pool.
    ok = py:register_function(square, fun([N]) ->
        {ok, Result} = py:call('builtins', pow, [N, 2]),
        Result
    end),
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "def f(n):\n"
                 "    with ThreadPoolExecutor(8) as pool:\n"
                 "        return list(pool.map(erlang.square, range(n)))"),
    Expected = [N * N || N <- lists:seq(0, 99)],
    {ok, Expected} = py:call('__main__', f, [100], #{}, 30000).

runs_nested_requests_on_the_thread_that_made_the_callback(_Config) ->
    ok = py:register_function(thread, fun([]) -> {ok, Id} = py:call(threading, get_ident, []), Id end),
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "import threading\n"
                 "def same(_): return erlang.thread() == threading.get_ident()\n"
                 "def f(n):\n"
                 "    with ThreadPoolExecutor(4) as pool:\n"
                 "        return list(pool.map(same, range(n))) + [same(0)]"),
    {ok, Same} = py:call('__main__', f, [20], #{}, 20000),
    ?assertEqual(lists:duplicate(21, true), Same).

nests_from_a_thread(_Config) ->
    ok = py:register_function(level, fun([N, Max]) ->
        case N >= Max of
            true -> N;
            false -> {ok, Result} = py:call('__main__', next_level, [N + 1, Max]), Result
        end
    end),
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "def next_level(n, max): return erlang.level(n, max)\n"
                 "def f(n):\n"
                 "    with ThreadPoolExecutor(n) as pool:\n"
                 "        return list(pool.map(lambda i: erlang.level(1, 50 + i), range(n)))"),
    {ok, [50, 51, 52, 53]} = py:call('__main__', f, [4], #{}, 30000).

takes_no_slot_for_what_threads_call(_Config) ->
    ok = py:register_function(current, fun([]) ->
        {ok, 4.0} = py:call(math, sqrt, [16]),
        py_semaphore:current()
    end),
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "def f(n):\n"
                 "    with ThreadPoolExecutor(n) as pool:\n"
                 "        return [e.result() for e in [pool.submit(erlang.current) for _ in range(n)]]"),
    {ok, [1, 1, 1, 1]} = py:call('__main__', f, [4], #{}, 20000).

%% A thread that calls while no request runs: its requests are ordinary, and take a slot.
counts_threads_without_a_request_as_nobody(_Config) ->
    Self = self(),
    ok = py:register_function(tell, fun([]) ->
        Self ! {ready, self()},
        receive go -> ok end,
        Self ! {told, py:call(math, sqrt, [16]), py:eval("erlang.now_running()")},
        ok
    end),
    ok = py:register_function(now_running, fun([]) -> py_semaphore:current() end),
    ok = py:exec("import threading\n"
                 "go = threading.Event()\n"
                 "threading.Thread(target=lambda: (go.wait(), erlang.tell())).start()"),
    ok = py:exec("go.set()"),
    receive {ready, Pid} -> Pid ! go after 10000 -> error(nothing_told) end,
    receive
        {told, Sqrt, Running} -> {{ok, 4.0}, {ok, 1}} = {Sqrt, Running}
    after 10000 -> error(nothing_told)
    end.

interrupts_a_thread_pool_that_is_waited_for(_Config) ->
    Self = self(),
    ok = py:register_function(stay, fun([]) -> Self ! {inside, self()}, receive go -> ok end end),
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "def f():\n"
                 "    with ThreadPoolExecutor(2) as pool:\n"
                 "        return [e.result() for e in [pool.submit(erlang.stay) for _ in range(2)]]"),
    {Ms, Withheld, {error, timeout}} = py_pace:timed(fun() -> py:call('__main__', f, [], #{}, 200) end),
    ?assert(Ms >= 199 andalso Ms - Withheld < 1000, {Ms, Withheld}),
    %% Those callbacks are never aborted.
    [receive {inside, Pid} -> Pid ! go end || _ <- [1, 2]],
    {ok, 4.0} = py:call(math, sqrt, [16], #{}, 20000).

runs_callbacks_of_threads_that_outlive_their_request(_Config) ->
    Self = self(),
    ok = py:register_function(tell, fun([X]) -> Self ! {told, X, py_nesting:frame()}, ok end),
    ok = py:exec("import threading\n"
                 "go = threading.Event()\n"
                 "def wait():\n"
                 "    go.wait()\n"
                 "    erlang.tell('later')\n"
                 "threading.Thread(target=wait).start()"),
    ok = py:exec("go.set()"),
    receive
        {told, <<"later">>, _} -> ok
    after 10000 -> error(nothing_told)
    end.

raises_what_a_callback_of_a_thread_raised(_Config) ->
    ok = py:register_function(bang, fun([]) -> error(bang) end),
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "def f():\n"
                 "    with ThreadPoolExecutor(1) as pool:\n"
                 "        e = pool.submit(erlang.bang).exception()\n"
                 "        return (type(e).__name__, e.class_, e.reason)"),
    {ok, {<<"CallbackError">>, <<"error">>, <<"bang">>}} = py:call('__main__', f, []).

says_that_the_process_of_a_thread_was_killed(_Config) ->
    ok = py:register_function(die, fun([]) -> exit(self(), kill), receive never -> ok end end),
    ok = py:exec("from concurrent.futures import ThreadPoolExecutor\n"
                 "def f():\n"
                 "    with ThreadPoolExecutor(1) as pool:\n"
                 "        e = pool.submit(erlang.die).exception()\n"
                 "        return (type(e).__name__, e.class_, e.reason)"),
    {ok, {<<"CallbackError">>, <<"exit">>, <<"killed">>}} = py:call('__main__', f, [], #{}, 10000).
