%% SPDX-License-Identifier: Apache-2.0

%% @doc Messages from Python to Erlang processes: erlang.send, reply, whereis and atom.
-module(py_send_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

%% Who waits for a slow receiver is the worker process, whatever runs in it.
groups() ->
    Slow = [
        never_waits_for_a_receiver_that_does_not_look,
        lets_a_slow_receiver_slow_it_down,
        lets_a_slow_receiver_of_long_messages_slow_it_down
    ],
    py_fixture:groups(py_test:modes(), cases(), #{
        owngil => cases() -- Slow,
        shared => [
            delivers_before_the_result,
            delivers_what_threads_sent_before_the_result,
            keeps_the_order_of_each_thread,
            sends_from_coroutines,
            delivers_what_a_process_sent_before_it_died,
            has_one_atom_for_each_name,
            limits_the_atoms_it_makes,
            sends_on_after_interrupted_questions
        ]
    }).

cases() ->
    [
        sends_what_results_convert_to,
        refuses_who_is_no_pid,
        refuses_what_does_not_convert,
        sends_maps_of_any_size,
        refuses_keys_that_are_the_same_to_the_vm,
        returns_none_and_reply_true,
        delivers_before_the_result,
        delivers_what_threads_sent_before_the_result,
        delivers_while_the_request_goes_on,
        keeps_the_order_of_each_thread,
        keeps_the_order_of_short_and_long_messages,
        sends_to_its_caller_more_than_fits,
        sends_to_the_caller_from_a_thread_more_than_fits,
        says_that_a_process_is_dead,
        notices_a_later_death,
        lets_a_slow_receiver_slow_it_down,
        lets_a_slow_receiver_of_long_messages_slow_it_down,
        never_waits_for_a_receiver_that_does_not_look,
        sends_from_coroutines,
        sends_from_finalizers_in_a_callback,
        delivers_what_a_process_sent_before_it_died,
        sends_to_a_receiver_with_its_queue_off_heap,
        finds_processes_by_name,
        makes_no_atom_to_find_a_process,
        makes_atoms,
        has_one_atom_for_each_name,
        limits_the_atoms_it_makes,
        times_out_in_a_loop_of_sends,
        sends_on_after_interrupted_questions
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) ->
    py_test:init_mode(Group, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = define(),
    Config.

end_per_testcase(_Case, _Config) ->
    ?assertEqual([], drain()),
    py_test:clean().

define() ->
    py:exec(<<
        "import erlang, threading\n"
        "def send(pid, term):\n"
        "    return erlang.send(pid, term)\n"
        "def reply(pid, term):\n"
        "    return erlang.reply(pid, term)\n"
        "def count(pid, n, tag=None):\n"
        "    for i in range(n):\n"
        "        erlang.send(pid, i if tag is None else (tag, i))\n"
        "    return n\n"
        "def in_threads(pid, threads, n):\n"
        "    all = [threading.Thread(target=count, args=(pid, n, k)) for k in range(threads)]\n"
        "    for t in all: t.start()\n"
        "    for t in all: t.join()\n"
        "    return threads * n\n"
    >>).

%% --- values -----------------------------------------------------------------------------

sends_what_results_convert_to(_Config) ->
    Values = [
        0, -1, 1 bsl 200, 1.5, -0.0, true, none, <<"text">>, <<255, 0>>, [], [1, 2.5, <<"x">>], {}, {1, {2}},
        #{<<"k">> => [1], 3 => #{}}, self(), make_ref(), lists:seq(1, 5000), binary:copy(<<"x">>, 100000)
    ],
    [
        begin
            {ok, none} = py:call('__main__', send, [self(), Value]),
            ?assertEqual([Value], drain())
        end
     || Value <- Values
    ].

refuses_who_is_no_pid(_Config) ->
    [
        ?assertMatch({error, {'TypeError', _}}, py:call(erlang, Function, [To, 1]))
     || Function <- [send, reply], To <- [some_name, none, 1, make_ref(), {name, node()}]
    ],
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.send(p)", #{p => self()})),
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.reply(p, 1, 2)", #{p => self()})),
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.Pid()")).

refuses_what_does_not_convert(_Config) ->
    Send = fun(Code) -> py:eval(["erlang.send(p, ", Code, ")"], #{p => self()}) end,
    {error, {'TypeError', "message['k'][1]: " ++ _}} = Send("{'k': [1, (x for x in [])]}"),
    {error, {'ValueError', "message: two keys" ++ _}} = Send("{'a': 1, b'a': 2}"),
    {error, {'UnicodeEncodeError', _}} = Send("'\\ud800'"),
    {error, {'RecursionError', _}} = Send("__import__('functools').reduce(lambda x, _: [x], range(2000), 0)"),
    {ok, none} = Send("(1,)"),
    ?assertEqual([{1}], drain()).

%% No process looks for them meanwhile, so that a thread of the library makes the maps.
sends_maps_of_any_size(_Config) ->
    ok = py:exec(<<"def maps(pid, sizes):\n"
                   "    for n in sizes: erlang.send(pid, {i: {str(k): k for k in range(n)} for i in range(3)})\n"
                   "    erlang.send(pid, {(i,): i for i in range(n)})\n"
                   "    erlang.call('py_send_suite_wait')\n">>),
    Self = self(),
    ok = py:register_function(py_send_suite_wait, fun([]) ->
        Self ! {waiting, self()},
        receive go -> ok end
    end),
    Sizes = [0, 1, 32, 33, 127, 128, 129, 130, 1000, 10000],
    Map = fun(N) -> maps:from_list([{integer_to_binary(K), K} || K <- lists:seq(0, N - 1)]) end,
    Maps = [maps:from_keys([0, 1, 2], Map(N)) || N <- Sizes],
    [
        begin
            Ref = py:spawn_call('__main__', maps, [Self, Sizes]),
            ?assertEqual(Maps, [next() || _ <- Sizes]),
            ?assertEqual(10000, map_size(next())),
            {waiting, Waiting} = next(),
            Waiting ! go,
            {ok, none} = py:await(Ref)
        end
     || _ <- lists:seq(1, 20)
    ],
    ok = py:unregister_function(py_send_suite_wait).

%% Their bytes differ.
refuses_keys_that_are_the_same_to_the_vm(_Config) ->
    ok = py:exec(<<"class Dict(dict):\n"
                   "    __hash__ = object.__hash__\n"
                   "    __eq__ = object.__eq__\n"
                   "class Float(float):\n"
                   "    __hash__ = object.__hash__\n"
                   "    __eq__ = object.__eq__\n"
                   "def send_same(pid):\n"
                   "    erlang.send(pid, {Dict(a=1, b=2): 1, Dict(b=2, a=1): 2})\n"
                   "def send_zeros(pid):\n"
                   "    erlang.send(pid, {Float(0.0): 1, Float(-0.0): 2})\n">>),
    {error, {'ValueError', _}} = py:call('__main__', send_same, [self()]),
    %% Newer versions tell them apart.
    case py:call('__main__', send_zeros, [self()]) of
        {ok, none} -> ?assertMatch([#{}], drain());
        {error, {'ValueError', _}} -> ok
    end,
    {ok, none} = py:eval("erlang.send(p, {(0.0, 'a'): 1, (0.0, 'b'): 2})", #{p => self()}),
    ?assertEqual([#{{0.0, <<"a">>} => 1, {0.0, <<"b">>} => 2}], drain()).

returns_none_and_reply_true(_Config) ->
    {ok, none} = py:call('__main__', send, [self(), 1]),
    {ok, true} = py:call('__main__', reply, [self(), 2]),
    ?assertEqual([1, 2], drain()).

%% --- order and arrival ------------------------------------------------------------------

delivers_before_the_result(_Config) ->
    Block = binary:copy(<<"b">>, 1000),
    Long = binary:copy(<<"l">>, 50000),
    ok = py:exec(<<"def three(pid, i, block, long):\n"
                   "    for x in (i, block, long): erlang.send(pid, x)\n"
                   "    return i\n">>),
    [
        begin
            {ok, I} = py:call('__main__', three, [self(), I, Block, Long]),
            ?assertEqual([I, Block, Long], drain())
        end
     || I <- lists:seq(1, 300)
    ].

delivers_what_threads_sent_before_the_result(_Config) ->
    [
        begin
            {ok, 6} = py:call('__main__', in_threads, [self(), 2, 3]),
            ?assertEqual([{T, N} || T <- [0, 1], N <- [0, 1, 2]], lists:sort(drain()))
        end
     || _ <- lists:seq(1, 50)
    ].

%% One that waits for its request: nothing but the message tells that it was sent.
delivers_while_the_request_goes_on(Config) ->
    ok = py:exec(<<"def tell(pid, mark, fifo):\n"
                   "    import ep_steps\n"
                   "    erlang.send(pid, 'first')\n"
                   "    erlang.send(pid, 'second')\n"
                   "    return ep_steps.hold(mark, fifo)\n">>),
    Self = self(),
    Mark = py_test:marker(Config, "told"),
    Fifo = <<Mark/binary, ".fifo">>,
    [] = os:cmd(unicode:characters_to_list(["mkfifo '", Fifo, "'"])),
    Ref = py:spawn_call('__main__', tell, [Self, Mark, Fifo]),
    ?assertEqual(<<"first">>, next()),
    ?assertEqual(<<"second">>, next()),
    ok = py_test:wait_for_file(Mark),
    ok = file:write_file(Fifo, <<"go">>),
    {ok, <<"held">>} = py:await(Ref).

keeps_the_order_of_each_thread(_Config) ->
    N = 20000,
    Receiver = counter(),
    {ok, _} = py:call('__main__', in_threads, [Receiver, 3, N], #{}, infinity),
    {ok, N} = py:call('__main__', count, [Receiver, N, 3], #{}, infinity),
    ?assertEqual(#{0 => N, 1 => N, 2 => N, 3 => N}, counted(Receiver, 4 * N)).

keeps_the_order_of_short_and_long_messages(_Config) ->
    ok = py:exec(<<"def mixed(pid, n):\n"
                   "    for i in range(n):\n"
                   "        erlang.send(pid, (i, b'x' * (i % 7) ** 6))\n">>),
    {ok, none} = py:call('__main__', mixed, [self(), 500]),
    ?assertEqual(lists:seq(0, 499), [I || {I, _} <- drain()]).

%% Nobody takes them meanwhile, so waiting would be in vain.
sends_to_its_caller_more_than_fits(_Config) ->
    {ok, 50000} = py:call('__main__', count, [self(), 50000]),
    ?assertEqual(lists:seq(0, 49999), drain()).

sends_to_the_caller_from_a_thread_more_than_fits(_Config) ->
    {ok, 60000} = py:call('__main__', in_threads, [self(), 2, 30000]),
    Got = drain(),
    [?assertEqual(lists:seq(0, 29999), [I || {T, I} <- Got, T =:= Thread]) || Thread <- [0, 1]].

%% --- dead processes -----------------------------------------------------------------------

says_that_a_process_is_dead(_Config) ->
    Dead = spawn(fun() -> ok end),
    ok = py_test:wait_until(fun() -> not is_process_alive(Dead) end),
    {error, {'ProcessError', Text}} = py:call('__main__', send, [Dead, 1]),
    ?assertMatch({match, _}, re:run(Text, "not alive")),
    {error, {'ProcessError', _}} = py:call('__main__', reply, [Dead, 1]),
    {error, {'ProcessError', _}} = py:call('__main__', send, [Dead, binary:copy(<<1>>, 100000)]),
    {ok, true} = py:eval("issubclass(erlang.ProcessError, Exception)").

notices_a_later_death(_Config) ->
    ok = py:exec(<<"def until_dead(pid):\n"
                   "    import time\n"
                   "    n = 0\n"
                   "    try:\n"
                   "        while True:\n"
                   "            erlang.send(pid, n)\n"
                   "            n += 1\n"
                   "    except erlang.ProcessError:\n"
                   "        return n > 0\n">>),
    Receiver = spawn(fun() ->
        receive 1000 -> ok end
    end),
    {ok, true} = py:call('__main__', until_dead, [Receiver]).

%% --- back-pressure ------------------------------------------------------------------------

lets_a_slow_receiver_slow_it_down(_Config) ->
    N = 30000,
    {Receiver, Watch} = slow_receiver(fun(I) -> I rem 20 =:= 0 andalso timer:sleep(1) end),
    {ok, N} = py:call('__main__', count, [Receiver, N], #{}, infinity),
    ?assert(longest(Watch) < 15000),
    ?assertEqual(N, received(Receiver, N)).

%% Of 100 messages of 2 MB a part is there at a time.
lets_a_slow_receiver_of_long_messages_slow_it_down(_Config) ->
    ok = py:exec(<<"def long(pid, n):\n"
                   "    for i in range(n): erlang.send(pid, (i, b'x' * 2000000))\n"
                   "    return n\n">>),
    {Receiver, Watch} = slow_receiver(fun(_) -> timer:sleep(2) end),
    {ok, 100} = py:call('__main__', long, [Receiver, 100], #{}, infinity),
    ?assert(longest(Watch) < 50),
    ?assertEqual(100, received(Receiver, 100)).

%% It is slowed down, and comes to an end.
never_waits_for_a_receiver_that_does_not_look(_Config) ->
    Receiver = spawn(fun() -> receive stop -> ok end end),
    {ok, 13000} = py:call('__main__', count, [Receiver, 13000], #{}, infinity),
    ?assertEqual({message_queue_len, 13000}, process_info(Receiver, message_queue_len)),
    ok = py_fixture:end_process(Receiver, stop).

%% --- where from -----------------------------------------------------------------------------

sends_from_coroutines(_Config) ->
    ok = py:exec(<<"import asyncio\n"
                   "async def one(pid, k):\n"
                   "    for i in range(10):\n"
                   "        erlang.send(pid, (k, i))\n"
                   "        await asyncio.sleep(0)\n"
                   "async def all(pid):\n"
                   "    await asyncio.gather(*(one(pid, k) for k in range(20)))\n"
                   "def run(pid): asyncio.run(all(pid))\n">>),
    {ok, none} = py:call('__main__', run, [self()]),
    Got = drain(),
    [?assertEqual(lists:seq(0, 9), [I || {K, I} <- Got, K =:= Task]) || Task <- lists:seq(0, 19)].

%% A signal handler, and a finalizer, run while the request waits for Erlang.
sends_from_finalizers_in_a_callback(_Config) ->
    ok = py:register_function(collect, fun([]) ->
        {ok, _} = py:eval("last.pop() is None"),
        done
    end),
    ok = py:exec(<<"class Last:\n"
                   "    def __init__(self, pid): self.pid = pid\n"
                   "    def __del__(self): erlang.send(self.pid, 'gone')\n"
                   "last = []\n"
                   "def run(pid):\n"
                   "    erlang.send(pid, 'before')\n"
                   "    last.append(Last(pid))\n"
                   "    erlang.call('collect')\n"
                   "    erlang.send(pid, 'after')\n">>),
    {ok, none} = py:call('__main__', run, [self()]),
    ?assertEqual([<<"before">>, <<"gone">>, <<"after">>], drain()).

delivers_what_a_process_sent_before_it_died(_Config) ->
    ok = py:exec(<<"def send_and_die(pid, n):\n"
                   "    import os\n"
                   "    for i in range(n): erlang.send(pid, i)\n"
                   "    os._exit(3)\n">>),
    {error, {worker_died, #{reason := 3}}} = py:call('__main__', send_and_die, [self(), 200]),
    ?assertEqual(lists:seq(0, 199), drain()),
    ok = define().

sends_to_a_receiver_with_its_queue_off_heap(_Config) ->
    N = 20000,
    Receiver = counter([{message_queue_data, off_heap}]),
    {ok, _} = py:call('__main__', in_threads, [Receiver, 2, N], #{}, infinity),
    [{ok, 3} = py:call('__main__', count, [Receiver, 3, -1]) || _ <- lists:seq(1, 2)],
    Receiver ! forget,
    ?assertEqual(#{0 => N, 1 => N}, maps:with([0, 1], counted(Receiver, 2 * N + 6))).

times_out_in_a_loop_of_sends(_Config) ->
    Receiver = counter(),
    ok = py:exec(<<"def forever(pid):\n"
                   "    while True: erlang.send(pid, (0, None))\n">>),
    {error, timeout} = py:call('__main__', forever, [Receiver], #{}, 100),
    {ok, 4.0} = py:call(math, sqrt, [16]),
    ok = py_fixture:end_process(Receiver, stop).

%% An interrupt ends the question about the receiver, whose answer is lost.
sends_on_after_interrupted_questions(_Config) ->
    Receiver = spawn(fun() -> receive stop -> ok end end),
    {ok, 10500} = py:call('__main__', count, [Receiver, 10500], #{}, infinity),
    [{error, timeout} = py:call('__main__', count, [Receiver, 1000000], #{}, 20) || _ <- lists:seq(1, 20)],
    {ok, 5000} = py:call('__main__', count, [self(), 5000]),
    ?assertEqual(lists:seq(0, 4999), drain()),
    ok = py_fixture:end_process(Receiver, stop).

%% --- names ------------------------------------------------------------------------------------

finds_processes_by_name(_Config) ->
    true = register(py_send_suite_name, self()),
    Self = self(),
    try
        [
            ?assertEqual({ok, Self}, py:eval(["erlang.whereis(", Name, ")"]))
         || Name <- ["'py_send_suite_name'", "b'py_send_suite_name'", "erlang.atom('py_send_suite_name')"]
        ],
        {ok, none} = py:eval("erlang.send(erlang.whereis('py_send_suite_name'), 'hello')"),
        ?assertEqual([<<"hello">>], drain())
    after
        unregister(py_send_suite_name)
    end,
    ?assertEqual({ok, none}, py:eval("erlang.whereis('py_send_suite_name')")),
    [?assertMatch({error, {'TypeError', _}}, py:eval(["erlang.whereis(", X, ")"])) || X <- ["1", "None", "['a']"]].

makes_no_atom_to_find_a_process(_Config) ->
    {ok, none} = py:eval("erlang.whereis('py_send_suite_never_' + 'an_atom')"),
    ?assertError(badarg, binary_to_existing_atom(<<"py_send_suite_never_", "an_atom">>)).

makes_atoms(_Config) ->
    ?assertEqual({ok, ok}, py:eval("erlang.atom('ok')")),
    ?assertEqual({ok, ''}, py:eval("erlang.atom('')")),
    ?assertEqual({ok, [{a, #{b => c}}]}, py:eval("[(erlang.atom('a'), {erlang.atom('b'): erlang.atom('c')})]")),
    ?assertEqual({ok, binary_to_atom(<<"日本"/utf8>>)}, py:eval(<<"erlang.atom('日本')"/utf8>>)),
    ?assertEqual({ok, list_to_atom(lists:duplicate(255, $a))}, py:eval("erlang.atom('a' * 255)")),
    {ok, none} = py:eval("erlang.send(p, (erlang.atom('tag'), 1))", #{p => self()}),
    ?assertEqual([{tag, 1}], drain()),
    {error, {'ValueError', _}} = py:eval("erlang.atom('a' * 256)"),
    {error, {'TypeError', _}} = py:eval("erlang.atom(b'a')"),
    {error, {'UnicodeEncodeError', _}} = py:eval("erlang.atom('\\ud800')").

has_one_atom_for_each_name(_Config) ->
    True = [
        "erlang.atom('a') is erlang.atom('a')",
        "erlang.atom('a') == erlang.atom('a') and erlang.atom('a') != erlang.atom('b')",
        "erlang.atom('a') != 'a' and 'a' != erlang.atom('a')",
        "hash(erlang.atom('a')) == hash('a')",
        "str(erlang.atom('a')) == 'a'",
        "sorted([erlang.atom('b'), erlang.atom('a')]) == [erlang.atom('a'), erlang.atom('b')]",
        "__import__('pickle').loads(__import__('pickle').dumps(erlang.atom('a'))) is erlang.atom('a')",
        "__import__('copy').copy(erlang.atom('a')) is erlang.atom('a')",
        "isinstance(erlang.atom('a'), erlang.Atom)"
    ],
    [?assertEqual({ok, true}, py:eval(Code)) || Code <- True],
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.atom('a') < 'b'")),
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.Atom('a')")).

limits_the_atoms_it_makes(_Config) ->
    #{atoms_made := Made, max_atoms := Max} = ep_nif:counters(),
    ok = ep_nif:set_max_atoms(Made + 1),
    New = integer_to_list(erlang:unique_integer([positive])),
    Code = fun(K) -> ["erlang.atom('py_send_suite_", New, "_", K, "')"] end,
    try
        {ok, Atom} = py:eval(Code("1")),
        ?assert(is_atom(Atom)),
        {error, {'RuntimeError', Text}} = py:eval(Code("2")),
        ?assertMatch({match, _}, re:run(Text, "limit")),
        ?assertEqual({ok, Atom}, py:eval(Code("1"))),
        ?assertEqual({ok, lists}, py:eval("erlang.atom('lists')"))
    after
        ep_nif:set_max_atoms(Max)
    end.

%% --- helpers ----------------------------------------------------------------------------------

next() ->
    receive
        Message -> Message
    after 10000 -> error(no_message)
    end.

drain() ->
    receive
        Message -> [Message | drain()]
    after 0 -> []
    end.

%% Counts {Tag, I}, as long as each tag's come in order.
counter() ->
    counter([]).

counter(Options) ->
    spawn_opt(fun() -> count_tags(#{}, 0) end, Options).

count_tags(Seen, N) ->
    receive
        {all, Parent, N} ->
            Parent ! {counted, Seen};
        {Tag, I} when is_integer(I), Tag >= 0 ->
            I = maps:get(Tag, Seen, 0),
            count_tags(Seen#{Tag => I + 1}, N + 1);
        {Tag, _} when is_integer(Tag) ->
            count_tags(Seen, N + 1);
        forget ->
            count_tags(Seen, N);
        stop ->
            ok
    end.

counted(Counter, N) ->
    Ref = monitor(process, Counter),
    Counter ! {all, self(), N},
    receive
        {counted, Seen} ->
            true = demonitor(Ref, [flush]),
            Seen;
        {'DOWN', Ref, process, _, Reason} ->
            error({out_of_order, Reason})
    end.

%% Takes 0, 1, 2 ... and does something with each; another process looks how many wait.
slow_receiver(Do) ->
    Receiver = spawn(fun() -> receive_slowly(0, Do) end),
    {Receiver, spawn(fun() -> watch(Receiver, 0) end)}.

receive_slowly(I, Do) ->
    receive
        {received, Parent, I} ->
            Parent ! {received, I};
        {I, _} ->
            _ = Do(I),
            receive_slowly(I + 1, Do);
        I ->
            _ = Do(I),
            receive_slowly(I + 1, Do)
    end.

received(Receiver, N) ->
    Receiver ! {received, self(), N},
    receive {received, N} -> N end.

watch(Receiver, Longest) ->
    Length =
        case process_info(Receiver, message_queue_len) of
            {message_queue_len, L} -> L;
            undefined -> 0
        end,
    receive
        {longest, Parent} -> Parent ! {longest, max(Length, Longest)}
    after 1 ->
        watch(Receiver, max(Length, Longest))
    end.

longest(Watch) ->
    Watch ! {longest, self()},
    receive {longest, Longest} -> Longest end.
