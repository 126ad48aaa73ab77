/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_stage.h"

#include "ep_lanes.h"
#include "ep_wake.h"

#include <string.h>

/* What else a request with a large binary may hold before it has to move again. */
#define SLACK 1024u

/* Gives the block back, which was filled or not. Returns whether requests wait, perhaps for it. */
static bool give_back(struct ep_stage *stage, bool is_filled)
{
    struct ep_lane *lane = stage->lane;

    pthread_mutex_lock(&lane->outbox.lock);
    /* A dead worker's slab went with it. */
    if (stage->host == lane->host && !stage->is_sent) {
        if (is_filled)
            ep_slab_wrote(&lane->shm.slab, stage->block);
        (void)ep_slab_free(&lane->shm.slab, stage->block);
    }
    bool is_waited_for = lane->outbox.calls.first != NULL || lane->outbox.urgent.first != NULL;
    pthread_mutex_unlock(&lane->outbox.lock);
    enif_release_resource(stage->host);
    stage->host = NULL;
    return is_waited_for;
}

/* Takes a block with room for size bytes. Returns how much it holds; 0: none. */
static size_t take(struct ep_stage *stage, size_t size)
{
    struct ep_lane *lane = stage->lane;
    size_t capacity = 0;

    pthread_mutex_lock(&lane->outbox.lock);
    /* Requests that wait go first; they may wait for a block. */
    if (lane->state == EP_LANE_ATTACHED && lane->outbox.calls.first == NULL
        && lane->outbox.urgent.first == NULL
        && ep_reclaim_collect(&lane->shm.reclaim_rx, &lane->shm.slab) >= 0
        && ep_slab_alloc(&lane->shm.slab, size, &stage->block) == 0) {
        capacity = ep_slab_block_size(&lane->shm.slab, stage->block);
        stage->host = lane->host;
        enif_keep_resource(lane->host);
        stage->mem = lane->shm.slab_mem + stage->block;
        stage->is_warm = ep_slab_is_warm(&lane->shm.slab, stage->block);
        stage->is_sent = false;
        ep_wake_for_spike(lane->vm, &lane->shm.slab);
    }
    pthread_mutex_unlock(&lane->outbox.lock);
    return capacity;
}

bool ep_stage_move(struct ep_stage *stage, struct ep_buf *buf, size_t n)
{
    struct ep_stage old = *stage;
    bool is_staged = stage->host != NULL && buf->data == stage->mem;

    if (buf->error != 0 || n > buf->limit - buf->length
        || (is_staged && n <= buf->capacity - buf->length))
        return false;
    if (stage->host != NULL && !is_staged)
        return false; /* it has grown out of its block and goes on in private memory */
    size_t size = buf->length + n;
    size_t capacity = take(stage, size + (SLACK < buf->limit - size ? SLACK : 0));
    if (capacity == 0) {
        *stage = old;
        return false;
    }
    if (!stage->is_warm && size > stage->new_max) {
        bool is_waited_for = give_back(stage, false);
        *stage = old;
        return is_waited_for;
    }
    ep_buf_move(buf, stage->mem, capacity);
    return is_staged && give_back(&old, true);
}

bool ep_stage_send(struct ep_stage *stage, const uint8_t *data, uint64_t *ret_block)
{
    if (stage == NULL || stage->host == NULL || stage->host != stage->lane->host
        || data != stage->mem)
        return false;
    stage->is_sent = true;
    ep_slab_wrote(&stage->lane->shm.slab, stage->block);
    *ret_block = stage->block;
    return true;
}

bool ep_stage_end(struct ep_stage *stage)
{
    if (!stage->is_sent)
        return give_back(stage, false);
    enif_release_resource(stage->host);
    stage->host = NULL;
    return false;
}
