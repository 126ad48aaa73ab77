%% SPDX-License-Identifier: Apache-2.0
-module(py_load_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_group/2, end_per_group/2, end_per_testcase/2]).
-export([
    sixty_four_processes_get_ten_thousand_right_answers_each/1,
    a_thousand_processes_get_right_answers/1,
    more_callers_than_slots_wait_their_turn/1,
    carries_large_payloads_both_ways/1,
    small_calls_go_on_beside_large_ones/1,
    refuses_more_than_a_message_holds_and_goes_on/1,
    carries_two_gibibytes_both_ways/1,
    returns_two_gibibytes/1,
    gives_the_memory_of_a_spike_back/1,
    refuses_a_result_of_more_than_a_message_holds_and_goes_on/1,
    holds_no_scheduler_for_long/1,
    others_have_their_turn_while_a_caller_looks_for_its_reply/1,
    uses_no_processor_time_when_idle/1
]).
-export([start_contexts/0, calls_without_a_turn_of_others/0]).

-define(WINDOW_MS, (py_test:times(1000, 2000))).

all() ->
    [
        {group, worker},
        {group, owngil},
        others_have_their_turn_while_a_caller_looks_for_its_reply,
        uses_no_processor_time_when_idle
    ].

groups() ->
    Cases = [
        sixty_four_processes_get_ten_thousand_right_answers_each,
        a_thousand_processes_get_right_answers,
        more_callers_than_slots_wait_their_turn,
        carries_large_payloads_both_ways,
        small_calls_go_on_beside_large_ones,
        refuses_more_than_a_message_holds_and_goes_on,
        refuses_a_result_of_more_than_a_message_holds_and_goes_on,
        gives_the_memory_of_a_spike_back,
        holds_no_scheduler_for_long
    ],
    %% Which interpreter it is makes a difference to who runs when; not to memory, nor to what waits in the VM.
    Apart = [
        sixty_four_processes_get_ten_thousand_right_answers_each,
        small_calls_go_on_beside_large_ones,
        gives_the_memory_of_a_spike_back,
        holds_no_scheduler_for_long
    ],
    Long = py_test:times([returns_two_gibibytes], [returns_two_gibibytes, carries_two_gibibytes_both_ways]),
    [{worker, [], Cases ++ Long}, {owngil, [], py_test:times(Apart, Cases)}].

init_per_group(Mode, Config) ->
    py_test:init_mode(Mode, Config).

end_per_group(_Mode, _Config) ->
    py_test:stop().

end_per_testcase(Case, _Config) when
    Case =:= uses_no_processor_time_when_idle;
    Case =:= others_have_their_turn_while_a_caller_looks_for_its_reply
->
    ok;
end_per_testcase(_Case, _Config) ->
    py_test:clean().

sixty_four_processes_get_ten_thousand_right_answers_each(_Config) ->
    right_answers(64, 10000).

a_thousand_processes_get_right_answers(_Config) ->
    right_answers(1000, 300).

right_answers(Processes, Calls) ->
    Callers = [
        py_test:spawn_caller(fun() -> ask(N * Calls, Calls) end)
     || N <- lists:seq(1, Processes)
    ],
    [ok = py_test:result_of(Caller) || Caller <- Callers],
    ?assertEqual(0, maps:get(lost_wake, ep_nif:counters())),
    ?assertEqual(0, maps:get(violations, ep_nif:counters())).

%% abs(-N) = N: the answer tells whose it is.
ask(_From, 0) ->
    ok;
ask(From, Left) ->
    N = From + Left,
    {ok, N} = py:call(builtins, abs, [-N]),
    ask(From, Left - 1).

more_callers_than_slots_wait_their_turn(Config) ->
    Ctx = py:context(1),
    First = py_fixture:hold(Ctx, Config),
    Callers = [
        {N, py_test:spawn_caller(fun() -> py:call(Ctx, builtins, abs, [-N]) end)}
     || N <- lists:seq(1, 1500)
    ],
    {_, {Last, _}} = lists:last(Callers),
    ok = py_test:wait_until(fun() -> process_info(Last, status) =:= {status, waiting} end),
    ok = py_fixture:let_go(First),
    [{ok, N} = py_test:result_of(Caller) || {N, Caller} <- Callers].

