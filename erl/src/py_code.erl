%% SPDX-License-Identifier: Apache-2.0

%% @private What every interpreter of the node is to have: paths and modules that are registered
%% for all.
%%
%% The truth lies in a table that the top supervisor owns, so a registration outlives every
%% process. Interpreters that run are told; those that start begin with what the table holds.
%% An interpreter that starts while something is registered is told by one of the two: the
%% registration changes the table before it asks the contexts, and py_worker reads the number of
%% the change before and after it has attached a context.
-module(py_code).

-export([create_table/0, add_paths/1, paths/0, is_path/1, clear_paths/0]).
-export([import/1, imports/0, is_import/1, clear_imports/0, import_into/4]).
-export([prologue/1, whole/0, generation/0, reloads/0, change/0, catch_up/2, mark/0, catch_up_since/2]).
-export([set_venv/1, venv/0, where/0]).
-export([reload/1]).

-export_type([change/0, wanted/0, venv/0, mark/0]).

%% number: of its activation; packages may have come since the one before.
-type venv() :: #{path := binary(), site_packages := binary(), number := pos_integer()}.
%% Of paths and the virtual environment: modules are imported by the contexts, after their start.
-type change() :: non_neg_integer().
-type wanted() :: {Module :: binary(), Function :: binary() | all}.

%% A moment: what came later is known by its numbers.
-type mark() :: {change(), Number :: pos_integer()}.

%% {{path, Path}, Number}, {{import, wanted()}, Number}, {{reload, Module}, Number}, {venv, venv()},
%% {change, change()} and {reloaded, Number}.
-define(TABLE, ?MODULE).
%% One that answers is enough; some may be busy.
-define(ASKED, 8).

-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    true = ets:insert(?TABLE, [{change, 0}, {reloaded, 0}]),
    ok.

%% @doc When this returns each context has them before its next request.
-spec add_paths([binary()]) -> ok.
add_paths(Paths) ->
    New = [Path || Path <- Paths, ets:insert_new(?TABLE, {{path, Path}, erlang:unique_integer([monotonic])})],
    New =:= [] orelse tell(),
    ok.

%% @doc In the order in which they were added.
-spec paths() -> [binary()].
paths() ->
    Rows = ets:select(?TABLE, [{{{path, '$1'}, '$2'}, [], [{{'$2', '$1'}}]}]),
    [Path || {_Number, Path} <- lists:sort(Rows)].

-spec is_path(binary()) -> boolean().
is_path(Path) ->
    ets:member(?TABLE, {path, Path}).

%% @doc Interpreters that run keep them.
-spec clear_paths() -> ok.
clear_paths() ->
    true = ets:match_delete(?TABLE, {{path, '_'}, '_'}),
    ok.

%% @doc When this returns each context has it before its next request.
-spec set_venv(venv() | undefined) -> ok.
set_venv(undefined) ->
    true = ets:delete(?TABLE, venv),
    tell();
set_venv(Venv) ->
    true = ets:insert(?TABLE, {venv, Venv}),
    tell().

-spec venv() -> venv() | undefined.
venv() ->
    case ets:lookup(?TABLE, venv) of
        [{venv, Venv}] -> Venv;
        [] -> undefined
    end.

%% @doc The program of a Python that runs, and its sys.path.
-spec where() -> {ok, Executable :: binary(), SysPath :: [binary()]} | {error, timeout}.
where() ->
    Answers = py_inquiry:ask(lists:sublist(lists:sort(py_context_table:all()), ?ASKED), beside, where, []),
    case [{E, Path} || {_, _, {ok, {_, _, {E, Path}}}} <- Answers, is_binary(E), length(Path) >= 0, lists:all(fun is_binary/1, Path)] of
        [{Executable, SysPath} | _] -> {ok, Executable, SysPath};
        [] -> {error, timeout}
    end.

%% @doc Imports the modules in every interpreter that runs, and in those that start. What fails is
%% logged; so it will where a call needs the module.
-spec import([wanted()]) -> ok.
import(Wanted) ->
    _ = [ets:insert_new(?TABLE, {{import, W}, erlang:unique_integer([monotonic])}) || W <- Wanted],
    Answers = py_inquiry:ask(py_context_table:all(), beside, import_all, [to_python(Wanted)]),
    lists:foreach(fun({Ctx, Lane, Answer}) -> imported(Ctx, Lane, Answer) end, Answers).

%% @doc In the order in which they were registered.
-spec imports() -> [wanted()].
imports() ->
    Rows = ets:select(?TABLE, [{{{import, '$1'}, '$2'}, [], [{{'$2', '$1'}}]}]),
    [Wanted || {_Number, Wanted} <- lists:sort(Rows)].

-spec is_import({binary(), binary() | all | '_'}) -> boolean().
is_import({Module, '_'}) ->
    ets:match(?TABLE, {{import, {Module, '_'}}, '_'}, 1) =/= '$end_of_table';
is_import(Wanted) ->
    ets:member(?TABLE, {import, Wanted}).

%% @doc Interpreters that run keep them.
-spec clear_imports() -> ok.
clear_imports() ->
    true = ets:match_delete(?TABLE, {{import, '_'}, '_'}),
    ok.

