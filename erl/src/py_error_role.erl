%% SPDX-License-Identifier: Apache-2.0

%% @private What the arguments of public functions are called and have to be: what can be
%% said of an argument alone, whatever runs on this node.
-module(py_error_role).

-include("ep_nif.hrl").
-include("py_limits.hrl").

-export([name/1, faults/2, other_node/1, is_text/1]).

-export_type([role/0]).

-type role() :: atom().
%% Text, or a value that is printed as its reader prefers.
-type part() :: unicode:chardata() | {value, term()}.
-export_type([part/0]).

%% @doc As in the documentation.
-spec name(role()) -> string().
name(args) -> "Args";
name(args_of_target) -> "Args";
name(amount) -> "N";
name(credit) -> "N";
name(callback) -> "Fun";
name(calls) -> "Calls";
name(code) -> "Code";
name(ctx) -> "Ctx";
name(ctx_ref) -> "CtxRef";
name(env) -> "Env";
name(fun_1) -> "Fun";
name(frames) -> "NFrames";
name(function) -> "Function";
name(generation) -> "Generation";
name(gc_target) -> "Ctx";
name(key) -> "Key";
name(array) -> "Array";
name(bin) -> "Bin";
name(byte_offset) -> "ByteOffset";
name(buffer) -> "Buffer";
name(byte_channel) -> "Ch";
name(channel) -> "Ch";
name(channel_options) -> "Options";
name(content_length) -> "ContentLength";
name(dict) -> "Dict";
name(dict_key) -> "Key";
name(counter) -> "Key";
name(dtype) -> "Dtype";
name(kwargs) -> "Kwargs";
name(locals) -> "Locals";
name(locals_or_code) -> "Locals";
name(max) -> "N";
name(mode) -> "Mode";
name(mode_or_options) -> "Options";
name(module) -> "Module";
name(mod) -> "Mod";
name(fn) -> "Fn";
name(name) -> "Name";
name(nested) -> "Nested";
name(number) -> "N";
name(number_or_pool) -> "N";
name(options) -> "Options";
name(options_or_code) -> "Options";
name(path) -> "Path";
name(paths) -> "Paths";
name(pool) -> "Pool";
name(python_code) -> "Code";
name(ref) -> "Ref";
name(registered) -> "Module";
name(rows) -> "Length";
name(shape) -> "Shape";
name(size) -> "Size";
name(start) -> "Start";
name(target) -> "Target";
name(timeout) -> "Timeout";
name(timeout_or_options) -> "Options";
name(venv) -> "Path";
name(requirements) -> "ReqFile";
name(venv_options) -> "Options";
name(_Any) -> "Term".

%% @doc A sentence without its subject, or none.
-spec faults(role(), term()) -> [[part()]].
faults(Role, Value) ->
    case is_good(Role, Value) of
        true -> [];
        {false, Parts} -> [Parts];
        false -> [[must(Role), ", and is ", {value, Value}]]
    end.

must(Args) when Args =:= args; Args =:= args_of_target -> "must be a list of arguments";
must(amount) -> "must be an integer";
must(credit) -> "must be an integer from 1";
must(callback) -> "must be a fun of one argument, the list of arguments, or {Module, Function}";
must(calls) -> "must be a list of {Module, Function, Args}";
must(ctx) -> "must be the pid of a context";
must(ctx_ref) -> "must be a reference made by py_context:get_nif_ref/1";
must(env) -> "must be a namespace made by py_context:create_local_env/1 or py:get_local_env/1";
must(fun_1) -> "must be a fun of one argument, the list of arguments; with a module and a function call register_function/3";
must(frames) -> "must be an integer from 1 to " ?MAX_FRAMES_TEXT;
must(gc_target) -> "must be a generation, 0, 1 or 2, or the pid of a context";
must(generation) -> "must be 0, 1 or 2";
must(kwargs) -> "must be a map of keyword arguments, such as #{indent => 2}, or #{}";
must(locals) -> "must be a map of variables, such as #{x => 1}";
must(locals_or_code) -> "must be a map of variables, such as #{x => 1}, or code after the pid of a context";
must(max) -> "must be an integer from 1 to " ?MAX_SLOTS_TEXT;
must(mode) -> "must be worker or owngil";
must(mode_or_options) -> "must be worker, owngil or a map of options";
must(number) -> "must be the number of a context, from 1";
must(number_or_pool) -> "must be the number of a context, from 1, or the name of a pool";
must(options_or_code) -> "must be a map of options, or code after the pid of a context";
must(options) -> "must be a map of options";
must(Atom) when Atom =:= pool; Atom =:= mod; Atom =:= fn -> "must be an atom";
must(ref) -> "must be a reference";
must(registered) -> "must be text, or {Module, Function} of text";
must(size) -> "must be an integer from 1 to " ?MAX_POOL_TEXT;
must(target) -> "must be the pid of a context or the name of a pool, an atom";
must(timeout) -> "must be milliseconds from 0 to " ?MAX_MS_TEXT ", or infinity";
must(timeout_or_options) -> "must be milliseconds from 0 to " ?MAX_MS_TEXT ", infinity, or a map of options";
must(_Text) -> "must be text: an atom, a binary or a string".

