%% SPDX-License-Identifier: Apache-2.0

%% @private What make bench-pair compares two builds by: each row is a load in a
%% configuration of its own, and one figure.
%%
%% This module runs in VMs with builds as old as commit 340a4c0, so it uses the public
%% interface of that day only.
-module(bench_row).

-export([all/0, find/1]).

-export_type([row/0]).

%% `make' runs in each caller and returns the call that it repeats. A row with
%% `figure => ping' has the p99 of a ping-pong beside its callers instead of their calls, and one
%% with `figure => fairness' the calls of the slowest caller as a fraction of the mean.
-type row() :: #{
    name := string(),
    text := string(),
    figure := calls | ping | fairness,
    unit := string(),
    better := bench_ratio:better(),
    burst_ms := pos_integer(),
    callers := pos_integer(),
    contexts := pos_integer(),
    max_concurrent := pos_integer() | default,
    make := fun((pos_integer()) -> bench_callers:call())
}.

-define(BURST_MS, 40).
%% A p99 takes some hundred pings.
-define(PING_MS, 200).
%% The slowest caller must have had its turn some times.
-define(FAIRNESS_MS, 500).
-define(MANY_SLOTS, 10000).
-define(MIB, 1048576).
-define(INTS, 10000).
%% Callbacks in one call: more of them than of what surrounds them.
-define(CALLBACKS, 10).

%% @doc In the order in which they run; those with one configuration stand together.
-spec all() -> [row()].
all() ->
    [
        row("one", "one caller", fun sqrt/1),
        row("context", "one caller, py:call(Ctx, ...)", fun by_context/1),
        row("py_context", "one caller, py_context:call/4", fun by_py_context/1),
        row("eval", "one caller, eval with a local", fun eval/1),
        row("result", "1 MiB as a result", fun(_) -> result(?MIB) end),
        row("result16", "16 MiB as a result", fun(_) -> result(16 * ?MIB) end),
        row("argument", "1 MiB as an argument", fun argument/1),
        row("list", "10000 integers there and back", fun list/1),
        row("callback", "erlang.call, ten times in a call", fun(_) -> callbacks("ask") end),
        row("nested", "the same, each with a call in it", fun(_) -> callbacks("nest") end),
        row("thread", "erlang.call of a thread, the same", fun(_) -> callbacks("ask_in_thread") end)
    ] ++ [callers(N, Contexts, Max) ||
            Contexts <- [1, 2], Max <- [?MANY_SLOTS, default], N <- [8, 64, 1000], can_matter(N, Max)] ++ [ping(), fairness(64), fairness(1000)].

-spec find(string()) -> row() | undefined.
find(Name) ->
    case [R || #{name := N} = R <- all(), N =:= Name] of
        [Row] -> Row;
        [] -> undefined
    end.

row(Name, Text, Make) ->
    #{
        name => Name,
        text => Text,
        figure => calls,
        unit => "calls/s",
        better => high,
        burst_ms => ?BURST_MS,
        callers => 1,
        contexts => 1,
        max_concurrent => ?MANY_SLOTS,
        make => Make
    }.

callers(N, Contexts, Max) ->
    Count = integer_to_list(N),
    {Suffix, Slots} = case Max of
        default -> {"-default", ", default slots"};
        _ -> {"", ""}
    end,
    Plural = case Contexts of
        1 -> " context";
        _ -> " contexts"
    end,
    Name = Count ++ "x" ++ integer_to_list(Contexts) ++ Suffix,
    Text = Count ++ " callers, " ++ integer_to_list(Contexts) ++ Plural ++ Slots,
    Row = row(Name, Text, fun sqrt/1),
    Row#{callers := N, contexts := Contexts, max_concurrent := Max}.

%% Who gets a slot each time does not notice how many there are.
can_matter(_N, ?MANY_SLOTS) -> true;
can_matter(N, default) -> N > 2 * erlang:system_info(schedulers) + 1.

ping() ->
    Row = row("ping", "p99 of a ping beside 8 callers", fun sqrt/1),
    Row#{figure := ping, unit := "us", better := low, burst_ms := ?PING_MS, callers := 8, contexts := 2}.

fairness(N) ->
    Name = "fair" ++ integer_to_list(N),
    Text = "slowest of " ++ integer_to_list(N) ++ " callers / mean",
    Row = row(Name, Text, fun sqrt/1),
    Row#{figure := fairness, unit := "", burst_ms := ?FAIRNESS_MS, callers := N, contexts := 2}.

%% --- the calls --------------------------------------------------------------------------

%% Callers are bound to contexts by the scheduler of their first call, and those of one
%% parent start on one scheduler: caller I makes that call on the scheduler of its number.
sqrt(I) ->
    Call = fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end,
    %% SUBTLE: not documented, but there is no other way to choose; 0 lets the process go again.
    _ = process_flag(scheduler, (I - 1) rem erlang:system_info(schedulers_online) + 1),
    _ = Call(),
    _ = process_flag(scheduler, 0),
    Call.

by_context(_) ->
    Ctx = py:context(1),
    fun() -> {ok, 4.0} = py:call(Ctx, math, sqrt, [16]) end.

by_py_context(_) ->
    Ctx = py:context(1),
    fun() -> {ok, 4.0} = py_context:call(Ctx, math, sqrt, [16]) end.

eval(_) ->
    fun() -> {ok, 17} = py:eval(<<"x + 1">>, #{x => 16}) end.

result(Size) ->
    ok = py:exec(io_lib:format("blob = bytes(~b)\ndef result(): return blob", [Size])),
    fun() -> {ok, <<_:Size/binary>>} = py:call('__main__', result, []) end.

argument(_) ->
    ok = py:exec("def size(x): return len(x)"),
    Blob = binary:copy(<<0, 255>>, ?MIB div 2),
    fun() -> {ok, ?MIB} = py:call('__main__', size, [Blob]) end.

list(_) ->
    ok = py:exec("def same(x): return x"),
    Ints = lists:seq(1, ?INTS),
    fun() -> {ok, [_ | _]} = py:call('__main__', same, [Ints]) end.

callbacks(Function) ->
    ok = py:register_function(pair_next, fun([X]) -> X + 1 end),
    ok = py:register_function(pair_nest, fun([X]) ->
        {ok, Next} = py:call('__main__', next, [X]),
        Next
    end),
    ok = py:exec(
        "import erlang\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "threads = ThreadPoolExecutor(1)\n"
        "def next(x): return x + 1\n"
        "def repeat(name, n):\n"
        "    x = 0\n"
        "    for _ in range(n): x = erlang.call(name, x)\n"
        "    return x\n"
        "def ask(n): return repeat('pair_next', n)\n"
        "def nest(n): return repeat('pair_nest', n)\n"
        "def ask_in_thread(n): return threads.submit(ask, n).result()\n"
    ),
    fun() -> {ok, ?CALLBACKS} = py:call('__main__', Function, [?CALLBACKS]) end.
