/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_calls.h"

#include "ep_cargo.h"
#include "ep_lanes.h"
#include "ep_peer.h"

#include <string.h>

struct ep_call *ep_call_at(struct ep_lane *lane, uint32_t i)
{
    /* Acquire: pairs with the release in add_chunk(). */
    struct ep_call *chunk =
        atomic_load_explicit(&lane->table.chunks[i / EP_CALL_CHUNK], memory_order_acquire);
    return chunk == NULL ? NULL : &chunk[i % EP_CALL_CHUNK];
}

static struct ep_call *add_chunk(struct ep_lane *lane)
{
    uint32_t number = lane->table.n / EP_CALL_CHUNK;

    if (number == EP_CALL_CHUNKS)
        return NULL;
    struct ep_call *chunk = enif_alloc(EP_CALL_CHUNK * sizeof(*chunk));
    if (chunk == NULL)
        return NULL;
    memset(chunk, 0, EP_CALL_CHUNK * sizeof(*chunk));
    for (uint32_t i = 0; i < EP_CALL_CHUNK; i++) {
        chunk[i].index = lane->table.n + i;
        chunk[i].next_free = i + 1 < EP_CALL_CHUNK ? &chunk[i + 1] : NULL;
    }
    lane->table.n += EP_CALL_CHUNK;
    atomic_store_explicit(&lane->table.chunks[number], chunk, memory_order_release);
    return chunk;
}

/* Takes a free entry and puts it in SPINNING. */
static struct ep_call *alloc(struct ep_lane *lane)
{
    struct ep_call *call = lane->table.free;

    if (call == NULL) /* acquire: pairs with the release in ep_call_free() */
        call = atomic_exchange_explicit(&lane->common.freed, NULL, memory_order_acquire);
    if (call == NULL)
        call = add_chunk(lane);
    if (call == NULL)
        return NULL;

    lane->table.free = call->next_free;
    /* Relaxed: nobody can find the entry before its id is published. */
    atomic_store_explicit(&call->state, EP_CALL_SPINNING, memory_order_relaxed);
    return call;
}

struct ep_call *ep_call_begin(struct ep_lane *lane, ErlNifEnv *env, bool is_nested)
{
    struct ep_call *call = alloc(lane);

    if (call == NULL)
        return NULL;
    call->is_timed = call->is_stream = call->shares_cpu = call->is_task = false;
    call->serial =
        is_nested ? atomic_fetch_add_explicit(&lane->vm->nested_serial, 1, memory_order_relaxed) + 1
                  : 0;
    atomic_store_explicit(&call->is_overdue, false, memory_order_relaxed);
    atomic_store_explicit(&call->interrupts, 0, memory_order_relaxed);
    call->questions_ended = 0;
    call->asks = 0;
    /* Relaxed: drops a late mark that belongs to the entry's last call. */
    if (atomic_load_explicit(&call->is_refused, memory_order_relaxed)
        && atomic_exchange_explicit(&call->is_refused, false, memory_order_relaxed))
        atomic_fetch_sub_explicit(&lane->common.refused, 1, memory_order_relaxed);
    call->is_cancel_queued = false;
    call->end.kind = 0;
    (void)enif_self(env, &call->caller);
    return call;
}

void ep_call_drop_belt(struct ep_lane *lane, struct ep_call *call, bool gives_back)
{
    struct ep_call_belt *belt = atomic_load_explicit(&call->belt, memory_order_acquire);

    if (belt == NULL)
        return;
    atomic_store_explicit(&call->belt, NULL, memory_order_relaxed);
    if (gives_back) {
        struct ep_msg msg = {.flags = EP_FLAG_BLOCK, .block = belt->block};
        ep_call_release_block(lane, belt->host, &msg);
    }
    enif_release_resource(belt->host);
    enif_free(belt);
}

/* Puts an entry that nobody finds any more in the list. */
static void push_free(struct ep_lane *lane, struct ep_call *call)
{
    /* A stack that is only ever emptied as a whole, so there is no ABA. */
    call->next_free = atomic_load_explicit(&lane->common.freed, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&lane->common.freed, &call->next_free, call,
                                                  memory_order_release, memory_order_relaxed)) {
    }
}

