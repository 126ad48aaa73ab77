%% SPDX-License-Identifier: Apache-2.0

%% @private The configuration: application environment and options, checked in one
%% place, before any worker process starts.
-module(py_config).

-export([check/0, get/1, pool_options/1, context_options/1, context_mode/0, max_atoms/0]).
-export([spin_ns/1, worker_spin_ns/1]).

-export_type([error/0, pool/0, context/0]).

-type error() :: {bad_config, Key :: atom(), Value :: term(), Why :: binary()}.
-type pool() :: #{
    contexts := pos_integer(),
    mode := py:context_mode(),
    num_workers := pos_integer(),
    kill_after := timeout(),
    python := binary(),
    spin_us := auto | 0..1000
}.
-type context() :: #{
    %% default: worker contexts have a process of their own, owngil contexts share
    own_process := boolean() | default,
    preload := binary(),
    kill_after := timeout(),
    python := binary(),
    spin_us := auto | 0..1000
}.

-define(MAX_CONTEXTS, 1024).
-define(KEYS, [
    num_contexts,
    context_mode,
    num_workers,
    max_concurrent,
    kill_after,
    python,
    spin_us,
    max_state_entries,
    max_atoms
]).

%% @doc Checks the application environment.
-spec check() -> ok | {error, error()}.
check() ->
    try
        lists:foreach(fun(Key) -> _ = configured(Key) end, ?KEYS)
    catch
        throw:{bad_config, _, _, _} = Bad -> {error, Bad}
    end.

%% @doc The configured value of a key, or its default.
-spec get(atom()) -> term().
get(Key) ->
    configured(Key).

