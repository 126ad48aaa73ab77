/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_answer.h"

#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_cargo.h"
#include "ep_encoding.h"
#include "ep_exit.h"
#include "ep_interrupt.h"
#include "ep_lanes.h"
#include "ep_peer.h"
#include "ep_result.h"
#include "ep_term_decode.h"

#include <errno.h>
#include <string.h>

static ERL_NIF_TERM error_tuple(ErlNifEnv *env, ERL_NIF_TERM reason)
{
    return enif_make_tuple2(env, am_error, reason);
}

static ERL_NIF_TERM died(ErlNifEnv *env, struct ep_lane *lane, const struct ep_msg *msg)
{
    ERL_NIF_TERM keys[4] = {am_context, am_os_pid, am_reason, am_started};
    ERL_NIF_TERM values[4] = {
        enif_make_pid(env, &lane->owner),
        enif_make_int64(env, (int64_t)msg->subject),
        ep_exit_reason(env, (int64_t)msg->block),
        msg->aux != 0 ? am_true : am_false,
    };
    ERL_NIF_TERM info;

    (void)enif_make_map_from_arrays(env, keys, values, 4, &info);
    return error_tuple(env, enif_make_tuple2(env, am_worker_died, info));
}

static ERL_NIF_TERM unavailable(ErlNifEnv *env, struct ep_lane *lane)
{
    ERL_NIF_TERM reason = am_unknown;

    pthread_mutex_lock(&lane->outbox.lock);
    if (lane->reason_env != NULL)
        reason = enif_make_copy(env, lane->reason);
    pthread_mutex_unlock(&lane->outbox.lock);
    return error_tuple(env, enif_make_tuple2(env, am_worker_unavailable, reason));
}

static ERL_NIF_TERM context_died(ErlNifEnv *env, struct ep_lane *lane)
{
    return error_tuple(env, enif_make_tuple2(env, am_context_died, lane->close_reason));
}

ERL_NIF_TERM ep_answer_refused(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op, int error)
{
    switch (error) {
    case -ESTALE: return context_died(env, lane);
    case -EHOSTDOWN: return unavailable(env, lane);
    case -ENOBUFS: {
        ERL_NIF_TERM most = enif_make_uint(env, EP_CALL_CHUNK * EP_CALL_CHUNKS);
        return error_tuple(env, enif_make_tuple3(env, am_overloaded, most, most));
    }
    default: return ep_result_exception(env, op, am_MemoryError, "no memory for the request");
    }
}

/* The worker broke the protocol: it dies, and this call with it. */
static ERL_NIF_TERM violated(ErlNifEnv *env, struct ep_lane *lane, struct ep_host *host)
{
    struct ep_msg failed = {.kind = EP_FAILED_DIED, .aux = 1};
    failed.block = (uint64_t)EP_EXIT_VALUE_VIOLATION;
    if (host != NULL) {
        failed.subject = (uint64_t)atomic_load(&host->os_pid);
        (void)ep_peer_kill(host, EP_KILL_VIOLATION);
    } else {
        (void)ep_interrupt_kill(lane, EP_KILL_VIOLATION);
    }
    return died(env, lane, &failed);
}

ERL_NIF_TERM ep_answer_question(ErlNifEnv *env, struct ep_asker *asker)
{
    size_t length = asker->question.length;
    uint8_t *payload = ep_asker_copy(asker);
    struct ep_source source = {.is_scheduler = true,
                               .start = payload,
                               .size = length,
                               .cargo = asker->cargo,
                               .max_words = asker->lane->max_result_words};
    ERL_NIF_TERM terms[2] = {0, 0};

    bool is_good = ep_result_question(env, asker->lane->vm, &source, terms);
    enif_free(payload);
    ep_cargo_free(asker->cargo);
    asker->cargo = NULL;
    if (!is_good)
        (void)ep_peer_kill(asker->host, EP_KILL_VIOLATION);
    return enif_make_tuple2(env, terms[0], terms[1]);
}

bool ep_answer_is_long(const struct ep_reply *reply)
{
    const struct ep_msg *msg = &reply->msg;
    uint8_t head[EP_ETF_BINARY_HEADER];

    if (msg->length <= EP_REPLY_DIRTY || msg->kind >= EP_FAILED_DIED)
        return false;
    if (msg->length > EP_ANSWER_COPY || msg->kind != EP_KIND_RESULT || reply->payload == NULL)
        return true;
    /* The worker may still change it. What is decoded is a copy, so that a lie here
     * costs time only. */
    memcpy(head, reply->payload, sizeof(head));
    __asm__ volatile("" ::: "memory");
    return !ep_etf_is_binary(head, msg->length);
}

/* Whether a result was one binary when it was looked at, and is none now. Only such a one
 * comes to a normal scheduler in that size. */
static bool has_changed(const struct ep_msg *msg, const uint8_t *copy)
{
    return msg->length > EP_REPLY_DIRTY && !ep_encoding_is_dirty()
           && !ep_etf_is_binary(copy, msg->length);
}

static ERL_NIF_TERM answer_block(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op,
                                 struct ep_reply *reply, ERL_NIF_TERM call_ref)
{
    const struct ep_msg *msg = &reply->msg;
    struct ep_source source = {.is_scheduler = true,
                               .size = msg->length,
                               .cargo = reply->cargo,
                               .max_words = lane->max_result_words};
    struct ep_host *host = reply->host;
    ERL_NIF_TERM term;

    /* One copy, straight into a binary that the result may refer to. */
    unsigned char *bytes = enif_make_new_binary(env, msg->length, &source.source_term);
    if (bytes != NULL)
        memcpy(bytes, reply->payload, msg->length);
    ep_call_release_block(lane, host, msg);
    if (bytes != NULL && has_changed(msg, bytes)) {
        term = violated(env, lane, host);
    } else if (bytes != NULL) {
        source.start = bytes;
        term = ep_result_make(env, lane->vm, op, msg, &source, call_ref);
        if (term == 0)
            term = violated(env, lane, host);
    } else {
        term = ep_result_no_memory(env, op, msg, call_ref);
    }
    reply->host = NULL;
    enif_release_resource(host);
    return term;
}

static ERL_NIF_TERM answer(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op,
                           struct ep_reply *reply, ERL_NIF_TERM call_ref)
{
    const struct ep_msg *msg = &reply->msg;

    switch (msg->kind) {
    case EP_FAILED_DIED: return died(env, lane, msg);
    case EP_FAILED_UNAVAILABLE: return unavailable(env, lane);
    case EP_FAILED_CONTEXT: return context_died(env, lane);
    case EP_KIND_DROPPED: ep_reply_drop(lane, reply); return error_tuple(env, am_cancelled);
    default: break;
    }
    if (reply->host != NULL)
        return answer_block(env, lane, op, reply, call_ref);
    struct ep_source source = {.is_scheduler = true,
                               .start = msg->data,
                               .size = msg->length,
                               .cargo = reply->cargo,
                               .max_words = lane->max_result_words};
    ERL_NIF_TERM term = ep_result_make(env, lane->vm, op, msg, &source, call_ref);
    return term != 0 ? term : violated(env, lane, NULL);
}

ERL_NIF_TERM ep_answer(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op, struct ep_reply *reply,
                       ERL_NIF_TERM call_ref)
{
    if (__builtin_expect(reply->cargo == NULL, 1))
        return answer(env, lane, op, reply, call_ref);
    ERL_NIF_TERM term = answer(env, lane, op, reply, call_ref);
    ep_cargo_free(reply->cargo);
    reply->cargo = NULL;
    return term;
}
