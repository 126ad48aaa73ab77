%% SPDX-License-Identifier: Apache-2.0

%% @doc What the suites of behaviour share: more configurations, Python code that stays
%% in a context until it is told to go on, processes that wait for a word.
-module(py_fixture).

-export([clean/1, clean/0, start_with_default_limit/1]).
-export([modes/0, singles/0, groups/2, groups/3, init/3, init/2, hold/2, hold/3, let_go/1, parked/1]).
-export([waiting_for_slot/1, wait_in_line/1]).
-export([stays/0, end_process/2, dead/1, serves/1, slots_free/0, percentile/2]).

-define(SERVE_MS, 20000).

%% Groups with two contexts: py_test:modes/0. Groups with one context and one slot:
singles() ->
    [
        {single_worker, [{num_contexts, 1}, {max_concurrent, 1}]},
        {single_owngil, [{num_contexts, 1}, {max_concurrent, 1}, {context_mode, owngil}]}
    ].

modes() ->
    py_test:modes() ++ singles().

%% For groups/0: every case where the interpreter is the main one of its process and where it has
%% a GIL of its own. In another group, those cases that it can make a difference to: `shared', two
%% contexts in one interpreter; those of one context and one slot. make test-deep: all everywhere.
groups(Cases, Others) ->
    groups(modes(), Cases, Others).

%% The same with these modes only.
groups(Modes, Cases, Others) ->
    Named = maps:merge(#{worker => Cases, owngil => Cases}, Others),
    [
        {Group, [], Some}
     || {Group, _} <- Modes, Some <- [py_test:times(maps:get(Group, Named, []), Cases)], Some =/= []
    ].

%% For init_per_group/2: the configuration of a group, and these keys besides.
init(Group, Extra, Config) ->
    {Group, Env} = lists:keyfind(Group, 1, modes()),
    ok = py_test:start([]),
    IsOwngil = proplists:get_value(context_mode, Env, worker) =:= owngil,
    case IsOwngil andalso not py:subinterp_supported() of
        true ->
            {skip, "owngil needs Python 3.12"};
        false ->
            ok = py_test:start(Env ++ Extra),
            Mode = proplists:get_value(context_mode, Env, worker),
            [{mode, Mode}, {group, Group} | Config]
    end.

init(Group, Config) ->
    init(Group, [{kill_after, 600}], Config).

%% For end_per_testcase/2: every context serves, no slot is taken, and what
%% py_test:clean/0 asks. A crash there would not fail the case.
clean() ->
    clean(py_context_router:contexts()).

clean(Contexts) ->
    try
        ok = slots_free(),
        [{ok, 4.0} = py:call(Ctx, math, sqrt, [16], ?SERVE_MS) || Ctx <- Contexts],
        py_test:clean()
    catch
        Class:Reason -> {fail, {Class, Reason}}
    end.

%% py_test:start/1 lets in more requests than the library does by default.
start_with_default_limit(Env) ->
    ok = py_test:start(Env),
    ok = py_test:stop(),
    ok = application:unset_env(erlang_python, max_concurrent),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok.

%% A caller whose request occupies a context until let_go/1.
hold(Ctx, Config) ->
    hold(Ctx, Config, infinity).

hold(Ctx, Config, Timeout) ->
    Mark = py_test:marker(Config, "held"),
    Fifo = <<Mark/binary, ".fifo">>,
    [] = os:cmd(unicode:characters_to_list(["mkfifo '", Fifo, "'"])),
    Caller = py_test:spawn_caller(fun() ->
        py:call(Ctx, ep_steps, hold, [Mark, Fifo], #{}, Timeout)
    end),
    ok = py_test:wait_for_file(Mark),
    {Caller, Fifo}.

let_go({Caller, Fifo}) ->
    ok = file:write_file(Fifo, <<"go">>),
    {ok, <<"held">>} = py_test:result_of(Caller),
    ok.

%% Returns when the process waits for an answer of Python.
parked({Pid, _Ref}) ->
    in(Pid, {py_request, receive_done, 4}).

%% Returns when the process waits for a slot.
waiting_for_slot({Pid, _Ref}) ->
    in(Pid, {py_request, wait_for_slot, 4}).

%% Starts a caller, and returns it when it waits for a slot.
wait_in_line(Fun) ->
    Caller = py_test:spawn_caller(Fun),
    ok = waiting_for_slot(Caller),
    Caller.

in(Pid, Function) ->
    py_test:wait_until(fun() ->
        case process_info(Pid, current_function) of
            {current_function, Function} -> true;
            Other -> Other
        end
    end).

%% A process that lives until end_process/2.
stays() ->
    spawn(fun() -> receive stop -> ok end end).

end_process(Pid, Reason) ->
    Ref = monitor(process, Pid),
    true = exit(Pid, Reason),
    receive
        {'DOWN', Ref, process, Pid, _} -> ok
    end.

%% Waits for the end of a caller of py_test:spawn_caller/1 that was killed.
dead({Pid, Ref}) ->
    receive
        {'DOWN', Ref, process, Pid, Reason} -> Reason
    after 10000 -> error({lives, process_info(Pid)})
    end.

%% How long it took until that context served a request.
serves(Ctx) ->
    {Ms, {ok, 4.0}} = py_test:elapsed(fun() -> py:call(Ctx, math, sqrt, [16], ?SERVE_MS) end),
    Ms.

%% The slots of processes that died are given back when their memory is.
slots_free() ->
    py_test:wait_until(fun() -> ep_nif:slots() =:= {0, py_semaphore:max_concurrent(), 0} orelse ep_nif:slots() end).

percentile(P, Values) ->
    Sorted = lists:sort(Values),
    lists:nth(max(1, ceil(P * length(Sorted) / 100)), Sorted).
