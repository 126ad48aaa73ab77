%% SPDX-License-Identifier: Apache-2.0

%% @doc What the log says when a worker process dies: one event for each death, with what is
%% known about it, that OTP's default handler shows.
-module(py_report_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([
    says_what_ran_and_the_python_stack/1,
    says_each_death_once/1,
    says_who_ran_a_request_with_much_data/1,
    says_who_imported_what_crashes/1,
    says_that_no_request_ran/1,
    says_where_the_stack_overflowed/1,
    names_every_request_of_a_shared_process/1,
    keeps_the_end_of_what_was_written/1,
    says_nothing_at_an_orderly_end/1,
    shows_a_crash_with_a_plain_configuration/1,
    passes_stderr_on_to_that_of_the_vm/1,
    loses_what_nobody_reads/1,
    knows_the_signal_when_the_launcher_is_stopped/1,
    makes_text_of_any_bytes/1,
    tells_the_stack_from_the_rest/1
]).
%% Handler of logger.
-export([log/2]).

-define(LOG_MS, 20000).

all() ->
    [
        {group, worker},
        {group, owngil},
        {group, single_worker},
        names_every_request_of_a_shared_process,
        says_nothing_at_an_orderly_end,
        shows_a_crash_with_a_plain_configuration,
        passes_stderr_on_to_that_of_the_vm,
        loses_what_nobody_reads,
        knows_the_signal_when_the_launcher_is_stopped,
        makes_text_of_any_bytes,
        tells_the_stack_from_the_rest
    ].

groups() ->
    Cases = [
        says_what_ran_and_the_python_stack,
        says_each_death_once,
        says_who_ran_a_request_with_much_data,
        says_who_imported_what_crashes,
        says_that_no_request_ran,
        says_where_the_stack_overflowed,
        keeps_the_end_of_what_was_written
    ],
    [{Group, [], Cases} || Group <- [worker, owngil, single_worker]].

init_per_group(Group, Config) ->
    py_fixture:init(Group, Config).

end_per_group(_Group, _Config) ->
    py_test:stop().

init_per_testcase(Case, Config) ->
    case proplists:get_value(group, Config) of
        undefined -> ok = py_test:start([{num_contexts, 2} | env(Case)]);
        _ -> ok
    end,
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}),
    Config.

env(names_every_request_of_a_shared_process) -> [{num_workers, 1}];
env(_) -> [].

end_per_testcase(_Case, Config) ->
    ok = logger:remove_handler(?MODULE),
    _ = events(),
    Result = py_test:clean(),
    proplists:get_value(group, Config) =/= undefined orelse py_test:stop(),
    Result.

