%% SPDX-License-Identifier: Apache-2.0

%% @private Why no worker process can be started, as a sentence that names the cause and what to
%% do about it. It is the reason in `{worker_unavailable, Reason}', and what the log says.
-module(py_start_failure).

-export([sentence/2]).

-export_type([cause/0]).

-type cause() ::
    %% the VM could not make the shared memory and the descriptors
    {prepare, Posix :: atom()}
    %% the process ended before it was up, or could not be made at all
    | {exited, Reason :: non_neg_integer() | atom()}
    %% with that much private memory
    | {exited, Reason :: non_neg_integer() | atom(), Bytes :: pos_integer() | infinity}
    | {too_slow, Seconds :: pos_integer()}
    %% it ends soon after each start
    | {dies_young, Reason :: non_neg_integer() | atom()}
    %% see py_interpreter:look/2
    | {python, Why :: iodata()}
    | {launcher, Reason :: term()}.

-define(LINES, 4).
-define(CHARS, 400).

%% @doc With what the process wrote to its standard error, as {@link py_stderr:text/1} has it.
-spec sentence(cause(), binary()) -> binary().
sentence({exited, Reason, infinity}, Wrote) ->
    sentence({exited, Reason}, Wrote);
sentence({exited, Reason, _Bytes} = Cause, Wrote) ->
    case own_line({exited, Reason}, Wrote) =:= none andalso is_crash(Reason) of
        true -> unicode:characters_to_binary([why(Cause, Wrote), wrote(none, Wrote)]);
        false -> sentence({exited, Reason}, Wrote)
    end;
sentence(Cause, Wrote) ->
    Said = own_line(Cause, Wrote),
    Text =
        case Said of
            none -> why(Cause, Wrote);
            <<"Python does not start", _/binary>> -> Said;
            _ -> ["the worker process does not start: ", Said]
        end,
    unicode:characters_to_binary([Text, wrote(Said, Wrote)]).

%% Python without a GIL does not say that it got no memory, but aborts or crashes.
is_crash(Reason) ->
    lists:member(Reason, ['SIGABRT', 'SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGTRAP']).

%% A process of ours says itself why it does not start.
own_line({exited, _}, Wrote) ->
    %% The dynamic linker speaks under the name of the program.
    Ours = "^ep_(?:worker|launcher): (?!error while loading)(.+)$",
    case re:run(Wrote, Ours, [multiline, global, {capture, all_but_first, binary}]) of
        {match, Lines} -> hd(lists:last(Lines));
        nomatch -> none
    end;
own_line(_Cause, _Wrote) ->
    none.

wrote(Said, Wrote) ->
    Others = [L || L <- binary:split(Wrote, <<"\n">>, [global, trim]), not is_said(L, Said)],
    case py_stderr:last_lines(iolist_to_binary(lists:join(<<"\n">>, Others)), ?LINES, ?CHARS) of
        [] -> [];
        Lines -> ["; it wrote: ", lists:join(" / ", [string:trim(L) || L <- Lines])]
    end.

is_said(_Line, none) -> false;
is_said(Line, Said) -> binary:match(Line, Said) =/= nomatch.

why({prepare, Posix}, _) when Posix =:= enomem ->
    ["there is no memory or address space for the shared memory of a worker process (enomem); raise the ",
     "limit of the address space of the VM (ulimit -v, ", limit("Max address space"), " now), or give it memory"];
why({prepare, Posix}, _) when Posix =:= emfile; Posix =:= enfile ->
    ["no file descriptor is left for a worker process (", name(Posix), "); raise the limit of open files of the VM ",
     "(RLIMIT_NOFILE, ulimit -n, ", limit("Max open files"), " now)"];
why({prepare, Posix}, _) ->
    ["the kernel refuses what the shared memory of a worker process is made of (", name(Posix), "); the ",
     "seccomp profile or security module of this container has to allow memfd_create, its seals (fcntl), ",
     "mmap of it and eventfd2"];
why({exited, 127}, Wrote) ->
    case re:run(Wrote, "error while loading shared libraries: ([^:\n]+)", [{capture, all_but_first, binary}]) of
        {match, [Library]} ->
            ["the worker program needs the library ", Library, ", which is not there or not to be reached by the ",
             "user of the VM; install it, or the Python that it belongs to, where all users may read it, or build ",
             "erlang_python again with PYTHON set to such a Python"];
        nomatch ->
            ["the worker program ", py_paths:worker(), " cannot be executed; build erlang_python again"]
    end;
why({exited, Posix}, _) when Posix =:= eperm; Posix =:= enosys; Posix =:= eacces ->
    ["the kernel refuses a descriptor for the worker process (", name(Posix), "); the seccomp profile or ",
     "security module of this container has to allow pidfd_open and pidfd_send_signal"];
why({exited, eagain}, _) ->
    ["no more processes are allowed (eagain); raise RLIMIT_NPROC (ulimit -u, ", limit("Max processes"), " now) ",
     "or the pids limit of the container"];
why({exited, Posix}, _) when Posix =:= emfile; Posix =:= enfile ->
    ["no file descriptor is left in the launcher or the VM (", name(Posix), "); raise the limit of open files ",
     "of the VM (RLIMIT_NOFILE, ulimit -n, ", limit("Max open files"), " now)"];
why({exited, enomem}, _) ->
    "there is no memory for another process (enomem); give the machine or the container more";
why({exited, 'SIGSYS'}, _) ->
    "a seccomp filter killed the worker process (SIGSYS); it has to allow what Python needs";
why({exited, 'SIGKILL'}, _) ->
    "somebody killed the worker process while it started (SIGKILL): often the kernel, for want of memory; "
    "see the kernel's log";
why({exited, Reason}, _) ->
    ["the worker process ended before Python was up (", how(Reason), "); look for what ends or crashes it in what ",
     "Python runs when it starts: sitecustomize, usercustomize, .pth files"];
why({exited, Reason, Bytes}, _) ->
    ["the worker process ended before Python was up (", how(Reason), "); see whether it starts with more than the ",
     integer_to_list(Bytes), " bytes that memory_limit allows, or look for what crashes it in what Python runs when ",
     "it starts: sitecustomize, usercustomize, .pth files"];
why({too_slow, Seconds}, _) ->
    io_lib:format("the worker process was not up after ~b s and was killed; look for what takes so long in what "
                  "Python runs when it starts: sitecustomize, usercustomize, .pth files", [Seconds]);
why({dies_young, Reason}, _) ->
    ["worker processes die as soon as they are up (", how(Reason), "), before they have been of use; ",
     "the log has an entry for each of them"];
why({python, Why}, _) ->
    Why;
why({launcher, {Posix, Path}}, _) when is_atom(Posix) ->
    ["the launcher ", Path, " cannot be executed (", name(Posix), "); build erlang_python again, and see that its ",
     "directory may hold programs"];
why({launcher, etimedout}, _) ->
    "the launcher was started and did not answer within 10 s; see whether a security module stops it";
why({launcher, Posix}, _) when Posix =:= emfile; Posix =:= enfile ->
    why({prepare, Posix}, <<>>);
why({launcher, {launcher_exited, Status}}, _) ->
    io_lib:format("the launcher of the worker processes ended as soon as it was started (~tp); what it wrote to "
                  "the standard error of the VM says why", [Status]);
why({launcher, Reason}, _) ->
    io_lib:format("the launcher of the worker processes is not there (~tp) and is being started again", [Reason]).

how(Status) when is_integer(Status) -> io_lib:format("exit status ~b", [Status]);
how(Reason) -> name(Reason).

name(Atom) ->
    atom_to_list(Atom).

%% The soft limit of this process.
limit(Name) ->
    maybe_limit(file:read_file("/proc/self/limits"), Name).

maybe_limit({ok, Text}, Name) ->
    case re:run(Text, ["^", Name, "\\s+(\\S+)"], [multiline, {capture, all_but_first, list}]) of
        {match, [Value]} -> Value;
        nomatch -> "unknown"
    end;
maybe_limit({error, _}, _Name) ->
    "unknown".
