%% SPDX-License-Identifier: Apache-2.0

%% @doc The page that the tests share with worker processes: at which step one of them is
%% to end, and what came of it. The layout is struct page of ep_crashpoint.c.
-module(chaos_page).

-export([create/1, delete/1, arm/5, disarm/1, read/1, points/0]).

-export_type([page/0, action/0]).

%% Its file: any process of the test may look at it.
-opaque page() :: file:filename().
-type action() :: none | kill9 | segv | exit0 | abort | stop.

-define(SIZE, 8192).
-define(NAME, 48).
-define(AFTER_ORDER, 64).
-define(POINTS, 96).

%% @doc Makes the file, and tells the processes that start from now on. The library of this VM has it mapped if the
%% environment named it before.
-spec create(file:filename()) -> page().
create(File) ->
    Path =
        case os:getenv("EP_CRASH_PAGE") of
            false -> filename:absname(File);
            Given -> Given
        end,
    ok = file:write_file(Path, <<0:?SIZE/unit:8>>),
    true = os:putenv("EP_CRASH_PAGE", Path),
    Path.

-spec delete(page()) -> ok.
delete(Page) ->
    file:delete(Page).

%% @doc The Nth time that the process, 0: any, comes to the point.
-spec arm(page(), non_neg_integer(), atom() | binary(), non_neg_integer(), action()) -> ok.
arm(Page, OsPid, Point, Nth, Action) ->
    ok = disarm(Page),
    Name = iolist_to_binary([if is_atom(Point) -> atom_to_list(Point); true -> Point end]),
    Order = <<OsPid:32/native, Nth:32/native, (number(Action)):32/native, Name/binary>>,
    Zeros = <<0:(?SIZE - 4 - byte_size(Order))/unit:8>>,
    ok = write(Page, 4, [Order, Zeros]),
    write(Page, 0, <<1:32/native>>).

-spec disarm(page()) -> ok.
disarm(Page) ->
    write(Page, 0, <<0:32>>).

%% @doc Which process it ended, if it did; how many slots of requests were given back and
%% messages of lanes published; whether the lane sleeps after that; how often each point was met.
-spec read(page()) ->
    #{
        fired := 0 | pos_integer(), taken := integer(), committed := integer(), is_resting := boolean(),
        hits := #{binary() => integer()}
    }.
read(Page) ->
    {ok, Bytes} = file:read_file(Page),
    <<_:?AFTER_ORDER/binary, Fired:32/native, OsPid:32/native, _:32, Taken:32/native, Committed:32/native, Resting:32/native, _/binary>> =
        Bytes,
    <<_:?POINTS/binary, Points/binary>> = Bytes,
    Hits = [
        {hd(binary:split(Name, <<0>>)), N}
     || <<Name:?NAME/binary, N:32/native>> <= Points, binary:first(Name) =/= 0
    ],
    #{fired => Fired * OsPid, taken => Taken, committed => Committed, is_resting => Resting =:= 1, hits => maps:from_list(Hits)}.

%% @doc All that the sources name.
-spec points() -> [binary()].
points() ->
    lists:usort(lists:append([
        begin
            {ok, Text} = file:read_file(File),
            case re:run(Text, "EP_CRASHPOINT(?:_PEER)?\\(\"([^\"]+)\"\\)", [global, {capture, all_but_first, binary}]) of
                {match, Names} -> lists:append(Names);
                nomatch -> []
            end
        end
     || File <- filelib:wildcard("{service,nif}/*/*.c")
    ])).

%% Internal

%% In place: the processes have the file mapped.
write(File, At, Bytes) ->
    {ok, Device} = file:open(File, [read, write, raw, binary]),
    ok = file:pwrite(Device, At, Bytes),
    file:close(Device).

number(none) -> 0;
number(kill9) -> 1;
number(segv) -> 2;
number(exit0) -> 3;
number(abort) -> 4;
number(stop) -> 5.
