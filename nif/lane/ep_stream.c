/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_stream.h"

#include "ep_lanes.h"
#include "ep_peer.h"
#include "ep_term_decode.h"

#include <errno.h>
#include <string.h>

/* --- what the worker says -------------------------------------------------------------- */

/* Notes the belt of a stream. */
static int note_belt(struct ep_lane *lane, struct ep_call *call, uint64_t block)
{
    if (block % EP_PAGE != 0 || block > EP_SLAB_SIZE - EP_BELT_SIZE)
        return -EPROTO;
    struct ep_call_belt *belt = enif_alloc(sizeof(*belt));
    if (belt == NULL)
        return -ENOMEM;
    enif_keep_resource(lane->host);
    *belt = (struct ep_call_belt){
        .host = lane->host, .mem = lane->shm.peer_slab_mem + block, .block = block};
    /* Sequentially consistent: a caller that is about to park looks here after that. */
    atomic_store_explicit(&call->belt, belt, memory_order_seq_cst);
    return 0;
}

int ep_stream_notice(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                     const struct ep_msg *msg)
{
    struct ep_call_belt *belt = atomic_load_explicit(&call->belt, memory_order_relaxed);
    /* Relaxed: the worker has read the word that was changed after the count. */
    uint64_t arms = atomic_load_explicit(&lane->common.belt_arms, memory_order_relaxed);

    if (!call->is_stream || call->notices > arms - call->arms_before)
        return -EPROTO;
    call->notices++;
    int rc = belt != NULL ? (belt->block == msg->subject ? 0 : -EPROTO)
                          : note_belt(lane, call, msg->subject);
    if (rc == 0)
        ep_call_rouse(lane, caller_env, call);
    return rc;
}

void ep_stream_late(struct ep_lane *lane, const struct ep_msg *msg)
{
    struct ep_msg belt = {.flags = EP_FLAG_BLOCK, .block = msg->subject - 1};

    if ((msg->kind == EP_KIND_RESULT || msg->kind == EP_KIND_ERROR) && msg->subject != 0)
        ep_call_release_block(lane, lane->host, &belt);
}

/* --- items -------------------------------------------------------------------------------- */

static bool knows_belt(struct ep_reader *reader, const struct ep_call *call)
{
    if (reader->rx.mem == NULL) {
        const struct ep_call_belt *belt = atomic_load_explicit(&call->belt, memory_order_seq_cst);
        if (belt == NULL)
            return false;
        /* The rounds so far had no item on the belt, but count. */
        reader->rx.mem = belt->mem;
        reader->host = belt->host;
    }
    return !reader->is_broken;
}

bool ep_stream_has_items(struct ep_reader *reader, const struct ep_call *call)
{
    return knows_belt(reader, call) && ep_belt_has_items(&reader->rx);
}

/* The items in bytes of private memory, in order. */
static int decode(ErlNifEnv *env, struct ep_lane *lane, struct ep_reader *reader,
                  const struct ep_source *source, ERL_NIF_TERM *ret_items)
{
    ERL_NIF_TERM items[EP_BELT_ITEMS];
    struct ep_etf_cursor cursor;
    unsigned n = 0;
    int rc = 0;

    ep_etf_cursor_init(&cursor, source->start, source->size);
    while (rc == 0 && cursor.at != cursor.end) {
        if (reader->rx.items == EP_BELT_ITEMS)
            return -EPROTO; /* more than it may send */
        rc = ep_term_decode(lane->vm, env, &cursor, source, &items[n]);
        if (rc == 0) {
            reader->rx.items++;
            n++;
        }
    }
    *ret_items = enif_make_list_from_array(env, items, n);
    return rc < 0 ? rc : (int)n;
}

__attribute__((noinline)) int ep_stream_take(ErlNifEnv *env, struct ep_lane *lane,
                                             struct ep_reader *reader, const struct ep_call *call,
                                             ERL_NIF_TERM *ret_items)
{
    uint8_t bytes[EP_BELT_BYTES];

    *ret_items = enif_make_list(env, 0);
    if (!knows_belt(reader, call))
        return 0;
    int rc = ep_belt_take(&reader->rx, bytes);
    if (rc > 0) {
        struct ep_source source = {
            .start = bytes, .size = (size_t)rc, .max_words = lane->max_result_words};
        rc = decode(env, lane, reader, &source, ret_items);
    }
    if (rc != -EPROTO)
        return rc;
    reader->is_broken = true;
    *ret_items = enif_make_list(env, 0);
    (void)ep_peer_kill(reader->host, EP_KILL_VIOLATION);
    return 0;
}

void ep_stream_arm(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    uint64_t arms = atomic_fetch_add_explicit(&lane->common.belt_arms, 1, memory_order_relaxed) + 1;
    if (lane->state == EP_LANE_ATTACHED)
        atomic_store_explicit(lane->shm.belt_bell, arms, memory_order_seq_cst); /* I2 */
    pthread_mutex_unlock(&lane->outbox.lock);
}
