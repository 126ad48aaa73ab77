/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_calls.h"

#include <string.h>

struct ep_call *ep_call_at(struct ep_lane *lane, uint32_t i)
{
    /* Acquire: pairs with the release in add_chunk(). */
    struct ep_call *chunk =
        atomic_load_explicit(&lane->chunks[i / EP_CALL_CHUNK], memory_order_acquire);
    return chunk == NULL ? NULL : &chunk[i % EP_CALL_CHUNK];
}

static struct ep_call *add_chunk(struct ep_lane *lane)
{
    uint32_t number = lane->n_calls / EP_CALL_CHUNK;

    if (number == EP_CALL_CHUNKS)
        return NULL;
    struct ep_call *chunk = enif_alloc(EP_CALL_CHUNK * sizeof(*chunk));
    if (chunk == NULL)
        return NULL;
    memset(chunk, 0, EP_CALL_CHUNK * sizeof(*chunk));
    for (uint32_t i = 0; i < EP_CALL_CHUNK; i++) {
        chunk[i].index = lane->n_calls + i;
        chunk[i].next_free = i + 1 < EP_CALL_CHUNK ? &chunk[i + 1] : NULL;
    }
    lane->n_calls += EP_CALL_CHUNK;
    atomic_store_explicit(&lane->chunks[number], chunk, memory_order_release);
    return chunk;
}

struct ep_call *ep_call_alloc(struct ep_lane *lane)
{
    struct ep_call *call = lane->free_calls;

    if (call == NULL) /* acquire: pairs with the release in ep_call_free() */
        call = atomic_exchange_explicit(&lane->freed, NULL, memory_order_acquire);
    if (call == NULL)
        call = add_chunk(lane);
    if (call == NULL)
        return NULL;

    lane->free_calls = call->next_free;
    /* Relaxed: nobody can find the entry before its id is published. */
    atomic_store_explicit(&call->state, EP_CALL_SPINNING, memory_order_relaxed);
    return call;
}

void ep_call_free(struct ep_lane *lane, struct ep_call *call)
{
    uint32_t generation = atomic_load_explicit(&call->generation, memory_order_relaxed);

    /* Relaxed: only the owner writes both, and a reader that comes too late finds
     * one of them changed. */
    atomic_store_explicit(&call->state, EP_CALL_FREE, memory_order_relaxed);
    atomic_store_explicit(&call->generation, generation + 1, memory_order_relaxed);

    /* A stack that is only ever emptied as a whole, so there is no ABA. */
    call->next_free = atomic_load_explicit(&lane->freed, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&lane->freed, &call->next_free, call,
                                                  memory_order_release, memory_order_relaxed)) {
    }
}

uint64_t ep_call_id(const struct ep_call *call)
{
    uint32_t generation = atomic_load_explicit(&call->generation, memory_order_relaxed);

    /* + 1: 0 is the id of messages that belong to no call. */
    return (uint64_t)generation << 32 | (call->index + 1);
}

struct ep_call *ep_call_find(struct ep_lane *lane, uint64_t id)
{
    uint32_t index = (uint32_t)id - 1;

    if ((uint32_t)id == 0 || index >= EP_CALL_CHUNK * EP_CALL_CHUNKS)
        return NULL;
    struct ep_call *call = ep_call_at(lane, index);
    if (call == NULL
        || atomic_load_explicit(&call->generation, memory_order_acquire) != (uint32_t)(id >> 32)
        || atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_FREE)
        return NULL;
    return call;
}

bool ep_call_move(struct ep_call *call, enum ep_call_state from, enum ep_call_state to)
{
    uint32_t expected = from;

    /* Orders what the mover wrote to the entry before what the next owner reads. */
    return atomic_compare_exchange_strong_explicit(&call->state, &expected, to,
                                                   memory_order_acq_rel, memory_order_acquire);
}

void ep_call_release_block(struct ep_lane *lane, struct ep_host *host, const struct ep_msg *msg)
{
    if ((msg->flags & EP_FLAG_BLOCK) == 0)
        return;
    pthread_mutex_lock(&lane->reclaim);
    /* A dead worker's slab went with it. */
    if (lane->host == host) {
        ep_reclaim_push(&lane->shm.reclaim_tx, msg->block);
        /* A handle of its own on that bell: shm.space is the consumer's. */
        if (ep_bell_must_ring(&lane->block_bell))
            ep_futex_wake(lane->shm.futex);
    }
    pthread_mutex_unlock(&lane->reclaim);
}

