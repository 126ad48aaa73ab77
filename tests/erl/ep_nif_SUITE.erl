%% SPDX-License-Identifier: Apache-2.0

%% The library behind ep_nif is loaded by a module of the same build, or not at all.
-module(ep_nif_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([refuses_a_library_whose_numbers_are_others/1, an_upgrade_refuses_them_and_leaves_the_loaded_one/1]).
-export([load_altered/1]).

all() ->
    [refuses_a_library_whose_numbers_are_others, an_upgrade_refuses_them_and_leaves_the_loaded_one].

%% Any of the numbers that both sides have.
refuses_a_library_whose_numbers_are_others(_Config) ->
    [
        begin
            Text = in_vm(fun(Peer) -> py_test:in_vm(Peer, ?MODULE, load_altered, [Name]) end),
            ?assertMatch({match, _}, re:run(Text, "different builds.*make clean build", [dotall]))
        end
     || Name <- [flag_nested, contexts_max, question_state_clear]
    ].

an_upgrade_refuses_them_and_leaves_the_loaded_one(_Config) ->
    in_vm(fun(Peer) ->
        {ok, _} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
        Text = py_test:in_vm(Peer, ?MODULE, load_altered, [flag_traceback]),
        ?assertMatch({match, _}, re:run(Text, "different builds")),
        {ok, 4.0} = py_test:in_vm(Peer, py, call, [math, sqrt, [16]])
    end).

in_vm(Fun) ->
    Peer = py_test:start_vm(),
    try
        Fun(Peer)
    after
        py_test:stop_vm(Peer)
    end.

%% Loads ep_nif with another number of that name, which fails; what the runtime logs.
load_altered(Name) ->
    ok = logger:add_handler(?MODULE, py_test, #{config => self()}),
    File = code:which(ep_nif),
    {ok, {ep_nif, [{abstract_code, {raw_abstract_v1, Forms}}]}} = beam_lib:chunks(File, [abstract_code]),
    Altered = altered(Name, Forms),
    false = Altered =:= Forms,
    {ok, ep_nif, Code} = compile:forms(Altered, [nowarn_unused_record]),
    _ = code:purge(ep_nif),
    {error, on_load_failure} = code:load_binary(ep_nif, File, Code),
    receive
        {logged, Text} -> Text
    after 10000 -> error(nothing_logged)
    end.

altered(Name, {tuple, At, [{atom, _, Name} = Key, {integer, In, Number}]}) ->
    {tuple, At, [Key, {integer, In, Number + 1}]};
altered(Name, List) when is_list(List) ->
    [altered(Name, Element) || Element <- List];
altered(Name, Tuple) when is_tuple(Tuple) ->
    list_to_tuple(altered(Name, tuple_to_list(Tuple)));
altered(_Name, Other) ->
    Other.
