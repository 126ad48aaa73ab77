/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_FORK_H
#define EP_PY_FORK_H

/*
 * ep_py_fork - processes that Python code forks.
 *
 * A child may go on only in what forked it; the rings are not mapped there.
 *
 * Threads  any.
 */

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Before Python starts. 0 or a negative errno. */
int ep_py_fork_watch(void);

/* Whether this process is such a child. */
bool ep_py_fork_is_child(void);

/* It is not: a zygote has forked it, to be a worker. */
void ep_py_fork_become_worker(void);

/* Ends it if it is: ep_py_end_forked(). Attached. */
void ep_py_fork_end_child(void);

#ifdef __cplusplus
}
#endif

#endif
