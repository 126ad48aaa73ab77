%% SPDX-License-Identifier: Apache-2.0

%% @doc Arrays with numpy, within a limit, and while many workers die.
-module(py_array_numpy_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-import(py_array_holders, [no_arrays/0, workers/1, kill/1, alive/1]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, numpy}, {group, limits}, {group, deaths}].

groups() ->
    [{numpy, numpy_cases()}, {limits, limit_cases()}, {deaths, [stays_exact_while_workers_die]}].

numpy_cases() ->
    [
        is_an_ndarray,
        shares_results,
        shares_what_is_not_contiguous,
        returns_what_empty_made,
        refuses_what_is_no_number,
        writes_nothing_once_sealed,
        interchanges
    ].

limit_cases() ->
    [stays_within_the_limit, gives_memory_back].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Group, Config) when Group =:= numpy; Group =:= limits; Group =:= deaths ->
    Limit = [{max_shared_bytes, 100 bsl 20} || Group =:= limits],
    ok = py_test:start([{num_contexts, 2}, {python, list_to_binary(py_test:test_python())} | Limit]),
    case Group =/= numpy orelse py:call(importlib, import_module, [numpy]) of
        {error, {'ModuleNotFoundError', _}} -> {skip, "numpy is not installed: make venv"};
        _ -> [{group, Group} | Config]
    end.

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

%% --- with numpy -------------------------------------------------------------------------------------------

