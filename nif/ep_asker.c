/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_asker.h"

#include "ep_answer.h"
#include "ep_atoms.h"
#include "ep_calls.h"
#include "ep_consume.h"
#include "ep_host.h"
#include "ep_term.h"

#include <errno.h>
#include <string.h>

/* Somebody waits for news of an interpreter. */
struct ep_inquiry {
    struct ep_inquiry *next; /* under host->lock */
    uint64_t id;
    ErlNifPid pid;
    ErlNifEnv *env; /* holds tag */
    ERL_NIF_TERM tag;
};

void ep_asker_destroy(ErlNifEnv *env, void *object)
{
    struct ep_asker *asker = object;

    (void)env;
    enif_free(asker->payload);
    if (asker->host != NULL)
        enif_release_resource(asker->host);
    if (asker->lane != NULL)
        enif_release_resource(asker->lane);
}

/* --- sending ------------------------------------------------------------------------ */

/* What control lane messages have beside struct ep_msg. Under host->lock. */
static int send(struct ep_host *host, const struct ep_msg *head, const struct ep_buf *payload)
{
    struct ep_lane_vm *shm = &host->control_lane;
    struct ep_slot *slot;
    uint64_t block;

    if (host->dead)
        return -ESTALE;
    int rc = ep_ring_reserve(&shm->call, &slot);
    if (rc < 0)
        return rc;
    ep_slot_begin(slot, (enum ep_kind)head->kind, (uint8_t)head->flags, (uint8_t)head->aux,
                  head->call_id, head->subject);
    ep_slot_set_stamp(slot, head->stamp);
    slot->length = (uint32_t)payload->length;
    if (payload->length > EP_INLINE_MAX) {
        rc = ep_reclaim_collect(&shm->reclaim_rx, &shm->slab);
        if (rc >= 0)
            rc = ep_slab_alloc(&shm->slab, payload->length, &block);
        if (rc < 0)
            return rc;
        memcpy(shm->slab_mem + block, payload->data, payload->length);
        ep_slot_set_block(slot, block);
    } else if (payload->length > 0) {
        memcpy(slot->data, payload->data, payload->length);
    }
    (void)ep_ring_commit(&shm->call);
    if (ep_bell_must_ring(&shm->park))
        ep_futex_wake(shm->futex);
    return 0;
}

int ep_asker_answer(struct ep_asker *asker, enum ep_answer how, const struct ep_buf *payload)
{
    struct ep_msg head = {.kind = EP_KIND_ANSWER, .aux = how, .call_id = asker->id};

    pthread_mutex_lock(&asker->host->lock);
    int rc = send(asker->host, &head, payload);
    pthread_mutex_unlock(&asker->host->lock);
    return rc;
}

/* Under host->lock and the producer lock. */
static int submit_locked(struct ep_asker *asker, ErlNifEnv *env, const struct ep_request *request,
                         struct ep_call **ret_call)
{
    struct ep_lane *lane = asker->lane;
    struct ep_msg head = {.kind = request->kind, .flags = request->flags, .aux = lane->index};

    if (lane->state != EP_LANE_ATTACHED || lane->host != asker->host)
        return -ESTALE;
    struct ep_call *call = ep_call_alloc(lane);
    if (call == NULL)
        return -ENOBUFS;
    ep_call_begin(lane, call, env, request);
    call->place = EP_PLACE_THREAD;
    head.call_id = ep_call_id(call);
    head.subject = request->env_id;
    head.stamp = asker->id;
    int rc = send(asker->host, &head, request->payload);
    if (rc < 0)
        ep_call_free(lane, call);
    else
        *ret_call = call;
    return rc;
}

int ep_asker_submit(struct ep_asker *asker, ErlNifEnv *env, const struct ep_request *request,
                    struct ep_call **ret_call)
{
    pthread_mutex_lock(&asker->host->lock);
    pthread_mutex_lock(&asker->lane->producer);
    int rc = submit_locked(asker, env, request, ret_call);
    pthread_mutex_unlock(&asker->lane->producer);
    pthread_mutex_unlock(&asker->host->lock);
    return rc;
}

/* --- receiving ------------------------------------------------------------------------ */

/* Copies the payload to private memory and hands the block back. NULL with length 0, or
 * without memory. */
