%% SPDX-License-Identifier: Apache-2.0

%% @private Runs the callbacks of Python threads, for which no caller waits: each in a
%% process of its own, which this one watches, so that Python hears of its death.
-module(py_callback_runner).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {askers = #{} :: #{reference() => py_nif:asker()}}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = py_nif:run_callbacks(),
    {ok, #state{}}.

-spec handle_call(term(), gen_server:from(), #state{}) -> no_return().
handle_call(Request, _From, _State) ->
    error({unexpected, Request}).

-spec handle_cast(term(), #state{}) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({py_callback, Asker}, State = #state{askers = Askers}) ->
    {_Pid, Ref} = spawn_monitor(fun() -> run(Asker) end),
    {noreply, State#state{askers = Askers#{Ref => Asker}}};
handle_info({'DOWN', Ref, process, _, Reason}, State = #state{askers = Askers}) ->
    {Asker, Left} = maps:take(Ref, Askers),
    ok = ended(Reason, Asker),
    {noreply, State#state{askers = Left}};
handle_info(_Late, State) ->
    {noreply, State}.

%% Internal

run(Asker) ->
    {Question, Arguments} = py_nif:question(Asker),
    {How, Term} = py_nesting:for_thread(Asker, fun() -> py_callback:run(Question, Arguments) end),
    ok = py_nif:answer(Asker, 0, How, Term).

ended(normal, _Asker) ->
    ok;
%% Somebody killed it: a callback that fails is caught.
ended(Reason, Asker) ->
    {failed, Failure} = py_callback:failure(exit, Reason, []),
    py_nif:answer(Asker, 0, failed, Failure).
