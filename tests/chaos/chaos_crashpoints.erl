%% SPDX-License-Identifier: Apache-2.0

%% @doc make crashpoints: a worker process ends at each named step of each kind of request.
%% The caller has one outcome, and the right one: a value if and only if the reply was
%% published, `started' if and only if the slot was given back; then the context serves.
-module(chaos_crashpoints).

-export([main/0]).

%% For the outcome of a request, and until the context serves again.
-define(LIMIT_MS, 8000).
-define(FIRED_MS, 400).
-define(LOOK_MS, 1).
-define(KILL_AFTER_MS, 200).
%% Of a request whose process is stopped.
-define(BUDGET_MS, 150).

-record(run, {
    page :: chaos_page:page(),
    dir :: file:filename(),
    mode :: py:context_mode(),
    context :: pid() | undefined
}).

%% What a request came to: its outcome, how many messages its lane publishes for it, and
%% whether it left a mark.
-record(result, {
    outcome :: term(),
    messages = 1 :: non_neg_integer(),
    id = none :: none | pos_integer(),
    took_ms = 0 :: non_neg_integer(),
    %% what is wrong with what is left, asked once the context serves again
    rest = fun() -> [] end :: fun(() -> [{atom(), term()}])
}).

-spec main() -> no_return().
main() ->
    ok = chaos_report:create(),
    ok = logger:set_primary_config(level, none),
    Dir = chaos:directory(),
    Page = chaos_page:create(filename:join(Dir, "page")),
    ok = persistent_term:put(?MODULE, atomics:new(1, [])),
    _ = application:load(erlang_python),
    Env = [{num_contexts, 1}, {kill_after, ?KILL_AFTER_MS}, {max_concurrent, 10000}],
    [ok = application:set_env(erlang_python, K, V) || {K, V} <- Env],
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = register_callbacks(),
    Modes = [worker] ++ [owngil || py:subinterp_supported()],
    Fired = lists:append([
        matrix(#run{page = Page, dir = Dir, mode = Mode}) || Mode <- Modes
    ]),
    Missing = chaos_page:points() -- Fired,
    Reached = not is_whole() orelse chaos_report:check("every point ended a process", Missing =:= [], Missing),
    io:format("~b points, ~b of them ended a process~n", [length(chaos_page:points()), length(lists:usort(Fired))]),
    ok = application:stop(erlang_python),
    ok = chaos_page:delete(Page),
    ok = file:del_dir_r(Dir),
    halt(case chaos_report:finish() andalso Reached of true -> 0; false -> 1 end).

%% Internal

%% KINDS="import leave" in the environment: these only.
kinds() ->
    Kinds = [
        call, eval, exec, cast, import, nested, threads, letters, task, awaited, task_stop, big_argument, big_result, big_answer,
        overdue, overdue_spinning, overdue_callback, maintain, env_drop, start, fork, forked, stop, leave
        | chaos_crash_objects:kinds()
    ],
    case os:getenv("KINDS", "") of
        "" -> Kinds;
        Names -> [Kind || Kind <- Kinds, lists:member(atom_to_list(Kind), string:lexemes(Names, " "))]
    end.

is_whole() ->
    {os:getenv("PART", "1"), os:getenv("KINDS", "")} =:= {"1", ""}.

register_callbacks() ->
    ok = py:register_function(chaos_nested, fun nested/1),
    ok = py:register_function(chaos_thread, fun([Id, K]) ->
        _ = py:call(builtins, abs, [-1]),
        chaos_history:f(Id) + K
    end).

nested([Id, 0, _]) ->
    {ok, chaos_history:f(Id), binary:copy(<<1>>, 100000)};
nested([Id, 2, _]) ->
    receive after 4 * ?BUDGET_MS -> ok end,
    {ok, chaos_history:f(Id)};
nested([Id, _, _]) ->
    case py:call(builtins, abs, [-1]) of
        {ok, 1} -> {ok, chaos_history:f(Id)};
        {error, Reason} -> {inner, iolist_to_binary(io_lib:format("~0p", [Reason]))}
    end.

matrix(Run0 = #run{mode = Mode}) ->
    Run = Run0#run{context = new_context(Mode)},
    %% What Python does once only is done.
    _ = [traced(Kind, Run) || Kind <- kinds()],
    Cases = lists:append([cases(Kind, traced(Kind, Run)) || Kind <- kinds()]),
    Chosen = choose(Cases, Mode),
    io:format("~s: ~b of ~b cases~n", [Mode, length(Chosen), length(Cases)]),
    Fired = [one(Case, Run) || Case <- Chosen],
    ok = py_context:stop(Run#run.context),
    [Point || Point <- Fired, Point =/= none].

new_context(Mode) ->
    {ok, Ctx} = py_context:start_link(crash, Mode, #{own_process => true, kill_after => ?KILL_AFTER_MS}),
    true = unlink(Ctx),
    {ok, _} = py:call(Ctx, ep_chaos, monotonic_ns, [], #{}, infinity),
    Ctx.

%% The points that a kind of request meets, and how often.
traced(Kind, Run = #run{page = Page}) ->
    OsPid = quiet(Run),
    ok = chaos_page:arm(Page, case pid_for(Kind) of own -> OsPid; any -> 0 end, <<"nothing">>, 0, none),
    #result{rest = Rest} = within(fun() -> request(Kind, Run, infinity) end),
    %% What comes after the reply.
    [] = Rest(),
    {ok, 1} = py:call(Run#run.context, builtins, abs, [-1], #{}, ?LIMIT_MS),
    #{hits := Hits} = chaos_page:read(Page),
    ok = chaos_page:disarm(Page),
    maps:to_list(Hits).

%% These have a process of their own, which is not known before.
pid_for(Kind) when Kind =:= start; Kind =:= fork; Kind =:= forked; Kind =:= stop; Kind =:= leave; Kind =:= task_stop -> any;
pid_for(_Kind) -> own.

%% The process, once it has done everything that follows its last reply, and sleeps. That it sleeps counts only
%% after that reply: it may have slept before the request came.
quiet(Run = #run{context = Ctx, page = Page}) ->
    {ok, OsPid} = py:call(Ctx, os, getpid, [], #{}, ?LIMIT_MS),
    ok = chaos_page:arm(Page, OsPid, <<"nothing">>, 0, none),
    case py:call(Ctx, os, getpid, [], #{}, ?LIMIT_MS) of
        {ok, OsPid} ->
            [] = py_test:settle(
                fun() -> case chaos_page:read(Page) of #{is_resting := true} -> []; _ -> [still] end end, ?LIMIT_MS
            ),
            OsPid;
        {ok, _Another} ->
            quiet(Run)
    end.

%% Zygotes, and what they fork before that is a worker, are killed when they are stopped.
is_dispensable(Point) ->
    lists:member(Point, [<<"zygote.asked">>, <<"zygote.forked">>, <<"zygote.known">>]).

%% What is stopped goes on after its caller has lost patience, however late it was stopped.
go_on_later(Page) ->
    spawn_monitor(fun() ->
        OsPid = await_fired(Page, infinity),
        receive after 2 * ?BUDGET_MS -> ok end,
        os:cmd("kill -CONT " ++ integer_to_list(OsPid) ++ " 2>/dev/null")
    end).

went_on(0, {Pid, Ref}) ->
    true = exit(Pid, kill),
    went_on(Ref);
went_on(_Fired, {_Pid, Ref}) ->
    went_on(Ref).

went_on(Ref) ->
    receive {'DOWN', Ref, process, _, _} -> ok end.

cases(Kind, Hits) ->
    [{Kind, Point, 1, Action} || {Point, _} <- Hits, Action <- actions(Point)] ++
        [{Kind, Point, 2, kill9} || {Point, N} <- Hits, N > 1] ++
        [{Kind, Point, 3, kill9} || {Point, N} <- Hits, N > 2].

%% The VM can only kill it, or stop it.
actions(<<"vm.", _/binary>>) -> [kill9, stop];
actions(_Point) -> [kill9, segv, exit0, abort, stop].

%% One in PART, another one for each seed; of the second mode one in four of those.
choose(Cases, Mode) ->
    Part = list_to_integer(os:getenv("PART", "1")) * case Mode of worker -> 1; owngil -> 4 end,
    Seed = list_to_integer(os:getenv("SEED", "1")),
    [Case || Case <- Cases, (erlang:phash2(Case, 1 bsl 27) + Seed) rem Part =:= 0].

within(Fun) ->
    {Pid, Ref} = spawn_monitor(fun() ->
        Start = erlang:monotonic_time(millisecond),
        Result = Fun(),
        Took = erlang:monotonic_time(millisecond) - Start,
        {messages, Messages} = process_info(self(), messages),
        exit({result, Result#result{took_ms = Took}, Messages})
    end),
    receive
        {'DOWN', Ref, process, Pid, {result, Result, []}} -> Result;
        {'DOWN', Ref, process, Pid, Other} -> #result{outcome = {ended, Other}}
    after ?LIMIT_MS ->
        Stack = process_info(Pid, current_stacktrace),
        true = exit(Pid, kill),
        receive
            {'DOWN', Ref, process, Pid, _} -> #result{outcome = {hanging, Stack}}
        end
    end.

%% --- one case ---------------------------------------------------------------------------

one(Case, Run) ->
    {Name, Fired, Wrong0, More} = tried(Case, Run),
    %% All terms of it are garbage by now.
    Wrong = Wrong0 ++ chaos_crash_objects:left(),
    true = chaos_report:check(Name, Wrong =:= [], {Wrong, More}) orelse true,
    case Fired of
        0 -> none;
        _ -> element(2, Case)
    end.

tried(Case = {Kind, Point, Nth, Action}, Run = #run{page = Page}) ->
    ok = clear_marks(Run),
    Before = quiet(Run),
    ok = chaos_page:arm(Page, case pid_for(Kind) of own -> Before; any -> 0 end, Point, Nth, Action),
    Budget = case Action of stop -> ?BUDGET_MS; _ -> infinity end,
    Other = [go_on_later(Page) || Action =:= stop, not is_dispensable(Point)],
    Result = within(fun() -> request(Kind, Run, Budget) end),
    Fired = await_fired(Page, erlang:monotonic_time(millisecond) + ?FIRED_MS),
    [ok = went_on(Fired, Process) || Process <- Other],
    Seen = chaos_page:read(Page),
    ok = chaos_page:disarm(Page),
    Serves = serves(Run#run.context, case Action of stop -> none; _ -> Fired end),
    Rest = (Result#result.rest)(),
    Name = io_lib:format("~s: ~s at ~s (~b), ~s", [Run#run.mode, Kind, Point, Nth, Action]),
    Plain = {Result#result.outcome, Result#result.id, Result#result.took_ms},
    Wrong = [
        {What, Detail}
     || {What, false, Detail} <- [
            {outcome, is_right(Case, Result, Seen, Fired, Run), Plain},
            {serves_again, Serves =:= ok, Serves},
            {rest, Rest =:= [], Rest},
            {slots, slots_free(), ep_nif:slots()}
        ]
    ],
    {Name, Fired, Wrong, {maps:remove(hits, Seen), Before}}.

clear_marks(#run{dir = Dir}) ->
    [
        case file:open(filename:join(Dir, Name), [write]) of
            {ok, File} -> ok = file:close(File)
        end
     || Name <- ["begun", "got"]
    ],
    ok.

%% A point behind the reply is met after the caller has it; some are met only now and then.
await_fired(Page, Deadline) ->
    #{fired := Fired} = chaos_page:read(Page),
    case Fired =:= 0 andalso erlang:monotonic_time(millisecond) < Deadline of
        true ->
            receive after ?LOOK_MS -> ok end,
            await_fired(Page, Deadline);
        false ->
            Fired
    end.

serves(Ctx, Dead) ->
    serves(Ctx, Dead, erlang:monotonic_time(millisecond) + ?LIMIT_MS).

serves(Ctx, Dead, Deadline) ->
    case py:call(Ctx, os, getpid, [], #{}, 1000) of
        {ok, OsPid} when OsPid =/= Dead ->
            ok;
        Other ->
            case erlang:monotonic_time(millisecond) < Deadline of
                true ->
                    receive after ?LOOK_MS -> ok end,
                    serves(Ctx, Dead, Deadline);
                false ->
                    Other
            end
    end.

slots_free() ->
    [] =:= py_test:settle(fun() -> case ep_nif:slots() of {0, _, 0} -> []; Other -> [Other] end end, 1000).

%% --- what is right ------------------------------------------------------------------------

%% Only an answer, in time, without a message beside it.
is_right(_Case, #result{outcome = {hanging, _}}, _Seen, _Fired, _Run) -> false;
is_right(_Case, #result{outcome = {ended, _}}, _Seen, _Fired, _Run) -> false;
is_right({cast, _, _, _}, #result{outcome = ok, id = Id}, _Seen, _Fired, Run) -> begun(Id, Run) =< 1;
%% What ends a zygote, or what it forks before that is a worker, costs a start nothing but time.
is_right({Fork, <<"zygote.", _/binary>>, _, _}, #result{outcome = Outcome}, _Seen, _Fired, _Run) when
    Fork =:= fork; Fork =:= forked
->
    Outcome =:= ok;
is_right({Start, _, _, _}, #result{outcome = Outcome}, _Seen, Fired, _Run) when
    Start =:= start; Start =:= fork; Start =:= forked
->
    Outcome =:= ok orelse (Fired =/= 0 andalso is_failed_start(Outcome));
is_right({Kind, _, _, _}, #result{outcome = Outcome}, _Seen, _Fired, _Run) when
    Kind =:= stop; Kind =:= leave; Kind =:= task_stop
->
    Outcome =:= ok;
is_right({maintain, _, _, _}, #result{outcome = Outcome}, _Seen, Fired, _Run) ->
    is_ok(Outcome) orelse Fired =/= 0 andalso element(1, Outcome) =:= error;
is_right({env_drop, _, _, Action}, Result = #result{outcome = Outcome}, _Seen, Fired, _Run) ->
    is_ok(Outcome) orelse is_death(Outcome, Action, Fired) orelse Action =:= stop andalso is_timeout(Result);
is_right({Kind, _, _, Action}, #result{outcome = Outcome, id = Id}, Seen, Fired, Run) when
    Kind =:= overdue; Kind =:= overdue_spinning; Kind =:= overdue_callback
->
    begun(Id, Run) =< 1 andalso
        (Outcome =:= {error, timeout} orelse is_death(Outcome, Action, Fired) andalso is_started(Outcome, Seen));
%% On a busy machine it may be out of time before it comes to the point.
is_right({_, _, _, stop}, Result = #result{outcome = Outcome, id = Id}, _Seen, _Fired, Run) ->
    begun(Id, Run) =< 1 andalso (is_ok(Outcome) orelse is_timeout(Result));
%% A task counts as started from the moment when it is sent.
is_right({Kind, _, _, Action}, #result{outcome = Outcome, id = Id}, _Seen, Fired, Run) when
    Kind =:= task; Kind =:= awaited
->
    begun(Id, Run) =< 1 andalso (is_ok(Outcome) orelse is_death(Outcome, Action, Fired));
%% How often the sender asks about its receiver depends on the time.
is_right({letters, _, _, Action}, #result{outcome = Outcome, id = Id}, Seen, Fired, Run) ->
    begun(Id, Run) =< 1 andalso
        (is_ok(Outcome) orelse is_death(Outcome, Action, Fired) andalso is_started(Outcome, Seen));
is_right({Kind, Point, _, Action}, Result = #result{outcome = Outcome, id = Id}, Seen, Fired, Run) ->
    IsByVm = string:prefix(Point, "vm.") =/= nomatch,
    case lists:member(Kind, chaos_crash_objects:kinds()) of
        true when IsByVm; Kind =/= array, Kind =/= hold ->
            IsLoose = IsByVm orelse Kind =:= channel_task,
            is_right_of_object(IsLoose, Outcome, begun(Id, Run), Action, Seen, Fired);
        _ ->
            is_right_to_the_message(Action, Result, Seen, Fired, Run)
    end.

%% How many questions a reader asks depends on the time. What the VM ends before the request is there has not begun, and
%% may run in the next process; a task counts as started from the moment when it is sent.
is_right_of_object(IsLoose, Outcome, Begun, Action, Seen, Fired) ->
    case is_ok(Outcome) of
        true ->
            Begun =:= 1;
        false ->
            is_death(Outcome, Action, Fired) andalso Begun =< 1 andalso (Begun =:= 0 orelse has_started(Outcome)) andalso
                (IsLoose orelse is_started(Outcome, Seen))
    end.

is_right_to_the_message(Action, Result = #result{outcome = Outcome, id = Id}, Seen, Fired, Run) ->
    #{committed := Committed} = Seen,
    Begun = begun(Id, Run),
    case Committed >= Result#result.messages of
        true ->
            is_ok(Outcome) andalso Begun =:= 1;
        false ->
            is_death(Outcome, Action, Fired) andalso is_started(Outcome, Seen) andalso
                (Begun =:= 0 orelse Begun =:= 1 andalso has_started(Outcome))
    end.

is_ok(ok) -> true;
is_ok({ok, _}) -> true;
is_ok(_) -> false.

is_timeout(#result{outcome = Outcome, took_ms = Ms}) ->
    Outcome =:= {error, timeout} andalso Ms + 1 >= ?BUDGET_MS.

is_failed_start({error, {worker_unavailable, _}}) -> true;
is_failed_start({error, {start_failed, _}}) -> true;
is_failed_start({error, timeout}) -> true;
%% While a request of its own preloaded.
is_failed_start({error, {worker_died, _}}) -> true;
is_failed_start(_) -> false.

is_death({error, {worker_died, #{os_pid := OsPid, reason := Reason, started := _}}}, Action, Fired) ->
    OsPid =:= Fired andalso lists:member(Reason, [reason(Action) | [kill_after || Action =:= stop]]);
is_death(_, _, _) ->
    false.

reason(kill9) -> 'SIGKILL';
reason(segv) -> 'SIGSEGV';
reason(exit0) -> 0;
reason(abort) -> 'SIGABRT';
reason(stop) -> 'SIGKILL'.

%% The death comes after the slot was given back, or not.
is_started(Outcome, #{taken := Taken}) ->
    has_started(Outcome) =:= (Taken > 0).

has_started({error, {worker_died, #{started := Started}}}) -> Started;
has_started(_) -> true.

begun(none, _Run) ->
    0;
begun(Id, #run{dir = Dir}) ->
    {ok, Text} = file:read_file(filename:join(Dir, "begun")),
    length([Line || Line <- binary:split(Text, <<"\n">>, [global, trim_all]), Line =:= integer_to_binary(Id)]).

%% --- requests -------------------------------------------------------------------------------

id() ->
    atomics:add_get(persistent_term:get(?MODULE), 1, 1).

on(Function, Id, Args, #run{context = Ctx}, Budget) ->
    value(Id, py:call(Ctx, ep_chaos, Function, [Id, file | Args], #{}, Budget)).

value(Id, {ok, [<<"ok">>, Value, _OsPid | More]}) ->
    case chaos_history:f(Id) of
        Value -> {ok, [byte_size(Bin) || Bin <- More]};
        _ -> {wrong, Value}
    end;
value(_Id, Other) ->
    Other.

request(Kind, Run, Budget) ->
    case lists:member(Kind, chaos_crash_objects:kinds()) of
        true -> object_request(Kind, Run, Budget);
        false -> plain_request(Kind, Run, Budget)
    end.

object_request(Kind, Run = #run{context = Ctx, dir = Dir}, Budget) ->
    Id = id(),
    {Outcome, Rest} = chaos_crash_objects:request(Kind, #{
        id => Id,
        dir => Dir,
        call => fun(Function, Args) -> py:call(Ctx, ep_chaos, Function, [Id, file | Args], #{}, Budget) end,
        task => fun(Function, Args) -> task(Function, [Id, file | Args], Run, Budget) end,
        then => fun(Function, Args) -> py:call(Ctx, ep_chaos, Function, Args, #{}, ?LIMIT_MS) end
    }),
    #result{id = Id, outcome = Outcome, rest = Rest}.

plain_request(call, Run, Budget) ->
    Id = id(),
    #result{id = Id, outcome = on(work, Id, [1], Run, Budget)};
plain_request(eval, #run{context = Ctx}, Budget) ->
    Id = id(),
    Locals = #{i => Id},
    Answer = py:eval(Ctx, <<"__import__('ep_chaos').work(i, 'file', 0)">>, Locals, Budget),
    #result{id = Id, outcome = value(Id, Answer)};
plain_request(exec, #run{context = Ctx}, Budget) ->
    Id = id(),
    Code = io_lib:format("import ep_chaos~nep_chaos.work(~b, 'file', 0)~n", [Id]),
    #result{id = Id, outcome = py:exec(Ctx, Code, #{timeout => Budget})};
plain_request(import, #run{context = Ctx}, Budget) ->
    Id = id(),
    Code = io_lib:format("import sys, ep_chaos~nsys.modules.pop('colorsys', None)~nimport colorsys~nep_chaos.work(~b, 'file', 0)~n", [Id]),
    #result{id = Id, outcome = py:exec(Ctx, Code, #{timeout => Budget})};
plain_request(cast, #run{context = Ctx}, _Budget) ->
    Id = id(),
    #result{id = Id, outcome = py:cast(Ctx, ep_chaos, work, [Id, file, 0])};
plain_request(nested, Run, Budget) ->
    %% The question, the request that it makes, and the result.
    Id = id(),
    #result{id = Id, messages = 3, outcome = on(nested, Id, [1, 0], Run, Budget)};
plain_request(big_answer, Run, Budget) ->
    Id = id(),
    #result{id = Id, messages = 2, outcome = on(nested, Id, [0, 0], Run, Budget)};
plain_request(threads, Run, Budget) ->
    Id = id(),
    #result{id = Id, outcome = on(threads, Id, [1], Run, Budget)};
plain_request(task, Run, Budget) ->
    Id = id(),
    #result{id = Id, outcome = value(Id, task(work, [Id, file, 1], Run, Budget))};
plain_request(awaited, Run, Budget) ->
    Id = id(),
    #result{id = Id, outcome = value(Id, task(awaited, [Id, file], Run, Budget))};
%% A context with a task that sleeps ends.
plain_request(task_stop, #run{mode = Mode}, _Budget) ->
    case py_context:start_link(crash, Mode, #{own_process => true, kill_after => ?KILL_AFTER_MS}) of
        {ok, Ctx} ->
            Task = spawn_monitor(fun() -> task(rest, [100], #run{context = Ctx}, infinity) end),
            _ = task(work, [0, none, 1], #run{context = Ctx}, infinity),
            Stopped = py_context:stop(Ctx),
            receive {'DOWN', Ref, process, _, _} when Ref =:= element(2, Task) -> ok end,
            #result{outcome = Stopped};
        {error, _} ->
            #result{outcome = ok}
    end;
plain_request(letters, Run, Budget) ->
    %% Another process reads: a request that is out of time may send still.
    Id = id(),
    Reader = spawn(fun() -> read_letters([]) end),
    Outcome = on(letters, Id, [Reader], Run, Budget),
    Reader ! {got, self()},
    Got = receive {got, Reader, Letters} -> Letters end,
    #result{id = Id, outcome = with_letters(Outcome, Got)};
plain_request(big_argument, Run, Budget) ->
    Id = id(),
    #result{id = Id, outcome = on(take, Id, [{bytes, binary:copy(<<16#FE>>, 1 bsl 20)}], Run, Budget)};
plain_request(big_result, Run, Budget) ->
    Id = id(),
    #result{id = Id, outcome = on(give, Id, [1 bsl 20], Run, Budget)};
plain_request(overdue, Run, _Budget) ->
    Id = id(),
    #result{id = Id, outcome = on(work, Id, [10 * ?BUDGET_MS + 1], Run, 30)};
plain_request(overdue_spinning, Run, _Budget) ->
    Id = id(),
    #result{id = Id, outcome = on(work, Id, [10 * ?BUDGET_MS], Run, 30)};
plain_request(overdue_callback, Run, _Budget) ->
    Id = id(),
    #result{id = Id, outcome = on(nested, Id, [2, 0], Run, 30)};
plain_request(maintain, #run{context = Ctx}, _Budget) ->
    #result{outcome = py:gc(Ctx)};
plain_request(env_drop, #run{context = Ctx}, Budget) ->
    Self = self(),
    {Pid, Ref} = spawn_monitor(fun() -> Self ! {made, py:exec(Ctx, "x = 1", #{timeout => Budget})} end),
    receive
        {'DOWN', Ref, process, Pid, _} -> ok
    end,
    receive
        {made, ok} -> #result{outcome = py_context:call(Ctx, builtins, abs, [-1], #{}, Budget)};
        {made, Other} -> #result{outcome = Other}
    end;
plain_request(Start, #run{mode = Mode}, _Budget) when Start =:= start; Start =:= fork; Start =:= forked ->
    How =
        case Start of
            %% The first of its kind has no zygote.
            start -> #{env => [{"EP_CHAOS_START", integer_to_list(id())}]};
            %% One of its own, which starts as well.
            fork -> #{preload => [colorsys]};
            %% That of the pool.
            forked -> #{}
        end,
    case py_context:start_link(crash, Mode, How#{own_process => true, kill_after => ?KILL_AFTER_MS}) of
        {ok, Ctx} -> #result{outcome = py_context:stop(Ctx)};
        Other -> #result{outcome = Other}
    end;
plain_request(stop, #run{mode = Mode}, _Budget) ->
    Options = #{own_process => true, kill_after => ?KILL_AFTER_MS},
    case py_context:start_link(crash, Mode, Options) of
        {ok, Ctx} -> #result{outcome = py_context:stop(Ctx)};
        %% It ended on the way there.
        {error, _} -> #result{outcome = ok}
    end;
%% Of two contexts in one process the first ends without it.
plain_request(leave, #run{mode = Mode}, _Budget) ->
    Options = #{mode => Mode, num_workers => 1, kill_after => ?KILL_AFTER_MS},
    case py_context_router:start_pool(leave, 2, Options) of
        {ok, _} -> #result{outcome = py_context_router:stop_pool(leave)};
        {error, _} -> #result{outcome = ok}
    end.

task(Function, Args, #run{context = Ctx}, Budget) ->
    case py_context_table:lane(Ctx) of
        noproc -> {error, {context_died, noproc}};
        Lane -> py_task:run({Ctx, Lane, undefined}, {call, ep_chaos, Function, Args, #{}}, Budget)
    end.

read_letters(Letters) ->
    receive
        {got, Parent} -> Parent ! {got, self(), lists:reverse(Letters)};
        {_From, _N} = Letter -> read_letters([Letter | Letters])
    end.

%% With a result all of them are there before it; else the first ones of each thread.
with_letters(Outcome, Got) ->
    Counts = [{From, [N || {Who, N} <- Got, Who =:= From]} || From <- [<<"lane">>, <<"thread">>]],
    Ordered = lists:all(fun({_, Ns}) -> Ns =:= lists:seq(1, length(Ns)) end, Counts),
    case is_ok(Outcome) of
        _ when not Ordered -> {letters, Got};
        true when length(Got) =/= 6 -> {letters_lost, Got};
        _ -> Outcome
    end.
