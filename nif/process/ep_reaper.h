/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_REAPER_H
#define EP_REAPER_H

/*
 * ep_reaper - the one thread of the NIF: doorbells, deaths, the launcher's news.
 *
 * It sleeps in ep_wait until a worker rings, a pidfd fires or the launcher
 * speaks. It has no timer while nothing is dying, nothing has to shrink and nothing waits
 * for room, so an idle system does nothing.
 *
 * It goes round its hosts: whatever one of them sends, each gets a batch, and a death or a
 * doorbell of another is seen before the next batch. Only the reaper takes a host out of
 * the list, and changes the wait set.
 *
 * Threads  start, hand_over and stop: any; the rest: the reaper itself.
 */

#include "ep_vm.h"

/* Starts the thread, once. */
int ep_reaper_start(struct ep_vm *vm);

/* Replaces the thread, which runs code of another instance of the library, by one that runs
 * ours. On failure the old one goes on. */
int ep_reaper_hand_over(struct ep_vm *vm);

void ep_reaper_stop(struct ep_vm *vm);

/* Ends a host whose process is gone. */
void ep_reaper_bury(struct ep_vm *vm, struct ep_host *host);

#endif
