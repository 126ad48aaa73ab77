%% SPDX-License-Identifier: Apache-2.0

%% @doc A generator in Python makes tokens with pauses, as a language model would. They are shown as
%% they come. The reader acknowledges each, so that Python is never far ahead of it, and cancels when
%% it has read enough: the generator is closed in the middle.
%%
%% `make example NAME=stream_tokens' runs it.
-module(stream_tokens).

-export([main/0, run/3]).

-define(CREDIT, 8).

-spec main() -> ok.
main() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    {Read, End} = run(0.02, 40, fun(Token) -> io:format("~ts ", [Token]) end),
    {ok, Closed} = py:eval("closed"),
    io:format("~nRead ~b tokens, then: ~p. The generator was closed: ~p.~n", [Read, End, Closed]),
    application:stop(erlang_python).

%% @doc Reads Most tokens, with that many seconds between them; Show is called with each.
-spec run(float(), pos_integer(), fun((binary()) -> term())) -> {non_neg_integer(), term()}.
run(Pause, Most, Show) ->
    ok = py:exec(code()),
    {ok, Ref} = py:stream_start('__main__', tokens, [Pause], #{credit => ?CREDIT}),
    read(Ref, 0, Most, Show).

read(Ref, Most, Most, _Show) ->
    ok = py:stream_cancel(Ref),
    {Most, ended(Ref)};
read(Ref, N, Most, Show) ->
    receive
        {py_stream, Ref, {data, Token}} ->
            Show(Token),
            ok = py:stream_ack(Ref),
            read(Ref, N + 1, Most, Show);
        {py_stream, Ref, End} ->
            {N, End}
    end.

%% Tokens that were on their way come before the end.
ended(Ref) ->
    receive
        {py_stream, Ref, {data, _}} -> ended(Ref);
        {py_stream, Ref, End} -> End
    end.

code() ->
    <<
        "import itertools, time\n"
        "closed = False\n"
        "def tokens(pause):\n"
        "    global closed\n"
        "    try:\n"
        "        for word in itertools.cycle('the quick brown fox jumps over the lazy dog'.split()):\n"
        "            time.sleep(pause)\n"
        "            yield word\n"
        "    finally:\n"
        "        closed = True\n"
    >>.
