%% SPDX-License-Identifier: Apache-2.0

%% @private Which of the words that are known comes nearest to one that is not.
-module(py_nearest).

-export([hint/2]).

%% Farther away it is no typing error.
-define(FAR, 3).

%% @doc A part of a sentence; empty if none is near.
-spec hint(term(), [atom()]) -> string().
hint(Word, Known) when is_atom(Word); is_binary(Word) ->
    Text = letters(Word),
    case lists:sort([{distance(Text, letters(K)), K} || K <- Known]) of
        [{Distance, Nearest} | _] when Distance < ?FAR, Distance < length(Text) ->
            " (is " ++ atom_to_list(Nearest) ++ " meant?)";
        _ ->
            ""
    end;
hint(_Word, _Known) ->
    "".

%% Enough to tell it from any that is known.
letters(Atom) when is_atom(Atom) -> letters(atom_to_binary(Atom));
letters(Binary) -> binary_to_list(binary:part(Binary, 0, min(byte_size(Binary), 64))).

%% Letters to insert, to take away or to change: row by row of the usual table.
distance(A, B) ->
    lists:last(lists:foldl(fun(Letter, Row) -> row(Letter, B, Row) end, lists:seq(0, length(B)), A)).

row(Letter, B, Row = [First | _]) ->
    row(Letter, B, Row, First + 1, []).

row(_Letter, [], [_], Left, Acc) ->
    lists:reverse([Left | Acc]);
row(Letter, [L | B], [Diagonal | Row = [Above | _]], Left, Acc) ->
    Changed =
        case L of
            Letter -> Diagonal;
            _ -> Diagonal + 1
        end,
    row(Letter, B, Row, lists:min([Changed, Above + 1, Left + 1]), [Left | Acc]).
