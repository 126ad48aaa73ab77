%% SPDX-License-Identifier: Apache-2.0

%% @doc Worker processes that are replaced while they serve: the keys `max_requests' and `max_rss'.
-module(py_recycle_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()] ++
        [
            contexts_of_one_process_move_together,
            a_large_process_is_replaced,
            nested_requests_do_not_count,
            a_successor_that_does_not_start_changes_nothing,
            a_process_that_dies_meanwhile_is_followed_all_the_same,
            a_context_without_a_pool_moves_too,
            bad_values_are_refused_with_the_reason
        ].

groups() ->
    [
        {Mode, [
            no_request_fails_and_all_are_served_in_order,
            a_context_keeps_its_pid_and_loses_its_namespaces,
            a_request_that_runs_ends_where_it_began,
            callbacks_go_on_while_a_successor_waits,
            what_is_registered_and_reloaded_meanwhile_is_there,
            the_former_process_ends_in_order,
            timeouts_hit_their_request_across_a_move
        ]}
     || {Mode, _} <- py_test:modes()
    ].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    case proplists:get_value(group, Config) of
        undefined ->
            Config;
        Group ->
            ok = py_test:start([{max_requests, 40}, {num_contexts, 2}, {max_concurrent, 64} | proplists:get_value(Group, py_test:modes())]),
            Config
    end.

