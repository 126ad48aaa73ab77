/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_REPLY_H
#define EP_WORKER_REPLY_H

/*
 * ep_worker_reply - what a lane says to the VM: results, errors, questions.
 *
 * begin lends a buffer, the caller fills it, commit publishes and ends it.
 *
 * Units      bytes.
 * Threads    the lane's own.
 */

#include "ep_py_error.h"
#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

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

/* Prepares the buffer: a block of the slab at once for a result of hint bytes that
 * is known to be large, which spares a copy. */
void ep_worker_reply_begin(struct ep_worker_lane *lane, struct ep_worker_reply *reply, size_t hint);

/* Publishes the reply and ends its buffer. False on SHUTDOWN. */
bool ep_worker_reply_commit(struct ep_worker_lane *lane, struct ep_worker_reply *reply);

/* The same without the doorbell. */
bool ep_worker_reply_publish(struct ep_worker_lane *lane, struct ep_worker_reply *reply);

/* Takes a block of slab B, waiting for it, and gives one back that no message has named. Detached
 * after a wait. False on SHUTDOWN. */
bool ep_worker_reply_take_block(struct ep_worker_lane *lane, size_t size, uint64_t *ret_block);
void ep_worker_reply_give_block(struct ep_worker_lane *lane, uint64_t block);

/* A reply without payload. */
bool ep_worker_reply_plain(struct ep_worker_lane *lane, uint64_t call_id, uint16_t kind);

#ifdef __cplusplus
}
#endif

#endif
