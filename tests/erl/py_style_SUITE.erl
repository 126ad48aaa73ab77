%% SPDX-License-Identifier: Apache-2.0

%% @doc What None becomes, and what the message of an exception is: by the request, else by the pool
%% or context, else by the application.
-module(py_style_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(NONES, [none, nil, undefined]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, Group} || {Group, _, _} <- groups()] ++
        [the_application_decides, single_contexts_decide, bad_values_are_refused].

groups() ->
    py_fixture:groups(in_each_mode(), #{
        shared => [
            none_is_what_the_pool_says,
            nested_requests_have_their_own,
            threads_have_that_of_the_pool
        ]
    }).

in_each_mode() ->
    [
        none_is_what_the_request_says,
        none_is_what_the_pool_says,
        messages_are_what_the_request_says,
        messages_are_what_the_pool_says,
        callbacks_get_the_none_of_their_request,
        nested_requests_have_their_own,
        threads_have_that_of_the_pool,
        none_of_each_kind_is_none_in_python
    ].

init_per_group(Group, Config) ->
    case py_fixture:init(Group, [], Config) of
        {skip, Why} ->
            {skip, Why};
        Started ->
            Mode = proplists:get_value(mode, Started),
            {ok, _} = py_context_router:start_pool(elixir, 2, #{mode => Mode, none => nil, error_text => binary}),
            Started
    end.

end_per_group(_Group, _Config) ->
    py_test:stop().

end_per_testcase(_Case, _Config) ->
    [py:unregister_function(F) || F <- [ep_style_see, ep_style_again]],
    ok.

%% Cases

none_is_what_the_request_says(_Config) ->
    [
        begin
            ?assertEqual({ok, [None, 1, None]}, py:eval("[None, 1, None]", #{}, #{none => None})),
            ?assertEqual({ok, None}, py:call(builtins, print, [], #{}, #{none => None})),
            ?assertEqual({ok, #{None => {None}}}, py:eval(<<"{None: (None,)}">>, #{}, #{none => None, traceback => true}))
        end
     || None <- ?NONES
    ],
    {ok, none} = py:eval("None").

none_is_what_the_pool_says(_Config) ->
    {ok, nil} = py:call(elixir, builtins, print, [], #{}),
    {ok, [nil]} = py:call(elixir, builtins, list, [[nil]], #{}),
    {ok, nil} = py:eval(elixir, "None", #{}),
    [{ok, None} = py:eval(elixir, "None", #{}, #{none => None}) || None <- ?NONES],
    Ctx = py_context_router:get_context(elixir),
    {ok, nil} = py:eval(Ctx, "None", #{}),
    {ok, Ref} = {ok, py:spawn_call(elixir, builtins, print, [], #{})},
    {ok, nil} = py:await(Ref),
    ok.

messages_are_what_the_request_says(_Config) ->
    Say = "int('é€😀')",
    {error, {'ValueError', List}} = py:eval(Say),
    {error, {'ValueError', List}} = py:eval(Say, #{}, #{error_text => list}),
    {error, {'ValueError', Binary}} = py:eval(Say, #{}, #{error_text => binary}),
    ?assertEqual(List, unicode:characters_to_list(Binary)),
    {error, {'ValueError', Binary, Traceback}} = py:eval(Say, #{}, #{error_text => binary, traceback => true}),
    true = is_binary(Traceback),
    {error, {'ZeroDivisionError', <<_/binary>>}} = py:exec("1 // 0", #{error_text => binary}),
    %% Made in the VM, before anything is sent.
    {error, {'TypeError', <<"args[0]: ", _/binary>>}} =
        py:call(builtins, len, [self_improper()], #{}, #{error_text => binary}),
    {error, {'TypeError', "args[0]: " ++ _}} = py:call(builtins, len, [self_improper()]),
    %% Cut at a character: 4096 of them.
    {error, {'ValueError', Long}} =
        py:eval("exec('raise ValueError(chr(0x1F600) * 5000)')", #{}, #{error_text => binary}),
    ?assertEqual(4096, string:length(Long)).

messages_are_what_the_pool_says(_Config) ->
    {error, {'ZeroDivisionError', <<_/binary>>}} = py:call(elixir, operator, floordiv, [1, 0], #{}),
    {error, {'ZeroDivisionError', [_ | _]}} =
        py:call(elixir, operator, floordiv, [1, 0], #{}, #{error_text => list}),
    {error, {'ZeroDivisionError', Text}} = py:call(operator, floordiv, [1, 0]),
    true = is_list(Text),
    ok.

callbacks_get_the_none_of_their_request(_Config) ->
    Self = self(),
    ok = py:register_function(ep_style_see, fun(Args) -> Self ! {saw, Args}, none end),
    {ok, nil} = py:eval("__import__('erlang').call('ep_style_see', None)", #{}, #{none => nil}),
    [nil] = saw(),
    {ok, undefined} = py:eval(elixir, "__import__('erlang').call('ep_style_see', [None])", #{}, #{none => undefined}),
    [[undefined]] = saw(),
    {ok, none} = py:eval("__import__('erlang').call('ep_style_see', None)"),
    [none] = saw().

%% A request of a callback has its own style, and the one below goes on with its own.
nested_requests_have_their_own(_Config) ->
    Self = self(),
    ok = py:register_function(ep_style_see, fun(Args) -> Self ! {saw, Args} end),
    ok = py:register_function(ep_style_again, fun([]) -> element(2, py:eval("None", #{}, #{none => undefined})) end),
    Code = "(lambda e: [e.call('ep_style_again'), e.call('ep_style_see', None)] and None)(__import__('erlang'))",
    {ok, nil} = py:eval(Code, #{}, #{none => nil}),
    [nil] = saw().

threads_have_that_of_the_pool(_Config) ->
    Self = self(),
    ok = py:register_function(ep_style_see, fun(Args) -> Self ! {saw, Args} end),
    Code = <<
        "import threading, erlang\n"
        "t = threading.Thread(target=lambda: (erlang.call('ep_style_see', None), erlang.send(pid, None)))\n"
        "t.start()\nt.join()\n"
    >>,
    [
        begin
            {ok, _} = py:eval(Pool, "exec(code, {'pid': pid})", #{code => Code, pid => Self}, #{none => undefined}),
            ?assertEqual([None], saw()),
            receive M -> ?assertEqual(None, M) after 5000 -> ct:fail(no_message) end
        end
     || {Pool, None} <- [{default, none}, {elixir, nil}]
    ],
    ok.

none_of_each_kind_is_none_in_python(_Config) ->
    {ok, true} = py:eval("[a, b, c] == [None] * 3", #{a => none, b => nil, c => undefined}, #{none => nil}).

the_application_decides(_Config) ->
    ok = py_test:start([{num_contexts, 1}, {none, undefined}, {error_text, binary}]),
    {ok, undefined} = py:eval("None"),
    {ok, none} = py:eval("None", #{}, #{none => none}),
    {error, {'ZeroDivisionError', <<_/binary>>}} = py:eval("1 / 0"),
    {ok, _} = py_context_router:start_pool(other, 1, #{none => nil}),
    {ok, nil} = py:eval(other, "None", #{}),
    {error, {'ZeroDivisionError', <<_/binary>>}} = py:eval(other, "1 / 0", #{}),
    py_test:stop().

%% Also after a death, and where contexts share a process.
single_contexts_decide(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    [
        begin
            Contexts = [
                {None, element(2, {ok, _} = py_context:start_link(N, worker, #{own_process => Own, none => None}))}
             || {N, None} <- lists:enumerate(?NONES)
            ],
            [?assertEqual({ok, None}, py:eval(Ctx, "None", #{})) || {None, Ctx} <- Contexts],
            [{error, {worker_died, _}} = py:call(Ctx, os, abort, []) || {nil, Ctx} <- Contexts],
            [?assertEqual({ok, None}, py:eval(Ctx, "None", #{})) || {None, Ctx} <- Contexts],
            [ok = py_context:stop(Ctx) || {_, Ctx} <- Contexts]
        end
     || Own <- [true, false]
    ],
    py_test:stop().

bad_values_are_refused(_Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    [
        ?assertError(badarg, py:eval("1", #{}, #{Key => Value}))
     || {Key, Value} <- [{none, null}, {none, <<"nil">>}, {error_text, string}, {error_text, true}]
    ],
    {error, {bad_config, none, null, _}} = py_context_router:start_pool(p, 1, #{none => null}),
    {error, {bad_config, error_text, 1, _}} = py_context_router:start_pool(p, 1, #{error_text => 1}),
    py_test:stop().

%% Internal

self_improper() -> [1 | 2].

saw() ->
    receive
        {saw, Args} -> Args
    after 5000 -> ct:fail(nothing_was_seen)
    end.
