/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_reply.h"

#include "ep_crashpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HINT_MIN 16384u /* smaller results are not worth encoding into a block */

enum room { ROOM_SLOT, ROOM_BLOCK };

static int try_room(struct ep_worker_lane *lane, enum room what, size_t size,
                    struct ep_cell **ret_cell, uint64_t *ret_block)
{
    if (what == ROOM_SLOT)
        return ep_ring_reserve(&lane->shm.response, ret_cell);
    int rc = ep_reclaim_collect(&lane->shm.reclaim_rx, &lane->shm.slab);
    return rc < 0 ? rc : ep_slab_alloc(&lane->shm.slab, size, ret_block);
}

/* Waits until the VM has read enough. -EMSGSIZE, -ENOMEM, or -ECANCELED on
 * SHUTDOWN. */
static int wait_for_room(struct ep_worker_lane *lane, enum room what, size_t size,
                         struct ep_cell **ret_cell, uint64_t *ret_block)
{
    int rc = try_room(lane, what, size, ret_cell, ret_block);

    while (rc == -EAGAIN) {
        if (ep_worker_is_stopping(lane->worker))
            return -ECANCELED;
        ep_worker_lane_detach(lane);
        uint32_t value = ep_futex_value(lane->shm.futex);
        ep_bell_arm(&lane->shm.space);
        rc = try_room(lane, what, size, ret_cell, ret_block);
        if (rc == -EAGAIN) {
            ep_futex_wait(lane->shm.futex, value, -1);
            rc = try_room(lane, what, size, ret_cell, ret_block);
        }
        ep_bell_disarm(&lane->shm.space);
    }
    if (rc == -EPROTO)
        ep_worker_die(EP_EXIT_PROTOCOL, "the VM took or gave back what it did not have");
    return rc;
}

bool ep_worker_reply_take_block(struct ep_worker_lane *lane, size_t size, uint64_t *ret_block)
{
    int rc = wait_for_room(lane, ROOM_BLOCK, size, NULL, ret_block);

    if (rc == -ENOMEM || rc == -EMSGSIZE)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory for the bookkeeping of shared memory");
    return rc == 0;
}

void ep_worker_reply_give_block(struct ep_worker_lane *lane, uint64_t block)
{
    if (ep_slab_free(&lane->shm.slab, block) < 0)
        abort(); /* our own bookkeeping is broken */
}

void ep_worker_reply_begin(struct ep_worker_lane *lane, struct ep_worker_reply *reply, size_t hint)
{
    reply->has_block = hint >= HINT_MIN && hint <= EP_MESSAGE_MAX
                       && try_room(lane, ROOM_BLOCK, hint, NULL, &reply->block) == 0;
    reply->has_scratch = false;
    if (reply->has_block) {
        ep_buf_init(&reply->buf, lane->shm.slab_mem + reply->block, hint, EP_MESSAGE_MAX);
    } else if (!lane->is_scratch_used) {
        lane->is_scratch_used = reply->has_scratch = true;
        ep_buf_init(&reply->buf, lane->scratch, EP_WORKER_SCRATCH_SIZE, EP_MESSAGE_MAX);
    } else {
        /* str(x) of a result called Erlang, and a request runs on top of it. */
        ep_buf_init(&reply->buf, NULL, 0, EP_MESSAGE_MAX);
    }
}

/* Moves the payload to where the VM can read it. */
static int place_payload(struct ep_worker_lane *lane, struct ep_worker_reply *reply)
{
    bool is_in_block = reply->has_block && reply->buf.data == reply->buf.lent;

    if (is_in_block && reply->buf.length > EP_INLINE_MAX)
        return 0;
    if (reply->has_block && !is_in_block) {
        /* It turned out longer than the hint said. */
        ep_worker_reply_give_block(lane, reply->block);
        reply->has_block = false;
    }
    if (reply->buf.length <= EP_INLINE_MAX)
        return 0;
    EP_CRASHPOINT("reply.before_block");
    int rc = wait_for_room(lane, ROOM_BLOCK, reply->buf.length, NULL, &reply->block);
    if (rc < 0)
        return rc;
    reply->has_block = true;
    EP_CRASHPOINT("reply.block");
    memcpy(lane->shm.slab_mem + reply->block, reply->buf.data, reply->buf.length);
    return 0;
}

static void end_buf(struct ep_worker_lane *lane, struct ep_worker_reply *reply)
{
    ep_buf_finish(&reply->buf);
    if (reply->has_scratch)
        lane->is_scratch_used = false;
}

bool ep_worker_reply_publish(struct ep_worker_lane *lane, struct ep_worker_reply *reply)
{
    struct ep_cell *cell = NULL;

    int rc = place_payload(lane, reply);
    if (rc == -ENOMEM || rc == -EMSGSIZE)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory for the bookkeeping of shared memory");
    EP_CRASHPOINT("reply.before_reserve");
    if (rc < 0 || wait_for_room(lane, ROOM_SLOT, 0, &cell, NULL) < 0) {
        end_buf(lane, reply);
        return false;
    }

    ep_cell_begin(cell, (enum ep_kind)reply->what.kind, reply->what.has_arrays ? EP_FLAG_ARRAYS : 0,
                  (uint8_t)reply->what.aux, reply->call_id, reply->subject);
    EP_CRASHPOINT("reply.half_written");
    cell->length = lane->last_bytes = (uint32_t)reply->buf.length;
    if (reply->has_stamp)
        ep_cell_set_stamp(cell, reply->stamp);
    if (reply->buf.length <= EP_INLINE_MAX) {
        ep_copy(cell->data, reply->buf.data, reply->buf.length);
        if (reply->has_block)
            ep_worker_reply_give_block(lane, reply->block);
    } else {
        ep_cell_set_block(cell, reply->block);
    }
    EP_CRASHPOINT("reply.before_commit");
    (void)ep_ring_commit(&lane->shm.response);
    EP_CRASHPOINT("reply.committed");
    end_buf(lane, reply);
    return true;
}

bool ep_worker_reply_commit(struct ep_worker_lane *lane, struct ep_worker_reply *reply)
{
    if (!ep_worker_reply_publish(lane, reply))
        return false;
    ep_worker_ring_doorbell(lane->worker, &lane->shm);
    EP_CRASHPOINT("reply.rung");
    return true;
}

bool ep_worker_reply_plain(struct ep_worker_lane *lane, uint64_t call_id, uint16_t kind)
{
    struct ep_worker_reply reply = {.call_id = call_id, .what = {.kind = kind}};

    ep_worker_reply_begin(lane, &reply, 0);
    return ep_worker_reply_commit(lane, &reply);
}
