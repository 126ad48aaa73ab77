%% SPDX-License-Identifier: Apache-2.0

%% @private The functions of nif/, one to one: here nothing is checked, routed, timed or
%% retried. Requests go through {@link py_request}.
-module(ep_nif).

-include("ep_nif.hrl").

-export([
    call/7,
    eval/5,
    exec/4,
    await/2,
    collect/1,
    cancel/1,
    check/1,
    env_new/1,
    launcher_open/0,
    launcher_join/2,
    host_start/8,
    host_kill/1,
    host_shutdown/1,
    lane_new/3,
    lane_attach/5,
    lane_close/2,
    lane_set_unavailable/2,
    lane_progress/2,
    lane_interrupt/2,
    lane_interrupt_import/2,
    lane_is_idle/1,
    lane_move/2,
    lane_stay/1,
    lane_requests/1,
    lane_is_importing/1,
    lane_expire/2,
    lane_stats/1,
    answer/4,
    call_id/1,
    stream_next/2,
    stream_go_on/2,
    stream_finish/1,
    stream_cancel/1,
    run_callbacks/0,
    asker/1,
    question/1,
    inquire/4,
    inquire_first/4,
    letter_grant/2,
    letter_sample/1,
    letter_waits/2,
    letter_send/2,
    carry_letters/0,
    make_atom/1,
    array_from_binary/3,
    array_new/2,
    array_write/3,
    array_seal/1,
    array_to_binary/1,
    array_slice/3,
    array_info/1,
    arrays/0,
    set_max_shared_bytes/1,
    object_new/2,
    object_close/1,
    object_info/1,
    objects/0,
    channel_send/2,
    channel_put/2,
    channel_take/1,
    channel_take_back/1,
    channel_wait/2,
    channel_unwait/2,
    buffer_write/2,
    dict_set/4,
    dict_get/2,
    dict_remove/2,
    dict_keys/1,
    dict_destroy/1,
    slot_acquire/2,
    slot_claim/2,
    slot_release/1,
    slots/0,
    set_max_slots/1,
    names_changed/0,
    lane_kill/1,
    counters/0,
    set_max_atoms/1,
    empty/0,
    try_load/0
]).

-export_type([lane/0, host/0, launcher/0, env/0, call/0, slot/0, asker/0, spin_ns/0, result/0, outcome/0]).

-on_load(try_load/0).

%% LOAD_OTHER_NUMBERS of nif/py_nif.c, as the runtime says it.
-define(OTHER_NUMBERS, "(-4)").

%% In each stub directly, not in a function of its own: Dialyzer knows nif_error
%% and believes the stub's spec, but would infer that every stub fails.
-define(NOT_LOADED, erlang:nif_error({not_loaded, ?MODULE})).

%% Not opaque, for py_nif takes them from users and looks what they are.
-type lane() :: reference().
-type env() :: reference().
-opaque host() :: reference().
-opaque launcher() :: reference().
-opaque call() :: reference().
-opaque slot() :: reference().
-opaque asker() :: reference().
%% The least and the most that somebody waits busily, in nanoseconds.
-type spin_ns() :: {non_neg_integer(), non_neg_integer()}.
-type result() :: ok | {ok, term()} | {error, term()}.
%% What a request comes to at first: its result, a callback that the caller has to run
%% (py_callback:run/2) and answer, or nothing yet.
-type outcome() ::
    result()
    | {pending, call()}
    | {callback, call(), Number :: non_neg_integer(), Question :: integer() | raise, term()}.
%% ?FLAG_TRACEBACK and its like, together.
-type flags() :: non_neg_integer().
-type text() :: atom() | binary().

