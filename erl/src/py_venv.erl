%% SPDX-License-Identifier: Apache-2.0

%% @private Virtual environments: made, filled, and put before everything else on sys.path of
%% every interpreter, those that run and those that start.
-module(py_venv).

-export([ensure/3, activate/1, deactivate/0, info/0]).

-export_type([option/0, error/0]).

-type option() :: {extras, [string()]} | {installer, uv | pip} | {python, py:text()} | force.
-type error() ::
    {exit_code, Code :: non_neg_integer(), Output :: binary()}
    | {executable_not_found, Exe :: py:text()}
    | {spawn_failed, Exe :: py:text(), Reason :: term()}
    | {invalid_venv, Path :: binary() | no_site_packages_found | {version_mismatch, Built :: binary(), Found :: binary()}}
    | timeout.

%% @doc Makes the environment if it is not there, installs into it, activates it. Calls for the
%% same path wait for each other.
-spec ensure(py:text(), py:text(), [option()]) -> ok | {error, error()}.
ensure(Path, File, Options) ->
    Checked = #{path := Venv} = checked(Path, File, Options),
    Lock = {{?MODULE, Venv}, self()},
    case global:trans(Lock, fun() -> ensured(Checked) end, [node()]) of
        ok -> activate(Venv);
        {error, Reason} -> {error, Reason}
    end.

-spec activate(py:text()) -> ok | {error, error()}.
activate(Path) ->
    Venv = absolute(Path),
    case site_packages(Venv) of
        {ok, Site} -> py_code:set_venv(#{path => Venv, site_packages => Site, number => erlang:unique_integer([positive])});
        {error, Reason} -> {error, {invalid_venv, Reason}}
    end.

%% @doc Modules that were loaded stay loaded.
-spec deactivate() -> ok.
deactivate() ->
    ok = py_error_info:ensure_started(),
    case py_code:venv() of
        undefined -> ok;
        _ -> py_code:set_venv(undefined)
    end.

-spec info() -> {ok, #{binary() => boolean() | binary() | [binary()]}}.
info() ->
    ok = py_error_info:ensure_started(),
    case py_code:venv() of
        undefined ->
            {ok, #{<<"active">> => false}};
        #{path := Path, site_packages := Site} ->
            SysPath =
                case py_code:where() of
                    {ok, _Executable, Entries} -> Entries;
                    %% Nobody is free to tell.
                    {error, timeout} -> [Site]
                end,
            {ok, #{<<"active">> => true, <<"venv_path">> => Path, <<"site_packages">> => Site, <<"sys_path">> => SysPath}}
    end.

%% Arguments

checked(Path, File, Options) when is_list(Options), length(Options) >= 0 ->
    Default = #{path => absolute(Path), file => absolute(File), extras => [], python => undefined, force => false},
    maps:merge(#{installer => installer(os:find_executable("uv"))}, lists:foldl(fun option/2, Default, Options));
checked(_Path, _File, _Options) ->
    py_error_info:refuse({venv_options, ["must be a list of options"]}).

installer(false) -> pip;
installer(_Uv) -> uv.

option(force, Acc) ->
    Acc#{force := true};
option({installer, Installer}, Acc) when Installer =:= uv; Installer =:= pip ->
    Acc#{installer => Installer};
option({python, Exe}, Acc) ->
    Acc#{python := py_text:utf8(Exe)};
option({extras, Extras}, Acc) when is_list(Extras), length(Extras) >= 0 ->
    Acc#{extras := [py_text:utf8(Extra) || Extra <- Extras]};
option(Other, _Acc) ->
    py_error_info:refuse({venv_options, [
        "has ", {value, Other}, "; the options are force, {installer, uv | pip}, {python, Executable} and {extras, [string()]}"
    ]}).

absolute(Path) ->
    ok = py_error_info:ensure_started(),
    case py_paths:directory(Path) of
        {ok, Absolute} -> Absolute;
        {error, Why} -> py_error_info:refuse({[venv, requirements], ["is of no use: ", Why]})
    end.

%% What is there

site_packages(Venv) ->
    case file:read_file(config(Venv)) of
        {ok, Text} -> site_packages(Venv, py_interpreter:venv_version(Text));
        {error, _} -> {error, Venv}
    end.

site_packages(Venv, Found) ->
    #{version := Built, free_threaded := IsFree} = py_python:built(),
    Version = iolist_to_binary(["python", Built, [$t || IsFree]]),
    Site = filename:join([Venv, <<"lib">>, Version, <<"site-packages">>]),
    case filelib:is_dir(Site) of
        _ when Found =/= unknown, Found =/= Built -> {error, {version_mismatch, Built, Found}};
        true -> {ok, Site};
        false -> {error, no_site_packages_found}
    end.

config(Venv) ->
    filename:join(Venv, <<"pyvenv.cfg">>).

%% Making it

ensured(Options = #{path := Venv, force := Force}) ->
    case filelib:is_regular(config(Venv)) of
        true when Force -> made(file:del_dir_r(Venv), Options);
        true -> install(Options);
        false -> made(ok, Options)
    end.

made(ok, Options) ->
    case python(Options) of
        {ok, Python} -> then(make(Options, Python), fun() -> install(Options) end);
        {error, Reason} -> {error, Reason}
    end;
made({error, Posix}, #{path := Venv}) ->
    {error, {spawn_failed, Venv, Posix}}.

%% The Python that the workers embed, for packages have to fit it.
python(#{python := undefined}) ->
    case py_code:where() of
        {ok, Executable, _SysPath} -> {ok, Executable};
        {error, timeout} -> {error, timeout}
    end;
python(#{python := Exe}) ->
    {ok, Exe}.

make(#{installer := uv, path := Venv}, Python) ->
    py_installer:run(<<"uv">>, [<<"venv">>, <<"--python">>, Python, Venv]);
make(#{installer := pip, path := Venv}, Python) ->
    py_installer:run(Python, [<<"-I">>, <<"-m">>, <<"venv">>, Venv]).

install(Options = #{installer := uv, path := Venv}) ->
    py_installer:run(<<"uv">>, [<<"pip">>, <<"install">>, <<"--python">>, interpreter(Venv) | wanted(Options)]);
install(Options = #{installer := pip, path := Venv}) ->
    py_installer:run(interpreter(Venv), [
        <<"-I">>, <<"-m">>, <<"pip">>, <<"install">>, <<"--disable-pip-version-check">>, <<"--no-input">> | wanted(Options)
    ]).

interpreter(Venv) ->
    filename:join([Venv, <<"bin">>, <<"python">>]).

wanted(#{file := File, extras := Extras}) ->
    case filename:extension(File) of
        <<".toml">> -> [<<"-e">>, iolist_to_binary([filename:dirname(File), extras(Extras)])];
        _ -> [<<"-r">>, File]
    end.

extras([]) -> "";
extras(Extras) -> ["[", lists:join(",", Extras), "]"].

then(ok, Next) -> Next();
then({error, Reason}, _Next) -> {error, Reason}.
