%% SPDX-License-Identifier: Apache-2.0

%% @doc A model of contexts, namespaces, the limit, callbacks and counters, and random
%% commands that have to do the same to both: by four processes, on two contexts, with
%% timeouts, processes that die anywhere, and worker processes that crash.
%%
%% A proper_statem; not declared, so that this compiles, and is skipped, without PropEr.
-module(py_model_SUITE).

-compile([export_all, nowarn_export_all]).

-define(TESTS, 120).
-define(CLIENTS, [1, 2, 3, 4]).
-define(PIDS, py_model_pids).
-define(UNDEFINED, undefined).

suite() ->
    [{timetrap, {seconds, 180}}].

all() ->
    [{group, worker}, {group, shared}, {group, owngil}].

groups() ->
    [{Mode, [does_what_the_model_does]} || Mode <- [worker, shared, owngil]].

init_per_suite(Config) ->
    case py_prop:is_there() of
        true -> Config;
        false -> {skip, "PropEr is not installed (erlang-proper)"}
    end.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    ok = persistent_term:put(?MODULE, Mode),
    py_fixture:init(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

does_what_the_model_does(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Property = py_prop:forall(proper_statem:commands(?MODULE), fun(Commands) ->
        ok = set_up(Dir),
        {History, State, Result} = proper_statem:run_commands(?MODULE, Commands),
        ok = tear_down(),
        proper:whenfail(
            fun() ->
                py_prop:say("last: ~p~nstate: ~p~nresult: ~p~n", [lists:last([none | History]), State, Result])
            end,
            fun() -> proper:aggregate(proper_statem:command_names(Commands), Result =:= ok) end
        )
    end),
    py_prop:check("the model", Property, py_test:times(40, ?TESTS)).

%% --- the model ------------------------------------------------------------------------

%% envs: {Client, Context} => #{x, s}, made at the first request; s is copied then.
-record(model, {
    alive = ?CLIENTS :: [pos_integer()],
    envs = #{} :: #{},
    shared = #{1 => ?UNDEFINED, 2 => ?UNDEFINED} :: #{},
    max = 3 :: pos_integer(),
    held = #{} :: #{},
    callback = ?UNDEFINED :: term(),
    counters = #{} :: #{}
}).

initial_state() ->
    #model{}.

command(#model{alive = []}) ->
    {call, ?MODULE, start, [one_of(?CLIENTS)]};
command(#model{alive = Alive}) ->
    Any = one_of(?CLIENTS),
    Client = one_of(Alive),
    Ctx = one_of([1, 2]),
    Value = proper_types:integer(),
    Key = one_of([<<"a">>, <<"b">>]),
    Language = one_of([erlang, python]),
    proper_types:weighted_union([
        {2, {call, ?MODULE, start, [Any]}},
        {1, {call, ?MODULE, die, [Client]}},
        {6, {call, ?MODULE, set_x, [Client, Ctx, Value]}},
        {8, {call, ?MODULE, get, [Client, Ctx]}},
        {3, {call, ?MODULE, set_shared, [Ctx, Value]}},
        {3, {call, ?MODULE, acquire, [Client]}},
        {3, {call, ?MODULE, release, [Client]}},
        {2, {call, ?MODULE, set_max, [proper_types:integer(1, 4)]}},
        {3, {call, ?MODULE, without_budget, [Client, Ctx]}},
        {3, {call, ?MODULE, register, [Value]}},
        {1, {call, ?MODULE, unregister, []}},
        {8, {call, ?MODULE, call_back, [Client, Ctx, proper_types:integer(1, 5)]}},
        {4, {call, ?MODULE, call_across, [Client, Ctx]}},
        {4, {call, ?MODULE, count, [Client, Language, Key, Value]}},
        {2, {call, ?MODULE, time_out, [Client, Ctx]}},
        {1, {call, ?MODULE, time_out_in_callback, [Client, Ctx]}},
        {1, {call, ?MODULE, die_in_call, [Client, Ctx]}},
        {1, {call, ?MODULE, die_in_callback, [Client, Ctx]}},
        {1, {call, ?MODULE, crash, [Client, Ctx]}}
    ]).

one_of(Values) ->
    proper_types:union([proper_types:exactly(V) || V <- Values]).

precondition(#model{alive = Alive}, {call, _, start, [Client]}) ->
    not lists:member(Client, Alive);
precondition(Model, {call, _, Name, _}) when Name =:= set_shared ->
    has_slot(Model);
precondition(Model = #model{alive = Alive}, {call, _, Name, [Client | _]}) when
    Name =:= die_in_call; Name =:= die_in_callback; Name =:= crash; Name =:= time_out;
    Name =:= time_out_in_callback
->
    lists:member(Client, Alive) andalso has_slot(Model);
precondition(_Model, {call, _, Name, _}) when Name =:= set_max; Name =:= register; Name =:= unregister ->
    true;
precondition(#model{alive = Alive}, {call, _, _, [Client | _]}) ->
    lists:member(Client, Alive).

postcondition(Model, {call, _, get, [Client, Ctx]}, Result) ->
    served(Model, Result, fun() ->
        #{x := X, s := S} = env(Model, Client, Ctx),
        {ok, [py(X), py(S)]}
    end);
postcondition(Model, {call, _, set_x, _}, Result) ->
    served(Model, Result, fun() -> ok end);
postcondition(Model, {call, _, acquire, _}, Result) ->
    Result =:= case has_slot(Model) of true -> ok; false -> {error, max_concurrent} end;
postcondition(Model, {call, _, without_budget, _}, Result) ->
    served(Model, Result, fun() -> {error, timeout} end);
postcondition(Model = #model{callback = Callback}, {call, _, call_back, [Client, Ctx, Depth]}, Result) ->
    #{x := X} = env(Model, Client, Ctx),
    served(Model, Result, fun() ->
        case Callback of
            ?UNDEFINED -> {error, {'CallbackError', "Function 'model' not registered"}};
            _ -> {ok, [Callback, Depth, py(X)]}
        end
    end);
postcondition(Model = #model{callback = Callback}, {call, _, call_across, [Client, Ctx]}, Result) ->
    #{x := X} = env(Model, Client, 3 - Ctx),
    served(Model, Result, fun() ->
        case Callback of
            ?UNDEFINED -> {error, {'CallbackError', "Function 'across' not registered"}};
            _ -> {ok, [Callback, py(X)]}
        end
    end);
postcondition(#model{counters = Counters}, {call, _, count, [_, erlang, Key, N]}, Result) ->
    Result =:= maps:get(Key, Counters, 0) + N;
postcondition(Model = #model{counters = Counters}, {call, _, count, [_, python, Key, N]}, Result) ->
    served(Model, Result, fun() -> {ok, maps:get(Key, Counters, 0) + N} end);
postcondition(_Model, {call, _, Name, _}, Result) when Name =:= time_out; Name =:= time_out_in_callback ->
    Result =:= {error, timeout};
postcondition(_Model, {call, _, crash, _}, Result) ->
    Result =:= {error, worker_died};
postcondition(_Model, {call, _, _, _}, Result) ->
    Result =:= ok.

next_state(Model = #model{alive = Alive}, _, {call, _, start, [Client]}) ->
    Model#model{alive = [Client | Alive]};
next_state(Model, _, {call, _, Name, [Client | _]}) when
    Name =:= die; Name =:= die_in_call; Name =:= die_in_callback
->
    #model{alive = Alive, envs = Envs, held = Held} = Model,
    Model#model{
        alive = lists:delete(Client, Alive),
        envs = maps:filter(fun({C, _}, _) -> C =/= Client end, Envs),
        held = maps:remove(Client, Held)
    };
next_state(Model, _, {call, _, set_x, [Client, Ctx, X]}) ->
    requested(Model, Client, Ctx, fun(Env) -> Env#{x := X} end);
next_state(Model, _, {call, _, call_across, [Client, Ctx]}) ->
    case has_slot(Model) andalso Model#model.callback =/= ?UNDEFINED of
        true -> requested(requested(Model, Client, Ctx), Client, 3 - Ctx);
        false -> requested(Model, Client, Ctx)
    end;
next_state(Model, _, {call, _, Name, [Client, Ctx | _]}) when
    Name =:= get; Name =:= call_back; Name =:= time_out; Name =:= time_out_in_callback
->
    requested(Model, Client, Ctx);
next_state(Model = #model{shared = Shared}, _, {call, _, set_shared, [Ctx, S]}) ->
    Model#model{shared = Shared#{Ctx := S}};
next_state(Model = #model{held = Held}, _, {call, _, acquire, [Client]}) ->
    case has_slot(Model) of
        true -> Model#model{held = Held#{Client => maps:get(Client, Held, 0) + 1}};
        false -> Model
    end;
next_state(Model = #model{held = Held}, _, {call, _, release, [Client]}) ->
    Model#model{held = Held#{Client => max(0, maps:get(Client, Held, 0) - 1)}};
next_state(Model, _, {call, _, set_max, [N]}) ->
    Model#model{max = N};
next_state(Model, _, {call, _, register, [Value]}) ->
    Model#model{callback = Value};
next_state(Model, _, {call, _, unregister, []}) ->
    Model#model{callback = ?UNDEFINED};
next_state(Model = #model{counters = Counters}, _, {call, _, count, [Client, Language, Key, N]}) ->
    case Language =:= erlang orelse has_slot(Model) of
        true ->
            More = Model#model{counters = Counters#{Key => maps:get(Key, Counters, 0) + N}},
            case Language of erlang -> More; python -> requested(More, Client, 1) end;
        false ->
            Model
    end;
next_state(Model, _, {call, _, crash, [_, Ctx]}) ->
    Lost = case persistent_term:get(?MODULE) of worker -> [Ctx]; _ -> [1, 2] end,
    #model{envs = Envs, shared = Shared} = Model,
    Model#model{
        envs = maps:filter(fun({_, C}, _) -> not lists:member(C, Lost) end, Envs),
        shared = maps:map(fun(C, S) -> case lists:member(C, Lost) of true -> ?UNDEFINED; false -> S end end, Shared)
    };
next_state(Model, _, _) ->
    Model.

held(#model{held = Held}) ->
    lists:sum(maps:values(Held)).

has_slot(Model = #model{max = Max}) ->
    held(Model) < Max.

%% What a request gets: what Expected says, unless there is no slot.
served(Model = #model{max = Max}, Result, Expected) ->
    case has_slot(Model) of
        true -> Result =:= Expected();
        false -> Result =:= {error, {overloaded, held(Model), Max}}
    end.

env(#model{envs = Envs, shared = Shared}, Client, Ctx) ->
    maps:get({Client, Ctx}, Envs, #{x => ?UNDEFINED, s => maps:get(Ctx, Shared)}).

requested(Model, Client, Ctx) ->
    requested(Model, Client, Ctx, fun(Env) -> Env end).

%% A request that got a slot has made the namespace.
requested(Model = #model{envs = Envs}, Client, Ctx, Change) ->
    case has_slot(Model) of
        true -> Model#model{envs = Envs#{{Client, Ctx} => Change(env(Model, Client, Ctx))}};
        false -> Model
    end.

py(?UNDEFINED) -> none;
py(X) -> X.

%% --- the system -----------------------------------------------------------------------

-define(LONG_MS, 20000).
-define(SHORT_MS, 25).

set_up(Dir) ->
    ok = persistent_term:put({?MODULE, dir}, Dir),
    %% A test that failed leaves it.
    ets:whereis(?PIDS) =:= undefined orelse ets:delete(?PIDS),
    _ = ets:new(?PIDS, [named_table, public]),
    ok = py_semaphore:set_max_concurrent(3),
    ok = py:state_clear(),
    ok = unregister(),
    Reset = "for n in ('s', 'x'): globals().pop(n, None)",
    lists:foreach(fun(Ctx) -> ok = py_context:exec(Ctx, Reset) end, py_context_router:contexts()),
    lists:foreach(fun(Client) -> ok = start(Client) end, ?CLIENTS).

tear_down() ->
    [py_fixture:end_process(Pid, kill) || {_, Pid} <- ets:tab2list(?PIDS)],
    true = ets:delete(?PIDS),
    ok = py_semaphore:set_max_concurrent(3),
    ok = py_fixture:slots_free(),
    Serve = fun(Ctx) -> {ok, 4.0} = py:call(Ctx, math, sqrt, [16], ?LONG_MS) end,
    lists:foreach(Serve, py_context_router:contexts()).

start(Client) ->
    true = ets:insert(?PIDS, {Client, spawn(fun client/0)}),
    ok.

client() ->
    receive
        {do, From, Ref, Fun} ->
            From ! {Ref, Fun()},
            client()
    end.

%% Runs Fun in the client. Nothing else may be in its mailbox then.
in(Client, Fun) ->
    Pid = ets:lookup_element(?PIDS, Client, 2),
    Ref = make_ref(),
    Checked = fun() ->
        Result = Fun(),
        {messages, []} = process_info(self(), messages),
        Result
    end,
    Pid ! {do, self(), Ref, Checked},
    receive
        {Ref, Result} -> Result
    after 30000 -> {no_answer, Client, process_info(Pid, current_stacktrace)}
    end.

%% PropEr cannot report a command that raises.
attempt(Fun) ->
    try
        Fun()
    catch
        Class:Reason:Stack -> {Class, Reason, Stack}
    end.

die(Client) ->
    attempt(fun() ->
        ok = py_fixture:end_process(ets:lookup_element(?PIDS, Client, 2), kill),
        true = ets:delete(?PIDS, Client),
        %% What it held is free at once, or when its memory is.
        settled()
    end).

%% Its slots have been given back.
settled() ->
    Held = fun() -> case get('$py_slots') of undefined -> 0; Slots -> length(Slots) end end,
    Expected = lists:sum([in(Client, Held) || {Client, _} <- ets:tab2list(?PIDS)]),
    py_test:wait_until(fun() -> py_semaphore:current() =:= Expected orelse ep_nif:slots() end).

%% The least budget that is enough when a slot is free: who has to wait waits in vain.
budget() ->
    {Current, Max, _} = ep_nif:slots(),
    case Current < Max of true -> ?LONG_MS; false -> ?SHORT_MS end.

set_x(Client, Ctx, X) ->
    in(Client, fun() ->
        py:exec(py:context(Ctx), io_lib:format("x = ~b", [X]), #{timeout => budget()})
    end).

get(Client, Ctx) ->
    in(Client, fun() ->
        py:eval(py:context(Ctx), "[globals().get('x'), globals().get('s')]", #{}, budget())
    end).

set_shared(Ctx, S) ->
    py_context:exec(py:context(Ctx), io_lib:format("s = ~b", [S])).

acquire(Client) ->
    in(Client, fun() -> py_semaphore:acquire(0) end).

release(Client) ->
    in(Client, fun() -> py_semaphore:release() end).

set_max(N) ->
    py_semaphore:set_max_concurrent(N).

without_budget(Client, Ctx) ->
    in(Client, fun() -> py_context:eval(py:context(Ctx), "1", #{}, 0) end).

register(Value) ->
    ok = py:register_function(model, fun([Depth, Left]) -> model(Value, Depth, Left) end),
    ok = py:register_function(across, fun([Ctx]) ->
        {ok, X} = py:eval(py:context(Ctx), "globals().get('x')"),
        [Value, X]
    end).

unregister() ->
    ok = py:unregister_function(across),
    ok = py:unregister_function(model).

%% Down to the bottom, which looks at the namespace of the caller.
model(Value, Depth, 1) ->
    {ok, X} = py:eval("globals().get('x')"),
    [Value, Depth, X];
model(_Value, Depth, Left) ->
    {ok, Result} = py:eval("erlang.call('model', d, l)", #{d => Depth, l => Left - 1}),
    Result.

call_back(Client, Ctx, Depth) ->
    in(Client, fun() ->
        py:eval(py:context(Ctx), "erlang.call('model', d, d)", #{d => Depth}, budget())
    end).

call_across(Client, Ctx) ->
    in(Client, fun() ->
        py:eval(py:context(Ctx), "erlang.call('across', c)", #{c => 3 - Ctx}, budget())
    end).

count(Client, erlang, Key, N) ->
    in(Client, fun() -> py:state_incr(Key, N) end);
count(Client, python, Key, N) ->
    in(Client, fun() ->
        py:eval(py:context(1), "erlang.state_incr(k, n)", #{k => Key, n => N}, budget())
    end).

time_out(Client, Ctx) ->
    Mark = mark(),
    in(Client, fun() -> py:call(py:context(Ctx), ep_probe, spin_until_interrupted, [Mark], 60) end).

time_out_in_callback(Client, Ctx) ->
    %% Something that stops by itself: a kill would take the namespaces.
    Mark = mark(),
    ok = py:register_function(late, fun([]) -> py:call(ep_probe, spin_until_interrupted, [Mark]) end),
    in(Client, fun() -> py:eval(py:context(Ctx), "erlang.late()", #{}, 60) end).

die_in_call(Client, Ctx) ->
    Mark = mark(),
    start_in(Client, fun() -> py:call(py:context(Ctx), ep_probe, spin_until_interrupted, [Mark]) end),
    attempt(fun() -> py_test:wait_for_file(Mark) end),
    die(Client).

die_in_callback(Client, Ctx) ->
    Self = self(),
    ok = py:register_function(stay, fun([]) -> Self ! inside, receive never -> ok end end),
    start_in(Client, fun() -> py:eval(py:context(Ctx), "erlang.stay()") end),
    receive inside -> ok end,
    die(Client).

start_in(Client, Fun) ->
    ets:lookup_element(?PIDS, Client, 2) ! {do, self(), make_ref(), Fun}.

crash(Client, Ctx) ->
    Result = in(Client, fun() ->
        case py:call(py:context(Ctx), ep_probe, kill_self, [9]) of
            {error, {worker_died, #{reason := 'SIGKILL', started := true}}} -> {error, worker_died};
            Other -> Other
        end
    end),
    %% The other context of the process may hear of it a little later.
    lists:foreach(fun await_serving/1, py_context_router:contexts()),
    Result.

await_serving(Ctx) ->
    case py_context:eval(Ctx, "1", #{}, ?LONG_MS) of
        {ok, 1} -> ok;
        {error, {worker_died, #{started := false}}} -> await_serving(Ctx)
    end.

mark() ->
    py_test:marker([{priv_dir, persistent_term:get({?MODULE, dir})}], "model").
