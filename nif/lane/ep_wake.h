/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WAKE_H
#define EP_WAKE_H

/*
 * ep_wake - what the reaper is woken for: a flag that it looks at, then its eventfd.
 *
 * This is how a lane tells the room above what there is to do.
 *
 * Threads  any, whatever they have locked.
 */

#include "ep_vm.h"

/* Makes the reaper look at all flags, and at new hosts and launchers. */
void ep_wake_reaper(struct ep_vm *vm);

/* Has the reaper look at the lanes and notes of the process soon. */
void ep_wake_for_round(struct ep_host *host);

/* After a block was taken: lets the reaper know of a slab that has to shrink. With the lock
 * of the slab. */
void ep_wake_for_spike(struct ep_vm *vm, const struct ep_slab *slab);

#endif
