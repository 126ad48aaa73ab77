%% SPDX-License-Identifier: Apache-2.0

%% @private What the library logs. The events have no domain, for the default handler drops
%% those of other domains than its own; instead they say `library => erlang_python'.
%%
%% | event            | level          | how often                                               |
%% |------------------|----------------|---------------------------------------------------------|
%% | died             | error, warning | for each worker process, but those that were told to end |
%% | stuck            | warning        | before the death that it leads to                       |
%% | start_failed     | error          | at once, then once a minute for a pool and a cause      |
%% | started_again    | notice         | once after that                                         |
%% | launcher_ended   | warning        | each time                                               |
%% | context_ended    | warning        | for each context of a pool that has to be replaced      |
%% | preload_failed   | warning        | for each start of the context                           |
%% | import_failed    | warning        | once a minute for a module and a reason                 |
%% | import_slow      | warning        | once a minute for a context                             |
%% | loop_blocked     | warning        | once a minute for a context                             |
%% | runs_otherwise   | warning        | for each start of a pool that runs with other options   |
%% | not_followed     | warning        | once a minute for a pool                                |
%% | no_zygote        | warning        | once a minute for a list of modules                     |
%% | sandbox_lacks    | warning        | once for what is missing at a level                     |
%% | unknown_key      | warning        | for each key of the application environment             |
%%
%% The one other event is logged by py_async, which users give the level `debug' to see it: what
%% casts failed with.
-module(py_report).

-include_lib("kernel/include/logger.hrl").
-include("ep_nif.hrl").

-export([create_table/0, died/1, stuck/4, start_failed/3, started_again/1, launcher_ended/1]).
-export([context_ended/3, preload_failed/3, import_failed/4, import_slow/1, unknown_key/2]).
-export([runs_otherwise/2, not_followed/2, no_zygote/2, sandbox_lacks/2, loop_blocked/3]).

-export_type([death/0, member/0, ran/0]).

-type member() :: {py:pool_name(), Number :: pos_integer()} | undefined.
%% What ran, where it is known: not while a context was idle.
-type ran() :: {call | eval | exec, Module :: binary() | undefined, Function :: binary() | undefined}.
-type death() :: #{
    os_pid := integer() | undefined,
    reason := atom() | non_neg_integer(),
    stderr := binary(),
    %% of the contexts that were in the process, in their order
    contexts := [{pid(), member(), ran() | idle}],
    %% of the process
    memory_limit => pos_integer() | infinity,
    %% what comes next
    next := again | {later, Ms :: non_neg_integer()} | refuse | launcher | stop
}.

-define(TABLE, ?MODULE).
-define(EVERY_MS, 60000).
-define(LINES, 20).
-define(CHARS, 3000).
-define(STACK_LINES, 60).
-define(STACK_CHARS, 6000).

%% @doc Of start failures: {{Pool, Cause}, when it was logged last, in ms}.
-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public]),
    ok.