static uint8_t *take_payload(struct ep_host *host, const struct ep_msg *msg)
{
    const uint8_t *bytes = NULL;
    uint8_t *copy = enif_alloc(msg->length > 0 ? msg->length : 1);

    (void)ep_lane_vm_payload(&host->control_lane, msg, &bytes);
    if (copy != NULL && msg->length > 0)
        memcpy(copy, bytes, msg->length);
    if ((msg->flags & EP_FLAG_BLOCK) != 0)
        ep_reclaim_push(&host->control_lane.reclaim_tx, msg->block);
    return copy;
}

static void refuse(struct ep_host *host, uint64_t id)
{
    static const char name[] = "RuntimeError";
    static const char message[] = "the context of this thread has ended";
    struct ep_msg head = {.kind = EP_KIND_ANSWER, .aux = EP_ANSWER_RAISE, .call_id = id};
    struct ep_buf buf;
    uint8_t lent[128];

    ep_buf_init(&buf, lent, sizeof(lent), sizeof(lent));
    ep_etf_put_binary(&buf, name, sizeof(name) - 1);
    ep_etf_put_binary(&buf, message, sizeof(message) - 1);
    (void)send(host, &head, &buf);
}

static void asked(struct ep_host *host, struct ep_lane *lane, const struct ep_msg *msg,
                  uint8_t *payload)
{
    struct ep_asker *asker =
        lane == NULL ? NULL : enif_alloc_resource(ep_asker_type, sizeof(*asker));

    if (asker == NULL) {
        enif_free(payload);
        refuse(host, msg->call_id);
        return;
    }
    *asker = (struct ep_asker){
        .host = host,
        .lane = lane,
        .id = msg->call_id,
        .env_id = msg->subject,
        .is_nested = msg->aux != 0,
        .length = msg->length,
        .payload = payload,
    };
    enif_keep_resource(host);
    enif_keep_resource(lane);

    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM term = enif_make_resource(env, asker);
    enif_release_resource(asker);
    ErlNifPid pid = host->vm->callback_runner;
    if (!host->vm->has_callback_runner
        || !enif_send(NULL, &pid, env, enif_make_tuple2(env, am_py_callback, term)))
        refuse(host, msg->call_id);
    enif_free_env(env);
}

/* The outcome of a request that a thread ran. */
static int replied(struct ep_lane *lane, const struct ep_msg *msg, uint8_t *payload)
{
    struct ep_reply reply = {.payload = payload, .heap = payload};

    memcpy(&reply.msg, msg, offsetof(struct ep_msg, data));
    reply.msg.flags &= (uint16_t) ~(EP_FLAG_BLOCK | EP_FLAG_TIMED);
    struct ep_call *call = lane == NULL ? NULL : ep_call_find(lane, msg->call_id);
    if (call == NULL || call->place != EP_PLACE_THREAD) {
        /* It was failed already, as when the context was closed. */
        enif_free(payload);
        return 0;
    }
    ep_consumer_enter(lane);
    bool ok = ep_call_deliver(lane, NULL, call, &reply);
    ep_consumer_leave(lane, NULL);
    if (!ok)
        enif_free(payload);
    return ok ? 0 : -EPROTO;
}

static ERL_NIF_TERM make_answer(struct ep_host *host, ErlNifEnv *env, const struct ep_msg *msg,
                                const uint8_t *payload)
{
    struct ep_source source = {.start = payload, .size = msg->length};
    struct ep_etf_cursor cursor;
    struct ep_etf_token name, message;
    ERL_NIF_TERM value;

    ep_etf_cursor_init(&cursor, payload, msg->length);
    if (msg->aux == 0 && ep_term_decode(host->vm, env, &cursor, &source, &value) == 0)
        return enif_make_tuple2(env, am_ok, value);
    if (msg->aux != 0 && ep_etf_next(&cursor, &name) == 0 && name.type == EP_ETF_BINARY
        && ep_etf_next(&cursor, &message) == 0 && message.type == EP_ETF_BINARY) {
        if (!ep_atom_from_worker(host->vm, env, name.data, name.count, &value))
            memcpy(enif_make_new_binary(env, name.count, &value), name.data, name.count);
        return ep_term_python_error(env, value, message.data, message.count);
    }
    return enif_make_tuple2(env, am_error, am_unknown);
}

