%% SPDX-License-Identifier: Apache-2.0

%% @private Starts and stops the application under test, as a section needs it.
-module(bench_app).

-export([start/2, start/3, modes/0, check/0, same/0, os_pids/0, pss/0, pss/1, venv/0]).

-spec start(py:context_mode(), pos_integer()) -> ok.
start(Mode, Contexts) ->
    start(Mode, Contexts, #{}).

%% @doc With more keys of the application; `default' leaves a key to the library.
-spec start(py:context_mode(), pos_integer(), #{atom() => term()}) -> ok.
start(Mode, Contexts, More) ->
    _ = application:stop(erlang_python),
    %% More callers at once than the limit would let in by default.
    Limits = #{num_contexts => Contexts, context_mode => Mode, max_concurrent => 10000},
    Env = maps:merge(Limits, More),
    maps:foreach(fun set/2, Env),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok.

set(Key, default) -> application:unset_env(erlang_python, Key);
set(Key, Value) -> application:set_env(erlang_python, Key, Value).

%% @doc The modes that the Python in use has. The application must have been started.
-spec modes() -> [py:context_mode()].
modes() ->
    case py:subinterp_supported() of
        true -> [worker, owngil];
        false -> [worker]
    end.

%% @doc A figure is worth nothing if a wake-up was lost.
-spec check() -> ok.
check() ->
    #{lost_wake := 0, violations := 0} = (nif()):counters(),
    ok.

%% Older builds, which make bench-pair compares with, have it in another module.
nif() ->
    case code:ensure_loaded(ep_nif) of
        {module, ep_nif} -> ep_nif;
        {error, nofile} -> py_nif
    end.

%% @doc Defines same(x) for the calling process.
-spec same() -> ok.
same() ->
    ok = py:exec("def same(x): return x").

%% @doc The virtual environment of the project, for the key `python'; if there is none, no choice.
-spec venv() -> binary().
venv() ->
    case filelib:is_dir(".venv") of
        true -> <<".venv">>;
        false -> <<>>
    end.

%% @doc This VM, and all that descends from it.
-spec os_pids() -> [string()].
os_pids() ->
    descendants([os:getpid()], []).

descendants([], Acc) ->
    Acc;
descendants([Pid | Rest], Acc) ->
    Tasks = filelib:wildcard("/proc/" ++ Pid ++ "/task/*/children"),
    Children = lists:append([children(File) || File <- Tasks]),
    descendants(Children ++ Rest, [Pid | Acc]).

children(File) ->
    case file:read_file(File) of
        {ok, Text} -> string:lexemes(binary_to_list(Text), " ");
        {error, _} -> []
    end.

%% @doc Memory of all that this VM has started, in MiB: the PSS, which divides shared pages among those that share them.
-spec pss() -> float().
pss() ->
    [_ | Children] = lists:reverse(os_pids()),
    lists:sum([pss(Pid) || Pid <- Children]).

-spec pss(string()) -> float().
pss(Pid) ->
    case file:read_file("/proc/" ++ Pid ++ "/smaps_rollup") of
        {ok, Text} ->
            {match, [KiB]} = re:run(Text, "Pss:\\s+(\\d+) kB", [{capture, all_but_first, list}]),
            list_to_integer(KiB) / 1024;
        {error, _} ->
            0.0
    end.
