%% SPDX-License-Identifier: Apache-2.0

%% @doc Runs properties with PropEr: a fixed number of tests from a seed that is fixed,
%% too, unless the OS variable EP_SEED is `random' or three numbers, as a failure prints
%% them. Debian's package has no header file, so its functions are called as they are.
-module(py_prop).

-export([is_there/0, check/3]).

-define(SEED, {20, 25, 31}).

is_there() ->
    code:ensure_loaded(proper) =:= {module, proper}.

check(Name, Property, N) ->
    Seed = seed(os:getenv("EP_SEED")),
    Seeded = proper:setup(
        fun() ->
            _ = proper_arith:rand_start(Seed),
            fun() -> ok end
        end,
        Property
    ),
    Self = self(),
    Output = make_ref(),
    Print = fun(Format, Args) -> Self ! {Output, io_lib:format(Format, Args)}, ok end,
    Result = proper:quickcheck(Seeded, [{numtests, N}, {on_output, Print}, nocolors, long_result]),
    Text = collect(Output),
    case Result of
        true ->
            ok;
        _ ->
            {A, B, C} = Seed,
            ct:fail("~s fails with EP_SEED=~b,~b,~b:~n~ts~n~tp", [Name, A, B, C, Text, Result])
    end.

collect(Output) ->
    receive
        {Output, Text} -> [Text | collect(Output)]
    after 0 -> []
    end.

seed(false) ->
    ?SEED;
seed("random") ->
    erlang:timestamp();
seed(Text) ->
    [A, B, C] = [list_to_integer(N) || N <- string:lexemes(Text, ", ")],
    {A, B, C}.
