/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_consume.h"

#include "ep_answer.h"
#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_host.h"
#include "ep_submit.h"
#include "ep_term.h"

#include <errno.h>
#include <sched.h>

#define PUBLISH_BATCH (EP_RESPONSE_SLOTS / 8)

bool ep_consumer_try(struct ep_lane *lane)
{
    /* Look first, so that those who wait do not pull the line from the holder. */
    return atomic_load_explicit(&lane->consumer, memory_order_relaxed) == 0
           && atomic_exchange_explicit(&lane->consumer, 1, memory_order_seq_cst) == 0;
}

void ep_consumer_enter(struct ep_lane *lane)
{
    while (!ep_consumer_try(lane))
        (void)sched_yield();
}

void ep_consumer_exit(struct ep_lane *lane)
{
    atomic_store_explicit(&lane->consumer, 0, memory_order_seq_cst);
}

/* Tells the context process how its START or STOP went. */
static void report_lane(struct ep_lane *lane, ErlNifEnv *caller_env, const struct ep_msg *msg)
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM what = msg->kind == EP_KIND_STOPPED ? am_stopped : am_started;

    if (msg->aux != 0) {
        const uint8_t *bytes;
        struct ep_etf_cursor cursor;
        struct ep_etf_token type, text;
        uint8_t copy[EP_INLINE_MAX];
        what = am_failed;
        /* A start failure's text is short; one in a block loses its text only. */
        if (ep_lane_vm_payload(&lane->shm, msg, &bytes) == 0 && msg->length <= sizeof(copy)) {
            memcpy(copy, bytes, msg->length);
            ep_etf_cursor_init(&cursor, copy, msg->length);
            if (ep_etf_next(&cursor, &type) == 0 && type.type == EP_ETF_BINARY
                && ep_etf_next(&cursor, &text) == 0 && text.type == EP_ETF_BINARY) {
                ERL_NIF_TERM type_bin, text_bin;
                memcpy(enif_make_new_binary(env, type.count, &type_bin), type.data, type.count);
                memcpy(enif_make_new_binary(env, text.count, &text_bin), text.data, text.count);
                what = enif_make_tuple3(env, am_failed, type_bin, text_bin);
            }
        }
    }
    (void)enif_send(caller_env, &lane->owner, env, enif_make_tuple2(env, am_py_lane, what));
    enif_free_env(env);
}

static bool is_reply(uint16_t kind)
{
    return kind == EP_KIND_RESULT || kind == EP_KIND_ERROR || kind == EP_KIND_DROPPED
           || kind == EP_KIND_CALLBACK;
}

/* Judges the copy of a message. The payload is judged when it is decoded. */
static int check(struct ep_lane *lane, const struct ep_msg *msg)
{
    const uint8_t *unused;

    if (msg->kind != EP_KIND_STARTED && msg->kind != EP_KIND_STOPPED && !is_reply(msg->kind))
        return -EPROTO;
    if (msg->kind == EP_KIND_ERROR && msg->aux > EP_ERROR_MAX)
        return -EPROTO;
    return ep_lane_vm_payload(&lane->shm, msg, &unused);
}

/* The caller's own reply, which it found itself. */
static int take_own(struct ep_lane *lane, struct ep_call *call, struct ep_reply *reply)
{
    enum ep_call_state next = reply->msg.kind == EP_KIND_CALLBACK ? EP_CALL_BUSY : EP_CALL_TAKEN;

    /* From SPINNING only the consumer and the caller move it, and we are both. Release:
     * whoever finds the new state in a walk finds what belongs to it. */
    if (atomic_load_explicit(&call->state, memory_order_relaxed) != EP_CALL_SPINNING)
        return -EPROTO;
    ep_reply_take(lane, &reply->msg, reply);
    atomic_store_explicit(&call->state, next, memory_order_release);
    return 1;
}

static int handle(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_reply *reply,
                  struct ep_call *mine, struct ep_call *call)
{
    const struct ep_msg *msg = &reply->msg;
    struct ep_host *host = lane->host;

