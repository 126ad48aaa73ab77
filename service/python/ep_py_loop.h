/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_LOOP_H
#define EP_PY_LOOP_H

/*
 * ep_py_loop - event loops in the thread of a context, as another thread sees them.
 *
 * Threads  another one than the context's, attached.
 */

#include "ep_python.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_context;

/* New: what the others take as loops. NULL with a GIL, which they use to look themselves; without
 * one, the event loops of the thread. Then this waits until all threads of the interpreter have
 * come to where they may be stopped, as one waits for a GIL. */
PyObject *ep_py_loop_look(struct ep_py_context *context);

/* Asks the event loop that runs in the thread of a context to call ep_py_strike_take for
 * the call. Returns false if there is none that would. */
bool ep_py_loop_offer(struct ep_py_context *context, PyObject *loops, uint64_t call_id);

/* Wakes the event loops that the thread of a context sleeps in. */
void ep_py_loop_wake(struct ep_py_context *context, PyObject *loops);

/* No event loop runs in the calling thread, whatever asyncio believes since it was cut. */
void ep_py_loop_tidy(void);

#ifdef __cplusplus
}
#endif

#endif
