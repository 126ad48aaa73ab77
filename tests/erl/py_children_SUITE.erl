%% SPDX-License-Identifier: Apache-2.0

%% @doc Processes that Python code starts: their signals and their ends. And the end of the
%% worker process: its order, what it leaves behind, whose word it is.
-module(py_children_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(EXIT_MS, 20000).
%% Ignored by the VM for itself (SIGPIPE, SIGFPE), what a worker needs (SIGINT, SIGCHLD), and
%% the two that belong to glibc, which a shell may have from whoever started it.
-define(NOT_PASSED_ON,
    (signal(13) bor signal(8) bor signal(2) bor signal(17) bor signal(32) bor signal(33))
).
-define(SIGTERM, -15).

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{
        shared => [
            leaves_no_names_when_a_process_dies,
            ends_in_the_order_of_python,
            ends_quietly_when_threading_was_used,
            shows_contexts_in_the_list_of_processes
        ]
    }) ++
        [
            {vm, [], [
                leaves_no_names_when_the_vm_is_killed,
                ends_in_order_when_all_processes_are_told_to_end,
                passes_on_how_the_vm_was_started
            ]}
        ].

cases() ->
    [
        starts_children_with_the_signals_of_the_vm,
        ends_children_at_once,
        ends_forked_children_as_python_does,
        leaves_no_names_when_a_process_dies,
        leaves_no_names_when_the_application_stops,
        ends_in_the_order_of_python,
        runs_exit_functions_though_a_thread_never_ends,
        ends_quietly_when_threading_was_used,
        lets_other_processes_import_erlang,
        goes_on_when_it_is_told_to_end,
        shows_contexts_in_the_list_of_processes
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(vm, Config) ->
    Config;
init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    case proplists:get_value(group, Config) of
        undefined -> ok = py_test:stop();
        Mode -> ok = py_test:start(proplists:get_value(Mode, py_test:modes()))
    end,
    Config.

end_per_testcase(_Case, Config) ->
    case proplists:get_value(group, Config) of
        undefined -> ok;
        _Mode -> py_fixture:clean()
    end.

can_fork(Config) ->
    proplists:get_value(mode, Config) =:= worker.

%% --- signals -----------------------------------------------------------------------------

starts_children_with_the_signals_of_the_vm(Config) ->
    {Blocked, Ignored} = port_signals(),
    Expected = [Blocked, Ignored band bnot ?NOT_PASSED_ON],
    [
        begin
            {ok, Found} = call(Ctx, Function, Args),
            ?assertEqual([[Way | Expected] || [Way | _] <- Found], Found),
            ?assert(length(Found) >= 6)
        end
     || Ctx <- py_context_router:contexts(),
        {Function, Args} <- [
            {signals, [can_fork(Config)]},
            {in_thread, [<<"signals">>, can_fork(Config)]}
        ]
    ].

%% What the VM gives a port program.
port_signals() ->
    Text = os:cmd("grep Sig /proc/self/status"),
    {hex(Text, "SigBlk"), hex(Text, "SigIgn")}.

hex(Text, Key) ->
    {match, [Digits]} = re:run(Text, Key ++ ":\\s+([0-9a-f]+)", [{capture, all_but_first, list}]),
    list_to_integer(Digits, 16).

signal(Number) ->
    1 bsl (Number - 1).

ends_children_at_once(Config) ->
    [
        begin
            ?assertEqual({ok, ?SIGTERM}, call(Ctx, terminated, [])),
            ?assertEqual({ok, ?SIGTERM}, call(Ctx, in_thread, [<<"terminated">>])),
            ?assertEqual({ok, <<>>}, call(Ctx, broken_pipe, [])),
            can_fork(Config) andalso
                ?assertEqual({ok, ?SIGTERM}, call(Ctx, terminated_fork, []))
        end
     || Ctx <- py_context_router:contexts()
    ].

%% The application is started in a VM that was started so.
passes_on_how_the_vm_was_started(_Config) ->
    Exec = {"/bin/sh", ["-c", "trap '' HUP USR2; exec erl \"$@\"", "erl"]},
    Peer = py_test:start_vm(#{exec => Exec}),
    try
        {ok, _} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
        {ok, Found} = py_test:in_vm(Peer, py, call, [ep_children, signals, [true]]),
        [?assertEqual([Way, 0, signal(1) bor signal(12)], F) || F = [Way | _] <- Found]
    after
        py_test:stop_vm(Peer)
    end.

%% --- forked children ---------------------------------------------------------------------

ends_forked_children_as_python_does(Config) ->
    can_fork(Config) andalso
        [
            begin
                ?assertMatch({ok, {5, _}}, call(Ctx, forked, [<<"import sys; sys.exit(5)">>])),
                ?assertMatch({ok, {0, _}}, call(Ctx, forked, [<<"raise SystemExit">>])),
                ?assertMatch({ok, {0, _}}, call(Ctx, forked, [<<"pass">>])),
                {ok, {1, Asked}} = call(Ctx, forked, [<<"raise SystemExit('because')">>]),
                ?assertMatch({_, _}, binary:match(Asked, <<"because\n">>)),
                {ok, {1, Raised}} = call(Ctx, forked, [<<"{}['no such key']">>]),
                ?assertMatch({_, _}, binary:match(Raised, <<"Traceback">>)),
                ?assertMatch({_, _}, binary:match(Raised, <<"KeyError: 'no such key'">>)),
                {ok, {0, Exit}} = call(Ctx, forked, [
                    <<
                        "import atexit, threading, time\n"
                        "atexit.register(print, 'exit function')\n"
                        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\n"
                    >>
                ]),
                ?assertMatch({_, _}, binary:match(Exit, <<"thread\nexit function\n">>))
            end
         || Ctx <- py_context_router:contexts()
        ].

%% --- names in /dev/shm -------------------------------------------------------------------

leaves_no_names_when_a_process_dies(Config) ->
    [
        begin
            {ok, Names} = call(Ctx, leave_names, [can_fork(Config)]),
            {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
            ok = py_test:wait_until(fun() -> [] =:= left(Names) orelse left(Names) end)
        end
     || Ctx <- py_context_router:contexts()
    ].

leaves_no_names_when_the_application_stops(Config) ->
    Names = lists:append([
        element(2, {ok, _} = call(Ctx, leave_names, [can_fork(Config)]))
     || Ctx <- py_context_router:contexts()
    ]),
    ok = py_test:stop(),
    ?assertEqual([], left(Names)),
    restart(Config).

leaves_no_names_when_the_vm_is_killed(_Config) ->
    Peer = py_test:start_vm(),
    {ok, _} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
    OsPid = py_test:in_vm(Peer, py_test, vm_pid, []),
    Started = py_test:descendants(OsPid),
    {ok, Names} = py_test:in_vm(Peer, py, call, [ep_children, leave_names, [true]]),
    ok = py_test:kill(OsPid),
    ok = py_test:wait_for_exit(Started, ?EXIT_MS),
    ok = py_test:wait_until(fun() -> [] =:= left(Names) orelse left(Names) end).

left(Names) ->
    [N || N <- Names, filelib:is_file(filename:join("/dev/shm", N))].

%% --- the order of the end ----------------------------------------------------------------

ends_in_the_order_of_python(Config) ->
    Marks = [
        begin
            Mark = py_test:marker(Config, "end"),
            {ok, none} = call(Ctx, end_in_order, [Mark]),
            Mark
        end
     || Ctx <- py_context_router:contexts()
    ],
    ok = py_test:stop(),
    Works = [<<"work 0">>, <<"work 1">>, <<"work 2">>, <<"work 3">>],
    [
        ?assertEqual({Works, <<"exit function">>, [<<"thread">>]}, order(Found))
     || Mark <- Marks, Found <- [py_test:marks(Mark)]
    ],
    restart(Config).

%% The thread writes as soon as the pool has, at any place before the exit function.
order(Marks) ->
    {[M || <<"work ", _>> = M <- Marks], lists:last(Marks), [M || M = <<"thread">> <- Marks]}.

runs_exit_functions_though_a_thread_never_ends(Config) ->
    Mark = py_test:marker(Config, "never"),
    {ok, none} = call(hd(py_context_router:contexts()), never_end, [Mark]),
    ok = py_test:stop(),
    ?assertEqual([<<"exit function">>], py_test:marks(Mark)),
    restart(Config).

ends_quietly_when_threading_was_used(Config) ->
    Mode = proplists:get_value(mode, Config),
    [_, Ctx | _] = [element(2, {ok, _} = py_context:start_link(N, Mode, #{own_process => false})) || N <- [1, 2]],
    Text = py_test:marker(Config, "stderr"),
    {ok, _} = call(Ctx, use_threading, [Text]),
    ok = py_context:stop(Ctx),
    ok = py_test:stop(),
    ?assertEqual([], py_test:marks(Text)),
    restart(Config).

restart(Config) ->
    Mode = proplists:get_value(group, Config),
    ok = py_test:start(proplists:get_value(Mode, py_test:modes())).

%% --- signals to all processes ------------------------------------------------------------

goes_on_when_it_is_told_to_end(_Config) ->
    Contexts = [Ctx | _] = py_context_router:contexts(),
    OsPids = [py_test:os_pid(C) || C <- Contexts],
    Caller = py_test:spawn_caller(fun() -> py:eval(Ctx, "__import__('time').sleep(0.5)") end),
    Told = [py_test:launcher_pid() | OsPids],
    ok = signal_all("TERM", Told),
    ok = signal_all("HUP", Told),
    ?assertEqual({ok, none}, py_test:result_of(Caller)),
    ?assertEqual(OsPids, [py_test:os_pid(C) || C <- Contexts]),
    %% But what it does itself, it does.
    {error, {worker_died, #{reason := Reason}}} =
        py:eval(Ctx, "__import__('os').kill(__import__('os').getpid(), 15)"),
    ?assertEqual('SIGTERM', Reason).

ends_in_order_when_all_processes_are_told_to_end(Config) ->
    Peer = py_test:start_vm(),
    {ok, _} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
    Contexts = py_test:in_vm(Peer, py_context_router, contexts, []),
    Marks = [
        begin
            Mark = py_test:marker(Config, "told"),
            {ok, none} = py_test:in_vm(Peer, py, call, [Ctx, ep_children, end_in_order, [Mark]]),
            Mark
        end
     || Ctx <- Contexts
    ],
    OsPid = py_test:in_vm(Peer, py_test, vm_pid, []),
    All = [OsPid | py_test:descendants(OsPid)],
    ok = signal_all("TERM", All),
    ok = py_test:wait_for_exit(All, ?EXIT_MS),
    [?assertEqual(<<"exit function">>, lists:last(py_test:marks(Mark))) || Mark <- Marks].

%% One that has ended meanwhile is told nothing.
signal_all(Name, OsPids) ->
    _ = os:cmd(lists:flatten(["kill -", Name, [[" ", integer_to_list(P)] || P <- OsPids]])),
    ok.

%% --- the module erlang elsewhere ---------------------------------------------------------

lets_other_processes_import_erlang(_Config) ->
    Directory = unicode:characters_to_binary(filename:join(code:priv_dir(erlang_python), "python")),
    [
        begin
            {ok, [Text]} = call(Ctx, use_erlang_in_pool, [<<"spawn">>]),
            ?assertMatch(<<"there is no Erlang here: ", _/binary>>, Text),
            ?assertEqual({ok, [Text]}, call(Ctx, use_erlang_in_pool, [<<"forkserver">>])),
            ?assertEqual({ok, [Text]}, call(Ctx, use_erlang_in_plain_python, [Directory]))
        end
     || Ctx <- py_context_router:contexts()
    ].

%% --- the list of processes ---------------------------------------------------------------

shows_contexts_in_the_list_of_processes(Config) ->
    Contexts = py_context_router:contexts(),
    Titles = [
        element(2, {ok, _} = call(Ctx, arguments, [py_test:os_pid(Ctx)]))
     || Ctx <- Contexts
    ],
    Expected =
        case proplists:get_value(group, Config) of
            worker -> [[<<"ep_worker default 1">>], [<<"ep_worker default 2">>]];
            _ -> lists:duplicate(2, [<<"ep_worker default 1, default 2">>])
        end,
    ?assertEqual(Expected, Titles),
    {ok, [_Program, Name]} = call(hd(Contexts), arguments, [py_test:launcher_pid()]),
    ?assertMatch(<<"erlang_python-", _:32/binary>>, Name).

call(Ctx, Function, Args) ->
    py:call(Ctx, ep_children, Function, Args, #{}, 120000).
