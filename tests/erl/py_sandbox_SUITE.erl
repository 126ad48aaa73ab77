%% SPDX-License-Identifier: Apache-2.0

%% @doc The sandbox of worker processes: what each level refuses, what goes on working, what is in
%% force, and that private directories go. Python tries it: tests/py/ep_sandbox.py.
-module(py_sandbox_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(EXIT_MS, 20000).
-define(DEFAULT, [no_new_privs, capabilities, seccomp, landlock_tracing, landlock_signals]).
-define(STRICT, ?DEFAULT ++ [landlock_files]).

suite() ->
    [{timetrap, {seconds, 120}}].

all() ->
    [{group, none}, {group, default}, {group, owngil}, {group, strict}, {group, alone}].

groups() ->
    [
        {none, [nothing_is_refused, stats_say_none]},
        {default, [
            other_processes_are_out_of_reach,
            a_kernel_is_not_administered,
            the_fallback_of_clone3_is_used,
            the_rest_goes_on_working,
            tracers_from_outside_reach_in,
            crashes_are_told_with_their_stack,
            a_zygote_and_its_workers_are_apart,
            stats_say_what_is_in_force
        ]},
        {owngil, [every_thread_is_bound]},
        {strict, [
            files_programs_and_sockets_are_refused,
            other_processes_are_out_of_reach,
            a_kernel_is_not_administered,
            what_is_left_works,
            stats_say_strict,
            a_replaced_process_is_the_same,
            a_directory_goes_with_its_worker,
            what_is_hard_to_remove_goes,
            a_directory_goes_with_the_launcher,
            nothing_is_left_at_the_end
        ]},
        {alone, [
            a_key_of_application_pool_and_context,
            bad_values_are_refused,
            levels_share_no_process,
            a_directory_goes_with_the_vm,
            what_was_left_behind_is_swept,
            an_old_kernel_is_told_once,
            an_old_kernel_does_not_start_strict,
            a_directory_that_cannot_be_made_is_told
        ]}
    ].

init_per_suite(Config) ->
    %% Where the launchers of this suite make their directories. A short one, for names of sockets are
    %% short.
    Temp = filename:join("/tmp", "ep_sandbox_" ++ os:getpid()),
    ok = filelib:ensure_path(Temp),
    Before = os:getenv("TMPDIR"),
    true = os:putenv("TMPDIR", Temp),
    ok = py_test:start([{num_contexts, 1}]),
    #{sandbox := #{missing := Missing}} = stats(default),
    ok = py_test:stop(),
    [{temp, Temp}, {before, Before}, {missing, Missing} | Config].

end_per_suite(Config) ->
    case proplists:get_value(before, Config) of
        false -> os:unsetenv("TMPDIR");
        Before -> os:putenv("TMPDIR", Before)
    end,
    ok = py_test:stop(),
    ok = file:del_dir_r(proplists:get_value(temp, Config)).

init_per_group(alone, Config) ->
    Config;
init_per_group(owngil, Config) ->
    py_test:init_mode(owngil, Config);
init_per_group(Level, Config) ->
    case {Level, proplists:get_value(missing, Config)} of
        {strict, [_ | _]} ->
            {skip, "this kernel cannot enforce it"};
        _ ->
            ok = py_test:start([{num_contexts, 2}, {sandbox, Level}]),
            [{level, Level} | Config]
    end.

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, Config) ->
    case proplists:is_defined(level, Config) of
        true -> py_test:clean();
        false -> py_test:stop()
    end.

