%% SPDX-License-Identifier: Apache-2.0

%% @doc A long job in Python tells how far it is, and the terminal shows a bar. The job runs in a
%% request of its own; its messages come to this process while it works.
%%
%% `make example NAME=progress' runs it.
-module(progress).

-export([main/0, run/2]).

-define(WIDTH, 40).

-spec main() -> ok.
main() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, Count} = run(400000, fun bar/2),
    io:format("~nThere are ~b primes below 400000.~n", [Count]),
    application:stop(erlang_python).

%% @doc Counts the primes below Limit; Show is called with what is done and with all there is.
-spec run(pos_integer(), fun((non_neg_integer(), pos_integer()) -> term())) -> py:result().
run(Limit, Show) ->
    %% Both run in this process, so they share a namespace.
    ok = py:exec(code()),
    Tag = make_ref(),
    Job = py:spawn_call('__main__', count_primes, [Limit, self(), Tag]),
    follow(Job, Tag, Limit, Show).

%% The progress of a job arrives in order, and before its result.
follow(Job, Tag, Limit, Show) ->
    receive
        {Tag, Done} ->
            Show(Done, Limit),
            follow(Job, Tag, Limit, Show);
        {py_response, Job, Result} ->
            Result
    end.

code() ->
    <<
        "import erlang\n"
        "def is_prime(n):\n"
        "    return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))\n"
        "def count_primes(limit, pid, tag, step=20000):\n"
        "    found = 0\n"
        "    for start in range(0, limit, step):\n"
        "        end = min(start + step, limit)\n"
        "        found += sum(map(is_prime, range(start, end)))\n"
        "        erlang.send(pid, (tag, end))\n"
        "    return found\n"
    >>.

bar(Done, All) ->
    Full = ?WIDTH * Done div All,
    io:format("\r[~s~s] ~3b %", [lists:duplicate(Full, $#), lists:duplicate(?WIDTH - Full, $.), 100 * Done div All]).
