%% SPDX-License-Identifier: Apache-2.0

%% @private The configuration: application environment and options, checked in one
%% place, before any worker process starts.
-module(py_config).

-include("ep_nif.hrl").
-include("py_limits.hrl").

-export([check/0, warn_of_unknown/0, get/1, pools/0, pool_options/1, context_options/1, context_mode/0, max_atoms/0]).
-export([spin_ns/1, worker_spin_ns/1]).

-export_type([error/0, pool/0, context/0, preload/0]).

-type error() :: {bad_config, Key :: atom(), Value :: term(), Why :: binary()}.
-type pool() :: #{
    contexts := pos_integer(),
    mode := py:context_mode(),
    num_workers := pos_integer(),
    %% modules and functions whose calls go to the pool while it runs
    register := [py_pool_names:name()],
    %% the process that the pool lives and dies with
    owner => pid(),
    kill_after := timeout(),
    python := binary(),
    spin_us := auto | 0..1000,
    max_result_bytes := pos_integer(),
    none := none | nil | undefined,
    error_text := list | binary,
    %% beside those that are registered for all
    paths := [binary()],
    %% the application's variables come first, so that these win
    env := [py_surroundings:variable()],
    cwd := binary(),
    memory_limit := pos_integer() | infinity,
    sandbox := py_sandbox:level(),
    threads := default | pos_integer(),
    max_requests := pos_integer() | infinity,
    max_rss := pos_integer() | infinity,
    %% the same
    imports := [py_code:wanted()],
    event_loop := asyncio | uvloop,
    preload := [preload()]
}.
%% What a context does before any request: imports a module, runs code.
-type preload() :: {load, Module :: binary()} | {code, binary()}.
-type context() :: #{
    %% default: worker contexts have a process of their own, owngil contexts share
    own_process := boolean() | default,
    kill_after := timeout(),
    python := binary(),
    spin_us := auto | 0..1000,
    %% of VM heap that one result may need
    max_result_bytes := pos_integer(),
    none := none | nil | undefined,
    error_text := list | binary,
    paths := [binary()],
    %% the application's variables come first, so that these win
    env := [py_surroundings:variable()],
    cwd := binary(),
    memory_limit := pos_integer() | infinity,
    sandbox := py_sandbox:level(),
    threads := default | pos_integer(),
    max_requests := pos_integer() | infinity,
    max_rss := pos_integer() | infinity,
    imports := [py_code:wanted()],
    event_loop := asyncio | uvloop,
    preload := [preload()]
}.

%% Of pools and of single contexts.
-define(SHARED_OPTIONS, [
    kill_after, python, spin_us, max_result_bytes, none, error_text, paths, imports, preload, env, cwd, memory_limit, sandbox, threads,
    max_requests, max_rss, event_loop
]).
-define(KEYS, [
    num_contexts,
    context_mode,
    num_workers,
    max_concurrent,
    kill_after,
    python,
    spin_us,
    max_result_bytes,
    none,
    error_text,
    max_state_entries,
    max_shared_bytes,
    max_atoms,
    paths,
    env,
    cwd,
    memory_limit,
    sandbox,
    threads,
    max_requests,
    max_rss,
    imports,
    preload,
    event_loop,
    pools
]).
%% Keys of the application environment, and options, that this version does not have: to
%% ignore them would leave a program without what it relies on.
-define(LACKING_OPTIONS, [
    output
]).
-define(LACKING, [event_loop_pool_size, event_loop_pool_owngil | ?LACKING_OPTIONS]).
-define(MIN_MEMORY, 1048576).
%% OTP's own.
-define(FOREIGN, [included_applications]).

%% @doc Checks the application environment.
-spec check() -> ok | {error, error()}.
check() ->
    try
        lists:foreach(fun lacking/1, [Pair || Pair = {Key, _} <- environment(), lists:member(Key, ?LACKING)]),
        lists:foreach(fun(Key) -> _ = configured(Key) end, ?KEYS)
    catch
        throw:{bad_config, _, _, _} = Bad -> {error, Bad}
    end.

%% @doc Logs the keys that nobody knows, each once.
-spec warn_of_unknown() -> ok.
warn_of_unknown() ->
    Unknown = [Key || {Key, _} <- environment(), not lists:member(Key, ?KEYS ++ ?FOREIGN)],
    lists:foreach(fun(Key) -> py_report:unknown_key(Key, py_nearest:hint(Key, ?KEYS)) end, Unknown).

