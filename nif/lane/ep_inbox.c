/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_inbox.h"

#include "ep_arrays.h"
#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_etf.h"
#include "ep_lanes.h"
#include "ep_letter.h"
#include "ep_outbox.h"
#include "ep_peer.h"
#include "ep_stream.h"
#include "ep_wake.h"

#include <errno.h>
#include <sched.h>

#define PUBLISH_BATCH (EP_RESPONSE_CELLS / 8)
/* Batches that are taken while the bell is armed again and again. */
#define ARM_TRIES 2u

bool ep_inbox_try(struct ep_lane *lane)
{
    /* Look first, so that those who wait do not pull the line from the holder. */
    return atomic_load_explicit(&lane->inbox.consumer, memory_order_relaxed) == 0
           && atomic_exchange_explicit(&lane->inbox.consumer, 1, memory_order_seq_cst) == 0;
}

void ep_inbox_enter(struct ep_lane *lane)
{
    while (!ep_inbox_try(lane))
        (void)sched_yield();
}

void ep_inbox_exit(struct ep_lane *lane)
{
    atomic_store_explicit(&lane->inbox.consumer, 0, memory_order_seq_cst);
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
           || kind == EP_KIND_CALLBACK || kind == EP_KIND_ITEMS;
}

/* Judges the copy of a message. The payload is judged when it is decoded. */
static int check(struct ep_lane *lane, const struct ep_msg *msg)
{
    const uint8_t *unused;

    if (!is_reply(msg->kind) && msg->kind != EP_KIND_STARTED && msg->kind != EP_KIND_STOPPED
        && msg->kind != EP_KIND_SEND && msg->kind != EP_KIND_ARRAYS)
        return -EPROTO;
    if (msg->kind == EP_KIND_ERROR && msg->aux > EP_ERROR_MAX)
        return -EPROTO;
    if ((msg->kind == EP_KIND_DROPPED || msg->kind == EP_KIND_ITEMS)
        && msg->length != 0) /* nobody reads it */
        return -EPROTO;
    if (msg->kind == EP_KIND_SEND && msg->call_id != 0) /* it is about no call */
        return -EPROTO;
    return ep_lane_vm_payload(&lane->shm, msg, &unused);
}

/* Whether the caller may take its own reply. From SPINNING only the consumer and the caller
 * move it, and we are both; anything else another consumer has stored in it before. */
static bool is_own(const struct ep_call *call, const struct ep_call *mine, const struct ep_msg *msg)
{
    return call == mine && (msg->length <= EP_REPLY_DIRTY || msg->kind == EP_KIND_RESULT)
           && atomic_load_explicit(&call->state, memory_order_relaxed) == EP_CALL_SPINNING;
}

/* The caller's own reply, which it found itself. */
static int take_own(struct ep_lane *lane, struct ep_call *call, struct ep_reply *reply)
{
    enum ep_call_state next = reply->msg.kind == EP_KIND_CALLBACK ? EP_CALL_BUSY : EP_CALL_TAKEN;

    /* Release: whoever finds the new state in a walk finds what belongs to it. */
    ep_reply_take(lane, &reply->msg, reply);
    atomic_store_explicit(&call->state, next, memory_order_release);
    return 1;
}

/* A SEND, which needs no call. -EAGAIN: the batch is over, for its SENDs were long. */
static int take_letter(struct ep_lane *lane, const struct ep_reply *reply)
{
    const struct ep_msg *msg = &reply->msg;
    int rc = ep_letter_deliver(lane->host, &lane->shm, msg, reply->cargo, lane->max_result_words,
                               &lane->inbox.letter_env);

    ep_call_release_block(lane, lane->host, msg);
    lane->inbox.letter_bytes += msg->length;
    if (rc < 0 || lane->inbox.letter_bytes < EP_LETTER_BATCH)
        return rc;
    lane->inbox.letter_bytes = 0;
    return -EAGAIN;
}

/* The worker has read the arrays of the last outcome, and has claimed what it still uses. */
static int take_claims(struct ep_lane *lane, const struct ep_msg *msg)
{
    struct ep_call *call = ep_call_find(lane, msg->call_id);

    ep_call_release_block(lane, lane->host, msg);
    if (msg->aux != EP_ARRAYS_CLAIM || msg->length != 0)
        return -EPROTO;
    if (call != NULL)
        ep_call_end_answer(call);
    return 0;
}

/* STARTED or STOPPED, or what comes from a closed lane: STOPPED, SEND, or the reply to a call that
 * failed when the context ended. */