stats(Pool) ->
    hd([C || C = #{pool := P} <- maps:get(contexts, py:stats()), P =:= Pool]).

try_all(Function, Args) ->
    {ok, Results} = py:call(py:context(1), ep_sandbox, Function, Args),
    Results.

through(Results) ->
    maps:filter(fun(_, Result) -> Result =/= <<"refused">> end, Results).

is_root() ->
    os:cmd("id -u") =:= "0\n".

%% Processes that the worker has not started: the VM, the launcher, another worker of its kind.
others() ->
    [py_test:vm_pid(), py_test:launcher_pid(), py_test:os_pid(py:context(2))].

%% --- none ----------------------------------------------------------------------------------

nothing_is_refused(_Config) ->
    [?assertEqual([], refused(Results)) || Results <- maps:values(try_all(others, [others()]))],
    %% Containers refuse some of that, too.
    Anybody = try_all(anybody, []),
    ?assertNotEqual(#{}, through(Anybody)),
    {ok, {<<"0">>, _, _}} = py:call(py:context(1), ep_sandbox, thread_status, []),
    ok.

%% Also without a sandbox the system may forbid to trace: Yama, or a container. But signals and
%% limits are for every process of the user.
refused(Results) ->
    [What || What <- [<<"kill">>, <<"tgkill">>, <<"prlimit">>], maps:get(What, Results) =:= <<"refused">>].

stats_say_none(_Config) ->
    #{sandbox := #{level := none, in_force := [], missing := []}} = stats(default).

%% --- default -------------------------------------------------------------------------------

other_processes_are_out_of_reach(Config) ->
    All = try_all(others, [others()]),
    Lacking = [W || {Feature, Ws} <- [
        {landlock_signals, [<<"kill">>, <<"tgkill">>, <<"sigqueue">>, <<"pidfd_send_signal">>]},
        {landlock_tracing, [<<"environ">>, <<"maps">>, <<"auxv">>, <<"mem">>, <<"fds">>, <<"exe">>, <<"root">>]}
    ], lists:member(Feature, proplists:get_value(missing, Config)), W <- Ws],
    [?assertEqual(#{}, maps:without(Lacking, through(Results))) || Results <- maps:values(All)],
    3 = map_size(All).

a_kernel_is_not_administered(_Config) ->
    Results = try_all(default, []),
    ?assertEqual(#{}, through(Results)),
    ?assert(map_size(Results) >= 45).

the_fallback_of_clone3_is_used(_Config) ->
    {ok, <<"ENOSYS">>} = py:call(py:context(1), ep_sandbox, clone3, []).

the_rest_goes_on_working(_Config) ->
    Ctx = py:context(1),
    Functions = [subprocesses, shared, threads, sqlite, requests, abstract_sockets, coroutines, files, own_limits],
    Of = fun(Module) -> {ok, Is} = py:eval(Ctx, ["__import__('importlib.util').util.find_spec('", Module, "') is not None"]), Is end,
    Libraries = [F || {F, M} <- [{numpy, "numpy"}, {pandas, "pandas"}], Of(M)],
    [{F, {ok, none}} = {F, py:call(Ctx, ep_sandbox_compat, F, [], #{}, 60000)} || F <- Libraries ++ Functions],
    [
        {M, {ok, none}} = {M, py:call(Ctx, ep_sandbox_compat, processes, [M], #{}, 60000)}
     || M <- [<<"fork">>, <<"spawn">>, <<"forkserver">>]
    ],
    ok.

%% As py-spy does.
tracers_from_outside_reach_in(_Config) ->
    OsPid = py_test:os_pid(py:context(1)),
    {ok, _} = file:read_file(proc(OsPid, "environ")),
    case is_root() of
        true ->
            {ok, Mem} = file:open(proc(OsPid, "mem"), [read, raw, binary]),
            {ok, Maps} = file:read_file(proc(OsPid, "maps")),
            %% The lowest may be an arena of mimalloc.
            Pattern = "^([0-9a-f]+)-\\S+ r\\S+ 00000000 \\S+ [0-9]+ +/.*/ep_worker$",
            {match, [Start]} = re:run(Maps, Pattern, [multiline, {capture, all_but_first, list}]),
            {ok, <<127, "ELF">>} = file:pread(Mem, list_to_integer(Start, 16), 4),
            ok = file:close(Mem);
        false ->
            ok
    end.

proc(OsPid, What) ->
    lists:flatten(io_lib:format("/proc/~b/~s", [OsPid, What])).

crashes_are_told_with_their_stack(_Config) ->
    ok = logger:add_handler(?MODULE, py_test, #{config => self()}),
    {error, {worker_died, _}} = py:eval(py:context(1), "__import__('ctypes').string_at(0)"),
    Text = logged("a Python worker process ended"),
    ok = logger:remove_handler(?MODULE),
    flush(),
    ?assertMatch({match, _}, re:run(Text, "SIGSEGV")),
    ?assertMatch({match, _}, re:run(Text, "string_at")),
    {ok, 1} = py:eval(py:context(1), "1"),
    #{sandbox := #{in_force := [_ | _]}} = stats(default),
    ok.

logged(Start) ->
    receive
        {logged, Text} ->
            case string:find(Text, Start) of
                nomatch -> logged(Start);
                _ -> Text
            end
    after ?EXIT_MS -> error({not_logged, Start})
    end.

flush() ->
    receive {logged, _} -> flush() after 0 -> ok end.

a_zygote_and_its_workers_are_apart(Config) ->
    Before = zygotes(),
    {ok, [Ctx | _]} = py_context_router:start_pool(forked, 2, #{preload => [colorsys]}),
    ok = py_test:wait_until(fun() -> length(zygotes() -- Before) =:= 1 end),
    [Zygote] = zygotes() -- Before,
    {ok, Results} = py:call(Ctx, ep_sandbox, others, [[Zygote, py_test:vm_pid(), py_test:os_pid(py:context(1))]]),
    [?assertEqual(#{}, through(R)) || proplists:get_value(missing, Config) =:= [], R <- maps:values(Results)],
    {ok, Tried} = py:call(Ctx, ep_sandbox, default, []),
    ?assertEqual(#{}, through(Tried)),
    {ok, none} = py:call(Ctx, ep_sandbox_compat, subprocesses, []),
    #{sandbox := Same} = stats(default),
    #{sandbox := Same} = stats(forked),
    ok = py_context_router:stop_pool(forked).

zygotes() ->
    py_test:zygotes(py_test:launcher_pid()).

stats_say_what_is_in_force(Config) ->
    Missing = proplists:get_value(missing, Config),
    Expected = ?DEFAULT -- Missing,
    #{sandbox := #{level := default, in_force := Expected, missing := Missing}} = stats(default).

%% --- owngil --------------------------------------------------------------------------------

every_thread_is_bound(Config) ->
    [A, B] = py_context_router:contexts(),
    [
        begin
            {ok, {<<"1">>, <<"2">>, Capabilities}} = py:call(Ctx, ep_sandbox, thread_status, []),
            ?assertEqual(0, Capabilities band (1 bsl 21))
        end
     || Ctx <- [A, B]
    ],
    [
        begin
            {ok, Result} = py:eval(Ctx, "__import__('ep_sandbox').attempt(lambda: __import__('os').kill(p, 0))", #{p => py_test:vm_pid()}),
            ?assertEqual(<<"refused">>, Result)
        end
     || Ctx <- [A, B], not lists:member(landlock_signals, proplists:get_value(missing, Config))
    ],
    ok.

%% --- strict --------------------------------------------------------------------------------

files_programs_and_sockets_are_refused(Config) ->
    Dir = filename:join(proplists:get_value(priv_dir, Config), "outside"),
    ok = filelib:ensure_path(filename:join(Dir, "empty")),
    ok = file:write_file(filename:join(Dir, "file"), <<"content">>),
    Through = through(try_all(strict, [unicode:characters_to_binary(Dir)])),
    %% Files that stay are neither moved in nor out; the kernel says EXDEV for some of that.
    ?assertEqual([], [R || R = {What, Text} <- maps:to_list(Through), not lists:member(What, [<<"rename_in">>, <<"link_in">>]) orelse
                      binary:match(Text, <<"OSError(18">>) =:= nomatch]),
    {ok, <<"content">>} = file:read_file(filename:join(Dir, "file")),
    {ok, Names} = file:list_dir(Dir),
    ["empty", "file"] = lists:sort(Names).

what_is_left_works(_Config) ->
    Ctx = py:context(1),
    {ok, none} = py:call(Ctx, ep_sandbox_compat, in_strict, []),
    {ok, HasNumpy} = py:eval(Ctx, "__import__('importlib.util').util.find_spec('numpy') is not None"),
    [{ok, none} = py:call(Ctx, ep_sandbox_compat, numpy, []) || HasNumpy],
    ok = py:register_function(sandbox_double, fun([X]) -> 2 * X end),
    {ok, 42} = py:eval(Ctx, "__import__('erlang').call('sandbox_double', 21)"),
    ok = py:unregister_function(sandbox_double).

stats_say_strict(_Config) ->
    Expected = ?STRICT,
    #{sandbox := #{level := strict, in_force := Expected, missing := []}} = stats(default).

temp_of(Ctx) ->
    %% One request: the process may be replaced between two.
    {ok, {Dir, Dir}} = py:eval(Ctx, "(__import__('tempfile').gettempdir(), __import__('os').getenv('TMPDIR'))"),
    true = filelib:is_dir(Dir),
    Dir.

await_gone(Path) ->
    ok = py_test:wait_until(fun() -> not filelib:is_file(Path) end).

a_replaced_process_is_the_same(_Config) ->
    {ok, [Ctx]} = py_context_router:start_pool(short, 1, #{max_requests => 5}),
    Dir = temp_of(Ctx),
    Level = stats_of(Ctx),
    ok = py_test:wait_until(fun() -> temp_of(Ctx) =/= Dir end),
    Level = stats_of(Ctx),
    {ok, <<"refused">>} = py:eval(Ctx, "__import__('ep_sandbox').attempt(__import__('socket').socket)"),
    await_gone(Dir),
    ok = py_context_router:stop_pool(short).

stats_of(Ctx) ->
    [#{level := strict} = Sandbox] = [S || #{context := C, sandbox := S} <- maps:get(contexts, py:stats()), C =:= Ctx],
    Sandbox.

a_directory_goes_with_its_worker(_Config) ->
    [Ctx | _] = py_context_router:contexts(),
    Killed = temp_of(Ctx),
    ok = py:exec(Ctx, "open(__import__('tempfile').gettempdir() + '/x', 'w').close()"),
    ok = py_test:kill(py_test:os_pid(Ctx)),
    await_gone(Killed),
    Exited = temp_of(Ctx),
    ?assertNotEqual(Killed, Exited),
    {error, {worker_died, _}} = py:call(Ctx, os, '_exit', [1]),
    await_gone(Exited),
    {ok, Single} = py_context:start_link(single, worker, #{}),
    Stopped = temp_of(Single),
    ok = py_context:stop(Single),
    await_gone(Stopped).

what_is_hard_to_remove_goes(Config) ->
    Outside = filename:join(proplists:get_value(priv_dir, Config), "stays"),
    ok = filelib:ensure_path(filename:join(Outside, "sub")),
    {ok, Dir} = py:call(py:context(1), ep_sandbox, make_mess, [unicode:characters_to_binary(Outside)]),
    ok = py_test:kill(py_test:os_pid(py:context(1))),
    await_gone(Dir),
    ok = py_test:wait_until(fun() -> gone_names(filename:dirname(Dir)) =:= [] end),
    true = filelib:is_dir(filename:join(Outside, "sub")).

gone_names(Base) ->
    {ok, Names} = file:list_dir(Base),
    [N || N = "gone-" ++ _ <- Names].

a_directory_goes_with_the_launcher(_Config) ->
    Dir = temp_of(py:context(1)),
    ok = py_test:kill(py_test:launcher_pid()),
    await_gone(filename:dirname(Dir)),
    ok = py_test:wait_until(fun() -> py:call(py:context(1), os, getpid, []) =/= error andalso filelib:is_dir(temp_of(py:context(1))) end).

nothing_is_left_at_the_end(Config) ->
    _ = temp_of(py:context(1)),
    ok = py_test:stop(),
    [] = bases(Config),
    ok = py_test:start([{num_contexts, 2}, {sandbox, strict}]).

bases(Config) ->
    filelib:wildcard(".erlang_python-*", proplists:get_value(temp, Config)).

%% --- by itself -----------------------------------------------------------------------------

a_key_of_application_pool_and_context(Config) ->
    ok = py_test:start([{num_contexts, 1}, {sandbox, none}]),
    #{sandbox := #{level := none}} = stats(default),
    {ok, _} = py_context_router:start_pool(own, 1, #{sandbox => default}),
    #{sandbox := #{level := default}} = stats(own),
    [
        begin
            {ok, _} = py_context_router:start_pool(narrow, 1, #{sandbox => strict}),
            #{sandbox := #{level := strict}} = stats(narrow)
        end
     || proplists:get_value(missing, Config) =:= []
    ],
    {ok, Ctx} = py_context:start_link(single, worker, #{sandbox => default}),
    [#{level := default}] = [S || #{context := C, sandbox := S} <- maps:get(contexts, py:stats()), C =:= Ctx],
    ok = py_context:stop(Ctx).

bad_values_are_refused(_Config) ->
    [
        {error, {erlang_python, {{bad_config, sandbox, Bad, <<"sandbox: must be none, default or strict">>}, _}}} =
            without_the_wrapping(py_test:restart([{sandbox, Bad}]))
     || Bad <- [restricted, true, "strict", #{}, 1]
    ],
    ok = py_test:start([{num_contexts, 1}]),
    {error, {bad_config, sandbox, off, <<"sandbox: must be none, default or strict">>}} =
        py_context_router:start_pool(p, 1, #{sandbox => off}),
    {error, {bad_config, sandbox, <<"none">>, _}} = py_context:start_link(x, worker, #{sandbox => <<"none">>}),
    ok.

without_the_wrapping({error, {erlang_python, {{Bad, _}, Mfa}}}) when element(1, Bad) =:= bad_config ->
    {error, {erlang_python, {Bad, Mfa}}};
without_the_wrapping(Error) ->
    Error.

levels_share_no_process(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Shared = #{own_process => false},
    [A, B, B] = [
        begin {ok, Ctx} = py_context:new(O), py_test:os_pid(Ctx) end
     || O <- [Shared, Shared#{sandbox => none}, Shared#{sandbox => none}]
    ],
    ?assertNotEqual(A, B).

needs_all(Config, Fun) ->
    case proplists:get_value(missing, Config) of
        [] -> Fun();
        Missing -> {skip, {this_kernel_lacks, Missing}}
    end.

a_directory_goes_with_the_vm(Config) ->
    needs_all(Config, fun() ->
        Peer = py_test:start_vm(),
        ok = py_test:in_vm(Peer, py_test, start, [[{num_contexts, 1}, {sandbox, strict}]]),
        {ok, Dir} = py_test:in_vm(Peer, py, call, [os, getenv, [<<"TMPDIR">>]]),
        true = filelib:is_dir(Dir),
        ok = py_test:kill(py_test:in_vm(Peer, py_test, vm_pid, [])),
        await_gone(filename:dirname(Dir))
    end).

%% What a launcher left that was killed with its VM; not what belongs to one that lives, nor what
%% only looks like it.
what_was_left_behind_is_swept(Config) ->
    Temp = proplists:get_value(temp, Config),
    [Left, Link, Own, Open] = Paths = [filename:join(Temp, ".erlang_python-" ++ N) || N <- ["left12", "linked", "master", "opened"]],
    Outside = filename:join(proplists:get_value(priv_dir, Config), "linked"),
    ok = filelib:ensure_path(filename:join(Outside, "sub")),
    [ok = filelib:ensure_path(filename:join([Dir, "7", "a", "b"])) || Dir <- Paths -- [Link]],
    [ok = file:change_mode(Dir, 8#700) || Dir <- [Left, Own]],
    ok = file:make_symlink(Outside, Link),
    %% Somebody's work, in a directory that happens to have such a name.
    ok = file:write_file(filename:join(Own, "README"), "text"),
    ok = py_test:start([{num_contexts, 1}]),
    await_gone(Left),
    true = filelib:is_dir(filename:join(Outside, "sub")),
    [true = filelib:is_dir(filename:join([Dir, "7", "a", "b"])) || Dir <- [Own, Open]],
    [ok = file:del_dir_r(Dir) || Dir <- [Own, Open]],
    ok = file:delete(Link).

on_an_old_kernel(Fun) ->
    {ok, Python} = {ok, os:find_executable("python3")},
    Script = filename:join(py_test:python_dir(), "old_kernel.py"),
    Peer = py_test:start_vm(#{exec => {Python, [Script, os:find_executable("erl")]}}),
    try
        Fun(Peer)
    after
        py_test:stop_vm(Peer)
    end.

an_old_kernel_is_told_once(_Config) ->
    on_an_old_kernel(fun(Peer) ->
        {[Text], Sandbox} = py_test:in_vm(Peer, ?MODULE, tell_what_is_missing, []),
        ?assertMatch({match, _}, re:run(Text, "landlock_tracing, landlock_signals are not in force here")),
        #{level := default, in_force := [no_new_privs, capabilities, seccomp], missing := [landlock_tracing, landlock_signals]} =
            Sandbox
    end).

tell_what_is_missing() ->
    ok = logger:add_handler(?MODULE, py_test, #{config => self()}),
    ok = py_test:start([{num_contexts, 2}]),
    {ok, 1} = py:eval("1"),
    {ok, _} = py_context_router:start_pool(p, 1, #{}),
    Told = [logged("the sandbox of Python")],
    Sandbox = maps:get(sandbox, stats(p)),
    ok = py_test:stop(),
    {Told ++ more(), Sandbox}.

more() ->
    receive
        {logged, Text} -> [Text || string:find(Text, "the sandbox of Python") =/= nomatch] ++ more()
    after 0 -> []
    end.

an_old_kernel_does_not_start_strict(_Config) ->
    on_an_old_kernel(fun(Peer) ->
        {error, Reason} = py_test:in_vm(Peer, ?MODULE, start_strict, []),
        Text = lists:flatten(io_lib:format("~p", [Reason])),
        [?assertMatch({_, {match, _}}, {Part, re:run(Text, Part)}) || Part <- ["strict", "Landlock ABI 6", "Linux 6.12"]]
    end).

start_strict() ->
    ok = py_test:start([{num_contexts, 1}]),
    case py_context:start_link(s, worker, #{sandbox => strict}) of
        {ok, Ctx} -> py:eval(Ctx, "1");
        Error -> Error
    end.

a_directory_that_cannot_be_made_is_told(Config) ->
    needs_all(Config, fun() ->
        Peer = py_test:start_vm(#{env => [{"TMPDIR", "/nowhere/at/all"}]}),
        {error, Reason} = py_test:in_vm(Peer, ?MODULE, start_strict, []),
        py_test:stop_vm(Peer),
        Text = lists:flatten(io_lib:format("~p", [Reason])),
        ?assertMatch({match, _}, re:run(Text, "private directory for temporary files.*/nowhere/at/all", [dotall]))
    end).
