%% SPDX-License-Identifier: Apache-2.0

%% @private What a worker process gets from its launcher before it is executed: the keys `env',
%% `cwd', `memory_limit', `sandbox' and `threads'.
-module(py_surroundings).

-export([env/1, cwd/1, encode/1, encode_all/1]).

-export_type([variable/0, options/0]).

%% false: it is removed.
-type variable() :: {Name :: binary(), Value :: binary() | false}.
-type options() :: #{
    env => [variable()],
    cwd => binary(),
    memory_limit => pos_integer() | infinity,
    sandbox => py_sandbox:level(),
    threads => default | pos_integer(),
    _ => _
}.

%% See EP_CONTROL_SETTINGS_MAX; the working directory takes some of it.
-define(BYTES_MAX, 60000).
-define(PATH_MAX, 4000).
%% By which the launcher finds what a worker process has started.
-define(OURS, [<<"EP_LAUNCHER_MARK">>]).
%% Of the libraries that computing packages are built on.
-define(THREADS, [<<"OMP_NUM_THREADS">>, <<"OPENBLAS_NUM_THREADS">>, <<"MKL_NUM_THREADS">>]).

%% @doc Checks the value of the key `env'.
-spec env(term()) -> {ok, [variable()]} | {error, iodata()}.
env(Variables) when length(Variables) >= 0 ->
    env(Variables, []);
env(_) ->
    {error, "must be a list of {Name, Value}, with false as the value of a variable that is to be removed"}.

env([], Acc) ->
    case lists:sum([byte_size(variable(Variable)) || Variable <- Acc]) of
        Bytes when Bytes > ?BYTES_MAX -> {error, io_lib:format("takes more than ~b bytes", [?BYTES_MAX])};
        _ -> {ok, lists:reverse(Acc)}
    end;
env([{Name, Value} | Rest], Acc) ->
    case {text(Name), value(Value)} of
        {N, V} when N =:= error; V =:= error ->
            {error, io_lib:format("~0tP: name and value must be text in UTF-8 without NUL, or the value false", [{Name, Value}, 12])};
        {N, V} ->
            case {N =:= <<>> orelse binary:match(N, <<"=">>) =/= nomatch, lists:member(N, ?OURS)} of
                {true, _} -> {error, io_lib:format("~0tP is no name of a variable", [Name, 12])};
                {_, true} -> {error, [N, " belongs to the library"]};
                _ -> env(Rest, [{N, V} | Acc])
            end
    end;
env([Other | _], _Acc) ->
    {error, io_lib:format("~0tP is not {Name, Value}", [Other, 12])}.

value(false) -> false;
value(Value) -> text(Value).

text(Value) ->
    case py_error_role:is_text(Value) andalso unicode:characters_to_binary(py_text:binary(Value)) of
        Text when is_binary(Text) ->
            case binary:match(Text, <<0>>) of
                nomatch -> Text;
                _ -> error
            end;
        _ ->
            error
    end.

%% @doc Checks the value of the key `cwd'.
-spec cwd(term()) -> {ok, binary()} | {error, iodata()}.
cwd(Value) ->
    case py_paths:directory(Value) of
        {ok, Path} when byte_size(Path) > ?PATH_MAX -> {error, "is too long for a path"};
        {ok, Path} ->
            case filelib:is_dir(Path) of
                true -> {ok, Path};
                false -> {error, ["there is no directory ", Path]}
            end;
        {error, Why} -> {error, Why}
    end.

%% @doc For {@link ep_nif:host_start/8}. A variable may come twice; the later one counts.
-spec encode(options()) -> binary().
encode(Options) ->
    case encode_all(Options) of
        <<0, 0, 0>> -> <<>>;
        Settings -> Settings
    end.

%% @doc The same, also where there is nothing to set.
-spec encode_all(options()) -> binary().
encode_all(Options) ->
    Env = threads(maps:get(threads, Options, default)) ++ maps:get(env, Options, []),
    Limit = limit(maps:get(memory_limit, Options, infinity)),
    Sandbox = sandbox(maps:get(sandbox, Options, none)),
    iolist_to_binary([maps:get(cwd, Options, <<>>), 0, Limit, 0, Sandbox, 0 | [variable(Variable) || Variable <- Env]]).

sandbox(none) -> <<>>;
sandbox(Level) -> atom_to_binary(Level).

limit(infinity) -> <<>>;
limit(Bytes) -> integer_to_binary(Bytes).

%% Those of the key `env' come after them and win; so do those that the VM was started with.
threads(default) ->
    [];
threads(N) ->
    [{Name, integer_to_binary(N)} || Name <- ?THREADS, os:getenv(binary_to_list(Name)) =:= false].

variable({Name, false}) -> <<Name/binary, 0>>;
variable({Name, Value}) -> <<Name/binary, "=", Value/binary, 0>>.
