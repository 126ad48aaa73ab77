/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_SPAWN_H
#define EP_LAUNCHER_SPAWN_H

/*
 * ep_launcher_spawn - the start of a worker: a process group of its own, its fds, its mark.
 *
 * Errors   0 or a negative errno.
 * Threads  one.
 */

#include "ep_control.h"
#include "ep_launcher_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Notes which signals are blocked and which are ignored now: workers start so. */
void ep_launcher_spawn_note_signals(void);

/* Starts a worker, or a zygote, with the fds of enum ep_worker_fd and adds it. */
int ep_launcher_spawn(struct ep_launcher_table *table, const struct ep_control_request *request,
                      const int fds[EP_WORKER_FDS], pid_t *ret_pid, int *ret_pidfd);

#ifdef __cplusplus
}
#endif

#endif