void ep_reply_take(struct ep_lane *lane, const struct ep_msg *msg, struct ep_reply *ret_reply)
{
    bool is_failure = msg->kind >= EP_FAILED_DIED;
    bool in_block = !is_failure && (msg->flags & EP_FLAG_BLOCK) != 0;

    if (&ret_reply->msg != msg)
        memcpy(&ret_reply->msg, msg,
               offsetof(struct ep_msg, data) + (is_failure || in_block ? 0 : msg->length));
    ret_reply->host = NULL;
    ret_reply->payload = NULL;
    ret_reply->heap = NULL;
    if (!in_block)
        return;
    enif_keep_resource(lane->host);
    ret_reply->host = lane->host;
    ret_reply->payload = lane->shm.peer_slab_mem + msg->block;
}

void ep_reply_drop(struct ep_lane *lane, struct ep_reply *reply)
{
    enif_free(reply->heap);
    reply->heap = NULL;
    if (reply->host == NULL)
        return;
    ep_call_release_block(lane, reply->host, &reply->msg);
    enif_release_resource(reply->host);
    reply->host = NULL;
}

static void unpark(struct ep_lane *lane)
{
    atomic_fetch_sub_explicit(&lane->parked, 1, memory_order_relaxed);
}

static bool deliver_waiting(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call)
{
    /* After the move the owner may collect at once, so take what the message
     * needs before it. */
    ErlNifPid caller = call->caller;
    ErlNifEnv *env = call->env;
    ERL_NIF_TERM message = call->message;

    call->env = NULL;
    if (!ep_call_move(call, EP_CALL_WAITING, EP_CALL_DONE)) {
        call->env = env; /* abandoned meanwhile: the entry is still ours to finish */
        return false;
    }
    unpark(lane);
    (void)enif_send(caller_env, &caller, env, message);
    enif_free_env(env);
    return true;
}

static bool is_open(enum ep_call_state state)
{
    return state == EP_CALL_SPINNING || state == EP_CALL_PARKED || state == EP_CALL_WAITING
           || state == EP_CALL_BUSY || state == EP_CALL_ABANDONED;
}

/* Only as much of the message as there is. */
static void copy_reply(struct ep_reply *to, const struct ep_reply *from)
{
    size_t inline_size =
        from->msg.kind >= EP_FAILED_DIED || from->payload != NULL ? 0 : from->msg.length;

    memcpy(to, from, offsetof(struct ep_reply, msg.data) + inline_size);
}

bool ep_call_deliver(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                     struct ep_reply *reply)
{
    bool is_callback = reply->msg.kind == EP_KIND_CALLBACK;

    /* Only the consumer delivers, and from an open state the owner moves only to
     * another open one, so the entry is safe to write until the move below. */
    if (!is_open(atomic_load_explicit(&call->state, memory_order_acquire)))
        return false;
    copy_reply(&call->reply, reply);

    for (;;) {
        switch (atomic_load_explicit(&call->state, memory_order_acquire)) {
        case EP_CALL_SPINNING:
            if (ep_call_move(call, EP_CALL_SPINNING, EP_CALL_DONE))
                return true;
            break;
        case EP_CALL_BUSY:
            if (ep_call_move(call, EP_CALL_BUSY, EP_CALL_DONE))
                return true;
            break;
        case EP_CALL_PARKED:
            if (ep_call_move(call, EP_CALL_PARKED, EP_CALL_DONE)) {
                unpark(lane);
                return true;
            }
            break;
        case EP_CALL_WAITING:
            if (deliver_waiting(lane, caller_env, call))
                return true;
            break;
        default: /* EP_CALL_ABANDONED */
            ep_reply_drop(lane, &call->reply);
            if (is_callback) {
                /* Nobody runs it; the call still has to end. */
                atomic_store_explicit(&lane->refused, ep_call_id(call), memory_order_relaxed);
                return true;
            }
            unpark(lane);
            atomic_fetch_add_explicit(&lane->vm->late_replies, 1, memory_order_relaxed);
            ep_call_free(lane, call);
            return true;
        }
    }
}
