/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_ZYGOTE_H
#define EP_LAUNCHER_ZYGOTE_H

/*
 * ep_launcher_zygote - workers that a zygote forks.
 *
 *   launcher            zygote              parent in between     worker
 *     FORK, fds ------->  fork -------------> fork ---------------> waits
 *     knows it  <---------------------------- FORKED, pid, fd
 *     closes the fd ------------------------> ends
 *     is its parent                                                 goes on
 *
 * The launcher is a subreaper, so the worker is its child when the parent in between has ended.
 *
 * Errors   0 or a negative errno.
 * Threads  one.
 * Trust    a zygote has imported modules of the user. What it says is believed of a process that
 *          is its grandchild, and of a worker that was asked of it.
 */

#include "ep_control.h"
#include "ep_launcher_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Asks the zygote for a worker with these fds, and adds it without a pid.
 * -ESRCH: there is no such zygote.  -EAGAIN: it has so much to do. */
int ep_launcher_zygote_fork(struct ep_launcher_table *table,
                            const struct ep_control_request *request, const int fds[EP_WORKER_FDS]);

/* Reads what zygotes say. Returns whether there is an event for the VM, SPAWNED with its pidfd
 * or FAILED; *ret_pidfd is the caller's, -1: none. *ret_known, if not -1, is to be closed when
 * the event has been sent: the worker goes on then. */
bool ep_launcher_zygote_read(struct ep_launcher_table *table, struct ep_control_event *ret_event,
                             int *ret_pidfd, int *ret_known);

/* Kills the zygotes that have been stopped: starts would wait for them, and another one is soon
 * there. */
void ep_launcher_zygote_end_stopped(const struct ep_launcher_table *table);

#ifdef __cplusplus
}
#endif

#endif
