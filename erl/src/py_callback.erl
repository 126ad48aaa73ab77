%% SPDX-License-Identifier: Apache-2.0

%% @doc Erlang functions that Python code can call by name.
-module(py_callback).

-include("ep_nif.hrl").
-include("py_misuse.hrl").

-export([register/2, unregister/1, lookup/1, execute/2]).
%% Internal
-export([create_table/0, set/2, run/3, refused/0, failure/3]).

-export_type([callback/0]).

-type callback() :: fun((list()) -> term()) | {module(), atom()}.

-define(TABLE, ?MODULE).

%% @doc Registers a function under a name, or replaces it. It gets the list of the
%% arguments. Every worker knows the name when this returns.
-spec register(py:text(), callback()) -> ok.
register(Name, Callback) ->
    ?CHECKED(set(Name, Callback), [{name, Name}, {callback, Callback}]).

-spec unregister(py:text()) -> ok.
unregister(Name) ->
    ?CHECKED(delete(py_text:binary(Name)), [{name, Name}]).

-spec lookup(py:text()) -> {ok, fun((list()) -> term())} | {error, not_found}.
lookup(Name) ->
    case find(?CHECKED(py_text:binary(Name), [{name, Name}])) of
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
    case find(?CHECKED(py_text:binary(Name), [{name, Name}, {args, Args}])) of
        {ok, Callback} ->
            try
                {ok, apply_to(Callback, Args)}
            catch
                Class:Reason:Stack -> {error, {Class, Reason, Stack}}
            end;
        error ->
            {error, {not_found, Name}}
    end;
execute(Name, Args) ->
    ?BADARG(arguments, [{name, Name}, {args, Args}]).

%% Internal API

%% @private
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @private The checks of register/2, and its work.
-spec set(py:text(), callback()) -> ok.
set(Name, Fun) when is_function(Fun, 1) ->
    insert(py_text:binary(Name), Fun);
set(Name, {Module, Function}) when is_atom(Module), is_atom(Function) ->
    insert(py_text:binary(Name), {Module, Function});
set(_Name, _Callback) ->
    py_error_info:refuse(arguments).

%% @private What Python hears of a callback that failed.
-spec failure(error | exit | throw, term(), erlang:stacktrace()) -> {failed, tuple()}.
failure(Class, Reason, Stack) ->
    Printed = print("~0tp", [Reason]),
    Text = print("~ts: ~ts", [Class, Printed]),
    {failed, {Class, Reason, Printed, Text, lists:flatmap(fun stack_entry/1, Stack)}}.

%% @private What Python asks, and how to answer: {@link ep_nif:answer/4}. A worker may send
%% anything; no question raises here.
-spec run(ep_nif:lane() | ep_nif:asker(), Question :: term(), term()) -> {value | failed | raise, term()}.
run(Target, Question, Arguments) ->
    try
        case Question of
            ?QUESTION_RECEIVER -> py_letter:answer(Target, Question, Arguments);
            ?QUESTION_DELIVER -> py_letter:answer(Target, Question, Arguments);
            ?QUESTION_BLOCKED -> blocked(Target, Arguments);
            _ -> answer(Question, Arguments)
        end
    catch
        _Class:_Reason -> refused()
    end.

%% @private The answer to what cannot be answered.
-spec refused() -> {raise, {atom(), binary()}}.
refused() ->
    {raise, {'RuntimeError', <<"Erlang cannot answer this question">>}}.

%% Internal

answer(?QUESTION_CALL, {Name, Args}) when is_binary(Name), is_list(Args) ->
    case find(Name) of
        {ok, Callback} -> call(Callback, Args);
        error -> not_registered(Name)
    end;
answer(raise, Exception) ->
    {raise, Exception};
answer(?QUESTION_IS_REGISTERED, [Name]) ->
    {value, ets:member(?TABLE, Name)};
answer(?QUESTION_STATE_GET, [Key]) ->
    case py_state:fetch(Key) of
        {ok, Value} -> {value, Value};
        {error, not_found} -> {value, none}
    end;
answer(?QUESTION_STATE_SET, [Key, Value]) ->
    case py_state:store(Key, Value) of
        ok -> {value, none};
        {error, full} -> {value, {error, full}}
    end;
answer(?QUESTION_STATE_INCR, [Key | More]) ->
    count(fun py_state:incr/2, Key, More);
answer(?QUESTION_STATE_DECR, [Key | More]) ->
    count(fun py_state:decr/2, Key, More);
answer(?QUESTION_STATE_DELETE, [Key]) ->
    ok = py_state:remove(Key),
    {value, none};
answer(?QUESTION_STATE_KEYS, []) ->
    {value, py_state:keys()};
answer(?QUESTION_STATE_CLEAR, []) ->
    ok = py_state:clear(),
    {value, none};
answer(?QUESTION_WHEREIS, [Name]) when is_binary(Name) ->
    {value, find_process(Name)};
answer(?QUESTION_ATOM, [Name]) when is_binary(Name) ->
    {value, ep_nif:make_atom(Name)}.

%% Of a thread that is none of a context's own: nobody else asks so.
blocked(Asker, [Ms, Stack]) when is_integer(Ms), is_binary(Stack) ->
    {Ctx, _Lane, _Env, _IsNested} = ep_nif:asker(Asker),
    ok = py_report:loop_blocked(Ctx, Ms, Stack),
    {value, none}.

%% Makes no atom.
find_process(Name) ->
    try whereis(binary_to_existing_atom(Name)) of
        Pid when is_pid(Pid) -> Pid;
        %% A port is no process.
        _ -> none
    catch
        error:_ -> none
    end.

insert(Name, Callback) ->
    try ets:insert(?TABLE, {Name, Callback}) of
        true -> ep_nif:names_changed()
    catch
        error:badarg -> py_error_info:refuse(not_started)
    end.

delete(Name) ->
    try ets:delete(?TABLE, Name) of
        true -> ep_nif:names_changed()
    catch
        %% The names have ended with the application.
        error:badarg -> ok
    end.

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
    [{Module, Function, Arity, File, proplists:get_value(line, Location, 0)}];
stack_entry({Fun, Args, Location}) when is_function(Fun) ->
    {module, Module} = erlang:fun_info(Fun, module),
    {name, Name} = erlang:fun_info(Fun, name),
    stack_entry({Module, Name, Args, Location});
%% A stack that a program made itself.
stack_entry(_Other) ->
    [].

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
