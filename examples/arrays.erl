%% SPDX-License-Identifier: Apache-2.0

%% @doc Arrays in shared memory: an image that is filtered in parts, a table in Arrow's format, and
%% one large array that every context reads.
%%
%% `make example NAME=arrays' runs it, with the numpy of `make venv'.
-module(arrays).

-export([main/0, all/0, filter/0, table/0, large/0]).

-define(ROWS, 480).
-define(COLUMNS, 640).
-define(LARGE, 200000000).

-spec main() -> ok.
main() ->
    _ = application:load(erlang_python),
    ok = application:set_env(erlang_python, python, <<".venv">>),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = all(),
    application:stop(erlang_python).

-spec all() -> ok.
all() ->
    ok = filter(),
    ok = table(),
    large().

%% @doc Blurs an image. Each context gets some rows of it, which are slices of one array: nothing
%% is copied on the way there, and the parts come back as arrays.
-spec filter() -> ok.
filter() ->
    Pixels = <<<<((X + Y) rem 256)>> || Y <- lists:seq(1, ?ROWS), X <- lists:seq(1, ?COLUMNS)>>,
    {ok, Image} = py_array:from_binary(Pixels, uint8, {?ROWS, ?COLUMNS}),
    Contexts = py_context_router:contexts(),
    Height = ?ROWS div length(Contexts),
    Parts = [
        begin
            {ok, Part} = py_array:slice(Image, I * Height, Height),
            Part
        end
     || I <- lists:seq(0, length(Contexts) - 1)
    ],
    Blurred = map(fun({Context, Part}) -> blur(Context, Part) end, lists:zip(Contexts, Parts)),
    {Height, ?COLUMNS} = py_array:shape(hd(Blurred)),
    io:format("~b parts of ~b rows, each blurred by a context of its own~n", [length(Parts), Height]).

blur(Context, Part) ->
    ok = py:exec(
        Context,
        "import numpy as np\n"
        "def blur(part):\n"
        "    wide = np.pad(part.astype('float32'), ((0, 0), (1, 1)), mode='edge')\n"
        "    return ((wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]) / 3).astype('uint8')\n"
    ),
    {ok, Result} = py:call(Context, '__main__', blur, [Part], #{}, #{arrays => shared}),
    Result.

%% @doc A table crosses as the bytes of Arrow's IPC format, which pyarrow reads where they lie.
-spec table() -> ok.
table() ->
    case py:eval("__import__('importlib.util').util.find_spec('pyarrow') is not None") of
        {ok, true} -> arrow_table();
        {ok, false} -> io:format("no pyarrow here, so no table~n")
    end.

arrow_table() ->
    ok = py:exec(
        "import erlang, pyarrow as pa\n"
        "def write():\n"
        "    table = pa.table({'city': ['Bern', 'Oslo'], 'degrees': [21.5, 17.0]})\n"
        "    sink = pa.BufferOutputStream()\n"
        "    with pa.ipc.new_stream(sink, table.schema) as writer:\n"
        "        writer.write_table(table)\n"
        "    return erlang.share(sink.getvalue())\n"
        "def read(array):\n"
        "    return pa.ipc.open_stream(pa.py_buffer(array)).read_all().to_pydict()\n"
    ),
    {ok, Table} = py:call('__main__', write, []),
    {ok, #{<<"city">> := [<<"Bern">>, <<"Oslo">>]} = Columns} = py:call('__main__', read, [Table]),
    io:format("an Arrow table of ~b bytes: ~p~n", [py_array:nbytes(Table), Columns]).

%% @doc 200 MB that all contexts read, there once.
-spec large() -> ok.
large() ->
    {ok, Open} = py_array:new(float64, {?LARGE div 8}),
    ok = py_array:write(Open, ?LARGE - 8, <<42.0:64/float-native>>),
    ok = py_array:seal(Open),
    Contexts = py_context_router:contexts(),
    Sums = map(fun(Context) -> py:eval(Context, "float(a.sum())", #{a => Open}) end, Contexts),
    true = lists:all(fun(Sum) -> Sum =:= {ok, 42.0} end, Sums),
    #{arrays := #{shared_bytes := Bytes}} = py:stats(),
    io:format("~b contexts have read ~b MB; all arrays together take ~b MB~n", [
        length(Contexts), ?LARGE div 1000000, Bytes div 1000000
    ]).

%% All of them at the same time.
map(Fun, Items) ->
    Self = self(),
    Refs = [
        begin
            Ref = make_ref(),
            _ = spawn_link(fun() -> Self ! {Ref, Fun(Item)} end),
            Ref
        end
     || Item <- Items
    ],
    [receive {Ref, Result} -> Result end || Ref <- Refs].