void ep_call_set_next_answer(struct ep_call *call, struct ep_cargo *cargo)
{
    ep_cargo_free(call->next_answer); /* of an outcome that an interrupt has made useless */
    call->had_arrays = true;
    call->next_answer = cargo;
}

/* Acquire and release: whoever frees a cargo finds it whole. */
void ep_call_hand_over(struct ep_call *call)
{
    ep_cargo_free(
        atomic_exchange_explicit(&call->answer_cargo, call->next_answer, memory_order_acq_rel));
    call->next_answer = NULL;
}

void ep_call_end_answer(struct ep_call *call)
{
    ep_cargo_free(atomic_exchange_explicit(&call->answer_cargo, NULL, memory_order_acq_rel));
}

__attribute__((noinline, cold)) static void free_arrays(struct ep_call *call)
{
    ep_cargo_free(call->cargo);
    ep_cargo_free(call->next_answer);
    ep_call_end_answer(call);
    call->cargo = call->next_answer = NULL;
    call->had_arrays = false;
}

/* Whose state says FREE, and who is its last owner. */
static void retire(struct ep_lane *lane, struct ep_call *call)
{
    uint32_t generation = atomic_load_explicit(&call->generation, memory_order_relaxed);

    if (call->env != NULL) { /* of a caller that gave up waiting for the message */
        enif_free_env(call->env);
        call->env = NULL;
    }
    if (atomic_load_explicit(&call->belt, memory_order_relaxed) != NULL)
        ep_call_drop_belt(lane, call, false);
    if (__builtin_expect(call->had_arrays, 0))
        free_arrays(call);
    atomic_store_explicit(&call->generation, generation + 1, memory_order_relaxed);
    push_free(lane, call);
}

void ep_call_free(struct ep_lane *lane, struct ep_call *call)
{
    /* Relaxed: only the owner writes state and generation, and a reader that comes too
     * late finds one of them changed. */
    atomic_store_explicit(&call->state, EP_CALL_FREE, memory_order_relaxed);
    retire(lane, call);
}

bool ep_call_free_abandoned(struct ep_lane *lane, struct ep_call *call)
{
    if (!ep_call_move(call, EP_CALL_ABANDONED, EP_CALL_FREE))
        return false;
    retire(lane, call);
    return true;
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
    if ((msg->flags & EP_REPLY_CONTROL) != 0) {
        ep_peer_release_block(host, msg->block);
        return;
    }
    pthread_mutex_lock(&lane->returns.lock);
    /* A dead worker's slab went with it. */
    if (lane->host == host) {
        ep_reclaim_push(&lane->shm.reclaim_tx, msg->block);
        /* A handle of its own on that bell: shm.space is the consumer's. */
        if (ep_bell_must_ring(&lane->returns.bell))
            ep_futex_wake(lane->shm.futex);
    }
    pthread_mutex_unlock(&lane->returns.lock);
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
    if (!in_block)
        return;
    enif_keep_resource(lane->host);
    ret_reply->host = lane->host;
    ret_reply->payload = lane->shm.peer_slab_mem + msg->block;
}

void ep_reply_drop(struct ep_lane *lane, struct ep_reply *reply)
{
    if (reply->cargo != NULL)
        ep_cargo_free(reply->cargo);
    reply->cargo = NULL;
    if (reply->host == NULL)
        return;
    ep_call_release_block(lane, reply->host, &reply->msg);
    enif_release_resource(reply->host);
    reply->host = NULL;
}

static void unpark(struct ep_lane *lane)
{
    atomic_fetch_sub_explicit(&lane->common.parked, 1, memory_order_relaxed);
}

/* Moves a WAITING call, and sends its message. */
static bool deliver_message(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                            enum ep_call_state next)
{
    /* After the move the owner may collect at once, so take what the message
     * needs before it. */
    ErlNifPid caller = call->caller;
    ErlNifEnv *env = call->env;
    ERL_NIF_TERM message = call->message;

    call->env = NULL;
    if (!ep_call_move(call, EP_CALL_WAITING, next)) {
        call->env = env; /* abandoned meanwhile: the entry is still ours to finish */
        return false;
    }
    unpark(lane);
    (void)enif_send(caller_env, &caller, env, message);
    enif_free_env(env);
    return true;
}

