/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_MAINTAIN_H
#define EP_WORKER_MAINTAIN_H

/*
 * ep_worker_maintain - what the VM asks about a context while requests run in it.
 *
 * Threads  the control thread, unless said otherwise.
 */

#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Answers MAINTAIN in a thread of its own. */
void ep_worker_maintain(struct ep_worker *worker, const struct ep_cell *cell,
                        const uint8_t *payload);

/* The lane's thread, detached, when lane->firsts is not 0: waits until what was to come before
 * the next request has ended, or the process is to end. */
void ep_worker_maintain_wait(struct ep_worker_lane *lane);

#ifdef __cplusplus
}
#endif

#endif