%% @doc The configured value of a key, or its default. A bad one is refused: it has come
%% after the start.
-spec get(atom()) -> term().
get(Key) ->
    try
        configured(Key)
    catch
        throw:{bad_config, _, _, Why} -> py_error_info:refuse({general, ["bad configuration: ", Why]})
    end.

%% @doc The pools that start with the application, beside pool `default'.
-spec pools() -> [{py:pool_name(), pool()}].
pools() ->
    ?MODULE:get(pools).

%% @doc The settings of a pool: options win over the application environment.
%% Unknown keys are refused.
-spec pool_options(map()) -> {ok, pool()} | {error, error()}.
pool_options(Options) ->
    Known = [contexts, mode, num_workers, register | ?SHARED_OPTIONS],
    try
        ok = known_keys(Options, Known),
        Contexts = option(contexts, num_contexts, Options),
        Mode = option(mode, context_mode, Options),
        Workers = workers(option(num_workers, num_workers, Options), Mode, Contexts),
        Shared = #{event_loop := Loop} = shared_options(min(Workers, Contexts), Options),
        Mode =:= owngil andalso Loop =:= uvloop andalso
            bad(event_loop, uvloop, "uvloop does not support sub-interpreters, and the mode is owngil"),
        {ok, Shared#{
            contexts => Contexts,
            mode => Mode,
            num_workers => min(Workers, Contexts),
            register => check(register, maps:get(register, Options, [])),
            preload => option(preload, preload, Options)
        }}
    catch
        throw:{bad_config, _, _, _} = Bad -> {error, Bad}
    end.

%% @doc The settings of a single context.
-spec context_options(map()) -> {ok, context()} | {error, error()}.
context_options(Options) ->
    Known = [own_process | ?SHARED_OPTIONS],
    try
        ok = known_keys(Options, Known),
        {ok, (shared_options(1, Options))#{
            own_process => check(own_process, maps:get(own_process, Options, default)),
            preload => preload_of_context(Options)
        }}
    catch
        throw:{bad_config, _, _, _} = Bad -> {error, Bad}
    end.

-spec context_mode() -> py:context_mode().
context_mode() ->
    ?MODULE:get(context_mode).

-spec max_atoms() -> non_neg_integer().
max_atoms() ->
    ?MODULE:get(max_atoms).

%% @doc The busy wait of a caller, {Least, Most}, in nanoseconds. By itself as long as it
%% costs to sleep and to be woken, which is found out while running: waiting longer would
%% cost more than sleeping, and a shorter wait would be over before the other side, once
%% asleep, could answer.
-spec spin_ns(auto | 0..1000) -> ep_nif:spin_ns().
spin_ns(auto) ->
    %% One CPU: whoever spins keeps the one who is waited for from running.
    case maps:get(cpus, ep_nif:counters()) of
        1 -> {0, 0};
        _ -> {50000, 500000}
    end;
spin_ns(Us) ->
    {Us * 1000, Us * 1000}.

%% @doc The same of a worker. By itself longer: between two requests of a caller lie the
%% turns of others on its scheduler, and to be woken costs more than to wait for them.
-spec worker_spin_ns(auto | 0..1000) -> ep_nif:spin_ns().
worker_spin_ns(auto) ->
    {Least, Most} = spin_ns(auto),
    {2 * Least, 2 * Most};
worker_spin_ns(Us) ->
    spin_ns(Us).

%% Internal

known_keys(Options, Known) when is_map(Options) ->
    Others = maps:without(Known, Options),
    case maps:keys(maps:without(?LACKING_OPTIONS, Others)) of
        [Unknown | _] ->
            py_error_info:refuse_option(Unknown, Known);
        [] ->
            lists:foreach(fun lacking/1, maps:to_list(Others))
    end;
known_keys(_Options, _Known) ->
    py_error_info:refuse(arguments).

%% Workers: how many processes share the CPUs.
shared_options(Workers, Options) ->
    #{
        kill_after => option(kill_after, kill_after, Options),
        python => option(python, python, Options),
        spin_us => option(spin_us, spin_us, Options),
        max_result_bytes => option(max_result_bytes, max_result_bytes, Options),
        none => option(none, none, Options),
        error_text => option(error_text, error_text, Options),
        paths => check(paths, maps:get(paths, Options, [])),
        imports => check(imports, maps:get(imports, Options, [])),
        env => environment_of(Options),
        cwd => option(cwd, cwd, Options),
        memory_limit => option(memory_limit, memory_limit, Options),
        sandbox => option(sandbox, sandbox, Options),
        threads => threads(option(threads, threads, Options), Workers),
        max_requests => option(max_requests, max_requests, Options),
        max_rss => option(max_rss, max_rss, Options),
        event_loop => option(event_loop, event_loop, Options)
    }.

threads(auto, Workers) -> max(1, maps:get(cpus, ep_nif:counters()) div Workers);
threads(Threads, _Workers) -> Threads.

%% Code, or modules like those of a pool.
preload_of_context(#{preload := Preload}) when Preload =/= [] ->
    try iolist_to_binary(Preload) of
        <<>> -> [];
        Code -> [{code, Code}]
    catch
        error:badarg when is_list(Preload) -> check(preload, Preload);
        error:badarg -> bad(preload, Preload, "must be Python code as iodata, or a list of modules, atoms")
    end;
preload_of_context(Options) ->
    option(preload, preload, Options).

-spec lacking({atom(), term()}) -> no_return().
lacking({Key, Value}) ->
    bad(Key, Value, "this version of erlang_python does not have it").

environment() ->
    lists:sort(application:get_all_env(erlang_python)).

option(Key, EnvKey, Options) ->
    case Options of
        #{Key := Value} -> check(Key, Value);
        _ -> configured(EnvKey)
    end.

%% A variable of the options wins over one of the application of that name.
environment_of(Options) ->
    check(env, configured(env) ++ check(env, maps:get(env, Options, []))).

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
default(max_result_bytes) -> 1 bsl 30;
default(none) -> none;
default(error_text) -> list;
default(max_state_entries) -> infinity;
default(max_shared_bytes) -> py_shared_memory:default_max();
default(paths) -> [];
default(env) -> [];
default(imports) -> [];
default(preload) -> [];
default(event_loop) -> asyncio;
default(pools) -> [];
default(cwd) -> <<>>;
default(memory_limit) -> infinity;
default(sandbox) -> default;
default(threads) -> default;
default(max_requests) -> infinity;
default(max_rss) -> infinity;
default(max_atoms) -> max_atoms(os:getenv("ERLANG_PYTHON_MAX_ATOMS")).

max_atoms(false) ->
    ?MAX_ATOMS;
max_atoms(Text) ->
    try
        list_to_integer(Text)
    catch
        error:badarg -> bad(max_atoms, Text, "must be a number: ERLANG_PYTHON_MAX_ATOMS")
    end.

%% Workers share nothing, so by default every worker context has its own; owngil
%% contexts share one.
workers(default, worker, Contexts) -> Contexts;
workers(default, owngil, Contexts) -> (Contexts + ?CONTEXTS_MAX - 1) div ?CONTEXTS_MAX;
workers(N, _Mode, Contexts) -> max(N, (Contexts + ?CONTEXTS_MAX - 1) div ?CONTEXTS_MAX).

check(Key, N) when Key =:= num_contexts; Key =:= contexts ->
    is_integer(N) andalso N > 0 andalso N =< ?MAX_POOL orelse
        bad(Key, N, "must be an integer from 1 to " ?MAX_POOL_TEXT),
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
    ?IS_TIMEOUT(T) orelse bad(kill_after, T, "must be milliseconds or infinity"),
    T;
check(spin_us, auto) ->
    auto;
check(spin_us, N) ->
    is_integer(N) andalso N >= 0 andalso N =< 1000 orelse
        bad(spin_us, N, "must be auto or microseconds from 0 to 1000"),
    N;
check(max_result_bytes, N) ->
    is_integer(N) andalso N > 0 andalso N < 1 bsl 64 orelse
        bad(max_result_bytes, N, "must be an integer above 0, of bytes"),
    N;
check(none, Atom) ->
    lists:member(Atom, [none, nil, undefined]) orelse bad(none, Atom, "must be none, nil or undefined"),
    Atom;
check(error_text, Form) ->
    lists:member(Form, [list, binary]) orelse bad(error_text, Form, "must be list or binary"),
    Form;
check(max_shared_bytes, N) ->
    is_integer(N) andalso N > 0 andalso N < 1 bsl 64 orelse
        bad(max_shared_bytes, N, "must be an integer above 0, of bytes"),
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
check(paths, Paths) ->
    checked(paths, Paths, py_paths:directories(Paths));
check(env, Variables) ->
    checked(env, Variables, py_surroundings:env(Variables));
check(cwd, <<>>) ->
    <<>>;
check(cwd, Path) ->
    checked(cwd, Path, py_surroundings:cwd(Path));
check(memory_limit, infinity) ->
    infinity;
check(memory_limit, N) ->
    is_integer(N) andalso N >= ?MIN_MEMORY andalso N < 1 bsl 63 orelse
        bad(memory_limit, N, "must be infinity or an integer of bytes, from 1048576"),
    N;
check(sandbox, Level) ->
    py_sandbox:is_level(Level) orelse bad(sandbox, Level, "must be none, default or strict"),
    Level;
check(Key, infinity) when Key =:= max_requests; Key =:= max_rss ->
    infinity;
check(Key, N) when Key =:= max_requests; Key =:= max_rss ->
    is_integer(N) andalso N > 0 orelse bad(Key, N, "must be infinity or an integer above 0"),
    N;
check(threads, Threads) when Threads =:= default; Threads =:= auto ->
    Threads;
check(threads, N) ->
    is_integer(N) andalso N > 0 andalso N =< 4096 orelse
        bad(threads, N, "must be default, auto or an integer from 1 to 4096"),
    N;
check(preload, Modules) ->
    is_list(Modules) andalso length(Modules) >= 0 andalso lists:all(fun is_atom/1, Modules) orelse
        bad(preload, Modules, "must be a list of modules, atoms"),
    [{load, atom_to_binary(Module)} || Module <- Modules];
check(event_loop, Loop) ->
    Loop =:= asyncio orelse Loop =:= uvloop orelse bad(event_loop, Loop, "must be asyncio or uvloop"),
    Loop;
check(register, Names) ->
    is_list(Names) andalso length(Names) >= 0 orelse bad(register, Names, "must be a list of modules"),
    [registered(Name, Names) || Name <- Names];
check(pools, Pools) ->
    is_list(Pools) andalso length(Pools) >= 0 orelse bad(pools, Pools, "must be a list of {Pool, Options}"),
    Checked = [pool(Pool) || Pool <- Pools],
    Names = [Name || {Name, _} <- Checked],
    case Names -- lists:usort(Names) of
        [] -> Checked;
        [Twice | _] -> bad(pools, Pools, [atom_to_binary(Twice), " is there twice"])
    end;
check(imports, Imports) ->
    is_list(Imports) andalso length(Imports) >= 0 orelse bad(imports, Imports, "must be a list of modules"),
    [import(Import, Imports) || Import <- Imports];
check(own_process, default) ->
    default;
check(own_process, Own) ->
    is_boolean(Own) orelse bad(own_process, Own, "must be true or false"),
    Own;
check(python, <<>>) ->
    <<>>;
check(python, Value) ->
    checked(python, Value, py_interpreter:check(Value)).

checked(_Key, _Value, {ok, Checked}) -> Checked;
checked(Key, Value, {error, Why}) -> bad(Key, Value, Why).

registered(Name, Names) ->
    Texts = case Name of {Module, Function} -> [Module, Function]; Module -> [Module] end,
    lists:all(fun py_error_role:is_text/1, Texts) orelse
        bad(register, Names, "must be a list of modules, or of {Module, Function}, as text"),
    list_to_tuple(Texts).

%% What is wrong with an option is said of the key that is in the configuration.
pool({default, Options}) ->
    bad(pools, {default, Options}, "pool default has keys of its own, such as num_contexts and context_mode");
pool({Name, Options}) when is_atom(Name), is_map(Options) ->
    try pool_options(maps:merge(#{mode => worker}, Options)) of
        {ok, Settings} -> {Name, Settings};
        {error, {bad_config, _Key, _Value, Why}} -> bad(pools, {Name, Options}, [atom_to_binary(Name), ": ", Why])
    catch
        error:{py_refused, _} ->
            bad(pools, {Name, Options}, [
                atom_to_binary(Name), ": an option is unknown; the options are those of py_context_router:start/1, and register"
            ])
    end;
pool(Other) ->
    bad(pools, Other, "must be a list of {Pool, Options}, an atom and a map").

import({Module, Function}, Imports) ->
    {import_name(Module, Imports), import_name(Function, Imports)};
import(Module, Imports) ->
    {import_name(Module, Imports), all}.

import_name(Name, Imports) ->
    case py_error_role:is_text(Name) andalso unicode:characters_to_binary(py_text:binary(Name)) of
        <<"__main__">> -> bad(imports, Imports, "__main__ cannot be imported");
        Text when is_binary(Text), Text =/= <<>> -> Text;
        _ -> bad(imports, Imports, "must be a list of modules, or of {Module, Function}, as text in UTF-8")
    end.

-spec bad(atom(), term(), iodata()) -> no_return().
bad(Key, Value, Why) ->
    Sentence = unicode:characters_to_binary([atom_to_list(Key), ": ", Why]),
    throw({bad_config, Key, Value, Sentence}).
