%% SPDX-License-Identifier: Apache-2.0

%% @private Arrays in shared memory, beside what cannot be avoided: a plain call, a copy between
%% memory that both sides have touched, and the protection of the pages.
-module(bench_arrays).

-export([run/1]).

-define(SIZES, [{"8 MB", 8 bsl 20, 20}, {"128 MB", 128 bsl 20, 5}]).
-define(CALLS, 2000).

-spec run(map()) -> [bench_result:result()].
run(#{rounds := N}) ->
    ok = bench_app:start(worker, 1, #{python => bench_app:venv(), max_shared_bytes => 4 bsl 30}),
    ok = py:exec(code()),
    Rounds = [maps:from_list(lists:append([of_size(Size) || Size <- ?SIZES])) || _ <- lists:seq(1, N)],
    ok = bench_app:check(),
    lists:append([results(Name, Rounds) || {Name, _, _} <- ?SIZES]).

code() ->
    "import ctypes, mmap, time\n"
    "import erlang\n"
    "import numpy as np\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "held = {}\n"
    "def drop(x): return None\n"
    "def same(x): return x\n"
    "def hold(n): held[n] = np.ones(n // 8)\n"
    "def held_one(n): return held[n]\n"
    "def empty(n): return erlang.empty(n // 8)\n"
    "def copies(n, times):\n"
    "    source, target = np.ones(n // 8), np.ones(n // 8)\n"
    "    out = []\n"
    "    for _ in range(times):\n"
    "        start = time.perf_counter_ns()\n"
    "        ctypes.memmove(target.ctypes.data, source.ctypes.data, n)\n"
    "        out.append(time.perf_counter_ns() - start)\n"
    "    return sorted(out)[len(out) // 2]\n"
    "def protects(n, times):\n"
    "    area = mmap.mmap(-1, n)\n"
    "    array = np.frombuffer(area, 'u1')\n"
    "    array[...] = 1\n"
    "    address, out = array.ctypes.data, []\n"
    "    for _ in range(times):\n"
    "        start = time.perf_counter_ns()\n"
    "        libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(n), 1)\n"
    "        libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(n), 3)\n"
    "        out.append(time.perf_counter_ns() - start)\n"
    "        array[...] = 1\n"
    "    return sorted(out)[len(out) // 2]\n".

%% What was measured of one size, in us.
of_size({Name, Bytes, Times}) ->
    Bin = binary:copy(<<1.0:64/float-native>>, Bytes div 8),
    Dims = {Bytes div 8},
    {ok, Copy} = py:call('__main__', copies, [Bytes, Times]),
    {ok, Protect} = py:call('__main__', protects, [Bytes, Times]),
    {ok, _} = py:call('__main__', hold, [Bytes]),
    {ok, Array} = py_array:from_binary(Bin, float64, Dims),
    First = median(fun() -> first_sight(Bytes) end, 5),
    Shared = fun(F, A) -> {ok, _} = py:call('__main__', F, A, #{}, #{arrays => shared}) end,
    _ = Shared(same, [Array]),
    Plain = median(fun() -> {ok, none} = py:call('__main__', drop, [1]) end, ?CALLS),
    Figures = [
        {plain, Plain},
        {argument, median(fun() -> {ok, none} = py:call('__main__', drop, [Array]) end, ?CALLS)},
        {again, median(fun() -> Shared(same, [Array]) end, ?CALLS)},
        {first, First},
        {from_binary, collected(fun() -> {ok, _} = py_array:from_binary(Bin, float64, Dims) end, Times)},
        {to_binary, median(fun() -> {ok, _} = py_array:to_binary(Array) end, ?CALLS)},
        {result, collected(fun() -> Shared(held_one, [Bytes]) end, Times)},
        {empty, collected(fun() -> {ok, _} = py:call('__main__', empty, [Bytes]) end, Times)},
        {copy, Copy / 1000},
        {protect, Protect / 1000}
    ],
    [{{Name, What}, Value} || {What, Value} <- Figures].

%% Of an array in a segment that the worker has not seen.
first_sight(Bytes) ->
    {ok, Array} = py_array:new(float64, {max(Bytes, 65 bsl 20) div 8 + erlang:unique_integer([positive]) rem 100000}),
    ok = py_array:seal(Array),
    %% The worker has gone to sleep meanwhile.
    _ = [py:call('__main__', drop, [I]) || I <- lists:seq(1, 200)],
    T0 = erlang:monotonic_time(),
    {ok, none} = py:call('__main__', drop, [Array]),
    {value, erlang:monotonic_time() - T0}.

median(Fun, Times) ->
    Samples = [
        begin
            T0 = erlang:monotonic_time(),
            case Fun() of
                {value, Native} -> Native;
                _ -> erlang:monotonic_time() - T0
            end
        end
     || _ <- lists:seq(1, Times)
    ],
    bench_result:nanoseconds(bench_result:median(Samples)) / 1000.

%% Each array is garbage before the next is made, as in a program that goes through many. The first
%% takes memory that nobody has touched.
collected(Fun, Times) ->
    _ = Fun(),
    median(
        fun() ->
            true = erlang:garbage_collect(),
            T0 = erlang:monotonic_time(),
            _ = Fun(),
            {value, erlang:monotonic_time() - T0}
        end,
        Times
    ).

results(Name, Rounds) ->
    Get = fun(What) -> [maps:get({Name, What}, R) || R <- Rounds] end,
    Sum = fun(Terms) -> [lists:sum(Row) || Row <- transpose(Terms)] end,
    Scaled = fun(Values, Factor) -> [V * Factor || V <- Values] end,
    New = fun(What, Text, Floors) ->
        bench_result:new("arrays", "array " ++ Name ++ ", " ++ Text, us, Get(What), #{floors => Floors})
    end,
    Plain = Get(plain),
    [
        New(argument, "argument", Plain),
        New(again, "argument and result", Plain),
        New(first, "first sight", Plain),
        New(from_binary, "from_binary", Get(copy)),
        New(to_binary, "to_binary", Plain),
        New(result, "result of numpy", Sum([Get(copy), Scaled(Get(protect), 1), Plain])),
        New(empty, "erlang.empty", Sum([Get(protect), Plain]))
    ].

transpose([First | _] = Lists) ->
    [[lists:nth(I, L) || L <- Lists] || I <- lists:seq(1, length(First))].