static void tell(struct ep_inquiry *inquiry, ERL_NIF_TERM answer)
{
    ErlNifEnv *env = inquiry->env;

    (void)enif_send(NULL, &inquiry->pid, env,
                    enif_make_tuple3(env, am_py_maintained, inquiry->tag, answer));
    enif_free_env(env);
    enif_free(inquiry);
}

static void maintained(struct ep_host *host, const struct ep_msg *msg, uint8_t *payload)
{
    struct ep_inquiry **at = &host->inquiries;

    while (*at != NULL && (*at)->id != msg->call_id)
        at = &(*at)->next;
    struct ep_inquiry *inquiry = *at;
    if (inquiry != NULL) {
        *at = inquiry->next;
        tell(inquiry, make_answer(host, inquiry->env, msg, payload));
    }
    enif_free(payload);
}

int ep_asker_receive(struct ep_host *host, const struct ep_msg *msg)
{
    const uint8_t *unused;
    struct ep_lane *lane = NULL;

    if (ep_lane_vm_payload(&host->control_lane, msg, &unused) < 0 || msg->stamp >= host->n_lanes)
        return -EPROTO;
    if (msg->kind != EP_KIND_CALLBACK && msg->kind != EP_KIND_RESULT && msg->kind != EP_KIND_ERROR
        && msg->kind != EP_KIND_DROPPED && msg->kind != EP_KIND_MAINTAINED)
        return -EPROTO;
    if (msg->kind == EP_KIND_ERROR && msg->aux > EP_ERROR_MAX)
        return -EPROTO;
    if (msg->stamp > 0)
        lane = host->lanes[msg->stamp];
    uint8_t *payload = take_payload(host, msg);
    if (payload == NULL)
        return -EPROTO; /* no memory: the process cannot be served any more */
    switch (msg->kind) {
    case EP_KIND_CALLBACK: asked(host, lane, msg, payload); return 0;
    case EP_KIND_MAINTAINED: maintained(host, msg, payload); return 0;
    default: return replied(lane, msg, payload);
    }
}

/* --- inquiries ------------------------------------------------------------------------ */

static int inquire(struct ep_host *host, struct ep_lane *lane, struct ep_inquiry *inquiry,
                   const struct ep_buf *payload)
{
    struct ep_msg head = {.kind = EP_KIND_MAINTAIN, .aux = lane->index};

    pthread_mutex_lock(&host->lock);
    inquiry->id = head.call_id = host->next_inquiry++;
    int rc = host->lanes[lane->index] == lane ? send(host, &head, payload) : -ESTALE;
    if (rc == 0) {
        inquiry->next = host->inquiries;
        host->inquiries = inquiry;
    }
    pthread_mutex_unlock(&host->lock);
    return rc;
}

int ep_inquire(struct ep_lane *lane, const ErlNifPid *pid, ErlNifEnv *env, ERL_NIF_TERM tag,
               const struct ep_buf *payload)
{
    (void)env;
    pthread_mutex_lock(&lane->producer);
    struct ep_host *host = lane->state == EP_LANE_ATTACHED ? lane->host : NULL;
    if (host != NULL)
        enif_keep_resource(host);
    pthread_mutex_unlock(&lane->producer);
    if (host == NULL)
        return -ESTALE;

    struct ep_inquiry *inquiry = enif_alloc(sizeof(*inquiry));
    int rc = -ENOMEM;
    if (inquiry != NULL) {
        inquiry->pid = *pid;
        inquiry->env = enif_alloc_env();
        inquiry->tag = enif_make_copy(inquiry->env, tag);
        rc = inquire(host, lane, inquiry, payload);
        if (rc < 0) {
            enif_free_env(inquiry->env);
            enif_free(inquiry);
        }
    }
    enif_release_resource(host);
    return rc;
}

void ep_inquiries_fail(struct ep_host *host)
{
    pthread_mutex_lock(&host->lock);
    struct ep_inquiry *inquiry = host->inquiries;
    host->inquiries = NULL;
    pthread_mutex_unlock(&host->lock);
    while (inquiry != NULL) {
        struct ep_inquiry *next = inquiry->next;
        tell(inquiry, enif_make_tuple2(inquiry->env, am_error, am_worker_died));
        inquiry = next;
    }
}
