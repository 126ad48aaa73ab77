%% SPDX-License-Identifier: Apache-2.0

%% @doc Counts checks and prints what a storm came to.
-module(chaos_report).

-export([create/0, check/3, finish/0, percentiles/1, count/2]).

-define(COUNTS, chaos_counts).
-define(FAILURES, chaos_failures).

-spec create() -> ok.
create() ->
    ?FAILURES = ets:new(?FAILURES, [named_table, public, ordered_set]),
    persistent_term:put(?COUNTS, counters:new(2, [])).

%% @doc One check: prints it if it fails.
-spec check(iodata(), boolean(), term()) -> boolean().
check(_What, true, _Detail) ->
    ok = counters:add(persistent_term:get(?COUNTS), 1, 1),
    true;
check(What, false, Detail) ->
    ok = counters:add(persistent_term:get(?COUNTS), 2, 1),
    Text = io_lib:format("FAILED ~ts~n~ts~n", [What, io_lib:format("  ~tp", [Detail], [{chars_limit, 6000}])]),
    true = ets:insert(?FAILURES, {erlang:unique_integer([monotonic]), Text}),
    io:put_chars(Text),
    false.

%% @doc Prints what failed once more, for workers that die have written much since, and the counts; whether nothing failed.
-spec finish() -> boolean().
finish() ->
    Counts = persistent_term:get(?COUNTS),
    Failed = counters:get(Counts, 2),
    _ = [io:put_chars(Text) || {_, Text} <- ets:tab2list(?FAILURES)],
    io:format("~b passed, ~b failed~n", [counters:get(Counts, 1), Failed]),
    Failed =:= 0.

-spec percentiles([number()]) -> {number(), number(), number()}.
percentiles([]) ->
    {0, 0, 0};
percentiles(Values) ->
    Sorted = list_to_tuple(lists:sort(Values)),
    N = tuple_size(Sorted),
    At = fun(P) -> element(max(1, ceil(P * N / 100)), Sorted) end,
    {At(50), At(99), At(100)}.

-spec count(chaos_checker:law(), [chaos_checker:violation()]) -> non_neg_integer().
count(Law, Violations) ->
    length([V || V = {L, _, _} <- Violations, L =:= Law]).
