/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_asker.h"

#include "ep_arrays.h"
#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_inbox.h"
#include "ep_inquiry.h"
#include "ep_lanes.h"
#include "ep_note.h"
#include "ep_peer.h"

#include <errno.h>
#include <string.h>

ErlNifResourceType *ep_asker_type;

/* --- sending ------------------------------------------------------------------------ */

/* Sends an outcome, which closes the question unless there is no room. Under host->lock. */
static int answer_locked(struct ep_asker *asker, enum ep_answer how, const uint8_t *bytes,
                         size_t length, struct ep_cargo **cargo)
{
    struct ep_msg head = {.kind = EP_KIND_ANSWER, .aux = how, .call_id = asker->id};

    if (asker->is_answered)
        return 0;
    if (cargo != NULL && *cargo != NULL) {
        head.flags = EP_FLAG_ARRAYS;
        int rc = ep_arrays_lend(asker->host, *cargo);
        if (rc == 0)
            rc = ep_arrays_keep_answer(asker->host, asker->id, *cargo);
        if (rc < 0)
            return rc;
        *cargo = NULL;
    }
    int rc = ep_note_send(asker->host, &head, bytes, length);
    if (rc != -EAGAIN) {
        asker->is_answered = true;
        asker->host->questions--;
    }
    return rc;
}

int ep_asker_answer(struct ep_asker *asker, enum ep_answer how, const struct ep_buf *payload,
                    struct ep_cargo **cargo)
{
    pthread_mutex_lock(&asker->host->lock);
    int rc = answer_locked(asker, how, payload->data, payload->length, cargo);
    pthread_mutex_unlock(&asker->host->lock);
    return rc;
}

/* The exception for a Python thread whose question gets no outcome. */
static void put_refusal(struct ep_buf *buf, const char *message)
{
    static const char name[] = "RuntimeError";

    ep_etf_put_binary(buf, name, sizeof(name) - 1);
    ep_etf_put_binary(buf, message, strlen(message));
}

/* Ends the question of an asker that no process holds any more: its process has died. */
static void answer_at_last(struct ep_asker *asker)
{
    struct ep_buf buf;
    uint8_t lent[128];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    put_refusal(&buf, "the process that ran the callback died");
    pthread_mutex_lock(&asker->host->lock);
    (void)answer_locked(asker, EP_ANSWER_RAISE, buf.data, buf.length, NULL);
    pthread_mutex_unlock(&asker->host->lock);
}

void ep_asker_destroy(ErlNifEnv *env, void *object)
{
    struct ep_asker *asker = object;

    (void)env;
    ep_cargo_free(asker->cargo);
    if (asker->host != NULL) {
        ep_asker_release(asker);
        answer_at_last(asker);
        enif_release_resource(asker->host);
    }
    if (asker->lane != NULL)
        enif_release_resource(asker->lane);
}

/* Under host->lock and the producer lock. */
static int submit_locked(struct ep_asker *asker, ErlNifEnv *env, const struct ep_request *request,
                         struct ep_call **ret_call)
{
    struct ep_lane *lane = asker->lane;
    struct ep_msg head = {.kind = request->kind, .flags = request->flags, .aux = lane->index};

    if (lane->state != EP_LANE_ATTACHED || lane->host != asker->host)
        return -ESTALE;
    struct ep_call *call = ep_call_begin(lane, env, request->urgent);
    if (call == NULL)
        return -ENOBUFS;
    call->op = request->op;
    call->bytes = (uint32_t)request->payload->length;
    ep_call_put(call, EP_PLACE_THREAD, 0);
    head.call_id = ep_call_id(call);
    head.subject = request->env_id;
    head.stamp = asker->id;
    int rc = request->cargo == NULL ? 0 : ep_arrays_lend(asker->host, *request->cargo);
    if (rc == 0)
        rc = ep_note_try(asker->host, &head, request->payload->data, request->payload->length);
    if (rc < 0) {
        ep_call_free(lane, call);
        return rc;
    }
    if (request->cargo != NULL) {
        ep_call_set_cargo(call, *request->cargo);
        *request->cargo = NULL;
    }
    *ret_call = call;
    return 0;
}

int ep_asker_submit(struct ep_asker *asker, ErlNifEnv *env, const struct ep_request *request,
                    struct ep_call **ret_call)
{
    pthread_mutex_lock(&asker->host->lock);
    pthread_mutex_lock(&asker->lane->outbox.lock);
    int rc = submit_locked(asker, env, request, ret_call);
    pthread_mutex_unlock(&asker->lane->outbox.lock);
    pthread_mutex_unlock(&asker->host->lock);
    return rc;
}

/* --- receiving ------------------------------------------------------------------------ */

uint8_t *ep_asker_copy(struct ep_asker *asker)
{
    const struct ep_msg *msg = &asker->question;
    const uint8_t *bytes = NULL;
    uint8_t *copy = enif_alloc(msg->length > 0 ? msg->length : 1);

    /* Its place was judged when it came; the host keeps the memory mapped. */
    if (copy != NULL && ep_lane_vm_payload(&asker->host->control_lane, msg, &bytes) == 0)
        memcpy(copy, bytes, msg->length);
    ep_asker_release(asker);
    return copy;
}

bool ep_asker_is_open(struct ep_asker *asker)
{
    pthread_mutex_lock(&asker->host->lock);
    bool is_open = !asker->host->dead && !asker->is_read;
    pthread_mutex_unlock(&asker->host->lock);
    return is_open;
}

void ep_asker_release(struct ep_asker *asker)
{
    pthread_mutex_lock(&asker->host->lock);
    if (!asker->is_read)
        ep_peer_release_payload(asker->host, &asker->question);
    asker->is_read = true;
    pthread_mutex_unlock(&asker->host->lock);
}