%% `overloaded': no slot is free, nothing was sent. `gone': the Python thread that an
%% asker stands for waits no more. `again': there is no worker process for a task, or no room.
-spec call(lane() | asker(), env() | undefined, text(), text(), list(), map(), flags()) ->
    outcome() | overloaded | gone | again.
call(_Lane, _Env, _Module, _Function, _Args, _Kwargs, _Flags) ->
    ?NOT_LOADED.

-spec eval(lane() | asker(), env() | undefined, text(), map(), flags()) ->
    outcome() | overloaded | gone | again.
eval(_Lane, _Env, _Code, _Locals, _Flags) ->
    ?NOT_LOADED.

-spec exec(lane() | asker(), env() | undefined, text(), flags()) ->
    outcome() | overloaded | gone | again.
exec(_Lane, _Env, _Code, _Flags) ->
    ?NOT_LOADED.

%% After `waiting' the message `{py_done, Tag}' comes exactly once, unless
%% cancel/1 returns `cancelled'.
-spec await(call(), reference()) -> waiting | outcome().
await(_Call, _Tag) ->
    ?NOT_LOADED.

-spec collect(call()) -> outcome().
collect(_Call) ->
    ?NOT_LOADED.

-spec cancel(call()) -> cancelled | done.
cancel(_Call) ->
    ?NOT_LOADED.

-spec check(call()) -> ok | neglected.
check(_Call) ->
    ?NOT_LOADED.

-spec env_new(lane()) -> env().
env_new(_Lane) ->
    ?NOT_LOADED.

-spec launcher_open() -> {ok, launcher(), string(), binary()} | {error, atom()}.
launcher_open() ->
    ?NOT_LOADED.

-spec launcher_join(launcher(), integer()) -> {ok, pos_integer()} | {error, atom()}.
launcher_join(_Launcher, _OsPid) ->
    ?NOT_LOADED.

%% Settings: see struct ep_control_request. Origin: a worker that the launcher starts; a zygote; or
%% a worker that the zygote with that id forks.
-spec host_start(
    launcher(), pos_integer(), spin_ns(), binary(), binary(), binary(), Settings :: binary(), Origin :: none | zygote | pos_integer()
) ->
    {ok, host(), pos_integer()} | {error, atom()}.
host_start(_Launcher, _Contexts, _SpinNs, _WorkerPath, _PythonPath, _ModulePath, _Settings, _Origin) ->
    ?NOT_LOADED.

-spec host_kill(host()) -> ok.
host_kill(_Host) ->
    ?NOT_LOADED.

-spec host_shutdown(host()) -> ok.
host_shutdown(_Host) ->
    ?NOT_LOADED.

%% MaxResultBytes: VM heap that one result, or the arguments of one callback, may need.
-spec lane_new(spin_ns(), pos_integer(), Style :: non_neg_integer()) -> lane() | {error, atom()}.
lane_new(_SpinNs, _MaxResultBytes, _Style) ->
    ?NOT_LOADED.

%% The prologue is run in the interpreter before its first request, see
%% py_maintenance:prologue/3.
-spec lane_attach(lane(), host(), pos_integer(), worker | owngil, [{atom(), list()}]) ->
    ok | {error, atom()}.
lane_attach(_Lane, _Host, _Index, _Mode, _Prologue) ->
    ?NOT_LOADED.

-spec lane_close(lane(), atom()) -> ok.
lane_close(_Lane, _Reason) ->
    ?NOT_LOADED.

-spec lane_set_unavailable(lane(), term()) -> ok.
lane_set_unavailable(_Lane, _Reason) ->
    ?NOT_LOADED.

-spec lane_progress(lane(), non_neg_integer()) ->
    ended | waits | {still, non_neg_integer(), non_neg_integer()} | stopped | runs | imports.
lane_progress(_Lane, _CallId) ->
    ?NOT_LOADED.

%% CallId 0: the request that runs; its context gets `{py_lane, {interrupted, CallId}}'.
-spec lane_interrupt(lane(), non_neg_integer()) -> ok | not_running.
lane_interrupt(_Lane, _CallId) ->
    ?NOT_LOADED.

%% Has an interrupt that waits for the end of an import wait no longer.
-spec lane_interrupt_import(lane(), non_neg_integer()) -> ok.
lane_interrupt_import(_Lane, _CallId) ->
    ?NOT_LOADED.

%% The budget of a call has ended while its caller runs a callback: interrupts it, and
%% what the caller runs on top of it; answer/4 then returns `{error, timeout}'.
-spec lane_expire(lane(), non_neg_integer()) -> ok.
lane_expire(_Lane, _CallId) ->
    ?NOT_LOADED.

%% Whether the request that runs imports a module.
-spec lane_is_importing(lane()) -> boolean().
lane_is_importing(_Lane) ->
    ?NOT_LOADED.

-spec lane_is_idle(lane()) -> boolean().
lane_is_idle(_Lane) ->
    ?NOT_LOADED.

%% One try to give the lane the worker process of its understudy, which gets that of the lane.
%% `again': a request runs still; those that come from now on wait for the next try, or for
%% lane_stay/1.
-spec lane_move(lane(), Understudy :: lane()) -> ok | again | {error, atom()}.
lane_move(_Lane, _Understudy) ->
    ?NOT_LOADED.

