/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_QUEUE_H
#define EP_QUEUE_H

/*
 * ep_queue - messages that wait in private memory for room in a ring.
 *
 * Ownership  the queue owns what it holds; a message is freed with free().
 * Threads    one at a time, under the lock of the queue.
 */

#include "ep_vm.h"

/* A message with a copy of its payload. call: NULL if it is not a request. Returns NULL without
 * memory. */
struct ep_queued *ep_queue_message(struct ep_call *call, const struct ep_msg *head,
                                   const uint8_t *bytes, size_t length);

/* Puts the message last. */
void ep_queue_put(struct ep_queue *queue, struct ep_queued *queued);

#endif
