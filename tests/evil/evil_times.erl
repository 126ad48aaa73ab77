%% SPDX-License-Identifier: Apache-2.0

%% @doc How long the functions of the NIF took of the CPU of normal schedulers: what
%% timed/evil_timed.c wrote to the file of EVIL_TIMES.
-module(evil_times).

-export([read/0, longer/1, stolen/1]).

-type times() :: [
    {string(), Calls :: non_neg_integer(), LongestNs :: non_neg_integer(), Longer :: non_neg_integer(),
        Stolen :: non_neg_integer()}
].

%% @doc The longest first. Without the trial, which the measure has to have found too long.
-spec read() -> times().
read() ->
    Path = os:getenv("EVIL_TIMES"),
    true = is_list(Path),
    {ok, Bytes} = file:read_file(Path),
    Times = [
        {string:trim(binary_to_list(Name), trailing, [0]), Calls, Longest, Longer, Stolen}
     || <<Name:32/binary, Calls:64/native, Longest:64/native, Longer:64/native, Stolen:64/native>> <= Bytes,
        Calls > 0
    ],
    %% A NIF that is not the timed one writes nothing.
    true = length(Times) > 1,
    {value, {_, 3, _, Found, _}, Others} = lists:keytake("trial", 1, Times),
    true = Found > 0,
    lists:reverse(lists:keysort(3, Others)).

%% @doc Those that took longer than they may.
-spec longer(times()) -> times().
longer(Times) ->
    [Time || Time = {_, _, _, Longer, _} <- Times, Longer > 0].

%% @doc How many calls took long by their CPU time alone: their processor did not run.
-spec stolen(times()) -> non_neg_integer().
stolen(Times) ->
    lists:sum([Stolen || {_, _, _, _, Stolen} <- Times]).
