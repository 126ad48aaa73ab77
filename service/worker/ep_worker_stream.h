/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_STREAM_H
#define EP_WORKER_STREAM_H

/*
 * ep_worker_stream - the items of a request, on the belt of its stream.
 *
 * Threads  the lane's own.
 */

#include "ep_py_request.h"
#include "ep_worker_reply.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sends the items of what the request on top has returned. The reply says which belt they were on.
 * Attached before and after. */
void ep_worker_stream_run(struct ep_worker_lane *lane, struct ep_py_request *request,
                          struct ep_worker_reply *reply);

#ifdef __cplusplus
}
#endif

#endif
