%% SPDX-License-Identifier: Apache-2.0

%% What the library keeps in the dictionaries of the processes that use it:
%%
%% | key                    | value                                | written by         | holds while                     |
%% |------------------------|--------------------------------------|--------------------|---------------------------------|
%% | `$py_frame'            | the callback that runs               | py_nesting         | it runs                         |
%% | `$py_bound'            | the way into pool `default'          | py_pool_binding,   | the pool has that context under |
%% | `{$py_bound, Pool}'    | the way into another one             | py_nesting         | that number                     |
%% | `{$py_lane, Ctx}'      | the lane of a context                | py_direct          | the context lives               |
%% | `{$py_env, Ctx}'       | the way there, with a namespace      | py_direct          | the context lives               |
%% | `{$py_caster, Ctx}'    | the helper that makes casts there    | py_async           | the context lives, and the helper |
%% | `$py_tasks'            | the helper that waits for its tasks  | py_task            | the helper lives                |
%% | `$py_below'            | `{Version, #{Module => Pool}}'       | py_pool_names      | registrations have that version |
%% | `$py_slots'            | slots that it holds                  | py_semaphore       | it gives them back              |
%%
%% Each is checked as it is read; what is kept for a context goes when the context has ended
%% and something else is kept: py_direct:keep/2.
-define(FRAME, '$py_frame').
-define(BOUND, '$py_bound').
-define(LANE(Ctx), {'$py_lane', Ctx}).
-define(ENV(Ctx), {'$py_env', Ctx}).
-define(CASTER(Ctx), {'$py_caster', Ctx}).
-define(OF_CONTEXTS, ['$py_lane', '$py_env', '$py_caster']).
-define(TASK_HELPER, '$py_tasks').
-define(BELOW, '$py_below').
-define(HELD, '$py_slots').
