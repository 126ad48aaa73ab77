%% SPDX-License-Identifier: Apache-2.0

%% @private Carries messages of Python to processes of other nodes, to which the NIF cannot
%% send: one process for each node, so that a slow connection keeps no other node waiting.
%% What they have not sent when they are killed is lost, as with a connection that breaks.
-module(py_letter_carrier).
-behaviour(gen_server).

-export([start_link/0, create_table/0, reader/1, readers/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(TABLE, ?MODULE).
%% A process for a node ends when it has had nothing to do for so long.
-define(IDLE_MS, 60000).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    %% What users have sent, arrays and large binaries among it, does not stay here as garbage.
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{hibernate_after, 1000}]).

-spec create_table() -> ok.
create_table() ->
    _ = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc The process in whose mailbox messages to that one wait, if there is any.
-spec reader(pid()) -> pid() | undefined.
reader(Pid) ->
    case ets:lookup(?TABLE, node(Pid)) of
        [{_Node, Reader}] -> Reader;
        [] -> whereis(?MODULE)
    end.

%% @doc All of these.
-spec readers() -> [pid()].
readers() ->
    [Reader || {_Node, Reader} <- ets:tab2list(?TABLE)].

-spec init([]) -> {ok, none}.
init([]) ->
    %% Those of a predecessor have ended with it.
    true = ets:delete_all_objects(?TABLE),
    ok = ep_nif:carry_letters(),
    {ok, none}.

-spec handle_call(term(), gen_server:from(), none) -> no_return().
handle_call(Request, _From, _State) ->
    error({unexpected, Request}).

-spec handle_cast(term(), none) -> no_return().
handle_cast(Request, _State) ->
    error({unexpected, Request}).

-spec handle_info(term(), none) -> {noreply, none}.
handle_info({py_letter, Pid, _Term} = Letter, State) ->
    _ = reader_of(node(Pid)) ! Letter,
    {noreply, State};
%% Nothing comes any more: it has asked us to forget it, and sent what was there.
handle_info({idle, Node, Reader}, State) ->
    case ets:lookup(?TABLE, Node) of
        [{Node, Reader}] ->
            true = ets:delete(?TABLE, Node),
            _ = Reader ! {stop, self()},
            {noreply, State};
        _ ->
            {noreply, State}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

%% Internal

reader_of(Node) ->
    case ets:lookup(?TABLE, Node) of
        [{Node, Reader}] ->
            case is_process_alive(Reader) of
                true -> Reader;
                false -> start_reader(Node)
            end;
        [] ->
            start_reader(Node)
    end.

start_reader(Node) ->
    Carrier = self(),
    Reader = spawn_link(fun() -> read(Node, Carrier) end),
    true = ets:insert(?TABLE, {Node, Reader}),
    Reader.

read(Node, Carrier) ->
    receive
        {py_letter, Pid, Term} ->
            _ = Pid ! Term,
            read(Node, Carrier);
        {stop, Carrier} ->
            ok
    after ?IDLE_MS ->
        _ = Carrier ! {idle, Node, self()},
        read(Node, Carrier)
    end.
