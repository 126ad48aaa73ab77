%% SPDX-License-Identifier: Apache-2.0

%% @doc The types that the package erlang has for editors and type checkers are those of the package.
%% `make check' lets mypy read them (tests/py/typed_use.py).
-module(py_typing_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

all() ->
    [the_stub_is_the_package, differences_are_found].

init_per_suite(Config) ->
    ok = py_test:start([{num_contexts, 1}]),
    Config.

end_per_suite(_Config) ->
    py_test:stop().

the_stub_is_the_package(_Config) ->
    {ok, true} = py:call(ep_stub, is_marked, []),
    {ok, Text} = py:call(ep_stub, stub_text, []),
    ?assertEqual({ok, []}, py:call(ep_stub, differences, [Text])).

differences_are_found(_Config) ->
    {ok, Text} = py:call(ep_stub, stub_text, []),
    [
        begin
            {ok, Found} = py:call(ep_stub, differences, [iolist_to_binary(string:replace(Text, From, To))]),
            ?assertMatch({From, [_ | _]}, {From, Found})
        end
     || {From, To} <- [
            {<<"\"whereis\",\n">>, <<>>},
            {<<"def send(pid: Pid, term: object, /)">>, <<"def send(pid: Pid, /)">>},
            {<<"def call(name: str, /, *args: object)">>, <<"def call(name: str, *args: object)">>},
            {<<"n: int = 1, /">>, <<"n: int, /">>},
            {<<"class Ref:">>, <<"class Reference:">>},
            {<<"def __lt__">>, <<"def __lshift__">>}
        ]
    ],
    ok.
