/* SPDX-License-Identifier: Apache-2.0 */
#include "py_nif_questions.h"

#include "ep_answer.h"
#include "ep_encoding.h"
#include "ep_interrupt.h"
#include "ep_lanes.h"
#include "ep_outbox_question.h"
#include "ep_peer.h"
#include "ep_question.h"
#include "py_nif_calls.h"

#include <errno.h>
#include <string.h>

/* The question that a reference holds. */
struct py_nif_question {
    struct ep_reply reply;
};

static const uint8_t *payload_of(const struct ep_reply *reply)
{
    return reply->host != NULL ? reply->payload : reply->msg.data;
}

bool py_nif_is_question(const struct ep_reply *reply)
{
    uint8_t head[2];

    if (reply->msg.kind != EP_KIND_CALLBACK || reply->msg.length < sizeof(head))
        return false;
    /* The worker may still change it, and is ended then: see ep_question_serve(). */
    memcpy(head, payload_of(reply), sizeof(head));
    return ep_question_is_own(head, sizeof(head));
}

/* --- answers -------------------------------------------------------------------------------- */

static int tell_item(struct ep_lane *lane, uint64_t call_id, uint64_t number, struct ep_item *item)
{
    struct ep_stage stage;
    struct ep_buf buf;

    if (item->n_tail == 0) {
        ep_buf_init(&buf, item->head, item->n_head, item->n_head);
        buf.length = item->n_head;
        return ep_outbox_tell_item(lane, call_id, number, &buf, NULL, &item->cargo);
    }
    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_stage_init(&stage, lane);
    (void)ep_outbox_stage(&stage, &buf, ep_item_length(item));
    ep_item_put(item, &buf);
    int rc = buf.error != 0
                 ? buf.error
                 : ep_outbox_tell_item(lane, call_id, number, &buf, &stage, &item->cargo);
    ep_outbox_unstage(&stage);
    ep_buf_finish(&buf);
    return rc;
}

/* Returns as ep_outbox_tell(). */
static int tell(struct ep_lane *lane, uint64_t call_id, uint64_t number, struct ep_served *served)
{
    uint8_t byte = (uint8_t)served->status;
    struct ep_buf buf;

    switch (served->what) {
    case EP_SERVED_STATUS:
        ep_buf_init(&buf, &byte, 1, 1);
        buf.length = 1;
        return ep_outbox_tell(lane, call_id, number, EP_ANSWER_STATUS, &buf);
    case EP_SERVED_VALUE:
        return ep_outbox_tell(lane, call_id, number, EP_ANSWER_VALUE, &served->buf);
    case EP_SERVED_ITEM: return tell_item(lane, call_id, number, served->item);
    default: return 1;
    }
}

/* --- serving -------------------------------------------------------------------------------- */

static struct ep_host *keep_host(struct ep_lane *lane)
{
    pthread_mutex_lock(&lane->outbox.lock);
    struct ep_host *host = lane->state == EP_LANE_ATTACHED ? lane->host : NULL;
    if (host != NULL)
        enif_keep_resource(host);
    pthread_mutex_unlock(&lane->outbox.lock);
    return host;
}

static void finish_reply(struct ep_lane *lane, struct ep_reply *reply)
{
    ep_cargo_free(reply->cargo);
    reply->cargo = NULL;
    ep_reply_drop(lane, reply);
}

/* The question lies in private memory, or is a PUT. */
static enum py_nif_served serve(ErlNifEnv *env, struct ep_call_ref *ref,
                                const struct ep_reply *reply, const uint8_t *payload,
                                struct ep_host *host, struct ep_waiter *late)
{
    struct ep_lane *lane = ref->lane;
    uint64_t call_id = ep_call_id(ref->call), number = reply->msg.subject;
    struct ep_question_source source = {.host = host,
                                        .payload = payload,
                                        .length = reply->msg.length,
                                        .is_block =
                                            payload == reply->payload && reply->host != NULL,
                                        .is_dirty = ep_encoding_is_dirty(),
                                        .env = env};
    struct ep_waiter waiter = {
        .kind = EP_WAITER_CALL, .who = lane, .id = call_id, .number = number};
    struct ep_served served;

