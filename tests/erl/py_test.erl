%% SPDX-License-Identifier: Apache-2.0

%% @doc What the suites share: the application in one of its configurations, VMs of
%% their own, and what the operating system says about processes.
-module(py_test).

-export([start/1, restart/1, stop/0, modes/0, init_mode/2, times/2]).
-export([start_vm/0, start_vm/1, start_vm/2, stop_vm/1, in_vm/4]).
-export([clean/0, messages/0, badarg/1, error_texts/2, elapsed/1, spawn_caller/1, result_of/1, marker/2, marks/1]).
-export([wait_until/1, wait_until/2, settle/2, wait_for_file/1, wait_for_exit/2]).
-export([log/2]).
-export([os_pid/1, kill/1, vm_pid/0, launcher_pid/0, children/1, descendants/1, workers/1, zygotes/1]).
-export([is_running/1, fd_count/1, memfd_maps/1, cpu_ns/1, shared_bytes/1, available_bytes/0]).
-export([python_dir/0, test_python/0, is_free_threaded/0, frees_functions/0]).

-define(WAIT_MS, 10000).
-define(POLL_MS, 2).

%% --- the application ------------------------------------------------------------------

%% The matrix: a name, and the configuration behind it.
modes() ->
    [
        {worker, [{num_contexts, 2}]},
        {shared, [{num_contexts, 2}, {num_workers, 1}]},
        {owngil, [{num_contexts, 2}, {context_mode, owngil}]}
    ].

%% How often: in make test, and in make test-deep.
times(Ordinary, Deep) ->
    case os:getenv("EP_TEST_DEEP") of
        false -> Ordinary;
        _ -> Deep
    end.

%% For init_per_group/2; a Python without sub-interpreters skips that group.
init_mode(Mode, Config) ->
    ok = start([]),
    case Mode =/= owngil orelse py:subinterp_supported() of
        true ->
            ok = start(proplists:get_value(Mode, modes())),
            [{mode, context_mode(Mode)}, {group, Mode} | Config];
        false ->
            {skip, "owngil needs Python 3.12"}
    end.

context_mode(owngil) -> owngil;
context_mode(_) -> worker.

%% Starts the application with this configuration and no other.
start(Env) ->
    case restart(Env) of
        {ok, _} -> ok;
        {error, Reason} -> error({not_started, Reason})
    end.

restart(Env) ->
    ok = stop(),
    true = os:putenv("PYTHONPATH", python_dir()),
    true = os:putenv("PYTHONDONTWRITEBYTECODE", "1"),
    _ = application:load(erlang_python),
    [application:unset_env(erlang_python, Key) || {Key, _} <- application:get_all_env(erlang_python)],
    %% Many suites start more requests at once than the limit lets in; those that are
    %% about the limit set it.
    ok = application:set_env(erlang_python, max_concurrent, 10000),
    [application:set_env(erlang_python, Key, Value) || {Key, Value} <- Env],
    application:ensure_all_started(erlang_python).

stop() ->
    case application:stop(erlang_python) of
        ok -> ok;
        {error, {not_started, erlang_python}} -> ok
    end.

%% --- other VMs ------------------------------------------------------------------------

start_vm() ->
    start_vm(#{}).

start_vm(Options) ->
    start_vm(Options, []).

%% A VM with default flags and the code path of this one. `env' and `exec' as in
%% peer:start/1. It listens to its controller by TCP: its standard output is its own.
start_vm(Options, Args) ->
    Env = [
        {"PYTHONPATH", python_dir()},
        {"PYTHONDONTWRITEBYTECODE", "1"}
        | maps:get(env, Options, [])
    ],
    Paths = [filename:dirname(code:which(M)) || M <- [py, ?MODULE]],
    {ok, Peer, _} = peer:start(Options#{
        connection => 0, env => Env, args => Args ++ lists:append([["-pa", P] || P <- Paths])
    }),
    Peer.

stop_vm(Peer) ->
    peer:stop(Peer).

in_vm(Peer, M, F, Args) ->
    peer:call(Peer, M, F, Args, 120000).

%% --- callers --------------------------------------------------------------------------

