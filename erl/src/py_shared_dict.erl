%% SPDX-License-Identifier: Apache-2.0

%% @private Shared dicts, for the functions of {@link py}: tables of the NIF.
%%
%% A value that Erlang sets is stored twice: as Python gets it, and as Python would return it.
-module(py_shared_dict).

-include("py_objects.hrl").

-export([new/0, get/3, set/3, del/2, keys/1, destroy/1]).

-export_type([dict/0]).

%% Opaque for users.
-type dict() :: reference().

-spec new() -> {ok, dict()}.
new() ->
    py_object:new(?OBJECT_DICT, #{}).

-spec get(dict(), binary(), Default) -> term() | Default.
get(Dict, Key, Default) ->
    case ep_nif:dict_get(Dict, Key) of
        {ok, Value} -> Value;
        error -> Default
    end.

-spec set(dict(), binary(), term()) -> ok | {error, pickle_failed}.
set(Dict, Key, Value) ->
    try returned(Value) of
        Returned -> ep_nif:dict_set(Dict, Key, Value, Returned)
    catch
        throw:no_pickle ->
            %% An argument that is none is badarg all the same.
            _ = ep_nif:dict_get(Dict, Key),
            {error, pickle_failed}
    end.

-spec del(dict(), binary()) -> ok.
del(Dict, Key) ->
    ep_nif:dict_remove(Dict, Key).

-spec keys(dict()) -> [binary()].
keys(Dict) ->
    ep_nif:dict_keys(Dict).

-spec destroy(dict()) -> ok.
destroy(Dict) ->
    ep_nif:dict_destroy(Dict).

%% What Python returns of a value that it was given.
returned(Bool) when is_boolean(Bool) ->
    Bool;
returned(None) when None =:= none; None =:= nil; None =:= undefined ->
    application:get_env(erlang_python, none, none);
returned(Atom) when is_atom(Atom) ->
    atom_to_binary(Atom, utf8);
returned(Plain) when is_number(Plain); is_binary(Plain) ->
    Plain;
returned({bytes, Bin}) when is_binary(Bin) ->
    Bin;
returned([Head | Tail]) ->
    [returned(Head) | returned_tail(Tail)];
returned([]) ->
    [];
returned(Tuple) when is_tuple(Tuple) ->
    list_to_tuple([returned(Element) || Element <- tuple_to_list(Tuple)]);
returned(Map) when is_map(Map) ->
    Pairs = [{returned(K), returned(V)} || {K, V} <- maps:to_list(Map)],
    case length(lists:usort([python_key(K) || {K, _} <- Pairs])) =:= map_size(Map) of
        true -> maps:from_list(Pairs);
        false -> throw(no_pickle)
    end;
%% Pids, references, functions: what Python cannot pickle.
returned(_Other) ->
    throw(no_pickle).

%% Keys that Python takes for the same are the same here.
python_key(true) -> 1;
python_key(false) -> 0;
python_key(Float) when is_float(Float), trunc(Float) == Float -> trunc(Float);
python_key(Key) -> Key.

returned_tail(Tail) when is_list(Tail) -> returned(Tail);
returned_tail(_Improper) -> throw(no_pickle).