%% @doc The settings of a pool: options win over the application environment.
%% Unknown keys raise `badarg'.
-spec pool_options(map()) -> {ok, pool()} | {error, error()}.
pool_options(Options) ->
    known_keys(Options, [contexts, mode, num_workers, kill_after, python, spin_us]),
    try
        Contexts = option(contexts, num_contexts, Options),
        Mode = option(mode, context_mode, Options),
        Workers = workers(option(num_workers, num_workers, Options), Mode, Contexts),
        {ok, #{
            contexts => Contexts,
            mode => Mode,
            num_workers => min(Workers, Contexts),
            kill_after => option(kill_after, kill_after, Options),
            python => option(python, python, Options),
            spin_us => option(spin_us, spin_us, Options)
        }}
    catch
        throw:{bad_config, _, _, _} = Bad -> {error, Bad}
    end.

%% @doc The settings of a single context.
-spec context_options(map()) -> {ok, context()} | {error, error()}.
context_options(Options) ->
    known_keys(Options, [own_process, preload, kill_after, python, spin_us]),
    try
        {ok, #{
            own_process => check(own_process, maps:get(own_process, Options, default)),
            preload => check(preload, maps:get(preload, Options, <<>>)),
            kill_after => option(kill_after, kill_after, Options),
            python => option(python, python, Options),
            spin_us => option(spin_us, spin_us, Options)
        }}
    catch
        throw:{bad_config, _, _, _} = Bad -> {error, Bad}
    end.

-spec context_mode() -> py:context_mode().
context_mode() ->
    configured(context_mode).

-spec max_atoms() -> non_neg_integer().
max_atoms() ->
    configured(max_atoms).

%% @doc The busy wait of a caller, {Least, Most}, in nanoseconds. By itself as long as it
%% costs to sleep and to be woken, which is found out while running: waiting longer would
%% cost more than sleeping, and a shorter wait would be over before the other side, once
%% asleep, could answer.
-spec spin_ns(auto | 0..1000) -> py_nif:spin_ns().
spin_ns(auto) ->
    %% One CPU: whoever spins keeps the one who is waited for from running.
    case maps:get(cpus, py_nif:counters()) of
        1 -> {0, 0};
        _ -> {50000, 500000}
    end;
spin_ns(Us) ->
    {Us * 1000, Us * 1000}.

%% @doc The same of a worker. By itself longer: between two requests of a caller lie the
%% turns of others on its scheduler, and to be woken costs more than to wait for them.
-spec worker_spin_ns(auto | 0..1000) -> py_nif:spin_ns().
worker_spin_ns(auto) ->
    {Least, Most} = spin_ns(auto),
    {2 * Least, 2 * Most};
worker_spin_ns(Us) ->
    spin_ns(Us).

%% Internal

known_keys(Options, Keys) when is_map(Options) ->
    maps:without(Keys, Options) =:= #{} orelse error(badarg),
    ok;
known_keys(_Options, _Keys) ->
    error(badarg).

option(Key, EnvKey, Options) ->
    case Options of
        #{Key := Value} -> check(Key, Value);
        _ -> configured(EnvKey)
    end.

configured(Key) ->
    case application:get_env(erlang_python, Key) of
        {ok, Value} -> check(Key, Value);
        undefined -> check(Key, default(Key))
    end.

default(num_contexts) -> erlang:system_info(schedulers);
default(context_mode) -> worker;
default(num_workers) -> default;
default(max_concurrent) -> 2 * erlang:system_info(schedulers) + 1;
default(kill_after) -> 1000;
default(python) -> <<>>;
default(spin_us) -> auto;
default(max_state_entries) -> infinity;
default(max_atoms) -> max_atoms(os:getenv("ERLANG_PYTHON_MAX_ATOMS")).

max_atoms(false) ->
    10000;
max_atoms(Text) ->
    try
        list_to_integer(Text)
    catch
        error:badarg -> bad(max_atoms, Text, "must be a number: ERLANG_PYTHON_MAX_ATOMS")
    end.

%% Workers share nothing, so by default every worker context has its own; owngil
%% contexts share one.
workers(default, worker, Contexts) -> Contexts;
workers(default, owngil, Contexts) -> (Contexts + 63) div 64;
workers(N, _Mode, Contexts) -> max(N, (Contexts + 63) div 64).

check(Key, N) when Key =:= num_contexts; Key =:= contexts ->
    is_integer(N) andalso N > 0 andalso N =< ?MAX_CONTEXTS orelse
        bad(Key, N, "must be an integer from 1 to 1024"),
    N;
check(Key, Mode) when Key =:= context_mode; Key =:= mode ->
    Mode =:= worker orelse Mode =:= owngil orelse bad(Key, Mode, "must be worker or owngil"),
    Mode;
check(num_workers, default) ->
    default;
check(num_workers, N) ->
    is_integer(N) andalso N > 0 orelse bad(num_workers, N, "must be an integer above 0"),
    N;
check(kill_after, T) ->
    T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< 16#FFFFFFFF) orelse
        bad(kill_after, T, "must be milliseconds or infinity"),
    T;
check(spin_us, auto) ->
    auto;
check(spin_us, N) ->
    is_integer(N) andalso N >= 0 andalso N =< 1000 orelse
        bad(spin_us, N, "must be auto or microseconds from 0 to 1000"),
    N;
check(max_atoms, N) ->
    is_integer(N) andalso N >= 0 andalso N =< 1000000 orelse
        bad(max_atoms, N, "must be an integer from 0 to 1000000"),
    N;
check(max_concurrent, N) ->
    is_integer(N) andalso N > 0 orelse bad(max_concurrent, N, "must be an integer above 0"),
    N;
check(max_state_entries, infinity) ->
    infinity;
check(max_state_entries, N) ->
    is_integer(N) andalso N >= 0 orelse
        bad(max_state_entries, N, "must be an integer from 0 or infinity"),
    N;
check(preload, Code) ->
    try
        iolist_to_binary(Code)
    catch
        error:badarg -> bad(preload, Code, "must be Python code as iodata")
    end;
check(own_process, default) ->
    default;
check(own_process, Own) ->
    is_boolean(Own) orelse bad(own_process, Own, "must be true or false"),
    Own;
check(python, <<>>) ->
    <<>>;
check(python, Value) ->
    case py_interpreter:check(Value) of
        {ok, Executable} -> Executable;
        {error, Why} -> bad(python, Value, Why)
    end.

-spec bad(atom(), term(), iodata()) -> no_return().
bad(Key, Value, Why) ->
    Sentence = unicode:characters_to_binary([atom_to_list(Key), ": ", Why]),
    throw({bad_config, Key, Value, Sentence}).
