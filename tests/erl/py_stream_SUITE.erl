%% SPDX-License-Identifier: Apache-2.0

%% @doc Streams: the items of what Python returns, collected or as messages.
-module(py_stream_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-import(py_stream_items, [items/1, next/1, waiting/1, cancelled_after/2]).

-define(WAIT_MS, 20000).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(cases(), #{
        shared => [
            collects_any_iterable,
            sends_items_in_order_and_one_end,
            closes_a_generator_that_is_cancelled,
            cancels_one_that_never_comes_to_an_item,
            closes_a_generator_whose_owner_died,
            interrupts_one_whose_owner_died,
            times_out_between_two_items,
            serves_nested_requests_between_items,
            streams_in_a_callback,
            ends_when_its_worker_dies
        ],
        single_worker => [
            sends_an_item_while_python_makes_the_next,
            cancels_while_it_waits_for_credit,
            cancels_one_that_waits_in_a_queue,
            calls_erlang_from_a_generator,
            serves_nested_requests_between_items,
            streams_in_a_callback
        ]
    }) ++ [{pools, [], pool_cases()}].

cases() ->
    [
        collects_any_iterable,
        collects_an_expression_with_locals,
        converts_items_like_results,
        takes_items_of_any_size,
        tells_what_is_no_iterable,
        fails_in_the_middle,
        fails_at_an_item_that_does_not_convert,
        fails_at_an_item_that_the_vm_cannot_have,
        sends_items_in_order_and_one_end,
        sends_to_another_process,
        sends_an_item_while_python_makes_the_next,
        says_what_an_exception_says,
        keeps_to_its_credit,
        waits_for_a_mailbox_that_is_long,
        is_not_far_ahead_of_what_was_sent,
        closes_a_generator_that_is_cancelled,
        cancels_while_it_waits_for_credit,
        cancels_one_that_never_comes_to_an_item,
        cancels_one_that_waits_in_a_queue,
        cancels_at_any_moment,
        takes_a_cancel_after_the_end,
        closes_a_generator_whose_owner_died,
        interrupts_one_whose_owner_died,
        times_out_between_two_items,
        starts_its_time_with_each_item,
        calls_erlang_from_a_generator,
        serves_nested_requests_between_items,
        streams_in_a_callback,
        uses_the_namespace_of_its_caller,
        leaves_messages_alone,
        ends_when_its_worker_dies,
        refuses_what_is_wrong,
        gives_what_lists_say
    ].

