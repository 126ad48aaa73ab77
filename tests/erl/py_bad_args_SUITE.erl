%% SPDX-License-Identifier: Apache-2.0

%% @doc Misuse of every public function: each argument of each form is replaced by
%% what it cannot be, and the caller must get `badarg' from that function, with a text
%% (EEP 54) at that argument, and nothing run. Then dead
%% pids and stale references, whose errors are documented. Afterwards everything
%% must still answer.
-module(py_bad_args_SUITE).

-compile([export_all, nowarn_export_all]).

-include_lib("stdlib/include/assert.hrl").

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()].

groups() ->
    py_fixture:groups(py_test:modes(), cases(), #{}).

cases() ->
    [
        covers_every_exported_function,
        the_good_arguments_are_good,
        refuses_each_argument_of_a_wrong_type,
        answers_on_contexts_that_are_none,
        answers_with_stale_references,
        survives_names_that_python_does_not_have
    ].

init_per_suite(Config) ->
    Config.

end_per_suite(_Config) ->
    py_test:stop().

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    ok.

init_per_testcase(_Case, Config) ->
    {ok, Ctx} = py_context_sup:start_context(bad_args, proplists:get_value(mode, Config, worker)),
    {ok, Env} = py_context:create_local_env(Ctx),
    {ok, _} = py_context_router:start_pool(io, 1),
    Values = #{
        ctx => Ctx,
        env => Env,
        nif_ref => py_context:get_nif_ref(Ctx),
        mark => py_test:marker(Config, "misuse")
    },
    [{values, Values} | Config].

end_per_testcase(_Case, Config) ->
    #{ctx := Ctx, mark := Mark} = proplists:get_value(values, Config),
    [
        {ok, 4.0} = py:call(C, math, sqrt, [16], 20000)
     || C <- [Ctx | py_context_router:contexts() ++ py_context_router:contexts(io)]
    ],
    {ok, 4.0} = py:call(math, sqrt, [16]),
    [] = py_test:marks(Mark),
    ok = py_context_sup:stop_context(Ctx),
    ok = py_context_router:stop_pool(io),
    py_test:clean().

%% --- the table ------------------------------------------------------------------------

%% Each form of each function, with the kinds of its arguments.
forms() ->
    calls() ++ evals() ++ asynchronous() ++ tasks() ++ streams() ++ contexts() ++ pools() ++ callbacks() ++ arrays() ++ memory().

calls() ->
    [
        {py, call, [module, function, args]},
        {py, call, [module, function, args, kwargs]},
        {py, call, [target, module, function, args]},
        {py, call, [module, function, args, kwargs, options]},
        {py, call, [ctx, module, function, args, options]},
        {py, call, [pool, module, function, args, kwargs]},
        {py, call, [target, module, function, args, kwargs, options]},
        {py, call, [ctx, module, function, args, kwargs, options]},
        {py, parallel, [calls]},
        {py_context, call, [ctx, module, function, args]},
        {py_context, call, [ctx, module, function, args, kwargs]},
        {py_context, call, [ctx, module, function, args, kwargs, options]},
        {py_context, call, [ctx, module, function, args, kwargs, options, env]},
        {py_nif, context_call, [nif_ref, module, function, args, kwargs]},
        {py_nif, context_call, [nif_ref, module, function, args, kwargs, env]}
    ].

evals() ->
    [
        {py, eval, [code]},
        {py, eval, [code, locals]},
        {py, eval, [ctx, code]},
        {py, eval, [code, locals, options]},
        {py, eval, [ctx, code, locals]},
        {py, eval, [ctx, code, locals, options]},
        {py, exec, [code]},
        {py, exec, [code, options_map]},
        {py, exec, [ctx, code]},
        {py, exec, [ctx, code, options_map]},
        {py_context, eval, [ctx, code]},
        {py_context, eval, [ctx, code, locals]},
        {py_context, eval, [ctx, code, locals, options]},
        {py_context, eval, [ctx, code, locals, options, env]},
        {py_context, exec, [ctx, code]},
        {py_context, exec, [ctx, code, env]},
        {py_nif, context_eval, [nif_ref, code, locals]},
        {py_nif, context_eval, [nif_ref, code, locals, env]},
        {py_nif, context_exec, [nif_ref, code]},
        {py_nif, context_exec, [nif_ref, code, env]}
    ].

asynchronous() ->
    [
        {py, F, Form}
     || F <- [cast, spawn_call],
        Form <- [
            [module, function, args],
            [module, function, args, kwargs],
            [target, module, function, args],
            [target, module, function, args, kwargs],
            [ctx, module, function, args, kwargs]
        ]
    ] ++ [{py, await, [ref]}, {py, await, [ref, timeout]}].

tasks() ->
    [
        {py, async_call, [module, function, args]},
        {py, async_call, [module, function, args, kwargs]},
        {py, async_await, [ref]},
        {py, async_await, [ref, timeout]},
        {py, async_gather, [calls]},
        {py, async_gather, [calls, task_timeout]}
    ].

streams() ->
    [
        {py, stream, [module, function, args]},
        {py, stream, [module, function, args, kwargs]},
        {py, stream_eval, [code]},
        {py, stream_eval, [code, locals]},
        {py, stream_start, [module, function, args]},
        {py, stream_start, [module, function, args, stream_options]},
        {py, stream_ack, [ref]},
        {py, stream_ack, [ref, size]},
        {py, stream_cancel, [ref]}
    ].

%% What waits for half a minute for a reference that nobody has.
waiting() ->
    [{py, await, [ref]}, {py, async_await, [ref]}].

contexts() ->
    [
        {py, context, [number]},
        {py_context, start_link, [any, mode]},
        {py_context, start_link, [any, mode, context_options]},
        {py_context, new, [new_options]},
        {py_context, stop, [other_ctx]},
        {py_context, destroy, [other_ctx]},
        {py_context, create_local_env, [ctx]},
        {py_context, get_nif_ref, [ctx]},
        {py_context, get_interp_id, [ctx]},
        {py_context, is_subinterp, [ctx]},
        {py_context_sup, start_context, [any, mode]},
        {py_context_sup, stop_context, [other_ctx]}
    ].

pools() ->
    [
        {py, start_contexts, [pool_options]},
        {py, register_pool, [pool, module]},
        {py, register_pool, [pool, name_pair]},
        {py, unregister_pool, [module]},
        {py, unregister_pool, [name_pair]},
        {py_context_router, start, [pool_options]},
        {py_context_router, start_pool, [any_pool, size]},
        {py_context_router, start_pool, [any_pool, size, mode]},
        {py_context_router, start_pool, [any_pool, size, pool_options]},
        {py_context_router, stop_pool, [any_pool]},
        {py_context_router, pool_started, [any_pool]},
        {py_context_router, get_context, [number]},
        {py_context_router, get_context, [pool]},
        {py_context_router, bind_context, [ctx]},
        {py_context_router, bind_context, [pool, pool_ctx]},
        {py_context_router, unbind_context, [any_pool]},
        {py_context_router, num_contexts, [any_pool]},
        {py_context_router, contexts, [any_pool]},
        {py_context_router, register_pool, [pool, module]},
        {py_context_router, register_pool, [pool, module, function]},
        {py_context_router, unregister_pool, [module]},
        {py_context_router, unregister_pool, [module, function]},
        {py_context_router, lookup_pool, [module, function]}
    ].

callbacks() ->
    [
        {py, register_function, [name, callback]},
        {py, register_function, [name, any_pool, any_pool]},
        {py, unregister_function, [name]},
        {py, state_fetch, [any]},
        {py, state_store, [any, any]},
        {py, state_incr, [counter]},
        {py, state_incr, [counter, amount]},
        {py, state_decr, [counter]},
        {py, state_decr, [counter, amount]},
        {py, state_remove, [any]},
        {py, shared_dict_get, [dict, dict_key]},
        {py, shared_dict_get, [dict, dict_key, any]},
        {py, shared_dict_set, [dict, dict_key, any]},
        {py, shared_dict_del, [dict, dict_key]},
        {py, shared_dict_keys, [dict]},
        {py, shared_dict_destroy, [dict]},
        {py_channel, new, [channel_options]},
        {py_channel, send, [channel, any]},
        {py_channel, close, [channel]},
        {py_channel, info, [channel]},
        {py_byte_channel, new, [channel_options]},
        {py_byte_channel, send, [byte_channel, bin]},
        {py_byte_channel, try_receive, [byte_channel]},
        {py_byte_channel, recv, [byte_channel, timeout]},
        {py_byte_channel, close, [byte_channel]},
        {py_byte_channel, info, [byte_channel]},
        {py_buffer, new, [content_length]},
        {py_buffer, write, [any, bin]},
        {py_buffer, close, [buffer]},
        {py_callback, register, [name, callback]},
        {py_callback, unregister, [name]},
        {py_callback, lookup, [name]},
        {py_callback, execute, [name, args]},
        {py_semaphore, set_max_concurrent, [size]},
        {py_semaphore, acquire, [timeout]},
        {py_state, fetch, [any]},
        {py_state, store, [any, any]},
        {py_state, remove, [any]},
        {py_state, incr, [counter]},
        {py_state, incr, [counter, amount]},
        {py_state, decr, [counter]},
        {py_state, decr, [counter, amount]}
    ].

arrays() ->
    [
        {py_array, from_binary, [array_bin, dtype, shape]},
        {py_array, new, [dtype, shape]},
        {py_array, write, [open_array, byte_offset, array_bin]},
        {py_array, seal, [open_array]},
        {py_array, from_list, [nested, dtype]},
        {py_array, slice, [array, start, rows]},
        {py_array, is_array, [any]}
        | [{py_array, F, [array]} || F <- [to_binary, to_list, shape, dtype, nbytes, info]]
    ].

memory() ->
    [
        {py, interrupt, [ctx]},
        {py, get_local_env, [ctx]},
        {py, memory_stats, [ctx]},
        {py, gc, [generation]},
        {py, gc, [ctx]},
        {py, gc, [ctx, generation]},
        {py, tracemalloc_start, [frames]},
        {py, reload, [module]},
        {py_context, interrupt, [ctx]}
    ].

%% --- kinds ----------------------------------------------------------------------------

good(module, _) -> ep_probe;
good(function, _) -> mark;
good(args, #{mark := Mark}) -> [<<Mark/binary, ".good">>];
good(kwargs, _) -> #{text => <<"t">>};
good(options, _) -> #{timeout => 20000};
good(options_map, _) -> #{timeout => 20000};
good(timeout, _) -> 0;
good(code, _) -> "None";
good(locals, _) -> #{x => 1};
good(target, _) -> io;
good(pool, _) -> io;
good(any_pool, _) -> never_started;
good(ctx, #{ctx := Ctx}) -> Ctx;
good(pool_ctx, _) -> hd(py_context_router:contexts(io));
good(env, #{env := Env}) -> Env;
good(nif_ref, #{nif_ref := Ref}) -> Ref;
good(calls, Values) -> [{ep_probe, mark, good(args, Values)}];
good(ref, _) -> make_ref();
good(number, _) -> 1;
good(size, _) -> 1;
good(name_pair, _) -> {ep_probe, mark};
good(other_ctx, _) -> dead();
good(any, _) -> {any, "term"};
good(name, _) -> bad_args_function;
good(callback, _) -> fun(_) -> ok end;
good(counter, _) -> {bad_args, counter};
good(amount, _) -> 2;
good(bin, _) -> <<"bin">>;
good(array, _) -> element(2, py_array:from_list([[1, 2, 3], [4, 5, 6]], uint8));
good(array_bin, _) -> <<"binary">>;
good(dtype, _) -> uint8;
good(nested, _) -> [[1, 2], [3, 4]];
good(open_array, _) -> element(2, py_array:new(uint8, {2, 3}));
good(shape, _) -> {2, 3};
good(Size, _) when Size =:= byte_offset; Size =:= start -> 0;
good(rows, _) -> 2;
good(buffer, _) -> element(2, py_buffer:new());
good(byte_channel, _) -> element(2, py_byte_channel:new());
good(channel, _) -> element(2, py_channel:new());
good(channel_options, _) -> #{max_size => 1000};
good(content_length, _) -> 5;
good(dict, _) -> element(2, py:shared_dict_new());
good(dict_key, _) -> <<"key">>;
good(generation, _) -> 2;
good(frames, _) -> 1;
good(mode, _) -> worker;
good(context_options, _) -> #{kill_after => 500};
good(new_options, _) -> #{mode => worker};
good(pool_options, _) -> #{num_workers => 1};
good(task_timeout, _) -> 20000;
good(stream_options, _) -> #{credit => 100, kwargs => #{text => <<"t">>}}.

%% What would leave a mark if it ran, but for the argument that is wrong.
marking(args, #{mark := Mark}) -> [Mark];
marking(code, #{mark := Mark}) -> ["__import__('ep_probe').mark('", Mark, "')"];
marking(Kind, Values) -> good(Kind, Values).

bad(module, _) -> not_text();
bad(function, _) -> not_text();
bad(code, _) -> not_text();
bad(args, _) -> [5, foo, {}, <<>>, #{}];
bad(kwargs, _) -> [5, foo, {}, <<>>, []];
bad(locals, _) -> [5, foo, {}, <<>>, []];
bad(options, V) -> [-1, 1.5, forever, <<>>, 16#100000000 | bad(options_map, V)];
bad(options_map, _) ->
    [
        [],
        [{timeout, 1}],
        {},
        #{bogus => 1},
        #{<<"timeout">> => 1},
        #{timeout => soon},
        #{timeout => -1},
        #{timeout => 1.5},
        #{traceback => 1},
        #{traceback => undefined},
        #{kwargs => []},
        #{arrays => tuples}
    ];
bad(timeout, _) -> [-1, 1.5, forever, <<>>, [], #{}, 16#100000000];
bad(target, _) -> [5, {}, <<"io">>, "io", no_such_pool, #{}, make_ref()];
bad(pool, _) -> [5, {}, <<"io">>, "io", no_such_pool, #{}, make_ref()];
bad(any_pool, _) -> [5, {}, <<"io">>, "io", #{}, make_ref(), self()];
bad(ctx, _) -> [5, {}, <<"ctx">>, no_such_pool, make_ref(), #{}];
bad(other_ctx, V) -> bad(ctx, V);
bad(pool_ctx, V = #{ctx := Ctx}) -> [Ctx, self(), dead() | bad(ctx, V)];
bad(env, #{ctx := Ctx}) -> [5, foo, {}, <<>>, make_ref(), self(), py_context_table:lane(Ctx)];
bad(nif_ref, #{ctx := Ctx, env := Env}) ->
    [5, foo, {}, make_ref(), Ctx, Env, {py_ctx_ref, Ctx, Env}, {py_ctx_ref, Ctx}];
bad(calls, #{mark := Mark}) ->
    Good = {ep_probe, mark, [Mark]},
    [
        [Good, Bad]
     || Bad <- [foo, {ep_probe, mark}, {ep_probe, mark, Mark}, {1, mark, [Mark]}, {ep_probe, 1, [Mark]}]
    ] ++ [[Good | Good], Good, foo, 5, #{}];
bad(ref, _) -> [5, foo, {}, self(), <<>>];
bad(number, _) -> [0, -1, 1.0, 3, no_such_pool, <<"1">>, {}];
bad(size, _) -> [0, -1, 1.0, foo, "2", {}];
bad(name_pair, _) -> [{ep_probe}, {ep_probe, 1}, {1, mark}, {ep_probe, mark, 0}];
bad(any, _) -> [];
bad(name, _) -> not_text();
bad(callback, _) -> [5, foo, <<>>, fun() -> ok end, fun(_, _) -> ok end, {1, f}, {m, f, 1}, []];
bad(counter, _) -> [];
bad(Array, V) when Array =:= array; Array =:= open_array -> [5, foo, {}, make_ref(), self(), <<>>, good(channel, V)];
bad(array_bin, V) -> [<<"seven b">> | bad(bin, V)];
bad(dtype, _) -> [5, float, {uint8}, "uint8", <<"uint8">>];
bad(nested, _) -> [foo, [[1, 2], [3]], [1, [2]], [256], [1.5], {1, 2}, [1 | 2]];
bad(shape, _) -> [6, [2, 3], {-1}, {1.0}, {foo}, list_to_tuple(lists:duplicate(33, 1))];
bad(Size, _) when Size =:= byte_offset; Size =:= start; Size =:= rows -> [-1, 7, 1.0, foo, <<>>];
bad(bin, _) -> [5, foo, "text", {}, <<1:3>>, []];
bad(Handle, V) when Handle =:= buffer; Handle =:= byte_channel; Handle =:= channel ->
    Others = [good(Other, V) || Other <- [buffer, byte_channel, channel, dict], Other =/= Handle],
    Others ++ [5, foo, {}, make_ref(), self(), <<>>];
bad(channel_options, _) -> [5, foo, [], {}, #{size => 1}, #{max_size => -1}, #{max_size => 1.0}, #{max_size => 1, x => 1}];
bad(content_length, _) -> [-1, 1.0, foo, <<"5">>, {}];
bad(dict, V) -> [5, foo, {}, make_ref(), self(), <<>>, good(channel, V)];
bad(dict_key, _) -> [5, foo, "key", {}, <<1:3>>];
bad(amount, _) -> [1.5, foo, <<"1">>, []];
bad(generation, _) -> [-1, 3, 1.0, foo, <<>>, []];
bad(frames, _) -> [0, -1, 1.5, foo, 65536, <<>>];
bad(mode, _) -> [5, thread, <<"worker">>, "worker", {}];
bad(context_options, _) -> [5, foo, [], {}, #{bogus => 1}, #{contexts => 1}, #{num_workers => 1}];
bad(new_options, _) -> [5, foo, [], {}, #{bogus => 1}, #{mode => thread}, #{mode => <<"worker">>}];
bad(pool_options, _) -> [5, foo, [], {}, #{bogus => 1}, #{own_process => true}];
bad(task_timeout, V) -> bad(timeout, V);
bad(stream_options, _) ->
    [5, foo, [], {}, #{bogus => 1}, #{credit => 0}, #{credit => 1.0}, #{owner => foo}, #{kwargs => []}, #{arrays => 1}].

not_text() ->
    [5, 1.5, {}, #{}, [16#D800], [foo], [a | b], make_ref(), <<1:3>>].

dead() ->
    {Pid, Ref} = spawn_monitor(fun() -> ok end),
    receive
        {'DOWN', Ref, process, Pid, _} -> Pid
    end.

%% --- cases ----------------------------------------------------------------------------

%% What is exported and takes arguments is in the table, or says here why not.
covers_every_exported_function(_Config) ->
    Internal = #{
        %% Good paths would make environments; py_venv_SUITE has the bad ones.
        py => [{ensure_venv, 2}, {ensure_venv, 3}, {activate_venv, 1}],
        py_context => [
            {create_table, 0}, {lane, 1}, {info, 1}, {forget, 1}, {process_env, 2}, {settings, 2},
            {place, 1}, {start_member, 3}, {await_started, 1}, {await_or_stop, 1}, {run_preload, 3},
            {init, 1}, {handle_call, 3}, {handle_cast, 2}, {handle_info, 2}, {terminate, 2}
        ],
        %% Options are looked at when the pool starts.
        py_context_router => [{child_spec, 2}, {bound, 0}, {route, 2}, {target, 1}],
        py_context_sup => [{start_link, 0}, {start_member, 3}, {init, 1}],
        py_callback => [{create_table, 0}, {set, 2}, {run, 3}, {failure, 3}],
        py_semaphore => [],
        py_channel => [],
        py_byte_channel => [{recv, 1}], % waits for ever
        py_buffer => [],
        py_array => [],
        py_state => [{create_table, 0}]
    },
    Covered = [{M, F, length(Kinds)} || {M, F, Kinds} <- forms()],
    ?assertEqual([], [
        {M, F, A}
     || {M, Except} <- maps:to_list(Internal),
        {F, A} <- M:module_info(exports) -- [{module_info, 0}, {module_info, 1} | Except],
        A > 0,
        not lists:member({M, F, A}, Covered)
    ]).

%% Or the other cases would find badarg for another reason.
the_good_arguments_are_good(Config) ->
    Values = proplists:get_value(values, Config),
    lists:foreach(
        fun({M, F, Kinds}) ->
            Args = [good(Kind, Values) || Kind <- Kinds],
            try apply(M, F, Args) of
                Result -> tidy(F, Args, Result)
            catch
                error:Reason -> error({M, F, Args, Reason})
            end
        end,
        forms() -- waiting()
    ),
    [ok = py_context_router:unregister_pool(N) || {{N, '_'}, _} <- py_context_router:list_pool_registrations()],
    [ok = py_context_router:unregister_pool(N, G) || {{N, G}, _} <- py_context_router:list_pool_registrations()],
    ok = py_context_router:unbind_context(),
    ok = py_context_router:unbind_context(io).

tidy(F, _, {ok, Ctx}) when is_pid(Ctx), (F =:= start_link orelse F =:= new orelse F =:= start_context) ->
    py_context:stop(Ctx);
tidy(F, [Pool | _], {ok, _}) when F =:= start_pool ->
    py_context_router:stop_pool(Pool);
tidy(bind_context, _, ok) ->
    %% What follows must not depend on it.
    py_context_router:unbind_context();
tidy(set_max_concurrent, _, ok) ->
    py_semaphore:set_max_concurrent(10000);
tidy(acquire, _, ok) ->
    py_semaphore:release();
tidy(tracemalloc_start, _, ok) ->
    py:tracemalloc_stop();
tidy(lookup, _, _) ->
    ok;
tidy(execute, _, _) ->
    ok;
tidy(fetch, _, _) ->
    ok;
tidy(state_fetch, _, _) ->
    ok;
tidy(spawn_call, _, Ref) ->
    {ok, _} = py:await(Ref);
tidy(async_call, _, Ref) ->
    {ok, _} = py:async_await(Ref);
%% Nothing was sent, and `any' is no buffer.
tidy(F, [_], _) when F =:= shape; F =:= dtype; F =:= nbytes; F =:= is_array ->
    ok;
