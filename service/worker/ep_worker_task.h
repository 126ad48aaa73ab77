/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_TASK_H
#define EP_WORKER_TASK_H

/*
 * ep_worker_task - event loops, one for each interpreter that has tasks, and their threads.
 *
 *   control thread                      thread of the loop
 *     appends the message to a queue
 *     wakes the loop if it may sleep      takes all of the queue, begins the tasks
 *                                         looks again, in each round, until there is nothing
 *                                         says that it may sleep; looks once more
 *
 * Ownership  a loop lives until the process exits; its thread ends before its interpreter.
 * Threads    as each function says.
 */

#include "ep_worker.h"
#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The control thread: takes a TASK or TASK_CANCEL, which is copied. */
void ep_worker_task_deliver(struct ep_worker *worker, const struct ep_cell *cell,
                            const uint8_t *payload);

/* The lane's thread, detached: its context ends. Cancels its tasks, and ends the loop if the
 * interpreter is the context's own. Waits for that, but not for ever. */
void ep_worker_task_leave(struct ep_worker_lane *lane);

/* The main thread, detached, when no lane is left: ends the loop of the main interpreter. */
void ep_worker_task_end(struct ep_worker *worker);

#ifdef __cplusplus
}
#endif

#endif