carries_large_payloads_both_ways(_Config) ->
    [
        begin
            Bin = binary:copy(<<0:1, 1:7, 16#FF>>, Size div 2),
            {ok, Bin} = py:call(ep_probe, echo, [{bytes, Bin}])
        end
     || Size <- [192, 194, 4096, 65536, 1 bsl 20, 16 bsl 20]
    ],
    Text = binary:copy(<<"text">>, 1 bsl 18),
    {ok, Text} = py:call(ep_probe, echo, [Text]),
    List = lists:seq(1, 100000),
    {ok, List} = py:call(ep_probe, echo, [List]),
    Map = maps:from_list([{integer_to_binary(N), N} || N <- lists:seq(1, 10000)]),
    {ok, Map} = py:call(ep_probe, echo, [Map]).

small_calls_go_on_beside_large_ones(_Config) ->
    Large = binary:copy(<<16#FE>>, 4 bsl 20),
    Callers = [
        py_test:spawn_caller(fun() -> [{ok, Large} = py:call(ep_probe, echo, [Large]) || _ <- lists:seq(1, 10)], ok end)
     || _ <- lists:seq(1, 4)
    ],
    Small = [py_test:spawn_caller(fun() -> ask(N * 2000, 2000) end) || N <- lists:seq(1, 8)],
    [ok = py_test:result_of(Caller) || Caller <- Callers ++ Small].

refuses_more_than_a_message_holds_and_goes_on(_Config) ->
    needs_memory(6, fun() ->
        Bin = binary:copy(binary:copy(<<"0123456789abcdef">>, 1 bsl 16), 2049),
        {error, {'MemoryError', Message}} = py:call(builtins, len, [Bin]),
        ?assertEqual("args[0]: does not fit in one message, which holds 2147549184 bytes", Message),
        {ok, 4.0} = py:call(math, sqrt, [16])
    end).

%% Of memory that nobody touches: what is too long is not read.
refuses_a_result_of_more_than_a_message_holds_and_goes_on(_Config) ->
    Code = <<"memoryview(__import__('mmap').mmap(-1, 3 << 30))">>,
    {error, {'MemoryError', "result: 3221225472 bytes do not fit" ++ _}} = py:eval(Code),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% Of memory that nobody has written.
returns_two_gibibytes(_Config) ->
    needs_memory(6, fun() ->
        {ok, Bin} = py:eval("memoryview(__import__('mmap').mmap(-1, 2 << 30))", #{}, 120000),
        2147483648 = byte_size(Bin),
        <<0:64/unit:8, _:1073741824/binary, 0:64/unit:8, _/binary>> = Bin,
        <<0:64/unit:8>> = binary:part(Bin, 2147483648, -64)
    end),
    gives_back().

carries_two_gibibytes_both_ways(_Config) ->
    needs_memory(14, fun() ->
        Bin = binary:copy(binary:copy(<<0, 255, 1, 254>>, 1 bsl 18), 2048),
        2147483648 = byte_size(Bin),
        {ok, Back} = py:call(ep_probe, echo, [{bytes, Bin}], #{}, 120000),
        true = Back =:= Bin
    end),
    gives_back().

gives_the_memory_of_a_spike_back(_Config) ->
    needs_memory(4, fun() ->
        Bin = binary:copy(binary:copy(<<0, 255, 1, 254>>, 1 bsl 18), 300),
        {ok, Bin} = py:call(ep_probe, echo, [{bytes, Bin}], #{}, 60000)
    end),
    gives_back().

%% 64 MiB may stay of what each side of each context has written.
gives_back() ->
    Worker = py_test:os_pid(py:context()),
    Most = (py_context_router:num_contexts() * 2 * 64 + 32) bsl 20,
    py_test:wait_until(fun() ->
        lists:max([py_test:shared_bytes(P) || P <- [py_test:vm_pid(), Worker]]) < Most
    end),
    {ok, 4.0} = py:call(math, sqrt, [16]).

%% In a process of its own, whose binaries go with it.
needs_memory(GiB, Fun) ->
    case py_test:available_bytes() < GiB bsl 30 of
        true ->
            ct:comment("less than ~b GiB of memory available: not run", [GiB]);
        false ->
            {Pid, Ref} = spawn_monitor(Fun),
            receive
                {'DOWN', Ref, process, Pid, Reason} -> normal = Reason
            end
    end.

holds_no_scheduler_for_long(_Config) ->
    _ = erlang:system_monitor(self(), [{long_schedule, 100}]),
    List = lists:seq(1, 300000),
    Map = maps:from_list([{N, N} || N <- lists:seq(1, 20000)]),
    {_, Withheld, _} = py_pace:timed(fun() ->
        [{ok, X} = py:call(ep_probe, echo, [X]) || X <- [List, Map, {List}, [List]]]
    end),
    _ = erlang:system_monitor(undefined),
    %% Building the test's own lists is not our doing, nor is what the system takes away.
    [] = [
        {Pid, Ms, Info}
     || {Pid, Info} <- long_schedules(), Pid =/= self(), {timeout, Ms} <- Info, Ms - Withheld > 100
    ].

long_schedules() ->
    receive
        {monitor, Pid, long_schedule, Info} -> [{Pid, Info} | long_schedules()]
    after 0 -> []
    end.

%% On the only scheduler of a VM, with a budget far longer than the calls take.
others_have_their_turn_while_a_caller_looks_for_its_reply(_Config) ->
    Peer = py_test:start_vm(#{}, ["+S", "1"]),
    try
        %% Of 300. A few may be: the system can take the CPU away during the first look.
        Without = py_test:in_vm(Peer, ?MODULE, calls_without_a_turn_of_others, []),
        ?assert(Without < 100, Without)
    after
        py_test:stop_vm(Peer)
    end.

calls_without_a_turn_of_others() ->
    _ = application:load(erlang_python),
    [ok = application:set_env(erlang_python, K, V) || {K, V} <- [{num_contexts, 1}, {spin_us, 1000}]],
    {ok, _} = application:ensure_all_started(erlang_python),
    Turns = atomics:new(1, []),
    Other = spawn_link(fun() -> take_turns(Turns) end),
    Waits = [
        begin
            Before = atomics:get(Turns, 1),
            {ok, none} = py:call(time, sleep, [0.0003]),
            atomics:get(Turns, 1) - Before
        end
     || _ <- lists:seq(1, 300)
    ],
    true = unlink(Other),
    true = exit(Other, kill),
    length([none || 0 <- Waits]).

take_turns(Turns) ->
    ok = atomics:add(Turns, 1, 1),
    true = erlang:yield(),
    take_turns(Turns).

%% In a VM with default flags: eight contexts, nothing to do. Measured from this VM, for
%% one that reads its own figures is not idle.
uses_no_processor_time_when_idle(_Config) ->
    Peer = py_test:start_vm(#{}),
    try
        VmPid = py_test:in_vm(Peer, py_test, vm_pid, []),
        %% A VM that does nothing wakes up now and then; that is not ours.
        {_, Bare} = quietest(VmPid, []),
        Pids = py_test:in_vm(Peer, ?MODULE, start_contexts, []),
        {Workers, Vm} = quietest(VmPid, Pids),
        ct:pal("idle, % of a CPU: workers ~.4f, VM ~.4f, without us ~.4f", [Workers, Vm, Bare]),
        ?assert(Workers < 0.2, Workers),
        ?assert(Vm - Bare < 0.2, Vm - Bare)
    after
        py_test:stop_vm(Peer)
    end.

start_contexts() ->
    _ = application:load(erlang_python),
    ok = application:set_env(erlang_python, num_contexts, 8),
    {ok, _} = application:ensure_all_started(erlang_python),
    Contexts = py_context_router:contexts(),
    8 = length(Contexts),
    [py_test:os_pid(C) || C <- Contexts].

%% From one second after the last call on, as the figure is defined: the quietest of
%% three windows for each, for what else the machine does only adds.
quietest(VmPid, Workers) ->
    receive after 1000 -> ok end,
    {Ours, Vm} = lists:unzip([window(VmPid, Workers) || _ <- lists:seq(1, 3)]),
    {lists:min(Ours), lists:min(Vm)}.

window(VmPid, Workers) ->
    Vm0 = py_test:cpu_ns(VmPid),
    Workers0 = lists:sum([py_test:cpu_ns(P) || P <- Workers]),
    {Ms, _} = py_test:elapsed(fun() -> receive after ?WINDOW_MS -> ok end end),
    Workers1 = lists:sum([py_test:cpu_ns(P) || P <- Workers]),
    Vm1 = py_test:cpu_ns(VmPid),
    {(Workers1 - Workers0) / (Ms * 1.0e6) * 100, (Vm1 - Vm0) / (Ms * 1.0e6) * 100}.
