%% SPDX-License-Identifier: Apache-2.0

%% @private What is wrong with the arguments of a public function, as shells, loggers and
%% Elixir print it (EEP 54). See py_misuse.hrl for how such an error is made.
%%
%% A check that knows why calls {@link refuse/1} with a reason. One that only knows that
%% something is wrong says `arguments': each argument is then compared with what its role
%% in the call asks for.
-module(py_error_info).

-export([refuse/1, refuse_option/2, ensure_started/0, is_started/0]).
-export([arguments/1, options/2, inherited/2, format_error/2]).

-export_type([why/0, named/0]).

-type role() :: py_error_role:role().
-type part() :: py_error_role:part().
-type named() :: [{role(), term()}].
-type why() ::
    arguments
    | not_started
    %% the argument that has one of these roles, and a sentence without its subject
    | {role() | [role()], [part()]}
    %% no single argument, and a whole sentence
    | {general, [part()]}.
%% By position, as format_error/2 returns it.
-type cause() :: #{pos_integer() | general | reason => [part()]}.

%% Values are printed up to this length.
-define(VALUE_CHARS, 120).

%% @doc Ends a check: the public function around it raises `badarg', or what it says.
-spec refuse(why()) -> no_return().
refuse(Why) ->
    error({py_refused, Why}).

%% @doc Ends the check of a map of options.
-spec refuse_option(term(), [atom()]) -> no_return().
refuse_option(Key, Known) ->
    refuse({[options, options_or_code, timeout_or_options, mode_or_options], [
        "has the option ", {value, Key}, ", which this function does not know",
        py_nearest:hint(Key, Known), "; it knows ", lists:join(", ", [atom_to_list(K) || K <- Known])
    ]}).

%% @doc Whether the application runs, or is about to.
-spec is_started() -> boolean().
is_started() ->
    is_pid(whereis(erlang_python_sup)).

-spec ensure_started() -> ok.
ensure_started() ->
    is_started() orelse refuse(not_started),
    ok.

%% @doc The second argument of erlang:error/3.
-spec arguments(named()) -> [term()].
arguments(Named) ->
    [Value || {_Role, Value} <- Named].

%% @doc The third one.
-spec options(why(), named()) -> [{error_info, map()}].
options(Why, Named) ->
    [{error_info, #{module => ?MODULE, cause => cause(Why, Named)}}].

%% @doc The same as in the error of another public function, which was given the same
%% arguments. An error that none of them made is raised again as it is.
-spec inherited(term(), erlang:stacktrace()) -> [{error_info, map()}] | no_return().
inherited(Reason, Stack = [{_, _, _, Location} | _]) ->
    case lists:keyfind(error_info, 1, Location) of
        {error_info, #{module := ?MODULE} = Info} -> [{error_info, Info}];
        _ -> erlang:raise(error, Reason, Stack)
    end.

%% @doc Texts by position, as EEP 54 has it.
-spec format_error(term(), erlang:stacktrace()) -> #{pos_integer() | general | reason => binary()}.
format_error(_Reason, [{_, _, _, Location} | _]) ->
    Info = proplists:get_value(error_info, Location, #{}),
    Print = maps:get(pretty_printer, Info, fun print/1),
    maps:map(fun(_Position, Parts) -> text(Parts, Print) end, maps:get(cause, Info, #{})).

%% Causes

-spec cause(why(), named()) -> cause().
cause(not_started, _Named) ->
    #{
        reason => ["erlang_python is not started"],
        general => ["application:ensure_all_started(erlang_python) starts it"]
    };
cause({general, Parts}, _Named) ->
    #{general => Parts};
cause(arguments, Named) ->
    case faults(Named) of
        Faults when map_size(Faults) > 0 -> Faults;
        _ -> #{general => ["no form of this function takes these arguments together"]}
    end;
cause({Role, Parts}, Named) ->
    Roles = lists:flatten([Role]),
    case [{P, R} || {P, {R, _}} <- numbered(Named), lists:member(R, Roles)] of
        [{Position, Found} | _] -> (faults(Named))#{Position => sentence(Found, Parts)};
        [] -> #{general => sentence(hd(Roles), Parts)}
    end.

faults(Named) ->
    maps:from_list([
        {Position, sentence(Role, Parts)}
     || {Position, {Role, Value}} <- numbered(Named),
        Parts <- py_error_role:faults(Role, Value)
    ]).

sentence(Role, Parts) ->
    [py_error_role:name(Role), " " | Parts].

numbered(Named) ->
    lists:zip(lists:seq(1, length(Named)), Named).

%% Text

text(Parts, Print) ->
    Text = [part(Part, Print) || Part <- Parts],
    case unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary) -> Binary;
        _ -> <<"the arguments are not those of this function">>
    end.

part({value, Value}, Print) ->
    shortened(Print(Value));
part(Text, _Print) ->
    Text.

shortened(Text) ->
    %% What the printer has shortened itself is a little longer.
    case string:length(Text) > 2 * ?VALUE_CHARS of
        true -> [string:slice(Text, 0, ?VALUE_CHARS), "..."];
        false -> Text
    end.

print(Value) ->
    io_lib:format("~0tp", [Value], [{chars_limit, ?VALUE_CHARS}]).
