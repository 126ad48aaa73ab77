%% SPDX-License-Identifier: Apache-2.0

%% @private Which pools are to run, and which functions are registered to which pool.
%%
%% The truth about both lies in a table that the top supervisor owns; this process is there
%% to be its only writer, and to see to it that each pool has a process. What every request
%% reads is copied to persistent terms. So whichever process is killed, this one included,
%% pools and registrations stay, and only {@link retire/1} ends a pool. It never waits for
%% a pool.
-module(py_pool_registry).
-behaviour(gen_server).

-export([start_link/0, create_table/0, forget/0]).
-export([add/2, retire/1, server/1, settings/1, register/2, unregister/1]).
-export([claim/1, publish/2, ended/1]).
-export([table/0, members/1, lookup/2, registrations/0, refuse_stopped/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([member/0, members/0, table/0, status/0]).

-type member() :: {py:context(), ep_nif:lane()}.
%% Number N of a pool is element N; `{}' while the pool does not run.
-type members() :: tuple().
%% One term for what every call without a context looks at.
-type table() :: {members(), none | py_pool_names:registrations()}.

%% starting: its contexts have never been up; if they do not come up there is no such pool.
-type status() :: starting | running | stopping.

%% {{pool, Name}, Settings, status(), members()}, {{server, Name}, pid()} and
%% {{name, NameAsBinaries}, Name, Pool}. The persistent terms have the same name.
-define(TABLE, ?MODULE).
-define(MEMBERS(Pool), {?MODULE, Pool}).
%% How often a caller looks whether this process is there again.
-define(AGAIN_MS, 5).
-define(TRIES, 400).
%% A pool whose process dies soon, time after time, gets one later.
-define(BURST, 10).
-define(BACKOFF_MIN_MS, 20).
-define(BACKOFF_MAX_MS, 100).
-define(YOUNG_MS, 1000).

-record(server, {
    %% undefined: it is to be started
    pid :: pid() | undefined,
    started_at = 0 :: integer(),
    backoff = py_backoff:new(?BURST, ?BACKOFF_MIN_MS, ?BACKOFF_MAX_MS) :: py_backoff:backoff()
}).

-record(state, {servers = #{} :: #{py:pool_name() => #server{}}}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @private
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc The pool is to run. Its process, which waits for the contexts; `wait': there will be one soon.
-spec add(py:pool_name(), py_config:pool()) -> {ok, pid()} | wait | not_started.
add(Pool, Settings) ->
    ask({add, Pool, Settings}).

%% @doc The pool is not to run any more. Its process, which is to be told so, and then calls ended/1.
-spec retire(py:pool_name()) -> {ok, pid()} | wait | none | not_started.
retire(Pool) ->
    ask({retire, Pool}).

%% @doc The process of the pool. `none': it is not to run. `wait': there will be one soon.
-spec server(py:pool_name()) -> {ok, pid()} | wait | none.
server(Pool) ->
    case ask({server, Pool}) of
        not_started -> none;
        Answer -> Answer
    end.

%% @doc What the pool was started with.
-spec settings(py:pool_name()) -> py_config:pool() | none.
settings(Pool) ->
    try find(Pool) of
        {Settings, _Status, _Members} -> Settings;
        none -> none
    catch
        %% The application has ended.
        error:badarg -> none
    end.

%% @doc By the process of a pool, before anything else: there is one for each pool.
-spec claim(py:pool_name()) -> ok | {already_started, pid()}.
claim(Pool) ->
    case ets:lookup(?TABLE, {server, Pool}) of
        [{_, Pid}] when Pid =/= self() ->
            case is_process_alive(Pid) of
                true -> {already_started, Pid};
                false -> write_claim(Pool)
            end;
        _ ->
            write_claim(Pool)
    end.

write_claim(Pool) ->
    true = ets:insert(?TABLE, {{server, Pool}, self()}),
    ok.

%% @doc By the process of a pool: these are its contexts, and they are up.
-spec publish(py:pool_name(), members()) -> ok.
publish(Pool, Members) ->
    call({publish, Pool, Members}).

%% @doc By the process of a pool that was told to stop: it has.
-spec ended(py:pool_name()) -> ok.
ended(Pool) ->
    call({ended, Pool}).

%% @doc Refuses a pool that does not run.
-spec register(py:pool_name(), py_pool_names:name()) -> ok.
register(Pool, Name) when is_atom(Pool) ->
    Key = py_pool_names:key(Name),
    case ask({register, Pool, Key, Name}) of
        ok -> ok;
        unknown_pool -> refuse_stopped(Pool);
        not_started -> py_error_info:refuse(not_started)
    end;
register(_Pool, _Name) ->
    py_error_info:refuse(arguments).

-spec unregister(py_pool_names:name()) -> ok.
unregister(Name) ->
    Key = py_pool_names:key(Name),
    case ask({unregister, Key}) of
        ok -> ok;
        %% They have ended with the application.
        not_started -> ok
    end.

%% @doc By what needs a pool that runs.
-spec refuse_stopped(py:pool_name()) -> no_return().
refuse_stopped(Pool) ->
    py_error_info:is_started() orelse py_error_info:refuse(not_started),
    py_error_info:refuse({[pool, target], [{value, Pool}, " is no pool that runs; ", start_it(Pool)]}).

start_it(default) ->
    "py:start_contexts() starts it";
start_it(_Pool) ->
    Running = lists:sort(ets:select(?TABLE, [{{{pool, '$1'}, '_', running, '_'}, [], ['$1']}])),
    [
        "py_context_router:start_pool/2,3 starts one, and those that run are: ",
        lists:join(", ", [atom_to_binary(Name) || Name <- Running])
    ].

%% By a caller, for whom the application may have ended.
ask(Request) ->
    try
        py_error_info:is_started() andalso call(Request)
    of
        false -> not_started;
        Answer -> Answer
    catch
        exit:{noproc, {?MODULE, Request}} -> not_started
    end.

%% Waits while this process is being started again.
call(Request) ->
    call(Request, ?TRIES).

call(Request, Tries) ->
    try
        gen_server:call(?MODULE, Request, infinity)
    catch
        exit:{Reason, _} when (Reason =:= noproc orelse Reason =:= killed), Tries > 0 ->
            is_pid(whereis(erlang_python_sup)) orelse exit({noproc, {?MODULE, Request}}),
            receive after ?AGAIN_MS -> ok end,
            call(Request, Tries - 1)
    end.

%% @doc The members of pool `default' and the registrations, in one read.
-spec table() -> table().
table() ->
    persistent_term:get(?TABLE, {{}, none}).

-spec members(py:pool_name()) -> members().
members(default) -> element(1, table());
members(Pool) -> persistent_term:get(?MEMBERS(Pool), {}).

%% @doc The pool a function is registered to, if it is, or its module, or one above that.
-spec lookup(py:text(), py:text()) -> py:pool_name() | undefined.
lookup(Module, Function) ->
    %% A bad name is one also where nothing is registered.
    {M, F} = {py_text:text(Module), py_text:text(Function)},
    {_Members, Registrations} = table(),
    py_pool_names:lookup(M, F, Registrations).

-spec registrations() -> [{{py:text(), py:text() | '_'}, py:pool_name()}].
registrations() ->
    case py_error_info:is_started() of
        true -> [{py_pool_names:listed(Name), Pool} || {_Key, Name, Pool} <- names()];
        false -> []
    end.

%% @doc At the end of the application.
-spec forget() -> ok.
forget() ->
    _ = [persistent_term:erase(Key) || {Key = ?MEMBERS(_), _} <- persistent_term:get()],
    _ = persistent_term:erase(?TABLE),
    ok.

%% gen_server

-spec init([]) -> {ok, #state{}, {continue, resume}}.
init([]) ->
    {ok, #state{}, {continue, resume}}.

%% Requests go on meanwhile by what a predecessor has published.
-spec handle_continue(resume, #state{}) -> {noreply, #state{}}.
handle_continue(resume, State) ->
    Pools = ets:match_object(?TABLE, {{pool, '_'}, '_', '_', '_'}),
    ok = forget_others([Pool || {{pool, Pool}, _, _, _} <- Pools]),
    lists:foreach(fun({{pool, Pool}, _, _, Members}) -> write_members(Pool, Members) end, Pools),
    ok = write_names(),
    {noreply, lists:foldl(fun({{pool, Pool}, _, _, _}, Acc) -> launch(Pool, #server{}, Acc) end, State, Pools)}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({add, Pool, Settings}, _From, State) ->
    case find(Pool) of
        {_Settings, stopping, _} ->
            {reply, wait, State};
        {_Settings, _Status, _} ->
            {reply, server(Pool, State), State};
        none ->
            true = ets:insert(?TABLE, {{pool, Pool}, Settings, starting, {}}),
            Launched = launch(Pool, #server{}, State),
            {reply, server(Pool, Launched), Launched}
    end;
handle_call({retire, Pool}, _From, State) ->
    case find(Pool) of
        {_, _, _} ->
            true = ets:update_element(?TABLE, {pool, Pool}, {3, stopping}),
            ok = set_members(Pool, {}),
            {reply, server(Pool, State), State};
        none ->
            {reply, none, State}
    end;
handle_call({server, Pool}, _From, State) ->
    case find(Pool) of
        none -> {reply, none, State};
        _ -> {reply, server(Pool, State), State}
    end;
handle_call({publish, Pool, Members}, {Pid, _}, State) ->
    %% One that is ending must not speak for its successor.
    case {find(Pool), server(Pool, State)} of
        {{Settings, Status, _}, {ok, Pid}} when Status =/= stopping ->
            true = ets:update_element(?TABLE, {pool, Pool}, {3, running}),
            ok = set_members(Pool, Members),
            ok = case Status of starting -> enter_names(Pool, Settings); running -> ok end,
            {reply, ok, State};
        _ ->
            {reply, ok, State}
    end;
handle_call({ended, Pool}, {Pid, _}, State) ->
    case server(Pool, State) of
        {ok, Pid} -> {reply, ok, removed(Pool, State)};
        _ -> {reply, ok, State}
    end;
handle_call({register, Pool, Key, Name}, _From, State) ->
    case members(Pool) of
        {} ->
            {reply, unknown_pool, State};
        _ ->
            true = ets:insert(?TABLE, {{name, Key}, Name, Pool}),
            {reply, write_names(), State}
    end;
handle_call({unregister, Key}, _From, State) ->
    true = ets:delete(?TABLE, {name, Key}),
    {reply, write_names(), State}.

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, Reason}, State = #state{servers = Servers}) ->
    case [Pool || {Pool, #server{pid = P}} <- maps:to_list(Servers), P =:= Pid] of
        [Pool] -> {noreply, down(Pool, Reason, State)};
        [] -> {noreply, State}
    end;
handle_info({launch, Pool}, State = #state{servers = Servers}) ->
    case Servers of
        #{Pool := Server = #server{pid = undefined}} -> {noreply, launch(Pool, Server, State)};
        _ -> {noreply, State}
    end;
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    ok.

%% Internal

find(Pool) ->
    case ets:lookup(?TABLE, {pool, Pool}) of
        [{_, Settings, Status, Members}] -> {Settings, Status, Members};
        [] -> none
    end.

server(Pool, #state{servers = Servers}) ->
    case Servers of
        #{Pool := #server{pid = Pid}} when is_pid(Pid) -> {ok, Pid};
        _ -> wait
    end.

launch(Pool, Server, State = #state{servers = Servers}) ->
    {Settings, Status, _} = find(Pool),
    case py_pool_sup:start_pool(Pool, Settings, Status) of
        {ok, Pid} ->
            _ = monitor(process, Pid),
            Started = Server#server{pid = Pid, started_at = erlang:monotonic_time(millisecond)},
            State#state{servers = Servers#{Pool => Started}};
        {error, _Restarting} ->
            launch_later(Pool, Server, State)
    end.

launch_later(Pool, Server = #server{backoff = Backoff}, State = #state{servers = Servers}) ->
    {Ms, Next} = py_backoff:next(Backoff),
    _ = erlang:send_after(max(1, Ms), self(), {launch, Pool}),
    State#state{servers = Servers#{Pool => Server#server{pid = undefined, backoff = Next}}}.

down(Pool, {shutdown, {failed, _}}, State) ->
    removed(Pool, State);
%% Its supervisor ends in order, with the application.
down(Pool, shutdown, State) ->
    removed(Pool, State);
down(Pool, _Reason, State = #state{servers = Servers}) ->
    #{Pool := Server = #server{started_at = StartedAt, backoff = Backoff}} = Servers,
    case erlang:monotonic_time(millisecond) - StartedAt < ?YOUNG_MS of
        true -> launch_later(Pool, Server, State);
        false -> launch(Pool, Server#server{backoff = py_backoff:reset(Backoff)}, State)
    end.

removed(Pool, State = #state{servers = Servers}) ->
    ok = leave_names(Pool, find(Pool)),
    ok = write_members(Pool, {}),
    true = ets:delete(?TABLE, {pool, Pool}),
    true = ets:delete(?TABLE, {server, Pool}),
    State#state{servers = maps:remove(Pool, Servers)}.

%% What the program has published before, in an earlier life.
forget_others(Pools) ->
    _ = [
        persistent_term:erase(Key)
     || {Key = ?MEMBERS(Pool), _} <- persistent_term:get(), not lists:member(Pool, Pools)
    ],
    lists:member(default, Pools) orelse write_members(default, {}),
    ok.

set_members(Pool, Members) ->
    true = ets:update_element(?TABLE, {pool, Pool}, {4, Members}),
    write_members(Pool, Members).

write_members(default, Members) ->
    {_, Registrations} = table(),
    persistent_term:put(?TABLE, {Members, Registrations});
write_members(Pool, {}) ->
    _ = persistent_term:erase(?MEMBERS(Pool)),
    ok;
write_members(Pool, Members) ->
    persistent_term:put(?MEMBERS(Pool), Members).

%% Those that the pool was started with come and go with it.
enter_names(_Pool, #{register := []}) ->
    ok;
enter_names(Pool, #{register := Names}) ->
    true = ets:insert(?TABLE, [{{name, py_pool_names:key(Name)}, Name, Pool} || Name <- Names]),
    write_names().

leave_names(Pool, {#{register := Names = [_ | _]}, _Status, _Members}) ->
    _ = [ets:match_delete(?TABLE, {{name, py_pool_names:key(Name)}, '_', Pool}) || Name <- Names],
    write_names();
leave_names(_Pool, _) ->
    ok.

write_names() ->
    {Members, Former} = table(),
    %% Writing the same term again costs nothing.
    persistent_term:put(?TABLE, {Members, py_pool_names:compile(names(), Former)}).

names() ->
    [{Key, Name, Pool} || {{name, Key}, Name, Pool} <- ets:match_object(?TABLE, {{name, '_'}, '_', '_'})].
