/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_INTERP_H
#define EP_PY_INTERP_H

/*
 * ep_py_interp - a thread's place in an interpreter: the main one, or one of its own.
 *
 * Threads  the one that the place is for.
 */

#include "ep_python.h"

#include <stdbool.h>

struct ep_py_context;

/* Where the package erlang lies. Before the first of the following. */
void ep_py_interp_set_modules(const char *module_path);

/* Makes import erlang work in the current interpreter. */
int ep_py_interp_prepare(void);

/* The main thread leaves the main interpreter, for the first time. */
void ep_py_interp_leave_first(void);

/* The main interpreter. NULL: no memory, and no exception. */
PyThreadState *ep_py_interp_enter_main(bool is_main_thread);
void ep_py_interp_leave_main(PyThreadState *tstate);

/* An interpreter of its own, with its own GIL, for the context. NULL: *ret_why says why. */
PyThreadState *ep_py_interp_enter_sub(struct ep_py_context *context, const char **ret_why);

/* The context leaves its interpreter; its own one ends. */
void ep_py_interp_leave(struct ep_py_context *context);

#endif
