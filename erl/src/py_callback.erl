%% SPDX-License-Identifier: Apache-2.0

%% @doc Erlang functions that Python code can call by name.
-module(py_callback).

-export([register/2, unregister/1, lookup/1, execute/2]).
%% Internal
-export([create_table/0, run/2, failure/3]).

-export_type([callback/0]).

-type callback() :: fun((list()) -> term()) | {module(), atom()}.

-define(TABLE, ?MODULE).
%% Questions: enum ep_py_question of service/ep_py_internal.h.
-define(CALL, 0).
-define(IS_REGISTERED, 1).
-define(STATE_GET, 2).
-define(STATE_SET, 3).
-define(STATE_INCR, 4).
-define(STATE_DECR, 5).
-define(STATE_DELETE, 6).
-define(STATE_KEYS, 7).
-define(STATE_CLEAR, 8).

%% @doc Registers a function under a name, or replaces it. It gets the list of the
%% arguments. Every worker knows the name when this returns.
-spec register(py:text(), callback()) -> ok.
register(Name, Fun) when is_function(Fun, 1) ->
    insert(name(Name), Fun);
register(Name, {Module, Function}) when is_atom(Module), is_atom(Function) ->
    insert(name(Name), {Module, Function});
register(_Name, _Callback) ->
    error(badarg).

-spec unregister(py:text()) -> ok.
unregister(Name) ->
    true = ets:delete(?TABLE, name(Name)),
    py_nif:names_changed().

-spec lookup(py:text()) -> {ok, fun((list()) -> term())} | {error, not_found}.
lookup(Name) ->
    case find(name(Name)) of
        {ok, Fun} when is_function(Fun) -> {ok, Fun};
        {ok, {Module, Function}} -> {ok, fun Module:Function/1};
        error -> {error, not_found}
    end.

%% @doc Runs a registered function.
-spec execute(py:text(), list()) ->
    {ok, term()}
    | {error, {error | exit | throw, term(), erlang:stacktrace()}}
    | {error, {not_found, py:text()}}.
execute(Name, Args) when is_list(Args) ->
    case find(name(Name)) of
        {ok, Callback} ->
            try
                {ok, apply_to(Callback, Args)}
            catch
                Class:Reason:Stack -> {error, {Class, Reason, Stack}}
            end;
        error ->
            {error, {not_found, Name}}
    end;
execute(_Name, _Args) ->
    error(badarg).

%% Internal API

%% @private
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @private What Python hears of a callback that failed.
-spec failure(error | exit | throw, term(), erlang:stacktrace()) -> {failed, tuple()}.
failure(Class, Reason, Stack) ->
    Printed = print("~0tp", [Reason]),
    Text = print("~ts: ~ts", [Class, Printed]),
    {failed, {Class, Reason, Printed, Text, [stack_entry(Entry) || Entry <- Stack]}}.

%% @private What Python asks, and how to answer: {@link py_nif:answer/4}.
-spec run(Question :: integer() | raise, term()) -> {value | failed | raise, term()}.
run(?CALL, {Name, Args}) ->
    case find(Name) of
        {ok, Callback} -> call(Callback, Args);
        error -> not_registered(Name)
    end;
run(raise, Exception) ->
    {raise, Exception};
run(?IS_REGISTERED, [Name]) ->
    {value, ets:member(?TABLE, Name)};
run(?STATE_GET, [Key]) ->
    case py_state:fetch(Key) of
        {ok, Value} -> {value, Value};
        {error, not_found} -> {value, none}
    end;
run(?STATE_SET, [Key, Value]) ->
    case py_state:store(Key, Value) of
        ok -> {value, none};
        {error, full} -> {value, {error, full}}
    end;
run(?STATE_INCR, [Key | More]) ->
    count(fun py_state:incr/2, Key, More);
run(?STATE_DECR, [Key | More]) ->
    count(fun py_state:decr/2, Key, More);
run(?STATE_DELETE, [Key]) ->
    ok = py_state:remove(Key),
    {value, none};
run(?STATE_KEYS, []) ->
    {value, py_state:keys()};
run(?STATE_CLEAR, []) ->
    ok = py_state:clear(),
    {value, none}.

%% Internal

name(Name) ->
    case py_request:text(Name) of
        Atom when is_atom(Atom) -> atom_to_binary(Atom);
        Binary -> Binary
    end.

insert(Name, Callback) ->
    true = ets:insert(?TABLE, {Name, Callback}),
    py_nif:names_changed().

find(Name) ->
    try
        {ok, ets:lookup_element(?TABLE, Name, 2)}
    catch
        error:badarg -> error
    end.

apply_to({Module, Function}, Args) -> Module:Function(Args);
apply_to(Fun, Args) -> Fun(Args).

call(Callback, Args) ->
    try
        {value, apply_to(Callback, Args)}
    catch
        Class:Reason:Stack -> failure(Class, Reason, Stack)
    end.

not_registered(Name) ->
    Text = print("Function '~ts' not registered", [Name]),
    {failed, {error, {not_found, Name}, Text, Text, []}}.

print(Format, Args) ->
    %% What an exception says is cut at this length anyway.
    unicode:characters_to_binary(io_lib:format(Format, Args, [{chars_limit, 4096}])).

%% (module, function, arity, file, line)
stack_entry({Module, Function, Args, Location}) when is_list(Args) ->
    stack_entry({Module, Function, length(Args), Location});
stack_entry({Module, Function, Arity, Location}) ->
    File = unicode:characters_to_binary(proplists:get_value(file, Location, "")),
    {Module, Function, Arity, File, proplists:get_value(line, Location, 0)};
stack_entry({Fun, Args, Location}) when is_function(Fun) ->
    {module, Module} = erlang:fun_info(Fun, module),
    {name, Name} = erlang:fun_info(Fun, name),
    stack_entry({Module, Name, Args, Location}).

count(Fun, Key, More) ->
    try Fun(Key, amount(More)) of
        {error, full} -> {value, {error, full}};
        N -> {value, N}
    catch
        error:badarg ->
            {raise, {'TypeError', <<"the value of the key, and the amount, have to be integers">>}}
    end.

amount([]) -> 1;
amount([N]) -> N.
