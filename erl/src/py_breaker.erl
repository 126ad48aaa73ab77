%% SPDX-License-Identifier: Apache-2.0

%% @private When to start a worker process again, and whether its contexts are available
%% meanwhile. Holds no process and no clock, but for the chance in {@link py_backoff}.
%%
%% | event                                   | circuit closed           | circuit open     |
%% |-----------------------------------------|--------------------------|------------------|
%% | died after it was of use                | again at once            | closed; at once  |
%% | died young: soon, and of no use         | again at once; the       | again later      |
%% |                                         | second later; the third  |                  |
%% |                                         | in a row opens           |                  |
%% | did not start                           | opened; again later      | again later      |
%% | is up for a while                       | -                        | closed           |
%%
%% Later: after 50 ms, then twice that, up to 30 s. While the circuit is open, one process at
%% a time is tried; requests that come before it is up are refused.
-module(py_breaker).

-export([new/0, died/2, not_started/1, healthy/1]).

-export_type([breaker/0, verdict/0]).

-define(BACKOFF_MIN_MS, 50).
-define(BACKOFF_MAX_MS, 30000).
-define(YOUNG_DEATHS, 3).

-record(breaker, {
    is_open = false :: boolean(),
    young = 0 :: non_neg_integer(),
    backoff = py_backoff:new(0, ?BACKOFF_MIN_MS, ?BACKOFF_MAX_MS) :: py_backoff:backoff()
}).

-opaque breaker() :: #breaker{}.
%% Requests wait for the next start, or are refused until then. changed: the circuit was
%% opened or closed by this.
-type verdict() :: {queue | refuse, Ms :: non_neg_integer(), changed | unchanged}.

-spec new() -> breaker().
new() ->
    #breaker{}.

-spec died(young | useful, breaker()) -> {verdict(), breaker()}.
died(useful, Breaker) ->
    {Changed, Closed} = healthy(Breaker),
    {{queue, 0, Changed}, Closed};
died(young, Breaker = #breaker{is_open = false, young = 0}) ->
    {{queue, 0, unchanged}, Breaker#breaker{young = 1}};
died(young, Breaker = #breaker{is_open = false, young = Young}) when Young + 1 < ?YOUNG_DEATHS ->
    {Ms, Later} = later(Breaker#breaker{young = Young + 1}),
    {{queue, Ms, unchanged}, Later};
died(young, Breaker) ->
    open(Breaker).

-spec not_started(breaker()) -> {verdict(), breaker()}.
not_started(Breaker) ->
    open(Breaker).

-spec healthy(breaker()) -> {changed | unchanged, breaker()}.
healthy(#breaker{is_open = IsOpen, backoff = Backoff}) ->
    {changed(IsOpen), #breaker{backoff = py_backoff:reset(Backoff)}}.

%% Internal

open(Breaker = #breaker{is_open = WasOpen}) ->
    {Ms, Later} = later(Breaker#breaker{is_open = true}),
    {{refuse, Ms, changed(not WasOpen)}, Later}.

later(Breaker = #breaker{backoff = Backoff}) ->
    {Ms, Next} = py_backoff:next(Backoff),
    {Ms, Breaker#breaker{backoff = Next}}.

changed(true) -> changed;
changed(false) -> unchanged.
