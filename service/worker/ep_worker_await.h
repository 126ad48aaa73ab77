/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_AWAIT_H
#define EP_WORKER_AWAIT_H

/*
 * ep_worker_await - questions of coroutines: the ports of event loops.
 *
 * They are those of Python threads (ep_worker_thread.h) on the wire. But nobody stands still for
 * them: the control thread puts what comes into the queue of the loop's port, and wakes the loop
 * if it may sleep.
 *
 * Threads  deliver and strike: the control thread.
 */

#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Once, before Python code runs. */
void ep_worker_await_init(struct ep_worker *worker);

/* Whether a message is for a port. */
bool ep_worker_await_is(const struct ep_cell *cell);

/* Hands it over; it is copied. */
void ep_worker_await_deliver(struct ep_worker *worker, const struct ep_cell *cell,
                             const uint8_t *payload);

/* Interrupts the call if an event loop runs it. */
void ep_worker_await_strike(uint64_t call_id, uint64_t number, bool is_forced);

#ifdef __cplusplus
}
#endif

#endif
