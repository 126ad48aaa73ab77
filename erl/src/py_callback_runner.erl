%% SPDX-License-Identifier: Apache-2.0

%% @private Runs the callbacks of Python threads, for which no caller waits: each in a
%% process of its own, which this one watches, so that Python hears of its death.
%%
%% It waits for no worker process, and nothing that one of them does ends it. When it is
%% killed, the callbacks under way go on, and its successor takes those that come.
-module(py_callback_runner).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% An answer for which there is no room is tried again after 1 ms, then twice that, up to this.
-define(RETRY_MAX_MS, 64).

-record(state, {askers = #{} :: #{reference() => ep_nif:asker()}}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    %% What users have sent, arrays and large binaries among it, does not stay here as garbage.
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{hibernate_after, 1000}]).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = ep_nif:run_callbacks(),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> no_return().
handle_call(Request, _From, _State) ->
    error({unexpected, Request}).

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({py_callback, Asker}, State = #state{askers = Askers}) ->
    case start(fun() -> run(Asker) end) of
        {ok, Ref} -> {noreply, State#state{askers = Askers#{Ref => Asker}}};
        %% Nobody holds the asker any more, which tells Python so.
        error -> {noreply, State}
    end;
handle_info({'DOWN', Ref, process, _, Reason}, State = #state{askers = Askers}) ->
    case maps:take(Ref, Askers) of
        {Asker, Left} ->
            ok = ended(Reason, Asker),
            {noreply, State#state{askers = Left}};
        error ->
            {noreply, State}
    end;
handle_info(_Late, State) ->
    {noreply, State}.

%% Internal

start(Fun) ->
    try spawn_monitor(Fun) of
        {_Pid, Ref} -> {ok, Ref}
    catch
        %% The VM has no room for another process.
        error:system_limit -> error
    end.

run(Asker) ->
    case ep_nif:question(Asker) of
        {Question, Arguments} -> answer(Asker, ask(Asker, Question, Arguments));
        gone -> ok
    end.

ask(Asker, Question, Arguments) ->
    try
        py_nesting:for_thread(Asker, fun() -> py_callback:run(Asker, Question, Arguments) end)
    catch
        %% Its context has ended.
        error:_ -> py_callback:refused()
    end.

answer(Asker, {How, Term}) ->
    try
        put_answer(Asker, How, Term, 1)
    catch
        %% It cannot be encoded.
        error:badarg ->
            {Raise, Exception} = py_callback:refused(),
            put_answer(Asker, Raise, Exception, 1)
    end.

%% Any other error means that nobody waits: the process has ended.
put_answer(Asker, How, Term, Ms) ->
    case ep_nif:answer(Asker, 0, How, Term) of
        {error, eagain} ->
            receive after Ms -> ok end,
            put_answer(Asker, How, Term, min(2 * Ms, ?RETRY_MAX_MS));
        _Ended ->
            ok
    end.

ended(normal, _Asker) ->
    ok;
%% Somebody killed it: a callback that fails is caught.
ended(Reason, Asker) ->
    Killed = py_callback:failure(exit, Reason, []),
    _ = start(fun() -> answer(Asker, Killed) end),
    ok.
