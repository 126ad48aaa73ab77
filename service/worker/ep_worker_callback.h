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

/* Serves what is on the urgent ring, in the midst of the request on top. 0; -EINTR: that is to be
 * interrupted; -ECANCELED: the process ends. Attached before and after. */
int ep_worker_callback_serve(struct ep_worker_lane *lane);

#ifdef __cplusplus
}
#endif

#endif
