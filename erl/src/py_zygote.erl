%% SPDX-License-Identifier: Apache-2.0

%% @private Keeps the zygotes: processes in which Python is up, and the modules of `preload' are imported
%% once, and which fork worker processes. One for each kind of process: its Python, environment and modules.
%%
%% ```
%% asleep --a pool, modules, or the second process of its kind--> starting --ready--> up
%%
%% up --died old, or young for the first time, or what is registered has changed--> starting
%% up --died young again, or its workers do not come up--> resting --time--> starting
%% starting --modules fail, or do not survive a fork--> unfit, until what is registered changes
%% starting --died--> resting
%% '''
%%
%% A worker process waits for a zygote that starts after nothing has gone wrong, and is started
%% without one in all other cases: a zygote saves time and memory, and nothing depends on it.
-module(py_zygote).
-behaviour(gen_server).

-export([start_link/0, want/1, forked/1, failed/1, lost/1, suspect/1, host_start/6]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([wish/0, plan/0]).

%% A monitor of this process, or of nothing where there is no zygote.
-type wish() :: reference().
%% What a zygote of such processes imports, and whether one is worth while for the first of them.
-type plan() :: #{modules := [binary()], is_eager := boolean()}.
-type kind() :: #{modules := [binary()], _ => _}.

-define(START_TIMEOUT_MS, 60000).
-define(BACKOFF_MIN_MS, 50).
-define(BACKOFF_MAX_MS, 30000).
%% One that lived for so long is replaced at once.
-define(YOUNG_MS, 1000).
%% So many workers in a row that do not come up: the modules do not survive a fork after all.
-define(FAILURES, 3).
%% How long that rests then.
-define(FAILED_MS, 30000).
%% Where Python alone takes longer to start, the processes that wait start by themselves.
-define(PATIENCE_MS, 3000).
%% Zygotes without modules; a pool with another environment, and so on, would have one more each.
-define(BARE_MAX, 8).
%% A launcher that is being started again.
-define(AGAIN_MS, 10).
%% See EP_CONTROL_SETTINGS_MAX and enum ep_worker_exit.
-define(SETTINGS_MAX, 65536).
-define(NO_ZYGOTE, 73).

-record(zygote, {
    phase = asleep :: asleep | starting | up | resting | unfit,
    %% what was registered when it started
    generation :: term(),
    turn :: py_launcher:turn() | undefined,
    timer :: reference() | undefined,
    patience :: reference() | undefined,
    host :: ep_nif:host() | undefined,
    id :: pos_integer() | undefined,
    %% something has gone wrong, or it takes long: nobody waits for it
    is_awaited = true :: boolean(),
    up_at = 0 :: integer(),
    failures = 0 :: non_neg_integer(),
    backoff = py_backoff:new(1, ?BACKOFF_MIN_MS, ?BACKOFF_MAX_MS) :: py_backoff:backoff(),
    waiting = [] :: [{pid(), wish()}],
    users = #{} :: #{pid() => Monitor :: reference()}
}).

-record(state, {zygotes = #{} :: #{kind() => #zygote{}}}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc For the calling py_worker: `{py_zygote, Wish, {ok, Id} | none}' comes, or the `DOWN' message
%% of Wish.
-spec want(py_worker:options()) -> wish().
want(#{sandbox := strict}) ->
    %% Each worker has a directory of its own that it may write in, from its start on.
    Wish = make_ref(),
    self() ! {py_zygote, Wish, none},
    Wish;
want(Options = #{zygote := #{is_eager := IsEager}}) ->
    Wish = monitor(process, ?MODULE),
    ok = gen_server:cast(?MODULE, {want, self(), Wish, kind(Options), IsEager}),
    Wish.

%% @doc A worker that it has forked is up.
-spec forked(Id :: pos_integer()) -> ok.
forked(Id) ->
    gen_server:cast(?MODULE, {forked, Id}).

%% @doc A worker that it has forked did not come up.
-spec failed(Id :: pos_integer()) -> ok.
failed(Id) ->
    gen_server:cast(?MODULE, {failed, Id}).

%% @doc It was gone when it was asked to fork.
-spec lost(Id :: pos_integer()) -> ok.
lost(Id) ->
    gen_server:cast(?MODULE, {lost, Id}).

%% @doc It has not forked for long.
-spec suspect(Id :: pos_integer()) -> ok.
suspect(Id) ->
    gen_server:cast(?MODULE, {suspect, Id}).

%% @doc A worker process, by that zygote if it is one.
-spec host_start(ep_nif:launcher(), pos_integer(), ep_nif:spin_ns(), binary(), map(), none | pos_integer()) ->
    {ok, ep_nif:host(), pos_integer()} | {error, atom()}.
host_start(Launcher, Places, SpinNs, Python, Options, Origin) ->
    Settings = case Origin of none -> py_surroundings:encode(Options); _ -> <<>> end,
    ep_nif:host_start(Launcher, Places, SpinNs, py_paths:worker(), Python, py_paths:python_modules(), Settings, Origin).

%% gen_server

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> no_return().
handle_call(Request, _From, _State) ->
    error({unexpected, Request}).

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({want, Pid, Wish, Kind, IsEager}, State = #state{zygotes = Zygotes}) ->
    Zygote = used(Pid, awake(Kind, IsEager, maps:get(Kind, Zygotes, none), State)),
    {noreply, put(Kind, answer({Pid, Wish}, Zygote), State)};
handle_cast({forked, Id}, State) ->
    {noreply, with(Id, fun(_Kind, Zygote) -> Zygote#zygote{failures = 0} end, State)};
handle_cast({failed, Id}, State) ->
    {noreply, with(Id, fun fork_failed/2, State)};
handle_cast({lost, Id}, State) ->
    {noreply, with(Id, fun died/2, State)};
handle_cast({suspect, Id}, State) ->
    {noreply, with(Id, fun(Kind, Zygote) -> fork_failed(Kind, died(Kind, Zygote)) end, State)}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({py_host, Id, Event}, State) ->
    {noreply, with(Id, fun(Kind, Zygote) -> host_event(Event, Kind, Zygote) end, State)};
handle_info({py_launcher, Turn, Answer}, State) ->
    {noreply, with_turn(Turn, fun(Kind, Zygote) -> turn(Answer, Kind, Zygote) end, State)};
handle_info({timeout, Timer, {start_timeout, Kind}}, State = #state{zygotes = Zygotes}) ->
    case Zygotes of
        #{Kind := #zygote{timer = Timer, host = Host}} -> ok = ep_nif:host_kill(Host), {noreply, State};
        _ -> {noreply, State}
    end;
handle_info({timeout, Timer, {patience, Kind}}, State = #state{zygotes = Zygotes}) ->
    case Zygotes of
        #{Kind := Zygote = #zygote{patience = Timer}} -> {noreply, put(Kind, unawaited(Zygote), State)};
        _ -> {noreply, State}
    end;
handle_info({timeout, Timer, {again, Kind}}, State = #state{zygotes = Zygotes}) ->
    case Zygotes of
        #{Kind := Zygote = #zygote{timer = Timer}} -> {noreply, put(Kind, begin_start(Kind, Zygote), State)};
        _ -> {noreply, State}
    end;
handle_info({'DOWN', Ref, process, Pid, _}, State = #state{zygotes = Zygotes}) ->
    Left = maps:filtermap(fun(_Kind, Zygote) -> without(Ref, Pid, Zygote) end, Zygotes),
    {noreply, with_turn(Ref, fun(Kind, Zygote) -> later(?AGAIN_MS, Kind, Zygote#zygote{turn = undefined}) end,
                        State#state{zygotes = Left})};
handle_info(_Late, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{zygotes = Zygotes}) ->
    _ = [ok = ep_nif:host_kill(Host) || #zygote{host = Host} <- maps:values(Zygotes), Host =/= undefined],
    ok.

%% Internal

%% What makes one process like another. Paths only matter to what is imported.
kind(Options = #{zygote := #{modules := Modules}}) ->
    Keys = [python, env, cwd, memory_limit, sandbox, threads] ++ [paths || Modules =/= []],
    (maps:with(Keys, Options))#{modules => Modules}.

put(Kind, Zygote, State = #state{zygotes = Zygotes}) ->
    State#state{zygotes = Zygotes#{Kind => Zygote}}.

with(Id, Fun, State = #state{zygotes = Zygotes}) ->
    case [{Kind, Zygote} || {Kind, Zygote = #zygote{id = I}} <- maps:to_list(Zygotes), I =:= Id] of
        [{Kind, Zygote}] -> put(Kind, Fun(Kind, Zygote), State);
        [] -> State
    end.

with_turn(Turn, Fun, State = #state{zygotes = Zygotes}) ->
    case [{Kind, Zygote} || {Kind, Zygote = #zygote{turn = T}} <- maps:to_list(Zygotes), T =:= Turn] of
        [{Kind, Zygote}] -> put(Kind, Fun(Kind, Zygote), State);
        [] -> State
    end.

%% The zygote of that kind with what is registered now, unless it is not worth while.
awake(Kind, IsEager, none, State) ->
    awake(Kind, IsEager orelse maps:get(modules, Kind) =/= [], #zygote{}, State);
awake(_Kind, false, Zygote = #zygote{phase = asleep, users = Users}, _State) when map_size(Users) =:= 0 ->
    Zygote;
awake(Kind, _IsEager, Zygote = #zygote{phase = asleep}, #state{zygotes = Zygotes}) ->
    Bare = [1 || {#{modules := []}, #zygote{phase = Phase}} <- maps:to_list(Zygotes), Phase =/= asleep],
    case Kind of
        #{modules := []} when length(Bare) >= ?BARE_MAX -> Zygote;
        _ -> begin_start(Kind, Zygote)
    end;
awake(Kind, _IsEager, Zygote = #zygote{generation = Generation, phase = Phase}, _State) ->
    case generation(Kind) of
        Generation -> Zygote;
        _ when Phase =:= up; Phase =:= unfit -> begin_start(Kind, (ended(Zygote))#zygote{is_awaited = true, failures = 0});
        _ -> Zygote
    end.

%% Workers are told of paths and virtual environments when they start, and have them before they
%% import anything.
generation(#{modules := []}) -> py_code:reloads();
generation(_Kind) -> py_code:generation().

begin_start(Kind, Zygote) ->
    with_patience(Kind, Zygote#zygote{
        phase = starting, generation = generation(Kind), turn = py_launcher:want_turn(), timer = undefined
    }).

with_patience(Kind = #{modules := []}, Zygote = #zygote{patience = undefined}) ->
    Zygote#zygote{patience = erlang:start_timer(?PATIENCE_MS, self(), {patience, Kind})};
with_patience(_Kind, Zygote) ->
    Zygote.

unawaited(Zygote = #zygote{waiting = Waiting}) ->
    tell(none, Waiting),
    (patient(Zygote))#zygote{waiting = [], is_awaited = false}.

patient(Zygote = #zygote{patience = Timer}) ->
    Timer =:= undefined orelse erlang:cancel_timer(Timer),
    Zygote#zygote{patience = undefined}.

%% Its process, if it has one, is nobody's any more.
ended(Zygote = #zygote{host = Host, turn = Turn, timer = Timer}) ->
    Host =:= undefined orelse ep_nif:host_kill(Host),
    Timer =:= undefined orelse erlang:cancel_timer(Timer),
    ok = end_turn(Turn, failed),
    Zygote#zygote{host = undefined, id = undefined, turn = undefined, timer = undefined}.

end_turn(undefined, _How) ->
    ok;
end_turn(Turn, How) ->
    true = demonitor(Turn, [flush]),
    py_launcher:end_turn(Turn, How).

used(Pid, Zygote = #zygote{users = Users}) when is_map_key(Pid, Users) ->
    Zygote;
used(Pid, Zygote = #zygote{users = Users}) ->
    Zygote#zygote{users = Users#{Pid => monitor(process, Pid)}}.

answer(Wish, Zygote = #zygote{phase = up, id = Id}) ->
    tell({ok, Id}, [Wish]),
    Zygote;
answer(Wish, Zygote = #zygote{phase = starting, is_awaited = true, waiting = Waiting}) ->
    Zygote#zygote{waiting = [Wish | Waiting]};
answer(Wish, Zygote) ->
    tell(none, [Wish]),
    Zygote.

tell(Answer, Wishes) ->
    lists:foreach(fun({Pid, Wish}) -> Pid ! {py_zygote, Wish, Answer} end, Wishes).

%% A process that used one has ended; the last one takes it away.
without(Ref, Pid, Zygote = #zygote{users = Users, waiting = Waiting}) ->
    case Users of
        #{Pid := Ref} when map_size(Users) =:= 1 ->
            _ = patient(ended(Zygote)),
            false;
        #{Pid := Ref} ->
            {true, Zygote#zygote{users = maps:remove(Pid, Users), waiting = [W || W = {P, _} <- Waiting, P =/= Pid]}};
        _ ->
            true
    end.

turn({ok, Launcher}, Kind = #{python := Python}, Zygote) ->
    case settings(Kind) of
        {ok, Settings} ->
            case
                ep_nif:host_start(
                    Launcher, 1, {0, 0}, py_paths:worker(), Python, py_paths:python_modules(), Settings, zygote
                )
            of
                {ok, Host, Id} ->
                    Timer = erlang:start_timer(?START_TIMEOUT_MS, self(), {start_timeout, Kind}),
                    Zygote#zygote{host = Host, id = Id, timer = Timer};
                {error, _Posix} ->
                    rest(Kind, Zygote)
            end;
        too_long ->
            unfit(<<"paths and environment are too long">>, Kind, Zygote)
    end;
turn({error, _Reason}, Kind, Zygote) ->
    rest(Kind, Zygote).

%% See service/python/erlang/_zygote.py.
settings(Kind = #{modules := Modules}) ->
    [Change, Venv, Paths] = py_code:whole(),
    Plan = [
        [[$P, Path, 0] || Path <- maps:get(paths, Kind, [])],
        [[$R, Path, 0] || Path <- Paths],
        [$C, integer_to_binary(Change), 0],
        [[$V, integer_to_binary(Number), $\s, Site, 0] || {Number, Site} <- [Venv]],
        [[$M, Module, 0] || Module <- Modules]
    ],
    case iolist_to_binary([py_surroundings:encode_all(Kind), 0 | [Plan || Modules =/= []]]) of
        Settings when byte_size(Settings) =< ?SETTINGS_MAX -> {ok, Settings};
        _ -> too_long
    end.

host_event({ready, _, _, _, _}, _Kind, Zygote = #zygote{phase = starting, waiting = Waiting, id = Id, timer = Timer}) ->
    _ = erlang:cancel_timer(Timer),
    ok = end_turn(Zygote#zygote.turn, up),
    tell({ok, Id}, Waiting),
    (patient(Zygote))#zygote{
        phase = up, is_awaited = true, turn = undefined, timer = undefined, waiting = [], up_at = now_ms()
    };
host_event({exited, ?NO_ZYGOTE, #{stderr := Wrote}}, Kind, Zygote = #zygote{phase = starting}) ->
    unfit(Wrote, Kind, gone(Zygote));
host_event({exited, _Reason, _Known}, Kind, Zygote = #zygote{phase = starting}) ->
    rest(Kind, gone(Zygote));
host_event({exited, _Reason, _Known}, Kind, Zygote) ->
    died(Kind, gone(Zygote));
host_event({spawned, _OsPid}, _Kind, Zygote) ->
    Zygote;
%% It says twice that it is up, or the like.
host_event(_Unexpected, _Kind, Zygote = #zygote{host = Host}) ->
    ok = ep_nif:host_kill(Host),
    Zygote.

gone(Zygote) ->
    ended(Zygote#zygote{host = undefined}).

%% One that was of use is followed at once, and so is the first that died young: who starts then waits for it, for
%% Python starts once and not beside it in every process.
died(Kind, Zygote = #zygote{up_at = UpAt, backoff = Backoff}) ->
    case now_ms() - UpAt > ?YOUNG_MS of
        true -> begin_start(Kind, (ended(Zygote))#zygote{backoff = py_backoff:reset(Backoff)});
        false -> died_young(py_backoff:next(Backoff), Kind, Zygote)
    end.

died_young({0, Next}, Kind, Zygote) ->
    begin_start(Kind, (ended(Zygote))#zygote{backoff = Next});
died_young({_Ms, _Next}, Kind, Zygote) ->
    rest(Kind, Zygote).

%% Starts go on without it meanwhile.
rest(Kind, Zygote = #zygote{backoff = Backoff}) ->
    {Ms, Next} = py_backoff:next(Backoff),
    later(Ms, Kind, unawaited(Zygote#zygote{backoff = Next})).

later(Ms, Kind, Zygote) ->
    Resting = (ended(Zygote))#zygote{phase = resting},
    Resting#zygote{timer = erlang:start_timer(Ms, self(), {again, Kind})}.

unfit(Wrote, #{modules := Modules}, Zygote) ->
    ok = py_report:no_zygote(Modules, Wrote),
    (unawaited(ended(Zygote)))#zygote{phase = unfit}.

fork_failed(Kind = #{modules := Modules}, Zygote = #zygote{failures = Failures}) when Failures + 1 >= ?FAILURES ->
    ok = py_report:no_zygote(Modules, <<"workers that are forked from it do not come up">>),
    later(?FAILED_MS, Kind, unawaited(Zygote#zygote{failures = 0}));
fork_failed(_Kind, Zygote = #zygote{failures = Failures}) ->
    Zygote#zygote{failures = Failures + 1}.

now_ms() ->
    erlang:monotonic_time(millisecond).
