%% SPDX-License-Identifier: Apache-2.0

%% How long a request may take beyond its budget, callbacks of other requests included.
-define(GRACE_MS, 3000).
%% How long one without a budget may take: what runs before it, stopped processes, restarts.
-define(PATIENCE_MS, 15000).

-type id() :: pos_integer().
%% Of a value: what f/1 says, or a checksum of many bytes.
-type value() :: integer() | {bytes, Size :: non_neg_integer(), Md5 :: binary()}.
-type outcome() ::
    {ok, value(), OsPid :: integer() | undefined}
    %% a request or a thread inside of it failed; it said so
    | {inner, binary()}
    | {error, term()}
    | {raised, error | exit | throw, term()}
    | hanging.

-record(request, {
    id :: id(),
    caller :: pid() | undefined,
    %% helper: a callback of a Python thread, which no caller waits for
    role = caller :: caller | helper,
    kind :: atom(),
    context :: pid() | undefined,
    budget = infinity :: timeout(),
    %% a request around it has a budget, which may end it
    is_limited = false :: boolean(),
    mark = none :: none | file | state,
    expected :: value() | none,
    invoked = 0 :: integer()
}).

-record(history, {
    requests = [] :: [#request{}],
    outcomes = #{} :: #{id() => [{Ns :: integer(), outcome()}]},
    events = [] :: [{Ns :: integer(), chaos_history:event()}],
    %% how often each request began
    begun = #{} :: #{id() => pos_integer()}
}).
