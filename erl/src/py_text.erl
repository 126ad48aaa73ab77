%% SPDX-License-Identifier: Apache-2.0

%% @private Names and code as the NIF takes them: an atom or a binary of UTF-8.
-module(py_text).

-export([text/1, check/1, binary/1, utf8/1]).

%% @doc Text as an atom or binary, which the NIF takes as they are.
-spec text(py:text()) -> atom() | binary().
text(Text) when is_atom(Text); is_binary(Text) ->
    Text;
text(Text) when is_list(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> py_error_info:refuse(arguments)
    catch
        error:badarg -> py_error_info:refuse(arguments)
    end;
text(_) ->
    py_error_info:refuse(arguments).

%% @doc Checks a name or code without converting it.
-spec check(py:text()) -> ok.
check(Text) when is_atom(Text); is_binary(Text) ->
    ok;
check(Text) ->
    _ = text(Text),
    ok.

%% @doc Text as a binary, whatever its form: the key of a table.
-spec binary(py:text()) -> binary().
binary(Text) ->
    case text(Text) of
        Atom when is_atom(Atom) -> atom_to_binary(Atom);
        Binary -> Binary
    end.

%% @doc Text as a binary of UTF-8, while the application runs.
-spec utf8(py:text()) -> binary().
utf8(Text) ->
    ok = py_error_info:ensure_started(),
    case unicode:characters_to_binary(binary(Text)) of
        Binary when is_binary(Binary) -> Binary;
        _ -> py_error_info:refuse(arguments)
    end.
