%% SPDX-License-Identifier: Apache-2.0

%% @private The sandbox of worker processes: its levels, and what of them is in force.
-module(py_sandbox).

-export([is_level/1, report/1, attached/1]).

-export_type([level/0, feature/0, report/0]).

-type level() :: none | default | strict.
-type feature() :: no_new_privs | capabilities | seccomp | landlock_tracing | landlock_signals | landlock_files.
-type report() :: #{level := level(), in_force := [feature()], missing := [feature()]}.

%% As in enum ep_sandbox_level and enum ep_sandbox_feature.
-define(LEVELS, {none, default, strict}).
-define(FEATURES, [no_new_privs, capabilities, seccomp, landlock_tracing, landlock_signals, landlock_files]).

%% @doc Whether it is a value of the key `sandbox'.
-spec is_level(term()) -> boolean().
is_level(Level) ->
    lists:member(Level, tuple_to_list(?LEVELS)).

%% @doc Of the word that a worker process says of itself; `undefined': there is no process.
-spec report(non_neg_integer() | undefined) -> report() | undefined.
report(undefined) ->
    undefined;
report(Word) ->
    <<Missing, InForce, Level>> = <<Word:24>>,
    #{level => element(Level + 1, ?LEVELS), in_force => features(InForce), missing => features(Missing)}.

%% @doc A lane has a place in a process: logs what is missing there, once.
-spec attached(ep_nif:lane()) -> ok.
attached(Lane) ->
    #{sandbox := Word} = ep_nif:lane_stats(Lane),
    case report(Word) of
        #{level := Level, missing := [_ | _] = Missing} -> py_report:sandbox_lacks(Level, Missing);
        _ -> ok
    end.

%% Internal

features(Bits) ->
    [Feature || {N, Feature} <- lists:enumerate(0, ?FEATURES), Bits band (1 bsl N) =/= 0].
