%% SPDX-License-Identifier: Apache-2.0

%% @doc Arrays of any type and shape keep their contents on every way, and whatever the order in
%% which terms, binaries, contexts and worker processes give an array up, it is whole until the last
%% of them has, and gone then.
-module(py_array_prop_SUITE).

-compile([export_all, nowarn_export_all]).

-define(CONTEXTS, 2).
-define(NAMES, [a, b, c]).

suite() ->
    [{timetrap, {seconds, 300}}].

all() ->
    [{group, worker}, {group, owngil}].

groups() ->
    Cases = [arrays_keep_type_shape_and_contents, slices_are_what_binaries_are, holders_give_up_in_any_order],
    [{worker, Cases}, {owngil, Cases}].

init_per_suite(Config) ->
    case py_prop:is_there() of
        true -> Config;
        false -> {skip, "PropEr is not installed (erlang-proper)"}
    end.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Group, _Config) ->
    ok.

end_per_testcase(_Case, _Config) ->
    py_test:clean().

%% --- contents -----------------------------------------------------------------------------

arrays_keep_type_shape_and_contents(_Config) ->
    holds(?FUNCTION_NAME, array(), 150, fun({Dtype, Shape, Bin}) ->
        {ok, A} = py_array:from_binary(Bin, Dtype, Shape),
        {ok, {Seen, _, Data, false}} = py:call(ep_arrays, describe, [A]),
        {ok, B} = py:call(ep_arrays, share, [A]),
        {Seen, Data, B, py_array:shape(A), py_array:dtype(A), py_array:to_binary(A)} =:=
            {Shape, Bin, A, Shape, Dtype, {ok, Bin}}
    end).

slices_are_what_binaries_are(_Config) ->
    Generator = proper_types:tuple([array(), proper_types:non_neg_integer(), proper_types:non_neg_integer()]),
    holds(?FUNCTION_NAME, Generator, 100, fun({{Dtype, Shape, Bin}, X, Y}) ->
        {ok, A} = py_array:from_binary(Bin, Dtype, Shape),
        case Shape of
            {} ->
                py_test:badarg(fun() -> py_array:slice(A, 0, 0) end) =:= ok;
            _ ->
                Rows = element(1, Shape),
                Start = X rem (Rows + 1),
                Length = Y rem (Rows - Start + 1),
                Row = case Rows of 0 -> 0; _ -> byte_size(Bin) div Rows end,
                {ok, S} = py_array:slice(A, Start, Length),
                Part = binary:part(Bin, Start * Row, Length * Row),
                {ok, Part} =:= py_array:to_binary(S) andalso {ok, Part} =:= py:call(ep_arrays, data, [S]) andalso
                    py_array:shape(S) =:= setelement(1, Shape, Length)
        end
    end).

array() ->
    Dtypes = [int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, float32, float64, complex64, complex128],
    proper_types:bind(
        proper_types:tuple([
            proper_types:elements(Dtypes), proper_types:resize(4, proper_types:list(proper_types:integer(0, 5)))
        ]),
        fun({Dtype, Sizes}) ->
            Bytes = lists:foldl(fun(N, Acc) -> N * Acc end, bits(Dtype) div 8, Sizes),
            proper_types:tuple([Dtype, list_to_tuple(Sizes), proper_types:binary(Bytes)])
        end,
        false
    ).

bits(Dtype) ->
    list_to_integer(lists:dropwhile(fun(C) -> C > $9 end, atom_to_list(Dtype))).

%% --- holders --------------------------------------------------------------------------------

