%% SPDX-License-Identifier: Apache-2.0

%% @doc The line for slots: what comes free is offered to the first, who is passed only
%% until its next turn; order, deaths and starvation. Most cases play several requests
%% in one process, so that each step happens when they say.
-module(py_line_SUITE).

-compile([export_all, nowarn_export_all]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        offers_what_comes_free_to_the_first_in_line,
        lets_nobody_past_who_found_none_in_its_turn,
        keeps_the_order_of_those_who_are_offered,
        passes_on_what_is_given_up_in_line,
        lets_nobody_past_one_that_wants_to_hold,
        lets_each_process_past_a_few_times_only,
        starves_nobody_beside_busy_callers
    ].

init_per_suite(Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% A slot for a request, as py_request takes it.
slot() ->
    {held, Slot} = ep_nif:slot_acquire(make_ref(), run),
    Slot.

%% A place in line.
place() ->
    Tag = make_ref(),
    {waiting, Slot} = ep_nif:slot_acquire(Tag, run),
    {Slot, Tag}.

is_told({_Slot, Tag}) ->
    receive
        {py_slot, Tag} -> true
    after 0 -> false
    end.

claim({Slot, Tag}) ->
    ep_nif:slot_claim(Slot, Tag).

offers_what_comes_free_to_the_first_in_line(_Config) ->
    ok = py_semaphore:set_max_concurrent(2),
    [A, B] = [slot() || _ <- [1, 2]],
    [P, Q, R] = Places = [place() || _ <- [1, 2, 3]],
    [false, false, false] = [is_told(X) || X <- Places],
    held = ep_nif:slot_release(A),
    {1, 2, 3} = ep_nif:slots(),
    [true, false, false] = [is_told(X) || X <- Places],
    %% Who runs may use it, and is not offered it twice.
    C = slot(),
    held = ep_nif:slot_release(C),
    [false, false, false] = [is_told(X) || X <- Places],
    held = claim(P),
    {2, 2, 2} = ep_nif:slots(),
    held = ep_nif:slot_release(B),
    [true, false] = [is_told(X) || X <- [Q, R]],
    held = claim(Q),
    [held = ep_nif:slot_release(S) || {S, _} <- [P, Q]],
    true = is_told(R),
    held = claim(R),
    %% Claimed once more, it is still one slot.
    held = claim(R),
    {1, 2, 0} = ep_nif:slots(),
    held = ep_nif:slot_release(element(1, R)),
    waiting = claim(R),
    {0, 2, 0} = ep_nif:slots().

lets_nobody_past_who_found_none_in_its_turn(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    A = slot(),
    P = place(),
    held = ep_nif:slot_release(A),
    true = is_told(P),
    B = slot(),
    waiting = claim(P),
    Q = place(),
    held = ep_nif:slot_release(B),
    {1, 1, 1} = ep_nif:slots(),
    [true, false] = [is_told(X) || X <- [P, Q]],
    R = place(),
    held = claim(P),
    held = ep_nif:slot_release(element(1, P)),
    [true, false] = [is_told(X) || X <- [Q, R]],
    held = claim(Q),
    held = ep_nif:slot_release(element(1, Q)),
    true = is_told(R),
    held = ep_nif:slot_release(element(1, R)),
    {0, 1, 0} = ep_nif:slots().

keeps_the_order_of_those_who_are_offered(_Config) ->
    ok = py_semaphore:set_max_concurrent(2),
    Slots = [slot() || _ <- [1, 2]],
    [P, Q] = Places = [place() || _ <- [1, 2]],
    [held = ep_nif:slot_release(S) || S <- Slots],
    [true, true] = [is_told(X) || X <- Places],
    A = slot(),
    %% The second has its turn first: the slot is for the one before it.
    waiting = claim(Q),
    {2, 2, 1} = ep_nif:slots(),
    held = claim(P),
    held = ep_nif:slot_release(A),
    [false, true] = [is_told(X) || X <- Places],
    held = claim(Q),
    %% With room for both each has one, and nobody a message too many.
    [R, S] = More = [place() || _ <- [1, 2]],
    [held = ep_nif:slot_release(X) || {X, _} <- Places],
    [true, true] = [is_told(X) || X <- More],
    [held, held] = [claim(X) || X <- [S, R]],
    [false, false] = [is_told(X) || X <- More],
    [held = ep_nif:slot_release(X) || {X, _} <- More],
    {0, 2, 0} = ep_nif:slots().

%% By death, and by the end of a budget.
passes_on_what_is_given_up_in_line(_Config) ->
    Self = self(),
    ok = py_semaphore:set_max_concurrent(1),
    Mortal = fun(IsToClaim) ->
        Caller = {Pid, _} = py_test:spawn_caller(fun() ->
            P = {_, Tag} = place(),
            Self ! {self(), placed},
            receive {py_slot, Tag} -> Self ! {self(), offered} end,
            receive claim when IsToClaim -> Self ! {self(), claim(P)} end,
            receive never -> P end
        end),
        receive {Pid, placed} -> Caller end
    end,
    %% While it is offered one.
    A = slot(),
    Offered = {Pid1, _} = Mortal(false),
    P = place(),
    held = ep_nif:slot_release(A),
    receive {Pid1, offered} -> ok end,
    true = exit(Pid1, kill),
    killed = py_fixture:dead(Offered),
    ok = py_test:wait_until(fun() -> is_told(P) end),
    %% While it insists: nobody else could have one.
    B = slot(),
    held = ep_nif:slot_release(element(1, P)),
    Insisting = {Pid2, _} = Mortal(true),
    held = ep_nif:slot_release(B),
    receive {Pid2, offered} -> ok end,
    C = slot(),
    Pid2 ! claim,
    receive {Pid2, waiting} -> ok end,
    Q = place(),
    true = exit(Pid2, kill),
    killed = py_fixture:dead(Insisting),
    ok = py_test:wait_until(fun() -> ep_nif:slots() =:= {1, 1, 1} orelse ep_nif:slots() end),
    held = ep_nif:slot_release(C),
    true = is_told(Q),
    D = slot(),
    R = place(),
    held = ep_nif:slot_release(D),
    false = is_told(R),
    held = ep_nif:slot_release(element(1, Q)),
    true = is_told(R),
    held = claim(R),
    %% While it has been handed over.
    Last = {Pid3, _} = Mortal(true),
    held = ep_nif:slot_release(element(1, R)),
    receive {Pid3, offered} -> ok end,
    E = slot(),
    Pid3 ! claim,
    receive {Pid3, waiting} -> ok end,
    held = ep_nif:slot_release(E),
    {1, 1, 0} = ep_nif:slots(),
    true = exit(Pid3, kill),
    killed = py_fixture:dead(Last),
    ok = py_fixture:slots_free().

lets_nobody_past_one_that_wants_to_hold(_Config) ->
    ok = py_semaphore:set_max_concurrent(1),
    A = slot(),
    P = place(),
    Holder = py_test:spawn_caller(fun() -> py_semaphore:acquire(infinity) end),
    ok = py_test:wait_until(fun() -> ep_nif:slots() =:= {1, 1, 2} end),
    held = ep_nif:slot_release(A),
    %% Not an offer: it has the slot.
    {1, 1, 1} = ep_nif:slots(),
    true = is_told(P),
    held = claim(P),
    held = ep_nif:slot_release(element(1, P)),
    ok = py_test:result_of(Holder),
    ok = py_fixture:slots_free().

%% However long those in line take to come to their turn.
lets_each_process_past_a_few_times_only(_Config) ->
    Self = self(),
    ok = py_semaphore:set_max_concurrent(1),
    A = slot(),
    First =
        {Pid, _} = py_test:spawn_caller(fun() ->
            P = {Slot, Tag} = place(),
            Self ! {self(), placed},
            receive {py_slot, Tag} -> Self ! {self(), offered} end,
            receive claim -> held = claim(P) end,
            held = ep_nif:slot_release(Slot),
            ok
        end),
    receive {Pid, placed} -> ok end,
    held = ep_nif:slot_release(A),
    receive {Pid, offered} -> ok end,
    {Passed, Q} = pass(0),
    ct:pal("passed ~b times", [Passed]),
    true = Passed >= 2 andalso Passed =< 64,
    %% Nor by asking in another way, but others may.
    {error, {overloaded, 0, 1}} = py:call(math, sqrt, [16], #{}, 20),
    {ok, 4.0} = py_test:result_of(py_test:spawn_caller(fun() -> py:call(math, sqrt, [16]) end)),
    false = is_told(Q),
    Pid ! claim,
    ok = py_test:result_of(First),
    true = is_told(Q),
    held = claim(Q),
    held = ep_nif:slot_release(element(1, Q)),
    %% It has come to its turn, so it may pass again.
    B = slot(),
    Second = py_fixture:wait_in_line(fun() -> py:call(math, sqrt, [16]) end),
    true = erlang:suspend_process(element(1, Second)),
    held = ep_nif:slot_release(B),
    held = ep_nif:slot_release(slot()),
    true = erlang:resume_process(element(1, Second)),
    {ok, 4.0} = py_test:result_of(Second),
    ok = py_fixture:slots_free().

%% How often this process gets a slot, and its place in line after that.
pass(N) ->
    Tag = make_ref(),
    case ep_nif:slot_acquire(Tag, run) of
        {held, Slot} ->
            held = ep_nif:slot_release(Slot),
            pass(N + 1);
        {waiting, Slot} ->
            {N, {Slot, Tag}}
    end.

%% Beside callers that ask for ever, each of which passes the line now and then.
starves_nobody_beside_busy_callers(_Config) ->
    [
        begin
            ok = py_semaphore:set_max_concurrent(Max),
            Busy = [py_test:spawn_caller(fun() -> call_for_ever() end) || _ <- lists:seq(1, 30)],
            {Ms, ok} = py_test:elapsed(fun() ->
                [{ok, 4.0} = py:call(math, sqrt, [16], #{}, 5000) || _ <- lists:seq(1, 200)],
                [
                    begin
                        ok = py_semaphore:acquire(5000),
                        ok = py_semaphore:release()
                    end
                 || _ <- lists:seq(1, 200)
                ],
                ok
            end),
            ct:pal("at most ~b: 400 slots within ~b ms", [Max, Ms]),
            [true = exit(Pid, kill) || {Pid, _} <- Busy],
            [killed = py_fixture:dead(C) || C <- Busy],
            ok = py_fixture:slots_free()
        end
     || Max <- [1, 3]
    ].

call_for_ever() ->
    {ok, 4.0} = py:call(math, sqrt, [16]),
    call_for_ever().