void ep_call_rouse(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call)
{
    bool is_over = false;

    while (!is_over) {
        /* Sequentially consistent: one that is SPINNING here looks at the belt once more after it
         * has parked (I2). */
        switch (atomic_load_explicit(&call->state, memory_order_seq_cst)) {
        case EP_CALL_PARKED:
            is_over = ep_call_move(call, EP_CALL_PARKED, EP_CALL_SPINNING);
            if (is_over)
                unpark(lane);
            break;
        case EP_CALL_WAITING:
            is_over = deliver_message(lane, caller_env, call, EP_CALL_SPINNING);
            break;
        default: is_over = true;
        }
    }
}

/* Only as much of the message as there is. */
static void copy_reply(struct ep_reply *to, const struct ep_reply *from)
{
    size_t inline_size =
        from->msg.kind >= EP_FAILED_DIED || from->payload != NULL ? 0 : from->msg.length;

    memcpy(to, from, offsetof(struct ep_reply, msg.data) + inline_size);
}

void ep_call_refuse(struct ep_lane *lane, struct ep_call *call)
{
    /* Release: who takes the mark away finds the count. */
    if (!atomic_exchange_explicit(&call->is_refused, true, memory_order_release))
        atomic_fetch_add_explicit(&lane->common.refused, 1, memory_order_relaxed);
}

/* The reply to a call whose caller has gone. */
static bool deliver_abandoned(struct ep_lane *lane, struct ep_call *call, struct ep_reply *reply)
{
    ep_reply_drop(lane, reply);
    if (reply->msg.kind == EP_KIND_CALLBACK) {
        ep_call_refuse(lane, call); /* it still has to end */
        return true;
    }
    unpark(lane);
    atomic_fetch_add_explicit(&lane->vm->late_replies, 1, memory_order_relaxed);
    if (call->is_stream && ep_reply_is_final(&reply->msg))
        ep_call_drop_belt(lane, call, true);
    /* Only a reply to a call that is not in a ring could find it freed already. */
    return ep_call_free_abandoned(lane, call);
}

/* One step of a delivery. 1: delivered.  0: the owner has moved the call, look again.
 * -1: there is nobody to deliver it to. */
static int deliver_once(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                        struct ep_reply *reply)
{
    switch (atomic_load_explicit(&call->state, memory_order_acquire)) {
    case EP_CALL_SPINNING: return ep_call_move(call, EP_CALL_SPINNING, EP_CALL_DONE);
    case EP_CALL_BUSY: return ep_call_move(call, EP_CALL_BUSY, EP_CALL_DONE);
    case EP_CALL_PARKED:
        if (!ep_call_move(call, EP_CALL_PARKED, EP_CALL_DONE))
            return 0;
        unpark(lane);
        return 1;
    case EP_CALL_WAITING: return deliver_message(lane, caller_env, call, EP_CALL_DONE);
    case EP_CALL_ABANDONED: return deliver_abandoned(lane, call, reply) ? 1 : -1;
    default: return -1; /* FREE, TAKEN, DONE */
    }
}

static bool takes_reply(enum ep_call_state state)
{
    return state == EP_CALL_SPINNING || state == EP_CALL_BUSY || state == EP_CALL_PARKED
           || state == EP_CALL_WAITING;
}

bool ep_call_deliver(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                     struct ep_reply *reply)
{
    enum ep_call_state state = atomic_load_explicit(&call->state, memory_order_acquire);

    /* Only the consumer delivers, and from such a state the owner moves only to another
     * of them or to ABANDONED, so the entry is safe to write until the move. From DONE the
     * owner may move to BUSY: not for us, who have written nothing. */
    if (takes_reply(state))
        copy_reply(&call->reply, reply);
    else if (state != EP_CALL_ABANDONED)
        return false;
    int rc;
    do {
        rc = deliver_once(lane, caller_env, call, reply);
    } while (rc == 0);
    if (rc > 0)
        reply->cargo = NULL; /* the entry has it */
    return rc > 0;
}

