%% SPDX-License-Identifier: Apache-2.0

%% @private What a worker process wrote to its standard error, as text for people. It may be
%% anything: bytes of a cut character, colours, half a line.
-module(py_stderr).

-export([text/1, python_stack/1, last_lines/3, indent/1]).

%% How Python begins when it tells of a crash.
-define(BEGINNINGS, "^(Fatal Python error: |Current thread 0x|Stack \\(most recent call first)").
%% Lines that belong to that.
-define(OF_STACK, "^(Extension modules: |Fatal Python error: |Python runtime state: |(Current thread|Thread) 0x|Stack \\(most|  |$)").

%% @doc Valid UTF-8, without control characters other than the ends of lines.
-spec text(binary()) -> binary().
text(Bytes) ->
    Plain = re:replace(utf8(Bytes), "\\x1b\\[[0-9;]*[A-Za-z]|\\r", "", [global, unicode, {return, binary}]),
    re:replace(Plain, "[\\x00-\\x08\\x0b-\\x1f\\x7f]", "?", [global, unicode, {return, binary}]).

utf8(Bytes) ->
    case unicode:characters_to_binary(Bytes) of
        Good when is_binary(Good) -> Good;
        {incomplete, Good, _Cut} -> <<Good/binary, "?">>;
        {error, Good, <<_, Rest/binary>>} -> <<Good/binary, "?", (utf8(Rest))/binary>>
    end.

%% @doc Takes the stack that Python wrote when it crashed out of a text.
-spec python_stack(binary()) -> {Stack :: binary() | undefined, Rest :: binary()}.
python_stack(Text) ->
    case re:run(Text, ?BEGINNINGS, [multiline, global, {capture, first}]) of
        nomatch ->
            {undefined, Text};
        {match, Found} ->
            Starts = [Start || [{Start, _}] <- Found],
            {Before, After} = split_binary(Text, beginning(Text, Starts)),
            {Stack, Rest} = lists:splitwith(fun is_of_stack/1, lines(After)),
            {join(Stack), <<Before/binary, (join(Rest))/binary>>}
    end.

%% The last crash; "Fatal Python error" stands before the threads.
beginning(Text, Starts) ->
    case [S || S <- Starts, binary:part(Text, S, 5) =:= <<"Fatal">>] of
        [] -> hd(Starts);
        Fatal -> lists:last(Fatal)
    end.

is_of_stack(Line) ->
    re:run(Line, ?OF_STACK, [{capture, none}]) =:= match.

%% @doc The last of the lines that are not empty: so many, of so many characters together.
-spec last_lines(binary(), pos_integer(), pos_integer()) -> [binary()].
last_lines(Text, Lines, Chars) ->
    Short = string:slice(Text, max(0, string:length(Text) - Chars)),
    Full = [L || L <- lines(Short), string:trim(L) =/= <<>>],
    lists:nthtail(max(0, length(Full) - Lines), Full).

%% @doc Marks lines as what somebody else wrote.
-spec indent([binary()]) -> iolist().
indent(Lines) ->
    [["\n  | ", Line] || Line <- Lines].

%% Internal

lines(Text) ->
    binary:split(Text, <<"\n">>, [global, trim]).

join(Lines) ->
    iolist_to_binary(lists:join(<<"\n">>, Lines)).
