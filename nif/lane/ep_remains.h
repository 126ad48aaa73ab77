/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_REMAINS_H
#define EP_REMAINS_H

/*
 * ep_remains - what an object held whose last reference is gone.
 *
 * A scheduler runs the destructor of a resource. A million items take it a tenth of a second to
 * free, so the destructor frees a few, and leaves many to the reaper, a batch at a time. One
 * reaper is slower than many schedulers: while much is left, whoever adds to an object frees more
 * than that.
 *
 * Threads  ep_remains_leave(), ep_remains_pay(): any, without a lock; the rest: the reaper, or
 *          whoever ends it.
 */

#include "ep_buffer.h"
#include "ep_dict.h"
#include "ep_item.h"

struct ep_remains {
    struct ep_remains *next;
    struct ep_item *items[2];
    struct ep_dict *dict;     /* or NULL */
    struct ep_buffer *buffer; /* or NULL */
    uint64_t cost;            /* of all that, about, in pieces */
};

/* Frees what is left, or lets the reaper do so. Takes what it is given. */
void ep_remains_leave(struct ep_vm *vm, const struct ep_remains *remains);

/* After so many bytes were added to an object. */
void ep_remains_pay(struct ep_vm *vm, uint64_t bytes);

/* Frees a batch of what was left. True: there is more. */
bool ep_remains_free_some(struct ep_vm *vm);

/* Frees all of it; what is left from now on is freed at once. The reaper has ended. */
void ep_remains_end(struct ep_vm *vm);

#endif
