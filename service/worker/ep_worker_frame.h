/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_FRAME_H
#define EP_WORKER_FRAME_H

/*
 * ep_worker_frame - the stack of a lane: one frame for each request that it has begun.
 *
 * All but the top one wait for the outcome of a callback; a request that comes meanwhile
 * on the urgent ring runs on top. Outcomes for frames further below are kept for them.
 *
 * Ownership  a frame lives on the stack of the function that runs its request.
 * Threads    the lane's own.
 */

#include "ep_py_channel.h"
#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Requests on top of each other. Python's own limit comes first, unless no Python
 * function stands between them. */
#define EP_WORKER_DEPTH_MAX 800u

struct ep_worker_frame {
    struct ep_worker_frame *below;
    uint64_t call_id;
    uint64_t number; /* of the callback that it waits for */
    bool is_waiting;
    bool is_importing; /* while it waits: a module that it imports has asked */
    bool has_outcome;  /* outcome is valid */
    bool is_cancelled;
    bool is_finishing; /* a stream: its reader wants no more */
    struct ep_py_outcome outcome;
};

/* Takes an ANSWER; returns whether its block is kept. */
bool ep_worker_frame_put_outcome(struct ep_worker_lane *lane, const struct ep_cell *cell);

/* Takes a CANCEL. */
void ep_worker_frame_cancel(struct ep_worker_lane *lane, uint64_t call_id, uint64_t number);

/* Takes a FINISH. */
void ep_worker_frame_end_stream(struct ep_worker_lane *lane, uint64_t call_id);

#ifdef __cplusplus
}
#endif

#endif