%% For end_per_testcase/2, which runs in the process of the case: nothing may be left
%% in its mailbox, no wake-up may have been lost, and no worker process may have been
%% found to break the protocol.
clean() ->
    Messages = messages(),
    #{lost_wake := LostWake, violations := Violations} = ep_nif:counters(),
    Before = persistent_term:get({?MODULE, violations}, 0),
    ok = persistent_term:put({?MODULE, violations}, Violations),
    case {Messages, LostWake, Violations =< Before} of
        {[], 0, true} -> ok;
        _ -> {fail, {left, Messages, {lost_wake, LostWake}, {violations, Before, Violations}}}
    end.

%% What is in the mailbox of the calling process. OTP 25 does not show what has come since it last
%% looked for a message, for seconds.
messages() ->
    receive {?MODULE, no_such_message} -> ok after 0 -> ok end,
    {messages, Messages} = process_info(self(), messages),
    Messages.

badarg(Fun) ->
    try Fun() of
        Result -> error({no_badarg, Fun, Result})
    catch
        error:badarg -> ok
    end.

%% What shells print of an error beside its reason, as they ask for it (EEP 54).
error_texts(Reason, Stack = [{_, _, _, Location} | _]) ->
    case lists:keyfind(error_info, 1, Location) of
        {error_info, #{module := Module}} -> Module:format_error(Reason, Stack);
        false -> #{}
    end.

elapsed(Fun) ->
    Start = erlang:monotonic_time(millisecond),
    Result = Fun(),
    {erlang:monotonic_time(millisecond) - Start, Result}.

%% Runs Fun in a process of its own; result_of/1 waits for what it returns, and for
%% what was in its mailbox then.
spawn_caller(Fun) ->
    spawn_monitor(fun() ->
        Result = Fun(),
        {messages, []} = process_info(self(), messages),
        exit({result, Result})
    end).

result_of({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, {result, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> error({caller, Reason})
    after 60000 -> error({no_result, process_info(Pid, current_stacktrace)})
    end.

%% A file that does not exist yet, where Python leaves marks.
marker(Config, Name) ->
    File = io_lib:format("~s.~b", [Name, erlang:unique_integer([positive])]),
    unicode:characters_to_binary(filename:join(proplists:get_value(priv_dir, Config), File)).

%% The lines that were marked there.
marks(Marker) ->
    case file:read_file(Marker) of
        {ok, Text} -> binary:split(Text, <<"\n">>, [global, trim]);
        {error, enoent} -> []
    end.

%% --- the operating system -------------------------------------------------------------

%% For state outside the VM only, which nobody tells us about.
wait_until(Fun) ->
    wait_until(Fun, ?WAIT_MS).

wait_until(Fun, Ms) ->
    wait_until_deadline(Fun, erlang:monotonic_time(millisecond) + Ms).

%% Waits until Fun says that nothing is left; says what is left when the time is over.
settle(Fun, Ms) ->
    settle_until(Fun, erlang:monotonic_time(millisecond) + Ms).

settle_until(Fun, Deadline) ->
    Left = Fun(),
    case Left =:= [] orelse erlang:monotonic_time(millisecond) >= Deadline of
        true ->
            Left;
        false ->
            receive after ?POLL_MS -> ok end,
            settle_until(Fun, Deadline)
    end.

wait_until_deadline(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        Other ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true ->
                    receive after ?POLL_MS -> ok end,
                    wait_until_deadline(Fun, Deadline);
                false ->
                    error({still, Other})
            end
    end.

wait_for_file(File) ->
    wait_until(fun() -> filelib:is_regular(File) end).

%% Waits until none of the processes runs.
wait_for_exit(OsPids, Ms) ->
    wait_until(fun() -> [P || P <- OsPids, is_running(P)] =:= [] orelse named(OsPids) end, Ms).

named(OsPids) ->
    [{P, status(P)} || P <- OsPids, is_running(P)].

os_pid(Ctx) ->
    {ok, OsPid} = py_context:call(Ctx, os, getpid, []),
    OsPid.

kill(OsPid) ->
    [] = os:cmd("kill -9 " ++ integer_to_list(OsPid)),
    ok.

vm_pid() ->
    list_to_integer(os:getpid()).

%% Of the application in this VM: the parent of every worker process.
launcher_pid() ->
    [_, Parent] = status(os_pid(py:context(1))),
    Parent.

%% All processes whose parent this is, the ones that nobody has reaped included.
children(OsPid) ->
    [P || {P, Parent} <- processes_of_the_system(), Parent =:= OsPid].

%% Of a launcher.
workers(Launcher) ->
    children(Launcher) -- zygotes(Launcher).

zygotes(Launcher) ->
    [P || P <- children(Launcher), file:read_file(["/proc/", integer_to_list(P), "/comm"]) =:= {ok, <<"ep_zygote\n">>}].

descendants(OsPid) ->
    descendants([OsPid], processes_of_the_system(), []).

descendants([], _All, Found) ->
    Found;
descendants(Parents, All, Found) ->
    Children = [P || {P, Parent} <- All, lists:member(Parent, Parents)],
    descendants(Children, All, Children ++ Found).

processes_of_the_system() ->
    {ok, Names} = file:list_dir("/proc"),
    Pids = [list_to_integer(N) || N = [C | _] <- Names, C >= $0, C =< $9],
    [{P, Parent} || P <- Pids, [_, Parent] <- [status(P)]].

%% A process that ended and was not reaped does not run.
is_running(OsPid) ->
    case status(OsPid) of
        [State, _] -> State =/= "Z" andalso State =/= "X";
        gone -> false
    end.

%% State and parent.
status(OsPid) ->
    case file:read_file(proc(OsPid, "stat")) of
        {ok, Text} ->
            %% The name may contain anything; it ends with the last parenthesis.
            [_, Rest] = string:split(binary_to_list(Text), ")", trailing),
            [State, Parent | _] = string:lexemes(Rest, " "),
            [State, list_to_integer(Parent)];
        {error, _} ->
            gone
    end.

fd_count(OsPid) ->
    {ok, Names} = file:list_dir(proc(OsPid, "fd")),
    length(Names).

memfd_maps(OsPid) ->
    {ok, Text} = file:read_file(proc(OsPid, "maps")),
    length(binary:matches(Text, <<"/memfd:ep">>)).

%% Processor time of all threads of a process that runs.
%% Shared memory that a process has in use.
shared_bytes(OsPid) ->
    kilobytes(proc(OsPid, "status"), "RssShmem").

available_bytes() ->
    kilobytes("/proc/meminfo", "MemAvailable").

kilobytes(File, Key) ->
    {ok, Text} = file:read_file(File),
    {match, [Number]} = re:run(Text, ["^", Key, ":\\s+(\\d+) kB"], [multiline, {capture, all_but_first, list}]),
    list_to_integer(Number) * 1024.

cpu_ns(OsPid) ->
    {ok, Threads} = file:list_dir(proc(OsPid, "task")),
    lists:sum([thread_ns(proc(OsPid, ["task/", T, "/schedstat"])) || T <- Threads]).

thread_ns(File) ->
    case file:read_file(File) of
        {ok, Text} -> binary_to_integer(hd(binary:split(Text, <<" ">>)));
        {error, _} -> 0
    end.

proc(OsPid, What) ->
    lists:flatten(io_lib:format("/proc/~b/~s", [OsPid, What])).

%% --- Python ---------------------------------------------------------------------------

%% tests/py, from where make puts the compiled suites.
python_dir() ->
    Root = filename:dirname(filename:dirname(filename:dirname(filename:absname(code:which(?MODULE))))),
    filename:join([Root, "tests", "py"]).

%% The Python that make test made for the tests, which may have numpy.
test_python() ->
    case os:getenv("EP_TEST_PYTHON") of
        false -> none;
        Path -> case filelib:is_regular(Path) of true -> Path; false -> none end
    end.

is_free_threaded() ->
    maps:get(free_threaded, py_python:info()).

%% The free-threaded build of CPython 3.13 keeps functions of the top level for ever, and
%% with them the globals that they were defined in.
frees_functions() ->
    {ok, IsNew} = py:eval("__import__('sys').version_info >= (3, 14)"),
    IsNew orelse not is_free_threaded().

%% --- what is logged -------------------------------------------------------------------

%% A handler of logger: sends each text to the process that its config names.
log(#{msg := {report, #{format := Format, args := Args}}}, Handler) ->
    log(#{msg => {Format, Args}}, Handler);
log(#{msg := {Format, Args}}, #{config := Pid}) when is_list(Format) ->
    Pid ! {logged, lists:flatten(io_lib:format(Format, Args))};
log(_Event, _Handler) ->
    ok.
