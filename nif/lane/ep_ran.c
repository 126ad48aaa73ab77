/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_ran.h"

#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_etf.h"
#include "ep_lanes.h"

#include <string.h>

/* The cell of the request on top, or NULL. Under the producer lock, attached. */
static const struct ep_cell *find(struct ep_lane *lane)
{
    uint64_t running = atomic_load_explicit(lane->shm.running, memory_order_acquire);
    struct ep_call *call = ep_call_find(lane, running & ~EP_RUNNING_FLAGS);

    if (running == 0 || call == NULL)
        return NULL;
    enum ep_place place = ep_call_place(call);
    if (place != EP_PLACE_CALL && place != EP_PLACE_URGENT)
        return NULL;
    const struct ep_ring_tx *ring = place == EP_PLACE_CALL ? &lane->shm.call : &lane->shm.urgent;
    const struct ep_cell *cell = &ring->cells[ep_call_position(call) & ring->mask];
    return cell->call_id == ep_call_id(call) ? cell : NULL;
}

static ERL_NIF_TERM next_name(ErlNifEnv *env, struct ep_etf_cursor *cursor)
{
    struct ep_etf_token token;
    ERL_NIF_TERM name;

    if (ep_etf_next(cursor, &token) < 0 || token.type != EP_ETF_BINARY)
        return am_undefined;
    memcpy(enif_make_new_binary(env, token.count, &name), token.data, token.count);
    return name;
}

static ERL_NIF_TERM make(ErlNifEnv *env, uint32_t index, const struct ep_cell *cell)
{
    bool in_block = (cell->flags & EP_FLAG_BLOCK) != 0;
    ERL_NIF_TERM number = enif_make_uint(env, index);
    struct ep_etf_cursor cursor;

    if (cell->kind != EP_KIND_CALL)
        return enif_make_tuple4(env, number, cell->kind == EP_KIND_EVAL ? am_eval : am_exec,
                                am_undefined, am_undefined);
    ep_etf_cursor_init(&cursor, cell->data, in_block ? EP_RAN_SIZE : cell->length);
    ERL_NIF_TERM module = next_name(env, &cursor);
    ERL_NIF_TERM function = module == am_undefined ? am_undefined : next_name(env, &cursor);
    return enif_make_tuple4(env, number, am_call, module, function);
}

bool ep_ran_make(ErlNifEnv *env, struct ep_lane *lane, const struct ep_host *host,
                 ERL_NIF_TERM *ret_term)
{
    const struct ep_cell *cell = NULL;

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->host == host && (cell = find(lane)) != NULL)
        *ret_term = make(env, lane->index, cell);
    pthread_mutex_unlock(&lane->outbox.lock);
    return cell != NULL;
}
