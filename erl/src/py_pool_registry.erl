%% SPDX-License-Identifier: Apache-2.0

%% @private Which pools run, and which functions are registered to which pool.
%%
%% Every request reads this, so it lies in persistent terms; this process is
%% there to be their only writer. It never waits for a pool.
-module(py_pool_registry).
-behaviour(gen_server).

-export([start_link/0, start_pool/2, server/1, publish/2, withdraw/1, register/2, unregister/1]).
-export([table/0, slots/1, lookup/3, registrations/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([slot/0, slots/0, table/0, registrations/0, name/0]).

-type slot() :: {py:context(), py_nif:lane()}.
%% Number N of a pool is element N; `{}' while the pool does not run.
-type slots() :: tuple().
-type name() :: {Module :: py:text()} | {Module :: py:text(), Function :: py:text()}.
%% By module, then by function. A name that has an atom is there as atom and as
%% binary, so that no lookup converts one into the other.
-type registrations() :: #{atom() | binary() => module_routes()}.
-type module_routes() :: {py:pool_name() | undefined, #{atom() | binary() => py:pool_name()}}.
%% One term for what every call without a context looks at.
-type table() :: {slots(), none | registrations()}.

-define(TABLE, ?MODULE).
-define(SLOTS(Pool), {?MODULE, Pool}).

-record(state, {
    pools = #{} :: #{py:pool_name() => pid()},
    %% By name as binaries, with the name as it was given.
    names = #{} :: #{tuple() => {name(), py:pool_name()}}
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The process of the pool, which is started if there is none.
-spec start_pool(py:pool_name(), py_config:pool()) -> pid().
start_pool(Pool, Settings) ->
    gen_server:call(?MODULE, {start_pool, Pool, Settings}, infinity).

-spec server(py:pool_name()) -> pid() | undefined.
server(Pool) ->
    gen_server:call(?MODULE, {server, Pool}, infinity).

%% @doc By the process of the pool: these are its contexts.
-spec publish(py:pool_name(), slots()) -> ok.
publish(Pool, Slots) ->
    gen_server:call(?MODULE, {publish, Pool, Slots}, infinity).

%% @doc By the process of the pool: it takes no more requests.
-spec withdraw(py:pool_name()) -> ok.
withdraw(Pool) ->
    try
        publish(Pool, {})
    catch
        %% What a registry published is gone when it ends.
        exit:_Ended -> ok
    end.

%% @doc Fails with `badarg' if the pool does not run.
-spec register(py:pool_name(), name()) -> ok.
register(Pool, Name) ->
    Key = key(Name),
    case gen_server:call(?MODULE, {register, Pool, Key, Name}, infinity) of
        ok -> ok;
        unknown_pool -> error(badarg)
    end.

-spec unregister(name()) -> ok.
unregister(Name) ->
    gen_server:call(?MODULE, {unregister, key(Name)}, infinity).

%% @doc The slots of pool `default' and the registrations, in one read.
-spec table() -> table().
table() ->
    persistent_term:get(?TABLE, {{}, none}).

-spec slots(py:pool_name()) -> slots().
slots(default) -> element(1, table());
slots(Pool) -> persistent_term:get(?SLOTS(Pool), {}).

%% @doc The pool a function is registered to, if it or its module is.
-spec lookup(py:text(), py:text(), none | registrations()) -> py:pool_name() | undefined.
lookup(_Module, _Function, none) ->
    undefined;
lookup(Module, Function, Registrations) ->
    case maps:find(py_request:text(Module), Registrations) of
        {ok, {ModulePool, Functions}} ->
            maps:get(py_request:text(Function), Functions, ModulePool);
        error ->
            undefined
    end.

-spec registrations() -> [{{py:text(), py:text() | '_'}, py:pool_name()}].
registrations() ->
    gen_server:call(?MODULE, registrations, infinity).

%% gen_server

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    ok = forget(),
    ok = persistent_term:put(?TABLE, {{}, none}),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({start_pool, Pool, Settings}, _From, State = #state{pools = Pools}) ->
    case Pools of
        #{Pool := Pid} ->
            {reply, Pid, State};
        _ ->
            {ok, Pid} = py_pool_sup:start_pool(Pool, Settings),
            _ = monitor(process, Pid),
            {reply, Pid, State#state{pools = Pools#{Pool => Pid}}}
    end;
handle_call({server, Pool}, _From, State = #state{pools = Pools}) ->
    {reply, maps:get(Pool, Pools, undefined), State};
handle_call({publish, Pool, Slots}, {Pid, _}, State = #state{pools = Pools}) ->
    %% A pool that is ending must not speak for its successor.
    maps:get(Pool, Pools, undefined) =:= Pid andalso write_slots(Pool, Slots),
    {reply, ok, State};
handle_call({register, Pool, Key, Name}, _From, State = #state{names = Names}) ->
    case slots(Pool) of
        {} ->
            {reply, unknown_pool, State};
        _ ->
            {reply, ok, write_names(State#state{names = Names#{Key => {Name, Pool}}})}
    end;
handle_call({unregister, Key}, _From, State = #state{names = Names}) ->
    {reply, ok, write_names(State#state{names = maps:remove(Key, Names)})};
handle_call(registrations, _From, State = #state{names = Names}) ->
    {reply, [{listed(Name), Pool} || {Name, Pool} <- maps:values(Names)], State}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, _}, State = #state{pools = Pools}) ->
    [Pool] = [P || {P, Server} <- maps:to_list(Pools), Server =:= Pid],
    ok = write_slots(Pool, {}),
    {noreply, State#state{pools = maps:remove(Pool, Pools)}};
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    forget().

%% Internal

%% Also what one that was killed left behind.
forget() ->
    _ = [persistent_term:erase(Key) || {Key = ?SLOTS(_), _} <- persistent_term:get()],
    _ = persistent_term:erase(?TABLE),
    ok.

write_slots(default, Slots) ->
    {_, Registrations} = table(),
    persistent_term:put(?TABLE, {Slots, Registrations});
write_slots(Pool, {}) ->
    _ = persistent_term:erase(?SLOTS(Pool)),
    ok;
write_slots(Pool, Slots) ->
    persistent_term:put(?SLOTS(Pool), Slots).

write_names(State = #state{names = Names}) ->
    {Slots, _} = table(),
    %% Writing the same term again costs nothing.
    ok = persistent_term:put(?TABLE, {Slots, compile(Names)}),
    State.

compile(Names) when map_size(Names) =:= 0 ->
    none;
compile(Names) ->
    maps:fold(fun compile/3, #{}, Names).

compile(Key, {_Name, Pool}, Acc) ->
    [Module | Function] = tuple_to_list(Key),
    lists:foldl(
        fun(M, Routes) ->
            Routes#{M => add(Function, Pool, maps:get(M, Routes, {undefined, #{}}))}
        end,
        Acc,
        forms(Module)
    ).

add([], Pool, {_, Functions}) ->
    {Pool, Functions};
add([Function], Pool, {ModulePool, Functions}) ->
    {ModulePool, maps:merge(Functions, maps:from_keys(forms(Function), Pool))}.

%% Names are registered by the program, so the atoms are few.
forms(Binary) ->
    try
        [Binary, binary_to_atom(Binary)]
    catch
        error:_TooLong -> [Binary]
    end.

key(Name) ->
    list_to_tuple([binary(Text) || Text <- tuple_to_list(Name)]).

binary(Text) ->
    case py_request:text(Text) of
        Atom when is_atom(Atom) -> atom_to_binary(Atom);
        Binary -> Binary
    end.

listed({Module}) -> {Module, '_'};
listed({Module, Function}) -> {Module, Function}.
