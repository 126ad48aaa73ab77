%% SPDX-License-Identifier: Apache-2.0

%% @doc What the documentation shows is true: its examples run, its configuration
%% is accepted, its commands, keys, links and files exist. Looks at README.md and
%% everything in docs/.
%%
%% The word after the three backquotes says what a block is:
%%   erlang           expressions, evaluated in a new process; none may return
%%                    {error, _} that it does not match
%%   erlang fragment  terms, such as configuration: must parse
%%   elixir           run with elixir, where that is installed
%%   elixir fragment  must parse
%%   python           runs through py:exec
%%   python module m  the file m.py, which the Erlang examples find
%%   sh               the make targets in it must exist
%%   text, c or none  nothing is asked of it
%% A failing example is reported with its file and line.
-module(py_docs_SUITE).

-include_lib("common_test/include/ct.hrl").

-compile([export_all, nowarn_export_all]).

-define(KINDS, [
    [],
    ["text"],
    ["c"],
    ["erlang"],
    ["erlang", "fragment"],
    ["elixir"],
    ["elixir", "fragment"],
    ["python"],
    ["sh"]
]).
-define(EXAMPLE_MS, 60000).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [
        each_block_is_of_a_known_kind,
        erlang_examples_run,
        erlang_fragments_parse,
        python_examples_run,
        elixir_examples_run,
        make_targets_exist,
        configuration_keys_exist,
        links_lead_somewhere,
        files_that_are_named_exist,
        a_failing_example_is_reported_with_file_and_line
    ].

init_per_suite(Config) ->
    Modules = filename:join(?config(priv_dir, Config), "modules"),
    [
        begin
            File = filename:join(Modules, Name ++ ".py"),
            ok = filelib:ensure_dir(File),
            ok = file:write_file(File, unicode:characters_to_binary(Text))
        end
     || #{info := ["python", "module", Name], text := Text} <- blocks()
    ],
    Before = os:getenv("PYTHONPATH"),
    true = os:putenv("PYTHONPATH", Modules),
    %% As a reader starts it, whatever other suites have left.
    _ = application:stop(erlang_python),
    _ = application:load(erlang_python),
    [application:unset_env(erlang_python, Key) || {Key, _} <- application:get_all_env(erlang_python)],
    {ok, _} = application:ensure_all_started(erlang_python),
    [{pythonpath, Before} | Config].

end_per_suite(Config) ->
    ok = application:stop(erlang_python),
    case ?config(pythonpath, Config) of
        false -> os:unsetenv("PYTHONPATH");
        Before -> os:putenv("PYTHONPATH", Before)
    end.

%% Cases

each_block_is_of_a_known_kind(_Config) ->
    none([
        at(B, ["is marked '", string:join(Info, " "), "', which is no kind of block"])
     || B = #{info := Info} <- blocks(),
        not is_kind(Info)
    ]).

is_kind(["python", "module", _]) -> true;
is_kind(Info) -> lists:member(Info, ?KINDS).

erlang_examples_run(_Config) ->
    none_of_some([run_erlang(B) || B <- blocks(["erlang"])]).

erlang_fragments_parse(_Config) ->
    none([parse_terms(B) || B <- blocks(["erlang", "fragment"])]).

python_examples_run(_Config) ->
    none([run_python(B) || B <- blocks(["python"])]).

elixir_examples_run(Config) ->
    case os:find_executable("elixir") of
        false ->
            {skip, "elixir is not installed, so the Elixir examples were not run"};
        Elixir ->
            none([parse_elixir(Elixir, B, Config) || B <- blocks(["elixir", "fragment"])]),
            none_of_some([run_elixir(Elixir, B, Config) || B <- blocks(["elixir"])])
    end.

