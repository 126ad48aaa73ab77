%% SPDX-License-Identifier: Apache-2.0

%% @doc The acceptance examples of the contract run as they are printed there, and so does
%% the demo of examples/. The text lies in acceptance.md of the data directory.
-module(py_examples_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 90}}].

all() ->
    [
        a1_starts_on_a_bare_node,
        a2_tells_its_modes,
        a3_runs_owngil_contexts_at_the_same_time,
        a4_uses_a_namespace_through_the_nif,
        a5_calls_on_a_context,
        a6_starts_contexts,
        a7_keeps_contexts_apart,
        a8_offers_the_router,
        a9_limits_requests,
        a10_is_configured,
        a11_runs_calls_in_parallel,
        a12_tells_its_load,
        a12_tells_of_memory,
        a13_shares_state,
        a14_calls_back_and_forth,
        a15_nests_ten_levels,
        a16_tours_reentrant_calls,
        a16_is_on_the_path_of_the_shell,
        progress_is_told_in_order,
        tokens_are_read_until_enough,
        shares_arrays,
        fetches_pages_through_asyncio,
        a9_is_overloaded_for_thirty_seconds
    ].

init_per_suite(Config) ->
    %% Takes thirty seconds: begins first, is asked last.
    Line = lists:last(expressions("A9")),
    Slow = spawn_monitor(fun() -> exit(overloaded_in_a_vm(Line)) end),
    [{slow, Slow} | Config].

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_fixture:start_with_default_limit(two_contexts()),
    Config.

two_contexts() ->
    case erlang:system_info(schedulers) of
        1 -> [{num_contexts, 2}];
        _ -> []
    end.

end_per_testcase(_Case, _Config) ->
    py_fixture:clean().

%% --- A1 to A8 -------------------------------------------------------------------------

a1_starts_on_a_bare_node(_Config) ->
    Peer = py_test:start_vm(),
    try
        [{Expected, Got}, {Expected2, Got2}] = py_test:in_vm(Peer, ?MODULE, transcript, ["A1"]),
        ?assertEqual(Expected, Got),
        ?assertEqual(Expected2, Got2)
    after
        py_test:stop_vm(Peer)
    end.