bool ep_call_overtake(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                      struct ep_reply *reply)
{
    struct ep_reply *late = enif_alloc(sizeof(*late));

    if (late == NULL)
        return false;
    copy_reply(late, reply);
    call->late = late;
    if (ep_call_move(call, EP_CALL_DONE, EP_CALL_OVERTAKEN)) {
        reply->cargo = NULL;
        return true;
    }
    /* The caller runs the callback now, or has given the call up. */
    call->late = NULL;
    enif_free(late);
    return ep_call_deliver(lane, caller_env, call, reply);
}

bool ep_call_is_done(const struct ep_call *call)
{
    enum ep_call_state state = atomic_load_explicit(&call->state, memory_order_acquire);

    return state == EP_CALL_DONE || state == EP_CALL_OVERTAKEN;
}

void ep_call_settle(struct ep_lane *lane, struct ep_call *call)
{
    if (atomic_load_explicit(&call->state, memory_order_acquire) != EP_CALL_OVERTAKEN)
        return;
    ep_reply_drop(lane, &call->reply);
    copy_reply(&call->reply, call->late);
    enif_free(call->late);
    call->late = NULL;
    (void)ep_call_move(call, EP_CALL_OVERTAKEN, EP_CALL_DONE);
}

void ep_call_fail(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                  const struct ep_reply *failure)
{
    struct ep_reply reply = *failure;

    call->end = (struct ep_end){.kind = failure->msg.kind,
                                .aux = (uint8_t)failure->msg.aux,
                                .subject = failure->msg.subject,
                                .block = failure->msg.block};
    ep_call_put(call, EP_PLACE_QUEUE, 0);
    (void)ep_call_deliver(lane, caller_env, call, &reply);
}

struct ep_reply ep_call_end(const struct ep_call *call)
{
    struct ep_reply reply = {.msg = {.kind = call->end.kind,
                                     .aux = call->end.aux,
                                     .subject = call->end.subject,
                                     .block = call->end.block}};
    return reply;
}

bool ep_call_is_open(const struct ep_call *call)
{
    switch (atomic_load_explicit(&call->state, memory_order_acquire)) {
    case EP_CALL_FREE:
    case EP_CALL_TAKEN:
    case EP_CALL_OVERTAKEN: return false;
    /* A callback that its caller has not collected: Python waits for the answer. The
     * owner may collect it now, but it changes no reply, and only we take entries. */
    case EP_CALL_DONE: return call->end.kind == 0 && call->reply.msg.kind == EP_KIND_CALLBACK;
    default: return true;
    }
}

struct ep_taken ep_taken_of(const struct ep_lane *lane)
{
    return (struct ep_taken){.call = ep_ring_taken(&lane->shm.call),
                             .urgent = ep_ring_taken(&lane->shm.urgent)};
}

bool ep_call_has_started(const struct ep_call *call, const struct ep_taken *taken)
{
    switch (ep_call_place(call)) {
    case EP_PLACE_CALL: return (int64_t)(ep_call_position(call) - taken->call) < 0;
    case EP_PLACE_URGENT: return (int64_t)(ep_call_position(call) - taken->urgent) < 0;
    case EP_PLACE_THREAD: return true;
    default: return false;
    }
}

void ep_call_mark_cancelled(struct ep_lane *lane, const struct ep_call *call, uint64_t id)
{
    bool is_urgent = ep_call_place(call) == EP_PLACE_URGENT;
    struct ep_ring_tx *ring = is_urgent ? &lane->shm.urgent : &lane->shm.call;

    (void)ep_ring_cancel(ring, ep_call_position(call), id);
}

void ep_calls_fail(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_reply *reply,
                   const struct ep_taken *taken)
{
    for (uint32_t i = 0; i < lane->table.n; i++) {
        struct ep_call *call = ep_call_at(lane, i);
        if (!ep_call_is_open(call))
            continue;
        reply->msg.aux = taken != NULL && ep_call_has_started(call, taken);
        if (reply->msg.aux != 0)
            atomic_fetch_add_explicit(&lane->stats.interrupted, 1, memory_order_relaxed);
        ep_call_fail(lane, caller_env, call, reply);
    }
}