static int refuse(struct ep_host *host, const struct ep_msg *msg)
{
    struct ep_msg head = {.kind = EP_KIND_ANSWER, .aux = EP_ANSWER_RAISE, .call_id = msg->call_id};
    struct ep_buf buf;
    uint8_t lent[128];

    ep_peer_release_payload(host, msg);
    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    put_refusal(&buf, "the context of this thread has ended");
    (void)ep_note_send(host, &head, buf.data, buf.length);
    return 0;
}

static bool is_attached(struct ep_lane *lane, const struct ep_host *host)
{
    pthread_mutex_lock(&lane->outbox.lock);
    bool is = lane->state == EP_LANE_ATTACHED && lane->host == host;
    pthread_mutex_unlock(&lane->outbox.lock);
    return is;
}

/* Gives the question to py_callback_runner. Its payload stays in the worker's block until the
 * process that runs the callback copies it. */
static int asked(struct ep_host *host, struct ep_lane *lane, const struct ep_msg *msg,
                 struct ep_cargo **cargo)
{
    struct ep_vm *vm = host->vm;

    if (host->questions >= EP_QUESTIONS_MAX)
        return -EPROTO;
    struct ep_asker *asker = lane == NULL || !is_attached(lane, host)
                                 ? NULL
                                 : enif_alloc_resource(ep_asker_type, sizeof(*asker));
    if (asker == NULL)
        return refuse(host, msg);
    *asker = (struct ep_asker){
        .host = host,
        .lane = lane,
        .id = msg->call_id,
        .env_id = msg->subject,
        .is_nested = msg->aux != 0,
        .question = *msg,
        .cargo = *cargo,
    };
    *cargo = NULL;
    enif_keep_resource(host);
    enif_keep_resource(lane);
    host->questions++;

    /* SUBTLE: from here on the message holds the asker, or the list of orphans does. This
     * function must not give up the last reference: the destructor takes host->lock. */
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM term = enif_make_resource(env, asker);
    enif_release_resource(asker);
    pthread_mutex_lock(&vm->runner_lock);
    if (!vm->has_callback_runner
        || !enif_send(NULL, &vm->callback_runner, env,
                      enif_make_tuple2(env, am_py_callback, term))) {
        enif_keep_resource(asker);
        asker->next_orphan = vm->orphans;
        vm->orphans = asker;
    }
    pthread_mutex_unlock(&vm->runner_lock);
    enif_free_env(env);
    return 0;
}

void ep_asker_adopt(struct ep_vm *vm, ErlNifEnv *caller_env, const ErlNifPid *runner)
{
    pthread_mutex_lock(&vm->runner_lock);
    vm->callback_runner = *runner;
    vm->has_callback_runner = true;
    struct ep_asker *orphan = vm->orphans;
    vm->orphans = NULL;
    pthread_mutex_unlock(&vm->runner_lock);
    while (orphan != NULL) {
        struct ep_asker *next = orphan->next_orphan;
        ErlNifEnv *env = enif_alloc_env();
        ERL_NIF_TERM term = enif_make_resource(env, orphan);
        (void)enif_send(caller_env, runner, env, enif_make_tuple2(env, am_py_callback, term));
        enif_free_env(env);
        enif_release_resource(orphan);
        orphan = next;
    }
}

/* The outcome of a request that a thread ran. */
static int replied(struct ep_host *host, struct ep_lane *lane, const struct ep_msg *msg,
                   struct ep_cargo **cargo)
{
    struct ep_reply reply = {.msg = *msg};
    struct ep_call *call = lane == NULL ? NULL : ep_call_find(lane, msg->call_id);

    reply.msg.flags &= (uint16_t)~EP_FLAG_TIMED;
    if (call == NULL || ep_call_place(call) != EP_PLACE_THREAD) {
        /* The call has ended with its context, or the worker made the reply up. */
        ep_peer_release_payload(host, msg);
        if (host->thread_late == 0)
            return -EPROTO;
        host->thread_late--;
        return 0;
    }
    if ((msg->flags & EP_FLAG_BLOCK) != 0) {
        reply.msg.flags |= EP_REPLY_CONTROL;
        reply.payload = host->control_lane.peer_slab_mem + msg->block;
        reply.host = host;
        enif_keep_resource(host);
    }
    reply.cargo = *cargo;
    *cargo = NULL;
    ep_inbox_enter(lane);
    bool ok = ep_call_deliver(lane, NULL, call, &reply);
    ep_inbox_leave(lane, NULL);
    if (!ok)
        ep_reply_drop(lane, &reply);
    return ok ? 0 : -EPROTO;
}

int ep_asker_receive(struct ep_host *host, const struct ep_msg *msg, struct ep_cargo **cargo)
{
    const uint8_t *unused;

    if (ep_lane_vm_payload(&host->control_lane, msg, &unused) < 0 || msg->stamp >= host->n_lanes)
        return -EPROTO;
    struct ep_lane *lane = msg->stamp > 0 ? host->lanes[msg->stamp] : NULL;
    switch (msg->kind) {
    case EP_KIND_CALLBACK: return asked(host, lane, msg, cargo);
    case EP_KIND_MAINTAINED: return ep_inquiry_receive(host, msg);
    case EP_KIND_ERROR: return msg->aux > EP_ERROR_MAX ? -EPROTO : replied(host, lane, msg, cargo);
    case EP_KIND_DROPPED: return msg->length != 0 ? -EPROTO : replied(host, lane, msg, cargo);
    case EP_KIND_RESULT: return replied(host, lane, msg, cargo);
    default: return -EPROTO;
    }
}
