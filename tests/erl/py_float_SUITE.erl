%% SPDX-License-Identifier: Apache-2.0

%% @doc Floats stay exact, and the library leaves the floating-point mode of the VM and of
%% Python alone. make test-perf runs this against the PERF_BUILD, whose -ffast-math could
%% break both: linked in, it makes a whole process flush denormals to zero.
-module(py_float_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(SMALLEST_NORMAL, 2.2250738585072014e-308).
-define(SMALLEST, 5.0e-324).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++ [links_no_code_that_sets_the_mode].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        returns_every_bit_of_special_floats,
        tells_nan_and_infinities_apart,
        keeps_denormals_in_erlang_arithmetic,
        keeps_denormals_in_python_arithmetic
    ].

init_per_suite(Config) ->
    Config.

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    py_test:stop().

end_per_suite(_Config) ->
    py_test:stop().

returns_every_bit_of_special_floats(_Config) ->
    Floats = [float_of(Bits) || Bits <- special_bits()],
    {ok, Back} = py:eval("x", #{x => Floats}),
    ?assertEqual([<<F/float>> || F <- Floats], [<<F/float>> || F <- Back]),
    {ok, Hex} = py:eval("[v.hex() for v in x]", #{x => [-0.0, ?SMALLEST]}),
    ?assertEqual([<<"-0x0.0p+0">>, <<"0x0.0000000000001p-1022">>], Hex).

%% Zeros, the ends of the denormal and of the normal range, and values whose sums change
%% when their order does.
special_bits() ->
    Positive = [
        16#0000000000000000,
        16#0000000000000001,
        16#0008000000000000,
        16#000FFFFFFFFFFFFF,
        16#0010000000000000,
        16#3CA0000000000000,
        16#3FEFFFFFFFFFFFFF,
        16#3FF0000000000001,
        16#4340000000000001,
        16#7FEFFFFFFFFFFFFF
    ],
    Positive ++ [16#8000000000000000 bor B || B <- Positive].

float_of(Bits) ->
    <<F/float>> = <<Bits:64>>,
    F.

tells_nan_and_infinities_apart(_Config) ->
    ?assertEqual(
        {ok, [nan, nan, infinity, neg_infinity, 1.7976931348623157e308]},
        py:eval("[float('nan'), -float('nan'), 1e309, -1e309, 1.7976931348623157e308]")
    ).

keeps_denormals_in_erlang_arithmetic(_Config) ->
    Halves = on_every_scheduler(fun() ->
        %% A call first, so that this very thread has been in the NIF.
        {ok, 4.0} = py:call(math, sqrt, [16]),
        {half(?SMALLEST_NORMAL), half(2 * ?SMALLEST), ?SMALLEST * one()}
    end),
    lists:foreach(
        fun(Half) -> ?assertEqual({1.1125369292536007e-308, ?SMALLEST, ?SMALLEST}, Half) end, Halves
    ).

keeps_denormals_in_python_arithmetic(_Config) ->
    Code = "[x / 2 == 1.1125369292536007e-308, y / 2 == 5e-324, y * 1.0 > 0.0]",
    Locals = #{x => ?SMALLEST_NORMAL, y => 2 * ?SMALLEST},
    lists:foreach(
        fun(Ctx) -> ?assertEqual({ok, [true, true, true]}, py:eval(Ctx, Code, Locals)) end,
        py_context_router:contexts()
    ),
    %% And in a thread that Python starts.
    ok = py:exec(
        "import threading\n"
        "def halves(x):\n"
        "    out = []\n"
        "    t = threading.Thread(target=lambda: out.append(x / 2))\n"
        "    t.start()\n"
        "    t.join()\n"
        "    return out\n"
    ),
    ?assertEqual({ok, [1.1125369292536007e-308]}, py:call('__main__', halves, [?SMALLEST_NORMAL])).

%% gcc links crtfastmath.o for -ffast-math; its one function is this. The files are not
%% stripped, so its name would be there.
links_no_code_that_sets_the_mode(_Config) ->
    [
        begin
            {ok, Bytes} = file:read_file(filename:join(py_paths:priv_dir(), File)),
            ?assertMatch({_, _}, binary:match(Bytes, <<"ep_ring_reserve">>), File),
            ?assertEqual(nomatch, binary:match(Bytes, <<"set_fast_math">>), File)
        end
     || File <- ["py_nif.so", "ep_worker"]
    ].

%% The compiler must not do the arithmetic itself.
half(X) -> X / two().

one() -> binary_to_float(<<"1.0">>).

two() -> binary_to_float(<<"2.0">>).

on_every_scheduler(Fun) ->
    Pids = [
        spawn_opt(fun() -> exit({result, Fun()}) end, [monitor, {scheduler, N}])
     || N <- lists:seq(1, erlang:system_info(schedulers_online))
    ],
    [
        receive
            {'DOWN', Ref, process, Pid, {result, Result}} -> Result;
            {'DOWN', Ref, process, Pid, Other} -> error(Other)
        end
     || {Pid, Ref} <- Pids
    ].
