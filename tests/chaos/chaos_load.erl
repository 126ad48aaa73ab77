%% SPDX-License-Identifier: Apache-2.0

%% @doc The callers of a storm. What each of them asks for, with which budgets, follows
%% from the seed, its number and how often it died before. Each request goes into the
%% history, and so does every message that nobody asked for.
-module(chaos_load).

-include("chaos.hrl").

-export([register_callbacks/0, start/2, stop/1, kill/2, one_of_each/0]).
-export([request/2, held/3, crash/3]).

-export_type([load/0]).

-opaque load() :: {Manager :: pid(), Callers :: pos_integer()}.

-record(shape, {
    context :: pid() | none,
    %% by the name of its pool, or by nothing, instead of the pid
    by = context :: context | pool | implicit,
    pool = none :: py:pool_name() | none,
    budget = infinity :: timeout(),
    mark = none :: none | file | state,
    ms = 0 :: non_neg_integer(),
    is_limited = false :: boolean()
}).

%% At most, between two requests of a caller.
-define(THINK_MS, 40).
-define(STOP, chaos_stop).
-define(LIMITED, '$chaos_limited').
-define(LAST, '$chaos_last').
-define(ROLE, '$chaos_role').

%% How often each, in proportion.
weights() ->
    [
        {call, 26}, {eval, 10}, {exec, 8}, {cast, 8}, {spawn, 8}, {parallel, 3},
        {nested, 12}, {threads, 5}, {short, 12}, {large, 5}, {state, 3},
        {stream, 6}, {items, 8}, {orphan, 6}, {task, 6}, {task_run, 5}, {gather, 3}, {array, 6}, {messages, 4},
        {channel, 5}, {byte_channel, 4}, {dict, 4}, {buffer, 4}
    ].

%% --- callbacks ----------------------------------------------------------------------------

-spec register_callbacks() -> ok.
register_callbacks() ->
    ok = py:register_function(chaos_nested, fun nested/1),
    ok = py:register_function(chaos_thread, fun thread/1),
    ok = py:register_function(chaos_tick, fun([Id]) -> chaos_history:event({callback_end, Id}), chaos_history:f(Id) end),
    ok.

%% Ends below itself, on the same context or another.
nested([Id, 0, _Seed]) ->
    ok = chaos_history:event({callback_end, Id}),
    {ok, chaos_history:f(Id)};
nested([Id, Depth, Seed]) ->
    Outcome = inner(Depth, Seed),
    ok = chaos_history:event({callback_end, Id}),
    case Outcome of
        {ok, _, _} -> {ok, chaos_history:f(Id)};
        Other -> {inner, print(Other)}
    end.

inner(Depth, Seed) ->
    Rand = rand:seed_s(exsss, Seed),
    Keys = chaos_targets:keys(),
    {N, Rand1} = rand:uniform_s(2 * length(Keys), Rand),
    {Mark, _} = pick([none, file, state], Rand1),
    %% Half of them name no context: they go to the one that asked.
    Shape =
        case N =< length(Keys) of
            true -> #shape{context = chaos_targets:context(lists:nth(N, Keys)), mark = Mark};
            false -> #shape{context = none, by = implicit, mark = Mark}
        end,
    nest(Shape, Depth - 1, Seed + 1).

