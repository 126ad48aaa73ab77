%% SPDX-License-Identifier: Apache-2.0

%% @private The options of a request: a budget, or a map that may have one.
-module(py_options).

-include("ep_nif.hrl").
-include("py_limits.hrl").

-export([call/2, call_on/1, exec/1, task/2, stream/1, timeout/1, style/2]).

-export_type([options/0, stream/0]).

%% guard: a monitor; when what it watches dies, the request is cancelled and the
%% calling process, a helper, ends.
%% slot => none: the request needs no slot.
-type options() :: #{
    timeout := timeout(),
    kwargs := map(),
    flags := non_neg_integer(),
    guard => reference(),
    slot => none
}.

%% credit: data messages that may be unacknowledged; infinity: the mailbox of the owner counts.
-type stream() :: #{
    owner := pid(), kwargs := map(), credit := pos_integer() | infinity, flags := non_neg_integer()
}.

%% @doc Of a call or an expression.
-spec call(timeout() | map(), Default :: timeout()) -> options().
call(Timeout, _Default) when ?IS_TIMEOUT(Timeout) -> ?PLAIN(Timeout);
call(Options, Default) -> check(Options, (common())#{timeout => Default, arrays => lists}).

%% @doc Of a call on a context whose keyword arguments are among them.
-spec call_on(timeout() | map()) -> options().
call_on(Options) -> check(Options, (common())#{arrays => lists, kwargs => #{}}).

%% @doc Of statements.
-spec exec(map()) -> options().
exec(Options) -> check(Options, common()).

%% @doc Of a task of an event loop.
-spec task(map(), Default :: timeout()) -> options().
task(Options, Default) -> check(Options, #{timeout => Default, kwargs => #{}}).

%% @doc Of a stream.
-spec stream(map()) -> stream().
stream(Options) when is_map(Options) ->
    Defaults = #{owner => self(), kwargs => #{}, arrays => lists, credit => infinity},
    Start = (maps:remove(arrays, Defaults))#{flags => 0},
    Checked = maps:fold(fun stream_option/3, Start, check_keys(Options, Defaults)),
    ok = check_owner(Checked),
    Checked;
stream(_NoOptions) ->
    py_error_info:refuse(arguments).

%% @doc Of what has a budget, and nothing else.
-spec timeout(timeout()) -> timeout().
timeout(Timeout) ->
    #{timeout := Checked} = check(Timeout, #{timeout => infinity}),
    Checked.

%% @doc How the answers of a context look whose requests do not say it: the last argument of
%% ep_nif:lane_new/3.
-spec style(none | nil | undefined, list | binary) -> non_neg_integer().
style(None, Text) ->
    {_, OfNone} = style_flags(none, None),
    {_, OfText} = style_flags(error_text, Text),
    OfNone bor OfText.

%% Internal

%% What every request takes.
common() ->
    #{timeout => infinity, traceback => false, none => none, error_text => list}.

%% The keys that apply, with their defaults.
check(Timeout, _Defaults) when ?IS_TIMEOUT(Timeout) ->
    ?PLAIN(Timeout);
check(Options = #{timeout := Timeout}, _Defaults) when map_size(Options) =:= 1, ?IS_TIMEOUT(Timeout) ->
    ?PLAIN(Timeout);
check(Options, Defaults) when is_map(Options) ->
    maps:fold(fun option/3, complete(Defaults), check_keys(Options, Defaults));
check(_NoTimeout, _Defaults) ->
    py_error_info:refuse(arguments).

complete(#{timeout := Timeout}) ->
    ?PLAIN(Timeout).

check_keys(Options, Defaults) ->
    case maps:keys(maps:without(maps:keys(Defaults), Options)) of
        [] -> Options;
        [Unknown | _] -> py_error_info:refuse_option(Unknown, maps:keys(Defaults))
    end.

option(timeout, T, Acc) when ?IS_TIMEOUT(T) -> Acc#{timeout := T};
option(kwargs, Kwargs, Acc) when is_map(Kwargs) -> Acc#{kwargs := Kwargs};
option(arrays, lists, Acc) -> Acc;
option(arrays, shared, Acc = #{flags := Flags}) -> Acc#{flags := Flags bor ?FLAG_SHARED};
option(traceback, true, Acc = #{flags := Flags}) -> Acc#{flags := Flags bor ?FLAG_TRACEBACK};
option(traceback, false, Acc) -> Acc;
option(Key, Value, Acc = #{flags := Flags}) ->
    case style_flags(Key, Value) of
        undefined -> refuse_value(Key, Value);
        {Said, Set} -> Acc#{flags := Flags bor Said bor Set}
    end.

style_flags(none, none) -> {?FLAG_NONE_SAID, 0};
style_flags(none, nil) -> {?FLAG_NONE_SAID, ?FLAG_NONE_NIL};
style_flags(none, undefined) -> {?FLAG_NONE_SAID, ?FLAG_NONE_UNDEFINED};
style_flags(error_text, list) -> {?FLAG_TEXT_SAID, 0};
style_flags(error_text, binary) -> {?FLAG_TEXT_SAID, ?FLAG_TEXT_BINARY};
style_flags(_Key, _Value) -> undefined.

stream_option(owner, Pid, Acc) when is_pid(Pid) -> Acc#{owner := Pid};
stream_option(kwargs, Kwargs, Acc) when is_map(Kwargs) -> Acc#{kwargs := Kwargs};
stream_option(arrays, lists, Acc) -> Acc;
stream_option(arrays, shared, Acc) -> Acc#{flags := ?FLAG_SHARED};
stream_option(credit, N, Acc) when is_integer(N), N > 0 -> Acc#{credit := N};
stream_option(Key, Value, _Acc) -> refuse_value(Key, Value).

%% The mailbox of a process on another node cannot be looked at.
check_owner(#{owner := Owner, credit := infinity}) when node(Owner) =/= node() ->
    py_error_info:refuse({options, ["has an owner on another node, which needs the option credit"]});
check_owner(_Options) ->
    ok.

-spec refuse_value(atom(), term()) -> no_return().
refuse_value(Key, Value) ->
    py_error_info:refuse({[options, options_or_code, timeout_or_options], [
        "asks for ", atom_to_list(Key), " ", {value, Value}, ", which must be ", must(Key)
    ]}).

must(timeout) -> "milliseconds from 0 to " ?MAX_MS_TEXT ", or infinity";
must(kwargs) -> "a map of keyword arguments, such as #{indent => 2}";
must(arrays) -> "lists or shared";
must(owner) -> "a pid";
must(credit) -> "an integer from 1";
must(traceback) -> "true or false";
must(none) -> "none, nil or undefined";
must(error_text) -> "list or binary".
