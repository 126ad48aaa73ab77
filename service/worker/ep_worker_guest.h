/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_GUEST_H
#define EP_WORKER_GUEST_H

/*
 * ep_worker_guest - requests of a context that another thread than its own runs, because the
 * callback of that thread has made them.
 *
 * Threads  the one that runs them, attached.
 */

#include "ep_py_interrupt.h"
#include "ep_worker.h"
#include "ep_worker_lane.h"
#include "ep_worker_message.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The context that the calling thread counts for: that of its interpreter; of several, one that
 * runs a request, *ret_running. NULL: there is none. */
struct ep_worker_lane *ep_worker_guest_choose_lane(struct ep_worker *worker, uint64_t *ret_running);

bool ep_worker_guest_is_request(uint8_t kind);

/* Says that a request has not run, for its thread has its outcome already. Any thread; may wait. */
void ep_worker_guest_drop(struct ep_worker *worker, const struct ep_cell *cell);

/* Runs a request and sends its reply. */
void ep_worker_guest_run(struct ep_worker *worker, struct ep_py_interrupt *interrupt,
                         struct ep_py_context *guest, const struct ep_worker_message *message);

#ifdef __cplusplus
}
#endif

#endif
