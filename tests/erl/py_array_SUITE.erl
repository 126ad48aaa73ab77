%% SPDX-License-Identifier: Apache-2.0

%% @doc Arrays in shared memory: what arrives, what comes back, and when the memory is free again.
-module(py_array_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-import(py_array_holders, [no_arrays/0, workers/1, kill/1]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        knows_its_shape_and_type,
        refuses_what_is_no_array,
        converts_lists,
        arrives_as_it_was_made,
        arrives_read_only,
        is_passed_at_any_depth,
        comes_back_as_the_same_term,
        is_the_same_term_when_python_returns_it_twice,
        gives_slices_of_the_same_memory,
        is_read_by_other_contexts,
        is_passed_to_callbacks,
        is_passed_by_messages,
        is_passed_by_threads,
        is_stored_in_the_state,
        is_written_by_its_owner_until_it_is_sealed,
        is_lost_with_its_owner,
        lends_binaries_that_outlive_it,
        is_held_by_python_until_it_forgets,
        is_free_when_a_request_fails,
        is_free_when_a_request_times_out,
        outlives_the_worker_that_made_it,
        is_free_when_its_worker_dies,
        frees_many
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    ok = no_arrays(),
    Config.

end_per_testcase(_Case, _Config) ->
    [{ok, _} = py:call(Ctx, ep_arrays, forget, [], #{timeout => 20000}) || Ctx <- py_context_router:contexts()],
    try
        ok = no_arrays(),
        py_test:clean()
    catch
        Class:Reason -> {fail, {Class, Reason}}
    end.

%% --- what it is ------------------------------------------------------------------------------

knows_its_shape_and_type(_Config) ->
    {ok, A} = py_array:from_binary(<<0:(24 * 8)>>, int16, {3, 4}),
    ?assertEqual(int16, py_array:dtype(A)),
    ?assertEqual({3, 4}, py_array:shape(A)),
    ?assertEqual(24, py_array:nbytes(A)),
    ?assertEqual(
        #{
            dtype => int16,
            shape => {3, 4},
            nbytes => 24,
            state => sealed,
            owner => undefined,
            holders => #{vm => 1, workers => 0}
        },
        py_array:info(A)
    ),
    ?assert(py_array:is_array(A)),
    [?assertNot(py_array:is_array(Term)) || Term <- [make_ref(), self(), <<>>, {A}, 1]],
    {ok, B} = py_array:from_binary(<<0:(24 * 8)>>, int16, {3, 4}),
    ?assert(A =:= A),
    ?assert(A =/= B).

refuses_what_is_no_array(_Config) ->
    {ok, A} = py_array:from_binary(<<1, 2>>, uint8, {2}),
    Bad = [
        fun() -> py_array:from_binary(<<1, 2, 3>>, int16, {2}) end,
        fun() -> py_array:from_binary(<<1, 2>>, int17, {2}) end,
        fun() -> py_array:from_binary(<<1, 2>>, uint8, [2]) end,
        fun() -> py_array:from_binary(<<1, 2>>, uint8, {-2}) end,
        fun() -> py_array:from_binary(<<1, 2>>, uint8, {two}) end,
        fun() -> py_array:from_binary(<<>>, uint8, {1 bsl 40, 1 bsl 40, 0}) end,
        fun() -> py_array:from_binary("ab", uint8, {2}) end,
        fun() -> py_array:new(object, {2}) end,
        fun() -> py_array:write(A, 1, <<1, 2>>) end,
        fun() -> py_array:write(A, -1, <<1>>) end,
        fun() -> py_array:slice(A, 1, 2) end,
        fun() -> py_array:slice(A, 3, 0) end,
        fun() -> py_array:shape(make_ref()) end,
        fun() -> py_array:to_binary(nope) end,
        fun() -> py_array:seal(make_ref()) end,
        fun() -> py_array:from_list([[1, 2], [3]], int8) end,
        fun() -> py_array:from_list([[1], 2], int8) end,
        fun() -> py_array:from_list([128], int8) end,
        fun() -> py_array:from_list([1.5], int8) end,
        fun() -> py_array:from_list([a], float64) end
    ],
    [py_test:badarg(Fun) || Fun <- Bad].

converts_lists(_Config) ->
    Rows = [
        {[true, false], bool, {2}},
        {[-128, 127], int8, {2}},
        {[[0, 65535]], uint16, {1, 2}},
        {[1 bsl 63], uint64, {1}},
        {[-(1 bsl 63)], int64, {1}},
        {[1.5, nan, infinity, neg_infinity], float64, {4}},
        {[1.5, nan, infinity, neg_infinity], float32, {4}},
        {[1.5, nan, infinity, neg_infinity], float16, {4}},
        {[{1.5, -2.0}], complex64, {1}},
        {[{1.5, nan}], complex128, {1}},
        {2.5, float64, {}},
        {[], int32, {0}},
        {[[], []], int32, {2, 0}}
    ],
    [
        begin
            {ok, A} = py_array:from_list(List, Dtype),
            ?assertEqual({List, Dtype, Shape}, {element(2, py_array:to_list(A)), py_array:dtype(A), py_array:shape(A)})
        end
     || {List, Dtype, Shape} <- Rows
    ].

%% --- what Python sees ---------------------------------------------------------------------------

arrives_as_it_was_made(_Config) ->
    Shapes = [{}, {0}, {1}, {5}, {2, 3}, {3, 0, 2}, {1, 2, 3, 4}, {40000}],
    [
        begin
            N = lists:foldl(fun(S, Acc) -> S * Acc end, 1, tuple_to_list(Shape)) * size_of(Dtype),
            Bin = bytes(Dtype, N),
            {ok, A} = py_array:from_binary(Bin, Dtype, Shape),
            {ok, {Seen, Type, Data, Writable}} = py:call(ep_arrays, describe, [A]),
            ?assertEqual({Shape, false, true}, {Seen, Writable, Data =:= Bin}),
            ?assert(lists:member(Type, [atom_to_binary(Dtype), format(Dtype)])),
            ?assertEqual({ok, Bin}, py_array:to_binary(A))
        end
     || Dtype <- dtypes(), Shape <- Shapes
    ].

arrives_read_only(_Config) ->
    {ok, A} = py_array:from_binary(<<7, 8>>, uint8, {2}),
    {error, {Type, _}} = py:call(ep_arrays, write, [A]),
    ?assert(lists:member(Type, ['TypeError', 'ValueError'])),
    ?assertEqual({ok, <<7, 8>>}, py_array:to_binary(A)).

is_passed_at_any_depth(_Config) ->
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    ?assertEqual({ok, <<"ab">>}, py:call(ep_arrays, data, [A])),
    ?assertEqual({ok, <<"ab">>}, py:call(ep_arrays, data, [], #{array => A})),
    ?assertEqual({ok, <<"ab">>}, py:eval("a[0]['k'][1].tobytes()", #{a => [#{k => {1, A}}]})),
    {ok, B} = py:call(ep_arrays, share, [A]),
    ?assertEqual({ok, #{<<"a">> => [B, {B, #{<<"b">> => B}}]}}, nested(A)),
    ?assertEqual({ok, 3000}, py:eval("len(x)", #{x => lists:duplicate(3000, A)})).

nested(A) ->
    py:eval("(lambda e: e.nest(e.share(a)))(__import__('ep_arrays'))", #{a => A}).

comes_back_as_the_same_term(_Config) ->
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    ?assertEqual({ok, A}, py:call(ep_arrays, share, [A])),
    {ok, S} = py_array:slice(A, 1, 1),
    ?assertEqual({ok, S}, py:call(ep_arrays, share, [S])),
    {ok, E} = py_array:from_binary(<<>>, float32, {0, 3}),
    ?assertEqual({ok, E}, py:call(ep_arrays, share, [E])).

is_the_same_term_when_python_returns_it_twice(_Config) ->
    ok = py:exec("import erlang, ep_arrays\nx = ep_arrays.share_text(100)"),
    {ok, A} = py:eval("x"),
    ?assertEqual({ok, {A, [A]}}, py:eval("(x, [x])")),
    {ok, [B, {B, B}]} = py:eval("(lambda y: [y, (y, y)])(erlang.share(b'ab'))"),
    ?assertEqual({0, {ok, <<"ab">>}}, {workers(B), py_array:to_binary(B)}),
    ?assertEqual({ok, B}, py:call(ep_arrays, share, [B])),
    ok = py:exec("del x").

gives_slices_of_the_same_memory(_Config) ->
    Bin = bytes(uint16, 2 * 100 * 1000),
    {ok, A} = py_array:from_binary(Bin, uint16, {100, 1000}),
    {ok, S} = py_array:slice(A, 20, 50),
    ?assertEqual({50, 1000}, py_array:shape(S)),
    Part = binary:part(Bin, 20 * 2000, 50 * 2000),
    ?assertEqual({ok, Part}, py_array:to_binary(S)),
    ?assertEqual({ok, Part}, py:call(ep_arrays, data, [S])),
    {ok, T} = py_array:slice(S, 49, 1),
    ?assertEqual({ok, binary:part(Bin, 69 * 2000, 2000)}, py:call(ep_arrays, data, [T])),
    {ok, U} = py_array:slice(A, 100, 0),
    ?assertEqual({ok, <<>>}, py:call(ep_arrays, data, [U])).

is_read_by_other_contexts(_Config) ->
    [One, Two] = py_context_router:contexts(),
    {ok, A} = py:call(One, ep_arrays, share_text, [100000]),
    ?assertEqual(sealed, maps:get(state, py_array:info(A))),
    {ok, Bin} = py:call(Two, ep_arrays, data, [A]),
    ?assertEqual({ok, Bin}, py_array:to_binary(A)),
    ?assertEqual({ok, Bin}, py:call(One, ep_arrays, data, [A])).

is_passed_to_callbacks(_Config) ->
    Self = self(),
    ok = py:register_function(array_back, fun([A]) -> Self ! {got, A}, A end),
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    ?assertEqual({ok, <<"ab">>}, asked(A)),
    ?assertEqual(A, receive {got, Got} -> Got after 5000 -> none end),
    %% What Python keeps of an outcome stays.
    {ok, 1} = py:eval("(lambda e: e.ask_and_keep('array_back', e.share(a)))(__import__('ep_arrays'))", #{a => A}),
    ?assertEqual(A, receive {got, Kept} -> Kept after 5000 -> none end),
    ?assertEqual({ok, [<<"ab">>]}, py:call(ep_arrays, kept, [])),
    ok = py:unregister_function(array_back).

asked(A) ->
    py:eval("(lambda e: e.ask('array_back', e.share(a)))(__import__('ep_arrays'))", #{a => A}).

is_passed_by_messages(_Config) ->
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    {ok, none} = py:eval("(lambda e: e.send(p, e.share(a)))(__import__('ep_arrays'))", #{a => A, p => self()}),
    ?assertEqual(A, received()),
    {ok, none} = py:eval("(lambda e: e.send(p, (e.share(a), 'x' * 20000)))(__import__('ep_arrays'))", #{a => A, p => self()}),
    ?assertMatch({A, <<_:20000/binary>>}, received()),
    {ok, none} = py:call(ep_arrays, send_in_thread, [self(), 10]),
    ?assertEqual({ok, <<0, 1, 2, 3, 4, 5, 6, 7, 8, 9>>}, py_array:to_binary(received())),
    %% More of them than there is credit for at once.
    {ok, _} = py:eval("[erlang.send(p, ('array', erlang.share(b'x'))) for _ in range(3000)]", #{p => self()}),
    [?assertEqual({ok, <<"x">>}, py_array:to_binary(received())) || _ <- lists:seq(1, 3000)].

received() ->
    receive {<<"array">>, A} -> A after 5000 -> none end.

is_passed_by_threads(_Config) ->
    ok = py:register_function(array_back, fun([A]) -> A end),
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    ?assertEqual(
        {ok, <<"ab">>}, py:eval("(lambda e: e.ask_in_thread('array_back', e.share(a)))(__import__('ep_arrays'))", #{a => A})
    ),
    ok = py:unregister_function(array_back).

is_stored_in_the_state(_Config) ->
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    ok = py:state_store(an_array, A),
    ?assertEqual({ok, <<"ab">>}, py:eval("erlang.state_get(erlang.atom('an_array')).tobytes()")),
    ok = py:state_remove(an_array).

%% --- open and lost ---------------------------------------------------------------------------------

is_written_by_its_owner_until_it_is_sealed(_Config) ->
    {ok, A} = py_array:new(uint8, {4}),
    ?assertMatch(#{state := open, owner := Owner} when Owner =:= self(), py_array:info(A)),
    ?assertEqual({error, not_sealed}, py_array:to_binary(A)),
    ?assertEqual({error, not_sealed}, py_array:slice(A, 0, 1)),
    {error, {'ValueError', Text}} = py:call(ep_arrays, data, [[A]]),
    ?assertNotEqual(nomatch, string:find(Text, "args[0][0]: the array is not sealed")),
    ok = py_array:write(A, 1, <<7, 8>>),
    {_, Ref} = spawn_monitor(fun() -> exit({py_array:write(A, 0, <<1>>), py_array:seal(A)}) end),
    ?assertEqual({{error, not_owner}, {error, not_owner}}, receive {'DOWN', Ref, _, _, Why} -> Why end),
    ok = py_array:seal(A),
    ok = py_array:seal(A),
    ?assertEqual({error, sealed}, py_array:write(A, 0, <<1>>)),
    ?assertEqual({ok, <<0, 7, 8, 0>>}, py_array:to_binary(A)),
    ?assertEqual({ok, <<0, 7, 8, 0>>}, py:call(ep_arrays, data, [A])).

is_lost_with_its_owner(_Config) ->
    Self = self(),
    {_, Ref} = spawn_monitor(fun() -> Self ! {made, py_array:new(uint8, {4})} end),
    {ok, A} = receive {made, Made} -> Made end,
    receive {'DOWN', Ref, _, _, _} -> ok end,
    ok = py_test:wait_until(fun() -> maps:get(state, py_array:info(A)) =:= lost orelse py_array:info(A) end),
    ?assertEqual({error, lost}, py_array:to_binary(A)),
    ?assertEqual({error, lost}, py_array:write(A, 0, <<1>>)),
    ?assertEqual({error, lost}, py_array:seal(A)),
    ?assertMatch({error, {'ValueError', _}}, py:call(ep_arrays, data, [A])).

%% --- memory --------------------------------------------------------------------------------------------

lends_binaries_that_outlive_it(_Config) ->
    Bin = bytes(uint8, 1 bsl 20),
    {ok, Lent} = lent(Bin),
    erlang:garbage_collect(),
    %% New arrays do not take its place.
    _ = [py_array:from_binary(<<0:(1 bsl 23)>>, uint8, {1 bsl 20}) || _ <- lists:seq(1, 20)],
    ?assert(Lent =:= Bin),
    ?assertMatch(#{count := N} when N >= 1, py_shared_memory:stats()),
    ?assertEqual(Bin, binary:copy(Lent)).

lent(Bin) ->
    {ok, A} = py_array:from_binary(Bin, uint8, {byte_size(Bin)}),
    py_array:to_binary(A).

is_held_by_python_until_it_forgets(_Config) ->
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    {ok, none} = py:call(ep_arrays, drop, [A]),
    ?assertEqual(0, workers(A)),
    {ok, 1} = py:call(ep_arrays, keep, [A]),
    ?assertEqual(1, workers(A)),
    {ok, none} = py:call(ep_arrays, drop, [A]),
    ?assertEqual(1, workers(A)),
    {ok, none} = py:call(ep_arrays, forget, []),
    ok = py_test:wait_until(fun() -> workers(A) =:= 0 orelse workers(A) end),
    {ok, B} = py:call(ep_arrays, share_and_keep, [10]),
    ?assertEqual(1, workers(B)),
    {ok, none} = py:call(ep_arrays, forget, []),
    ok = py_test:wait_until(fun() -> workers(B) =:= 0 orelse workers(B) end),
    ?assertEqual({ok, <<0, 1, 2, 3, 4, 5, 6, 7, 8, 9>>}, py:call(ep_arrays, data, [B])).

is_free_when_a_request_fails(_Config) ->
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    ?assertMatch({error, {'ValueError', "2"}}, py:call(ep_arrays, fail, [A])),
    ?assertMatch({error, {'ModuleNotFoundError', _}}, py:call(no_such_module, fail, [A])),
    ?assertMatch({error, {'TypeError', _}}, py:call(ep_arrays, fail, [A, fun() -> ok end])),
    ?assertEqual(0, workers(A)).

is_free_when_a_request_times_out(_Config) ->
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    ?assertEqual({error, timeout}, py:eval("__import__('time').sleep(30) or a", #{a => A}, 50)),
    Ctx = py:context(),
    %% Queued behind one that runs, and dropped there.
    Caller = py_test:spawn_caller(fun() -> py:call(Ctx, time, sleep, [5], #{}, 100) end),
    _ = [py:eval(Ctx, "a", #{a => A}, 1) || _ <- lists:seq(1, 5)],
    {error, timeout} = py_test:result_of(Caller),
    ok = py_test:wait_until(fun() -> workers(A) =:= 0 orelse workers(A) end).

outlives_the_worker_that_made_it(Config) ->
    Ctx = py:context(1),
    {ok, A} = py:call(Ctx, ep_arrays, share_and_keep, [200000]),
    {ok, Bin} = py_array:to_binary(A),
    ok = kill(Ctx),
    ?assertEqual(0, workers(A)),
    ?assertEqual({ok, Bin}, py_array:to_binary(A)),
    ?assertEqual({ok, Bin}, py:call(Ctx, ep_arrays, data, [A])),
    Other = case proplists:get_value(group, Config) of worker -> py:context(2); _ -> Ctx end,
    ?assertEqual({ok, Bin}, py:call(Other, ep_arrays, data, [A])).

is_free_when_its_worker_dies(_Config) ->
    Ctx = py:context(1),
    {ok, A} = py_array:from_binary(<<"ab">>, uint8, {2}),
    {ok, 1} = py:call(Ctx, ep_arrays, keep, [A]),
    {ok, _} = py:call(Ctx, ep_arrays, share_and_keep, [200000]),
    ok = kill(Ctx),
    ok = py_test:wait_until(fun() -> workers(A) =:= 0 orelse workers(A) end).

frees_many(_Config) ->
    {ok, Arrays} = py:call(ep_arrays, many, [500, 5000]),
    ?assertEqual({ok, 500}, py:call(builtins, len, [Arrays])),
    ?assertEqual([0], lists:usort([workers(A) || A <- Arrays])),
    Ours = [element(2, py_array:from_binary(<<I:32>>, uint8, {4})) || I <- lists:seq(1, 500)],
    {ok, 500} = py:call(builtins, len, [Ours]).

%% --- helpers ---------------------------------------------------------------------------------------------------

dtypes() ->
    [bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, float32, float64, complex64, complex128].

size_of(Dtype) ->
    case atom_to_list(Dtype) of
        "bool" -> 1;
        Name -> list_to_integer(lists:dropwhile(fun(C) -> C > $9 end, Name)) div 8
    end.

%% As the buffer protocol has it.
format(Dtype) ->
    Formats = #{
        bool => "?", int8 => "b", int16 => "h", int32 => "i", int64 => "q", uint8 => "B", uint16 => "H",
        uint32 => "I", uint64 => "Q", float16 => "e", float32 => "f", float64 => "d", complex64 => "Zf",
        complex128 => "Zd"
    },
    list_to_binary(maps:get(Dtype, Formats)).

bytes(bool, N) -> binary:copy(<<1>>, N);
bytes(_Dtype, N) -> << <<(I rem 251)>> || I <- lists:seq(1, N) >>.
