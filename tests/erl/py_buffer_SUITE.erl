%% SPDX-License-Identifier: Apache-2.0

%% @doc Buffers: a file in Python of what Erlang writes.
-module(py_buffer_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, worker}].

groups() ->
    [
        {worker, [
            is_a_file,
            waits_for_what_is_not_written_yet,
            tells_what_is_there,
            is_read_by_ranges,
            ends_when_it_is_closed,
            refuses_what_is_no_buffer,
            is_the_input_of_a_wsgi_application
        ]}
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    py_test:init_mode(Group, Config).

end_per_group(_Group, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    py_test:clean().

written(Parts) ->
    {ok, B} = py_buffer:new(),
    [ok = py_buffer:write(B, Part) || Part <- Parts],
    ok = py_buffer:close(B),
    B.

facts() ->
    [
        <<"PyBuffer">>,
        <<"hello\n">>,
        <<"wor">>,
        9,
        <<"ld\nend">>,
        true,
        <<>>,
        0,
        3,
        -1,
        <<"hello\nworld\nend">>,
        [<<"hello\n">>, <<"world\n">>, <<"end">>],
        12,
        <<"en">>,
        13,
        [<<"nd">>]
    ].

is_a_file(_Config) ->
    B = written([<<"hello\nwor">>, <<>>, <<"ld\nend">>]),
    ?assertEqual({ok, facts()}, py:call(ep_channels, buffer_facts, [B])).

waits_for_what_is_not_written_yet(_Config) ->
    {ok, B} = py_buffer:new(15),
    Caller = py_test:spawn_caller(fun() -> py:call(ep_channels, buffer_facts, [B]) end),
    [ok = py_buffer:write(B, <<C>>) || <<C>> <= <<"hello\nworld\nend">>],
    ok = py_buffer:close(B),
    ?assertEqual({ok, facts()}, py_test:result_of(Caller)).

tells_what_is_there(_Config) ->
    {ok, B} = py_buffer:new(),
    ?assertEqual({ok, {0, false, <<>>, <<>>}}, py:call(ep_channels, buffer_now, [B])),
    ok = py_buffer:write(B, <<"abc">>),
    ?assertEqual({ok, {3, false, <<"abc">>, <<>>}}, py:call(ep_channels, buffer_now, [B])),
    ok = py_buffer:close(B),
    ?assertEqual({ok, {3, false, <<"abc">>, <<>>}}, py:call(ep_channels, buffer_now, [B])).

is_read_by_ranges(_Config) ->
    Data = << <<(I rem 251)>> || I <- lists:seq(1, 1500000) >>,
    Parts = parts(Data, 1),
    B = written(Parts),
    Sum = lists:sum(binary_to_list(Data)),
    ?assertEqual({ok, Sum}, py:call(ep_channels, buffer_sum, [B])),
    ?assertEqual({ok, Data}, py:eval(<<"b.read()">>, #{b => B})).

parts(Data, N) when byte_size(Data) > N ->
    <<Part:N/binary, Rest/binary>> = Data,
    [Part | parts(Rest, 3 * N)];
parts(Data, _N) ->
    [Data].

ends_when_it_is_closed(_Config) ->
    {ok, B} = py_buffer:new(),
    ok = py_buffer:close(B),
    ok = py_buffer:close(B),
    ?assertEqual({error, closed}, py_buffer:write(B, <<"x">>)),
    {ok, Other} = py_buffer:new(),
    ?assertEqual({ok, <<"read of a closed buffer">>}, py:call(ep_channels, buffer_close, [Other])),
    ?assertEqual({error, closed}, py_buffer:write(Other, <<"x">>)).

refuses_what_is_no_buffer(_Config) ->
    {ok, Ch} = py_channel:new(),
    [?assertEqual({error, invalid_buffer}, py_buffer:write(Bad, <<"x">>)) || Bad <- [Ch, make_ref(), foo]],
    {ok, B} = py_buffer:new(),
    ?assertError(badarg, py_buffer:write(B, "iolist")).

is_the_input_of_a_wsgi_application(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {python, list_to_binary(py_test:test_python())}]),
    case py:call(importlib, import_module, [bottle]) of
        {error, {'ModuleNotFoundError', _}} ->
            {skip, "bottle is not installed: make venv"};
        _ ->
            Form = <<"a=20&b=22">>,
            ?assertEqual({ok, {<<"42">>, [<<"200 OK">>]}}, py:call(ep_channels, wsgi, [written([Form]), byte_size(Form)])),
            %% While it is written.
            {ok, B} = py_buffer:new(300000),
            Caller = py_test:spawn_caller(fun() -> py:call(ep_channels, wsgi, [B, 300000]) end),
            [ok = py_buffer:write(B, binary:copy(<<"123456789\n">>, 1000)) || _ <- lists:seq(1, 30)],
            ok = py_buffer:close(B),
            ?assertEqual({ok, {<<"30000 300000">>, [<<"200 OK">>]}}, py_test:result_of(Caller))
    end.
