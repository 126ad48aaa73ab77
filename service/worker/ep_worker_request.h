/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_REQUEST_H
#define EP_WORKER_REQUEST_H

/*
 * ep_worker_request - requests in a lane: decode, give the cell back, run, encode, publish.
 *
 * Threads  the lane's own.
 */

#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs the request in cell, which ring has lent. False on SHUTDOWN. */
bool ep_worker_request_serve(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                             const struct ep_cell *cell);

/* Does what the urgent ring holds. False on SHUTDOWN. */
bool ep_worker_request_serve_urgent(struct ep_worker_lane *lane);

/* Gives a cell back; its payload has been read. */
void ep_worker_request_take_cell(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                                 const struct ep_cell *cell);

#ifdef __cplusplus
}
#endif

#endif
