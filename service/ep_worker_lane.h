/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_LANE_H
#define EP_WORKER_LANE_H

/*
 * ep_worker_lane - what the parts of a lane share: its loop (ep_worker_lane.c), its
 * requests, its replies and its callbacks. Nobody else includes this.
 *
 * A lane has a stack of frames, one for each request that it has begun. All but
 * the top one wait for an answer from Erlang; a request that comes meanwhile on the
 * urgent ring runs on top.
 *
 * Threads  the lane's own.
 */

#include "ep_worker.h"

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
    bool is_answered; /* answer is valid */
    bool is_cancelled;
    struct ep_py_answer answer;
};

/* A message to the VM in the making. */
struct ep_worker_reply {
    uint64_t call_id;
    uint64_t subject;
    struct ep_py_reply what;
    struct ep_buf buf;
    uint64_t block; /* of slab B, if has_block */
    bool has_block;
    bool has_scratch;
    bool has_stamp;
    uint64_t stamp; /* queue time, run time */
};

/* --- the GIL (ep_worker_lane.c) -------------------------------------------------- */

void ep_worker_lane_attach(struct ep_worker_lane *lane);
void ep_worker_lane_detach(struct ep_worker_lane *lane);

/* Waits for a message, on the urgent ring only or on both. False on SHUTDOWN. */
bool ep_worker_lane_wait(struct ep_worker_lane *lane, bool urgent_only);

/* --- requests (ep_worker_request.c) ---------------------------------------------- */

/* Runs the request in slot, which ring has lent. False on SHUTDOWN. */
bool ep_worker_serve_request(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                             const struct ep_slot *slot);

/* Does what the urgent ring holds. False on SHUTDOWN. */
bool ep_worker_serve_urgent(struct ep_worker_lane *lane);

/* Gives a slot back; its payload has been read. */
void ep_worker_take_slot(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                         const struct ep_slot *slot);

/* Only what forked us may go on; the rings are not mapped here. */
void ep_worker_exit_if_forked(void);

/* --- replies (ep_worker_reply.c) ------------------------------------------------- */

/* Prepares the buffer: a block of the slab at once for a result of hint bytes that
 * is known to be large, which spares a copy. */
void ep_worker_reply_begin(struct ep_worker_lane *lane, struct ep_worker_reply *reply, size_t hint);

/* Publishes the reply and ends its buffer. False on SHUTDOWN. */
bool ep_worker_reply_commit(struct ep_worker_lane *lane, struct ep_worker_reply *reply);

/* A reply without payload. */
bool ep_worker_reply_plain(struct ep_worker_lane *lane, uint64_t call_id, uint16_t kind);

/* --- callbacks (ep_worker_callback.c) -------------------------------------------- */

void ep_worker_callback_init(struct ep_worker_lane *lane);

/* Takes an ANSWER; returns whether its block is kept. */
bool ep_worker_callback_answered(struct ep_worker_lane *lane, const struct ep_slot *slot);

/* Takes a CANCEL. */
void ep_worker_callback_cancelled(struct ep_worker_lane *lane, uint64_t call_id, uint64_t number);

#ifdef __cplusplus
}
#endif

#endif