-spec lane_stay(lane()) -> ok.
lane_stay(_Lane) ->
    ?NOT_LOADED.

%% Sent to its present worker process; nested requests do not count.
-spec lane_requests(lane()) -> non_neg_integer().
lane_requests(_Lane) ->
    ?NOT_LOADED.

-spec lane_stats(lane()) -> map().
lane_stats(_Lane) ->
    ?NOT_LOADED.

%% Answers the callback that a call waits for, and goes on like call/7.
-spec answer(call() | asker(), non_neg_integer(), value | failed | raise, term()) -> outcome().
answer(_Call, _Number, _How, _Term) ->
    ?NOT_LOADED.

%% The next items of a stream, a request made with ?FLAG_STREAM; its outcome after them. fault: an
%% item that the VM cannot have comes after these. After `waiting' the message `{py_done, Tag}' comes
%% once, unless stream_cancel/1 returns `cancelled'.
-spec stream_next(call(), reference()) ->
    {items, [term(), ...]} | {fault, {error, term()}, [term()]} | waiting | outcome().
stream_next(_Call, _Tag) ->
    ?NOT_LOADED.

%% Answers ?QUESTION_GO_ON: everything before it was sent on.
-spec stream_go_on(call(), non_neg_integer()) -> ok | {error, timeout}.
stream_go_on(_Call, _Number) ->
    ?NOT_LOADED.

%% Has Python end the stream when it has made the next item. false: no worker has the request.
-spec stream_finish(call()) -> boolean().
stream_finish(_Call) ->
    ?NOT_LOADED.

%% Gives the stream up and interrupts Python. done: `{py_done, Tag}' is or will be there; this is
%% to be called again then.
-spec stream_cancel(call()) -> cancelled | done.
stream_cancel(_Call) ->
    ?NOT_LOADED.

%% The calling process gets {py_callback, Asker} for each callback of a Python thread.
-spec run_callbacks() -> ok.
run_callbacks() ->
    ?NOT_LOADED.

-spec asker(asker()) -> {pid(), lane(), env() | undefined, IsNested :: boolean()}.
asker(_Asker) ->
    ?NOT_LOADED.

%% Once. gone: its worker process has died, nobody waits for the answer.
-spec question(asker()) -> {Question :: integer() | raise, term()} | gone.
question(_Asker) ->
    ?NOT_LOADED.

%% Asks erlang._maintenance beside the requests: {py_maintained, Tag, {ok, term()} |
%% {error, term()}} comes, if the interpreter ever answers or its process dies.
-spec inquire(lane(), reference(), atom(), list()) -> ok | {error, atom()}.
inquire(_Lane, _Tag, _Function, _Args) ->
    ?NOT_LOADED.

%% The same; requests that the context has not begun wait for the end of the function.
-spec inquire_first(lane(), reference(), atom(), list()) -> ok | {error, atom()}.
inquire_first(_Lane, _Tag, _Function, _Args) ->
    ?NOT_LOADED.

%% Gives the worker process credit to send messages, 1 MiB at most; 1 is for one message, 0 for none. Returns
%% the limit of what its messages may cost (ep_letter.h).
-spec letter_grant(lane() | asker(), Bytes :: non_neg_integer()) -> non_neg_integer().
letter_grant(_Target, _Bytes) ->
    ?NOT_LOADED.

%% A process that the worker process has sent a message to since the last credit of 1 MiB, picked
%% by chance, and what the message has cost.
-spec letter_sample(lane() | asker()) -> {pid(), Price :: pos_integer()} | undefined.
letter_sample(_Target) ->
    ?NOT_LOADED.

%% Whether the process waits for a request of the lane.
-spec letter_waits(lane() | asker(), pid()) -> boolean().
letter_waits(_Target, _Pid) ->
    ?NOT_LOADED.

%% Sends in order with the messages that Python sends without asking. false: the process is
%% not alive.
-spec letter_send(pid(), term()) -> boolean().
letter_send(_Pid, _Term) ->
    ?NOT_LOADED.

%% The calling process gets {py_letter, Pid, Term} for each message to another node.
-spec carry_letters() -> ok.
carry_letters() ->
    ?NOT_LOADED.

%% Makes the atom of that name, counted as one that Python makes. false: it may not, or there
%% is no such atom.
-spec make_atom(binary()) -> boolean().
make_atom(_Name) ->
    ?NOT_LOADED.

