#!/usr/bin/env escript
%% SPDX-License-Identifier: Apache-2.0
%% check_arrows.escript BUILD EBIN: fails if a C file uses what a room above its own defines, if C files of a room or
%% Erlang modules use each other in a circle, or if a C file of nif/ or service/ has no header for what others use.
%% BUILD: where CMake has built. What an object uses is asked of its symbols: an #include alone says little.

%% Room, and what it may use besides itself.
-define(ROOMS, [
    {"transport", []},
    {"nif/term", ["transport"]},
    {"nif/lane", ["nif/term", "transport"]},
    {"nif/process", ["nif/lane", "nif/term", "transport"]},
    {"nif/slots", ["nif/lane", "nif/term", "transport"]},
    {"nif/api", ["nif/slots", "nif/process", "nif/lane", "nif/term", "transport"]},
    {"service/launcher", ["transport"]},
    {"service/python", ["transport"]},
    {"service/sandbox", []},
    {"service/worker", ["service/python", "service/sandbox", "transport"]}
]).
%% What is linked together, besides transport/.
-define(PROGRAMS, [["ep_launcher"], ["ep_worker", "ep_sandbox"], ["py_nif_parts", "py_nif"]]).

main([Build, Ebin]) ->
    Transport = symbols(Build, "ep_transport"),
    Programs = [Transport ++ lists:append([symbols(Build, Target) || Target <- Targets]) || Targets <- ?PROGRAMS],
    Symbols = lists:append(Programs),
    Uses = lists:usort(lists:append([uses(Program) || Program <- Programs])),
    Wrong = unknown(Symbols) ++ headerless(Symbols) ++ upward(Uses) ++
        circles("C files", [{A, B} || {A, B, _} <- Uses, room(A) =:= room(B)]) ++
        circles("Erlang modules", calls(Ebin)),
    [io:format(standard_error, "~ts~n", [Line]) || Line <- Wrong],
    Symbols =/= [] orelse io:format(standard_error, "no objects in ~ts: build first~n", [Build]),
    halt(case Wrong =:= [] andalso Symbols =/= [] of true -> 0; false -> 1 end).

%% [{File, defines | uses, Symbol}]
symbols(Build, Target) ->
    Top = filename:join([Build, "CMakeFiles", Target ++ ".dir"]),
    Objects = filelib:wildcard("{transport,nif,service}/**/*.o", Top),
    %% A build tree keeps the objects of files that are gone.
    lists:append([symbols_of(Top, Object) || Object <- Objects, filelib:is_regular(filename:rootname(Object))]).

symbols_of(Top, Object) ->
    File = filename:rootname(Object),
    Lines = string:lexemes(os:cmd("nm -P -g " ++ filename:join(Top, Object)), "\n"),
    [{File, kind(Kind), Name} || Line <- Lines, [Name, Kind | _] <- [string:lexemes(Line, " ")]].

kind("U") -> uses;
kind(_) -> defines.

%% [{User, Definer, Symbol}] of a program.
uses(Symbols) ->
    Definers = maps:from_list([{Name, File} || {File, defines, Name} <- Symbols]),
    lists:usort([
        {File, Definer, Name}
     || {File, uses, Name} <- Symbols, {ok, Definer} <- [maps:find(Name, Definers)], Definer =/= File
    ]).

room(File) ->
    filename:dirname(File).

unknown(Symbols) ->
    Rooms = lists:usort([room(File) || {File, _, _} <- Symbols]),
    ["no arrows are laid down for the room " ++ Room || Room <- Rooms, not lists:keymember(Room, 1, ?ROOMS)].

%% What others use is declared in the header of its file.
headerless(Symbols) ->
    Files = lists:usort([File || {File, defines, Name} <- Symbols, Name =/= "main", Name =/= "nif_init"]),
    [
        [File, " has no header of its own"]
     || File <- Files, not lists:prefix("transport/", File), not filelib:is_regular(filename:rootname(File) ++ ".h")
    ].

upward(Uses) ->
    [
        io_lib:format("~ts uses ~ts of ~ts, but ~ts must not use ~ts", [File, Name, Other, room(File), room(Other)])
     || {File, Other, Name} <- Uses, room(File) =/= room(Other), {_, May} <- [lists:keyfind(room(File), 1, ?ROOMS)],
        not lists:member(room(Other), May)
    ].

circles(What, Edges) ->
    Graph = digraph:new(),
    [digraph:add_vertex(Graph, V) || {A, B} <- Edges, V <- [A, B]],
    [digraph:add_edge(Graph, A, B) || {A, B} <- lists:usort(Edges)],
    [
        io_lib:format("~ts in a circle: ~ts", [What, lists:join(" -> ", digraph:get_short_cycle(Graph, hd(Component)))])
     || Component <- digraph_utils:cyclic_strong_components(Graph)
    ].

%% [{Module, Module}]
calls(Ebin) ->
    {ok, Xref} = xref:start([{xref_mode, modules}]),
    {ok, Own} = xref:add_directory(Xref, Ebin, [{warnings, false}]),
    {ok, Edges} = xref:q(Xref, "ME"),
    xref:stop(Xref),
    [{atom_to_list(A), atom_to_list(B)} || {A, B} <- Edges, A =/= B, lists:member(A, Own), lists:member(B, Own)].
