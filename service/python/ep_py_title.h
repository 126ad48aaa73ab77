/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_TITLE_H
#define EP_PY_TITLE_H

/*
 * ep_py_title - what ps shows of the process: what it is, the names of its contexts.
 *
 * Threads  any, but for ep_py_title_init(): before there are others.
 */

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct _object; /* PyObject */

/* When the arguments of the program have been used; again in a worker that a zygote has forked.
 * name: up to 15 bytes, borrowed for good. */
void ep_py_title_init(int argc, char **argv, const char *name);

/* The name of a lane's context; "": it has none. */
void ep_py_title_set(size_t lane, const char *name);

/* _erlang.show_context(lane, name). */
struct _object *ep_py_title_show(struct _object *module, struct _object *args);

#ifdef __cplusplus
}
#endif

#endif
