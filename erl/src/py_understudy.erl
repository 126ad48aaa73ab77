%% SPDX-License-Identifier: Apache-2.0

%% @private Prepares the place of one context in the process that follows its worker process, and
%% moves the context there. It makes a lane of its own in the new process, has it started, runs
%% what the context preloads, and then exchanges the two lanes as soon as the context has no
%% request under way. The lane that it is left with, in the former process, ends with it.
-module(py_understudy).

-export([start/4, go/1]).
-export([init/5]).

-export_type([news/0]).

%% `warm': it waits for go/1. `moved': the context is in the new process. Else it ends with the
%% reason.
-type news() :: {understudy, pid(), warm | moved}.

-define(START_TIMEOUT_MS, 60000).
-define(LANE_BYTES, (1 bsl 30)).
%% So many tries 1 ms apart, for a request of milliseconds; then fewer.
-define(SOON_TRIES, 500).
-define(SOON_MS, 1).
-define(LATER_MS, 10).

%% @doc For a tenant of the calling process, which is told and monitors it.
-spec start(ep_nif:host(), Place :: pos_integer(), py:context(), py_worker:tenant()) -> pid().
start(Host, Place, Context, Tenant) ->
    {Pid, _Monitor} = spawn_monitor(?MODULE, init, [self(), Host, Place, Context, Tenant]),
    Pid.

%% @doc It moves its context as soon as that can be.
-spec go(pid()) -> ok.
go(Pid) ->
    Pid ! {self(), go},
    ok.

%% @private
-spec init(pid(), ep_nif:host(), pos_integer(), py:context(), py_worker:tenant()) -> no_return().
init(Worker, Host, Place, Context, Tenant) ->
    _ = monitor(process, Worker),
    #{mode := Mode, id := Id, paths := Paths, preparation := Preparation, imports := Imports, style := Style} = Tenant,
    %% Before anything is read.
    Since = py_code:mark(),
    Own = lane(Style),
    case ep_nif:lane_attach(Own, Host, Place, Mode, py_maintenance:prologue(Place, Id, Paths)) of
        ok -> ok;
        {error, Posix} -> exit({attach, Posix})
    end,
    ok = await_started(),
    case py_preparation:do({Context, Own, undefined}, py_preparation:steps(Preparation), Imports) of
        ok -> ok;
        {error, Reason} -> exit({preload, Reason})
    end,
    Worker ! {understudy, self(), warm},
    receive
        {Worker, go} -> ok;
        {'DOWN', _, process, Worker, _} -> exit(normal)
    end,
    move(maps:get(lane, Tenant), Own, Worker, Since, 0).

lane(Style) ->
    case ep_nif:lane_new({0, 0}, ?LANE_BYTES, Style) of
        {error, Reason} -> exit({lane, Reason});
        Lane -> Lane
    end.

await_started() ->
    receive
        {py_lane, started} -> ok;
        {py_lane, {failed, Type, Text}} -> exit({start, {Type, Text}});
        {py_lane, failed} -> exit({start, unknown});
        {'DOWN', _, process, _, _} -> exit(normal)
    after ?START_TIMEOUT_MS -> exit({start, timeout})
    end.

%% What was registered since reaches the new process first: no request runs without it.
move(Lane, Own, Worker, Since, Tries) ->
    Now = py_code:catch_up_since(Own, Since),
    case ep_nif:lane_move(Lane, Own) of
        ok ->
            %% It may have been told to the former process in between.
            _ = py_code:catch_up_since(Lane, Now),
            Worker ! {understudy, self(), moved},
            exit(normal);
        again ->
            receive
                {'DOWN', _, process, Worker, _} -> exit(normal)
            after pause(Tries) -> move(Lane, Own, Worker, Now, Tries + 1)
            end;
        %% The context has ended.
        {error, estale} ->
            exit(normal);
        {error, Posix} ->
            exit({move, Posix})
    end.

pause(Tries) when Tries < ?SOON_TRIES -> ?SOON_MS;
pause(_Tries) -> ?LATER_MS.
