%% SPDX-License-Identifier: Apache-2.0

%% Numbers that the modules here share with C. The list at the end is handed to load() in
%% nif/py_nif.c, which has the same list of the numbers in C, and refuses one that differs.

%% Flags of a request.
%% With the traceback of an exception.
-define(FLAG_TRACEBACK, 4).
%% Every numpy array in the result becomes a py_array.
-define(FLAG_SHARED, 16#400).
%% Made in a callback, so it needs no slot and goes first.
-define(FLAG_NESTED, 16#100).
%% The caller holds a slot for it.
-define(FLAG_HAS_SLOT, 16#200).
%% The event loop of the context runs it, beside the requests: no slot, no place in the line.
-define(FLAG_TASK, 16#1000).
%% The caller wants the items of the result, one after the other: stream_next/2.
-define(FLAG_STREAM, 16#2000).

%% How the answer looks, if not as the lane: each bit counts if the bit 16 higher is set.
%% None becomes nil, undefined; the message of an exception is a binary.
-define(FLAG_NONE_NIL, 16#20).
-define(FLAG_NONE_UNDEFINED, 16#40).
-define(FLAG_NONE_SAID, 16#600000).
-define(FLAG_TEXT_BINARY, 16#800).
-define(FLAG_TEXT_SAID, 16#8000000).

%% Contexts that one worker process can hold.
-define(CONTEXTS_MAX, 64).
%% Requests that may run at the same time, at most.
-define(MAX_SLOTS, 16#FFFFFFFF).
-define(MAX_SLOTS_TEXT, "4294967295").
%% How many atoms Python makes by default.
-define(MAX_ATOMS, 10000).
%% The exit status of a worker whose descriptors Python code has closed.
-define(EXIT_FDS_LOST, 70).

%% What Python asks in a callback.
-define(QUESTION_CALL, 0).
-define(QUESTION_IS_REGISTERED, 1).
-define(QUESTION_STATE_GET, 2).
-define(QUESTION_STATE_SET, 3).
-define(QUESTION_STATE_INCR, 4).
-define(QUESTION_STATE_DECR, 5).
-define(QUESTION_STATE_DELETE, 6).
-define(QUESTION_STATE_KEYS, 7).
-define(QUESTION_STATE_CLEAR, 8).
-define(QUESTION_WHEREIS, 9).
-define(QUESTION_ATOM, 10).
-define(QUESTION_RECEIVER, 11).
-define(QUESTION_DELIVER, 12).
-define(QUESTION_BLOCKED, 13).
-define(QUESTION_GO_ON, 14).
-define(QUESTION_TASK, 15).
%% From here on about objects: what the NIF answers by itself.
-define(QUESTION_OBJECT, 16).

-define(SHARED_NUMBERS, [
    {flag_traceback, ?FLAG_TRACEBACK},
    {flag_shared, ?FLAG_SHARED},
    {flag_nested, ?FLAG_NESTED},
    {flag_has_slot, ?FLAG_HAS_SLOT},
    {flag_none_nil, ?FLAG_NONE_NIL},
    {flag_none_undefined, ?FLAG_NONE_UNDEFINED},
    {flag_none_said, ?FLAG_NONE_SAID},
    {flag_text_binary, ?FLAG_TEXT_BINARY},
    {flag_text_said, ?FLAG_TEXT_SAID},
    {flag_task, ?FLAG_TASK},
    {flag_stream, ?FLAG_STREAM},
    {contexts_max, ?CONTEXTS_MAX},
    {max_slots, ?MAX_SLOTS},
    {max_atoms, ?MAX_ATOMS},
    {exit_fds_lost, ?EXIT_FDS_LOST},
    {question_call, ?QUESTION_CALL},
    {question_is_registered, ?QUESTION_IS_REGISTERED},
    {question_state_get, ?QUESTION_STATE_GET},
    {question_state_set, ?QUESTION_STATE_SET},
    {question_state_incr, ?QUESTION_STATE_INCR},
    {question_state_decr, ?QUESTION_STATE_DECR},
    {question_state_delete, ?QUESTION_STATE_DELETE},
    {question_state_keys, ?QUESTION_STATE_KEYS},
    {question_state_clear, ?QUESTION_STATE_CLEAR},
    {question_whereis, ?QUESTION_WHEREIS},
    {question_atom, ?QUESTION_ATOM},
    {question_receiver, ?QUESTION_RECEIVER},
    {question_deliver, ?QUESTION_DELIVER},
    {question_blocked, ?QUESTION_BLOCKED},
    {question_go_on, ?QUESTION_GO_ON},
    {question_task, ?QUESTION_TASK},
    {question_object, ?QUESTION_OBJECT}
]).
