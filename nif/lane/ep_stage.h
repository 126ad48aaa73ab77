/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_STAGE_H
#define EP_STAGE_H

/*
 * ep_stage - the block of shared memory in which a large request is written.
 *
 * A request begins in private memory. When something large comes, its buffer moves
 * into a block of the lane's slab, so that the bytes are copied once, straight to
 * where the worker reads them, and without the producer lock. If there is no block,
 * or no worker process, the buffer stays where it is; it also leaves a block that
 * became too small. ep_outbox_submit() sends the block if the buffer still lies in it.
 *
 * Units      bytes.
 * ep_stage_move() and ep_stage_end() return whether the lane must flush, see ep_outbox.h: a
 * block has become free, and requests wait. It may be what one of them waits for that found
 * no room beside it, and perhaps no reply is on its way that would tell.
 *
 * Ownership  a stage belongs to one request. ep_stage_end() gives the block back
 *            unless it was sent; keep the memory of the buffer unused from then on.
 * Errors     none: a stage that has no block is a good one.
 * Threads    one at a time per stage; takes the producer lock of its lane.
 */

#include "ep_buf.h"
#include "ep_vm.h"

/* From here on a whole request is worth a block of its own; EP_TERM_LARGE: a binary in it. */
#define EP_STAGE_MIN (32u << 10)

/* Treat the fields as private. */
struct ep_stage {
    struct ep_lane *lane;
    struct ep_host *host; /* of the block; kept; NULL: there is none */
    uint64_t block;
    uint8_t *mem;
    bool is_warm;   /* the memory of the block has been in use before */
    bool is_sent;   /* the block is the worker's */
    size_t new_max; /* a longer request does not move to memory that has not */
};

static inline void ep_stage_init(struct ep_stage *stage, struct ep_lane *lane)
{
    stage->lane = lane;
    stage->host = NULL;
    stage->new_max = SIZE_MAX;
}

/* Moves buf into a block that has room for n more bytes, unless it lies in one. */
bool ep_stage_move(struct ep_stage *stage, struct ep_buf *buf, size_t n);

/* Whether buf lies in a block whose memory has been in use before: a new page costs several
 * times its copy. */
static inline bool ep_stage_is_warm(const struct ep_stage *stage, const struct ep_buf *buf)
{
    return stage->host != NULL && buf->data == stage->mem && stage->is_warm;
}

/* Lends the block if data lies there, to be sent: under the producer lock. False:
 * data lies elsewhere, or the worker process has changed. */
bool ep_stage_send(struct ep_stage *stage, const uint8_t *data, uint64_t *ret_block);

/* Gives up the block of a stage that has one. */
bool ep_stage_end(struct ep_stage *stage);

#endif
