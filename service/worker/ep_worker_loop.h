/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_LOOP_H
#define EP_WORKER_LOOP_H

/*
 * ep_worker_loop - what the thread of a lane does: starts a context, serves it, ends it.
 *
 * Threads  the lane's own.
 */

#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Serves the lane until SHUTDOWN. */
void ep_worker_loop_run(struct ep_worker_lane *lane);

#ifdef __cplusplus
}
#endif

#endif
