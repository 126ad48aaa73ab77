%% SPDX-License-Identifier: Apache-2.0

%% @doc What the errors for misuse say, and where: shells of Erlang and Elixir, a node where
%% the application does not run, contexts of other nodes, and any term in any place.
-module(py_error_info_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 300}}].

all() ->
    [
        answers_what_python_is_before_the_start_and_after_the_stop,
        says_that_the_application_is_not_started,
        takes_keyword_arguments_in_a_list_for_what_they_are,
        does_not_take_an_empty_list_for_keyword_arguments,
        says_what_a_function_takes_in_the_words_of_that_function,
        names_the_unknown_option_and_the_one_that_is_meant,
        names_the_pool_that_does_not_run,
        names_the_function_whatever_way_a_request_takes,
        refuses_a_context_of_another_node,
        stops_no_process_but_a_context,
        explains_a_bad_key_that_came_after_the_start,
        prints_long_values_in_short,
        shows_in_the_shell_of_erlang,
        shows_in_elixir,
        explains_any_term_in_any_place
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    ok = py_test:start([{num_contexts, 2}]),
    Config.

end_per_testcase(_Case, _Config) ->
    %% Some cases stop it.
    ok = py_test:start([]),
    py_test:clean().

%% --- where the application does not run -------------------------------------------------

answers_what_python_is_before_the_start_and_after_the_stop(_Config) ->
    Running = python(),
    {worker, _, _, _} = Running,
    ok = py_test:stop(),
    ?assertEqual(Running, python()),
    ok = application:set_env(erlang_python, context_mode, owngil),
    IsFree = py_test:is_free_threaded(),
    ?assertEqual(
        case IsFree of true -> worker; false -> owngil end, py:execution_mode()
    ),
    ok = application:unset_env(erlang_python, context_mode),
    Peer = py_test:start_vm(),
    try
        ?assertEqual(Running, py_test:in_vm(Peer, ?MODULE, python, []))
    after
        py_test:stop_vm(Peer)
    end.

python() ->
    {
        py:execution_mode(), py:subinterp_supported(), py_nif:subinterp_supported(),
        py_nif:owngil_supported()
    }.

says_that_the_application_is_not_started(_Config) ->
    Ctx = py:context(1),
    Ref = py_context:get_nif_ref(Ctx),
    ok = py_test:stop(),
    [
        ?assertMatch({_, {match, _}}, {Call, re:run(texts(Call), "ensure_all_started.*; erlang_python is not started")})
     || Call <- [
            {py, call, [math, sqrt, [16]]},
            {py, call, [math, sqrt, [16], #{}]},
            {py, call, [Ctx, math, sqrt, [16]]},
            {py, call, [default, math, sqrt, [16]]},
            {py, call, [Ctx, math, sqrt, [16], #{}, 1000]},
            {py, eval, ["1"]},
            {py, eval, [Ctx, "1"]},
            {py, exec, ["pass"]},
            {py, exec, [Ctx, "pass"]},
            {py, cast, [math, sqrt, [16]]},
            {py, spawn_call, [Ctx, math, sqrt, [16]]},
            {py, parallel, [[{math, sqrt, [16]}]]},
            {py, context, []},
            {py, context, [1]},
            {py, get_local_env, [Ctx]},
            {py, start_contexts, []},
            {py, register_pool, [io, math]},
            {py, register_function, [f, fun(_) -> ok end]},
            {py, state_fetch, [key]},
            {py, state_store, [key, value]},
            {py, state_incr, [key]},
            {py, state_keys, []},
            {py, version, []},
            {py, stats, []},
            {py, gc, []},
            {py, memory_stats, []},
            {py, tracemalloc_start, []},
            {py_context, start_link, [id, worker]},
            {py_context, new, [#{}]},
            {py_context, call, [Ctx, math, sqrt, [16]]},
            {py_context, create_local_env, [Ctx]},
            {py_context, get_nif_ref, [Ctx]},
            {py_context_sup, start_context, [id, worker]},
            {py_context_router, start, []},
            {py_context_router, start_pool, [io, 1]},
            {py_context_router, get_context, []},
            {py_state, fetch, [key]},
            {py_callback, register, [f, fun(_) -> ok end]}
        ]
    ],
    %% What there is to say is the same.
    ok = py:stop_contexts(),
    ok = py_context_router:stop_pool(io),
    ok = py:unregister_pool(math),
    ok = py:unregister_function(f),
    ok = py_context:stop(Ctx),
    not_running = py:interrupt(Ctx),
    default = py_context_router:lookup_pool(math, sqrt),
    false = py:contexts_started(),
    [] = py_context_router:list_pool_registrations(),
    [] = py_context_router:contexts(),
    [] = py_context_sup:which_contexts(),
    {error, not_found} = py_callback:lookup(f),
    {error, {context_died, shutdown}} = py_nif:context_eval(Ref, "1", #{}).

%% --- what the texts say -----------------------------------------------------------------

takes_keyword_arguments_in_a_list_for_what_they_are(_Config) ->
    #{1 := Target, 4 := Kwargs} = fault({py, call, [json, dumps, [[1]], [{indent, 2}]]}),
    ?assertMatch({match, _}, re:run(Target, "json is no pool that runs")),
    ?assertMatch({match, _}, re:run(Kwargs, "must be a map, such as #{indent => 2}")),
    #{4 := _} = fault({py, cast, [json, dumps, [[1]], [{indent, 2}]]}),
    #{4 := _} = fault({py, call, [json, dumps, [[1]], [{indent, 2}], 5000]}),
    #{1 := _} = Other = fault({py, call, [json, dumps, [[1]], [1, 2]]}),
    ?assertNot(is_map_key(4, Other)).

does_not_take_an_empty_list_for_keyword_arguments(_Config) ->
    ?assertMatch([1], maps:keys(fault({py, call, [json, math, pi, []]}))).

says_what_a_function_takes_in_the_words_of_that_function(_Config) ->
    {ok, Open} = py_array:new(uint8, {5}),
    {ok, Sealed} = py_array:from_binary(<<"bytes">>, uint8, {5}),
    [
        ?assertMatch({match, _}, re:run(text(Position, Call), Text))
     || {Position, Text, Call} <- [
            {2, "^Timeout must be milliseconds .*, and is -1$", {py, await, [make_ref(), -1]}},
            {5, "^Options must be milliseconds .* or a map of options, and is -1$", {py, call, [math, sqrt, [16], #{}, -1]}},
            {2, "call register_function/3, and is {m,f}$", {py, register_function, [f, {m, f}]}},
            {2, "call register_function/3, and is m$", {py, register_function, [f, m]}},
            {1, "^Bin must have as many bytes as .*, 8, and has 3$", {py_array, from_binary, [<<1, 2, 3>>, float64, {1}]}},
            {1, "^Dtype must be one of bool, int8, .*, and is float$", {py_array, new, [float, {1}]}},
            {3, "^Bin must have at most 3 bytes, .*, and has 4$", {py_array, write, [Open, 2, <<"four">>]}},
            {3, "^Length must be at most 2 from there, and is 3$", {py_array, slice, [Sealed, 3, 3]}},
            {1, "^Array must be an array, .*, and is none$", {py_array, to_list, [none]}}
        ]
    ].

text(Position, Call) ->
    #{Position := Text} = fault(Call),
    Text.

names_the_unknown_option_and_the_one_that_is_meant(_Config) ->
    Near = fault({py, call, [math, sqrt, [16], #{}, #{timout => 1}]}),
    ?assertMatch(#{5 := _}, Near),
    ?assertMatch({match, _}, re:run(maps:get(5, Near), "timout.*\\(is timeout meant\\?\\)")),
    #{5 := Far} = fault({py, call, [math, sqrt, [16], #{}, #{bogus => 1}]}),
    ?assertEqual(nomatch, re:run(Far, "meant")),
    #{5 := Bad} = fault({py, call, [math, sqrt, [16], #{}, #{timeout => soon}]}),
    ?assertMatch({match, _}, re:run(Bad, "timeout soon")),
    #{3 := Pool} = fault({py_context_router, start_pool, [p, 1, #{num_worker => 1}]}),
    ?assertMatch({match, _}, re:run(Pool, "is num_workers meant")),
    #{1 := New} = fault({py_context, new, [#{mode => thread}]}),
    ?assertMatch({match, _}, re:run(New, "worker or owngil")).

names_the_pool_that_does_not_run(_Config) ->
    {ok, _} = py_context_router:start_pool(io, 1),
    ok = py:register_pool(io, math),
    ok = py_context_router:stop_pool(io),
    #{general := Registered} = fault({py, call, [math, sqrt, [16]]}),
    ?assertMatch({match, _}, re:run(Registered, "io is no pool that runs.*default")),
    ok = py:stop_contexts(),
    #{general := Stopped} = fault({py, eval, ["1"]}),
    ?assertMatch({match, _}, re:run(Stopped, "default is no pool that runs.*py:start_contexts")),
    {ok, _} = py:start_contexts(),
    {ok, 1} = py:eval("1").

%% A request without options goes another way, once the process has used the context.
names_the_function_whatever_way_a_request_takes(_Config) ->
    Ctx = py:context(1),
    [
        begin
            {ok, 4.0} = apply(Module, call, [Ctx, math, sqrt, [16] | More]),
            {ok, 1} = Module:eval(Ctx, "1"),
            #{3 := _} = fault({Module, call, [Ctx, math, {}, [16] | More]}),
            #{2 := _} = fault({Module, call, [Ctx, 5, sqrt, [16] | More]}),
            #{2 := _} = fault({Module, eval, [Ctx, 5]}),
            #{2 := _} = fault({Module, exec, [Ctx, 5]})
        end
     || {Module, Mores} <- [{py, [[], [1000], [#{}]]}, {py_context, [[], [#{}], [#{}, 1000], [#{}, #{}]]}],
        More <- Mores
    ],
    #{1 := _} = fault({py_context, call, [5, math, sqrt, [16], #{}]}),
    #{4 := _} = fault({py_context, call, [Ctx, math, sqrt, foo, #{}]}),
    #{2 := _} = fault({py, call, [math, {}, [16]]}),
    #{1 := _} = fault({py, eval, [{}]}).

explains_a_bad_key_that_came_after_the_start(_Config) ->
    ok = application:set_env(erlang_python, max_state_entries, lots),
    #{general := Text} = fault({py, state_store, [new_key, 1]}),
    ?assertMatch({match, _}, re:run(Text, "max_state_entries")),
    %% It has taken no room.
    ok = application:set_env(erlang_python, max_state_entries, length(py:state_keys()) + 1),
    ok = py:state_store(new_key, 1),
    {error, full} = py:state_store(other_key, 1),
    ok = application:unset_env(erlang_python, max_state_entries),
    ok = py:state_remove(new_key).

prints_long_values_in_short(_Config) ->
    #{2 := Text} = fault({py, call, [math, lists:duplicate(100000, {x}), [16]]}),
    ?assert(byte_size(Text) < 500),
    %% As it prefers who asks; and in the encoding that it can use.
    {badarg, [{M, F, A, Location} | Rest]} = failure({py, call, [math, {"ü"}, [16]]}),
    {error_info, Info} = lists:keyfind(error_info, 1, Location),
    Elixir = [{M, F, A, [{error_info, Info#{pretty_printer => fun(_) -> "pretty ü" end}}]} | Rest],
    #{2 := Pretty} = py_error_info:format_error(badarg, Elixir),
    ?assertMatch({_, _}, binary:match(Pretty, <<"pretty ü"/utf8>>)).

%% --- contexts ---------------------------------------------------------------------------

refuses_a_context_of_another_node(_Config) ->
    Peer = py_test:start_vm(#{name => peer:random_name()}),
    try
        {ok, _} = py_test:in_vm(Peer, application, ensure_all_started, [erlang_python]),
        Ctx = py_test:in_vm(Peer, py, context, [1]),
        ?assertNotEqual(node(), node(Ctx)),
        [
            ?assertMatch(
                {_, {match, _}}, {Call, re:run(maps:get(1, fault(Call)), atom_to_list(node(Ctx)))}
            )
         || Call <- [
                {py, call, [Ctx, math, sqrt, [16]]},
                {py, call, [Ctx, math, sqrt, [16], 1000]},
                {py, call, [Ctx, math, sqrt, [16], #{}, 1000]},
                {py, eval, [Ctx, "1"]},
                {py, exec, [Ctx, "pass"]},
                {py, cast, [Ctx, math, sqrt, [16]]},
                {py, spawn_call, [Ctx, math, sqrt, [16]]},
                {py, get_local_env, [Ctx]},
                {py, interrupt, [Ctx]},
                {py, gc, [Ctx]},
                {py, memory_stats, [Ctx]},
                {py_context, call, [Ctx, math, sqrt, [16]]},
                {py_context, eval, [Ctx, "1"]},
                {py_context, exec, [Ctx, "pass"]},
                {py_context, create_local_env, [Ctx]},
                {py_context, get_nif_ref, [Ctx]},
                {py_context, get_interp_id, [Ctx]},
                {py_context, is_subinterp, [Ctx]},
                {py_context, interrupt, [Ctx]},
                {py_context, stop, [Ctx]},
                {py_context_router, bind_context, [Ctx]}
            ]
        ],
        #{2 := _} = fault({py_context_router, bind_context, [default, Ctx]}),
        %% It lives, and works where it is.
        {ok, 4.0} = py_test:in_vm(Peer, py, call, [Ctx, math, sqrt, [16]])
    after
        py_test:stop_vm(Peer)
    end.

stops_no_process_but_a_context(_Config) ->
    Kernel = whereis(kernel_sup),
    {ok, Agent} = gen_event:start(),
    [ok = py_context:stop(Pid) || Pid <- [Kernel, Agent, self()]],
    ?assert(is_process_alive(Kernel)),
    ?assert(is_process_alive(Agent)),
    ok = gen_event:stop(Agent),
    {ok, Ctx} = py_context:start_link(id, worker),
    Ref = monitor(process, Ctx),
    ok = py_context:stop(Ctx),
    receive {'DOWN', Ref, process, Ctx, normal} -> ok end.

%% --- shells -----------------------------------------------------------------------------

shows_in_the_shell_of_erlang(_Config) ->
    Said = in_shell("erl -pa " ++ ebin(), "py:call(math, 5, [16]).\nhalt().\n"),
    [?assertMatch({_, {match, _}}, {Said, re:run(Said, Text)}) || Text <- [
        "bad argument",
        "in function  py:call/3",
        "called as py:call\\(math,5,\\[16\\]\\)",
        "argument 2: Function must be text"
    ]],
    Stopped = in_shell("erl -pa " ++ ebin(), "py:call(math, sqrt, [16]).\nhalt().\n"),
    ?assertMatch({match, _}, re:run(Stopped, "erlang_python is not started")).

shows_in_elixir(_Config) ->
    case os:find_executable("elixir") of
        false ->
            {skip, "there is no Elixir"};
        _ ->
            Said = in_elixir(":py.call(:math, {5}, [16])"),
            [?assertMatch({_, {match, _}}, {Said, re:run(Said, Text)}) || Text <- [
                "ArgumentError.*given arguments",
                "2nd argument: Function must be text: an atom, a binary or a string, and is \\{5\\}",
                ":py.call\\(:math, \\{5\\}, \\[16\\]\\)"
            ]],
            Named = in_elixir(":py_context_router.start_pool(:p, \"x\")"),
            %% As Elixir prints a value.
            ?assertMatch({match, _}, re:run(Named, "2nd argument: Size must .* and is \"x\"")),
            Stopped = in_elixir(":py.eval(\"1\")"),
            ?assertMatch({match, _}, re:run(Stopped, "erlang_python is not started")),
            Died = in_elixir(
                "Application.ensure_all_started(:erlang_python); :py.get_local_env(self())"
            ),
            ?assertMatch({match, _}, re:run(Died, "Ctx is no live context"))
    end.

in_elixir(Code) ->
    in_shell("elixir --erl '-pa " ++ ebin() ++ "' -e '" ++ Code ++ "'", "").

ebin() ->
    filename:absname(filename:dirname(code:which(py))).

%% What a program says, with that on its standard input.
in_shell(Command, Input) ->
    os:cmd("printf '%s' '" ++ Input ++ "' | env TERM=dumb " ++ Command ++ " 2>&1").

%% --- any term ---------------------------------------------------------------------------

explains_any_term_in_any_place(Config) ->
    case py_prop:is_there() of
        false -> {skip, "PropEr is not installed"};
        true -> any_term(Config)
    end.

any_term(Config) ->
    {ok, Ctx} = py_context_sup:start_context(id, worker),
    {ok, _} = py_context_router:start_pool(io, 1),
    {ok, Env} = py_context:create_local_env(Ctx),
    Values = #{
        ctx => Ctx,
        env => Env,
        nif_ref => py_context:get_nif_ref(Ctx),
        mark => py_test:marker(Config, "any")
    },
    Forms = list_to_tuple(py_bad_args_SUITE:forms() -- py_bad_args_SUITE:waiting()),
    Case = {proper_types:integer(1, tuple_size(Forms)), proper_types:list({proper_types:boolean(), term()})},
    Property = py_prop:forall(Case, fun({N, Terms}) ->
        {M, F, Kinds} = element(N, Forms),
        Args = arguments(Kinds, Terms, Values),
        ok = judge(M, F, Args, attempt(M, F, Args)),
        true
    end),
    %% In a process of its own: nobody awaits the calls that it spawns.
    {_, Ref} = spawn_monitor(fun() -> exit(py_prop:check(any_term, Property, 3000)) end),
    receive {'DOWN', Ref, process, _, Checked} -> ok = Checked end,
    ok = py_context_sup:stop_context(Ctx),
    ok = py_context_router:stop_pool(io),
    {ok, 4.0} = py:call(math, sqrt, [16]).

arguments([], _Terms, _Values) ->
    [];
arguments([_Kind | Kinds], [{true, Term} | Terms], Values) ->
    [Term | arguments(Kinds, Terms, Values)];
arguments([Kind | Kinds], Terms, Values) ->
    [py_bad_args_SUITE:good(Kind, Values) | arguments(Kinds, rest(Terms), Values)].

rest([]) -> [];
rest([_ | Terms]) -> Terms.

%% No number that would be a long time or many contexts.
term() ->
    Number = proper_types:oneof([
        proper_types:integer(-3, 2), proper_types:integer(1 bsl 32, 1 bsl 70), proper_types:float()
    ]),
    Atom = proper_types:oneof([
        '', worker, default, none, undefined, math, os_path, 'os.path', "text", 'ü', thread
    ]),
    Binary = proper_types:oneof([<<>>, <<"x">>, <<255>>, <<0>>, <<1:3>>, <<"None">>]),
    Process = proper_types:exactly(whereis(kernel_sup)),
    Remote = proper_types:exactly(remote_pid()),
    Ref = proper_types:exactly(make_ref()),
    Fun = proper_types:oneof([fun(_) -> ok end, fun() -> ok end]),
    Leaf = proper_types:oneof([Number, Atom, Binary, Process, Remote, Ref, Fun]),
    Key = proper_types:oneof([timeout, kwargs, traceback, arrays, mode, num_workers, sandbox, preload, bogus, <<"timeout">>, 1]),
    proper_types:oneof([
        Leaf,
        Leaf,
        proper_types:list(Leaf),
        [Leaf | Leaf],
        {Leaf, Leaf},
        {py_ctx_ref, Process, Ref},
        {Leaf, Leaf, Leaf},
        map(Key, Leaf),
        map(Leaf, Leaf)
    ]).

map(Key, Value) ->
    proper_types:bind(
        proper_types:list({Key, Value}), fun(Pairs) -> proper_types:exactly(maps:from_list(Pairs)) end, false
    ).

remote_pid() ->
    Node = <<"nobody@nowhere">>,
    binary_to_term(<<131, 88, 119, (byte_size(Node)), Node/binary, 1:32, 0:32, 1:32>>).

attempt(M, F, Args) ->
    try
        {result, apply(M, F, Args)}
    catch
        Class:Reason:Stack -> {Class, Reason, Stack}
    end.

judge(_M, F, Args, {result, Result}) ->
    ok = tidy(F, Args, Result),
    case Result of
        {error, Reason} -> contract(Reason);
        _ -> ok
    end;
judge(M, F, Args, {error, Reason, Stack = [{M, F, Args, _} | _]}) ->
    true = Reason =:= badarg orelse Reason =:= {context_died, noproc},
    Texts = maps:values(py_test:error_texts(Reason, Stack)),
    [_ | _] = Texts,
    [] = [Text || Text <- Texts, not is_sentence(Text)],
    ok.

is_sentence(Text) ->
    is_binary(Text) andalso string:length(Text) > 10 andalso length(string:lexemes(Text, " ")) > 2 andalso
        string:length(Text) < 1000.

%% Terms of section "errors" of the documentation.
contract({Type, Text}) when is_atom(Type); is_binary(Type) ->
    true = is_list(Text) orelse is_atom(Text) orelse is_map(Text) orelse Type =:= not_found,
    ok;
contract({Type, Text, Traceback}) when is_atom(Type), is_list(Text), is_binary(Traceback) -> ok;
contract({overloaded, _, _}) -> ok;
contract({bad_config, Key, _Value, Why}) when is_atom(Key), is_binary(Why) -> ok;
contract({Class, _Reason, Stack}) when is_list(Stack), Class =:= error orelse Class =:= exit orelse Class =:= throw -> ok;
contract(Atom) when is_atom(Atom) -> ok.

%% What follows must not depend on it.
tidy(F, _, {ok, Ctx}) when is_pid(Ctx), (F =:= start_link orelse F =:= new orelse F =:= start_context) ->
    py_context:stop(Ctx);
tidy(start_pool, [Pool | _], {ok, _}) when Pool =/= default ->
    py_context_router:stop_pool(Pool);
tidy(stop_pool, [default], ok) ->
    {ok, _} = py:start_contexts(),
    ok;
tidy(stop_pool, [io], ok) ->
    {ok, _} = py_context_router:start_pool(io, 1),
    ok;
tidy(set_max_concurrent, _, ok) ->
    py_semaphore:set_max_concurrent(10000);
tidy(acquire, _, ok) ->
    py_semaphore:release();
tidy(tracemalloc_start, _, ok) ->
    py:tracemalloc_stop();
tidy(bind_context, _, ok) ->
    py_context_router:unbind_context();
tidy(register_pool, [_ | Name], ok) ->
    apply(py_context_router, unregister_pool, flat(Name));
tidy(_, _, _) ->
    ok.

flat([{Module, Function}]) -> [Module, Function];
flat(Name) -> Name.

%% --- what failed ------------------------------------------------------------------------

%% The texts of a call that must be refused, by the function that was called.
fault(Call = {M, F, Args}) ->
    {badarg, Stack = [{M, F, Args, _} | _]} = failure(Call),
    py_test:error_texts(badarg, Stack).

texts(Call = {M, F, Args}) ->
    {Reason, Stack = [{M, F, Args, _} | _]} = failure(Call),
    lists:join("; ", [Text || {_Key, Text} <- lists:sort(maps:to_list(py_test:error_texts(Reason, Stack)))]).

failure({M, F, Args}) ->
    try apply(M, F, Args) of
        Result -> error({not_refused, {M, F, Args}, Result})
    catch
        error:Reason:Stack -> {Reason, Stack}
    end.
