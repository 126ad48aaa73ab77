/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_REAPER_H
#define EP_REAPER_H

/*
 * ep_reaper - the one thread of the NIF: doorbells, deaths, the launcher's news.
 *
 * It sleeps in ep_wait until a worker rings, a pidfd fires or the launcher
 * speaks. It has no timer while nothing is dying and nothing has to shrink, so an idle
 * system does nothing.
 *
 * Threads  start, stop, wake and forget: any; the rest: the reaper itself.
 */

#include "ep_vm.h"

int ep_reaper_start(struct ep_vm *vm);
void ep_reaper_stop(struct ep_vm *vm);

/* Makes the reaper look at new hosts and launchers. */
void ep_reaper_wake(struct ep_vm *vm);

/* Takes back a host that could not be started. */
void ep_reaper_forget(struct ep_vm *vm, struct ep_host *host);

struct ep_host *ep_reaper_find_host(struct ep_vm *vm, uint64_t id);

/* Ends a host whose process is gone. */
void ep_reaper_bury(struct ep_vm *vm, struct ep_host *host);

#endif
