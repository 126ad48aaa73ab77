%% SPDX-License-Identifier: Apache-2.0

%% @doc Channels and byte channels: order, bounds, ends, who waits, and what a death leaves behind.
-module(py_channel_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, worker}, {group, owngil}].

groups() ->
    [{worker, cases()}, {owngil, [
        is_a_queue,
        receives_in_coroutines,
        keeps_the_order_of_what_is_read_ahead,
        gives_each_item_to_one_of_many_interpreters,
        echoes,
        wakes_threads
    ]}].

cases() ->
    [
        is_a_queue,
        keeps_items_of_all_kinds,
        refuses_what_python_cannot_have,
        is_busy_when_it_is_full,
        ends_when_it_is_closed,
        times_out,
        is_the_same_term_when_it_comes_back,
        passes_handles_and_arrays,
        lives_as_long_as_python_has_it,
        refuses_misuse,
        lets_one_wait,
        wakes_threads,
        loses_nothing_to_a_timeout,
        loses_nothing_to_an_interrupt,
        loses_nothing_to_a_dead_caller,
        outlives_its_reader,
        serves_many_readers_in_turn,
        feeds_a_stream,
        receives_in_coroutines,
        leaves_nothing_behind_when_a_coroutine_gives_up,
        lets_one_coroutine_wait,
        gives_other_coroutines_turns,
        keeps_the_order_of_what_is_read_ahead,
        keeps_what_a_dead_coroutine_had_ahead,
        loses_one_item_at_most_with_a_coroutine_that_dies,
        gives_each_item_to_one_of_many_coroutines,
        gives_each_item_to_one_of_many_interpreters,
        tries_until_there_is_nothing,
        bounds_what_is_read_ahead,
        reads_ahead_of_more_channels_than_it_can,
        echoes,
        is_erlangs_until_python_has_it,
        keeps_the_boundaries_of_messages,
        wakes_who_waits_while_python_sends_on,
        is_busy_for_python,
        lets_one_process_wait,
        forgets_a_process_that_has_died,
        leaves_no_message_after_a_timeout,
        echoes_in_coroutines,
        carries_large_messages
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
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:clean().

%% --- channels --------------------------------------------------------------------------------

is_a_queue(_Config) ->
    {ok, Ch} = py_channel:new(),
    ?assertEqual(#{size => 0, max_size => 0, closed => false}, py_channel:info(Ch)),
    Items = lists:seq(1, 1000),
    [ok = py_channel:send(Ch, I) || I <- Items],
    ?assertMatch(#{size := Size} when Size >= 1000, py_channel:info(Ch)),
    ok = py_channel:close(Ch),
    ?assertEqual({ok, Items}, py:call(ep_channels, all_of, [Ch])),
    ?assertEqual(#{size => 0, max_size => 0, closed => true}, py_channel:info(Ch)).

keeps_items_of_all_kinds(_Config) ->
    {ok, Ch} = py_channel:new(),
    Pid = self(),
    Items = [1.5, <<"text">>, <<255>>, {a, [1, "x"], #{<<"k">> => none}}, Pid, none, binary:copy(<<"z">>, 100000)],
    [ok = py_channel:send(Ch, Item) || Item <- Items],
    ok = py_channel:close(Ch),
    ?assertEqual(
        {ok, [1.5, <<"text">>, <<255>>, {<<"a">>, [1, "x"], #{<<"k">> => none}}, Pid, none, binary:copy(<<"z">>, 100000)]},
        py:call(ep_channels, all_of, [Ch])
    ).

refuses_what_python_cannot_have(_Config) ->
    {ok, Ch} = py_channel:new(),
    ?assertMatch({error, {'TypeError', "message[1]: " ++ _}}, py_channel:send(Ch, [1, fun() -> ok end])),
    %% Which keys are the same, Python finds out.
    ok = py_channel:send(Ch, #{1 => a, 1.0 => b}),
    ?assertMatch({error, {'ValueError', _}}, py:call(ep_channels, take, [Ch])),
    ?assertMatch(#{size := 0}, py_channel:info(Ch)).

is_busy_when_it_is_full(_Config) ->
    {ok, Ch} = py_channel:new(#{max_size => 20}),
    ok = py_channel:send(Ch, <<"0123456789">>),
    ?assertEqual(busy, py_channel:send(Ch, <<"0123456789">>)),
    ?assertMatch(#{size := 15, max_size := 20}, py_channel:info(Ch)),
    ?assertEqual({ok, <<"0123456789">>}, py:call(ep_channels, take, [Ch])),
    ?assertEqual(busy, py_channel:send(Ch, <<"01234567890123456789">>)),
    ok = py_channel:send(Ch, <<"012345678901234">>).

ends_when_it_is_closed(_Config) ->
    {ok, Ch} = py_channel:new(),
    ok = py_channel:send(Ch, last),
    ok = py_channel:close(Ch),
    ok = py_channel:close(Ch),
    ?assertEqual({error, closed}, py_channel:send(Ch, more)),
    ?assertEqual({ok, <<"last">>}, py:call(ep_channels, try_take, [Ch])),
    ?assertEqual({ok, [<<"ChannelClosed">>, <<"ChannelClosed">>]}, py:call(ep_channels, what_ends, [Ch])),
    {ok, Ch2} = py_channel:new(),
    ok = py_channel:send(Ch2, 1),
    ?assertEqual({ok, 1}, py:call(ep_channels, with_close, [Ch2])),
    ?assertEqual({error, closed}, py_channel:send(Ch2, more)).

times_out(_Config) ->
    {ok, Ch} = py_channel:new(),
    ?assertEqual({ok, none}, py:call(ep_channels, try_take, [Ch])),
    ?assertMatch({error, {'TimeoutError', _}}, py:call(ep_channels, take, [Ch, 0])),
    {Us, Answer} = timer:tc(fun() -> py:call(ep_channels, take, [Ch, 50]) end),
    ?assertMatch({error, {'TimeoutError', _}}, Answer),
    ?assert(Us >= 50000),
    ok = py_channel:send(Ch, kept),
    ?assertEqual({ok, <<"kept">>}, py:call(ep_channels, take, [Ch, 50])).

is_the_same_term_when_it_comes_back(_Config) ->
    {ok, Ch} = py_channel:new(),
    {ok, Bytes} = py_byte_channel:new(),
    {ok, Dict} = py:shared_dict_new(),
    {ok, Buffer} = py_buffer:new(),
    Handles = [Ch, Bytes, Dict, Buffer],
    ?assertEqual({ok, {Handles, [1]}}, py:call(ep_channels, same, [{Handles, [1]}])),
    ?assertEqual({ok, Ch}, py_event_loop:run(ep_channels, same, [Ch])),
    ?assertMatch({ok, [_, _, _]}, py:call(ep_channels, refused, [Ch])),
    ?assertMatch({error, {'TypeError', _}}, py:call(pickle, dumps, [Ch])),
    ?assertNot(py_array:is_array(Ch)).

passes_handles_and_arrays(_Config) ->
    {ok, Ch} = py_channel:new(),
    {ok, Other} = py_channel:new(),
    {ok, Array} = py_array:from_binary(<<1, 2, 3>>, uint8, {3}),
    ok = py_channel:send(Ch, [Other, Array]),
    ok = py_channel:send(Other, through),
    ?assertEqual({ok, [<<"through">>, 3]}, py:call(ep_channels, take_through, [Ch])).

lives_as_long_as_python_has_it(_Config) ->
    Ctx = py:context(1),
    {ok, none} = py:call(Ctx, ep_channels, keep, [element(2, py_channel:new())]),
    erlang:garbage_collect(),
    {ok, Ch} = py:call(Ctx, ep_channels, kept, []),
    ok = py_channel:send(Ch, still),
    ?assertEqual({ok, <<"still">>}, py:call(py:context(2), ep_channels, take, [Ch])),
    {ok, none} = py:call(Ctx, ep_channels, forget, []).

refuses_misuse(_Config) ->
    {ok, Ch} = py_channel:new(),
    {ok, Bytes} = py_byte_channel:new(),
    [
        ?assertError(badarg, Fun())
     || Fun <- [
            fun() -> py_channel:new(#{max_size => -1}) end,
            fun() -> py_channel:new(#{size => 1}) end,
            fun() -> py_channel:new([]) end,
            fun() -> py_channel:send(Bytes, 1) end,
            fun() -> py_channel:send(make_ref(), 1) end,
            fun() -> py_channel:close(Bytes) end,
            fun() -> py_channel:info(self()) end,
            fun() -> py_byte_channel:send(Bytes, 1) end,
            fun() -> py_byte_channel:send(Ch, <<>>) end,
            fun() -> py_byte_channel:recv(Bytes, -1) end,
            fun() -> py_byte_channel:recv(Ch) end,
            fun() -> py_buffer:new(-1) end,
            fun() -> py_buffer:close(Ch) end
        ]
    ].

%% --- who waits -------------------------------------------------------------------------------

%% A request that waits for an item: its marker tells that it has begun; it asks soon after.
waiting_caller(Config, Name, Call) ->
    Marker = py_test:marker(Config, Name),
    Caller = py_test:spawn_caller(fun() -> Call(Marker) end),
    ok = py_test:wait_for_file(Marker),
    Caller.

lets_one_wait(Config) ->
    {ok, Ch} = py_channel:new(),
    [Ctx1, Ctx2] = contexts(),
    Caller = waiting_caller(Config, "waits", fun(Marker) ->
        py:call(Ctx1, ep_channels, mark_and_receive, [Ch, Marker])
    end),
    ok = py_test:wait_until(fun() ->
        %% Before the first one has asked, this one waits a moment.
        case py:call(Ctx2, ep_channels, take, [Ch, 20]) of
            {error, {'RuntimeError', _}} -> true;
            {error, {'TimeoutError', _}} -> false
        end
    end),
    ok = py_channel:send(Ch, 1),
    ?assertEqual({ok, 1}, py_test:result_of(Caller)).

contexts() -> [py:context(1), py:context(2)].

wakes_threads(_Config) ->
    {ok, Ch} = py_channel:new(),
    Caller = py_test:spawn_caller(fun() -> py:call(ep_channels, in_thread, [Ch]) end),
    [ok = py_channel:send(Ch, I) || I <- lists:seq(1, 100)],
    ok = py_channel:send(Ch, binary:copy(<<"x">>, 50000)),
    ok = py_channel:close(Ch),
    {ok, Items} = py_test:result_of(Caller),
    ?assertEqual(lists:seq(1, 100) ++ [binary:copy(<<"x">>, 50000)], Items).

loses_nothing_to_a_timeout(_Config) ->
    {ok, Ch} = py_channel:new(),
    ?assertEqual({error, timeout}, py:call(ep_channels, take, [Ch], #{}, 50)),
    ok = py_channel:send(Ch, kept),
    ?assertEqual({ok, <<"kept">>}, py:call(ep_channels, take, [Ch])).

loses_nothing_to_an_interrupt(Config) ->
    {ok, Ch} = py_channel:new(),
    Ctx = py:context(1),
    Caller = waiting_caller(Config, "interrupted", fun(Marker) ->
        py:call(Ctx, ep_channels, catch_and_go_on, [Ch, Marker])
    end),
    ok = py:interrupt(Ctx),
    ok = py_channel:send(Ch, 1),
    {ok, [How, 1]} = py_test:result_of(Caller),
    ?assert(lists:member(How, [<<"first">>, <<"second">>])),
    ?assertMatch(#{size := 0}, py_channel:info(Ch)).

loses_nothing_to_a_dead_caller(Config) ->
    {ok, Ch} = py_channel:new(),
    Ctx = py:context(1),
    {Pid, Ref} = waiting_caller(Config, "killed", fun(Marker) ->
        py:call(Ctx, ep_channels, mark_and_receive, [Ch, Marker])
    end),
    exit(Pid, kill),
    ?assertError({caller, killed}, py_test:result_of({Pid, Ref})),
    %% The context is free again when the request has ended.
    {ok, 3} = py:eval(Ctx, <<"3">>),
    ok = py_channel:send(Ch, kept),
    ?assertEqual({ok, <<"kept">>}, py:call(ep_channels, take, [Ch])).

outlives_its_reader(Config) ->
    {ok, Ch} = py_channel:new(),
    [Ctx1, Ctx2] = contexts(),
    Caller = waiting_caller(Config, "dies", fun(Marker) ->
        py:call(Ctx1, ep_channels, die_receiving, [Ch, Marker])
    end),
    [ok = py_channel:send(Ch, I) || I <- [1, 2, 3]],
    ?assertMatch({error, {worker_died, #{reason := 3}}}, py_test:result_of(Caller)),
    ?assertEqual({ok, 2}, py:call(Ctx2, ep_channels, take, [Ch])),
    %% One that dies while it waits is no waiter.
    OsPid = py_test:os_pid(Ctx2),
    Second = waiting_caller(Config, "dies_waiting", fun(Marker) ->
        py:call(Ctx2, ep_channels, all_until_death, [Ch, Marker])
    end),
    ok = py_test:wait_until(fun() -> maps:get(size, py_channel:info(Ch)) =:= 0 end),
    ok = py_test:kill(OsPid),
    ?assertMatch({error, {worker_died, _}}, py_test:result_of(Second)),
    Third = py_test:spawn_caller(fun() -> py:call(Ctx1, ep_channels, take, [Ch]) end),
    ok = py_channel:send(Ch, after_all),
    ?assertEqual({ok, <<"after_all">>}, py_test:result_of(Third)).

serves_many_readers_in_turn(_Config) ->
    {ok, Ch} = py_channel:new(),
    [ok = py_channel:send(Ch, I) || I <- lists:seq(1, 400)],
    Callers = [
        py_test:spawn_caller(fun() -> [py:call(Ctx, ep_channels, take, [Ch]) || _ <- lists:seq(1, 100)] end)
     || Ctx <- contexts() ++ contexts()
    ],
    Taken = [I || Caller <- Callers, {ok, I} <- py_test:result_of(Caller)],
    ?assertEqual(lists:seq(1, 400), lists:sort(Taken)).

feeds_a_stream(_Config) ->
    {ok, Ch} = py_channel:new(),
    {ok, Ref} = py:stream_start(ep_channels, doubled, [Ch]),
    [
        begin
            ok = py_channel:send(Ch, I),
            ?assertEqual(2 * I, receive {py_stream, Ref, {data, Twice}} -> Twice end)
        end
     || I <- lists:seq(1, 20)
    ],
    ok = py_channel:close(Ch),
    ?assertEqual(done, receive {py_stream, Ref, End} -> End end).

%% --- coroutines ------------------------------------------------------------------------------

receives_in_coroutines(_Config) ->
    {ok, Ch} = py_channel:new(),
    Ref = py_event_loop:create_task(ep_channels, async_receive, [Ch, 3]),
    [ok = py_channel:send(Ch, I) || I <- [1, 2, 3, 4]],
    ?assertEqual({ok, [1, 2, 3]}, py_event_loop:await(Ref, 20000)),
    All = py_event_loop:create_task(ep_channels, async_all, [Ch]),
    ok = py_channel:send(Ch, 5),
    ok = py_channel:close(Ch),
    ?assertEqual({ok, [4, 5]}, py_event_loop:await(All, 20000)),
    ?assertEqual({ok, <<"closed">>}, py_event_loop:run(ep_channels, async_closed, [Ch])).

leaves_nothing_behind_when_a_coroutine_gives_up(_Config) ->
    {ok, Ch} = py_channel:new(),
    ?assertEqual({ok, <<"timeout">>}, py_event_loop:run(ep_channels, async_timeout, [Ch])),
    ok = py_channel:send(Ch, kept),
    ?assertEqual({ok, [<<"kept">>]}, py_event_loop:run(ep_channels, async_receive, [Ch, 1])).

lets_one_coroutine_wait(_Config) ->
    {ok, Ch} = py_channel:new(),
    ?assertEqual(
        {ok, {<<"another receiver waits for this channel already">>, <<"timeout">>}},
        py_event_loop:run(ep_channels, async_second, [Ch])
    ).

gives_other_coroutines_turns(_Config) ->
    {ok, Ch} = py_channel:new(),
    [ok = py_channel:send(Ch, I) || I <- lists:seq(1, 300)],
    ok = py_channel:close(Ch),
    ?assertEqual({ok, {300, true}}, py_event_loop:run(ep_channels, async_turns, [Ch])).

%% --- what is read ahead ------------------------------------------------------------------------

keeps_the_order_of_what_is_read_ahead(_Config) ->
    {ok, Ch} = py_channel:new(),
    [Ctx, Other] = contexts(),
    [ok = py_channel:send(Ch, I) || I <- lists:seq(1, 200)],
    ?assertEqual({ok, lists:seq(1, 40)}, in_loop(Ctx, async_receive, [Ch, 40])),
    ?assertMatch(#{size := 320}, py_channel:info(Ch)),
    ?assertEqual({ok, 41}, py:call(Ctx, ep_channels, take, [Ch])),
    ?assertEqual({ok, [42, 43, 44]}, in_loop(Ctx, async_receive, [Ch, 3])),
    ?assertEqual({ok, [45, 46]}, py:call(Ctx, ep_channels, thread_receive, [Ch, 2])),
    ?assertEqual({ok, 47}, py:call(Other, ep_channels, try_take, [Ch])),
    ?assertEqual({ok, lists:seq(48, 147)}, py:call(Other, ep_channels, thread_receive, [Ch, 100])),
    ok = py_channel:close(Ch),
    ?assertEqual({ok, lists:seq(148, 200)}, in_loop(Ctx, async_all, [Ch])),
    ?assertMatch(#{size := 0}, py_channel:info(Ch)).

in_loop(Ctx, Function, Args) ->
    Caller = py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(Ctx),
        py_event_loop:run(ep_channels, Function, Args, #{timeout => infinity})
    end),
    py_test:result_of(Caller).

keeps_what_a_dead_coroutine_had_ahead(_Config) ->
    {ok, Ch} = py_channel:new(),
    [Ctx, Other] = contexts(),
    [ok = py_channel:send(Ch, I) || I <- lists:seq(1, 200)],
    ?assertEqual({ok, lists:seq(1, 40)}, in_loop(Ctx, async_receive, [Ch, 40])),
    OsPid = py_test:os_pid(Ctx),
    ok = py_test:kill(OsPid),
    ?assertMatch(#{size := 320}, py_channel:info(Ch)),
    ok = py_channel:close(Ch),
    ?assertEqual({ok, lists:seq(41, 200)}, py:call(Other, ep_channels, all_of, [Ch])).

%% The one that it had begun to read.
loses_one_item_at_most_with_a_coroutine_that_dies(Config) ->
    [Ctx, Other] = contexts(),
    N = 20000,
    Path = iolist_to_binary(filename:join(?config(priv_dir, Config), "read_until_death")),
    {ok, Ch} = py_channel:new(),
    [ok = py_channel:send(Ch, I) || I <- lists:seq(1, N)],
    OsPid = py_test:os_pid(Ctx),
    Caller = py_test:spawn_caller(fun() ->
        ok = py_context_router:bind_context(Ctx),
        py_event_loop:run(ep_channels, async_write, [Ch, Path], #{timeout => infinity})
    end),
    ok = py_test:wait_until(fun() -> filelib:file_size(Path) > 500 end),
    ok = py_test:kill(OsPid),
    ?assertMatch({error, {worker_died, _}}, py_test:result_of(Caller)),
    ok = py_channel:close(Ch),
    {ok, Rest} = py:call(Other, ep_channels, all_of, [Ch]),
    {ok, Text} = file:read_file(Path),
    Read = [binary_to_integer(Line) || Line <- binary:split(Text, <<"\n">>, [global, trim])],
    ?assertEqual(lists:seq(1, length(Read)), Read),
    ?assertEqual(lists:seq(N - length(Rest) + 1, N), Rest),
    ?assert(lists:member(N - length(Read) - length(Rest), [0, 1])).

gives_each_item_to_one_of_many_coroutines(_Config) ->
    {ok, Ch} = py_channel:new(),
    N = 4000,
    Coroutines = [
        py_test:spawn_caller(fun() -> in_loop(Ctx, async_receive, [Ch, N div 8]) end)
     || Ctx <- contexts() ++ contexts()
    ],
    [ok = py_channel:send(Ch, I) || I <- lists:seq(1, N)],
    Results = [py_test:result_of(Caller) || Caller <- Coroutines],
    %% Two that wait at a time are one too many.
    Taken = lists:append([Items || {ok, Items} <- Results]),
    ok = py_channel:close(Ch),
    {ok, Rest} = py:call(ep_channels, all_of, [Ch]),
    Missing = lists:seq(1, N) -- (Taken ++ Rest),
    ?assertEqual(length(Taken), length(lists:usort(Taken))),
    case [E || {error, E} <- Results] of
        [] -> ?assertEqual([], Missing);
        Errors -> ?assertMatch([{'RuntimeError', _} | _], Errors)
    end.

%% Threads of one process, which in mode owngil no GIL keeps apart.
gives_each_item_to_one_of_many_interpreters(Config) ->
    Mode = proplists:get_value(mode, Config),
    {ok, Contexts} = py_context_router:start_pool(together, 4, #{mode => Mode, num_workers => 1}),
    N = 20000,
    [
        begin
            {ok, Ch} = py_channel:new(),
            [ok = py_channel:send(Ch, I) || I <- lists:seq(1, N)],
            ok = py_channel:close(Ch),
            Callers = [py_test:spawn_caller(fun() -> py:call(Ctx, ep_channels, threads_all, [Ch, 2]) end) || Ctx <- Contexts],
            Read = lists:append([Lists || Caller <- Callers, {ok, Lists} <- [py_test:result_of(Caller)]]),
            ?assertEqual(8, length(Read)),
            [?assertEqual(lists:sort(Items), Items) || Items <- Read],
            ?assertEqual(lists:seq(1, N), lists:sort(lists:append(Read)))
        end
     || _ <- lists:seq(1, py_test:times(3, 30))
    ],
    ok = py_context_router:stop_pool(together).

%% What another process takes back on its way here is not nothing.
tries_until_there_is_nothing(_Config) ->
    N = 3000,
    [
        begin
            {ok, Ch} = py_channel:new(),
            [ok = py_channel:send(Ch, I) || I <- lists:seq(1, N)],
            ok = py_channel:close(Ch),
            Callers = [py_test:spawn_caller(fun() -> py:call(Ctx, ep_channels, thread_tries, [Ch]) end) || Ctx <- contexts()],
            Read = [Items || Caller <- Callers, {ok, Items} <- [py_test:result_of(Caller)]],
            ?assertEqual(lists:seq(1, N), lists:sort(lists:append(Read)))
        end
     || _ <- lists:seq(1, py_test:times(5, 30))
    ].

bounds_what_is_read_ahead(_Config) ->
    {ok, Ch} = py_channel:new(#{max_size => 100}),
    Caller = py_test:spawn_caller(fun() -> in_loop(py:context(1), async_all, [Ch]) end),
    [send_when_there_is_room(Ch, I) || I <- lists:seq(1, 2000)],
    ok = py_channel:close(Ch),
    ?assertEqual({ok, lists:seq(1, 2000)}, py_test:result_of(Caller)).

send_when_there_is_room(Ch, Item) ->
    case py_channel:send(Ch, Item) of
        ok ->
            ok;
        busy ->
            erlang:yield(),
            send_when_there_is_room(Ch, Item)
    end.

reads_ahead_of_more_channels_than_it_can(_Config) ->
    Channels = [element(2, py_channel:new()) || _ <- lists:seq(1, 40)],
    [ok = py_channel:send(Ch, I) || Ch <- Channels, I <- lists:seq(1, 50)],
    Expected = [lists:duplicate(40, I) || I <- lists:seq(1, 50)],
    ?assertEqual({ok, Expected}, in_loop(py:context(1), async_many, [Channels, 50])),
    [?assertMatch(#{size := 0}, py_channel:info(Ch)) || Ch <- Channels].

%% --- byte channels ---------------------------------------------------------------------------

echoes(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    Caller = py_test:spawn_caller(fun() -> py:call(ep_channels, echo, [Ch]) end),
    [
        begin
            ok = py_byte_channel:send(Ch, <<"m", (integer_to_binary(I))/binary>>),
            ?assertEqual({ok, <<"M", (integer_to_binary(I))/binary>>}, py_byte_channel:recv(Ch, 20000))
        end
     || I <- lists:seq(1, 200)
    ],
    ok = py_byte_channel:close(Ch),
    ?assertEqual({ok, 200}, py_test:result_of(Caller)),
    ?assertEqual({error, closed}, py_byte_channel:recv(Ch)).

is_erlangs_until_python_has_it(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    ?assertEqual({error, empty}, py_byte_channel:try_receive(Ch)),
    [ok = py_byte_channel:send(Ch, B) || B <- [<<"a">>, <<>>, <<"c">>]],
    ?assertEqual([{ok, <<"a">>}, {ok, <<>>}, {ok, <<"c">>}], [py_byte_channel:recv(Ch, 0) || _ <- [1, 2, 3]]),
    Waiter = py_test:spawn_caller(fun() -> py_byte_channel:recv(Ch) end),
    ok = py_byte_channel:send(Ch, <<"later">>),
    ?assertEqual({ok, <<"later">>}, py_test:result_of(Waiter)),
    ok = py_byte_channel:send(Ch, <<"last">>),
    ok = py_byte_channel:close(Ch),
    ?assertEqual({ok, <<"last">>}, py_byte_channel:recv(Ch)),
    ?assertEqual({error, closed}, py_byte_channel:try_receive(Ch)),
    ?assertEqual({error, closed}, py_byte_channel:send(Ch, <<>>)).

keeps_the_boundaries_of_messages(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    Sizes = [0, 1, 31, 32, 191, 192, 193, 32767, 32768, 65537, 1000000],
    [ok = py_byte_channel:send(Ch, binary:copy(<<"x">>, N)) || N <- Sizes],
    ok = py_byte_channel:close(Ch),
    ?assertEqual({ok, Sizes}, py:call(ep_channels, lengths, [Ch])),
    ?assertEqual({ok, true}, py:call(ep_channels, bytes_end, [Ch])),
    {ok, Back} = py_byte_channel:new(),
    [{ok, true} = py:call(ep_channels, send_length, [Back, N]) || N <- Sizes],
    ?assertEqual(Sizes, [byte_size(B) || _ <- Sizes, {ok, B} <- [py_byte_channel:try_receive(Back)]]),
    %% Valid UTF-8 or not, it is bytes.
    {ok, Bytes} = py_byte_channel:new(),
    [ok = py_byte_channel:send(Bytes, B) || B <- [<<"text">>, <<255, 0>>]],
    ?assertEqual({ok, {<<"bytes">>, <<"text">>}}, py:call(ep_channels, receive_bytes, [Bytes])),
    ?assertEqual({ok, {<<"bytes">>, <<255, 0>>}}, py:call(ep_channels, receive_bytes, [Bytes])).

%% The caller serves several messages in one go, and wakes after the last: one that was not woken
%% would wait until the end.
wakes_who_waits_while_python_sends_on(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    Ns = lists:seq(1, 20000),
    Receiver = py_test:spawn_caller(fun() -> [{ok, <<N:32>>} = py_byte_channel:recv(Ch, 20000) || N <- Ns], all end),
    ?assertEqual({ok, none}, py:call(ep_channels, send_numbers, [Ch, length(Ns)], #{}, infinity)),
    ?assertEqual(all, py_test:result_of(Receiver)).

is_busy_for_python(_Config) ->
    {ok, Ch} = py_byte_channel:new(#{max_size => 4}),
    ?assertEqual({ok, true}, py:call(ep_channels, send_bytes, [Ch, {bytes, <<"abc">>}])),
    ?assertMatch({error, {'RuntimeError', "the channel is busy" ++ _}}, py:call(ep_channels, send_bytes, [Ch, {bytes, <<"de">>}])),
    ?assertEqual({ok, <<"abc">>}, py_byte_channel:recv(Ch)),
    [{ok, true} = py:call(ep_channels, send_bytes, [Ch, {bytes, <<>>}]) || _ <- [1, 2, 3, 4]],
    ?assertMatch({error, {'RuntimeError', _}}, py:call(ep_channels, send_bytes, [Ch, {bytes, <<>>}])),
    {ok, none} = py:call(ep_channels, close, [Ch]),
    ?assertEqual({error, closed}, py_byte_channel:send(Ch, <<>>)),
    ?assertMatch({error, {'RuntimeError', "the channel is closed"}}, py:call(ep_channels, send_bytes, [Ch, {bytes, <<>>}])).

lets_one_process_wait(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    Waiter = py_test:spawn_caller(fun() -> first_waiter(Ch) end),
    ok = py_test:wait_until(fun() -> py_byte_channel:recv(Ch, 1) =:= {error, waiter_exists} end),
    {ok, true} = py:call(ep_channels, send_bytes, [Ch, {bytes, <<"one">>}]),
    ?assertEqual({ok, <<"one">>}, py_test:result_of(Waiter)),
    Closed = py_test:spawn_caller(fun() -> py_byte_channel:recv(Ch) end),
    ok = py_byte_channel:close(Ch),
    ?assertEqual({error, closed}, py_test:result_of(Closed)).

%% Whoever looks whether it waits may wait at that moment.
first_waiter(Ch) ->
    case py_byte_channel:recv(Ch) of
        {error, waiter_exists} -> first_waiter(Ch);
        Answer -> Answer
    end.

forgets_a_process_that_has_died(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    {Pid, Ref} = py_test:spawn_caller(fun() -> first_waiter(Ch) end),
    ok = py_test:wait_until(fun() -> py_byte_channel:recv(Ch, 1) =:= {error, waiter_exists} end),
    exit(Pid, kill),
    ?assertError({caller, killed}, py_test:result_of({Pid, Ref})),
    ?assertEqual({error, timeout}, py_byte_channel:recv(Ch, 1)).

leaves_no_message_after_a_timeout(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    [{error, timeout} = py_byte_channel:recv(Ch, 1) || _ <- lists:seq(1, 20)],
    {ok, true} = py:call(ep_channels, send_bytes, [Ch, {bytes, <<"x">>}]),
    ?assertEqual({ok, <<"x">>}, py_byte_channel:recv(Ch, 0)),
    ?assertEqual({messages, []}, process_info(self(), messages)).

echoes_in_coroutines(_Config) ->
    {ok, Ch} = py_byte_channel:new(),
    {ok, none} = py_event_loop:run(ep_channels, async_timeout_bytes, [Ch]),
    Ref = py_event_loop:create_task(ep_channels, async_echo, [Ch, 3]),
    Large = binary:copy(<<"l">>, 70000),
    [
        begin
            ok = py_byte_channel:send(Ch, B),
            ?assertEqual({ok, B}, py_byte_channel:recv(Ch, 20000))
        end
     || B <- [<<"a">>, Large, <<>>]
    ],
    ?assertEqual({ok, none}, py_event_loop:await(Ref, 20000)).

carries_large_messages(_Config) ->
    {ok, Ch} = py_channel:new(),
    Large = binary:copy(<<"y">>, 5 bsl 20),
    Terms = [Large, [Large, #{<<"k">> => Large}], lists:seq(1, 100000)],
    [ok = py_channel:send(Ch, Term) || Term <- Terms],
    ok = py_channel:close(Ch),
    ?assertEqual({ok, Terms}, py:call(ep_channels, all_of, [Ch])),
    {ok, Bytes} = py_byte_channel:new(),
    {ok, true} = py:call(ep_channels, send_length, [Bytes, 5 bsl 20]),
    {ok, Back} = py_byte_channel:recv(Bytes),
    ?assertEqual(5 bsl 20, byte_size(Back)).
