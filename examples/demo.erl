%% SPDX-License-Identifier: Apache-2.0

%% @doc A tour of erlang_python, on this machine's own data. `make demo' runs it;
%% it fails when one of its steps does not hold. Times are shown, never judged: another
%% program may have had the processors.
-module(demo).

-export([main/0]).

-define(WAIT_S, 0.2).

-spec main() -> ok.
main() ->
    ok = configure(),
    {ok, _} = application:ensure_all_started(erlang_python),
    {ok, Version} = py:version(),
    title("Python in worker processes, called from Erlang/OTP ~s", [
        erlang:system_info(otp_release)
    ]),
    say("Python ~s", [hd(binary:split(Version, <<" (">>))]),
    say("~b contexts, each in a process of its own", [py_context_router:num_contexts()]),
    lists:foreach(fun(Step) -> Step() end, [
        fun both_modes/0,
        fun json/0,
        fun all_cores/0,
        fun numpy/0,
        fun crash/0,
        fun latency/0
    ]),
    ok = application:stop(erlang_python),
    io:format("~nEverything held.~n").

%% The virtual environment of the project has numpy, if it could be installed.
configure() ->
    _ = application:load(erlang_python),
    Venv = filename:absname(".venv"),
    filelib:is_dir(Venv) andalso
        application:set_env(erlang_python, python, filename:join([Venv, "bin", "python"])),
    %% A restart is part of the tour; its log line is not.
    logger:add_primary_filter(python, {fun logger_filters:domain/2, {stop, sub, [erlang_python]}}).

both_modes() ->
    title("The same call in both modes", []),
    {T1, {ok, 4.0}} = timed(fun() -> py:call(math, sqrt, [16]) end),
    say("worker  py:call(math, sqrt, [16]) = {ok, 4.0}  ~s", [T1]),
    case py:subinterp_supported() of
        true ->
            {ok, Ctx} = py_context:start_link(demo, owngil),
            {T2, {ok, 4.0}} = timed(fun() -> py:call(Ctx, math, sqrt, [16]) end),
            say("owngil  py:call(Ctx, math, sqrt, [16]) = {ok, 4.0}  ~s", [T2]),
            ok = py_context:stop(Ctx);
        false ->
            say("owngil  needs Python 3.12 or newer", [])
    end.

json() ->
    title("A real JSON document through Python's json module", []),
    Packages = packages(),
    {T1, {ok, Text}} = timed(fun() -> py:call(json, dumps, [Packages]) end),
    Size = byte_size(Text),
    true = Size >= 100 * 1024,
    {T2, {ok, Back}} = timed(fun() -> py:call(json, loads, [Text]) end),
    true = Back =:= Packages,
    say("~b entries to ~b KiB of JSON: ~s", [length(Packages), Size div 1024, T1]),
    say("and back, the same terms: ~s", [T2]).

%% What is installed, or the files of Erlang/OTP where there is no package list.
packages() ->
    Lines =
        case file:read_file("/var/lib/dpkg/status") of
            {ok, Status} -> binary:split(Status, <<"\n\n">>, [global, trim_all]);
            {error, _} -> [list_to_binary(F) || F <- filelib:wildcard("**/*", code:root_dir())]
        end,
    [
        #{
            <<"number">> => N,
            <<"text">> => valid_utf8(Line),
            <<"fields">> => length(binary:split(Line, <<"\n">>, [global]))
        }
     || {N, Line} <- lists:zip(lists:seq(1, length(Lines)), Lines)
    ].

valid_utf8(Text) ->
    case unicode:characters_to_binary(Text) of
        Utf8 when is_binary(Utf8) -> Utf8;
        _ -> unicode:characters_to_binary(Text, latin1)
    end.

all_cores() ->
    title("CPU-bound pure Python: one context, then all of them", []),
    Code = <<
        "def work(n):\n"
        "    total = 0\n"
        "    for i in range(n):\n"
        "        total += i * i % 7\n"
        "    return total\n"
    >>,
    on_all(fun(Ctx) -> ok = py_context:exec(Ctx, Code) end),
    speed_up(fun(Ctx) -> {ok, _} = py_context:call(Ctx, '__main__', work, [3000000]) end).