is_good(Role, V) when Role =:= module; Role =:= function; Role =:= code; Role =:= name ->
    is_text(V);
is_good(args, V) -> is_list(V);
is_good(args_of_target, V) -> is_list(V) andalso args_of_target(V);
is_good(amount, V) -> is_integer(V);
is_good(credit, V) -> is_integer(V) andalso V > 0;
is_good(callback, {M, F}) -> is_atom(M) andalso is_atom(F);
is_good(callback, V) -> is_function(V, 1);
is_good(calls, V) -> calls(V, 1);
is_good(ctx, V) when is_pid(V) -> is_here(V);
is_good(ctx, _V) -> false;
is_good(ctx_ref, {py_ctx_ref, Ctx, Lane}) -> is_pid(Ctx) andalso is_reference(Lane);
is_good(ctx_ref, _V) -> false;
is_good(env, V) -> V =:= undefined orelse is_reference(V);
is_good(fun_1, V) -> is_function(V, 1);
is_good(frames, V) -> is_between(V, 1, ?MAX_FRAMES);
is_good(gc_target, V) when is_pid(V) -> is_here(V);
is_good(gc_target, V) -> is_good(generation, V);
is_good(generation, V) -> is_between(V, 0, 2);
is_good(Map, V) when Map =:= kwargs; Map =:= locals; Map =:= options -> is_map(V);
is_good(Map, V) when Map =:= locals_or_code; Map =:= options_or_code -> is_map(V);
is_good(max, V) -> is_between(V, 1, ?MAX_SLOTS);
is_good(mode, V) -> V =:= worker orelse V =:= owngil;
is_good(mode_or_options, V) -> is_map(V) orelse is_good(mode, V);
is_good(number, V) -> is_integer(V) andalso V > 0;
is_good(number_or_pool, V) -> is_atom(V) orelse is_good(number, V);
is_good(Atom, V) when Atom =:= pool; Atom =:= mod; Atom =:= fn -> is_atom(V);
is_good(ref, V) -> is_reference(V);
is_good(registered, {M, F}) -> is_text(M) andalso is_text(F);
is_good(registered, V) -> is_text(V);
is_good(size, V) -> is_between(V, 1, ?MAX_POOL);
is_good(target, V) when is_atom(V) -> true;
is_good(target, V) -> is_good(ctx, V);
is_good(timeout, V) -> ?IS_TIMEOUT(V);
is_good(timeout_or_options, V) -> is_map(V) orelse is_good(timeout, V);
is_good(_Any, _V) -> true.

is_between(V, Min, Max) ->
    is_integer(V) andalso V >= Min andalso V =< Max.

is_here(Pid) when node(Pid) =:= node() ->
    true;
is_here(Pid) ->
    {false, other_node(Pid)}.

%% @doc Requests are made where the context is.
-spec other_node(pid()) -> [part()].
other_node(Pid) ->
    Node = atom_to_list(node(Pid)),
    [
        "is a process of the node ", Node,
        "; a context takes requests of its own node only, so call this function there, with erpc:call/4"
    ].

%% With a list as the last argument, the first one names a context or a pool. Keyword
%% arguments in a list are the likely reason if it does not.
args_of_target(Args) when length(Args) > 0 ->
    case lists:all(fun is_keyword/1, Args) of
        true ->
            {false, ["is a list; if these are keyword arguments, they must be a map, such as #{indent => 2}"]};
        false ->
            true
    end;
args_of_target(_EmptyOrImproper) ->
    true.

is_keyword({Key, _Value}) -> is_atom(Key) orelse is_binary(Key);
is_keyword(_) -> false.

calls([], _N) ->
    true;
calls([{Module, Function, Args} | Rest], N) ->
    case is_text(Module) andalso is_text(Function) andalso is_list(Args) of
        true -> calls(Rest, N + 1);
        false -> {false, bad_call(N, {Module, Function, Args})}
    end;
calls([Other | _], N) ->
    {false, bad_call(N, Other)};
calls(_Improper, _N) ->
    false.

bad_call(N, Call) ->
    ["must be a list of {Module, Function, Args}, and item ", integer_to_list(N), " is ", {value, Call}].

-spec is_text(term()) -> boolean().
is_text(Text) when is_atom(Text); is_binary(Text) ->
    true;
is_text(Text) when is_list(Text) ->
    try
        is_binary(unicode:characters_to_binary(Text))
    catch
        error:badarg -> false
    end;
is_text(_) ->
    false.
