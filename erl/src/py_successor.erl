%% SPDX-License-Identifier: Apache-2.0

%% @private The process that follows a worker process which has served as many requests, or has
%% become as large, as it may. For py_worker, which owns both and hands every message to
%% {@link handle/3} first.
%%
%% ```
%% choosing --zygote, or none--> asking --turn--> starting --ready--> warming --all understudies warm--> moving
%%   any of them --{failed, Reason}: the former process goes on, or another successor begins
%% '''
%%
%% The former process serves all requests until each context moves, see {@link py_understudy}.
-module(py_successor).

-export([new/1, handle/3, cast/2, is_cast/2, has_moved/1, kill/1, host/1]).
-export([limits/1, is_due/2, pause/3, look/2]).

-export_type([next/0, limits/0, seen/0]).

%% A successor that does not come up is killed.
-define(START_TIMEOUT_MS, 60000).
%% How often a process is looked at: soon enough for one that serves many requests.
-define(LOOK_MIN_MS, 5).
-define(LOOK_MAX_MS, 100).
-define(PAGE, 4096).

-record(next, {
    phase = choosing :: choosing | asking | starting | warming | moving,
    wish :: py_zygote:wish() | undefined,
    origin = none :: none | pos_integer(),
    turn :: py_launcher:turn() | undefined,
    timer :: reference() | undefined,
    host :: ep_nif:host() | undefined,
    id :: pos_integer() | undefined,
    os_pid :: integer() | undefined,
    %% those that are to move, and those that have
    understudies = #{} :: #{pid() => {Place :: pos_integer(), cold | warm}},
    moved = [] :: [Place :: pos_integer()]
}).

-opaque next() :: #next{}.
-type limits() :: #{requests := pos_integer() | infinity, rss := pos_integer() | infinity}.
-type seen() :: #{requests := non_neg_integer(), rss := non_neg_integer(), at := integer()}.
%% `ready': cast/2 is to be called. `moved': a context has.
-type outcome() :: {wait | ready | moved, next()} | {failed, term(), next()} | unknown.

%% @doc Asks for a zygote, then for a turn to start.
-spec new(py_worker:options()) -> next().
new(Options) ->
    #next{wish = py_zygote:want(Options)}.

ask(Next) ->
    Next#next{phase = asking, wish = undefined, turn = py_launcher:want_turn()}.

%% @doc What a message of py_worker means to the successor. `unknown': it is not for it.
-spec handle(term(), next(), fun((ep_nif:launcher(), none | pos_integer()) -> {ok, ep_nif:host(), pos_integer()} | {error, atom()})) ->
    outcome().
handle({py_zygote, Wish, Answer}, Next = #next{phase = choosing, wish = Wish}, _Start) ->
    true = demonitor(Wish, [flush]),
    {wait, ask(Next#next{origin = case Answer of {ok, Id} -> Id; none -> none end})};
handle({'DOWN', Wish, process, _, _}, Next = #next{phase = choosing, wish = Wish}, _Start) ->
    {wait, ask(Next)};
handle({py_launcher, Turn, Answer}, Next = #next{phase = asking, turn = Turn}, Start) ->
    started(Answer, Next, Start);
handle({'DOWN', Turn, process, _, _}, Next = #next{turn = Turn, phase = asking}, _Start) ->
    {failed, launcher, Next#next{turn = undefined}};
handle({'DOWN', Turn, process, _, _}, Next = #next{turn = Turn}, _Start) ->
    {wait, Next#next{turn = undefined}};
handle({py_host, Id, {spawned, OsPid}}, Next = #next{id = Id}, _Start) ->
    {wait, Next#next{os_pid = OsPid}};
handle({py_host, Id, {ready, OsPid, _, _, _}}, Next = #next{id = Id, phase = starting}, _Start) ->
    ok = end_turn(up, Next),
    _ = erlang:cancel_timer(Next#next.timer),
    {ready, Next#next{phase = warming, os_pid = OsPid, turn = undefined, timer = undefined}};
handle({py_host, Id, {exited, Reason, _Known}}, Next = #next{id = Id}, _Start) ->
    {failed, {exited, Reason}, Next#next{host = undefined, id = undefined}};
handle({py_host, Id, _Unexpected}, Next = #next{id = Id}, _Start) ->
    {failed, protocol, Next};
handle({timeout, Timer, successor}, Next = #next{timer = Timer}, _Start) ->
    {failed, too_slow, Next};
handle({understudy, Pid, warm}, Next = #next{understudies = Understudies}, _Start) when is_map_key(Pid, Understudies) ->
    #{Pid := {Place, cold}} = Understudies,
    {wait, all_warm(Next#next{understudies = Understudies#{Pid := {Place, warm}}})};
handle({understudy, Pid, moved}, Next = #next{understudies = Understudies, moved = Moved}, _Start) when
    is_map_key(Pid, Understudies)
->
    {{Place, _}, Left} = maps:take(Pid, Understudies),
    {moved, Next#next{understudies = Left, moved = [Place | Moved]}};
handle({'DOWN', _, process, Pid, Reason}, Next = #next{understudies = Understudies}, _Start) when
    is_map_key(Pid, Understudies)
->
    ended(Reason, Next#next{understudies = maps:remove(Pid, Understudies)});
handle(_Other, _Next, _Start) ->
    unknown.

%% @doc Prepares the contexts that have no place in the new process. Nothing before it is ready.
-spec cast([{Place :: pos_integer(), py:context(), py_worker:tenant()}], next()) -> next().
cast(Tenants, Next = #next{phase = Phase, host = Host, understudies = Understudies, moved = Moved}) when
    Phase =:= warming; Phase =:= moving
->
    Places = Moved ++ [Place || {Place, _} <- maps:values(Understudies)],
    New = [
        {py_understudy:start(Host, Place, Context, Tenant), {Place, cold}}
     || {Place, Context, Tenant} <- Tenants, not lists:member(Place, Places)
    ],
    Next#next{understudies = maps:merge(Understudies, maps:from_list(New))};
cast(_Tenants, Next) ->
    Next.

%% @doc Whether the context of each of these places has moved.
-spec is_cast([Place :: pos_integer()], next()) -> boolean().
is_cast(Places, #next{moved = Moved}) ->
    Places -- Moved =:= [].

%% @doc Whether a context is in the new process already.
-spec has_moved(next()) -> boolean().
has_moved(#next{moved = Moved}) ->
    Moved =/= [].

%% @doc The process, where it is up.
-spec host(next()) -> {ep_nif:host(), pos_integer(), OsPid :: integer() | undefined}.
host(#next{host = Host, id = Id, os_pid = OsPid}) ->
    {Host, Id, OsPid}.

%% @doc Ends the successor, and with it what has moved there.
-spec kill(next()) -> ok.
kill(Next = #next{timer = Timer, host = Host}) ->
    Timer =:= undefined orelse erlang:cancel_timer(Timer),
    ok = end_turn(failed, Next),
    Host =:= undefined orelse ep_nif:host_kill(Host),
    ok.

end_turn(_How, #next{turn = undefined}) ->
    ok;
end_turn(How, #next{turn = Turn}) ->
    true = demonitor(Turn, [flush]),
    py_launcher:end_turn(Turn, How).

%% When

%% @doc Of the options of a py_worker; `none': it has no limits.
-spec limits(#{max_requests => pos_integer() | infinity, max_rss => pos_integer() | infinity, _ => _}) -> limits() | none.
limits(Options) ->
    case {maps:get(max_requests, Options, infinity), maps:get(max_rss, Options, infinity)} of
        {infinity, infinity} -> none;
        {Requests, Rss} -> #{requests => Requests, rss => Rss}
    end.

%% @doc What a process has served, and how large it is.
-spec look([ep_nif:lane()], OsPid :: integer() | undefined) -> seen().
look(Lanes, OsPid) ->
    #{
        requests => lists:sum([ep_nif:lane_requests(Lane) || Lane <- Lanes]),
        rss => rss(OsPid),
        at => erlang:monotonic_time(millisecond)
    }.