a2_tells_its_modes(_Config) ->
    case py:subinterp_supported() of
        true -> in_one_process("A2", #{});
        false -> {skip, "needs Python 3.12"}
    end.

a3_runs_owngil_contexts_at_the_same_time(Config) ->
    case py:subinterp_supported() of
        true ->
            [One, Two] = Marks = [py_test:marker(Config, N) || N <- ["one", "two"]],
            Keep = fun(Evaluate) ->
                Evaluate(),
                [ok = py_test:wait_for_file(<<M/binary, ".together">>) || M <- Marks]
            end,
            in_one_process("A3", #{'Data1' => {One, Two}, 'Data2' => {Two, One}}, Keep);
        false ->
            {skip, "needs Python 3.12"}
    end.

a4_uses_a_namespace_through_the_nif(_Config) ->
    _ = code:ensure_loaded(py_nif),
    case erlang:function_exported(py_nif, context_exec, 3) of
        true ->
            Modes = [worker | [owngil || py:subinterp_supported()]],
            lists:foreach(
                fun(Mode) ->
                    {ok, Ctx} = py_context:start_link(a4, Mode),
                    ok = in_one_process("A4", #{'Ctx' => Ctx}),
                    ok = py_context:stop(Ctx)
                end,
                Modes
            );
        false ->
            {skip, "py_nif:context_exec/3 is not there"}
    end.

a5_calls_on_a_context(_Config) ->
    {ok, Bindings} = in_one_process("A5", #{}, fun(Evaluate) -> {ok, Evaluate()} end),
    4.0 = maps:get('Result', Bindings),
    ok.

a6_starts_contexts(_Config) ->
    in_one_process("A6", #{}).

a7_keeps_contexts_apart(_Config) ->
    in_one_process("A7", #{}).

a8_offers_the_router(_Config) ->
    Running = py_context_router:num_contexts(),
    lists:foreach(fun(Line) -> ok = in_one_process(Line, fun() -> ok end, Running) end, expressions("A8")),
    %% With options, when the pool was stopped before.
    lists:foreach(
        fun({Line, N}) ->
            ok = py_context_router:stop(),
            ok = in_one_process(Line, fun() -> ok end, N)
        end,
        [
            {Line, list_to_integer(N)}
         || Line <- expressions("A8"),
            {match, [N]} <- [re:run(text(Line), "contexts => ([0-9]+)", [{capture, [1], list}])]
        ]
    ).

%% --- A9 to A12 ------------------------------------------------------------------------

a9_limits_requests(_Config) ->
    [Max, Current, Set, _Overloaded] = expressions("A9"),
    ?assertEqual(erlang:system_info(schedulers) * 2 + 1, value(Max)),
    ?assertEqual(0, value(Current)),
    ?assertEqual(ok, value(Set)),
    ?assertEqual(50, value(Max)).

a9_is_overloaded_for_thirty_seconds(Config) ->
    {Pid, Ref} = proplists:get_value(slow, Config),
    %% It belongs to the process of init_per_suite, which may have ended.
    Mine = monitor(process, Pid),
    Result = receive {'DOWN', R, process, Pid, Reason} when R =:= Mine; R =:= Ref -> Reason end,
    case Result of
        noproc -> {ok, Seen} = slow_result(), Seen = true;
        true -> ok
    end.

overloaded_in_a_vm(Line) ->
    Peer = py_test:start_vm(),
    Result =
        try
            py_test:in_vm(Peer, ?MODULE, overloaded, [Line])
        after
            py_test:stop_vm(Peer)
        end,
    ok = persistent_term:put({?MODULE, slow}, Result),
    Result.

slow_result() ->
    {ok, persistent_term:get({?MODULE, slow})}.

overloaded(Line) ->
    {ok, _} = application:ensure_all_started(erlang_python),
    Max = py_semaphore:max_concurrent(),
    Holder = spawn(fun() ->
        [ok = py_semaphore:acquire(0) || _ <- lists:seq(1, Max)],
        receive stop -> ok end
    end),
    ok = py_test:wait_until(fun() -> py_semaphore:current() =:= Max end),
    {Ms, {_, Bindings}} = py_test:elapsed(fun() -> evaluate(Line, #{}) end),
    Holder ! stop,
    #{'Current' := Max, 'Max' := Max} = maps:from_list(Bindings),
    Ms >= 29999 andalso Ms < 32000.

a10_is_configured(Config) ->
    [Text] = [T || T <- parts("A10")],
    File = filename:join(proplists:get_value(priv_dir, Config), "sys.config"),
    ok = file:write_file(File, Text),
    ?assertEqual({8, 50, worker}, configured(File)),
    ok = file:write_file(File, "[{erlang_python, [{num_contexts, 16}]}].\n"),
    ?assertMatch({16, _, worker}, configured(File)).

configured(File) ->
    Peer = py_test:start_vm(#{}, ["-config", filename:rootname(File)]),
    try
        {ok, _} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
        {
            py_test:in_vm(Peer, py_context_router, num_contexts, []),
            py_test:in_vm(Peer, py_semaphore, max_concurrent, []),
            py_test:in_vm(Peer, py, execution_mode, [])
        }
    after
        py_test:stop_vm(Peer)
    end.

a11_runs_calls_in_parallel(_Config) ->
    {ok, Bindings} = in_one_process("A11", #{}, fun(Evaluate) -> {ok, Evaluate()} end),
    ?assertEqual([{ok, 4.0}, {ok, 5.0}, {ok, 6.0}], maps:get('Results', Bindings)).

a12_tells_its_load(_Config) ->
    Lines = [E || E <- expressions("A12"), re:run(text(E), "Stats") =:= nomatch],
    2 = length(Lines),
    ok = run(Lines, #{}).

a12_tells_of_memory(_Config) ->
    case erlang:function_exported(py, memory_stats, 0) of
        true -> in_one_process("A12", #{});
        false -> {skip, "py:memory_stats/0 is not there"}
    end.

%% --- A13 to A16 -----------------------------------------------------------------------

a13_shares_state(_Config) ->
    [Store, Fetch] = expressions("A13"),
    [Python] = [B || B <- blocks("python"), string:find(B, "# A13") =/= nomatch],
    ok = value(Store),
    ok = py:exec(["data = b'12345'\n", Python]),
    {ok, true} = py:eval("config == {'model': 'gpt-4', 'timeout': 30000}"),
    {_, Bindings} = evaluate(Fetch, #{}),
    1 = proplists:get_value('Total', Bindings),
    {ok, 5} = py:state_fetch(<<"bytes_processed">>).

a14_calls_back_and_forth(_Config) ->
    ok = in_one_process("A14", #{}, fun(Evaluate) ->
        ok = py:exec("def complex_compute(x): return x * x"),
        Evaluate(),
        {ok, 19} = py:call('__main__', process, [3]),
        ok
    end).

a15_nests_ten_levels(_Config) ->
    Modes = [worker | [owngil || py:subinterp_supported()]],
    [
        begin
            ok = py_test:start([{context_mode, Mode} | More]),
            ok = in_one_process("A15", #{})
        end
     || Mode <- Modes, More <- [[], [{num_contexts, 1}, {max_concurrent, 1}]]
    ],
    ok.

%% Compiled as rebar3 does it; the Python half is found beside the source.
a16_tours_reentrant_calls(Config) ->
    Source = filename:join(root(), "examples/reentrant_demo.erl"),
    {ok, reentrant_demo, Binary} = compile:file(Source, [binary, return_errors, warnings_as_errors]),
    {module, _} = code:load_binary(reentrant_demo, Source, Binary),
    [
        begin
            ok = py_test:start([{context_mode, Mode} | More]),
            [ok, ok] = py_test:result_of(py_test:spawn_caller(fun() ->
                [value(E) || E <- transcript_expressions("A16")]
            end))
        end
     || Mode <- [worker | [owngil || py:subinterp_supported()]],
        More <- [[], [{num_contexts, 1}, {max_concurrent, 1}]]
    ],
    %% Beside the compiled module.
    Dir = filename:join(proplists:get_value(priv_dir, Config), "compiled"),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    ok = file:write_file(filename:join(Dir, "reentrant_demo.beam"), Binary),
    {ok, _} = file:copy(filename:rootname(Source) ++ ".py", filename:join(Dir, "reentrant_demo.py")),
    true = code:delete(reentrant_demo),
    _ = code:purge(reentrant_demo),
    true = code:add_patha(Dir),
    ok = value(hd(transcript_expressions("A16"))),
    true = code:del_path(Dir),
    true = code:delete(reentrant_demo),
    _ = code:purge(reentrant_demo),
    ok.

a16_is_on_the_path_of_the_shell(_Config) ->
    {ok, Terms} = file:consult(filename:join(root(), "rebar.config")),
    ?assertEqual({extra_src_dirs, [{"examples", [{recursive, false}]}]}, lists:keyfind(extra_src_dirs, 1, Terms)).

%% --- examples/ ------------------------------------------------------------------------

progress_is_told_in_order(_Config) ->
    progress = example(progress),
    Self = self(),
    ?assertEqual({ok, 6057}, progress:run(60000, fun(Done, All) -> Self ! {shown, Done, All} end)),
    ?assertEqual([{shown, Done, 60000} || Done <- [20000, 40000, 60000]], shown()),
    ok = progress:main(),
    unload(progress).

shown() ->
    receive
        Shown = {shown, _, _} -> [Shown | shown()]
    after 0 -> []
    end.

fetches_pages_through_asyncio(_Config) ->
    async_fetch = example(async_fetch),
    %% Each page has its length, whichever way it came.
    Bytes = fun(N) -> lists:sum([length("page /") + length(integer_to_list(I)) || I <- lists:seq(1, N)]) end,
    [
        begin
            ok = py_test:start([{context_mode, Mode}, {num_contexts, 1}]),
            #{turns := {100, TurnBytes}, at_once := {1000, AllBytes}} = async_fetch:run(1000),
            ?assertEqual({Bytes(100), Bytes(1000)}, {TurnBytes, AllBytes})
        end
     || Mode <- [worker | [owngil || py:subinterp_supported()]]
    ],
    unload(async_fetch).

%% Compiled as make example does it.
example(Name) ->
    Source = filename:join([root(), "examples", atom_to_list(Name) ++ ".erl"]),
    {ok, Name, Binary} = compile:file(Source, [binary, return_errors, warnings_as_errors]),
    {module, Name} = code:load_binary(Name, Source, Binary),
    Name.

unload(Name) ->
    true = code:delete(Name),
    _ = code:purge(Name),
    ok.

tokens_are_read_until_enough(_Config) ->
    stream_tokens = example(stream_tokens),
    Self = self(),
    {20, {error, <<"cancelled">>}} = stream_tokens:run(0.001, 20, fun(Token) -> Self ! {token, Token} end),
    ?assertEqual({ok, true}, py:eval("closed")),
    ?assertEqual(<<"the">>, receive {token, First} -> First end),
    [receive {token, _} -> ok end || _ <- lists:seq(2, 20)],
    ok = stream_tokens:main(),
    unload(stream_tokens).

shares_arrays(_Config) ->
    arrays = example(arrays),
    ok = py_test:start([{num_contexts, 2}, {python, list_to_binary(py_test:test_python())}]),
    try py:call(importlib, import_module, [numpy]) of
        {error, {'ModuleNotFoundError', _}} -> {skip, "numpy is not installed: make venv"};
        _ -> ok = py_test:result_of(py_test:spawn_caller(fun arrays:all/0))
    after
        unload(arrays)
    end.

%% --- running --------------------------------------------------------------------------

%% All expressions of a part in a process of its own.
in_one_process(Part, Bindings) ->
    in_one_process(Part, Bindings, fun(Evaluate) -> _ = Evaluate(), ok end).

in_one_process(Part, Bindings, Fun) when is_list(Part), is_map(Bindings) ->
    py_test:result_of(py_test:spawn_caller(fun() ->
        Fun(fun() -> all_of(expressions(Part), Bindings) end)
    end));
%% One of them, and how many contexts there are then.
in_one_process(Expression, _Fun, Contexts) ->
    py_test:result_of(py_test:spawn_caller(fun() ->
        Needed = #{'Ctx' => py_context_router:contexts() =/= [] andalso py:context(1)},
        Unbound = case text(Expression) of "Ctx =" ++ _ -> #{}; _ -> Needed end,
        {_, Bindings} = evaluate(Expression, Unbound),
        [?assertEqual(Contexts, length(Value)) || {'Contexts', Value} <- Bindings],
        _ = py_context_router:start(),
        ok
    end)).

run(Expressions, Bindings) ->
    py_test:result_of(py_test:spawn_caller(fun() -> _ = all_of(Expressions, Bindings), ok end)).

all_of(Expressions, Bindings) ->
    lists:foldl(
        fun(Expression, Known) ->
            {_, New} = evaluate(Expression, Known),
            maps:from_list(New)
        end,
        Bindings,
        Expressions
    ).

value(Expression) ->
    {Value, _} = evaluate(Expression, #{}),
    Value.

evaluate(Forms, Bindings) ->
    {value, Value, New} = erl_eval:exprs(Forms, maps:to_list(Bindings)),
    {Value, New}.

%% What is printed and what comes.
transcript(Part) ->
    [Text] = parts(Part),
    Lines = string:lexemes(Text, "\n"),
    pairs(Lines).

pairs([Asked, Printed | Rest]) ->
    [Forms] = parse(strip_prompt(Asked)),
    [Expected] = parse(Printed ++ "."),
    [{value(Expected), value(Forms)} | pairs(Rest)];
pairs([]) ->
    [].

transcript_expressions(Part) ->
    [Text] = parts(Part),
    lists:append([parse(strip_prompt(Line)) || Line <- string:lexemes(Text, "\n")]).

strip_prompt(Line) ->
    {match, [Rest]} = re:run(Line, "^[0-9]+> (.*)$", [{capture, [1], list}]),
    Rest.

text(Forms) ->
    lists:flatten([erl_pp:exprs(Forms)]).

%% --- reading --------------------------------------------------------------------------

%% The expressions of a part, each up to its dot.
expressions(Part) ->
    [Text] = parts(Part),
    parse(Text).

parse(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    split(Tokens, []).

split([], []) ->
    [];
split([Dot = {dot, _} | Rest], Form) ->
    {ok, Exprs} = erl_parse:parse_exprs(lists:reverse([Dot | Form])),
    [Exprs | split(Rest, [])];
split([Token | Rest], Form) ->
    split(Rest, [Token | Form]).

%% The text of the part with that name in the Erlang block.
parts(Name) ->
    [Block] = blocks("erlang"),
    [_ | Parts] = re:split(Block, "^%% (?=A[0-9]+\\.)", [multiline, {return, list}]),
    [
        string:join(tl(string:split(Part, "\n", all)), "\n")
     || Part <- Parts, lists:prefix(Name ++ ".", Part)
    ].

blocks(Language) ->
    File = filename:join([root(), "tests", "erl", "py_examples_SUITE_data", "acceptance.md"]),
    {ok, Text} = file:read_file(File),
    {match, Found} = re:run(Text, "```" ++ Language ++ "\n(.*?)```", [
        global, dotall, {capture, [1], list}
    ]),
    lists:append(Found).

root() ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    filename:dirname(filename:dirname(filename:dirname(filename:absname(Source)))).
