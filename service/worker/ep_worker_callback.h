/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_CALLBACK_H
#define EP_WORKER_CALLBACK_H

/*
 * ep_worker_callback - a lane that asks Erlang something: the channel of its thread.
 *
 * Threads  the lane's own.
 */

#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the lane the way to Erlang for the Python code of the calling thread. */
void ep_worker_callback_init(struct ep_worker_lane *lane);

#ifdef __cplusplus
}
#endif

#endif
