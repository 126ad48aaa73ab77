%% SPDX-License-Identifier: Apache-2.0

%% @doc Two tests of numbers: as many forged callbacks as end the liar, and as many honest
%% threads as have to be served.
-module(evil_rows).

-export([forged/2, threads/0]).

-define(FORGED, 300000).
-define(FORGED_MS, 10000).
%% The library's own limit of open questions of a worker.
-define(PROCESSES, 13000).
-define(THREADS, 3000).
-define(SAMPLE_MS, 10).

%% @doc 300,000 callbacks of threads that do not exist, in 10 s, each of which takes 2 s.
-spec forged(binary(), pid()) -> [{atom(), yes | {no, term()}}].
forged(Worker, Neighbour) ->
    _ = evil_neighbour:phase(Neighbour, forged),
    {ok, Host} = evil_host:start(Worker),
    Ctx = evil_host:context(Host, 1, #{}),
    Before = erlang:system_info(process_count),
    Caller = evil_caller:start(fun() ->
        py:call(Ctx, evil, flood_threads, [?FORGED, 7, 0, ?FORGED_MS], #{}, 2 * ?FORGED_MS)
    end),
    %% Not counting the caller's.
    Most = most_processes(Host, Before, erlang:monotonic_time(millisecond) + 2 * ?FORGED_MS) - 1,
    _ = evil_neighbour:phase(Neighbour, off),
    Outcomes = evil_caller:answers([Caller], 5000),
    {Reason, _} = evil_host:stop(Host),
    ok = py_context:stop(Ctx),
    ok = evil_host:close(Host),
    [
        {forged_callbacks_end_the_liar, yes_or_no(Reason =:= protocol_violation, Reason)},
        {forged_callbacks_have_few_processes, yes_or_no(Most - Before < ?PROCESSES, Most - Before)},
        {their_caller_is_answered, yes_or_no(maps:get(Caller, Outcomes) =/= none, Outcomes)}
    ].

%% @doc 3000 threads of real Python, which each wait in erlang.call for 2 s.
-spec threads() -> [{atom(), yes | {no, term()}}].
threads() ->
    {ok, Ctx} = py_context:new(#{mode => worker}),
    Code = <<
        "import threading, erlang\n"
        "threading.stack_size(128 * 1024)\n"
        "answers = []\n"
        "def ask(n):\n"
        "    answers.append((n, erlang.call('evil_slow', n)))\n"
        "threads = [threading.Thread(target=ask, args=(n,)) for n in range(3000)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
    >>,
    Ran = py_context:exec(Ctx, Code),
    Answered = py_context:eval(Ctx, <<"len(set(n for n, a in answers if a is None))">>),
    ok = py_context:stop(Ctx),
    [{honest_threads_are_answered, yes_or_no({Ran, Answered} =:= {ok, {ok, ?THREADS}}, {Ran, Answered})}].

%% Internal

most_processes(Host, Most, Deadline) ->
    receive
        {evil_host, Host, {exited, _}} -> max(Most, erlang:system_info(process_count))
    after ?SAMPLE_MS ->
        Now = max(Most, erlang:system_info(process_count)),
        case erlang:monotonic_time(millisecond) > Deadline of
            true -> Now;
            false -> most_processes(Host, Now, Deadline)
        end
    end.

yes_or_no(true, _) -> yes;
yes_or_no(false, Why) -> {no, Why}.
