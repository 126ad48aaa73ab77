%% SPDX-License-Identifier: Apache-2.0

%% Defaults and limits of what users say, where more than one module needs them, and guards for
%% them. Defaults of the configuration are in py_config, numbers shared with C in ep_nif.hrl.

%% The budget of a request that names no context.
-define(DEFAULT_MS, 30000).
%% What a timer of the VM takes.
-define(MAX_MS, 16#FFFFFFFF).
-define(MAX_MS_TEXT, "4294967295").
-define(IS_TIMEOUT(T), (T =:= infinity orelse (is_integer(T) andalso T >= 0 andalso T =< ?MAX_MS))).

%% What a request without options has: py_options:options().
-define(PLAIN(Timeout), #{timeout => Timeout, kwargs => #{}, flags => 0}).

%% Text that the NIF takes as it is.
-define(IS_NAME(T), (is_atom(T) orelse is_binary(T))).

%% Contexts of one pool.
-define(MAX_POOL, 1024).
-define(MAX_POOL_TEXT, "1024").
%% Frames that tracemalloc keeps.
-define(MAX_FRAMES, 65535).
-define(MAX_FRAMES_TEXT, "65535").

%% A pool's name and code: what comes second cannot be locals or options.
-define(IS_POOL(Pool, Code), is_atom(Pool), (is_atom(Code) orelse is_binary(Code) orelse is_list(Code))).