static int handle_rest(struct ep_lane *lane, ErlNifEnv *caller_env, const struct ep_reply *reply)
{
    const struct ep_msg *msg = &reply->msg;
    bool is_notice = msg->kind == EP_KIND_STARTED || msg->kind == EP_KIND_STOPPED;

    if (msg->kind == EP_KIND_SEND)
        return take_letter(lane, reply);
    ep_call_release_block(lane, lane->host, msg);
    if (!is_notice && lane->inbox.late == 0)
        return -EPROTO;
    if (!is_notice) {
        /* A question leaves its call open, and so does news of items. */
        lane->inbox.late -= msg->kind != EP_KIND_CALLBACK && msg->kind != EP_KIND_ITEMS;
        ep_stream_late(lane, msg);
        atomic_fetch_add_explicit(&lane->vm->late_replies, 1, memory_order_relaxed);
        return 0;
    }
    if (lane->inbox.notices == 0)
        return -EPROTO;
    lane->inbox.notices--;
    atomic_fetch_sub_explicit(&lane->common.parked, 1, memory_order_relaxed);
    if (msg->kind == EP_KIND_STOPPED)
        atomic_store_explicit(&lane->inbox.stopped, true, memory_order_release);
    if (!lane->inbox.closed)
        report_lane(lane, caller_env, msg);
    return 0;
}

/* What becomes of a question. */
enum question {
    QUESTION_DELIVER,
    QUESTION_REFUSE, /* the call is interrupted instead */
    QUESTION_FORGED,
};

/* A call has one open question at most, and only an interrupt ends one before its answer:
 * each allows one more. A caller that is gone may be asked once without. */
static enum question judge_question(struct ep_call *call)
{
    enum ep_call_state state = atomic_load_explicit(&call->state, memory_order_acquire);
    bool is_gone = state == EP_CALL_ABANDONED;
    bool is_open = is_gone || state == EP_CALL_BUSY
                   || (state == EP_CALL_DONE && call->reply.msg.kind == EP_KIND_CALLBACK);

    if (state == EP_CALL_SPINNING || state == EP_CALL_PARKED || state == EP_CALL_WAITING)
        return QUESTION_DELIVER;
    /* Relaxed: whoever sent the interrupt did it before the worker could act on it. */
    if (!is_open
        || call->questions_ended
               >= atomic_load_explicit(&call->interrupts, memory_order_relaxed) + is_gone)
        return QUESTION_FORGED;
    call->questions_ended++;
    return state == EP_CALL_DONE ? QUESTION_REFUSE : QUESTION_DELIVER;
}

/* Whether an interrupt has ended the question that the call holds, and the call with it. */
static bool is_overtaken(const struct ep_call *call, const struct ep_msg *msg)
{
    return msg->kind != EP_KIND_CALLBACK
           && atomic_load_explicit(&call->state, memory_order_acquire) == EP_CALL_DONE
           && call->reply.msg.kind == EP_KIND_CALLBACK
           && call->questions_ended < atomic_load_explicit(&call->interrupts, memory_order_relaxed);
}

static int handle(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_reply *reply,
                  struct ep_call *mine, struct ep_call *call)
{
    const struct ep_msg *msg = &reply->msg;
    struct ep_host *host = lane->host;

    if (msg->kind == EP_KIND_ARRAYS)
        return take_claims(lane, msg);
    if (lane->inbox.closed || msg->kind == EP_KIND_STARTED || msg->kind == EP_KIND_STOPPED)
        return handle_rest(lane, caller_env, reply);
    if (call == NULL || !ep_call_is_in_ring(call)) /* nobody has asked */
        return msg->kind == EP_KIND_SEND ? take_letter(lane, reply) : -EPROTO;
    if (msg->kind == EP_KIND_ITEMS)
        return ep_stream_notice(lane, caller_env, call, msg);
    enum question question =
        msg->kind == EP_KIND_CALLBACK ? judge_question(call) : QUESTION_DELIVER;
    if (question != QUESTION_DELIVER) {
        ep_call_release_block(lane, host, msg);
        if (question == QUESTION_REFUSE)
            ep_call_refuse(lane, call);
        return question == QUESTION_REFUSE ? 0 : -EPROTO;
    }
    if (is_own(call, mine, msg))
        return take_own(lane, call, reply);
    ep_reply_take(lane, msg, reply);
    bool is_taken = is_overtaken(call, msg) ? ep_call_overtake(lane, caller_env, call, reply)
                                            : ep_call_deliver(lane, caller_env, call, reply);
    if (is_taken)
        return 0;
    /* A second reply to a call that has one is a lie. */
    ep_reply_drop(lane, reply);
    return -EPROTO;
}

/* The arrays at the end of a message, which count from the moment that it is taken. */
__attribute__((noinline, cold)) static int take_list(struct ep_lane *lane, struct ep_reply *reply)
{
    const uint8_t *payload;

    int rc = ep_lane_vm_payload(&lane->shm, &reply->msg, &payload);
    return rc < 0 ? rc : ep_arrays_take(lane->host, payload, &reply->msg, &reply->cargo);
}

