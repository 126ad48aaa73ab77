/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_TASK_H
#define EP_TASK_H

/*
 * ep_task - requests that the event loop of a lane's interpreter runs, beside the lane's own.
 *
 *   caller                        worker process
 *     TASK         ------------->  control thread, which hands it to the loop
 *     TASK_CANCEL  ------------->  the same: the creator gave the task up
 *     reply        <-------------  the loop, on the control lane
 *
 * A task is a call of the lane's table whose place is EP_PLACE_THREAD, so it ends with its
 * worker process and its context as other calls do. What is different: it holds no slot, does
 * not count as running, and nobody is killed for it.
 *
 * Errors   0 or a negative errno.
 * Threads  any; what the reaper does says so.
 */

#include "ep_outbox.h"
#include "ep_vm.h"

/* Takes a call entry and sends the task; the caller parks. -ESTALE: the context ended.
 * -EHOSTDOWN: its worker process does not start.  -EAGAIN: it has not started yet, or there is
 * no room at the moment: again later.  -EDQUOT: too many tasks are open.  -ENOBUFS, -ENOMEM. */
int ep_task_submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
                   struct ep_call **ret_call);

/* Tells the loop that nobody waits for the task any more. Under the producer lock. */
void ep_task_cancel(struct ep_lane *lane, const struct ep_call *call);

/* One of the process's tasks has ended. */
static inline void ep_task_ended(struct ep_host *host)
{
    /* Relaxed: a number, and nothing but that. */
    atomic_fetch_sub_explicit(&host->tasks, 1, memory_order_relaxed);
}

#endif