numpy() ->
    title("The same with numpy", []),
    case py:call(numpy, zeros, [1]) of
        {ok, _} ->
            Code = <<
                "import numpy\n"
                "def work(n):\n"
                "    x = numpy.arange(n, dtype='float64')\n"
                "    for _ in range(30):\n"
                "        x = numpy.sqrt(x * x + 1.0)\n"
                "    return float(x.sum())\n"
            >>,
            on_all(fun(Ctx) -> ok = py_context:exec(Ctx, Code) end),
            speed_up(fun(Ctx) -> {ok, _} = py_context:call(Ctx, '__main__', work, [1000000]) end);
        {error, {'ModuleNotFoundError', _}} ->
            say("numpy is not installed for this Python; skipped", [])
    end.

on_all(Fun) ->
    lists:foreach(Fun, py_context_router:contexts()).

%% Each context does the same work: first one after the other, then all at once. The
%% figure depends on what else the machine does, so the same moment has a control: what
%% all at once makes of work that waits and needs no processor.
speed_up(Work) ->
    Wait = fun(Ctx) -> {ok, none} = py_context:call(Ctx, time, sleep, [?WAIT_S]) end,
    {OneByOne, AtOnce} = both_ways(Work),
    {WaitOneByOne, WaitAtOnce} = both_ways(Wait),
    N = py_context_router:num_contexts(),
    say("~b jobs one after the other: ~s; all at once: ~s; ~.2f times as fast", [
        N, time(OneByOne), time(AtOnce), OneByOne / AtOnce
    ]),
    say("at most ~b could be gained: the jobs share ~b processors with all that runs here;", [
        min(N, processors()), processors()
    ]),
    say("jobs that wait for ~b ms, beside it: ~.2f times as fast", [
        round(?WAIT_S * 1000), WaitOneByOne / WaitAtOnce
    ]).

both_ways(Work) ->
    Contexts = py_context_router:contexts(),
    {OneByOne, _} = timer:tc(fun() -> lists:foreach(Work, Contexts) end),
    {AtOnce, _} = timer:tc(fun() ->
        Helpers = [spawn_monitor(fun() -> Work(Ctx) end) || Ctx <- Contexts],
        lists:foreach(
            fun({Pid, Ref}) ->
                receive
                    {'DOWN', Ref, process, Pid, Reason} -> normal = Reason
                end
            end,
            Helpers
        )
    end),
    {OneByOne, AtOnce}.

%% Those that this VM may use.
processors() ->
    case erlang:system_info(logical_processors_available) of
        unknown -> erlang:system_info(schedulers_online);
        N -> N
    end.

crash() ->
    title("A segmentation fault in Python, in the middle of a call", []),
    Ctx = py:context(1),
    {T1, {error, {worker_died, Info}}} =
        timed(fun() -> py_context:call(Ctx, ctypes, string_at, [0]) end),
    #{reason := 'SIGSEGV', started := true, os_pid := OsPid} = Info,
    say("the caller got {error, {worker_died, #{reason => 'SIGSEGV', os_pid => ~b, ...}}}  ~s", [
        OsPid, T1
    ]),
    {T2, {ok, 4.0}} = timed(fun() -> py_context:call(Ctx, math, sqrt, [16]) end),
    say("the next call, on the same context in a new process: {ok, 4.0}  ~s", [T2]),
    {T3, {ok, 4.0}} = timed(fun() -> py_context:call(Ctx, math, sqrt, [16]) end),
    say("and the one after it  ~s", [T3]).

latency() ->
    title("What a call costs", []),
    Call = fun() -> {ok, 4.0} = py:call(math, sqrt, [16]) end,
    _ = [Call() || _ <- lists:seq(1, 20000)],
    Samples = lists:sort([sample(Call) || _ <- lists:seq(1, 100000)]),
    say("100000 times py:call(math, sqrt, [16]): median ~.2f us, 99th percentile ~.2f us", [
        lists:nth(50000, Samples) / 1000, lists:nth(99000, Samples) / 1000
    ]).

sample(Fun) ->
    T0 = erlang:monotonic_time(nanosecond),
    _ = Fun(),
    erlang:monotonic_time(nanosecond) - T0.

timed(Fun) ->
    T0 = erlang:monotonic_time(nanosecond),
    Result = Fun(),
    {time((erlang:monotonic_time(nanosecond) - T0) / 1000), Result}.

time(Us) when Us < 1000 -> io_lib:format("~.1f us", [float(Us)]);
time(Us) -> io_lib:format("~.1f ms", [Us / 1000]).

title(Format, Args) ->
    io:format("~n" ++ Format ++ "~n", Args).

say(Format, Args) ->
    io:format("  " ++ Format ++ "~n", Args).
