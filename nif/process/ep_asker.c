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
#include "ep_question.h"
#include "ep_task.h"
#include "ep_wake.h"

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

/* --- questions about objects ------------------------------------------------------------ */

/* As ep_waiter.h has it. */
static bool is_there(void *object)
{
    const struct ep_asker *asker = object;

    return !asker->is_answered && !ep_object_host_is_gone(asker->host);
}

static void wake_asker(void *object, enum ep_status status)
{
    struct ep_asker *asker = object;
    uint8_t byte = (uint8_t)status;

    pthread_mutex_lock(&asker->host->lock);
    (void)answer_locked(asker, EP_ANSWER_STATUS, &byte, 1, NULL);
    pthread_mutex_unlock(&asker->host->lock);
}

/* Returns whether nobody has done so since the reaper looked. */
static bool drop_later(struct ep_asker *asker)
{
    struct ep_vm *vm = asker->host->vm;

    pthread_mutex_lock(&vm->objects->lock);
    asker->next_orphan = vm->objects->dropped;
    vm->objects->dropped = asker;
    pthread_mutex_unlock(&vm->objects->lock);
    return !atomic_exchange(&vm->objects->has_dropped, true);
}

static void drop_asker(void *object)
{
    struct ep_vm *vm = ((struct ep_asker *)object)->host->vm;

    if (drop_later(object))
        ep_wake_reaper(vm);
}

static void release_dropped(struct ep_vm *vm)
{
    pthread_mutex_lock(&vm->objects->lock);
    struct ep_asker *asker = vm->objects->dropped;
    vm->objects->dropped = NULL;
    pthread_mutex_unlock(&vm->objects->lock);
    while (asker != NULL) {
        struct ep_asker *next = asker->next_orphan;
        enif_release_resource(asker);
        asker = next;
    }
}

void ep_asker_open(void)
{
    ep_waiter_threads = (struct ep_waiter_threads){
        .is_there = is_there, .wake = wake_asker, .drop = drop_asker, .release = release_dropped};
}

/* Under host->lock. 0, or an errno as answer_locked(): the question is still open. */
static int answer_served(struct ep_asker *asker, const struct ep_served *served)
{
    uint8_t byte = (uint8_t)served->status;
    struct ep_buf buf;

    switch (served->what) {
    case EP_SERVED_STATUS: return answer_locked(asker, EP_ANSWER_STATUS, &byte, 1, NULL);
    case EP_SERVED_VALUE:
        return answer_locked(asker, EP_ANSWER_VALUE, served->buf.data, served->buf.length, NULL);
    case EP_SERVED_ITEMS:
        return served->buf.error != 0 ? served->buf.error
                                      : answer_locked(asker, EP_ANSWER_ITEMS, served->buf.data,
                                                      served->buf.length, NULL);
    default: break;
    }
    struct ep_item *item = served->item;
    if (item->n_tail == 0)
        return answer_locked(asker, EP_ANSWER_VALUE, item->head, item->n_head, &item->cargo);
    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_item_put(item, &buf);
    int rc = buf.error != 0
                 ? -ENOMEM
                 : answer_locked(asker, EP_ANSWER_VALUE, buf.data, buf.length, &item->cargo);
    ep_buf_finish(&buf);
    return rc;
}

/* Under host->lock. Where there is no room for an outcome at the moment, or no memory, Python is to
 * ask again. Returns whether the item was not sent. */
static bool answer_or_again(struct ep_asker *asker, const struct ep_served *served)
{
    uint8_t byte = EP_STATUS_AGAIN;

    if (answer_served(asker, served) == 0)
        return false;
    (void)answer_locked(asker, EP_ANSWER_STATUS, &byte, 1, NULL);
    return served->item != NULL;
}

/* What is served in the reaper, under host->lock. False: a process has to. */
static bool serve_here(struct ep_host *host, struct ep_asker *asker, int *ret_rc)
{
    struct ep_question_source source = {.host = host,
                                        .payload = asker->question.data,
                                        .length = asker->question.length,
                                        .is_short = true};
    struct ep_waiter waiter = {
        .kind = EP_WAITER_THREAD, .who = asker, .id = asker->id, .number = host->id};
    struct ep_served served;

    /* SUBTLE: the waiter takes the reference that the caller has, or it goes to the list of what is
     * to be dropped; each asker is there once at most. */
    ep_question_serve(&source, &waiter, &served);
    bool is_over = served.what != EP_SERVED_LONG;
    *ret_rc = served.what == EP_SERVED_FORGED ? -EPROTO : 0;
    asker->is_read |= is_over; /* it has no block */
    if (served.unwaited.kind != EP_WAITER_NONE) {
        uint8_t byte = EP_STATUS_CANCELLED;
        (void)answer_locked(served.unwaited.who, EP_ANSWER_STATUS, &byte, 1, NULL);
    }
    /* Items that were lent and not sent are found by whoever looks next. */
    if (served.what <= EP_SERVED_ITEMS && answer_or_again(asker, &served)) {
        ep_object_put_back(served.object, EP_SIDE_PYTHON, served.item, NULL);
        served.item = NULL;
    }
    ep_served_finish(&served);
    if (is_over && served.what != EP_SERVED_WAITS)
        (void)drop_later(asker); /* the reaper looks before it sleeps */
    return is_over;
}

bool ep_asker_is_own(const struct ep_asker *asker)
{
    /* As it was judged: of a long one, the beginning lies in its block. */
    return asker->is_own;
}

