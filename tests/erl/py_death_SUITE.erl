%% SPDX-License-Identifier: Apache-2.0

%% @doc Callers that are killed at random moments, in great numbers: 20,000, or as many as
%% the OS variable EP_CALLERS says. Afterwards everything is as it was.
-module(py_death_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

-define(CALLERS, 20000).
%% Alive at the same time.
-define(BATCH, 200).
-define(SLOTS, 8).
-define(WITNESSES, 6).
%% Things that a caller may do: act/3.
-define(KINDS, 8).
%% Looks at the progress before somebody is killed all the same.
-define(PATIENCE, 200).

suite() ->
    [{timetrap, {minutes, 15}}].

all() ->
    [{group, worker}, {group, owngil}].

groups() ->
    [{Mode, [leaves_nothing_behind_when_callers_are_killed]} || Mode <- [worker, owngil]].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_fixture:init(Mode, [{kill_after, 2000}, {max_concurrent, ?SLOTS}], Config).

end_per_group(_Group, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    Config.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% A quarter of them in the second group: the Erlang side is the same.
callers(worker) -> callers();
callers(owngil) -> callers() div 4.

callers() ->
    list_to_integer(os:getenv("EP_CALLERS", integer_to_list(?CALLERS))).

leaves_nothing_behind_when_callers_are_killed(Config) ->
    _ = rand:seed(exsss, {1, 2, 3}),
    ok = persistent_term:put(?MODULE, counters:new(?KINDS, [])),
    ok = py:register_function(echo, fun([X]) -> X end),
    ok = py:register_function(stay, fun([]) -> progress(3), receive never -> ok end end),
    ok = py:register_function(again, fun([X]) -> {ok, X} = py:call(builtins, abs, [-X]), X end),
    N = callers(proplists:get_value(group, Config)),
    Tag = integer_to_binary(erlang:unique_integer([positive])),
    %% The first round makes what stays.
    ok = round(?BATCH, Tag),
    ok = quiet(Tag),
    Before = figures(),
    Witnesses = [py_test:spawn_caller(fun() -> witness(I, 0) end) || I <- lists:seq(1, ?WITNESSES)],
    {Ms, ok} = py_test:elapsed(fun() -> rounds(N, Tag) end),
    [Pid ! stop || {Pid, _} <- Witnesses],
    Answers = [py_test:result_of(W) || W <- Witnesses],
    ct:pal("~b callers killed in ~b ms; ~b right answers to others meanwhile; things done, of each kind: ~w", [
        N, Ms, lists:sum(Answers), progress()
    ]),
    ?assert(lists:min(progress()) > 0),
    ok = quiet(Tag),
    After = figures(),
    ?assertEqual(Before, After),
    ?assertEqual([], element(2, process_info(self(), messages))),
    ?assert(lists:min(Answers) > 0, Answers),
    %% Full use of what there is, once more.
    Bin = binary:copy(<<16#FE>>, 8 bsl 20),
    {ok, Bin} = py:call(py:context(1), ep_probe, echo, [Bin]),
    More = [py_test:spawn_caller(fun() -> py:call(builtins, abs, [-I]) end) || I <- lists:seq(1, 2000)],
    [{ok, I} = py_test:result_of(C) || {I, C} <- lists:enumerate(More)],
    ok.

rounds(N, _Tag) when N =< 0 ->
    ok;
rounds(N, Tag) ->
    ok = round(min(N, ?BATCH), Tag),
    rounds(N - ?BATCH, Tag).

round(N, Tag) ->
    Callers = [spawn_monitor(fun() -> live(Tag, rand:uniform(?KINDS)) end) || _ <- lists:seq(1, N)],
    Shuffled = [C || {_, C} <- lists:sort([{rand:uniform(), C} || C <- Callers])],
    lists:foreach(
        fun({Pid, _}) ->
            ok = let_them(all_progress() + rand:uniform(4) - 1, ?PATIENCE),
            true = exit(Pid, kill)
        end,
        Shuffled
    ),
    lists:foreach(
        fun({Pid, Ref}) ->
            receive
                {'DOWN', Ref, process, Pid, Reason} -> killed = Reason
            end
        end,
        Callers
    ).

%% Lets the callers get ahead by so much, unless all of them wait for a slot.
let_them(_Goal, 0) ->
    ok;
let_them(Goal, Looks) ->
    case all_progress() >= Goal of
        true ->
            ok;
        false ->
            _ = erlang:yield(),
            let_them(Goal, Looks - 1)
    end.

progress(Kind) ->
    counters:add(persistent_term:get(?MODULE), Kind, 1).

progress() ->
    [counters:get(persistent_term:get(?MODULE), Kind) || Kind <- lists:seq(1, ?KINDS)].

all_progress() ->
    lists:sum(progress()).

%% Whatever callers do, for ever. Answers are checked: a wrong one ends it with another
%% reason than the killer's.
live(Tag, Kind) ->
    Ctx = py:context(1 + Kind rem 2),
    ok = py:exec(Ctx, ["ep_tag = '", Tag, "'"]),
    again(Kind, Ctx, 1).

again(Kind, Ctx, I) ->
    ok = act(Kind, Ctx, I),
    ok = progress(Kind),
    {messages, []} = process_info(self(), messages),
    again(Kind, Ctx, I + 1).

act(1, _Ctx, I) ->
    {ok, I} = py:call(builtins, abs, [-I]),
    ok;
act(2, Ctx, I) ->
    {ok, [I, I]} = py:eval(Ctx, "[erlang.call('echo', i), erlang.again(i)]", #{i => I}),
    ok;
act(3, Ctx, _I) ->
    py:eval(Ctx, "erlang.stay()");
act(4, _Ctx, _I) ->
    ok = py_semaphore:acquire(infinity),
    ok = progress(4),
    receive never -> ok end;
act(5, Ctx, I) ->
    Bin = binary:copy(<<I:32>>, 5000 + I rem 20000),
    {ok, Size} = py:call(Ctx, builtins, len, [{bytes, Bin}]),
    Size = byte_size(Bin),
    ok;
act(6, Ctx, I) ->
    Ref = py:spawn_call(Ctx, builtins, abs, [-I]),
    {ok, I} = py:await(Ref, infinity),
    ok;
act(7, _Ctx, I) ->
    case py:call(builtins, abs, [-I], #{}, 1 + I rem 3) of
        {ok, I} -> ok;
        {error, timeout} -> ok;
        {error, {overloaded, _, ?SLOTS}} -> ok
    end;
act(8, Ctx, _I) ->
    {ok, 499500} = py:eval(Ctx, "sum([i for i in range(1000)])"),
    ok.

%% Others at the same time get right answers and nothing else.
witness(I, Answers) ->
    receive
        stop ->
            Answers
    after 0 ->
        N = I * 1000000 + Answers,
        {ok, N} = py:call(builtins, abs, [-N], #{}, infinity),
        {ok, N} = py:eval("erlang.again(n)", #{n => N}, infinity),
        witness(I, Answers + 1)
    end.

%% Waits until what the dead have left is gone: their slots, helpers and namespaces.
quiet(Tag) ->
    ok = py_fixture:slots_free(),
    Contexts = py_context_router:contexts(),
    py_test:wait_until(fun() ->
        Left = [py:call(Ctx, ep_steps, namespaces, [Tag]) || Ctx <- Contexts],
        lists:usort(Left) =:= [{ok, 0}] orelse Left
    end).

figures() ->
    Contexts = py_context_router:contexts(),
    #{lost_wake := LostWake, violations := Violations} = ep_nif:counters(),
    #{
        processes => settled(erlang:system_info(process_count), 200),
        os_processes => length(py_test:descendants(py_test:vm_pid())),
        workers => [py_test:os_pid(Ctx) || Ctx <- Contexts],
        slots => ep_nif:slots(),
        lost_wake => LostWake,
        violations => Violations
    }.

%% Processes that have been told to end take a moment.
settled(Count, 0) ->
    Count;
settled(Count, Looks) ->
    receive after 2 -> ok end,
    case erlang:system_info(process_count) of
        Fewer when Fewer < Count -> settled(Fewer, 200);
        _ -> settled(Count, Looks - 1)
    end.