pool_cases() ->
    [
        waits_for_a_slot,
        cancels_one_that_waits_for_a_slot,
        streams_from_several_pools,
        ends_with_its_context,
        ends_with_its_pool,
        ends_with_the_launcher
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(pools, Config) ->
    ok = py_test:start([{num_contexts, 1}, {kill_after, 600}]),
    Config;
init_per_group(Group, Config) ->
    py_fixture:init(Group, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = py:exec(
        "import itertools, time\n"
        "opened = closed = made = 0\n"
        "def numbers(n=10**9, pause=0):\n"
        "    global opened, closed, made\n"
        "    opened += 1\n"
        "    try:\n"
        "        for i in range(n):\n"
        "            made += 1\n"
        "            yield i\n"
        "            for _ in range(round(pause * 1000)): time.sleep(0.001)\n"
        "    finally:\n"
        "        closed += 1\n"
    ),
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- collecting -----------------------------------------------------------------------

collects_any_iterable(_Config) ->
    Numbers = lists:seq(0, 999),
    ?assertEqual({ok, Numbers}, py:stream(builtins, range, [1000])),
    ?assertEqual({ok, Numbers}, py:stream('__main__', numbers, [1000])),
    ?assertEqual({ok, Numbers}, py:stream('__main__', numbers, [], #{n => 1000})),
    ?assertEqual({ok, []}, py:stream(builtins, list, [[]])),
    ?assertEqual({ok, [1, b, 2.5]}, atoms(py:stream(builtins, tuple, [[1, b, 2.5]]))),
    ?assertEqual({ok, [<<"a">>, <<"b">>]}, py:stream_eval("{'a': 1, 'b': 2}")),
    ?assertEqual({ok, [0, 1, 2]}, py:stream_eval("itertools.islice(itertools.count(), 3)")),
    ?assertEqual({ok, [<<"x">>, <<"y">>]}, py:stream_eval("'xy'")).

atoms({ok, [A, B, C]}) -> {ok, [A, binary_to_atom(B), C]}.

collects_an_expression_with_locals(_Config) ->
    ?assertEqual({ok, [3, 4, 5]}, py:stream_eval("(x + i for i in range(n))", #{x => 3, n => 3})),
    ?assertEqual({ok, [0, 1]}, py:stream_eval(<<"range(2)">>)).

converts_items_like_results(_Config) ->
    Terms = [1, -1, 1 bsl 100, 0.5, <<"text">>, <<255>>, true, none, [1, [2]], {1, {2}}, #{<<"k">> => [1]}, self()],
    ?assertEqual({ok, Terms}, py:stream(builtins, list, [Terms])).

takes_items_of_any_size(_Config) ->
    Sizes = [0, 1, 191, 4096, 16000, 16300, 16319, 16320, 16384, 100, 70000, 0, 2000000, 10, 5000, 5000, 5000, 5000],
    {ok, Items} = py:stream_eval("(b'x' * n for n in sizes)", #{sizes => Sizes}),
    ?assertEqual(Sizes, [byte_size(Item) || Item <- Items]),
    {ok, Long} = py:stream_eval("(b'y' * n for n in sizes)", #{sizes => [100000, 3, 16300, 100000]}),
    ?assertEqual([100000, 3, 16300, 100000], [byte_size(Item) || Item <- Long]).

tells_what_is_no_iterable(_Config) ->
    ?assertEqual({error, {'TypeError', "'int' object is not iterable"}}, py:stream_eval("3")),
    ?assertMatch({error, {'NameError', _}}, py:stream_eval("no_such_name")),
    ?assertMatch({error, {'AttributeError', _}}, py:stream(math, no_such_function, [])).

fails_in_the_middle(_Config) ->
    ?assertEqual(
        {error, {'ZeroDivisionError', "division by zero"}}, py:stream_eval("(1 / (5 - i) for i in range(9))")
    ).

fails_at_an_item_that_does_not_convert(_Config) ->
    ok = py:exec("def bad():\n    global closed\n    try:\n        yield [1, (i for i in ())]\n    finally:\n        closed = 7\n"),
    {error, {'TypeError', Text}} = py:stream('__main__', bad, []),
    ?assertMatch("item[1]: " ++ _, Text),
    ?assertEqual({ok, 7}, py:eval("closed")).

fails_at_an_item_that_the_vm_cannot_have(_Config) ->
    Before = ep_nif:counters(),
    ?assertMatch({error, {'ValueError', _}}, py:stream_eval("[1, {'a': 1, b'a': 2}, 3]")),
    ?assertEqual(maps:get(violations, Before), maps:get(violations, ep_nif:counters())).

gives_what_lists_say(_Config) ->
    case py_prop:is_there() of
        false -> {skip, "PropEr is not installed (erlang-proper)"};
        true -> py_prop:check(?FUNCTION_NAME, py_prop:forall(case_of_stream(), fun agrees/1), py_test:times(60, 150))
    end.

%% Items, credit, the number of items before a cancel.
case_of_stream() ->
    {
        proper_types:list(proper_types:oneof([
            proper_types:integer(), proper_types:binary(),
            proper_types:list(proper_types:integer()), ?MODULE:size_of_binary()
        ])),
        proper_types:oneof([none, proper_types:integer(1, 80)]),
        proper_types:oneof([never, proper_types:integer(0, 40)])
    }.

size_of_binary() -> {size, 9000}.

agrees({Drawn, Credit, CancelAt}) ->
    Items = lists:append([[item(D), D] || D <- Drawn, D =/= {size, 9000}]) ++ [item(D) || D <- Drawn],
    Expected = py:call(builtins, list, [Items]),
    Expected = py:stream(builtins, list, [Items]),
    {ok, Values} = Expected,
    Options = case Credit of none -> #{}; _ -> #{credit => Credit} end,
    {ok, Ref} = py:stream_start(builtins, list, [Items], Options),
    {Got, End} = take(Ref, Credit, CancelAt, []),
    case End of
        done -> Got =:= Values;
        {error, <<"cancelled">>} -> CancelAt =/= never andalso lists:prefix(Got, Values)
    end.

item({size, N}) -> binary:copy(<<"z">>, N);
item(Other) -> Other.

take(Ref, Credit, 0, Got) ->
    ok = py:stream_cancel(Ref),
    take(Ref, Credit, never, Got);
take(Ref, Credit, CancelAt, Got) ->
    receive
        {py_stream, Ref, {data, V}} ->
            _ = [ok = py:stream_ack(Ref) || Credit =/= none],
            take(Ref, Credit, less(CancelAt), [V | Got]);
        {py_stream, Ref, End} ->
            {lists:reverse(Got), End}
    after ?WAIT_MS -> error(no_end)
    end.

less(never) -> never;
less(N) -> N - 1.

%% --- messages -------------------------------------------------------------------------

sends_items_in_order_and_one_end(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [5000]),
    ?assertEqual({lists:seq(0, 4999), done}, items(Ref)),
    {ok, Kwargs} = py:stream_start('__main__', numbers, [], #{kwargs => #{n => 3}, arrays => lists}),
    ?assertEqual({[0, 1, 2], done}, items(Kwargs)).

sends_to_another_process(_Config) ->
    Self = self(),
    Owner = spawn(fun() ->
        receive
            {stream, Ref} -> Self ! {got, items(Ref)}
        end
    end),
    {ok, Ref} = py:stream_start(builtins, range, [3], #{owner => Owner}),
    Owner ! {stream, Ref},
    ?assertEqual({[0, 1, 2], done}, receive {got, Got} -> Got after ?WAIT_MS -> none end).

sends_an_item_while_python_makes_the_next(Config) ->
    Mark = py_test:marker(Config, "go"),
    ok = py:exec(
        "import os\n"
        "def steps(mark):\n"
        "    yield 1\n"
        "    yield 2\n"
        "    while not os.path.exists(mark): time.sleep(0.005)\n"
        "    yield 3\n"
    ),
    {ok, Ref} = py:stream_start('__main__', steps, [Mark]),
    [1, 2] = [next(Ref), next(Ref)],
    ok = file:write_file(Mark, <<>>),
    ?assertEqual({[3], done}, items(Ref)).

says_what_an_exception_says(_Config) ->
    ok = py:exec("def breaks():\n    yield 1\n    1 / 0\n"),
    {ok, Ref} = py:stream_start('__main__', breaks, []),
    ?assertEqual({[1], {error, <<"division by zero">>}}, items(Ref)),
    {ok, Missing} = py:stream_start('__main__', no_such_function, []),
    {[], {error, Text}} = items(Missing),
    ?assert(is_binary(Text)).

keeps_to_its_credit(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [200], #{credit => 10}),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 10 end),
    ok = py:stream_ack(Ref, 5),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 15 end),
    %% More than was used gives no more than there was at first.
    ok = py:stream_ack(Ref, 1000),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 25 end),
    ok = py:stream_cancel(Ref),
    ?assertEqual({lists:seq(0, 24), {error, <<"cancelled">>}}, items(Ref)).

waits_for_a_mailbox_that_is_long(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [5000]),
    ok = py_test:wait_until(fun() -> waiting(Ref) > 900 end),
    receive after 30 -> ok end,
    ?assert(waiting(Ref) =< 1065),
    ?assertEqual({lists:seq(0, 4999), done}, items(Ref)),
    %% One is sent to a mailbox that is long from the beginning.
    [self() ! full || _ <- lists:seq(1, 1100)],
    {ok, Late} = py:stream_start('__main__', numbers, [3]),
    ok = py_test:wait_until(fun() -> waiting(Late) =:= 1 end),
    receive after 30 -> ok end,
    ?assertEqual(1, waiting(Late)),
    [receive full -> ok end || _ <- lists:seq(1, 1100)],
    ?assertEqual({[0, 1, 2], done}, items(Late)).

is_not_far_ahead_of_what_was_sent(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [], #{credit => 3}),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 3 end),
    ok = py:stream_cancel(Ref),
    {[0, 1, 2], _} = items(Ref),
    {ok, Made} = py:eval("made"),
    ?assert(Made =< 3 + 64 + 1).

%% --- cancel and death -------------------------------------------------------------------

closes_a_generator_that_is_cancelled(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [1000000, 0.001]),
    0 = next(Ref),
    ok = py:stream_cancel(Ref),
    {_, {error, <<"cancelled">>}} = items(Ref),
    ?assertEqual({ok, {1, 1}}, py:eval("(opened, closed)")),
    ok = py_fixture:slots_free().

cancels_while_it_waits_for_credit(_Config) ->
    {ok, Ref} = py:stream_start('__main__', numbers, [], #{credit => 1}),
    ok = py_test:wait_until(fun() -> waiting(Ref) =:= 1 end),
    ok = py:stream_cancel(Ref),
    ?assertEqual({[0], {error, <<"cancelled">>}}, items(Ref)),
    ?assertEqual({ok, {1, 1}}, py:eval("(opened, closed)")).

cancels_one_that_never_comes_to_an_item(_Config) ->
    ok = py:exec(
        "def stuck():\n"
        "    global closed\n"
        "    try:\n"
        "        yield 0\n"
        "        while True: pass\n"
        "    finally:\n"
        "        closed += 1\n"
    ),
    {ok, Ref} = py:stream_start('__main__', stuck, []),
    0 = next(Ref),
    ok = py:stream_cancel(Ref),
    ?assertEqual({[], {error, <<"cancelled">>}}, items(Ref)),
    ?assertEqual({ok, 1}, py:eval("closed")),
    ok = py_fixture:slots_free().

cancels_one_that_waits_in_a_queue(Config) ->
    Held = py_fixture:hold(py:context(), Config),
    {ok, Ref} = py:stream_start('__main__', numbers, []),
    ok = py:stream_cancel(Ref),
    ?assertEqual({[], {error, <<"cancelled">>}}, items(Ref)),
    ok = py_fixture:let_go(Held),
    ?assertEqual({ok, {0, 0}}, py:eval("(opened, closed)")).

cancels_at_any_moment(_Config) ->
    [cancelled_after(rand:uniform(200), N) || N <- lists:seq(1, py_test:times(300, 1000))],
    {ok, {Opened, Closed}} = py:eval("(opened, closed)"),
    ?assertEqual(Opened, Closed).

takes_a_cancel_after_the_end(_Config) ->
    {ok, Ref} = py:stream_start(builtins, range, [1]),
    {[0], done} = items(Ref),
    ok = py:stream_cancel(Ref),
    ok = py:stream_ack(Ref),
    ok = py:stream_cancel(make_ref()),
    receive {py_stream, Ref, More} -> error({more, More}) after 0 -> ok end.

closes_a_generator_whose_owner_died(_Config) ->
    {Owner, Monitor} = spawn_monitor(fun() -> receive stop -> ok end end),
    {ok, _Ref} = py:stream_start('__main__', numbers, [1000000, 0.001], #{owner => Owner}),
    ok = py_test:wait_until(fun() -> process_info(Owner, message_queue_len) > {message_queue_len, 2} end),
    Owner ! stop,
    receive {'DOWN', Monitor, process, Owner, _} -> ok end,
    ?assertEqual({ok, {1, 1}}, py:eval("(opened, closed)")),
    ok = py_fixture:slots_free().

interrupts_one_whose_owner_died(_Config) ->
    {Owner, Monitor} = spawn_monitor(fun() -> receive stop -> ok end end),
    {ok, _Ref} = py:stream_start('__main__', numbers, [2, 3600], #{owner => Owner}),
    ok = py_test:wait_until(fun() -> process_info(Owner, message_queue_len) =:= {message_queue_len, 1} end),
    Owner ! stop,
    receive {'DOWN', Monitor, process, Owner, _} -> ok end,
    ?assertEqual({ok, {1, 1}}, py:eval("(opened, closed)")).

times_out_between_two_items(_Config) ->
    Route = py_context_router:bound(),
    ?assertEqual({error, timeout}, py_stream:collect(Route, {call, '__main__', numbers, [2, 3600], #{}}, 50)),
    ?assertEqual({ok, {1, 1}}, py:eval("(opened, closed)")).

starts_its_time_with_each_item(_Config) ->
    Route = py_context_router:bound(),
    Subject = {call, '__main__', numbers, [10, 0.1], #{}},
    ?assertEqual({ok, lists:seq(0, 9)}, py_stream:collect(Route, Subject, 900)).

%% --- callbacks ---------------------------------------------------------------------------

calls_erlang_from_a_generator(_Config) ->
    ok = py:register_function(twice, fun([X]) -> 2 * X end),
    ok = py:exec("import erlang\ndef doubled(n):\n    for i in range(n): yield erlang.call('twice', i)\n"),
    Expected = [2 * I || I <- lists:seq(0, 199)],
    ?assertEqual({ok, Expected}, py:stream('__main__', doubled, [200])),
    {ok, Ref} = py:stream_start('__main__', doubled, [200], #{credit => 200}),
    ?assertEqual({Expected, done}, items(Ref)),
    ok = py:unregister_function(twice).

%% The stream of this process waits for credit that it gives after the request.
serves_nested_requests_between_items(_Config) ->
    ok = py:register_function(inner, fun([]) ->
        {ok, Ref} = py:stream_start('__main__', numbers, [300], #{credit => 1}),
        0 = next(Ref),
        {ok, 2.0} = py:call(math, sqrt, [4]),
        ok = py:stream_cancel(Ref),
        {[], {error, <<"cancelled">>}} = items(Ref),
        <<"ok">>
    end),
    ?assertEqual({ok, <<"ok">>}, py:eval("erlang.call('inner')")),
    ok = py:unregister_function(inner).

streams_in_a_callback(_Config) ->
    ok = py:register_function(all_of, fun([N]) ->
        {ok, Items} = py:stream('__main__', numbers, [N]),
        Items
    end),
    ?assertEqual({ok, 499500}, py:eval("sum(erlang.call('all_of', 1000))")),
    ok = py:exec("def outer(n):\n    for i in range(n): yield sum(erlang.call('all_of', 100))\n"),
    ?assertEqual({ok, lists:duplicate(70, 4950)}, py:stream('__main__', outer, [70])),
    ok = py:unregister_function(all_of).

uses_the_namespace_of_its_caller(_Config) ->
    ok = py:exec("mine = [7, 8]"),
    ?assertEqual({ok, [7, 8]}, py:stream_eval("mine")),
    ok = py:exec("def of_mine(): return iter(mine)"),
    {ok, Ref} = py:stream_start('__main__', of_mine, []),
    ?assertEqual({[7, 8], done}, items(Ref)).

leaves_messages_alone(_Config) ->
    self() ! before,
    {ok, [0, 1]} = py:stream(builtins, range, [2]),
    {error, timeout} =
        py_stream:collect(py_context_router:bound(), {call, '__main__', numbers, [2, 3600], #{}}, 1),
    ?assertEqual({messages, [before]}, process_info(self(), messages)),
    receive before -> ok end.

%% --- ends that are none of Python's ---------------------------------------------------------

ends_when_its_worker_dies(_Config) ->
    ok = py:exec("import os, signal\ndef dies():\n    yield 1\n    yield 2\n    os.kill(os.getpid(), signal.SIGKILL)\n"),
    {ok, Ref} = py:stream_start('__main__', dies, []),
    ?assertMatch({[1, 2], {error, {worker_died, #{started := true}}}}, items(Ref)),
    ok = py_test:wait_until(fun() -> py:eval("1") =:= {ok, 1} end),
    ok = py:exec("import os, signal\ndef dies():\n    yield 1\n    os.kill(os.getpid(), signal.SIGKILL)\n"),
    ?assertMatch({error, {worker_died, _}}, py:stream('__main__', dies, [])),
    ok = py_test:wait_until(fun() -> py:eval("1") =:= {ok, 1} end).

waits_for_a_slot(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(0),
    {ok, Ref} = py:stream_start('__main__', numbers, [3]),
    ok = py_test:wait_until(fun() -> maps:get(waiting, maps:get(semaphore, py:stats())) =:= 1 end),
    ok = py_semaphore:release(),
    ?assertEqual({[0, 1, 2], done}, items(Ref)),
    ok = py_semaphore:set_max_concurrent(10000).

cancels_one_that_waits_for_a_slot(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    ok = py_semaphore:acquire(0),
    {ok, Ref} = py:stream_start('__main__', numbers, [3]),
    ok = py_test:wait_until(fun() -> maps:get(waiting, maps:get(semaphore, py:stats())) =:= 1 end),
    ok = py:stream_cancel(Ref),
    ?assertEqual({[], {error, <<"cancelled">>}}, items(Ref)),
    ok = py_semaphore:release(),
    ok = py_semaphore:set_max_concurrent(10000).

streams_from_several_pools(_Config) ->
    {ok, _} = py_context_router:start_pool(rest, 2),
    ok = py:register_pool(rest, {itertools, repeat}),
    {ok, A} = py:stream_start(itertools, repeat, [<<"r">>, 500]),
    {ok, B} = py:stream_start('__main__', numbers, [500]),
    ?assertEqual({lists:seq(0, 499), done}, items(B)),
    ?assertEqual({lists:duplicate(500, <<"r">>), done}, items(A)),
    ok = py:unregister_pool({itertools, repeat}),
    ok = py_context_router:stop_pool(rest).

ends_with_its_context(_Config) ->
    {ok, Ctx} = py_context:new(#{}),
    ok = py_context_router:bind_context(Ctx),
    {ok, Ref} = py:stream_start(itertools, count, [], #{credit => 2}),
    {0, 1} = {next(Ref), next(Ref)},
    ok = py_context_router:unbind_context(),
    ok = py_context:stop(Ctx),
    ok = py:stream_ack(Ref, 2),
    ?assertMatch({_, {error, {context_died, shutdown}}}, acknowledged(Ref)).

ends_with_its_pool(_Config) ->
    {ok, _} = py_context_router:start_pool(rest, 1),
    ok = py:register_pool(rest, {itertools, count}),
    {ok, Ref} = py:stream_start(itertools, count, []),
    0 = next(Ref),
    ok = py:unregister_pool({itertools, count}),
    ok = py_context_router:stop_pool(rest),
    ?assertMatch({_, {error, {context_died, shutdown}}}, items(Ref)).

ends_with_the_launcher(_Config) ->
    Launcher = py_test:launcher_pid(),
    {ok, Ref} = py:stream_start('__main__', numbers, [2, 3600]),
    0 = next(Ref),
    ok = py_test:kill(Launcher),
    ?assertMatch({[], {error, {worker_died, _}}}, items(Ref)),
    ok = py_test:wait_until(fun() -> py:eval("1") =:= {ok, 1} end).

%% --- misuse -----------------------------------------------------------------------------------

refuses_what_is_wrong(_Config) ->
    [
        ok = py_test:badarg(Fun)
     || Fun <- [
            fun() -> py:stream(1, range, []) end,
            fun() -> py:stream(builtins, range, none) end,
            fun() -> py:stream(builtins, range, [], []) end,
            fun() -> py:stream_eval(1) end,
            fun() -> py:stream_eval("1", []) end,
            fun() -> py:stream_start(builtins, range, [1], #{credit => 0}) end,
            fun() -> py:stream_start(builtins, range, [1], #{owner => me}) end,
            fun() -> py:stream_start(builtins, range, [1], #{timeout => 1}) end,
            fun() -> py:stream_start(builtins, range, [1], []) end,
            fun() -> py:stream_ack(1) end,
            fun() -> py:stream_ack(make_ref(), 0) end,
            fun() -> py:stream_cancel(none) end
        ]
    ],
    ok.

%% --- helpers ------------------------------------------------------------------------------------

%% What is left, and the end.
acknowledged(Ref) ->
    take(Ref, 1, never, []).
