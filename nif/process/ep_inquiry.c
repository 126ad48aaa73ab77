/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_inquiry.h"

#include "ep_atoms.h"
#include "ep_lanes.h"
#include "ep_note.h"
#include "ep_peer.h"
#include "ep_term_decode.h"

#include <errno.h>
#include <string.h>

/* An open inquiry: an Erlang process waits for news of an interpreter. */
struct ep_inquiry {
    struct ep_inquiry *next; /* under host->lock */
    uint64_t made_ns;
    uint64_t id;
    ErlNifPid pid;
    ErlNifEnv *env; /* holds tag */
    ERL_NIF_TERM tag;
};

static ERL_NIF_TERM make_answer(struct ep_host *host, ErlNifEnv *env, const struct ep_msg *msg,
                                const uint8_t *payload)
{
    struct ep_source source = {
        .start = payload, .size = msg->length, .max_words = EP_MAINTAINED_MAX};
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
        return ep_term_python_error(env, value, message.data, message.count, false);
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

int ep_inquiry_receive(struct ep_host *host, const struct ep_msg *msg)
{
    struct ep_inquiry **at = &host->inquiries;
    const uint8_t *bytes = NULL;

    while (*at != NULL && (*at)->id != msg->call_id)
        at = &(*at)->next;
    struct ep_inquiry *inquiry = *at;
    if (inquiry == NULL || msg->length > EP_MAINTAINED_MAX)
        return -EPROTO;
    uint8_t *copy = enif_alloc(msg->length > 0 ? msg->length : 1);
    if (copy == NULL)
        return -EPROTO; /* no memory: the process cannot be served any more */
    if (ep_lane_vm_payload(&host->control_lane, msg, &bytes) == 0)
        memcpy(copy, bytes, msg->length);
    ep_peer_release_payload(host, msg);
    *at = inquiry->next;
    tell(inquiry, make_answer(host, inquiry->env, msg, copy));
    enif_free(copy);
    return 0;
}

/* index: the number of the lane in that host. */
static int inquire(struct ep_host *host, const struct ep_lane *lane, uint32_t index,
                   struct ep_inquiry *inquiry, bool is_first, const struct ep_buf *payload)
{
    struct ep_msg head = {
        .kind = EP_KIND_MAINTAIN, .flags = is_first ? EP_FLAG_FIRST : 0, .aux = index};

    pthread_mutex_lock(&host->lock);
    inquiry->id = head.call_id = host->next_inquiry++;
    int rc = host->lanes[index] == lane ? ep_note_send(host, &head, payload->data, payload->length)
                                        : -ESTALE;
    if (rc == 0) {
        inquiry->next = host->inquiries;
        host->inquiries = inquiry;
    }
    pthread_mutex_unlock(&host->lock);
    return rc;
}

int ep_inquiry_send(struct ep_lane *lane, const ErlNifPid *pid, ERL_NIF_TERM tag, bool is_first,
                    const struct ep_buf *payload)
{
    pthread_mutex_lock(&lane->outbox.lock);
    struct ep_host *host = lane->state == EP_LANE_ATTACHED ? lane->host : NULL;
    uint32_t index = lane->index;
    if (host != NULL)
        enif_keep_resource(host);
    pthread_mutex_unlock(&lane->outbox.lock);
    if (host == NULL)
        return -ESTALE;

    struct ep_inquiry *inquiry = enif_alloc(sizeof(*inquiry));
    int rc = -ENOMEM;
    if (inquiry != NULL) {
        inquiry->pid = *pid;
        inquiry->made_ns = ep_clock_ns();
        inquiry->env = enif_alloc_env();
        inquiry->tag = enif_make_copy(inquiry->env, tag);
        rc = inquire(host, lane, index, inquiry, is_first, payload);
        if (rc < 0) {
            enif_free_env(inquiry->env);
            enif_free(inquiry);
        }
    }
    enif_release_resource(host);
    return rc;
}

bool ep_inquiry_is_young(const struct ep_host *host, uint64_t ns)
{
    /* The newest comes first. */
    return host->inquiries != NULL && ep_clock_ns() - host->inquiries->made_ns < ns;
}

void ep_inquiry_fail_all(struct ep_host *host)
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