holders_give_up_in_any_order(_Config) ->
    holds(?FUNCTION_NAME, proper_types:resize(30, proper_types:list(command())), 25, fun(Commands) ->
        {Pid, Ref} = spawn_monitor(fun() -> _ = lists:foldl(fun run/2, #{}, Commands), exit(done) end),
        Result = receive {'DOWN', Ref, process, Pid, Why} -> Why end,
        forget(),
        ok = nothing_left(),
        Result =:= done
    end).

command() ->
    Name = proper_types:elements(?NAMES),
    Ctx = proper_types:integer(1, ?CONTEXTS),
    proper_types:frequency([
        {4, {make, Name, proper_types:integer(0, 100000)}},
        {4, {make_in_python, Name, Ctx, proper_types:integer(1, 100000)}},
        {3, {keep, Name, Ctx}},
        {2, {forget, Ctx}},
        {4, {read, Name, Ctx}},
        {3, {drop, Name}},
        {2, {slice, Name, Name}},
        {2, {lend, Name}},
        {1, {kill, Ctx}}
    ]).

%% The state: the arrays that there are under a name, with their contents; binaries that were lent.
run({make, Name, Size}, State) ->
    Bin = bytes(Size),
    {ok, A} = py_array:from_binary(Bin, uint8, {Size}),
    State#{Name => {A, Bin}};
run({make_in_python, Name, Ctx, Size}, State) ->
    {ok, A} = py:call(context(Ctx), ep_arrays, share_text, [Size]),
    {ok, Bin} = py_array:to_binary(A),
    State#{Name => {A, Bin}};
run({keep, Name, Ctx}, State) ->
    with(Name, State, fun(A, _) -> {ok, _} = py:call(context(Ctx), ep_arrays, keep, [A]) end);
run({forget, Ctx}, State) ->
    {ok, none} = py:call(context(Ctx), ep_arrays, forget, []),
    State;
run({read, Name, Ctx}, State) ->
    with(Name, State, fun(A, Bin) -> {ok, Bin} = py:call(context(Ctx), ep_arrays, data, [A]) end);
run({drop, Name}, State) ->
    true = erlang:garbage_collect(),
    maps:remove(Name, State);
run({slice, Name, As}, State) ->
    case State of
        #{Name := {A, Bin}} when byte_size(Bin) > 1 ->
            {ok, S} = py_array:slice(A, 1, byte_size(Bin) - 1),
            State#{As => {S, binary:part(Bin, 1, byte_size(Bin) - 1)}};
        _ ->
            State
    end;
run({lend, Name}, State) ->
    case State of
        #{Name := {A, Bin}} ->
            {ok, Lent} = py_array:to_binary(A),
            (maps:remove(Name, State))#{{lent, Name} => {Lent, Bin}};
        _ ->
            State
    end;
run({kill, Ctx}, State) ->
    OsPid = py_test:os_pid(context(Ctx)),
    ok = py_test:kill(OsPid),
    ok = py_test:wait_for_exit([OsPid], 10000),
    _ = [context(N) || N <- lists:seq(1, ?CONTEXTS)],
    %% What was there before is whole.
    maps:foreach(
        fun
            ({lent, _}, {Lent, Bin}) -> true = Lent =:= Bin;
            (_, {A, Bin}) -> {ok, Bin} = py_array:to_binary(A)
        end,
        State
    ),
    State.

with(Name, State, Fun) ->
    case State of
        #{Name := {A, Bin}} -> _ = Fun(A, Bin), State;
        _ -> State
    end.

%% One that serves: after a kill its process may still be starting.
context(N) ->
    Ctx = py:context(N),
    ok = py_test:wait_until(fun() ->
        case py:call(Ctx, math, sqrt, [16]) of
            {ok, 4.0} -> true;
            Other -> Other
        end
    end),
    Ctx.

forget() ->
    [{ok, none} = py:call(context(N), ep_arrays, forget, []) || N <- lists:seq(1, ?CONTEXTS)].

nothing_left() ->
    erlang:garbage_collect(),
    py_test:wait_until(fun() ->
        #{count := Count} = py_shared_memory:stats(),
        Count =:= 0 orelse Count
    end).

bytes(N) -> << <<(I rem 251)>> || I <- lists:seq(1, N) >>.

holds(Name, Generator, Tests, Predicate) ->
    py_prop:check(Name, py_prop:forall(Generator, Predicate), Tests).
