%% SPDX-License-Identifier: Apache-2.0

%% @private Writes JSON: maps, lists, binaries, atoms and numbers. OTP has a module
%% for it from release 27 on only.
-module(bench_json).

-export([encode/1]).

-spec encode(term()) -> iodata().
encode(Map) when is_map(Map) ->
    Pairs = [[string(key(K)), $:, encode(V)] || {K, V} <- lists:sort(maps:to_list(Map))],
    [${, lists:join(",\n", Pairs), $}];
encode(List) when is_list(List) ->
    [$[, lists:join($,, [encode(V) || V <- List]), $]];
encode(Binary) when is_binary(Binary) -> string(Binary);
encode(undefined) -> "null";
encode(Atom) when Atom =:= true; Atom =:= false; Atom =:= null -> atom_to_list(Atom);
encode(Atom) when is_atom(Atom) -> string(atom_to_binary(Atom));
encode(Integer) when is_integer(Integer) -> integer_to_list(Integer);
encode(Float) when is_float(Float) -> io_lib:format("~.6g", [Float]).

key(Atom) when is_atom(Atom) -> atom_to_binary(Atom);
key(Binary) when is_binary(Binary) -> Binary.

string(Binary) ->
    [$", [escape(C) || <<C/utf8>> <= Binary], $"].

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape(C) when C < 32 -> io_lib:format("\\u~4.16.0b", [C]);
escape(C) -> <<C/utf8>>.
