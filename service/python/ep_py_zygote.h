/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_ZYGOTE_H
#define EP_PY_ZYGOTE_H

/*
 * ep_py_zygote - Python in a process that imports modules once, and forks workers.
 *
 * Threads  the main thread, the only one of the process.
 */

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* After ep_py_start(): attaches the thread for the rest of the zygote's life. */
void ep_py_zygote_attach(void);

/* Has erlang._zygote do what the strings say, each with its NUL. On failure a sentence is in
 * ret_why. */
int ep_py_zygote_prepare(const char *strings, size_t size, char *ret_why, size_t why_size);

/* Around fork(). */
void ep_py_zygote_before_fork(void);
void ep_py_zygote_after_fork(void);

/* In the child that is to run Python; the thread is attached still. */
void ep_py_zygote_in_child(void);

/* In such a child: whether what was imported works there. */
bool ep_py_zygote_try(void);

/* In a child that becomes a worker: what must differ from worker to worker does. Detaches the
 * thread. */
void ep_py_zygote_become_worker(void);

#ifdef __cplusplus
}
#endif

#endif
