/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SERVICE_H
#define EP_SERVICE_H

/*
 * ep_service - starts worker processes and cleans up after them.
 *
 * One thread, no Python, no shared memory: it outlives whatever a worker does.
 * Each worker is the leader of a process group and carries its number in the
 * environment variable EP_SERVICE_MARK, which its descendants inherit. The
 * launcher is a subreaper, so a descendant whose parent has died becomes its
 * child; it is killed as soon as the worker that its mark names is dead. A
 * process without a mark, because somebody cleared its environment, is killed
 * when no worker is left, or with the launcher.
 *
 * Ownership  the table belongs to the caller.
 * Errors     0 or a negative errno.
 * Threads    one.
 */

#include "ep_control.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_SERVICE_MARK "EP_SERVICE_MARK"

struct ep_service_worker {
    uint64_t id; /* the VM's */
    pid_t pid;   /* also its process group */
};

/* Live workers. Zeroed means empty. */
struct ep_service_table {
    struct ep_service_worker *workers;
    size_t count;
    size_t capacity;
};

struct ep_service_worker *ep_service_find(const struct ep_service_table *table, pid_t pid);

/* Starts a worker with the four fds of enum ep_worker_fd and adds it. */
int ep_service_spawn(struct ep_service_table *table, const struct ep_control_request *request,
                     const int fds[EP_WORKER_FDS], pid_t *ret_pid, int *ret_pidfd);

/* Takes one dead child away, with all that is left in its process group. Returns
 * 1 if it was a worker (then *ret_event is filled), 0 if it was another child,
 * -EAGAIN if no child is dead, -ECHILD if there is none at all. */
int ep_service_reap(struct ep_service_table *table, struct ep_control_event *ret_event);

/* Kills the orphans of dead workers; with everybody set, all children. Returns whether
 * it has to be repeated soon, for a child could not be judged yet. */
bool ep_service_sweep(const struct ep_service_table *table, bool everybody);

#ifdef __cplusplus
}
#endif

#endif