void ep_asker_serve(struct ep_asker *asker, ErlNifEnv *env, const uint8_t *payload)
{
    struct ep_host *host = asker->host;
    struct ep_question_source source = {.host = host,
                                        .payload = payload,
                                        .length = asker->question.length,
                                        .is_dirty = true,
                                        .env = env};
    struct ep_waiter waiter = {
        .kind = EP_WAITER_THREAD, .who = asker, .id = asker->id, .number = host->id};
    struct ep_served served;

    enif_keep_resource(asker);
    ep_question_serve(&source, &waiter, &served);
    if (served.what == EP_SERVED_FORGED)
        (void)ep_peer_kill(host, EP_KILL_VIOLATION);
    if (served.what <= EP_SERVED_ITEM) {
        pthread_mutex_lock(&host->lock);
        bool is_left = answer_or_again(asker, &served);
        pthread_mutex_unlock(&host->lock);
        if (is_left) {
            ep_object_put_back(served.object, EP_SIDE_PYTHON, served.item, env);
            served.item = NULL;
        }
    }
    ep_served_finish(&served);
    if (served.what != EP_SERVED_WAITS)
        enif_release_resource(asker);
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

static bool is_attached(struct ep_lane *lane, const struct ep_host *host, bool *ret_has_own_gil)
{
    pthread_mutex_lock(&lane->outbox.lock);
    bool is = lane->state == EP_LANE_ATTACHED && lane->host == host;
    *ret_has_own_gil = lane->has_own_gil;
    pthread_mutex_unlock(&lane->outbox.lock);
    return is;
}

/* A lane that the question of a thread may count for, or NULL. The worker chose one of its
 * interpreter. If that has ended and the worker did not know yet, any other lane of the main
 * interpreter does as well: the thread may run a task of it. Under host->lock. */
static struct ep_lane *lane_for(struct ep_host *host, struct ep_lane *chosen)
{
    bool has_own_gil = false;

    if (chosen != NULL && is_attached(chosen, host, &has_own_gil))
        return chosen;
    if (has_own_gil)
        return NULL;
    for (uint32_t i = 1; i < host->n_lanes; i++) {
        struct ep_lane *lane = host->lanes[i];
        if (lane != NULL && is_attached(lane, host, &has_own_gil) && !has_own_gil)
            return lane;
    }
    return NULL;
}

/* Whether it asks about an object. Of a long one the beginning is read, and judged again where the
 * copy is. */
static bool is_own(struct ep_host *host, const struct ep_msg *msg)
{
    const uint8_t *payload;
    uint8_t head[2];

    if (msg->length < sizeof(head) || ep_lane_vm_payload(&host->control_lane, msg, &payload) < 0)
        return false;
    memcpy(head, payload, sizeof(head));
    return ep_question_is_own(head, sizeof(head));
}

/* Gives the question to py_callback_runner. Its payload stays in the worker's block until the
 * process that runs the callback copies it. */
static int asked(struct ep_host *host, struct ep_lane *chosen, const struct ep_msg *msg,
                 struct ep_cargo **cargo)
{
    struct ep_vm *vm = host->vm;

    if (host->questions >= EP_QUESTIONS_MAX)
        return -EPROTO;
    struct ep_lane *lane = lane_for(host, chosen);
    struct ep_asker *asker =
        lane == NULL ? NULL : enif_alloc_resource(ep_asker_type, sizeof(*asker));
    if (asker == NULL)
        return refuse(host, msg);
    *asker = (struct ep_asker){
        .host = host,
        .lane = lane,
        .id = msg->call_id,
        .env_id = lane == chosen ? msg->subject : 0, /* of the request that has ended */
        .is_nested = lane == chosen && msg->aux != 0,
        .question = *msg,
        .cargo = *cargo,
    };
    *cargo = NULL;
    enif_keep_resource(host);
    enif_keep_resource(lane);
    host->questions++;

    int rc;
    asker->is_own = is_own(host, msg);
    if (asker->is_own && (msg->flags & EP_FLAG_BLOCK) == 0 && serve_here(host, asker, &rc))
        return rc;

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

/* The call has ended with its context, or the worker made the reply up. */
static int dropped(struct ep_host *host, const struct ep_msg *msg)
{
    ep_peer_release_payload(host, msg);
    if (host->thread_late == 0)
        return -EPROTO;
    host->thread_late--;
    return 0;
}

/* The outcome of a request that a thread ran, or of a task. */
static int replied(struct ep_host *host, struct ep_lane *lane, const struct ep_msg *msg,
                   struct ep_cargo **cargo)
{
    struct ep_reply reply = {.msg = *msg};

    reply.msg.flags &= (uint16_t)~EP_FLAG_TIMED;
    if (lane == NULL)
        return dropped(host, msg);
    if ((msg->flags & EP_FLAG_BLOCK) != 0) {
        reply.msg.flags |= EP_REPLY_CONTROL;
        reply.payload = host->control_lane.peer_slab_mem + msg->block;
        reply.host = host;
        enif_keep_resource(host);
    }
    reply.cargo = *cargo;
    *cargo = NULL;
    /* Under the lock that whoever ends the lane holds while it counts what may still come and
     * fails the calls: so each reply is one or the other. */
    ep_inbox_enter(lane);
    struct ep_call *call = ep_call_find(lane, msg->call_id);
    bool is_open = call != NULL && ep_call_place(call) == EP_PLACE_THREAD;
    bool is_task = is_open && call->is_task; /* its entry may be another's once it was delivered */
    bool ok = is_open && ep_call_deliver(lane, NULL, call, &reply);
    ep_inbox_leave(lane, NULL);
    if (ok && is_task)
        ep_task_ended(host);
    if (ok)
        return 0;
    if (is_open) {
        ep_reply_drop(lane, &reply);
        return -EPROTO;
    }
    if (reply.host != NULL)
        enif_release_resource(host);
    *cargo = reply.cargo; /* the caller frees it */
    return dropped(host, msg);
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