is_an_ndarray(_Config) ->
    {ok, A} = py_array:from_list([[1.0, 2.0], [3.0, 4.0]], float64),
    ?assertEqual({ok, [<<"ndarray">>, <<"float64">>, false]}, py:eval("[type(a).__name__, str(a.dtype), a.flags.writeable]", #{a => A})),
    ?assertEqual({ok, 10.0}, py:eval("float(a.sum())", #{a => A})),
    ?assertEqual({ok, [[1.0, 2.0], [3.0, 4.0]]}, py:eval("a", #{a => A})),
    ?assertEqual({ok, [2.0, 4.0]}, py:eval("a[:, 1]", #{a => A})).

shares_results(_Config) ->
    ok = py:exec("import numpy as np, erlang"),
    {ok, #{<<"k">> := [A, {B, 3}]}} = py:eval("{'k': [np.arange(6).reshape(2, 3), (np.float32(1) + np.zeros(2, 'f4'), 3)]}", #{}, #{arrays => shared}),
    ?assertEqual({int64, {ok, [[0, 1, 2], [3, 4, 5]]}}, {py_array:dtype(A), py_array:to_list(A)}),
    ?assertEqual({float32, {ok, [1.0, 1.0]}}, {py_array:dtype(B), py_array:to_list(B)}),
    {ok, Z} = py:eval("np.array(2.5)", #{}, #{arrays => shared}),
    ?assertEqual({{}, {ok, 2.5}}, {py_array:shape(Z), py_array:to_list(Z)}),
    ?assertEqual({ok, A}, py:call(ep_arrays, same, [A], #{}, #{arrays => shared})),
    ?assertEqual({ok, [[0, 1, 2], [3, 4, 5]]}, py:call(ep_arrays, same, [A])),
    [
        begin
            {ok, D} = py:eval(["np.zeros((2, 3), '", atom_to_list(Dtype), "')"], #{}, #{arrays => shared}),
            ?assertEqual({Dtype, {2, 3}}, {py_array:dtype(D), py_array:shape(D)})
        end
     || Dtype <- py_array_SUITE:dtypes()
    ].

shares_what_is_not_contiguous(_Config) ->
    ok = py:exec("import numpy as np, erlang"),
    Rows = [
        {"np.arange(12).reshape(3, 4)[:, ::2]", [[0, 2], [4, 6], [8, 10]]},
        {"np.arange(6).reshape(2, 3).T", [[0, 3], [1, 4], [2, 5]]},
        {"np.arange(4)[::-1]", [3, 2, 1, 0]},
        {"np.asfortranarray(np.arange(4).reshape(2, 2))", [[0, 1], [2, 3]]},
        {"np.array([1, 2], dtype='>i4')", [1, 2]},
        {"np.broadcast_to(np.array([7]), (3,))", [7, 7, 7]}
    ],
    [
        begin
            {ok, A} = py:eval(["erlang.share(", Code, ")"]),
            ?assertEqual({Code, {ok, List}}, {Code, py_array:to_list(A)})
        end
     || {Code, List} <- Rows
    ].

returns_what_empty_made(_Config) ->
    ok = py:exec(
        "import numpy as np, erlang\n"
        "def make():\n"
        "    global made\n"
        "    made = erlang.empty((2, 2), 'int32')\n"
        "    made[...] = [[1, 2], [3, 4]]\n"
        "    return made\n"
        "def part():\n"
        "    return make()[0]\n"
    ),
    {ok, A} = py:call('__main__', make, []),
    ?assertEqual({int32, {ok, [[1, 2], [3, 4]]}}, {py_array:dtype(A), py_array:to_list(A)}),
    ?assertEqual({ok, A}, py:eval("made")),
    ?assertEqual({ok, A}, py:eval("erlang.share(made)")),
    ?assertEqual({ok, [1, 2]}, py:call('__main__', part, [])),
    {ok, <<"float64">>} = py:eval("str(erlang.empty(3).dtype)"),
    {ok, [0, 3]} = py:eval("list(erlang.empty((0, 3), np.float32).shape)"),
    ok = py:exec("del made").

refuses_what_is_no_number(_Config) ->
    ok = py:exec("import numpy as np, erlang"),
    Bad = [
        {"np.array([object()])", "object"},
        {"np.array(['a'])", "<U1"},
        {"np.zeros(2, dtype=[('a', 'i4')])", "[('a', '<i4')]"},
        {"np.array(['2024-02-29'], dtype='datetime64[D]')", "datetime64[D]"}
    ],
    [
        begin
            {error, {'TypeError', Text}} = py:eval(Code, #{}, #{arrays => shared}),
            ?assertNotEqual({nomatch, Text}, {string:find(Text, Dtype), Text}),
            ?assertMatch({error, {'TypeError', _}}, py:eval(["erlang.share(", Code, ")"]))
        end
     || {Code, Dtype} <- Bad
    ],
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.share(1)")),
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.empty(2, 'object')")),
    ?assertMatch({error, {'ValueError', _}}, py:eval("erlang.empty(-1)")),
    ?assertMatch({error, {'MemoryError', _}}, py:eval("erlang.empty(1 << 60)")),
    ?assertMatch({error, {'TypeError', _}}, py:eval("erlang.SharedArray()")),
    ?assertMatch({error, {'TypeError', _}}, py:eval("__import__('pickle').dumps(erlang.share(b'a'))")).

writes_nothing_once_sealed(_Config) ->
    ok = py:exec("import erlang\na = erlang.empty(4, 'uint8')\na[...] = 1\nb = a[:]"),
    {ok, A} = py:eval("a"),
    ?assertMatch({error, {'ValueError', _}}, py:eval("a.__setitem__(0, 2)")),
    %% An older view does not know; the memory does.
    ?assertMatch({error, {worker_died, #{reason := 'SIGSEGV'}}}, py:eval("b.__setitem__(0, 2)")),
    ?assertEqual({ok, <<1, 1, 1, 1>>}, py_array:to_binary(A)).

interchanges(_Config) ->
    {ok, A} = py_array:from_list([1.0, 2.0], float64),
    ?assertEqual({ok, [1.0, 2.0]}, py:eval("list(memoryview(__import__('erlang').share(a)))", #{a => A})),
    ?assertEqual({ok, 16}, py:eval("__import__('erlang').share(a).nbytes", #{a => A})),
    Others = [
        {pyarrow, "__import__('pyarrow').py_buffer(a).size", 16},
        {pandas, "float(__import__('pandas').Series(a).sum())", 3.0},
        {numpy, "list(map(float, __import__('numpy').from_dlpack(a)))", [1.0, 2.0]}
    ],
    [
        ?assertEqual({Library, {ok, Value}}, {Library, py:eval(Code, #{a => A})})
     || {Library, Code, Value} <- Others, {ok, true} =:= py:eval(["__import__('importlib.util').util.find_spec('", atom_to_list(Library), "') is not None"])
    ].

%% --- limits -------------------------------------------------------------------------------------------------

stays_within_the_limit(_Config) ->
    Size = 40 bsl 20,
    {ok, A} = py_array:new(uint8, {Size}),
    ?assertMatch({error, {'MemoryError', _}}, py_array:new(uint8, {64 bsl 20})),
    ?assertMatch({error, {'MemoryError', _}}, py:call(ep_arrays, share, [{bytes, binary:copy(<<0>>, 60 bsl 20)}])),
    ?assertMatch({ok, _}, py:call(ep_arrays, share_text, [1000])),
    ok = py_array:seal(A),
    ?assertEqual({ok, Size}, py:call(ep_arrays, length, [A])),
    #{arrays := #{shared_bytes := Bytes, max := Max}} = py:stats(),
    ?assert(Bytes =< Max).

gives_memory_back(_Config) ->
    [
        begin
            {ok, _} = py:call(Ctx, ep_arrays, many, [10, 100000]),
            {ok, _} = py_array:new(uint8, {10 bsl 20})
        end
     || Ctx <- py_context_router:contexts()
    ],
    erlang:garbage_collect(),
    ok = no_arrays(),
    %% What the VM itself writes stays warm, up to a bound.
    ok = py_test:wait_until(fun() ->
        #{shared_bytes := Bytes} = py_shared_memory:stats(),
        Bytes =< 64 bsl 20 orelse Bytes
    end).

%% 10,000 arrays in eight processes of ours and eight workers, twenty of which are killed.
stays_exact_while_workers_die(_Config) ->
    {ok, Contexts} = py_context_router:start_pool(many, 8, #{mode => worker, python => list_to_binary(py_test:test_python())}),
    #{count := 0, shared_bytes := Before} = py_shared_memory:stats(),
    Fds = py_test:fd_count(py_test:vm_pid()),
    Maps = py_test:memfd_maps(py_test:vm_pid()),
    Self = self(),
    Pids = [spawn_link(fun() -> make_and_pass(Contexts, 1250, 0), Self ! {done, self()} end) || _ <- lists:seq(1, 8)],
    Killed = kill_some(Contexts, 20, []),
    [receive {done, Pid} -> ok end || Pid <- Pids],
    ?assertEqual(20, length(Killed)),
    [ok = alive(Ctx) || Ctx <- Contexts],
    [{ok, _} = py:call(Ctx, ep_arrays, forget, []) || Ctx <- Contexts],
    ok = no_arrays(),
    ok = py_test:wait_until(
        fun() ->
            #{shared_bytes := Bytes} = py_shared_memory:stats(),
            Bytes =< max(Before, 64 bsl 20) orelse Bytes
        end,
        20000
    ),
    %% But for the segment that stays warm. Idle processes still have terms of dead workers.
    ok = py_test:wait_until(fun() ->
        _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
        Now = {py_test:fd_count(py_test:vm_pid()) - Fds, py_test:memfd_maps(py_test:vm_pid()) - Maps},
        (element(1, Now) =< 3 andalso element(2, Now) =< 3) orelse Now
    end),
    ok = py_context_router:stop_pool(many).

make_and_pass(_Contexts, 0, _Turn) ->
    ok;
make_and_pass(Contexts, N, Turn) ->
    Ctx = lists:nth(1 + Turn rem length(Contexts), Contexts),
    Other = lists:nth(1 + (Turn + 1) rem length(Contexts), Contexts),
    Bin = binary:copy(<<N:32>>, 1 + N rem 3000),
    {ok, A} = py_array:from_binary(Bin, uint8, {byte_size(Bin)}),
    %% A worker that has just been killed is no matter.
    case py:call(Ctx, ep_arrays, share, [A]) of
        {ok, Same} -> A = Same;
        {error, {Died, _}} when Died =:= worker_died; Died =:= worker_unavailable -> ok
    end,
    _ = N rem 10 =:= 0 andalso py:call(Ctx, ep_arrays, keep, [A]),
    case py:call(Other, ep_arrays, share_text, [100 + N]) of
        {ok, Made} ->
            {ok, Data} = py_array:to_binary(Made),
            case py:call(Ctx, ep_arrays, data, [Made]) of
                {ok, Seen} -> Data = Seen;
                {error, {Died2, _}} when Died2 =:= worker_died; Died2 =:= worker_unavailable -> ok
            end;
        {error, {Died3, _}} when Died3 =:= worker_died; Died3 =:= worker_unavailable -> ok
    end,
    make_and_pass(Contexts, N - 1, Turn + 1).

kill_some(_Contexts, 0, Killed) ->
    Killed;
kill_some(Contexts, N, Killed) ->
    Ctx = lists:nth(1 + N rem length(Contexts), Contexts),
    ok = alive(Ctx),
    OsPid = py_test:os_pid(Ctx),
    ok = py_test:kill(OsPid),
    ok = py_test:wait_for_exit([OsPid], 10000),
    kill_some(Contexts, N - 1, [OsPid | Killed]).