thread([Id, K]) ->
    put(?ROLE, helper),
    case K rem 3 of
        0 -> _ = nest(#shape{context = none, by = implicit, mark = state}, 0, Id);
        _ -> ok
    end,
    chaos_history:f(Id) + K.

print(Term) ->
    unicode:characters_to_binary(io_lib:format("~0p", [Term], [{chars_limit, 200}])).

%% --- callers ------------------------------------------------------------------------------

-spec start(pos_integer(), integer()) -> load().
start(Callers, Seed) ->
    Stop = atomics:new(1, []),
    ok = persistent_term:put(?STOP, Stop),
    Manager = spawn_link(fun() ->
        Running = maps:from_list([start_caller(I, 0, Seed) || I <- lists:seq(1, Callers)]),
        manage(Running, Seed, erlang:send_after(100, self(), look))
    end),
    {Manager, Callers}.

%% @doc Ends the callers; those that wait have as long as any request may take.
-spec stop(load()) -> ok.
stop({Manager, _}) ->
    ok = atomics:put(persistent_term:get(?STOP), 1, 1),
    Ref = monitor(process, Manager),
    receive
        {'DOWN', Ref, process, Manager, normal} -> persistent_term:erase(?STOP)
    end,
    ok.

%% @doc Kills a caller, whatever it does.
-spec kill(load(), non_neg_integer()) -> ok.
kill({Manager, Callers}, N) ->
    Manager ! {kill, N rem Callers + 1},
    ok.

%% @doc Makes each kind of request once on each context, so that what is made at first use
%% is there.
-spec one_of_each() -> ok.
one_of_each() ->
    [
        run(Kind, #shape{context = chaos_targets:context(Key), pool = chaos_targets:pool(Key), mark = state}, 7)
     || Key <- chaos_targets:keys(), {Kind, _} <- weights()
    ],
    ok.

start_caller(I, Lives, Seed) ->
    {Pid, _} = spawn_monitor(fun() -> caller(rand:seed_s(exsss, {Seed, I, Lives})) end),
    {Pid, {I, Lives}}.

manage(Running, _Seed, Timer) when map_size(Running) =:= 0 ->
    _ = erlang:cancel_timer(Timer),
    ok;
manage(Running, Seed, Timer) ->
    receive
        {kill, I} ->
            [ok = end_caller(Pid) || {Pid, {J, _}} <- maps:to_list(Running), I =:= J],
            manage(Running, Seed, Timer);
        look ->
            _ = [overdue(Id, Pid) || {Id, Pid} <- chaos_history:overdue(chaos_history:now_ns())],
            manage(Running, Seed, erlang:send_after(100, self(), look));
        {'DOWN', _, process, Pid, Reason} when is_map_key(Pid, Running) ->
            {{I, Lives}, Left} = maps:take(Pid, Running),
            %% A caller checks what it gets; it has no other way to fail.
            Reason =:= normal orelse Reason =:= killed orelse
                chaos_report:check("callers end only when they are killed", false, Reason),
            case must_stop() of
                true ->
                    manage(Left, Seed, Timer);
                false ->
                    {New, Who} = start_caller(I, Lives + 1, Seed),
                    manage(Left#{New => Who}, Seed, Timer)
            end
    end.

%% What does not end is noted, and ended, so that the storm goes on.
overdue(Id, Pid) ->
    case process_info(Pid, current_stacktrace) of
        undefined ->
            %% Killed on purpose, or the history lacks an outcome.
            chaos_history:forget(Id);
        {current_stacktrace, Stack} ->
            io:format("hanging: request ~b of ~p: ~tp~n", [Id, Pid, Stack]),
            ok = chaos_history:outcome(Id, hanging),
            end_caller(Pid)
    end.

end_caller(Pid) ->
    ok = chaos_history:event({caller_dead, Pid}),
    true = exit(Pid, kill),
    ok.

must_stop() ->
    atomics:get(persistent_term:get(?STOP), 1) =:= 1.

caller(Rand) ->
    case must_stop() of
        true ->
            ok;
        false ->
            Next = one(Rand),
            ok = look_for_strays(),
            caller(Next)
    end.

one(Rand0) ->
    {Kind, Rand1} = weighted(weights(), Rand0),
    {Key, Rand2} = pick(chaos_targets:keys(), Rand1),
    {By, Rand3} = pick([context, context, context, pool, implicit], Rand2),
    {Budget, Rand4} = budget(Kind, Rand3),
    {Mark, Rand5} = pick([none, file, state], Rand4),
    {Ms, Rand6} = pick([0, 0, 0, 1, 2, 3, 4, 9], Rand5),
    {Number, Rand7} = rand:uniform_s(1 bsl 40, Rand6),
    {Pause, Rand8} = rand:uniform_s(?THINK_MS, Rand7),
    Shape = #shape{
        context = chaos_targets:context(Key), by = by(By, chaos_targets:pool(Key)),
        pool = chaos_targets:pool(Key), budget = Budget, mark = Mark,
        ms = case Kind of short -> Number rem 120; _ -> Ms end
    },
    _ = run(Kind, Shape, Number),
    receive after Pause -> ok end,
    Rand8.

by(pool, none) -> context;
by(By, _) -> By.

budget(short, Rand) ->
    rand:uniform_s(100, Rand);
budget(_Kind, Rand) ->
    case rand:uniform_s(5, Rand) of
        {1, Next} -> rand:uniform_s(100, Next);
        {_, Next} -> {infinity, Next}
    end.

weighted(Weights, Rand) ->
    {N, Next} = rand:uniform_s(lists:sum([W || {_, W} <- Weights]), Rand),
    {nth_weight(N, Weights), Next}.

nth_weight(N, [{Kind, Weight} | _]) when N =< Weight -> Kind;
nth_weight(N, [{_, Weight} | Rest]) -> nth_weight(N - Weight, Rest).

pick(List, Rand) ->
    {N, Next} = rand:uniform_s(length(List), Rand),
    {lists:nth(N, List), Next}.

look_for_strays() ->
    receive
        Message ->
            ok = chaos_history:event({stray, self(), {Message, get(?LAST)}}),
            look_for_strays()
    after 0 -> ok
    end.

%% --- kinds of request -----------------------------------------------------------------------

run(Kind, Shape = #shape{ms = Ms}, _Number) when Kind =:= call; Kind =:= short ->
    simple(Kind, Shape, fun(Id, How) -> on(Shape, work, [Id, How, Ms]) end);
run(nested, Shape, Number) ->
    nest(Shape, 1 + Number rem 4, Number);
run(threads, Shape, Number) ->
    simple(threads, Shape, fun(Id, How) -> on(Shape, threads, [Id, How, 1 + Number rem 5]) end);
run(state, Shape, _Number) ->
    simple(state, Shape#shape{mark = state}, fun(Id, How) -> on(Shape, work, [Id, How, 0]) end);
run(eval, Shape = #shape{ms = Ms, budget = Budget}, _Number) ->
    Code = <<"__import__('ep_chaos').work(i, how, ms)">>,
    simple(eval, at_context(Shape), fun(Id, How) ->
        Locals = #{i => Id, how => How, ms => Ms},
        case at_context(Shape) of
            #shape{by = implicit} -> py:eval(Code, Locals, Budget);
            #shape{context = Ctx} -> py:eval(Ctx, Code, Locals, Budget)
        end
    end);
run(exec, Shape = #shape{budget = Budget}, _Number) ->
    simple(exec, at_context(Shape), fun(Id, How) ->
        %% The namespace of the caller has a tag, by which it is found if it outlives it.
        Code = io_lib:format("ep_tag = 'chaos'~nimport ep_chaos~nep_chaos.work(~b, '~s', 0)~n", [Id, How]),
        case at_context(Shape) of
            #shape{by = implicit} -> py:exec(Code, #{timeout => Budget});
            #shape{context = Ctx} -> py:exec(Ctx, Code, #{timeout => Budget})
        end
    end);
run(cast, Shape = #shape{ms = Ms}, _Number) ->
    {Id, How} = open(cast, Shape#shape{budget = infinity}),
    try
        case Shape of
            #shape{by = implicit} -> py:cast(ep_chaos, work, [Id, How, Ms]);
            _ -> py:cast(target(Shape), ep_chaos, work, [Id, How, Ms])
        end
    catch
        error:badarg -> ok
    end;
run(spawn, Shape = #shape{ms = Ms}, Number) ->
    simple(spawn, Shape#shape{budget = infinity, is_limited = true}, fun(Id, How) ->
        Ref =
            case Shape of
                #shape{by = implicit} -> py:spawn_call(ep_chaos, work, [Id, How, Ms]);
                _ -> py:spawn_call(target(Shape), ep_chaos, work, [Id, How, Ms])
            end,
        await(Ref, Number rem 7)
    end);
run(parallel, Shape, Number) ->
    Items = [open(parallel, Shape#shape{context = none, by = implicit, budget = 30000}) || _ <- lists:seq(1, 1 + Number rem 4)],
    Results =
        try
            {ok, L} = py:parallel([{ep_chaos, work, [Id, How, Number rem 5]} || {Id, How} <- Items]),
            L
        catch
            Class:Reason -> [{raised, Class, Reason} || _ <- Items]
        end,
    [chaos_history:outcome(Id, normal(Result, value)) || {{Id, _}, Result} <- lists:zip(Items, Results)],
    ok;
run(items, Shape, Number) ->
    %% What is cancelled may not have begun.
    Marked = case chaos_beside:is_cancelled(Number) of true -> Shape#shape{mark = none}; false -> Shape end,
    beside(items, Marked, fun(Id, How) -> chaos_beside:items(Id, How, Number) end);
run(Kind, Shape, Number) when Kind =:= stream; Kind =:= task; Kind =:= gather ->
    beside(Kind, Shape, fun(Id, How) -> chaos_beside:Kind(Id, How, Number) end);
run(task_run, Shape, Number) ->
    Budget = 1 + Number rem 60,
    beside(task_run, Shape, fun(Id, How) -> chaos_beside:run(Id, How, Budget, Number) end, Budget);
run(orphan, Shape, Number) ->
    {Id, How} = open(orphan, Shape#shape{by = implicit, budget = infinity}),
    chaos_beside:orphan(Id, How, Number);
run(array, Shape, Number) ->
    simple(array, Shape, fun(Id, How) ->
        (chaos_beside:array(Id, How, Number))(fun(Args) -> on(Shape, array, Args) end)
    end);
run(messages, Shape, Number) ->
    simple(messages, Shape, fun(Id, How) ->
        (chaos_beside:messages(Id, How, Number))(fun(Args) -> on(Shape, sends, Args) end)
    end);
run(channel, Shape, Number) ->
    chaos_shared:channel(Number, fun(Ask) ->
        simple(channel, Shape, fun(Id, How) -> Ask(Id, How, fun(Function, Args) -> on(Shape, Function, Args) end) end)
    end);
run(Kind, Shape, Number) when Kind =:= byte_channel; Kind =:= dict; Kind =:= buffer ->
    simple(Kind, Shape, fun(Id, How) ->
        chaos_shared:Kind(Id, How, Number, fun(Function, Args) -> on(Shape, Function, Args) end)
    end);
run(large, Shape, Number) ->
    %% Around the sizes where the way of a payload changes, up to 3 MiB.
    Sizes = [190, 200, 32700, 32800, 65600, 1 bsl 20, 3 bsl 20],
    Size = lists:nth(1 + Number rem length(Sizes), Sizes) + Number rem 16,
    Data = binary:part(binary:copy(<<Number:64, 16#FF>>, Size div 9 + 1), 0, Size),
    Expected = {bytes, Size, erlang:md5(reverse(Data))},
    {Id, How} = open(large, Shape, Expected),
    close(Id, Shape, fun() -> on(Shape, reverse, [Id, How, {bytes, Data}]) end, bytes).

%% What names no context goes to the one that the caller is bound to.
beside(Kind, Shape, Fun) ->
    beside(Kind, Shape, Fun, infinity).

beside(Kind, Shape = #shape{by = context, context = Ctx}, Fun, Budget) when is_pid(Ctx) ->
    simple(Kind, Shape#shape{budget = Budget}, fun(Id, How) ->
        try py_context_router:bind_context(Ctx) of
            ok -> Fun(Id, How)
        catch
            %% It had ended before it was asked.
            error:badarg -> {error, {context_died, noproc}}
        after
            ok = py_context_router:unbind_context()
        end
    end);
beside(Kind, Shape, Fun, Budget) ->
    simple(Kind, Shape#shape{context = none, by = implicit, budget = Budget}, Fun).

nest(Shape, Depth, Seed) ->
    simple(nested, Shape, fun(Id, How) -> on(Shape, nested, [Id, How, Depth, Seed]) end).

%% Waits in slices; the same answer is there later.
await(Ref, 0) ->
    py:await(Ref, infinity);
await(Ref, Ms) ->
    case py:await(Ref, Ms) of
        {error, timeout} -> py:await(Ref, infinity);
        Answer -> Answer
    end.

%% By context, name of a pool or nothing.
on(#shape{by = implicit, budget = Budget}, Function, Args) ->
    py:call(ep_chaos, Function, Args, #{}, Budget);
on(Shape = #shape{budget = Budget}, Function, Args) ->
    py:call(target(Shape), ep_chaos, Function, Args, #{}, Budget).

target(#shape{by = pool, pool = Pool}) -> Pool;
target(#shape{context = none}) -> error(badarg);
target(#shape{context = Ctx}) -> Ctx.

at_context(Shape = #shape{by = pool}) -> Shape#shape{by = context};
at_context(Shape = #shape{context = none}) -> Shape#shape{by = implicit};
at_context(Shape) -> Shape.

%% --- one request ------------------------------------------------------------------------------

simple(Kind, Shape, Fun) ->
    {Id, How} = open(Kind, Shape),
    close(Id, Shape, fun() -> Fun(Id, How) end, case Kind of exec -> none; _ -> value end).

open(Kind, Shape) ->
    open(Kind, Shape, default).

open(Kind, Shape = #shape{by = By, context = Ctx, budget = Budget, mark = Mark}, Expected) ->
    Id = chaos_history:next_id(),
    ok = chaos_history:invoke(#request{
        id = Id,
        role = get_or(?ROLE, caller),
        kind = Kind,
        context = case By =:= context andalso is_pid(Ctx) of true -> Ctx; false -> undefined end,
        budget = Budget,
        is_limited = Shape#shape.is_limited orelse get_or(?LIMITED, false),
        mark = Mark,
        expected =
            case {Expected, Kind} of
                {default, exec} -> none;
                {default, _} -> chaos_history:f(Id);
                _ -> Expected
            end
    }),
    _ = put(?LAST, [Id | lists:sublist(get_or(?LAST, []), 5)]),
    {Id, Mark}.

get_or(Key, Default) ->
    case get(Key) of
        undefined -> Default;
        Value -> Value
    end.

%% What is asked within a callback of a request with a budget ends with it.
close(Id, #shape{budget = Budget}, Fun, What) ->
    Outer = put(?LIMITED, get_or(?LIMITED, false) orelse Budget =/= infinity),
    Outcome =
        try
            normal(Fun(), What)
        catch
            Class:Reason -> {raised, Class, Reason}
        end,
    _ = put(?LIMITED, Outer =:= true),
    ok = chaos_history:outcome(Id, Outcome),
    Outcome.

normal(ok, none) -> {ok, none, undefined};
normal({ok, [<<"ok">>, Bin, OsPid]}, bytes) when is_binary(Bin) -> {ok, {bytes, byte_size(Bin), erlang:md5(Bin)}, OsPid};
normal({ok, [<<"ok">>, Value, OsPid]}, value) -> {ok, Value, OsPid};
normal({ok, [<<"inner">>, Text]}, _) -> {inner, Text};
normal({error, Reason}, _) -> {error, Reason};
normal({raised, _, _} = Raised, _) -> Raised;
normal(Other, _) -> {error, {no_result, Other}}.

%% By pieces: integers have a limit, of 4 Mbit from OTP 26 on.
reverse(Bin) ->
    iolist_to_binary(reverse(Bin, [])).

reverse(<<Piece:1024/binary, Rest/binary>>, Acc) ->
    reverse(Rest, [reverse_piece(Piece) | Acc]);
reverse(Piece, Acc) ->
    [reverse_piece(Piece) | Acc].

reverse_piece(Piece) ->
    Size = byte_size(Piece) * 8,
    <<N:Size/little>> = Piece,
    <<N:Size/big>>.

%% --- for the nemesis --------------------------------------------------------------------------

%% @doc One request of a kind on a context; its outcome.
-spec request(atom(), pid()) -> outcome().
request(Kind, Ctx) ->
    run(Kind, #shape{context = Ctx, mark = state}, 3).

%% @doc Callbacks one after the other for so many milliseconds.
-spec held(pid(), pos_integer(), boolean()) -> outcome().
held(Ctx, Ms, InThread) ->
    Shape = #shape{context = Ctx, mark = file},
    Kind = case InThread of true -> threads; false -> nested end,
    simple(Kind, Shape, fun(Id, How) -> on(Shape, ticks, [Id, How, Ms, InThread]) end).

%% @doc A request that ends its process.
-spec crash(pid(), segv | exit | abort, none | file | state) -> outcome().
crash(Ctx, Way, Mark) ->
    Shape = #shape{context = Ctx, mark = Mark},
    simple(crash, Shape, fun(Id, How) -> on(Shape, die, [Id, How, Way]) end).