tidy(F, _, {error, _}) when F =:= recv; F =:= try_receive; F =:= write ->
    ok;
%% None is no iterable.
tidy(stream_eval, _, {error, {'TypeError', _}}) ->
    ok;
tidy(stream_start, Args, {ok, Ref}) ->
    receive
        {py_stream, Ref, done} -> ok;
        {py_stream, Ref, {data, _}} -> tidy(stream_start, Args, {ok, Ref})
    end;
tidy(F, Args, {error, Reason}) when F =/= await, F =/= async_await ->
    error({F, Args, Reason});
tidy(_, _, _) ->
    ok.

refuses_each_argument_of_a_wrong_type(Config) ->
    Values = proplists:get_value(values, Config),
    Wrong = [
        {M, F, Args, Outcome}
     || {M, F, Kinds} <- forms(),
        I <- lists:seq(1, length(Kinds)),
        Bad <- bad(lists:nth(I, Kinds), Values),
        Args <- [replace(I, Bad, [marking(Kind, Values) || Kind <- Kinds])],
        Outcome <- [outcome(M, F, Args, I)],
        Outcome =/= badarg
    ],
    ?assertEqual([], Wrong),
    [] = py_context_router:list_pool_registrations().

replace(1, New, [_ | Rest]) -> [New | Rest];
replace(I, New, [First | Rest]) -> [First | replace(I - 1, New, Rest)].

