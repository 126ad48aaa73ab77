%% SPDX-License-Identifier: Apache-2.0

%% @private Asks interpreters, beside the requests that run in them: functions of the Python
%% module `erlang._maintenance'.
-module(py_inquiry).

-export([ask/4, ask/5]).
-export([answer/5]).

-export_type([how/0, answer/0]).

%% first: requests that a context has not begun wait for the end of the function, also if the
%% answer comes too late.
-type how() :: beside | first.
-type answer() :: {ok, term()} | {error, term()} | timeout.

-define(TIMEOUT_MS, 5000).

%% @doc Asks for five seconds.
-spec ask([{py:context(), ep_nif:lane()}], how(), atom(), list()) -> [{py:context(), ep_nif:lane(), answer()}].
ask(Contexts, How, Function, Args) ->
    ask(Contexts, How, Function, Args, ?TIMEOUT_MS).

%% @doc Asks all of them at once. A context whose worker process is being started at the moment
%% is left out: what it starts with is newer than the question. In a process of its own, so
%% that no late answer reaches the caller.
-spec ask([{py:context(), ep_nif:lane()}], how(), atom(), list(), timeout()) ->
    [{py:context(), ep_nif:lane(), answer()}].
ask(Contexts, How, Function, Args, Timeout) ->
    {_Pid, Ref} = spawn_monitor(?MODULE, answer, [Contexts, How, Function, Args, Timeout]),
    receive
        {'DOWN', Ref, process, _, {answers, Answers}} -> Answers;
        %% Somebody killed it.
        {'DOWN', Ref, process, _, _Reason} -> []
    end.

%% @private
-spec answer([{py:context(), ep_nif:lane()}], how(), atom(), list(), timeout()) -> no_return().
answer(Contexts, How, Function, Args, Timeout) ->
    Tags = maps:from_list([
        {Tag, Context}
     || Context = {_Ctx, Lane} <- Contexts,
        Tag <- [make_ref()],
        inquire(How, Lane, Tag, Function, Args) =:= ok
    ]),
    exit({answers, await(Tags, deadline(Timeout))}).

inquire(beside, Lane, Tag, Function, Args) -> ep_nif:inquire(Lane, Tag, Function, Args);
inquire(first, Lane, Tag, Function, Args) -> ep_nif:inquire_first(Lane, Tag, Function, Args).

deadline(infinity) -> infinity;
deadline(Ms) -> erlang:monotonic_time(millisecond) + Ms.

await(Tags, _Deadline) when map_size(Tags) =:= 0 ->
    [];
await(Tags, Deadline) ->
    receive
        {py_maintained, Tag, Answer} when is_map_key(Tag, Tags) ->
            {{Ctx, Lane}, Left} = maps:take(Tag, Tags),
            [{Ctx, Lane, Answer} | await(Left, Deadline)]
    after left(Deadline) ->
        [{Ctx, Lane, timeout} || {Ctx, Lane} <- maps:values(Tags)]
    end.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).