make_targets_exist(_Config) ->
    Makefile = [
        element(2, {ok, _} = file:read_file(path(File)))
     || File <- ["Makefile", "tests/chaos/chaos.mk"]
    ],
    Named = [
        {B, Target}
     || B = #{text := Text} <- blocks(["sh"]) ++ inline_code(),
        Target <- matches(Text, "(?<![\\w.-])make +(?:[A-Z]+=\\S+ +)*([a-z][a-z-]*)")
    ],
    none_of_some([
        case re:run(Makefile, ["^", Target, ":"], [multiline]) of
            {match, _} -> ok;
            nomatch -> at(B, ["there is no target '", Target, "' in the Makefile"])
        end
     || {B, Target} <- Named
    ]).

configuration_keys_exist(_Config) ->
    %% A value that no key takes: a key that exists refuses it.
    Rows = [
        {File, Line, list_to_atom(Key)}
     || {File = "README.md", Line, Text} <- lines(), [Key] <- [row_key(Text)]
    ],
    none_of_some([
        case refused(Key) of
            true -> ok;
            false -> at(File, Line, ["there is no configuration key ", atom_to_list(Key)])
        end
     || {File, Line, Key} <- Rows
    ]).

links_lead_somewhere(_Config) ->
    none([
        at(File, Line, ["the link leads nowhere: ", Link])
     || {File, Line, Text} <- lines(),
        Link <- matches(Text, "\\]\\(([^)#:]+)(?:#[^)]*)?\\)"),
        not filelib:is_file(filename:join(filename:dirname(path(File)), Link))
    ]).

files_that_are_named_exist(_Config) ->
    Folders = "(?:transport|service|nif|erl|tests|perf|examples|scripts|docs)/",
    none_of_some([
        case filelib:wildcard(path(Name)) of
            [] -> at(B, ["there is no file ", Name]);
            _ -> ok
        end
     || B = #{text := Text} <- inline_code(), Name <- matches(Text, ["^(", Folders, "\\S*)$"])
    ]).

a_failing_example_is_reported_with_file_and_line(_Config) ->
    Text = "a\n```erlang\nX = 1,\n{ok, X} =\n    py:eval(\"2\").\n```\n```python\n\nno_such_name\n```\n",
    [Erlang, Python] = extract("bad.md", Text),
    "bad.md:4: " ++ _ = run_erlang(Erlang),
    "bad.md:9: " ++ _ = run_python(Python),
    Unmatched = hd(extract("bad.md", "```erlang\npy:eval(\"1 / 0\").\n```\n")),
    "bad.md:2: " ++ _ = run_erlang(Unmatched),
    Broken = hd(extract("bad.md", "```erlang\nok.\nX = = 1.\n```\n")),
    "bad.md:3: " ++ _ = run_erlang(Broken),
    Term = hd(extract("bad.md", "```erlang fragment\n{a, [}.\n```\n")),
    "bad.md:2: " ++ _ = parse_terms(Term).

%% Erlang