%% @doc Of a context that has started: the registered modules, and those of its pool. Waits for
%% them, but not for ever.
-spec import_into(py:context(), ep_nif:lane(), [wanted()], timeout()) -> ok.
import_into(Ctx, Lane, Own, Timeout) ->
    case lists:usort(Own ++ imports()) of
        [] ->
            ok;
        Wanted ->
            Answers = py_inquiry:ask([{Ctx, Lane}], beside, import_all, [to_python(Wanted)], Timeout),
            lists:foreach(fun({C, L, Answer}) -> imported(C, L, Answer) end, Answers)
    end.

%% @doc Loads the module anew wherever it is loaded. Its functions are the new ones in the next
%% request of every context.
-spec reload(binary()) -> ok | {error, [{py:context(), term()}]}.
reload(Module) ->
    Number = erlang:unique_integer([monotonic, positive]),
    true = ets:insert(?TABLE, [{{reload, Module}, Number}, {reloaded, Number}]),
    Answers = py_inquiry:ask(py_context_table:all(), first, reload, [Module, Number]),
    case [{Ctx, Reason} || {Ctx, Lane, Answer} <- Answers, {error, Reason} <- [reloaded(Lane, Answer)]] of
        [] -> ok;
        Failures -> {error, lists:sort(Failures)}
    end.

%% @doc What an interpreter begins with, see {@link py_maintenance:prologue/3}. Own: paths of its
%% pool or context, which come first.
-spec prologue([binary()]) -> [{atom(), list()}].
prologue(Own) ->
    [{set_paths, [Own]} || Own =/= []] ++
        case whole() of
            [_, none, []] -> [];
            Whole -> [{register, Whole}]
        end.

%% @doc The number of the last registration.
-spec change() -> change().
change() ->
    ets:lookup_element(?TABLE, change, 2).

%% @doc By what has attached a lane with a prologue that is not older than that change.
-spec catch_up(ep_nif:lane(), change()) -> ok.
catch_up(Lane, Change) ->
    case change() of
        Change ->
            ok;
        _ ->
            %% Nobody waits for the answer. An error: the process has ended, and so on.
            _ = ep_nif:inquire_first(Lane, make_ref(), register, whole()),
            ok
    end.

%% @doc Before an interpreter starts that no context is in yet.
-spec mark() -> mark().
mark() ->
    {change(), erlang:unique_integer([monotonic, positive])}.

%% @doc Tells it what was registered and reloaded since; its next request has it.
-spec catch_up_since(ep_nif:lane(), mark()) -> mark().
catch_up_since(Lane, {Change, Number}) ->
    Now = mark(),
    ok = catch_up(Lane, Change),
    Reloads = ets:select(?TABLE, [{{{reload, '$1'}, '$2'}, [{'>', '$2', Number}], [{{'$1', '$2'}}]}]),
    lists:foreach(fun({M, N}) -> _ = ep_nif:inquire_first(Lane, make_ref(), reload, [M, N]), ok end, Reloads),
    Now.

%% Internal

to_python(Wanted) ->
    [{Module, case Function of all -> none; _ -> Function end} || {Module, Function} <- Wanted].

imported(Ctx, Lane, {ok, {_Process, _Interpreter, Failures}}) when length(Failures) >= 0 ->
    case lists:all(fun is_failure/1, Failures) of
        true -> lists:foreach(fun({M, Type, Text}) -> py_report:import_failed(Ctx, M, Type, Text) end, Failures);
        false -> no_sense(Lane)
    end;
imported(Ctx, _Lane, timeout) ->
    py_report:import_slow(Ctx);
%% Its process has ended, and the next one imports again.
imported(_Ctx, _Lane, {error, _}) ->
    ok;
imported(_Ctx, Lane, {ok, _}) ->
    no_sense(Lane).

is_failure({Module, Type, Text}) -> is_binary(Module) andalso is_binary(Type) andalso is_binary(Text);
is_failure(_) -> false.

reloaded(_Lane, timeout) ->
    {error, timeout};
reloaded(_Lane, {ok, {_Process, _Interpreter, IsLoaded}}) when is_boolean(IsLoaded) ->
    ok;
%% An exception. Anything else: the context or its process has ended.
reloaded(_Lane, {error, {Type, Text}}) ->
    {error, {Type, Text}};
reloaded(_Lane, {error, _}) ->
    ok;
reloaded(Lane, {ok, _}) ->
    no_sense(Lane).

%% A worker process that says what no one asked is ended.
no_sense(Lane) ->
    _ = ep_nif:lane_kill(Lane),
    ok.

tell() ->
    _ = ets:update_counter(?TABLE, change, 1),
    _ = py_inquiry:ask(py_context_table:all(), first, register, whole()),
    ok.

%% @doc What a Python that has been started before has not seen when this has changed.
-spec generation() -> term().
generation() ->
    {change(), reloads()}.

%% @doc The number of the last reload.
-spec reloads() -> non_neg_integer().
reloads() ->
    ets:lookup_element(?TABLE, reloaded, 2).

%% @doc What is registered for all. The number first: what is read after it is not older.
-spec whole() -> [term()].
whole() ->
    Change = change(),
    case venv() of
        undefined -> [Change, none, paths()];
        #{site_packages := Site, number := Number} -> [Change, {Number, Site}, paths()]
    end.