end_per_testcase(_Case, Config) ->
    case proplists:is_defined(group, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

pid(Ctx) ->
    {ok, Pid} = py:call(Ctx, os, getpid, [], #{}, 30000),
    Pid.

%% Makes requests until the context has another process than that one.
other(Ctx, Former) ->
    ok = py_test:wait_until(fun() -> pid(Ctx) =/= Former end, 60000),
    pid(Ctx).

no_request_fails_and_all_are_served_in_order(_Config) ->
    Contexts = py_context_router:contexts(),
    Callers = [
        py_test:spawn_caller(fun() ->
            ok = py_context_router:bind_context(Ctx),
            until_processes(5, 1, [])
        end)
     || _ <- lists:seq(1, 8), Ctx <- Contexts
    ],
    %% Casts of one process run in order, across moves too.
    Self = self(),
    ok = py:register_function(note, fun([N]) -> Self ! {ran, N}, N end),
    [ok = py:cast(hd(Contexts), erlang, call, [note, N]) || N <- lists:seq(1, 200)],
    [receive {ran, N} -> ok after 60000 -> ct:fail({lost, N}) end || N <- lists:seq(1, 200)],
    Results = lists:append([py_test:result_of(Caller) || Caller <- Callers]),
    ?assertEqual([], [R || R <- Results, element(1, R) =/= ok]).

%% Each caller until it has seen so many processes of its context.
until_processes(Many, N, Seen) ->
    case numbered(N) of
        {ok, Pid} when length(Seen) < Many -> until_processes(Many, N + 1, lists:usort([Pid | Seen]));
        Other -> [Other]
    end.

%% A reply that belongs to another request would differ.
numbered(N) ->
    case py:eval("(__import__('os').getpid(), n)", #{n => N}, 60000) of
        {ok, {Pid, N}} -> {ok, Pid};
        Other -> {wrong, Other}
    end.

a_context_keeps_its_pid_and_loses_its_namespaces(_Config) ->
    Ctx = py:context(1),
    First = pid(Ctx),
    ok = py:exec(Ctx, "kept = 1"),
    #{contexts := [#{restarts := Restarts, os_pid := First} | _]} = py:stats(),
    Second = other(Ctx, First),
    {error, {'NameError', _}} = py:eval(Ctx, "kept"),
    Ctx = py:context(1),
    #{contexts := [#{restarts := Restarts, os_pid := Now} | _]} = py:stats(),
    ?assertNotEqual(First, Now),
    {ok, Env} = py_context:create_local_env(Ctx),
    CtxRef = py_context:get_nif_ref(Ctx),
    ok = py_nif:context_exec(CtxRef, "local = 2", Env),
    _ = other(Ctx, Second),
    {error, {'NameError', _}} = py_nif:context_eval(CtxRef, "local", #{}, Env),
    ok = py_nif:context_exec(CtxRef, "local = 3", Env),
    {ok, 3} = py_nif:context_eval(CtxRef, "local", #{}, Env).

a_request_that_runs_ends_where_it_began(_Config) ->
    Ctx = py:context(1),
    Self = self(),
    ok = py:register_function(hold, fun([]) -> Self ! {held, self()}, receive go -> ok end end),
    Launcher = py_test:launcher_pid(),
    %% Nothing is due now.
    Processes = length(lists:usort([py_test:os_pid(C) || C <- py_context_router:contexts()])),
    Long = py_test:spawn_caller(fun() ->
        py:eval(Ctx, "(__import__('os').getpid(), __import__('erlang').call('hold'), __import__('os').getpid())", #{}, 60000)
    end),
    Holder = receive {held, Pid} -> Pid after 30000 -> ct:fail(not_held) end,
    %% They wait in the ring, and count.
    Others = [py_test:spawn_caller(fun() -> pid(Ctx) end) || _ <- lists:seq(1, 45)],
    %% The successor is up, and waits.
    ok = py_test:wait_until(fun() -> length(py_test:workers(Launcher)) > Processes end, 30000),
    Holder ! go,
    {ok, {Same, _, Same}} = py_test:result_of(Long),
    _ = [py_test:result_of(Other) || Other <- Others],
    _ = other(Ctx, Same).

workers() ->
    py_test:workers(py_test:launcher_pid()).

callbacks_go_on_while_a_successor_waits(_Config) ->
    ok = py:register_function(nested, fun([N]) -> {ok, R} = py:eval("m + 1", #{m => N}), R end),
    Callers = [
        py_test:spawn_caller(fun() ->
            [py:eval("__import__('erlang').call('nested', n)", #{n => N}, 60000) || N <- lists:seq(1, 100)]
        end)
     || _ <- lists:seq(1, 4)
    ],
    Expected = [{ok, N + 1} || N <- lists:seq(1, 100)],
    [?assertEqual(Expected, py_test:result_of(Caller)) || Caller <- Callers].

%% Each value that was returned is seen by each later request, whichever process serves it.
what_is_registered_and_reloaded_meanwhile_is_there(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), atom_to_list(proplists:get_value(group, Config))),
    File = filename:join(Dir, "ep_recycled.py"),
    ok = filelib:ensure_dir(File),
    Write = fun(N) -> ok = file:write_file(File, ["VALUE = ", integer_to_list(N), "\n# ", lists:duplicate(N, $x), "\n"]) end,
    ok = Write(0),
    ok = py_import:add_path(Dir),
    ok = py_import:ensure_imported(ep_recycled),
    Ctx = py:context(1),
    [
        begin
            ok = Write(N),
            ok = py:reload(ep_recycled),
            [{ok, N} = py:eval(Ctx, "__import__('ep_recycled').VALUE", #{}, 30000) || _ <- lists:seq(1, 15)]
        end
     || N <- lists:seq(1, 30)
    ],
    ok = py_import:clear_imports(),
    ok = py_import:clear_paths().

%% Python's exit functions run there, and nothing stays.
the_former_process_ends_in_order(Config) ->
    Ctx = py:context(1),
    Marker = py_test:marker(Config, "ended"),
    Before = pid(Ctx),
    ok = py:exec(Ctx, ["import atexit\nopen_file = open\natexit.register(lambda: open_file('", Marker, "', 'a').write('x'))\n"]),
    _ = other(Ctx, Before),
    ok = py_test:wait_until(fun() -> not py_test:is_running(Before) end, 30000),
    ok = py_test:wait_until(fun() -> py_test:marks(Marker) =/= [] end, 30000).

timeouts_hit_their_request_across_a_move(_Config) ->
    Ctx = py:context(1),
    Callers = [
        py_test:spawn_caller(fun() ->
            [
                case N rem 10 of
                    0 -> py:eval(Ctx, "__import__('time').sleep(30)", #{}, 20);
                    _ -> py:eval(Ctx, "n", #{n => N}, 60000)
                end
             || N <- lists:seq(1, 60)
            ]
        end)
     || _ <- lists:seq(1, 4)
    ],
    Expected = [case N rem 10 of 0 -> {error, timeout}; _ -> {ok, N} end || N <- lists:seq(1, 60)],
    [?assertEqual(Expected, py_test:result_of(Caller)) || Caller <- Callers].

contexts_of_one_process_move_together(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {max_concurrent, 64}]),
    {ok, Contexts} = py_context_router:start_pool(shared, 3, #{num_workers => 1, max_requests => 60, preload => [colorsys]}),
    Callers = [
        py_test:spawn_caller(fun() -> ok = py_context_router:bind_context(Ctx), until_processes(3, 1, []) end)
     || Ctx <- Contexts, _ <- [1, 2]
    ],
    Results = lists:append([py_test:result_of(Caller) || Caller <- Callers]),
    ?assertEqual([], [R || R <- Results, element(1, R) =/= ok]),
    ok = py_test:wait_until(fun() -> length(lists:usort([pid(Ctx) || Ctx <- Contexts])) =:= 1 end, 30000),
    [{ok, true} = py:eval(Ctx, "'colorsys' in __import__('sys').modules") || Ctx <- Contexts],
    ok = py_context_router:stop_pool(shared).

a_large_process_is_replaced(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {max_rss, 150000000}]),
    Ctx = py:context(1),
    Small = pid(Ctx),
    [Small = pid(Ctx) || _ <- lists:seq(1, 300)],
    ok = py:exec(Ctx, "leak = b'x' * 200000000"),
    Next = other(Ctx, Small),
    [Next = pid(Ctx) || _ <- lists:seq(1, 300)],
    ok.

nested_requests_do_not_count(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {max_requests, 30}]),
    Ctx = py:context(1),
    ok = py:register_function(many, fun([]) -> [{ok, N} = py:eval("n", #{n => N}) || N <- lists:seq(1, 100)], ok end),
    Before = pid(Ctx),
    {ok, _} = py:eval(Ctx, "__import__('erlang').call('many')"),
    2 = ep_nif:lane_requests(py_context_table:lane(Ctx)),
    Before = pid(Ctx).

%% What it does first is what is asked for when it starts.
a_successor_that_does_not_start_changes_nothing(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {max_requests, 20}]),
    Ctx = py:context(1),
    ok = py_preload:set_code("raise ValueError('broken while it runs')"),
    ok = logger:add_handler(?MODULE, py_test, #{config => self(), level => warning}),
    try
        Before = pid(Ctx),
        Text = (fun Until() -> Before = pid(Ctx), receive {logged, T} -> T after 0 -> Until() end end)(),
        ?assertMatch({match, _}, re:run(Text, "pool default, context 1 is to be replaced, and its successor does not come up .*broken while it runs")),
        [Before = pid(Ctx) || _ <- lists:seq(1, 100)],
        ok = py_preload:set_code("x = 2222"),
        _ = other(Ctx, Before),
        {ok, 2222} = py:eval(Ctx, "x")
    after
        ok = py_preload:clear_code(),
        ok = logger:remove_handler(?MODULE)
    end.

a_process_that_dies_meanwhile_is_followed_all_the_same(_Config) ->
    ok = py_test:start([{num_contexts, 2}, {max_requests, 10}]),
    Ctx = py:context(1),
    [
        begin
            case [py:call(Ctx, os, getpid, [], #{}, 30000) || _ <- lists:seq(1, 7 + N)] of
                Results -> [{ok, _} = R || R <- Results, not is_death(R)]
            end,
            %% Whichever process serves the context now, and whatever goes on beside it.
            _ = [os:cmd("kill -9 " ++ integer_to_list(OsPid)) || OsPid <- lists:sublist(lists:reverse(workers()), 1 + N rem 2)],
            ok = py_test:wait_until(fun() -> {ok, 4.0} =:= py:call(Ctx, math, sqrt, [16]) end, 30000)
        end
     || N <- lists:seq(1, 40)
    ],
    ok = py_test:wait_until(fun() -> length(workers()) =:= 2 end, 60000).

is_death({error, {worker_died, _}}) -> true;
is_death(_) -> false.

a_context_without_a_pool_moves_too(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    {ok, Ctx} = py_context:new(#{max_requests => 10, preload => "def answer(): return 42"}),
    Before = pid(Ctx),
    _ = other(Ctx, Before),
    {ok, 42} = py:call(Ctx, '__main__', answer, []),
    ok = py_context:stop(Ctx),
    ok = py_test:wait_until(fun() -> length(workers()) =:= 1 end, 60000).

bad_values_are_refused_with_the_reason(_Config) ->
    [
        begin
            {error, {erlang_python, {{bad_config, Key, Value, Why}, _}}} = py_test:restart([{Key, Value}]),
            ?assertMatch({match, _}, re:run(Why, ["^", atom_to_list(Key), ": must be "]))
        end
     || Key <- [max_requests, max_rss], Value <- [0, -1, 1.5, never]
    ],
    ok.
