%% SPDX-License-Identifier: Apache-2.0

%% @private Where the programs and files of the application lie, and those that users name.
-module(py_paths).

-export([priv_dir/0, launcher/0, worker/0, python_modules/0]).
-export([directory/1, directories/1]).

-export_type([directory/0]).

%% The last two: in the priv directory of an application, as it lies in a release or in the
%% build directory.
-type directory() :: py:text() | {priv, App :: atom()} | {priv, App :: atom(), Sub :: py:text()}.

%% Bytes of all paths in a row; each worker process gets them when it starts.
-define(BYTES_MAX, (4 bsl 20)).

%% @doc Absolute, so that a later change of the working directory does not matter.
-spec priv_dir() -> file:filename().
priv_dir() ->
    case code:priv_dir(erlang_python) of
        {error, bad_name} ->
            %% Loaded without a lib directory of that name: ebin's neighbour.
            Ebin = filename:dirname(code:which(?MODULE)),
            filename:absname(filename:join(filename:dirname(Ebin), "priv"));
        Dir ->
            filename:absname(Dir)
    end.

-spec launcher() -> file:filename().
launcher() ->
    filename:join(priv_dir(), "ep_launcher").

-spec worker() -> binary().
worker() ->
    to_binary(filename:join(priv_dir(), "ep_worker")).

-spec python_modules() -> binary().
python_modules() ->
    to_binary(filename:join(priv_dir(), "python")).

%% @doc The absolute path, as UTF-8, and why there is none. It need not exist.
-spec directory(directory()) -> {ok, binary()} | {error, iodata()}.
directory({priv, App}) ->
    directory({priv, App, ""});
directory({priv, App, Sub}) when is_atom(App) ->
    case {code:priv_dir(App), text(Sub)} of
        {{error, bad_name}, _} ->
            {error, [
                "there is no application ", atom_to_binary(App), " in the code path; the name is that of its .app file, and ",
                "the code path is that of the VM when erlang_python starts"
            ]};
        {Priv, {ok, Under}} -> {ok, filename:join(absolute(to_binary(Priv)), Under)};
        {_Priv, {error, Why}} -> {error, Why}
    end;
directory(Path) ->
    case text(Path) of
        {ok, <<>>} -> {error, "a path must not be empty"};
        {ok, Text} -> {ok, absolute(Text)};
        {error, Why} -> {error, Why}
    end.

%% @doc Each once, in their order.
-spec directories(term()) -> {ok, [binary()]} | {error, iodata()}.
directories(Paths) when length(Paths) >= 0 ->
    directories(Paths, #{}, []);
directories(_Paths) ->
    {error, "must be a list of directories"}.

directories([], Seen, Acc) ->
    case lists:sum([byte_size(Path) || Path <- maps:keys(Seen)]) > ?BYTES_MAX of
        true -> {error, io_lib:format("the paths take more than ~b bytes", [?BYTES_MAX])};
        false -> {ok, lists:reverse(Acc)}
    end;
directories([Path | Rest], Seen, Acc) ->
    case directory(Path) of
        {ok, Absolute} when is_map_key(Absolute, Seen) -> directories(Rest, Seen, Acc);
        {ok, Absolute} -> directories(Rest, Seen#{Absolute => true}, [Absolute | Acc]);
        {error, Why} -> {error, Why}
    end.

text(Value) ->
    case py_error_role:is_text(Value) andalso unicode:characters_to_binary(py_text:binary(Value)) of
        Text when is_binary(Text) ->
            case binary:match(Text, <<0>>) of
                nomatch -> {ok, Text};
                _ -> {error, "a path must not hold a NUL"}
            end;
        _ ->
            {error, "a directory must be text in UTF-8, {priv, App} or {priv, App, Sub}"}
    end.

absolute(Path) ->
    case Path of
        <<"/", _/binary>> ->
            filename:join([Path]);
        _ ->
            {ok, Cwd} = file:get_cwd(),
            filename:join(to_binary(Cwd), Path)
    end.

to_binary(Path) ->
    <<_/binary>> = unicode:characters_to_binary(Path, unicode, file:native_name_encoding()).