-spec call_id(call()) -> non_neg_integer().
call_id(_Call) ->
    ?NOT_LOADED.

-spec array_from_binary(binary(), py_array:dtype(), tuple()) -> {ok, py_array:py_array()} | {error, {'MemoryError', string()}}.
array_from_binary(_Bin, _Dtype, _Shape) ->
    ?NOT_LOADED.

-spec array_new(py_array:dtype(), tuple()) -> {ok, py_array:py_array()} | {error, {'MemoryError', string()}}.
array_new(_Dtype, _Shape) ->
    ?NOT_LOADED.

-spec array_write(py_array:py_array(), non_neg_integer(), binary()) -> ok | {error, sealed | not_owner | lost}.
array_write(_Array, _Offset, _Bin) ->
    ?NOT_LOADED.

-spec array_seal(py_array:py_array()) -> ok | {error, not_owner | lost}.
array_seal(_Array) ->
    ?NOT_LOADED.

-spec array_to_binary(py_array:py_array()) ->
    {ok, binary()} | {error, not_sealed | lost | {'MemoryError', string()}}.
array_to_binary(_Array) ->
    ?NOT_LOADED.

-spec array_slice(py_array:py_array(), non_neg_integer(), non_neg_integer()) ->
    {ok, py_array:py_array()} | {error, not_sealed | lost | {'MemoryError', string()}}.
array_slice(_Array, _Start, _Length) ->
    ?NOT_LOADED.

%% The owner of an open array, and how many worker processes hold it.
-spec array_info(term()) ->
    {py_array:dtype(), tuple(), Bytes :: non_neg_integer(), open | sealed | lost, pid() | undefined,
        Workers :: non_neg_integer()}
    | false.
array_info(_Term) ->
    ?NOT_LOADED.

-spec arrays() ->
    {Count :: non_neg_integer(), Bytes :: non_neg_integer(), Most :: non_neg_integer(), Limit :: non_neg_integer()}.
arrays() ->
    ?NOT_LOADED.

-spec set_max_shared_bytes(non_neg_integer()) -> ok.
set_max_shared_bytes(_Bytes) ->
    ?NOT_LOADED.

%% Kind: 0 channel, 1 byte channel, 2 buffer, 3 dict. MaxSize 0: no limit.
-spec object_new(0..3, non_neg_integer()) -> reference() | {error, atom()}.
object_new(_Kind, _MaxSize) ->
    ?NOT_LOADED.

-spec object_close(reference()) -> ok.
object_close(_Object) ->
    ?NOT_LOADED.

%% How many there are of each kind, and the bytes of what they hold.
-spec objects() -> {Channels :: Figures, ByteChannels :: Figures, Buffers :: Figures, Dicts :: Figures} when
    Figures :: {Count :: non_neg_integer(), Bytes :: non_neg_integer()}.
objects() ->
    ?NOT_LOADED.

-spec object_info(term()) ->
    {Kind :: 0..3, Bytes :: non_neg_integer(), MaxSize :: non_neg_integer(), IsClosed :: boolean(), IsShown :: boolean()}
    | false.
object_info(_Object) ->
    ?NOT_LOADED.

-spec channel_send(reference(), term()) -> ok | busy | {error, term()}.
channel_send(_Channel, _Term) ->
    ?NOT_LOADED.

-spec channel_put(reference(), binary()) -> ok | busy | {error, term()}.
channel_put(_Channel, _Bin) ->
    ?NOT_LOADED.

-spec channel_take(reference()) -> {ok, binary()} | {error, empty | closed}.
channel_take(_Channel) ->
    ?NOT_LOADED.

%% What Erlang itself has sent, as long as Python was not given the channel.
-spec channel_take_back(reference()) -> {ok, binary()} | {error, empty | closed}.
channel_take_back(_Channel) ->
    ?NOT_LOADED.

%% After `waiting' the message `{py_object, Tag}' comes once, unless channel_unwait/2 returns true.
-spec channel_wait(reference(), reference()) -> {waiting, IsShown :: boolean()} | again | waiter_exists.
channel_wait(_Channel, _Tag) ->
    ?NOT_LOADED.

-spec channel_unwait(reference(), reference()) -> boolean().
channel_unwait(_Channel, _Tag) ->
    ?NOT_LOADED.

