%% SPDX-License-Identifier: Apache-2.0

%% @doc How long the functions of the NIF took of the CPU of normal schedulers: what
%% timed/evil_timed.c wrote to the file of EVIL_TIMES.
-module(evil_times).

-export([read/0, longer/1]).

-type times() :: [{string(), Calls :: non_neg_integer(), LongestNs :: non_neg_integer(), Longer :: non_neg_integer()}].

-spec read() -> times().
read() ->
    Path = os:getenv("EVIL_TIMES"),
    true = is_list(Path),
    {ok, Bytes} = file:read_file(Path),
    Times = [
        {string:trim(binary_to_list(Name), trailing, [0]), Calls, Longest, Longer}
     || <<Name:32/binary, Calls:64/native, Longest:64/native, Longer:64/native, _:64>> <= Bytes,
        Calls > 0
    ],
    %% A NIF that is not the timed one writes nothing.
    true = length(Times) > 0,
    lists:reverse(lists:keysort(3, Times)).

%% @doc Those that took longer than they may.
-spec longer(times()) -> times().
longer(Times) ->
    [Time || Time = {_, _, _, Longer} <- Times, Longer > 0].
