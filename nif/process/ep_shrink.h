/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SHRINK_H
#define EP_SHRINK_H

/*
 * ep_shrink - gives the memory of large requests back when they are over.
 *
 * A slab keeps EP_SLAB_KEEP bytes of what it has touched, for the next request. What a
 * spike took beyond that goes back to the system once the slab is empty. The reaper
 * looks once a second while there is such a slab, and has no timer otherwise; the
 * worker does the same for its results while it has nothing to do.
 *
 * Who takes a block notes a spike with ep_wake_for_spike().
 *
 * Threads  the reaper.
 */

#include "ep_vm.h"

#define EP_SHRINK_MS 1000

/* Shrinks what can be shrunk, if it is time. Returns after how many ms to look again;
 * negative: no need. */
int ep_shrink_run(struct ep_vm *vm);

#endif
