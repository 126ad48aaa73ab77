%% SPDX-License-Identifier: Apache-2.0

%% @doc The attacks of the lying worker: at which calls, on which lane, and what has to
%% come of each. The worker has the code, under the same names.
-module(evil_attacks).

-export([names/0, plan/2, once/2, expected/1, text/1, parse/1]).

-export_type([attack/0, target/0]).

%% The state of the call that the lie is about: enum evil_target of evil_wire.h, and
%% `closed', a call whose context has ended.
-type target() :: own | held | asked | later | ended | in_ring | in_queue | unknown | closed | task.
-type attack() :: #{
    name := atom(), target := target(), via := lane | control, ms := non_neg_integer(), seed := non_neg_integer()
}.

-define(MESSAGES, [
    message_whole, message_twice, message_kind, message_flags, message_aux, message_call_id,
    message_subject, message_length, message_block, message_stamp, message_cancelled, message_all,
    message_seq, message_gap
]).
-define(TARGETS, [own, held, asked, later, ended, in_ring, in_queue, unknown, closed, task]).
%% EVIL_KINDS of evil_message.h: the kind of the message is the seed modulo that.
-define(KINDS, 12).
%% Beyond it, one of the three kinds that came later.
-define(LATER, (1 bsl 27)).
%% Those that nothing has asked for at that moment, or that are not a worker's to send:
%% STARTED, STOPPED, HELLO, MAINTAINED, CALL, SHUTDOWN, ANSWER; SEND, for which there is no credit;
%% the later ones too, TASK, TASK_CANCEL and ITEMS.
-define(UNASKED, [3, 4, 5, 7, 8, 9, 10, 11]).

%% @doc Name, targets, lanes, time of its own in ms, and what has to come of it: `ends', the
%% worker is ended for breaking the protocol; `any', it is enough that nobody suffers.
table() ->
    [{Name, ?TARGETS, [lane, control], 0, any} || Name <- ?MESSAGES] ++
        [
            {message_spray, [held, in_queue, asked], [lane], 0, any},
            {question_again, [own, held, asked, later, closed, task], [lane, control], 0, any},
            {question_number, [own, held], [lane, control], 0, ends},
            {question_shape, [own, held], [lane, control], 0, any},
            {word_call_head, [held, in_ring, in_queue], [lane, control], 0, any},
            {word_urgent_head, [asked, in_ring], [lane], 0, any},
            {word_running, [held, asked, closed], [lane], 0, any},
            {word_park_bell, [held, ended], [lane, control], 0, any},
            {word_space_bell, [held, ended], [lane, control], 0, any},
            {word_cpu, [ended], [lane], 0, any},
            {word_wake_ns, [ended], [lane], 0, any},
            {word_reclaim_tail, [held, in_queue], [lane, control], 0, any},
            {word_reclaim_entries, [held, in_queue], [lane, control], 0, any},
            {word_storm, [held, in_queue, asked, task], [lane, control], 20, any},
            {word_bells, [held, in_queue], [lane, control], 20, any},
            {word_idle, [held, asked, in_ring], [lane], 0, any},
            {flood_messages, ?TARGETS, [lane, control], 30, any},
            {flood_unpaced, [held, asked, ended], [lane, control], 30, ends},
            {flood_stale, [ended], [lane], 30, any},
            {flood_hello, [unknown], [lane, control], 30, ends},
            {flood_questions, [own, held, asked, closed], [lane, control], 30, any},
            {flood_big, [unknown], [control], 60, any},
            {flood_doorbell, [held], [lane], 30, any},
            {flood_untaken, [asked, held], [lane], 30, any},
            {term_nils, [own, held], [lane, control], 0, any},
            {term_maps, [own, held], [lane, control], 0, any},
            {term_tuples, [own, held], [lane, control], 0, any},
            {term_floats, [own, held], [lane, control], 0, any},
            {term_infinities, [own, held], [lane], 0, any},
            {term_strings, [own, held], [lane], 0, any},
            {term_counts, [own, held], [lane, control], 0, any},
            {term_nested_counts, [own, held], [lane, control], 0, any},
            {term_deep, [own, held], [lane, control], 0, any},
            {term_big, [own, held], [lane, control], 0, any},
            {term_bigs, [own, held], [lane], 0, any},
            {term_atoms, [own, held], [lane], 0, any},
            {term_bad_atom, [own, held], [lane], 0, any},
            {term_duplicate_keys, [own, held], [lane, control], 0, any},
            {term_handle, [own, held], [lane, control], 0, any},
            {term_trailing, [own, held], [lane], 0, any},
            {term_empty, [own, held], [lane, control], 0, any},
            {term_random, [own, held], [lane, control], 0, any},
            {term_error, [own, held], [lane], 0, any},
            {term_error_names, [own, held], [lane], 0, any},
            {array_unknown, [own, held], [lane, control], 0, ends},
            {array_foreign, [own, held], [lane, control], 0, ends},
            {array_wrong, [own, held], [lane, control], 0, ends},
            {array_free_twice, [own, held], [lane], 0, ends},
            {array_give, [own, held], [lane], 0, ends},
            {array_list, [own, held, closed], [lane, control], 0, any},
            {array_write, [own, held], [lane], 20, any},
            {array_many, [own, held], [lane], 0, any},
            {array_need, [held], [lane], 30, any},
            {array_claims, [own, held, asked, closed], [lane, control], 0, any},
            {object_unknown, [own, held], [lane, control], 0, ends},
            {object_shape, [own, held], [lane, control], 0, ends},
            {fd_blocking, [held], [lane], 20, any},
            {fd_drain, [held], [lane], 20, any},
            {fd_fill, [held], [lane], 0, any},
            {fd_close_doorbell, [held], [lane], 0, any},
            {fd_close_control, [held], [lane], 0, any},
            {fd_fill_control, [held], [lane], 0, any},
            {fd_rights, [held], [lane], 0, any},
            {fd_linger, [held], [lane], 0, any},
            {fd_segments, [held, asked], [lane], 0, any},
            {death_now, ?TARGETS, [lane], 0, any},
            {death_unpublished, [own, held], [lane, control], 0, any},
            {death_unrung, [own, held, asked, later], [lane], 0, any},
            {death_after_message, ?TARGETS, [lane, control], 0, any},
            {death_after_question, [own, held], [lane, control], 0, any},
            {death_later, [held, asked, later, in_queue], [lane], 0, any},
            {death_stop, [held, asked], [lane], 0, any},
            {death_refused, [held, asked, closed], [lane], 0, any},
            {death_deaf, [held, own], [lane], 0, any},
            {mutate_block, [own, held], [lane], 20, any},
            {mutate_header, [own, held], [lane], 20, any},
            {mutate_slots, [own, held, asked], [lane, control], 20, any},
            {mutate_words, [held, in_queue, asked], [lane, control], 20, any},
            {letter_credit, [own, held], [lane, control], 0, any},
            {letter_flood, [own], [lane, control], 300, any},
            {letter_flood_long, [own], [lane, control], 300, any},
            {letter_dead, [own, held], [lane, control], 0, any},
            {letter_overdraw, [own, held], [lane, control], 0, ends},
            {letter_forged, [own, held], [lane, control], 0, ends},
            {letter_ref, [own, held], [lane, control], 0, ends},
            {letter_long, [own, held], [lane, control], 0, ends},
            {letter_map, [own, held, closed], [lane, control], 0, ends},
            {letter_call, [own, held], [lane, control], 0, ends},
            {letter_questions, [own, held, closed], [lane, control], 0, any},
            %% Last: the one that needs gigabytes.
            {term_nils_huge, [own], [lane], 0, any}
        ].

-spec names() -> [atom()].
names() ->
    [Name || {Name, _, _, _, _} <- table()].

-spec expected(attack()) -> ends | any.
%% Nobody reads what a closed lane says.
expected(#{target := closed, via := lane}) ->
    any;
expected(#{name := Name, seed := Seed}) when Name =:= message_whole; Name =:= message_twice ->
    case Seed band ?LATER =/= 0 orelse lists:member(Seed rem ?KINDS, ?UNASKED) of
        true -> ends;
        false -> any
    end;
expected(#{name := Name}) ->
    {Name, _, _, _, Expected} = lists:keyfind(Name, 1, table()),
    Expected.

%% @doc Each attack once, at a call and on a lane that the seed picks.
-spec once(rand:state(), [atom()]) -> {[attack()], rand:state()}.
once(Random, Skip) ->
    lists:mapfoldl(
        fun({Name, Targets, Vias, Ms, _}, R0) ->
            {Target, R1} = pick(Targets, R0),
            {Via, R2} = pick(Vias, R1),
            attack(Name, Target, Via, Ms, none, R2)
        end,
        Random,
        without(Skip)
    ).

%% @doc Every attack at every call, on every lane, those about messages for every kind of
%% them, in an order that the seed picks.
-spec plan(rand:state(), [atom()]) -> {[attack()], rand:state()}.
plan(Random, Skip) ->
    All = [
        {Name, Target, Via, Ms, Kind}
     || {Name, Targets, Vias, Ms, _} <- without([term_nils_huge | Skip]),
        Target <- Targets,
        Via <- Vias,
        Kind <- kinds(Name)
    ],
    {Attacks, Next} = lists:mapfoldl(
        fun({Name, Target, Via, Ms, Kind}, R) -> attack(Name, Target, Via, Ms, Kind, R) end, Random, All
    ),
    {Keys, Last} = lists:mapfoldl(fun(_, R) -> rand:uniform_s(R) end, Next, Attacks),
    {[Attack || {_, Attack} <- lists:sort(lists:zip(Keys, Attacks))], Last}.

%% @doc A line of the corpus.
-spec text(attack()) -> iolist().
text(#{name := Name, target := Target, via := Via, ms := Ms, seed := Seed}) ->
    io_lib:format("~s ~s ~s ~b ~b", [Name, Target, Via, Ms, Seed]).

-spec parse(string()) -> attack().
parse(Line) ->
    [Name, Target, Via, Ms, Seed] = string:lexemes(Line, " "),
    Attack = #{
        name => list_to_existing_atom(Name),
        target => list_to_existing_atom(Target),
        via => list_to_existing_atom(Via),
        ms => list_to_integer(Ms),
        seed => list_to_integer(Seed)
    },
    true = lists:keymember(maps:get(name, Attack), 1, table()),
    Attack.

%% Internal

without(Skip) ->
    [Row || Row <- table(), not lists:member(element(1, Row), Skip)].

kinds(Name) ->
    case lists:member(Name, ?MESSAGES) of
        true -> lists:seq(0, ?KINDS + 2);
        false -> [none]
    end.

pick(List, Random) ->
    {N, Next} = rand:uniform_s(length(List), Random),
    {lists:nth(N, List), Next}.

attack(Name, Target, Via, Ms, Kind, Random) ->
    {N, Next} = rand:uniform_s(5 bsl 25, Random),
    Seed =
        case Kind of
            none -> N;
            _ when Kind < ?KINDS -> N rem (1 bsl 23) * ?KINDS + Kind;
            _ -> ?LATER + (N rem (1 bsl 20)) * 3 + (Kind - ?KINDS - ?LATER rem 3 + 3) rem 3
        end,
    {#{name => Name, target => Target, via => Via, ms => Ms, seed => Seed}, Next}.
