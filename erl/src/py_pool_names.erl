%% SPDX-License-Identifier: Apache-2.0

%% @private Names of modules and functions that are registered to pools, and which of them
%% applies to a request. The truth about them is in the table of {@link py_pool_registry}.
-module(py_pool_names).

-include("py_dictionary.hrl").

-export([key/1, listed/1, compile/2, lookup/3]).

-export_type([name/0, key/0, registrations/0]).

-type name() :: {Module :: py:text()} | {Module :: py:text(), Function :: py:text()}.
%% By module, then by function. A name that has an atom is there as atom and as
%% binary, so that no lookup converts one into the other. The number is another one
%% whenever they have changed.
-type registrations() :: {Version :: integer(), #{atom() | binary() => module_routes()}}.
-type module_routes() :: {py:pool_name() | undefined, #{atom() | binary() => py:pool_name()}}.
%% The name with binaries.
-type key() :: {binary()} | {binary(), binary()}.

%% Modules that are not registered themselves, but may lie below one that is: so many are kept.
-define(BELOW_MAX, 32).

%% @doc What a name is filed under, whatever form its texts have.
-spec key(name()) -> key().
key({Module}) -> {py_text:binary(Module)};
key({Module, Function}) -> {py_text:binary(Module), py_text:binary(Function)}.

%% @doc As lists of registrations show it.
-spec listed(name()) -> {py:text(), py:text() | '_'}.
listed({Module}) -> {Module, '_'};
listed({Module, Function}) -> {Module, Function}.

%% @doc What lookup/3 reads. The former one, if nothing has changed.
-spec compile([{key(), name(), py:pool_name()}], none | registrations()) -> none | registrations().
compile(Names, Former) ->
    numbered(compiled(Names), Former).

%% @doc The pool a function is registered to, if it is, or its module, or one above that.
-spec lookup(py:text(), py:text(), none | registrations()) -> py:pool_name() | undefined.
lookup(_Module, _Function, none) ->
    undefined;
lookup(Module, Function, {Version, Routes}) when is_atom(Module); is_binary(Module) ->
    case Routes of
        #{Module := {ModulePool, Functions}} when map_size(Functions) =:= 0 ->
            ModulePool;
        #{Module := {ModulePool, Functions}} ->
            maps:get(py_text:text(Function), Functions, ModulePool);
        _ ->
            case get(?BELOW) of
                {Version, #{Module := Pool}} -> Pool;
                Known -> below(Module, Version, Routes, Known)
            end
    end;
lookup(Module, Function, Registrations) ->
    lookup(py_text:text(Module), Function, Registrations).

%% Internal

below(Module, Version, Routes, Known) ->
    Pool = pool_above(Module, Routes),
    Kept =
        case Known of
            {Version, Pools} when map_size(Pools) < ?BELOW_MAX -> Pools;
            _ -> #{}
        end,
    _ = put(?BELOW, {Version, Kept#{kept(Module) => Pool}}),
    Pool.

%% Not a part of something large.
kept(Module) when is_binary(Module) -> binary:copy(Module);
kept(Module) -> Module.

%% The pool of the nearest module above: of a.b, then of a, for a.b.c.
pool_above(Module, Routes) when is_atom(Module) ->
    pool_above(atom_to_binary(Module), Routes);
pool_above(Module, Routes) ->
    Ends = [At || {At, 1} <- lists:reverse(binary:matches(Module, <<".">>)), At > 0],
    first_pool([binary:part(Module, 0, At) || At <- Ends], Routes).

first_pool([], _Routes) ->
    undefined;
first_pool([Module | Rest], Routes) ->
    case Routes of
        #{Module := {Pool, _}} when Pool =/= undefined -> Pool;
        _ -> first_pool(Rest, Routes)
    end.

numbered(none, _Former) -> none;
numbered(Routes, {_, Routes} = Former) -> Former;
numbered(Routes, _Former) -> {erlang:unique_integer([positive]), Routes}.

compiled([]) ->
    none;
compiled(Names) ->
    Routes = lists:foldl(fun add_name/2, #{}, Names),
    %% A module of which functions only are registered may lie below one that is.
    maps:map(
        fun
            (Module, {undefined, Functions}) -> {pool_above(Module, Routes), Functions};
            (_Module, Own) -> Own
        end,
        Routes
    ).

add_name({Key, _Name, Pool}, Acc) ->
    [Module | Function] = tuple_to_list(Key),
    lists:foldl(
        fun(M, Routes) ->
            Routes#{M => add(Function, Pool, maps:get(M, Routes, {undefined, #{}}))}
        end,
        Acc,
        forms(Module)
    ).

add([], Pool, {_, Functions}) ->
    {Pool, Functions};
add([Function], Pool, {ModulePool, Functions}) ->
    {ModulePool, maps:merge(Functions, maps:from_keys(forms(Function), Pool))}.

%% Names are registered by the program, so the atoms are few.
forms(Binary) ->
    try
        [Binary, binary_to_atom(Binary)]
    catch
        error:_TooLong -> [Binary]
    end.
