%% SPDX-License-Identifier: Apache-2.0

%% @doc Python that calls Erlang that calls Python, in one process and one context.
%%
%% In `rebar3 shell' in the repository, or after `make build' in
%% `erl -pa _build/default/lib/erlang_python/{ebin,examples}':
%%
%%     1> reentrant_demo:start().
%%     2> reentrant_demo:demo_all().
%%
%% Each demo_* function also fails when what it shows does not hold. docs/reentrancy.md
%% explains what happens.
-module(reentrant_demo).

-export([start/0, demo_all/0]).
-export([demo_arithmetic/0, demo_fibonacci/0, demo_nesting/0, demo_objects/0, demo_errors/0]).

-define(MEMO, {?MODULE, fibonacci}).

%% @doc Starts the application, registers what Python calls, and loads the Python half
%% into the namespace of the calling process.
-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    lists:foreach(
        fun({Name, Fun}) -> ok = py:register_function(Name, Fun) end,
        [
            {demo_add, fun([A, B]) -> A + B end},
            {demo_multiply, fun([A, B]) -> A * B end},
            {demo_fibonacci, fun([N]) -> fibonacci(N) end},
            {demo_level, fun([N, Top, Path]) -> level(N, Top, Path) end},
            {demo_approve, fun([Owner, Amount]) -> approve(Owner, Amount) end},
            {demo_fail, fun fail/1}
        ]
    ),
    {ok, Code} = file:read_file(python_file()),
    ok = py:exec(Code).

-spec fail([term()]) -> no_return().
fail([Why]) ->
    exit({sorry, Why}).

%% @doc All of them. start/0 first, in the same process.
-spec demo_all() -> ok.
demo_all() ->
    lists:foreach(fun(Demo) -> ok = Demo() end, [
        fun demo_arithmetic/0,
        fun demo_fibonacci/0,
        fun demo_nesting/0,
        fun demo_objects/0,
        fun demo_errors/0
    ]).

%% @doc Python calls Erlang, many times in one call.
-spec demo_arithmetic() -> ok.
demo_arithmetic() ->
    {ok, 5} = py:call('__main__', polynomial, [[2, -6, 2, -1], 3]),
    say("arithmetic: Python evaluates 2x^3 - 6x^2 + 2x - 1 at 3 with Erlang's + and *: 5", []).

%% @doc Erlang remembers what Python computed, in the process dictionary: callbacks run
%% in the process that waits for Python.
-spec demo_fibonacci() -> ok.
demo_fibonacci() ->
    _ = put(?MEMO, #{}),
    N = 80,
    Result = fibonacci(N),
    23416728348467685 = Result,
    Computed = map_size(erase(?MEMO)),
    Computed = N + 1,
    say("Fibonacci: number ~b is ~b; Python computed ~b of them, each once", [N, Result, Computed]).

%% @doc Twenty levels of Python, each called by one of Erlang, on one context.
-spec demo_nesting() -> ok.
demo_nesting() ->
    Path = level(1, 40, []),
    20 = length([level || <<"python ", _/binary>> <- Path]),
    20 = length([level || <<"erlang ", _/binary>> <- Path]),
    say("nesting: ~ts, ..., ~ts", [lists:join(", ", lists:sublist(Path, 3)), lists:last(Path)]).

%% @doc Methods of Python objects ask Erlang, which asks the same objects.
-spec demo_objects() -> ok.
demo_objects() ->
    {ok, #{<<"alice">> := 30, <<"bob">> := 75, <<"refused">> := Text}} =
        py:call('__main__', objects, []),
    say("objects: alice has 30, bob has 75; then ~ts", [Text]).

%% @doc A callback that fails is an exception in Python.
-spec demo_errors() -> ok.
demo_errors() ->
    {ok, {<<"exit">>, {<<"sorry">>, <<"no luck">>}, Text}} =
        py:call('__main__', failing_callback, []),
    say("errors: Python caught a CallbackError: ~ts", [Text]).

%% What Python calls.

fibonacci(N) ->
    case get(?MEMO) of
        #{N := Known} ->
            Known;
        _ ->
            {ok, Computed} = py:call('__main__', fibonacci, [N]),
            _ = put(?MEMO, (get(?MEMO))#{N => Computed}),
            Computed
    end.

level(N, Top, Path) ->
    {ok, Result} = py:call('__main__', level, [N + 1, Top, Path ++ [erlang(N)]]),
    Result.

erlang(N) ->
    iolist_to_binary(io_lib:format("erlang ~b", [N])).

approve(Owner, Amount) ->
    {ok, Balance} = py:call('__main__', balance_of, [Owner]),
    Amount =< Balance.

%% Internal

%% Beside the compiled module, where rebar3 puts it, or beside the source.
python_file() ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile), ""),
    Places = [code:which(?MODULE), Source],
    Candidates = [filename:rootname(Place) ++ ".py" || Place <- Places, is_list(Place)],
    case lists:filter(fun filelib:is_regular/1, Candidates) of
        [File | _] -> File;
        [] -> error({no_python_half, Candidates})
    end.

say(Format, Args) ->
    io:format(Format ++ "~n", Args).