    enif_keep_resource(lane);
    ep_question_serve(&source, &waiter, &served);
    if (served.what != EP_SERVED_WAITS)
        enif_release_resource(lane);
    if (served.what == EP_SERVED_FORGED)
        (void)ep_peer_kill(host, EP_KILL_VIOLATION);
    int rc = tell(lane, call_id, number, &served);
    if (rc <= 0 && served.item != NULL) {
        ep_object_put_back(served.object, EP_SIDE_PYTHON, served.item, env);
        served.item = NULL;
    }
    if (rc < 0) /* Python waits: interrupted is better than for ever */
        (void)ep_interrupt(lane, call_id);
    if (late != NULL && served.receiver.kind != EP_WAITER_NONE) {
        ep_waiter_wake(late, env, EP_STATUS_AGAIN);
        *late = served.receiver;
        served.receiver.kind = EP_WAITER_NONE;
    }
    ep_served_finish(&served);
    return served.what == EP_SERVED_LONG ? PY_NIF_SERVED_LONG : PY_NIF_SERVED;
}

/* The call waits for its reply again. Takes the reply unless it is LONG. */
static enum py_nif_served serve_begun(ErlNifEnv *env, struct ep_call_ref *ref,
                                      struct ep_reply *reply, struct ep_waiter *late)
{
    struct ep_host *host = keep_host(ref->lane);
    enum py_nif_served result = PY_NIF_SERVED;
    const uint8_t *payload = payload_of(reply);
    uint8_t *copy = NULL;

    if (reply->host != NULL && reply->payload[1] != EP_QUESTION_PUT) {
        copy = enif_alloc(reply->msg.length);
        if (copy != NULL)
            memcpy(copy, reply->payload, reply->msg.length);
        payload = copy;
    }
    if (host != NULL && payload != NULL)
        result = serve(env, ref, reply, payload, host, late);
    else if (host != NULL)
        (void)ep_interrupt(ref->lane, ep_call_id(ref->call));
    enif_free(copy);
    if (host != NULL)
        enif_release_resource(host);
    if (result != PY_NIF_SERVED_LONG)
        finish_reply(ref->lane, reply);
    return result;
}

/* Leaves the question to a dirty scheduler. */
static enum py_nif_served hold(struct ep_call_ref *ref, const struct ep_reply *reply)
{
    ref->question = enif_alloc(sizeof(*ref->question));
    ref->question->reply = *reply;
    return PY_NIF_SERVED_LONG;
}

enum py_nif_served py_nif_serve(ErlNifEnv *env, struct ep_call_ref *ref, struct ep_reply *reply,
                                struct ep_waiter *late)
{
    if (!ep_outbox_begin_question(ref->lane, ref->call, reply->msg.subject)) {
        finish_reply(ref->lane, reply);
        return PY_NIF_SERVED_DONE;
    }
    if (reply->msg.length > EP_ANSWER_COPY && !ep_encoding_is_dirty())
        return hold(ref, reply);
    enum py_nif_served result = serve_begun(env, ref, reply, late);
    return result == PY_NIF_SERVED_LONG ? hold(ref, reply) : result;
}

enum py_nif_served py_nif_serve_on(ErlNifEnv *env, struct ep_call_ref *ref)
{
    struct py_nif_question *question = ref->question;

    ref->question = NULL;
    enum py_nif_served result = serve_begun(env, ref, &question->reply, NULL);
    enif_free(question);
    return result;
}

void py_nif_drop_question(struct ep_call_ref *ref)
{
    if (ref->question == NULL)
        return;
    finish_reply(ref->lane, &ref->question->reply);
    enif_free(ref->question);
    ref->question = NULL;
}