outcome(M, F, Args, I) ->
    try
        {returned, apply(M, F, Args)}
    catch
        Class:Reason:Stack -> refusal(Class, Reason, Stack, {M, F, Args}, I)
    end.

refusal(error, badarg, Stack = [{M, F, Args, _} | _], {M, F, Args}, I) ->
    Texts = py_test:error_texts(badarg, Stack),
    Sentences = [Text || Text <- maps:values(Texts), byte_size(Text) > 10],
    %% One of another type may make it another form of the function.
    Forms = [Form || Form = {M1, F1, Kinds} <- forms(), {M1, F1, length(Kinds)} =:= {M, F, length(Args)}],
    case is_map_key(I, Texts) orelse (length(Forms) > 1 andalso map_size(Texts) > 0) of
        true when length(Sentences) =:= map_size(Texts) -> badarg;
        _ -> {texts, Texts}
    end;
refusal(Class, Reason, Stack, _, _) ->
    {Class, Reason, Stack}.

answers_on_contexts_that_are_none(Config) ->
    Values = proplists:get_value(values, Config),
    {ok, Stopped} = py_context_sup:start_context(stopped, proplists:get_value(mode, Config, worker)),
    ok = py_context:stop(Stopped),
    Forms = [
        {M, F, Kinds}
     || {M, F, Kinds = [Kind | _]} <- forms(),
        Kind =:= ctx orelse Kind =:= target,
        not lists:member(F, [cast, spawn_call, get_nif_ref, bind_context, get_local_env, interrupt])
    ],
    [
        ?assertEqual(
            {M, F, {error, {context_died, noproc}}},
            {M, F, apply(M, F, [Pid | [marking(Kind, Values) || Kind <- Kinds]])}
        )
     || {M, F, [_ | Kinds]} <- Forms, Pid <- [Stopped, dead(), self()]
    ],
    [
        begin
            ok = py:cast(Pid, math, sqrt, [16]),
            {error, {context_died, noproc}} = py:await(py:spawn_call(Pid, math, sqrt, [16])),
            ?assertError({context_died, noproc}, py_context:get_nif_ref(Pid)),
            ?assertError(badarg, py_context_router:bind_context(Pid)),
            ?assertError(badarg, py_context_router:bind_context(default, Pid))
        end
     || Pid <- [Stopped, dead(), self()]
    ],
    [ok = py_context:stop(Pid) || Pid <- [Stopped, dead()]].

