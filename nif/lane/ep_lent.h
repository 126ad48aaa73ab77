/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LENT_H
#define EP_LENT_H

/*
 * ep_lent - items of a pipe that a worker process reads ahead, see ep_lease.h.
 *
 *   a reader that is alone       ep_lent_offer()   has several items at once
 *   the next look at the pipe    ep_lent_end()     those that were read are gone, the others are
 *                                                  the first again: whoever looks finds them
 *
 * So a pipe has lent items or a waiter, and never both; and nothing is to be done when a process
 * ends but to note how far it came.
 *
 * Threads  under the object's lock, unless a function says otherwise.
 */

#include "ep_object.h"

/* Lends items, of which none is longer than what one answer may have, and appends them to buf.
 * False: there are not enough, or others read here, too; nothing was appended. host: that asks,
 * which has not ended, under its lock. Takes the object's lock. */
bool ep_lent_offer(struct ep_object *object, enum ep_side side, struct ep_host *host,
                   uint32_t number, uint64_t position, struct ep_buf *buf);

/* Puts those that were read in front of *done, the others back. */
void ep_lent_end(struct ep_pipe *pipe, struct ep_item **done);

/* Those that were read by now; the others stay where they are. */
void ep_lent_sync(struct ep_pipe *pipe, struct ep_item **done);

/* Frees what the above have left. Without the lock. */
void ep_lent_free(struct ep_item *done);

/* The process has ended, and reads no more. Without any object's lock. */
void ep_lent_forget_host(struct ep_host *host);

#endif
