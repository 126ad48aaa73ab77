%% SPDX-License-Identifier: Apache-2.0

%% @doc Requests that do not keep their caller waiting: cast, spawn_call, parallel.
-module(py_async_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(WAIT_MS, 20000).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        casts_in_every_form,
        runs_casts_in_the_order_they_were_made,
        does_not_wait_for_a_cast,
        runs_the_casts_of_a_process_that_ends,
        ends_the_helper_of_casts_with_its_caller,
        ends_the_helper_of_casts_with_its_context,
        logs_the_errors_of_casts_at_debug,
        spawns_calls_in_every_form,
        sends_one_response_for_each_call,
        awaits_again_after_a_timeout,
        cancels_the_calls_of_a_spawner_that_dies,
        answers_spawned_calls_on_dead_contexts,
        uses_context_and_namespace_of_the_caller,
        raises_badarg_in_the_caller,
        leaves_no_process_behind,
        answers_an_item_whose_helper_is_killed
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_test:clean().

%% What was cast before on this context is done when this returns.
flush_casts(Config, Target) ->
    Mark = py_test:marker(Config, "flush"),
    ok = py:cast(Target, ep_probe, mark, [Mark]),
    py_test:wait_for_file(Mark).

%% --- cast -----------------------------------------------------------------------------

casts_in_every_form(Config) ->
    Mark = py_test:marker(Config, "cast"),
    Ctx = py:context(),
    ok = py:cast(ep_probe, mark, [Mark, 1]),
    ok = py:cast("ep_probe", <<"mark">>, [Mark], #{text => 2}),
    ok = py:cast(Ctx, ep_probe, mark, [Mark, 3]),
    ok = py:cast(Ctx, ep_probe, mark, [Mark], #{<<"text">> => 4}),
    ok = py:cast(default, ep_probe, mark, [Mark, 5]),
    ok = py:cast(default, ep_probe, mark, [Mark], #{text => 6}),
    ok = flush_casts(Config, Ctx),
    ?assertEqual([integer_to_binary(N) || N <- lists:seq(1, 6)], py_test:marks(Mark)).

runs_casts_in_the_order_they_were_made(Config) ->
    [One, Two] = py_context_router:contexts(),
    Marks = [{One, py_test:marker(Config, "one")}, {Two, py_test:marker(Config, "two")}],
    [
        ok = py:cast(Ctx, ep_probe, mark, [Mark, N])
     || N <- lists:seq(1, 300), {Ctx, Mark} <- Marks
    ],
    [ok = flush_casts(Config, Ctx) || Ctx <- [One, Two]],
    [
        ?assertEqual([integer_to_binary(N) || N <- lists:seq(1, 300)], py_test:marks(Mark))
     || {_, Mark} <- Marks
    ].

does_not_wait_for_a_cast(Config) ->
    Mark = py_test:marker(Config, "long"),
    Ctx = py:context(1),
    ok = py:cast(Ctx, ep_probe, spin_until_interrupted, [Mark]),
    ok = py_test:wait_for_file(Mark),
    %% It runs still: only the end of its context ends it.
    {error, timeout} = py:call(Ctx, math, sqrt, [16], 20),
    ok = py:cast(Ctx, math, sqrt, [16]),
    Ref = monitor(process, Ctx),
    true = exit(Ctx, kill),
    receive
        {'DOWN', Ref, process, Ctx, killed} -> ok
    end,
    {ok, 4.0} = py:call(py:context(1), math, sqrt, [16], ?WAIT_MS).

%% Also those that had not begun.
runs_the_casts_of_a_process_that_ends(Config) ->
    [Busy, Mark] = [py_test:marker(Config, Name) || Name <- ["busy", "late"]],
    Ctx = py:context(1),
    Caster = py_test:spawn_caller(fun() ->
        ok = py:exec(Ctx, "def mine(text): return text"),
        ok = py:cast(Ctx, ep_probe, sleep, [Busy, 0.2]),
        ok = py:cast(Ctx, '__main__', mine, [<<"there">>]),
        [ok = py:cast(Ctx, ep_probe, mark, [Mark, N]) || N <- [1, 2, 3]],
        done
    end),
    done = py_test:result_of(Caster),
    ok = py_test:wait_until(fun() -> py_test:marks(Mark) =:= [<<"1">>, <<"2">>, <<"3">>] end).

ends_the_helper_of_casts_with_its_caller(_Config) ->
    Self = self(),
    Caster = py_test:spawn_caller(fun() ->
        ok = py:cast(py:context(1), math, sqrt, [16]),
        ok = py:cast(py:context(2), math, sqrt, [16]),
        Helpers = [Pid || {{'$py_caster', _}, Pid} <- get()],
        Self ! {helpers, [{Pid, monitor(process, Pid)} || Pid <- Helpers]},
        Helpers
    end),
    Helpers = py_test:result_of(Caster),
    receive
        {helpers, _} -> ok
    end,
    2 = length(Helpers),
    [ok = await_end(Pid) || Pid <- Helpers].

ends_the_helper_of_casts_with_its_context(Config) ->
    {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config, worker)}),
    ok = py:cast(Ctx, math, sqrt, [16]),
    Helper = get({'$py_caster', Ctx}),
    true = is_process_alive(Helper),
    ok = py_context:stop(Ctx),
    ok = await_end(Helper),
    ok = py:cast(Ctx, math, sqrt, [16]),
    %% The next helper takes the place of all that ended.
    ok = py:cast(py:context(1), math, sqrt, [16]),
    false = Helper =:= get({'$py_caster', Ctx}).

await_end(Pid) ->
    Ref = monitor(process, Pid),
    receive
        {'DOWN', Ref, process, Pid, Reason} when Reason =:= normal; Reason =:= noproc -> ok
    end.

logs_the_errors_of_casts_at_debug(Config) ->
    {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config, worker)}),
    ok = logger:set_module_level(py_async, debug),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}, level => debug}),
    ok = py:cast(math, sqrt, [-1]),
    {error, {'ValueError', _}} = logged(),
    ok = py:cast(Ctx, no_such_module, f, []),
    {error, {'ModuleNotFoundError', _}} = logged(),
    ok = py_context:stop(Ctx),
    ok = py:cast(Ctx, math, sqrt, [16]),
    {error, {context_died, noproc}} = logged(),
    ok = logger:remove_handler(?MODULE),
    ok = logger:unset_module_level(py_async).