-spec died(death()) -> ok.
died(Death = #{os_pid := OsPid, reason := Reason, stderr := Bytes, contexts := Contexts, next := Next}) ->
    {Stack, Wrote} = py_stderr:python_stack(py_stderr:text(Bytes)),
    Ran = [C || C = {_, _, What} <- Contexts, What =/= idle],
    Text = unicode:characters_to_binary([
        "a Python worker process ended: ", how(Reason), limited(Death), ran(Ran), "; ", where(Contexts), io_lib:format("OS pid ~p", [OsPid]),
        next(Next), stack(Stack), wrote(Wrote)
    ]),
    Meta = meta(maps:merge(
        #{os_pid => OsPid, reason => Reason, started => Ran =/= [], stderr => Wrote, python_stack => Stack},
        of_context(first(Ran, Contexts))
    )),
    case level(Death) of
        error -> ?LOG_ERROR("~ts", [Text], Meta);
        warning -> ?LOG_WARNING("~ts", [Text], Meta)
    end.

%% We ended it on purpose, or it went with its launcher, of which there is an event.
level(#{reason := kill_after}) -> warning;
level(#{next := launcher}) -> warning;
level(_) -> error.

%% @doc A process could not be started. Returns the sentence for those who wait for it.
-spec start_failed(py_start_failure:cause(), binary(), [{pid(), member()}]) -> binary().
start_failed(Cause, Bytes, Contexts) ->
    Wrote = py_stderr:text(Bytes),
    Sentence = py_start_failure:sentence(Cause, Wrote),
    %% Nobody waits yet: the next try, soon, is for somebody.
    Contexts =/= [] andalso is_due({pool(Contexts), key(Cause)}) andalso
        ?LOG_ERROR("no Python worker process can be started for ~ts: ~ts; requests get worker_unavailable, starts are "
                   "tried again from time to time", [for(Contexts), Sentence],
                   meta(maps:merge(#{reason => Sentence, stderr => Wrote}, of_context(first([], Contexts))))),
    Sentence.

%% @doc The processes of these contexts start and stay up.
-spec started_again([{pid(), member()}]) -> ok.
started_again(Contexts) ->
    Pool = pool(Contexts),
    case ets:select_delete(?TABLE, [{{{Pool, '_'}, '_'}, [], [true]}]) of
        0 -> ok;
        _ -> ?LOG_NOTICE("Python worker processes for ~ts start again", [for(Contexts)], meta(of_context(first([], Contexts))))
    end.

%% @doc A worker process is killed because nothing in it goes on.
-spec stuck(still | stopped, Ms :: non_neg_integer(), OsPid :: integer() | undefined, Meta :: map()) -> ok.
stuck(Why, Ms, OsPid, Meta) ->
    ?LOG_WARNING(
        "a Python worker process (OS pid ~p) is stuck: for ~b ms ~ts; it is killed and started again",
        [OsPid, Ms, does_not(Why)],
        Meta#{library => erlang_python, os_pid => OsPid, reason => stuck}
    ).

does_not(still) -> "it has taken no request although it runs none, as if a Python thread held the GIL";
does_not(stopped) -> "none of its threads has gone on, as after SIGSTOP".

-spec launcher_ended(term()) -> ok.
launcher_ended(Reason) ->
    ?LOG_WARNING("the launcher of the Python worker processes ended (~p); starting it again", [Reason], meta(#{})).

%% @doc The process of a context has ended, and gets a successor.
-spec context_ended(py:pool_name(), Number :: pos_integer(), term()) -> ok.
context_ended(Pool, Number, Reason) ->
    ?LOG_WARNING("context ~p of pool ~p ended (~p); starting another one", [Number, Pool, Reason], meta(#{})).

-spec preload_failed(Id :: term(), Type :: atom(), Text :: term()) -> ok.
preload_failed(Id, Type, Text) ->
    ?LOG_WARNING("the preload code of context ~p failed: ~ts: ~tp", [Id, Type, Text], meta(#{})).

%% @doc A module of the registered imports cannot be imported.
-spec import_failed(pid(), Module :: binary(), Type :: binary(), Text :: binary()) -> ok.
import_failed(Ctx, Module, Type, Text) ->
    is_due({import, {Module, Type, Text}}) andalso
        ?LOG_WARNING("the import of the Python module ~ts failed: ~ts: ~ts; calls of it will fail likewise",
                     [Module, Type, Text], meta(#{context => Ctx, module => Module})),
    ok.

%% @doc Imports take longer than anybody waits for them.
-spec import_slow(pid()) -> ok.
import_slow(Ctx) ->
    is_due({import, Ctx}) andalso
        ?LOG_WARNING("the registered imports still run in context ~p; it takes requests meanwhile, and those that need "
                     "the modules wait", [Ctx], meta(#{context => Ctx})),
    ok.

%% @doc A coroutine, or a function that is called as a task, lets no other task go on. Context: one
%% of those in the interpreter.
-spec loop_blocked(pid() | undefined, Ms :: integer(), Stack :: binary()) -> ok.
loop_blocked(Ctx, Ms, Bytes) ->
    Stack = py_stderr:text(Bytes),
    is_due({loop, Ctx}) andalso
        ?LOG_WARNING("the event loop of context ~p has been held up for ~b ms: its tasks wait until this code returns or "
                     "awaits~ts", [Ctx, Ms, stack(Stack)], meta(#{context => Ctx, python_stack => Stack})),
    ok.

%% @doc Who starts a pool that runs gets it as it is.
-spec runs_otherwise(py:pool_name(), [atom()]) -> ok.
runs_otherwise(Pool, Keys) ->
    ?LOG_WARNING("pool ~tp runs already, and with other options (~ts) than it was to be started with; it is left as it is",
                 [Pool, lists:join(", ", [atom_to_list(Key) || Key <- Keys])], meta(#{pool => Pool})).

%% @doc A process has served enough, and the one that is to follow it does not come up.
-spec not_followed(term(), [{pid(), member()}]) -> ok.
not_followed(Reason, Contexts) ->
    Contexts =/= [] andalso is_due({pool(Contexts), not_followed}) andalso
        ?LOG_WARNING("a Python worker process for ~ts is to be replaced, and its successor does not come up (~0tP); it goes "
                     "on, and the replacement is tried again", [for(Contexts), Reason, 20],
                     meta(of_context(first([], Contexts)))),
    ok.

%% @doc Modules that cannot be imported once for all processes.
-spec no_zygote([binary()], Why :: binary()) -> ok.
no_zygote(Modules, Wrote) ->
    Lines = py_stderr:last_lines(py_stderr:text(Wrote), ?LINES, ?CHARS),
    is_due({no_zygote, Modules}) andalso
        ?LOG_WARNING("each Python worker process ~ts by itself, and shares no memory for it: ~ts",
                     [without_zygote(Modules), lists:join(" / ", [string:trim(L) || L <- Lines])], meta(#{stderr => Wrote})),
    ok.

without_zygote([]) -> "starts Python";
without_zygote(Modules) -> ["imports ", lists:join(", ", Modules)].

%% @doc What the kernel does not enforce.
-spec sandbox_lacks(py_sandbox:level(), [py_sandbox:feature()]) -> ok.
sandbox_lacks(Level, Missing) ->
    ets:insert_new(?TABLE, {{sandbox, Level, Missing}, told}) andalso
        ?LOG_WARNING(
            "the sandbox of Python worker processes (~p) is not complete: ~ts not in force here; use a newer kernel, "
            "let the container use it, or set sandbox to none if that is meant; see docs/security.md",
            [Level, are(Missing)],
            meta(#{reason => {sandbox, Missing}})
        ),
    ok.

are([Feature]) -> [atom_to_list(Feature), " is"];
are(Features) -> [lists:join(", ", [atom_to_list(F) || F <- Features]), " are"].

%% @doc Nothing reads a key of the application environment.
-spec unknown_key(atom(), Hint :: string()) -> ok.
unknown_key(Key, Hint) ->
    ?LOG_WARNING("erlang_python: nothing reads ~tp in its application environment~ts", [Key, Hint], meta(#{})).

%% Internal

%% What every event of the library carries.
meta(Known) ->
    maps:filter(fun(_, Value) -> Value =/= undefined end, Known#{library => erlang_python}).

%% Texts differ from try to try in numbers that mean nothing.
key({python, _}) -> python;
key(Cause) -> Cause.

is_due(Key) ->
    Now = erlang:monotonic_time(millisecond),
    ets:insert_new(?TABLE, {Key, Now}) orelse
        ets:select_replace(?TABLE, [
            {{Key, '$1'}, [{'=<', '$1', Now - ?EVERY_MS}], [{{{const, Key}, Now}}]}
        ]) =:= 1.

pool([{_, {Pool, _}} | _]) -> Pool;
pool(_) -> undefined.

for(Contexts) ->
    case {pool(Contexts), length(Contexts)} of
        {undefined, 1} -> "a context without a pool";
        {undefined, N} -> io_lib:format("~b contexts", [N]);
        {Pool, 1} -> io_lib:format("pool ~tp, context ~b", [Pool, number(hd(Contexts))]);
        {Pool, _} -> io_lib:format("pool ~tp, contexts ~w", [Pool, [number(C) || C <- Contexts]])
    end.

number({_, {_, Number}}) -> Number;
number({_, undefined}) -> 0.

first([Ran | _], _) -> Ran;
first([], [Context | _]) -> Context;
first([], []) -> none.

of_context(none) -> #{};
of_context({Context, Member}) -> of_member(Member, #{context => Context});
of_context({Context, Member, {_, Module, Function}}) ->
    of_member(Member, #{context => Context, module => Module, function => Function});
of_context({Context, Member, idle}) -> of_member(Member, #{context => Context}).

of_member(undefined, Known) -> Known;
of_member({Pool, Number}, Known) -> Known#{pool => Pool, index => Number}.

where([]) -> "";
where(Contexts) -> [for([{Context, Member} || {Context, Member, _} <- Contexts]), ", "].

%% One process has one thread for each context: which of them crashed is not known.
ran([]) -> " while no request ran";
ran([{_, _, Ran}]) -> [" while it ran ", what(Ran)];
ran(Several) ->
    [" while it ran ", lists:join(" and ", [[what(Ran), in(Member)] || {_, Member, Ran} <- Several])].

in(undefined) -> "";
in({_Pool, Number}) -> io_lib:format(" (context ~b)", [Number]).

what({call, undefined, _}) -> "a call";
what({call, Module, undefined}) -> ["a function of ", py_stderr:text(Module)];
what({call, Module, Function}) -> [py_stderr:text(Module), ".", py_stderr:text(Function)];
what({Operation, _, _}) -> ["code of py:", atom_to_list(Operation)].

next(again) -> "; another one is started";
next({later, Ms}) -> io_lib:format("; another one is started in ~b ms", [Ms]);
next(refuse) -> "; it was of no use, like those before it, so requests get worker_unavailable until one stays up";
next(launcher) -> ", whose launcher has ended; another one is started";
next(stop) -> "; it was to end anyway".

how('SIGSEGV') -> "SIGSEGV, it used memory that is not its own: a bug in a C library or an extension module,";
how('SIGBUS') -> "SIGBUS, a file or shared memory that it used is shorter than it thought,";
how('SIGABRT') -> "SIGABRT, Python or a C library found itself broken and gave up,";
how('SIGILL') -> "SIGILL, a library was built for another CPU, or gave up,";
how('SIGKILL') -> "SIGKILL, somebody killed it, or the kernel did for want of memory,";
how('SIGSYS') -> "SIGSYS, a seccomp filter forbids a system call,";
how('SIGXCPU') -> "SIGXCPU, it used more CPU time than RLIMIT_CPU allows,";
how(kill_after) -> "killed by its VM, for it did not end or go on in time,";
how(protocol_violation) -> "killed by its VM, for it wrote into the shared memory what makes no sense,";
how(unknown) -> "nobody saw how,";
how(0) -> "exit status 0, Python code ended the process,";
how(?EXIT_FDS_LOST) -> "exit status 70, Python code closed descriptors that the process needs,";
how(Status) when is_integer(Status) -> io_lib:format("exit status ~b, Python code or a C library ended the process,", [Status]);
how(Signal) -> [atom_to_list(Signal), ","].

%% Code that does not look whether it was given memory dies in as many ways.
limited(#{memory_limit := Bytes, reason := Reason}) when is_integer(Bytes), Reason =/= kill_after, Reason =/= 'SIGKILL' ->
    io_lib:format(" perhaps because it could not have more than the ~b bytes that memory_limit allows,", [Bytes]);
limited(_Death) ->
    "".

stack(undefined) -> "";
stack(Stack) -> ["\nThe Python stack:", py_stderr:indent(first_lines(Stack))].

first_lines(Stack) ->
    lists:sublist(py_stderr:last_lines(string:slice(Stack, 0, ?STACK_CHARS), ?STACK_LINES * 4, ?STACK_CHARS), ?STACK_LINES).

wrote(Wrote) ->
    case py_stderr:last_lines(Wrote, ?LINES, ?CHARS) of
        [] -> "";
        Lines -> ["\nThe last lines that it wrote to stderr:", py_stderr:indent(Lines)]
    end.