    if (lane->closed) {
        /* STOPPED, or the reply to a call that failed when the context ended. */
        ep_call_release_block(lane, host, msg);
        atomic_fetch_add_explicit(&lane->vm->late_replies, 1, memory_order_relaxed);
        return 0;
    }
    if (msg->kind == EP_KIND_STARTED || msg->kind == EP_KIND_STOPPED) {
        report_lane(lane, caller_env, msg);
        ep_call_release_block(lane, host, msg);
        if (lane->notices == 0)
            return -EPROTO;
        lane->notices--;
        atomic_fetch_sub_explicit(&lane->parked, 1, memory_order_relaxed);
        return 0;
    }
    if (call == NULL) {
        /* Its call was failed already, as when the context was closed. */
        ep_call_release_block(lane, host, msg);
        atomic_fetch_add_explicit(&lane->vm->late_replies, 1, memory_order_relaxed);
        return 0;
    }
    if (call == mine && (msg->length <= EP_ANSWER_DIRTY || msg->kind == EP_KIND_RESULT))
        return take_own(lane, call, reply);
    ep_reply_take(lane, msg, reply);
    if (ep_call_deliver(lane, caller_env, call, reply))
        return 0;
    /* A second reply to a call that has one is a lie. */
    ep_reply_drop(lane, reply);
    return -EPROTO;
}

int ep_drain(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *mine,
             struct ep_reply *ret_reply)
{
    struct ep_reply local;
    struct ep_reply *reply = ret_reply != NULL ? ret_reply : &local;
    struct ep_msg *msg = &reply->msg;
    int rc = 0;

    if (lane->host == NULL)
        return 0;
    while (rc == 0) {
        rc = ep_ring_copy(&lane->shm.response, msg);
        if (rc == -EAGAIN) {
            rc = 0;
            break;
        }
        if (rc == 0)
            rc = check(lane, msg);
        if (rc < 0)
            break;
        ep_ring_advance(&lane->shm.response);
        if (atomic_load_explicit(&lane->is_still, memory_order_relaxed))
            atomic_store_explicit(&lane->is_still, false, memory_order_relaxed);
        rc = handle(lane, caller_env, reply, mine, ep_call_find(lane, msg->call_id));
    }

    /* The worker needs to hear of room before the ring is full, not at once. What
     * stays untold is less than a batch, so it never waits for that alone. */
    if (lane->shm.response.head - lane->published >= PUBLISH_BATCH) {
        lane->published = lane->shm.response.head;
        ep_ring_publish_head(&lane->shm.response);
        if (ep_bell_must_ring(&lane->shm.space)) /* S1 */
            ep_futex_wake(lane->shm.futex);
    }
    if (rc < 0)
        ep_host_kill(lane->host, EP_KILL_VIOLATION);
    return rc;
}

static bool has_message(struct ep_lane *lane)
{
    const struct ep_slot *slot;

    return lane->host != NULL && ep_ring_peek(&lane->shm.response, &slot) == 0;
}

void ep_consumer_leave(struct ep_lane *lane, ErlNifEnv *caller_env)
{
    bool attached;

    do {
        attached = lane->host != NULL;
        while (attached && atomic_load_explicit(&lane->parked, memory_order_seq_cst) > 0) {
            /* Anew each time: the worker may have answered the last arming. */
            ep_bell_rearm(&lane->shm.response_bell);
            atomic_store_explicit(&lane->armed, 1, memory_order_relaxed);
            if (!has_message(lane) || ep_drain(lane, caller_env, NULL, NULL) < 0)
                break;
        }
        ep_consumer_exit(lane);
        /* Without a worker nothing can be armed, and attaching arms. */
    } while (attached && atomic_load_explicit(&lane->parked, memory_order_seq_cst) > 0
             && atomic_load_explicit(&lane->armed, memory_order_relaxed) == 0
             && ep_consumer_try(lane));

    /* Replies mean room: every message that fills the ring is answered, so a
     * request that waits for room is never forgotten. After the unlock, because
     * the producer lock comes before the consumer lock. */
    if (atomic_load_explicit(&lane->n_queued, memory_order_relaxed) > 0)
        ep_lane_flush(lane);
    if (atomic_load_explicit(&lane->refused, memory_order_relaxed) != 0)
        ep_lane_refuse(lane);
}

void ep_consumer_ensure(struct ep_lane *lane, ErlNifEnv *caller_env)
{
    if (!ep_consumer_try(lane))
        return;
    (void)ep_drain(lane, caller_env, NULL, NULL);
    ep_consumer_leave(lane, caller_env);
}
