%% SPDX-License-Identifier: Apache-2.0

%% @doc Fetches pages through asyncio, all at once, and one after the other.
%%
%% A small HTTP server on this machine takes 20 ms for each page. One context asks it for 1000
%% pages: with asyncio, where all tasks wait at the same time, and with one request after the
%% other, of which this does a tenth. Python's standard library suffices.
%%
%% `make example NAME=async_fetch' runs it.
-module(async_fetch).

-export([main/0, run/1]).

-define(PAGES, 1000).
-define(PAGE_MS, 20).
%% Connections that the coroutines hold at a time.
-define(OPEN, 200).

-spec main() -> ok.
main() ->
    {ok, _} = application:ensure_all_started(erlang_python),
    _ = run(?PAGES),
    application:stop(erlang_python).

%% @doc Pages and bytes of either way.
-spec run(pos_integer()) -> #{turns | at_once => {Pages :: pos_integer(), Bytes :: non_neg_integer()}}.
run(Pages) ->
    {Server, Port} = start_server(),
    ok = py:exec(code()),
    ok = py:exec(io_lib:format("port, gate = ~b, None", [Port])),
    Few = max(1, Pages div 10),
    {Turns, Bytes} = timed(fun() -> lists:sum([fetch_one(I) || I <- lists:seq(1, Few)]) end),
    io:format("one after the other: ~b pages, ~b bytes, ~b ms, ~b pages/s~n", [Few, Bytes, Turns, Few * 1000 div Turns]),
    {AtOnce, All} = timed(fun() -> fetch_all(Pages) end),
    io:format("all at once:         ~b pages, ~b bytes, ~b ms, ~b pages/s~n", [Pages, All, AtOnce, Pages * 1000 div AtOnce]),
    exit(Server, kill),
    #{turns => {Few, Bytes}, at_once => {Pages, All}}.

%% A request occupies the context until it has its page.
fetch_one(I) ->
    {ok, Size} = py:call('__main__', fetch_plainly, [I]),
    Size.

%% A task does not.
fetch_all(Pages) ->
    {ok, Sizes} = py:async_gather([{'__main__', fetch, [I]} || I <- lists:seq(1, Pages)], 60000),
    lists:sum(Sizes).

timed(Fun) ->
    {Us, Result} = timer:tc(Fun),
    {max(1, Us div 1000), Result}.

code() ->
    "import asyncio, urllib.request\n"
    "def fetch_plainly(i):\n"
    "    with urllib.request.urlopen(f'http://127.0.0.1:{port}/{i}') as response:\n"
    "        return len(response.read())\n"
    "async def fetch(i):\n"
    "    global gate\n"
    "    if gate is None:\n"
    "        gate = asyncio.Semaphore(" ++ integer_to_list(?OPEN) ++ ")\n"
    "    async with gate:\n"
    "        reader, writer = await asyncio.open_connection('127.0.0.1', port)\n"
    "        writer.write(f'GET /{i} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n'.encode())\n"
    "        head, _, body = (await reader.read()).partition(b'\\r\\n\\r\\n')\n"
    "        writer.close()\n"
    "        assert head.startswith(b'HTTP/1.1 200 '), head\n"
    "        return len(body)\n".

%% The server

start_server() ->
    Self = self(),
    Server = spawn_link(fun() ->
        {ok, Listen} = gen_tcp:listen(0, [binary, {packet, http_bin}, {active, false}, {backlog, 1024}, {ip, {127, 0, 0, 1}}]),
        {ok, Port} = inet:port(Listen),
        Self ! {self(), Port},
        accept(Listen)
    end),
    receive
        {Server, Port} ->
            unlink(Server),
            {Server, Port}
    end.

accept(Listen) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    Handler = spawn(fun() -> receive go -> serve(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Handler),
    Handler ! go,
    accept(Listen).

serve(Socket) ->
    {ok, {http_request, 'GET', {abs_path, Path}, _}} = gen_tcp:recv(Socket, 0),
    ok = skip_headers(Socket),
    receive after ?PAGE_MS -> ok end,
    Body = [<<"page ">>, Path],
    ok = gen_tcp:send(Socket, [
        <<"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ">>, integer_to_binary(iolist_size(Body)), <<"\r\n\r\n">>, Body
    ]),
    ok = gen_tcp:close(Socket).

skip_headers(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, http_eoh} -> ok;
        {ok, {http_header, _, _, _, _}} -> skip_headers(Socket)
    end.
