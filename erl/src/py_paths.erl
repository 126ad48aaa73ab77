%% SPDX-License-Identifier: Apache-2.0

%% @private Where the programs and files of the application lie.
-module(py_paths).

-export([priv_dir/0, launcher/0, worker/0, python_modules/0]).

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

to_binary(Path) ->
    <<_/binary>> = unicode:characters_to_binary(Path, unicode, file:native_name_encoding()).