log(#{level := Level, msg := Msg, meta := Meta = #{library := erlang_python}}, #{config := #{to := To}}) ->
    Text =
        case Msg of
            {string, String} -> unicode:characters_to_binary(String);
            {Format, Args} -> unicode:characters_to_binary(io_lib:format(Format, Args))
        end,
    To ! {logged, Level, Text, Meta},
    ok;
log(_Event, _Config) ->
    ok.

event() ->
    receive
        {logged, Level, Text, Meta} -> {Level, Text, Meta}
    after ?LOG_MS -> error(nothing_logged)
    end.

events() ->
    receive
        {logged, Level, Text, Meta} -> [{Level, Text, Meta} | events()]
    after 0 -> []
    end.

%% The event of a death, and that there is no other one until the context serves again.
death(Ctx) ->
    {error, Text, Meta} = event(),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    [] = events(),
    {Text, Meta}.

contains(Text, Parts) ->
    [?assertNotEqual({Part, nomatch}, {Part, binary:match(Text, Part)}) || Part <- Parts],
    ok.

%% --- one death, one event -------------------------------------------------------------

says_what_ran_and_the_python_stack(_Config) ->
    Ctx = py:context(1),
    OsPid = py_test:os_pid(Ctx),
    {error, {worker_died, #{reason := 'SIGSEGV'}}} = py:call(Ctx, ctypes, string_at, [0]),
    {Text, Meta} = death(Ctx),
    ok = contains(Text, [
        <<"SIGSEGV">>, <<"while it ran ctypes.string_at">>, <<"pool default, context">>, integer_to_binary(OsPid),
        <<"Fatal Python error: Segmentation fault">>, <<"in string_at">>
    ]),
    ?assertMatch(
        #{
            library := erlang_python, pool := default, index := 1, context := Ctx, os_pid := OsPid, started := true,
            reason := 'SIGSEGV', module := <<"ctypes">>, function := <<"string_at">>,
            python_stack := <<"Fatal Python error: ", _/binary>>, stderr := _
        },
        Meta
    ),
    ?assertNot(is_map_key(domain, Meta)).

says_each_death_once(_Config) ->
    Ctx = py:context(1),
    Cases = [
        {"__import__('os')._exit(3)", 3, <<"exit status 3">>},
        {"__import__('os')._exit(0)", 0, <<"exit status 0">>},
        {"__import__('os').abort()", 'SIGABRT', <<"SIGABRT">>},
        {"__import__('os').kill(__import__('os').getpid(), 9)", 'SIGKILL', <<"SIGKILL">>},
        {"__import__('os').kill(__import__('os').getpid(), 31) or __import__('time').sleep(60)", 'SIGSYS', <<"SIGSYS">>}
    ],
    [
        begin
            {error, {worker_died, #{reason := Reason}}} = py:eval(Ctx, Code),
            {Text, Meta} = death(Ctx),
            ok = contains(Text, [Words, <<"while it ran code of py:eval">>]),
            ?assertMatch(#{reason := Reason, started := true}, Meta)
        end
     || {Code, Reason, Words} <- Cases
    ].

%% Arguments that lie in a block, which the worker gives back before Python runs.
says_who_ran_a_request_with_much_data(_Config) ->
    Ctx = py:context(1),
    ok = py:exec(Ctx, "import ctypes\ndef crash_with(data):\n    ctypes.string_at(0)"),
    {error, {worker_died, _}} = py:call(Ctx, '__main__', crash_with, [binary:copy(<<"x">>, 5000)]),
    {_, #{module := <<"__main__">>, function := <<"crash_with">>}} = death(Ctx),
    ok = py:exec(Ctx, "import ctypes\ndef crash_with(data):\n    ctypes.string_at(0)"),
    {error, {worker_died, _}} = py:call(Ctx, '__main__', crash_with, [binary:copy(<<"x">>, 3000000)]),
    {_, #{module := <<"__main__">>, function := <<"crash_with">>}} = death(Ctx).

%% The module of the function, and one that Python code imports.
says_who_imported_what_crashes(_Config) ->
    Ctx = py:context(1),
    [
        begin
            {error, {worker_died, #{reason := 'SIGSEGV'}}} = py:call(Ctx, Module, Function, Args),
            {_, Meta} = death(Ctx),
            ?assertMatch(#{module := Module, function := Function}, Meta)
        end
     || {Module, Function, Args} <- [
            {<<"ep_dying">>, <<"any">>, []},
            {<<"builtins">>, <<"__import__">>, [<<"ep_dying">>]}
        ]
    ].

says_that_no_request_ran(_Config) ->
    Ctx = py:context(1),
    ok = py_test:kill(py_test:os_pid(Ctx)),
    {Text, Meta} = death(Ctx),
    ok = contains(Text, [<<"SIGKILL">>, <<"while no request ran">>]),
    ?assertMatch(#{pool := default, index := 1, started := false}, Meta),
    ?assertNot(is_map_key(module, Meta)).

%% There the handler of the crash needs a stack of its own, in every thread of a context.
says_where_the_stack_overflowed(_Config) ->
    Ctx = lists:last(py_context_router:contexts()),
    ok = py:exec(Ctx, "
import ctypes
def overflow():
    # The C library parses what is in parentheses by a call of itself.
    ctypes.PyDLL(None).regcomp(ctypes.create_string_buffer(1024), b'(' * 10000000, 1)
"),
    {error, {worker_died, #{reason := 'SIGSEGV'}}} = py:call(Ctx, '__main__', overflow, []),
    {Text, _} = death(Ctx),
    ok = contains(Text, [<<"SIGSEGV">>, <<"__main__.overflow">>, <<"Fatal Python error: Segmentation fault">>]).

names_every_request_of_a_shared_process(Config) ->
    [One, Two] = py_context_router:contexts(),
    Held = py_fixture:hold(One, Config),
    {error, {worker_died, _}} = py:call(Two, ctypes, string_at, [0]),
    {{Caller, Ref}, _} = Held,
    {error, {worker_died, _}} = py_test:result_of({Caller, Ref}),
    {Text, _} = death(One),
    ok = contains(Text, [
        <<"ep_steps.hold (context 1) and ctypes.string_at (context 2)">>, <<"pool default, contexts [1,2]">>
    ]).

%% --- what it wrote --------------------------------------------------------------------

keeps_the_end_of_what_was_written(_Config) ->
    Ctx = py:context(1),
    {error, {worker_died, _}} = py:exec(Ctx, "
import os, sys
for i in range(20000):
    os.write(2, b'line %d\\n' % i)
os.write(2, b'\\xff\\x1b[31mred\\x1b[0m \\xc3')
os._exit(4)
"),
    {Text, #{stderr := Wrote}} = death(Ctx),
    ok = contains(Text, [<<"exit status 4">>, <<"line 19999">>, <<"?red ?">>]),
    ?assert(byte_size(Wrote) =< 16384 + 16),
    ?assert(byte_size(Wrote) > 16000),
    ?assert(byte_size(Text) < 8000).

says_nothing_at_an_orderly_end(_Config) ->
    {ok, Ctx} = py_context:start_link(1, worker),
    {ok, 4.0} = py:call(Ctx, math, sqrt, [16]),
    ok = py_context:stop(Ctx),
    ok = application:stop(erlang_python),
    [] = events().

%% --- in a VM of its own ---------------------------------------------------------------

%% Nobody has configured logger there.
shows_a_crash_with_a_plain_configuration(Config) ->
    {_, Out} = run_vm("py:cast(ctypes, string_at, [0]), " ++ await("started again"), "2>&1", Config),
    ok = contains(Out, [
        <<"ERROR REPORT">>, <<"while it ran ctypes.string_at">>, <<"  | Fatal Python error: Segmentation fault">>
    ]),
    ?assertEqual(1, length(binary:matches(Out, <<"a Python worker process ended">>))).

%% The event comes before the next process is up.
await(_What) ->
    "F = fun F() -> case py:call(math, sqrt, [16]) of {ok, 4.0} -> "
    "  maps:get(restarts, hd(maps:get(contexts, py:stats()))) > 0 orelse F(); _ -> F() end end, F()".

passes_stderr_on_to_that_of_the_vm(Config) ->
    File = py_test:marker(Config, "stderr"),
    {_, _} = run_vm(
        "py:exec(\"import os, sys\\nprint('to stderr', file=sys.stderr)\\n"
        "for i in range(3000): os.write(2, b'%d\\\\n' % i)\"), "
        "py:exec(\"import atexit, os; atexit.register(os.write, 2, b'at the end\\\\n')\"), application:stop(erlang_python)",
        "2>" ++ unicode:characters_to_list(File),
        Config
    ),
    {ok, Wrote} = file:read_file(File),
    Numbers = << <<(integer_to_binary(I))/binary, "\n">> || I <- lists:seq(0, 2999) >>,
    ?assertEqual(<<"to stderr\n", Numbers/binary, "at the end\n">>, Wrote).

%% A pipe with a reader who does not read: the worker goes on, the launcher does not grow, and
%% later the reader hears how much there was.
loses_what_nobody_reads(Config) ->
    Fifo = unicode:characters_to_list(py_test:marker(Config, "fifo")),
    File = Fifo ++ ".read",
    [] = os:cmd("mkfifo " ++ Fifo),
    Reader = spawn_monitor(fun() ->
        %% It has the pipe open, and reads when the flood is over.
        [] = os:cmd("exec 3<" ++ Fifo ++ "; while [ ! -e " ++ Fifo ++ ".go ]; do sleep 0.05; done; cat <&3 >" ++ File)
    end),
    {0, Out} = run_vm(
        "ok = py:exec(\"\nimport os\n"
        "def memory():\n"
        "    with open('/proc/%d/statm' % os.getppid()) as f: return 4096 * int(f.read().split()[1])\n"
        "def flood(n):\n"
        "    before = memory()\n"
        "    return sum(os.write(2, b'z' * 40000) for _ in range(n)), memory() - before\n\"), "
        "{ok, {200000000, Growth}} = py:call('__main__', flood, [5000]), true = Growth < 4000000, "
        "io:format(\"not held~~n\"), ok = file:write_file(\"" ++ Fifo ++ ".go\", <<>>), application:stop(erlang_python)",
        "2>" ++ Fifo,
        Config
    ),
    ok = contains(Out, [<<"not held">>]),
    receive
        {'DOWN', Ref, process, Pid, normal} when {Pid, Ref} =:= Reader -> ok
    end,
    {ok, Read} = file:read_file(File),
    {match, [Lost]} = re:run(Read, "(\\d+) bytes that Python wrote to stderr are lost", [{capture, all_but_first, list}]),
    ?assertEqual(200000000, length(binary:matches(Read, <<"z">>)) + list_to_integer(Lost)).

%% A VM with the application and nothing else; its output and status.
run_vm(Code, Redirect, Config) ->
    Ebin = filename:dirname(code:which(py)),
    Script = unicode:characters_to_list(py_test:marker(Config, "vm")) ++ ".sh",
    Main = unicode:characters_to_list(py_test:marker(Config, "main")),
    ok = file:write_file(Main, [
        "main() -> application:set_env(erlang_python, num_contexts, 1), "
        "{ok, _} = application:ensure_all_started(erlang_python), ", io_lib:format(Code, []), ", ok.\n"
    ]),
    ok = file:write_file(Script, [
        "erl -noshell -pa ", Ebin, " -eval '{ok, Text} = file:read_file(\"", Main, "\"), "
        "{ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)), "
        "[\"main() -> \" | _] = [lists:sublist(unicode:characters_to_list(Text), 10)], "
        "{ok, {function, _, main, 0, [{clause, _, [], [], Body}]}} = erl_parse:parse_form(Tokens), "
        "{value, _, _} = erl_eval:exprs(Body, []), halt(0).' </dev/null ", Redirect, "\n"
    ]),
    Port = open_port({spawn_executable, "/bin/sh"}, [{args, [Script]}, exit_status, binary]),
    collect(Port, <<>>).

collect(Port, Out) ->
    receive
        {Port, {data, Data}} -> collect(Port, <<Out/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Out}
    after 60000 -> error({no_end, Out})
    end.

%% --- how it ended ---------------------------------------------------------------------

%% The process that would say is stopped; the kernel knows.
knows_the_signal_when_the_launcher_is_stopped(_Config) ->
    Ctx = py:context(1),
    Launcher = py_test:launcher_pid(),
    OsPid = py_test:os_pid(Ctx),
    [] = os:cmd(io_lib:format("kill -STOP ~b", [Launcher])),
    try
        {Us, Result} = timer:tc(fun() -> py:call(Ctx, os, abort, []) end),
        {error, {worker_died, #{reason := 'SIGABRT', os_pid := OsPid}}} = Result,
        %% Who reads the log waits for the launcher for so long, the caller does not.
        ?assert(Us < 2000000)
    after
        [] = os:cmd(io_lib:format("kill -CONT ~b", [Launcher]))
    end,
    {_, #{reason := 'SIGABRT', module := <<"os">>, function := <<"abort">>}} = death(Ctx).

%% --- pure -----------------------------------------------------------------------------

makes_text_of_any_bytes(_Config) ->
    [
        begin
            Bytes = rand:bytes(rand:uniform(300)),
            Text = py_stderr:text(Bytes),
            ?assert(is_list(unicode:characters_to_list(Text))),
            ?assertEqual(nomatch, re:run(Text, "[\\x00-\\x08\\x0b-\\x1f]", [unicode]))
        end
     || _ <- lists:seq(1, 1000)
    ],
    ?assertEqual(<<"a?b\nc\td?">>, py_stderr:text(<<"a", 255, "b\r\nc\td", 16#c3>>)),
    ?assertEqual([<<"b">>, <<"c">>], py_stderr:last_lines(<<"a\n\nb\nc\n\n">>, 2, 100)),
    ?assertEqual([], py_stderr:last_lines(<<>>, 2, 100)).

tells_the_stack_from_the_rest(_Config) ->
    Stack = <<"Fatal Python error: Aborted\n\nThread 0x01 (most recent call first):\n  <no Python frame>\n\n"
              "Current thread 0x02 (most recent call first):\n  File \"x\", line 1 in f">>,
    ?assertEqual({undefined, <<"x\ny">>}, py_stderr:python_stack(<<"x\ny">>)),
    ?assertEqual({Stack, <<"before\nafter">>}, py_stderr:python_stack(<<"before\n", Stack/binary, "\nafter\n">>)),
    %% The beginning is lost.
    {<<"Current thread", _/binary>>, <<"ost in f\n">>} =
        py_stderr:python_stack(<<"ost in f\nCurrent thread 0x02 (most recent call first):\n  File \"x\", line 1 in f\n">>).