run_erlang(Block = #{text := Text, line := Line}) ->
    case parse(Text, Line, fun erl_parse:parse_exprs/1) of
        {ok, Forms} -> in_a_process(Block, fun() -> evaluate(lists:append(Forms)) end);
        {error, ErrorLine, Why} -> at(Block, ErrorLine, Why)
    end.

%% One expression after the other, so that the line of the one that fails is known.
evaluate(Exprs) ->
    lists:foldl(
        fun(Expr, Bindings) ->
            put(line, erl_anno:line(element(2, Expr))),
            {value, Value, New} = erl_eval:expr(Expr, Bindings),
            is_failure(Expr, Value) andalso error({not_matched, Value}),
            New
        end,
        erl_eval:new_bindings(),
        Exprs
    ).

is_failure({match, _, _, _}, _Value) -> false;
is_failure(_Expr, Value) -> is_tuple(Value) andalso element(1, Value) =:= error.

parse_terms(Block = #{text := Text, line := Line}) ->
    case parse(Text, Line, fun erl_parse:parse_term/1) of
        {ok, _} -> ok;
        {error, ErrorLine, Why} -> at(Block, ErrorLine, Why)
    end.

%% Splits at the dots, as the shell does, and parses each piece.
parse(Text, Line, Parse) ->
    case erl_scan:string(Text, Line) of
        {ok, Tokens, _} -> parse_pieces(pieces(Tokens, [], []), Parse, []);
        {error, {ErrorLine, Module, Why}, _} -> {error, ErrorLine, Module:format_error(Why)}
    end.

pieces([], [], Pieces) -> lists:reverse(Pieces);
pieces([], Rest, Pieces) -> lists:reverse([lists:reverse(Rest) | Pieces]);
pieces([Dot = {dot, _} | Rest], Piece, Pieces) -> pieces(Rest, [], [lists:reverse([Dot | Piece]) | Pieces]);
pieces([Token | Rest], Piece, Pieces) -> pieces(Rest, [Token | Piece], Pieces).

parse_pieces([], _Parse, Forms) ->
    {ok, lists:reverse(Forms)};
parse_pieces([Piece | Rest], Parse, Forms) ->
    case Parse(Piece) of
        {ok, Form} ->
            parse_pieces(Rest, Parse, [Form | Forms]);
        {error, {999999, _, _}} ->
            {error, erl_scan:line(lists:last(Piece)), "the final dot is missing"};
        {error, {ErrorLine, Module, Why}} ->
            {error, erl_anno:line(ErrorLine), Module:format_error(Why)}
    end.

%% Python

run_python(Block = #{text := Text, line := Line}) ->
    %% Empty lines before it make Python's line numbers those of the file.
    Code = unicode:characters_to_binary([lists:duplicate(Line - 1, $\n), Text]),
    in_a_process(Block, fun() ->
        case py:exec(Code, #{traceback => true, timeout => ?EXAMPLE_MS}) of
            ok ->
                ok;
            {error, {Type, Message, Traceback}} ->
                Lines = matches(Traceback, "File \"<exec>\", line ([0-9]+)"),
                put(line, list_to_integer(lists:last([integer_to_list(Line) | Lines]))),
                error({Type, Message});
            {error, Reason} ->
                error(Reason)
        end
    end).

%% Elixir

run_elixir(Elixir, Block = #{text := Text, line := Line}, Config) ->
    File = filename:join(?config(priv_dir, Config), "example.exs"),
    ok = file:write_file(File, unicode:characters_to_binary([lists:duplicate(Line - 1, $\n), Text])),
    elixir(Elixir, ["-pa", filename:dirname(code:which(py)), File], Block).

parse_elixir(Elixir, Block = #{text := Text}, Config) ->
    File = filename:join(?config(priv_dir, Config), "fragment.exs"),
    ok = file:write_file(File, unicode:characters_to_binary(Text)),
    Check = "[file] = System.argv(); Code.string_to_quoted!(File.read!(file))",
    elixir(Elixir, ["-e", Check, File], Block).

elixir(Elixir, Args, Block) ->
    Port = open_port({spawn_executable, Elixir}, [
        {args, Args}, exit_status, stderr_to_stdout, binary, hide
    ]),
    case output(Port, []) of
        {0, _} -> ok;
        {Status, Output} -> at(Block, ["elixir ended with ", status(Status), ":\n", Output])
    end.

output(Port, Output) ->
    receive
        {Port, {data, Data}} -> output(Port, [Output, Data]);
        {Port, {exit_status, Status}} -> {Status, Output}
    after ?EXAMPLE_MS ->
        true = port_close(Port),
        {timeout, Output}
    end.

status(timeout) -> "no answer";
status(Status) -> ["exit status ", integer_to_list(Status)].

%% Running

%% ok, or a sentence with file and line. The fun notes the line it is at as `line'
%% in the process dictionary.
in_a_process(Block = #{line := Line}, Fun) ->
    {Pid, Ref} = spawn_monitor(fun() ->
        put(line, Line),
        try Fun() of
            _ -> exit(good)
        catch
            Class:Reason -> exit({bad, get(line), {Class, Reason}})
        end
    end),
    receive
        {'DOWN', Ref, process, Pid, good} -> ok;
        {'DOWN', Ref, process, Pid, {bad, At, Why}} -> at(Block, At, io_lib:format("~tp", [Why]));
        {'DOWN', Ref, process, Pid, Why} -> at(Block, io_lib:format("~tp", [Why]))
    after ?EXAMPLE_MS + 5000 ->
        exit(Pid, kill),
        at(Block, "the example does not end")
    end.

refused(Key) ->
    Before = application:get_env(erlang_python, Key),
    ok = application:set_env(erlang_python, Key, {no_such_value}),
    Answer = py_config:check(),
    case Before of
        {ok, Value} -> application:set_env(erlang_python, Key, Value);
        undefined -> application:unset_env(erlang_python, Key)
    end,
    case Answer of
        {error, {bad_config, Key, {no_such_value}, _Why}} -> true;
        _ -> false
    end.

%% Reading

%% The repository is where this file is compiled from.
root() ->
    Source = proplists:get_value(source, ?MODULE:module_info(compile)),
    filename:dirname(filename:dirname(filename:dirname(filename:absname(Source)))).

path(Name) ->
    filename:join(root(), Name).

documents() ->
    ["README.md" | [filename:join("docs", F) || F <- filelib:wildcard("**/*.md", path("docs"))]].

blocks() ->
    [B || File <- documents(), B <- extract(File, read(File))].

blocks(Info) ->
    [B || B = #{info := I} <- blocks(), I =:= Info].

read(File) ->
    {ok, Text} = file:read_file(path(File)),
    unicode:characters_to_list(Text).

%% Every line outside of blocks.
lines() ->
    [
        {File, Line, Text}
     || File <- documents(),
        {outside, Line, Text} <- number(read(File))
    ].

%% What stands between single backquotes, as blocks.
inline_code() ->
    [
        #{file => File, line => Line, info => [], text => Code}
     || {File, Line, Text} <- lines(), Code <- matches(Text, "`([^`]+)`")
    ].

row_key(Text) ->
    matches(Text, "^\\| `([a-z_]+)` \\|").

extract(File, Text) ->
    collect(File, number(Text), []).

collect(_File, [], Blocks) ->
    lists:reverse(Blocks);
collect(File, [{open, Line, Info} | Rest], Blocks) ->
    {Inside, After} = lists:splitwith(fun({Kind, _, _}) -> Kind =:= inside end, Rest),
    Text = lists:append([Content ++ "\n" || {inside, _, Content} <- Inside]),
    Block = #{file => File, line => Line + 1, info => string:lexemes(Info, " "), text => Text},
    collect(File, After, [Block | Blocks]);
collect(File, [_ | Rest], Blocks) ->
    collect(File, Rest, Blocks).

%% Says of each line whether it lies outside of blocks, inside, or opens or closes one.
number(Text) ->
    Lines = string:split(Text, "\n", all),
    {Kinds, _} = lists:mapfoldl(fun kind/2, outside, lists:zip(lists:seq(1, length(Lines)), Lines)),
    Kinds.

kind({Line, "```" ++ Info}, outside) -> {{open, Line, Info}, inside};
kind({Line, "```" ++ _}, inside) -> {{close, Line, ""}, outside};
kind({Line, Text}, State) -> {{State, Line, Text}, State}.

matches(Text, Pattern) ->
    case re:run(Text, Pattern, [global, unicode, {capture, all_but_first, list}]) of
        {match, Found} -> lists:append(Found);
        nomatch -> []
    end.

%% Reporting

at(Block = #{line := Line}, Why) ->
    at(Block, Line, Why).

at(#{file := File}, Line, Why) ->
    at(File, Line, Why);
at(File, Line, Why) ->
    lists:flatten(io_lib:format("~ts:~b: ~ts", [File, Line, Why])).

none(Results) ->
    case [Bad || Bad <- Results, Bad =/= ok] of
        [] -> ok;
        Bad -> ct:fail("~ts", [lists:join("\n", Bad)])
    end.

%% The same; nothing to check at all means that the extraction is broken.
none_of_some(Results) ->
    Results =/= [] orelse ct:fail("nothing was found to check"),
    none(Results).
