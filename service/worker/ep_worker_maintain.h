/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_MAINTAIN_H
#define EP_WORKER_MAINTAIN_H

/*
 * ep_worker_maintain - what the VM asks about a context while requests run in it.
 *
 * Threads  the control thread.
 */

#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Answers MAINTAIN in a thread of its own. */
void ep_worker_maintain(struct ep_worker *worker, const struct ep_slot *slot,
                        const uint8_t *payload);

#ifdef __cplusplus
}
#endif

#endif
