%% SPDX-License-Identifier: Apache-2.0

%% @doc Messages from Python to processes of other nodes.
-module(py_send_node_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-import(py_send_SUITE, [define/0, next/0, drain/0]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [
        sends_to_processes_of_other_nodes,
        carries_on_when_the_carrier_was_killed,
        drops_what_is_for_a_node_that_is_gone,
        knows_processes_of_a_node_before_it_had_this_start,
        knows_its_processes_when_the_node_gets_a_name
    ].

init_per_suite(Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    ?assertEqual([], drain()),
    py_test:clean().

sends_to_processes_of_other_nodes(_Config) ->
    {Peer, Node} = start_node(),
    N = 5000,
    Receiver = spawn(Node, ?MODULE, count_for, [self(), N]),
    ?assertEqual({ok, Receiver}, py:eval("p", #{p => Receiver})),
    {ok, N} = py:call('__main__', count, [Receiver, N], #{}, infinity),
    ?assertEqual({counted, N}, next()),
    Echo = spawn(Node, ?MODULE, echo_to, [self()]),
    Terms = [1, binary:copy(<<"x">>, 1000), binary:copy(<<"y">>, 100000), {<<"end">>, self()}],
    [{ok, none} = py:call('__main__', send, [Echo, Term]) || Term <- Terms],
    ?assertEqual(Terms, [next() || _ <- Terms]),
    ok = peer:stop(Peer).

carries_on_when_the_carrier_was_killed(_Config) ->
    {Peer, Node} = start_node(),
    Echo = spawn(Node, ?MODULE, echo_to, [self()]),
    {ok, none} = py:call('__main__', send, [Echo, 1]),
    ?assertEqual(1, next()),
    Carrier = whereis(py_letter_carrier),
    exit(Carrier, kill),
    ok = py_test:wait_until(fun() ->
        is_pid(whereis(py_letter_carrier)) andalso whereis(py_letter_carrier) =/= Carrier
    end),
    %% It has taken its post when it answers.
    _ = sys:get_state(py_letter_carrier),
    {ok, none} = py:call('__main__', send, [Echo, 2]),
    ?assertEqual(2, next()),
    ok = peer:stop(Peer).

%% As in Erlang: nobody knows.
drops_what_is_for_a_node_that_is_gone(_Config) ->
    {Peer, Node} = start_node(),
    Pid = spawn(Node, ?MODULE, echo_to, [self()]),
    ok = peer:stop(Peer),
    {ok, none} = py:call('__main__', send, [Pid, 1]),
    {ok, 100} = py:call('__main__', count, [Pid, 100]).

%% Such a process is dead, whatever is sent.
knows_processes_of_a_node_before_it_had_this_start(_Config) ->
    <<131, 88, Pid/binary>> = term_to_binary(self()),
    Head = byte_size(Pid) - 4,
    <<Name:Head/binary, Creation:32>> = Pid,
    Old = binary_to_term(<<131, 88, Name/binary, (Creation bxor 16#00ff0000):32>>),
    [
        ?assertMatch({error, {'ProcessError', _}}, py:call('__main__', send, [Old, Term]))
     || Term <- [1, binary:copy(<<1>>, 50000)]
    ].

knows_its_processes_when_the_node_gets_a_name(_Config) ->
    Paths = [filename:dirname(code:which(Module)) || Module <- [?MODULE, py_send_SUITE, py]],
    {ok, Peer} = peer_without_a_name(["-pa" | Paths]),
    ok = peer:call(Peer, ?MODULE, gets_a_name, [peer:random_name()], 60000),
    ok = peer:stop(Peer).

peer_without_a_name(Args) ->
    case peer:start_link(#{connection => standard_io, args => Args}) of
        {ok, Peer} -> {ok, Peer};
        {ok, Peer, _} -> {ok, Peer}
    end.

gets_a_name(Name) ->
    false = is_alive(),
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, num_contexts, 1),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = define(),
    Self = self(),
    ok = py:exec("kept = {}\ndef keep(pid): kept['pid'] = pid\ndef tell(term): erlang.send(kept['pid'], term)\n"),
    {ok, none} = py:call('__main__', keep, [Self]),
    {ok, none} = py:call('__main__', tell, [1]),
    {ok, _} = net_kernel:start([list_to_atom(Name), shortnames]),
    {ok, none} = py:call('__main__', tell, [2]),
    {ok, #{<<"pid">> := Self}} = py:eval("kept"),
    {ok, true} = py:eval("kept['pid'] == pid", #{pid => Self}),
    ok = net_kernel:stop(),
    {ok, none} = py:call('__main__', tell, [3]),
    [1, 2, 3] = drain(),
    application:stop(erlang_python).

start_node() ->
    {ok, Peer, Node} = peer:start_link(#{
        name => peer:random_name(), args => ["-pa", filename:dirname(code:which(?MODULE))]
    }),
    {Peer, Node}.

count_for(Parent, N) ->
    Parent ! {counted, in_order(0, N)}.

in_order(N, N) -> N;
in_order(I, N) -> receive I -> in_order(I + 1, N) end.

echo_to(Parent) ->
    receive Term -> Parent ! Term end,
    echo_to(Parent).