-spec buffer_write(term(), binary()) -> ok | {error, closed | write_failed | invalid_buffer}.
buffer_write(_Buffer, _Bin) ->
    ?NOT_LOADED.

%% Returned: the value as Python would return it.
-spec dict_set(reference(), binary(), term(), term()) -> ok | {error, pickle_failed}.
dict_set(_Dict, _Key, _Value, _Returned) ->
    ?NOT_LOADED.

-spec dict_get(reference(), binary()) -> {ok, term()} | error.
dict_get(_Dict, _Key) ->
    ?NOT_LOADED.

-spec dict_remove(reference(), binary()) -> ok.
dict_remove(_Dict, _Key) ->
    ?NOT_LOADED.

-spec dict_keys(reference()) -> [binary()].
dict_keys(_Dict) ->
    ?NOT_LOADED.

-spec dict_destroy(reference()) -> ok.
dict_destroy(_Dict) ->
    ?NOT_LOADED.

%% Waiting: {py_slot, Tag} comes when the slot is held, or, to run a request, when it is
%% to be claimed.
-spec slot_acquire(reference(), hold | run) -> {held | waiting, slot()}.
slot_acquire(_Tag, _Why) ->
    ?NOT_LOADED.

%% After {py_slot, Tag}. Waiting: somebody was faster; {py_slot, Tag} comes once more.
-spec slot_claim(slot(), reference()) -> held | waiting.
slot_claim(_Slot, _Tag) ->
    ?NOT_LOADED.

%% What it was, an offer counts as held. After `held' of a slot that waited its message is, or will be, there.
-spec slot_release(slot()) -> held | waiting.
slot_release(_Slot) ->
    ?NOT_LOADED.

-spec slots() ->
    {Current :: non_neg_integer(), Max :: pos_integer(), Waiting :: non_neg_integer()}.
slots() ->
    ?NOT_LOADED.

-spec set_max_slots(pos_integer()) -> ok.
set_max_slots(_Max) ->
    ?NOT_LOADED.

%% Every worker looks names of callbacks up again.
-spec names_changed() -> ok.
names_changed() ->
    ?NOT_LOADED.

-spec lane_kill(lane()) -> ok | dying.
lane_kill(_Lane) ->
    ?NOT_LOADED.

-spec counters() -> #{atom() => non_neg_integer() | atom()}.
counters() ->
    ?NOT_LOADED.

-spec set_max_atoms(non_neg_integer()) -> ok.
set_max_atoms(_N) ->
    ?NOT_LOADED.

-spec empty() -> ok.
empty() ->
    ?NOT_LOADED.

%% The runtime calls it when the module is loaded; loading it again is an error whose text says what to do.
-spec try_load() -> ok | {error, {atom(), string()}}.
try_load() ->
    File = filename:join(py_paths:priv_dir(), "py_nif"),
    case erlang:load_nif(File, ?SHARED_NUMBERS) of
        ok ->
            ok;
        {error, {Class, Text}} ->
            case string:find(Text, ?OTHER_NUMBERS) of
                nomatch -> {error, {Class, explain(Class, File, Text)}};
                _ -> {error, {Class, other_numbers(File)}}
            end
    end.

other_numbers(File) ->
    "erlang_python: " ++ File ++ ".so and the module ep_nif come from different builds, whose numbers of flags and "
    "questions differ; build both anew: run `make clean build' in the erlang_python directory, or `rebar3 clean' and "
    "`rebar3 compile'".

explain(load_failed, File, Text) ->
    "erlang_python: cannot load " ++ File ++ ".so (" ++ Text ++
        "); run `make build' in the erlang_python directory, or `rebar3 compile'";
explain(reload, _File, Text) ->
    "erlang_python: the NIF is loaded already (" ++ Text ++
        "); to load it anew, purge the module first: code:purge(ep_nif), code:load_file(ep_nif)";
explain(upgrade, _File, Text) ->
    "erlang_python: this NIF cannot take over from the loaded one (" ++ Text ++
        "); stop the application erlang_python, or restart the VM";
explain(load, _File, Text) ->
    "erlang_python: the NIF cannot start (" ++ Text ++ "); if the OS variable EP_WAIT is set (" ++
        os:getenv("EP_WAIT", "it is not") ++
        "), it must be io_uring or epoll and the kernel must allow it; without it the NIF chooses "
        "itself. It also needs free file descriptors and threads";
explain(_Class, _File, Text) ->
    "erlang_python: cannot load the NIF: " ++ Text.