int ep_inbox_drain(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *mine,
                   struct ep_reply *ret_reply)
{
    struct ep_reply local;
    struct ep_reply *reply = ret_reply != NULL ? ret_reply : &local;
    struct ep_msg *msg = &reply->msg;
    int rc = 0;

    if (lane->host == NULL)
        return 0;
    for (unsigned n = 0; n < EP_INBOX_BATCH && rc == 0; n++) {
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
        if (atomic_load_explicit(&lane->inbox.is_still, memory_order_relaxed))
            atomic_store_explicit(&lane->inbox.is_still, false, memory_order_relaxed);
        reply->cargo = NULL;
        if (__builtin_expect((msg->flags & EP_FLAG_ARRAYS) != 0, 0)) {
            rc = take_list(lane, reply);
            if (rc < 0)
                break;
        }
        rc = handle(lane, caller_env, reply, mine, ep_call_find(lane, msg->call_id));
        if (__builtin_expect(reply->cargo != NULL, 0) && rc <= 0) {
            ep_cargo_free(reply->cargo); /* nobody has taken it */
            reply->cargo = NULL;
        }
    }

    /* The worker needs to hear of room before the ring is full, not at once. What
     * stays untold is less than a batch, so it never waits for that alone. */
    if (lane->shm.response.head - lane->inbox.published >= PUBLISH_BATCH) {
        lane->inbox.published = lane->shm.response.head;
        ep_ring_publish_head(&lane->shm.response);
        if (ep_bell_must_ring(&lane->shm.space)) /* S1 */
            ep_futex_wake(lane->shm.futex);
    }
    if (rc >= 0)
        return rc;
    if (rc == -EAGAIN) /* of a SEND */
        return 0;
    (void)ep_peer_kill(lane->host, EP_KILL_VIOLATION);
    return rc;
}

static bool has_message(struct ep_lane *lane)
{
    const struct ep_cell *cell;

    return lane->host != NULL && ep_ring_peek(&lane->shm.response, &cell) == 0;
}

/* Arms the bell, and takes what came before that. What remains after a batch is the
 * reaper's, for no bell tells of it. */
static void arm(struct ep_lane *lane, ErlNifEnv *caller_env)
{
    for (unsigned n = 0; atomic_load_explicit(&lane->common.parked, memory_order_seq_cst) > 0;
         n++) {
        /* Anew each time: the worker may have answered the last arming. */
        ep_bell_rearm(&lane->shm.response_bell);
        atomic_store_explicit(&lane->common.armed, 1, memory_order_seq_cst); /* E1 */
        if (!has_message(lane))
            return;
        if (n == ARM_TRIES) {
            ep_wake_for_round(lane->host);
            return;
        }
        if (ep_inbox_drain(lane, caller_env, NULL, NULL) < 0)
            return;
    }
}

void ep_inbox_leave_armed(struct ep_lane *lane)
{
    ep_bell_rearm(&lane->shm.response_bell);
    atomic_store_explicit(&lane->common.armed, 1, memory_order_relaxed);
    ep_inbox_exit(lane);
}

void ep_inbox_leave(struct ep_lane *lane, ErlNifEnv *caller_env)
{
    bool attached;

    do {
        attached = lane->host != NULL;
        if (attached)
            arm(lane, caller_env);
        ep_inbox_exit(lane);
        /* Without a worker nothing can be armed, and attaching arms. */
    } while (attached && atomic_load_explicit(&lane->common.parked, memory_order_seq_cst) > 0
             && atomic_load_explicit(&lane->common.armed, memory_order_seq_cst) == 0 /* E2 */
             && ep_inbox_try(lane));

    /* Replies mean room: every message that fills the ring is answered, so a
     * request that waits for room is never forgotten. After the unlock, because
     * the producer lock comes before the consumer lock. */
    if (atomic_load_explicit(&lane->common.n_queued, memory_order_relaxed) > 0)
        ep_outbox_flush(lane);
    if (atomic_load_explicit(&lane->common.refused, memory_order_relaxed) != 0)
        ep_outbox_refuse(lane);
}

void ep_inbox_ensure(struct ep_lane *lane, ErlNifEnv *caller_env)
{
    if (!ep_inbox_try(lane)) {
        /* The bell may have been rung for what the holder has not seen: it has looked for
         * the last time, perhaps, and believes the bell armed. E2: either it finds out when
         * it has left, or it has left and we are in. */
        atomic_store_explicit(&lane->common.armed, 0, memory_order_seq_cst);
        if (atomic_exchange_explicit(&lane->inbox.consumer, 1, memory_order_seq_cst) != 0)
            return;
    }
    (void)ep_inbox_drain(lane, caller_env, NULL, NULL);
    ep_inbox_leave(lane, caller_env);
}