%% @doc Whether it is to be replaced. One that is large when it starts serves a request at least.
-spec is_due(seen(), limits()) -> boolean().
is_due(#{requests := Requests, rss := Rss}, #{requests := MaxRequests, rss := MaxRss}) ->
    %% An atom is more than any number.
    Requests >= MaxRequests orelse (Requests > 0 andalso Rss > MaxRss).

%% @doc How many milliseconds until the next look: half the time that the rest of the requests
%% will take.
-spec pause(seen(), seen(), limits()) -> pos_integer().
pause(_Seen, _Before, #{requests := infinity}) ->
    ?LOOK_MAX_MS;
pause(#{requests := Now, at := At}, #{requests := Before, at := Then}, #{requests := Max}) ->
    case {Now - Before, At - Then} of
        {Served, Ms} when Served > 0, Ms > 0 -> max(?LOOK_MIN_MS, min(?LOOK_MAX_MS, (Max - Now) * Ms div (2 * Served)));
        _ -> ?LOOK_MAX_MS
    end.

rss(undefined) ->
    0;
rss(OsPid) ->
    case file:read_file(["/proc/", integer_to_list(OsPid), "/statm"]) of
        {ok, Text} ->
            case binary:split(Text, <<" ">>, [global]) of
                [_Size, Resident | _] -> binary_to_integer(Resident) * ?PAGE;
                _ -> 0
            end;
        {error, _} ->
            0
    end.

%% Internal

started({ok, Launcher}, Next, Start) ->
    case Start(Launcher, Next#next.origin) of
        {ok, Host, Id} ->
            Timer = erlang:start_timer(?START_TIMEOUT_MS, self(), successor),
            {wait, Next#next{phase = starting, host = Host, id = Id, timer = Timer}};
        {error, Posix} ->
            {failed, {prepare, Posix}, Next}
    end;
started({error, Reason}, Next, _Start) ->
    {failed, {launcher, Reason}, Next}.

%% The contexts of a process move together: one that cannot be prepared keeps all of them where
%% they are.
all_warm(Next = #next{understudies = Understudies}) ->
    case [Pid || {Pid, {_, cold}} <- maps:to_list(Understudies)] of
        [] ->
            lists:foreach(fun py_understudy:go/1, maps:keys(Understudies)),
            Next#next{phase = moving};
        _ ->
            Next
    end.

%% The context has ended, and py_worker hears of it.
ended(normal, Next) -> {moved, Next};
ended(Reason, Next) -> {failed, {understudy, Reason}, Next}.
