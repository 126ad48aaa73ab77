/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_MESSAGE_H
#define EP_WORKER_MESSAGE_H

/*
 * ep_worker_message - a message of the control lane, copied for another thread.
 *
 * Ownership  free() by the thread that takes it.
 * Threads    any.
 */

#include "ep_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ep_worker_message {
    struct ep_worker_message *next; /* its owner's */
    struct ep_cell cell;
    uint8_t payload[];
};

/* New; NULL without memory. */
struct ep_worker_message *ep_worker_message_copy(const struct ep_cell *cell,
                                                 const uint8_t *payload);

#ifdef __cplusplus
}
#endif

#endif
