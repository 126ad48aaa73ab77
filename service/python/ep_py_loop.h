/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_LOOP_H
#define EP_PY_LOOP_H

/*
 * ep_py_loop - event loops in the thread of a context, as another thread sees them.
 *
 * Threads  another one than the context's, attached.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_context;

/* Asks the event loop that runs in the thread of a context to call ep_py_strike_take for
 * the call. Returns false if there is none that would. */
bool ep_py_loop_offer(struct ep_py_context *context, uint64_t call_id);

/* Wakes the event loops that the thread of a context sleeps in. */
void ep_py_loop_wake(struct ep_py_context *context);

/* No event loop runs in the calling thread, whatever asyncio believes since it was cut. */
void ep_py_loop_tidy(void);

#ifdef __cplusplus
}
#endif

#endif
