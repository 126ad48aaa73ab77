%% SPDX-License-Identifier: Apache-2.0

%% @doc Runs properties with PropEr: a fixed number of tests from a seed that is fixed,
%% too, unless the OS variable EP_SEED is `random' or three numbers, as a failure prints
%% them. Debian's package has no header file, so its functions are called as they are.
-module(py_prop).

-export([is_there/0, forall/2, check/3, say/2]).

-define(SEED, {20, 25, 31}).

is_there() ->
    code:ensure_loaded(proper) =:= {module, proper}.

%% That the predicate holds. It may fail with an exception: PropEr's own way to report
%% those needs a function that Erlang no longer has.
forall(Generator, Predicate) ->
    proper:forall(Generator, fun(Value) ->
        try
            Predicate(Value)
        catch
            Class:Reason:Stack ->
                proper:whenfail(
                    fun() -> say("~p:~tp~n~tp~n", [Class, Reason, Stack]) end, fun() -> false end
                )
        end
    end).

check(Name, Property, N) ->
    Seed = seed(os:getenv("EP_SEED")),
    Seeded = proper:setup(
        fun() ->
            _ = proper_arith:rand_start(Seed),
            fun() -> ok end
        end,
        Property
    ),
    Print = fun say/2,
    Result = proper:quickcheck(Seeded, [{numtests, N}, {on_output, Print}, nocolors, long_result]),
    Text = said(),
    case Result of
        true ->
            ok;
        _ ->
            {A, B, C} = Seed,
            ct:fail("~s fails with EP_SEED=~b,~b,~b:~n~ts~n~tp", [Name, A, B, C, Text, Result])
    end.

%% What PropEr prints is kept for the report.
say(Format, Args) ->
    _ = put(?MODULE, [io_lib:format(Format, Args) | kept()]),
    ok.

said() ->
    Text = lists:reverse(kept()),
    _ = erase(?MODULE),
    Text.

kept() ->
    case get(?MODULE) of
        undefined -> [];
        Kept -> Kept
    end.

seed(false) ->
    ?SEED;
seed("random") ->
    erlang:timestamp();
seed(Text) ->
    [A, B, C] = [list_to_integer(N) || N <- string:lexemes(Text, ", ")],
    {A, B, C}.