logged() ->
    receive
        {logged, Reason} -> {error, Reason}
    end.

%% Handler of logger.
log(#{level := debug, msg := {"a cast failed: ~p", [Reason]}, meta := Meta}, #{config := Config}) ->
    #{library := erlang_python} = Meta,
    maps:get(to, Config) ! {logged, Reason};
log(_Event, _Config) ->
    ok.

%% --- spawn_call -----------------------------------------------------------------------

spawns_calls_in_every_form(_Config) ->
    Ctx = py:context(1),
    Refs = [
        py:spawn_call(builtins, pow, [2, 3]),
        py:spawn_call("builtins", <<"pow">>, [2], #{exp => 3}),
        py:spawn_call(Ctx, builtins, pow, [2, 3]),
        py:spawn_call(Ctx, builtins, pow, [2], #{exp => 3}),
        py:spawn_call(default, builtins, pow, [2, 3]),
        py:spawn_call(default, builtins, pow, [2], #{exp => 3})
    ],
    true = lists:all(fun is_reference/1, Refs),
    [{ok, 8} = py:await(Ref) || Ref <- lists:reverse(Refs)],
    {error, {'ValueError', _}} = py:await(py:spawn_call(math, sqrt, [-1]), infinity),
    {error, {'TypeError', _}} = py:await(py:spawn_call(math, sqrt, [fun() -> ok end]), 5000).

sends_one_response_for_each_call(_Config) ->
    Refs = maps:from_list([{py:spawn_call(ep_probe, echo, [N]), N} || N <- lists:seq(1, 500)]),
    collect(Refs).

collect(Refs) when map_size(Refs) =:= 0 ->
    ok;
collect(Refs) ->
    receive
        {py_response, Ref, Result} ->
            {N, Left} = maps:take(Ref, Refs),
            {ok, N} = Result,
            collect(Left)
    end.

awaits_again_after_a_timeout(Config) ->
    Go = py_test:marker(Config, "go"),
    ok = py:exec(
        "import os, time\n"
        "def wait_for(path):\n"
        "    while not os.path.exists(path): time.sleep(0.001)\n"
        "    return 'went'\n"
    ),
    Ref = py:spawn_call('__main__', wait_for, [Go]),
    {error, timeout} = py:await(Ref, 0),
    {error, timeout} = py:await(Ref, 20),
    ok = file:write_file(Go, <<>>),
    {ok, <<"went">>} = py:await(Ref),
    {error, timeout} = py:await(Ref, 0).

%% The one that runs is interrupted, the one that waits never runs.
cancels_the_calls_of_a_spawner_that_dies(Config) ->
    [Mark, Queued] = [py_test:marker(Config, Name) || Name <- ["running", "queued"]],
    [One, Two] = py_context_router:contexts(),
    Held = py_fixture:hold(Two, Config),
    {Spawner, Ref} = spawn_monitor(fun() ->
        _ = py:spawn_call(One, ep_probe, spin_until_interrupted, [Mark]),
        ok = py_test:wait_for_file(Mark),
        _ = py:spawn_call(Two, ep_probe, mark, [Queued]),
        receive never -> ok end
    end),
    %% Each call has a helper, which watches the spawner.
    ok = py_test:wait_until(fun() -> length(helpers(Spawner)) =:= 2 end),
    Helpers = [{Helper, monitor(process, Helper)} || Helper <- helpers(Spawner)],
    [ok = py_fixture:parked(H) || H <- Helpers],
    true = exit(Spawner, enough),
    receive
        {'DOWN', Ref, process, Spawner, enough} -> ok
    end,
    [normal = py_fixture:dead(H) || H <- Helpers],
    ok = py_test:wait_for_file(<<Mark/binary, ".interrupted">>),
    ok = py_fixture:let_go(Held),
    [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], ?WAIT_MS) || Ctx <- [One, Two]],
    [] = py_test:marks(Queued).

helpers(Spawner) ->
    {monitored_by, Pids} = process_info(Spawner, monitored_by),
    [P || P <- Pids, is_pid(P), P =/= self()].

answers_spawned_calls_on_dead_contexts(Config) ->
    {ok, Ctx} = py_context:new(#{mode => proplists:get_value(mode, Config, worker)}),
    Mark = py_test:marker(Config, "dies"),
    Ref = py:spawn_call(Ctx, ep_probe, spin_until_interrupted, [Mark]),
    ok = py_test:wait_for_file(Mark),
    ok = py_context:stop(Ctx),
    {error, {context_died, shutdown}} = py:await(Ref),
    {error, {context_died, noproc}} = py:await(py:spawn_call(Ctx, math, sqrt, [16])),
    {error, {context_died, noproc}} = py:await(py:spawn_call(self(), math, sqrt, [16])).

%% --- both -----------------------------------------------------------------------------

uses_context_and_namespace_of_the_caller(Config) ->
    Mark = py_test:marker(Config, "mine"),
    [One, Two] = py_context_router:contexts(),
    [
        py_test:result_of(py_test:spawn_caller(fun() ->
            ok = py_context_router:bind_context(Ctx),
            ok = py:exec("kept = []\ndef keep(x): kept.append(x); return len(kept)"),
            {ok, 1} = py:await(py:spawn_call('__main__', keep, [a])),
            ok = py:cast('__main__', keep, [b]),
            ok = py:cast(ep_probe, mark, [Mark]),
            ok = flush_casts(Config, Ctx),
            {ok, [<<"a">>, <<"b">>]} = py:eval("kept"),
            {ok, 3} = py:await(py:spawn_call(Ctx, '__main__', keep, [c])),
            {ok, 4} = py:await(py:spawn_call(default, '__main__', keep, [d]))
        end))
     || Ctx <- [One, Two]
    ],
    %% Not the shared one.
    {error, {'AttributeError', _}} = py_context:call(One, '__main__', keep, [x]).

raises_badarg_in_the_caller(Config) ->
    Mark = py_test:marker(Config, "misuse"),
    lists:foreach(fun py_test:badarg/1, lists:append([
        [
            fun() -> Start([ep_probe, mark, Mark]) end,
            fun() -> Start([1, mark, [Mark]]) end,
            fun() -> Start([ep_probe, {mark}, [Mark]]) end,
            fun() -> Start([ep_probe, mark, [Mark], []]) end,
            fun() -> Start([ep_probe, mark, [Mark], foo]) end,
            fun() -> Start([no_such_pool, ep_probe, mark, [Mark]]) end,
            fun() -> Start([<<"default">>, ep_probe, mark, [Mark]]) end,
            fun() -> Start([default, ep_probe, mark, Mark, #{}]) end,
            fun() -> Start([default, ep_probe, mark, [Mark], 5000]) end,
            fun() -> Start([py:context(1), 1, mark, [Mark]]) end
        ]
     || Start <- [fun(Args) -> apply(py, cast, Args) end, fun(Args) -> apply(py, spawn_call, Args) end]
    ])),
    ok = py_test:badarg(fun() -> py:await(ref) end),
    ok = py_test:badarg(fun() -> py:await(make_ref(), -1) end),
    ok = py_test:badarg(fun() -> py:await(make_ref(), soon) end),
    ok = py_test:badarg(fun() -> py:await(make_ref(), #{}) end),
    {ok, [{ok, _}, {ok, _}]} = py:parallel([{math, sqrt, [1]}, {math, sqrt, [1]}]),
    [] = py_test:marks(Mark).

leaves_no_process_behind(_Config) ->
    ok = warm(),
    Before = length(processes()),
    [
        py_test:result_of(py_test:spawn_caller(fun() ->
            ok = py:cast(math, sqrt, [N]),
            {ok, _} = py:await(py:spawn_call(math, sqrt, [N])),
            {ok, [{ok, _}, {ok, _}, {ok, _}]} = py:parallel([{math, sqrt, [N]} || _ <- [1, 2, 3]])
        end))
     || N <- lists:seq(1, 100)
    ],
    %% Helpers end after what they sent has come.
    ok = py_test:wait_until(fun() -> length(processes()) =< Before end).

warm() ->
    {ok, _} = py:parallel([{math, sqrt, [1]}, {math, sqrt, [1]}]),
    ok.

%% --- parallel -------------------------------------------------------------------------

%% As a callback would do that ends the process it runs in.
answers_an_item_whose_helper_is_killed(Config) ->
    Mark = py_test:marker(Config, "item"),
    Caller = py_test:spawn_caller(fun() ->
        py:parallel([{ep_probe, spin_until_interrupted, [Mark]}, {math, sqrt, [16]}])
    end),
    ok = py_test:wait_for_file(Mark),
    {Pid, _} = Caller,
    {monitors, Monitors} = process_info(Pid, monitors),
    [true = exit(Helper, kill) || {process, Helper} <- Monitors],
    {ok, [{error, {'CallbackError', "exit: killed"}}, Second]} = py_test:result_of(Caller),
    true = Second =:= {ok, 4.0} orelse element(1, Second) =:= error,
    ok = py_test:wait_for_file(<<Mark/binary, ".interrupted">>).
