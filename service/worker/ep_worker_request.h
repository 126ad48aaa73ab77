/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_REQUEST_H
#define EP_WORKER_REQUEST_H

/*
 * ep_worker_request - requests in a lane: decode, give the slot back, run, encode, publish.
 *
 * Threads  the lane's own.
 */

#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs the request in slot, which ring has lent. False on SHUTDOWN. */
bool ep_worker_request_serve(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                             const struct ep_slot *slot);

/* Does what the urgent ring holds. False on SHUTDOWN. */
bool ep_worker_request_serve_urgent(struct ep_worker_lane *lane);

/* Gives a slot back; its payload has been read. */
void ep_worker_request_take_slot(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                                 const struct ep_slot *slot);

#ifdef __cplusplus
}
#endif

#endif
