%% SPDX-License-Identifier: Apache-2.0

%% @doc What the registration of a module to a pool covers.
-module(py_registered_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([
    covers_the_submodules/1,
    a_nearer_registration_comes_first/1,
    knows_of_later_registrations/1,
    takes_names_in_any_form/1,
    keeps_what_it_knows_small/1
]).

all() ->
    [{group, Mode} || {Mode, _} <- py_test:modes()].

groups() ->
    [{Mode, cases()} || {Mode, _} <- py_test:modes()].

cases() ->
    [
        covers_the_submodules,
        a_nearer_registration_comes_first,
        knows_of_later_registrations,
        takes_names_in_any_form,
        keeps_what_it_knows_small
    ].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    py_test:stop().

init_per_testcase(_Case, Config) ->
    {ok, _} = py_context_router:start_pool(io, 1),
    {ok, _} = py_context_router:start_pool(other, 1),
    Config.

end_per_testcase(_Case, _Config) ->
    [
        case Name of
            {Module, '_'} -> ok = py_context_router:unregister_pool(Module);
            {Module, Function} -> ok = py_context_router:unregister_pool(Module, Function)
        end
     || {Name, _} <- py_context_router:list_pool_registrations()
    ],
    ok = py_context_router:stop_pool(io),
    ok = py_context_router:stop_pool(other),
    py_test:clean().

covers_the_submodules(_Config) ->
    %% In each context a module and two below it, which know the pool.
    [package(Pool) || Pool <- [default, io, other]],
    default = where('pkg.sub'),
    ok = py:register_pool(io, pkg),
    [io = where(Module) || Module <- [pkg, 'pkg.sub', <<"pkg.sub">>, "pkg.sub", 'pkg.sub.low', 'pkg.sub']],
    %% As a part of the name, not as the beginning of one.
    default = where(pkgs),
    default = py_context_router:lookup_pool('pkgs.sub', where),
    {ok, io} = in_callback(fun() -> where('pkg.sub') end),
    ok = py:unregister_pool(pkg),
    default = where('pkg.sub').

package(Pool) ->
    Code = [
        "import sys, types\n"
        "for name in 'pkg', 'pkg.sub', 'pkg.sub.low', 'pkgs':\n"
        "    sys.modules[name] = m = types.ModuleType(name)\n"
        "    m.where = lambda: '", atom_to_list(Pool), "'\n"
    ],
    [ok = py_context:exec(Ctx, unicode:characters_to_binary(Code)) || Ctx <- py_context_router:contexts(Pool)].

where(Module) ->
    {ok, Pool} = py:call(Module, where, []),
    binary_to_existing_atom(Pool).

%% Where the request goes in a callback follows from the registration, too.
in_callback(Fun) ->
    ok = py:register_function(ask, fun([]) -> atom_to_binary(Fun()) end),
    {ok, Pool} = py:eval("__import__('erlang').call('ask')"),
    ok = py:unregister_function(ask),
    {ok, binary_to_existing_atom(Pool)}.

a_nearer_registration_comes_first(_Config) ->
    ok = py:register_pool(io, a),
    ok = py:register_pool(other, 'a.b'),
    ok = py:register_pool(default, {'a.b.c', f}),
    ok = py:register_pool(other, {'a.d', f}),
    [
        ?assertEqual({Module, Function, Pool}, {Module, Function, py_context_router:lookup_pool(Module, Function)})
     || {Module, Function, Pool} <- [
            {a, f, io},
            {'a.b', f, other},
            {'a.b.x.y', f, other},
            {'a.b.c', f, default},
            {'a.b.c', g, other},
            {'a.b.c.d', f, other},
            {'a.d', f, other},
            {'a.d', g, io},
            {'a.d.e', f, io},
            {'a.', f, io},
            {'.a', f, default},
            {'..', f, default},
            {'', f, default},
            {'b.a', f, default}
        ]
    ],
    ok = py:unregister_pool('a.b'),
    io = py_context_router:lookup_pool('a.b.c.d', f),
    io = py_context_router:lookup_pool('a.b.c', g),
    default = py_context_router:lookup_pool('a.b.c', f).

knows_of_later_registrations(_Config) ->
    ok = py:register_pool(io, first),
    [
        begin
            default = py_context_router:lookup_pool('later.sub', f),
            ok = py:register_pool(Pool, later),
            Pool = py_context_router:lookup_pool('later.sub', f),
            ok = py:unregister_pool(later)
        end
     || Pool <- [io, other, io]
    ],
    default = py_context_router:lookup_pool('later.sub', f).

takes_names_in_any_form(_Config) ->
    [
        begin
            ok = py:register_pool(io, Registered),
            [io = py_context_router:lookup_pool(M, f) || M <- ['x.y.z', <<"x.y.z">>, "x.y.z"]],
            ok = py:unregister_pool(Registered)
        end
     || Registered <- ['x.y', <<"x.y">>, "x.y"]
    ].

%% In the dictionary of the caller, however many modules it calls.
keeps_what_it_knows_small(_Config) ->
    ok = py:register_pool(io, many),
    [
        io = py_context_router:lookup_pool(<<"many.m", (integer_to_binary(N))/binary>>, f)
     || N <- lists:seq(1, 1000)
    ],
    [Kept] = [map_size(Pools) || {'$py_below', {_Version, Pools}} <- get()],
    ?assert(Kept =< 32).