answers_with_stale_references(Config) ->
    #{ctx := Ctx, env := Env} = proplists:get_value(values, Config),
    {ok, Stopped} = py_context_sup:start_context(stopped, proplists:get_value(mode, Config, worker)),
    {ok, StaleEnv} = py_context:create_local_env(Stopped),
    StaleRef = py_context:get_nif_ref(Stopped),
    ok = py_context:exec(Stopped, "x = 1", StaleEnv),
    ok = py_context:stop(Stopped),
    {error, {context_died, shutdown}} = py_nif:context_eval(StaleRef, "x", #{}, StaleEnv),
    {error, {context_died, shutdown}} = py_nif:context_call(StaleRef, math, sqrt, [16], #{}),
    {error, env_wrong_interpreter} = py_context:eval(Ctx, "x", #{}, infinity, StaleEnv),
    {error, env_wrong_interpreter} = py_context:exec(hd(py_context_router:contexts()), "x = 1", Env),
    {error, timeout} = py:await(make_ref(), 0),
    %% One that was answered already.
    Ref = py:spawn_call(math, sqrt, [16]),
    {ok, 4.0} = py:await(Ref),
    {error, timeout} = py:await(Ref, 0).

survives_names_that_python_does_not_have(_Config) ->
    Odd = ['', <<>>, "", '..', 'a.', '.a', <<"a\0b">>, '42', 'two words', "ü", binary:copy(<<"n">>, 70000)],
    [
        begin
            {error, _} = py:call(Name, f, []),
            {error, _} = py:call(math, Name, []),
            {error, _} = py:await(py:spawn_call(Name, Name, [])),
            ok = py:register_pool(io, {Name, Name}),
            io = py_context_router:lookup_pool(Name, Name),
            {error, _} = py:call(Name, Name, []),
            ok = py:unregister_pool({Name, Name})
        end
     || Name <- Odd
    ].
