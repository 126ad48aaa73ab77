/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A message for a thread, with its payload behind it. */
struct message {
    struct message *next;
    struct ep_slot slot;
    uint8_t payload[];
};

/* A thread that waits for an answer. On its stack, in the list while it waits. */
struct asker {
    struct asker *next;
    uint64_t id;
    pthread_cond_t news;
    struct message *first, **last;
    struct ep_py_interrupt interrupt; /* of the request that it runs meanwhile */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct asker *askers; /* under the mutex */
static uint64_t next_id = 1; /* under the mutex */
static struct ep_worker *the_worker;

/* --- which context a thread belongs to --------------------------------------------- */

/* That of its interpreter; of several, one that runs a request. Attached. */
static struct ep_worker_lane *choose_lane(struct ep_worker *worker, uint64_t *ret_running)
{
    struct ep_worker_lane *chosen = NULL;

    *ret_running = 0;
    (void)pthread_mutex_lock(&worker->mutex);
    for (uint32_t i = 1; i < worker->n_lanes && *ret_running == 0; i++) {
        struct ep_worker_lane *lane = worker->lanes[i];
        if (lane == NULL || lane->context == NULL || !ep_py_context_is_here(lane->context))
            continue;
        /* Relaxed: a snapshot of what may change at any moment. */
        uint64_t running = atomic_load_explicit(lane->shm.running, memory_order_relaxed);
        if (chosen == NULL || running != 0) {
            chosen = lane;
            *ret_running = running;
        }
    }
    (void)pthread_mutex_unlock(&worker->mutex);
    return chosen;
}

/* --- the list ------------------------------------------------------------------------ */

static void enter(struct asker *asker)
{
    asker->first = NULL;
    asker->last = &asker->first;
    (void)pthread_cond_init(&asker->news, NULL);
    ep_py_interrupt_init(&asker->interrupt);
    (void)pthread_mutex_lock(&mutex);
    asker->id = next_id++;
    asker->next = askers;
    askers = asker;
    (void)pthread_mutex_unlock(&mutex);
}

static void leave(struct asker *asker)
{
    (void)pthread_mutex_lock(&mutex);
    for (struct asker **at = &askers; *at != NULL; at = &(*at)->next) {
        if (*at == asker) {
            *at = asker->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&mutex);
    (void)pthread_cond_destroy(&asker->news);
}

static struct asker *find(uint64_t id)
{
    struct asker *asker = askers;

    while (asker != NULL && asker->id != id)
        asker = asker->next;
    return asker;
}

static struct message *wait_for_message(struct asker *asker)
{
    (void)pthread_mutex_lock(&mutex);
    while (asker->first == NULL && !ep_worker_is_stopping(the_worker))
        (void)pthread_cond_wait(&asker->news, &mutex);
    struct message *message = asker->first;
    if (message != NULL) {
        asker->first = message->next;
        if (asker->first == NULL)
            asker->last = &asker->first;
    }
    (void)pthread_mutex_unlock(&mutex);
    return message;
}

static bool is_request(uint8_t kind)
{
    return kind == EP_KIND_CALL || kind == EP_KIND_EVAL || kind == EP_KIND_EXEC;
}

/* A request whose thread has its answer already: it has not run. */
static void drop(const struct ep_slot *slot)
{
    struct ep_worker_note note = {
        .kind = EP_KIND_DROPPED, .lane = slot->aux, .call_id = slot->call_id};

    if (is_request(slot->kind))
        (void)ep_worker_control_send(the_worker, &note);
}

/* NULL without memory. */
static struct message *copy_message(const struct ep_slot *slot, const uint8_t *payload)
{
    struct message *message = malloc(sizeof(*message) + slot->length);

    if (message != NULL) {
        message->next = NULL;
        memcpy(&message->slot, slot, sizeof(message->slot));
        memcpy(message->payload, payload, slot->length);
    }
    return message;
}

void ep_worker_thread_deliver(struct ep_worker *worker, const struct ep_slot *slot,
                              const uint8_t *payload)
{
    struct message *message = copy_message(slot, payload);

    (void)worker;
    if (message == NULL)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory for a message to a Python thread");

    (void)pthread_mutex_lock(&mutex);
    struct asker *asker = find(is_request(slot->kind) ? slot->stamp : slot->call_id);
    if (asker != NULL) {
        *asker->last = message;
        asker->last = &message->next;
        (void)pthread_cond_signal(&asker->news);
    }
    (void)pthread_mutex_unlock(&mutex);
    if (asker == NULL) {
        drop(slot);
        free(message);
    }
}

void ep_worker_thread_strike(uint64_t call_id, uint64_t number)
{
    (void)pthread_mutex_lock(&mutex);
    for (struct asker *asker = askers; asker != NULL; asker = asker->next)
        ep_py_interrupt_strike(&asker->interrupt, call_id, number);
    (void)pthread_mutex_unlock(&mutex);
}

void ep_worker_thread_stop(void)
{
    (void)pthread_mutex_lock(&mutex);
    for (struct asker *asker = askers; asker != NULL; asker = asker->next)
        (void)pthread_cond_signal(&asker->news);
    (void)pthread_mutex_unlock(&mutex);
}

/* --- requests that a thread runs ------------------------------------------------------ */

static bool run_request(struct asker *asker, struct ep_py_context *guest,
                        const struct message *message)
{
    const struct ep_slot *slot = &message->slot;
    struct ep_worker_note note = {.lane = slot->aux, .call_id = slot->call_id};
    struct ep_py_request request;
    struct ep_py_reply reply;
    struct ep_buf buf;

    if (ep_py_request_decode(guest, &request, slot, message->payload) < 0)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request is not in the format of docs/wire.md");
    ep_py_interrupt_begin(&asker->interrupt, guest, slot->call_id);
    ep_py_request_run(guest, &request);
    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    ep_py_request_encode(guest, &request, &buf, &reply);
    (void)ep_py_interrupt_end(&asker->interrupt);
    /* Only what forked us may go on. */
    bool is_forked = ep_py_is_forked();
    if (!is_forked) {
        note.kind = (uint8_t)reply.kind;
        note.aux = (uint8_t)reply.aux;
        note.payload = &buf;
        void *thread = ep_py_thread_detach();
        (void)ep_worker_control_send(the_worker, &note);
        ep_py_thread_attach(thread);
    }
    ep_buf_finish(&buf);
    ep_py_request_finish(&request);
    return !is_forked;
}

/* --- questions ------------------------------------------------------------------------- */

static int take_answer(struct message *message, struct ep_py_answer *ret_answer)
{
    ret_answer->aux = message->slot.aux;
    ret_answer->length = message->slot.length;
    ret_answer->payload = message->payload;
    ret_answer->block = (uint64_t)(uintptr_t)message; /* for release() */
    ret_answer->has_block = true;
    return 0;
}

/* Waits for the answer; runs what comes before it. Detached, and so at the end. */
static int wait_for_answer(struct asker *asker, struct ep_worker_lane *lane, void **thread,
                           struct ep_py_answer *ret_answer)
{
    struct ep_py_context *guest = NULL;
    struct message *message;
    int rc = -ECANCELED;

    while (rc == -ECANCELED && (message = wait_for_message(asker)) != NULL) {
        if (!is_request(message->slot.kind)) {
            rc = take_answer(message, ret_answer);
            break;
        }
        ep_py_thread_attach(*thread);
        bool ok = true;
        /* The context may have ended since the question. */
        if (guest == NULL && lane->context != NULL)
            guest = ep_py_guest_create(lane->context);
        if (guest == NULL)
            drop(&message->slot);
        else
            ok = run_request(asker, guest, message);
        *thread = ep_py_thread_detach();
        free(message);
        if (!ok)
            break;
    }
    if (guest != NULL) {
        ep_py_thread_attach(*thread);
        ep_py_guest_destroy(guest);
        *thread = ep_py_thread_detach();
    }
    return rc;
}

static int ask(struct ep_py_channel *channel, const struct ep_buf *question,
               struct ep_py_answer *ret_answer)
{
    struct asker asker;
    uint64_t running;

    (void)channel;
    struct ep_worker_lane *lane = choose_lane(the_worker, &running);
    if (lane == NULL)
        return -ECANCELED;
    /* subject: the namespace of the request that it counts for, and whether there is one. */
    uint64_t env_id = atomic_load_explicit(&lane->running_env, memory_order_relaxed);
    enter(&asker);
    struct ep_worker_note note = {
        .kind = EP_KIND_CALLBACK,
        .aux = running != 0,
        .lane = (uint8_t)lane->index,
        .call_id = asker.id,
        .subject = running != 0 ? env_id : 0,
        .payload = question,
    };
    void *thread = ep_py_thread_detach();
    int rc = ep_worker_control_send(the_worker, &note)
                 ? wait_for_answer(&asker, lane, &thread, ret_answer)
                 : -ECANCELED;
    leave(&asker);
    while (asker.first != NULL) {
        struct message *message = asker.first;
        asker.first = message->next;
        drop(&message->slot);
        free(message);
    }
    ep_py_thread_attach(thread);
    return rc;
}

static void release(struct ep_py_channel *channel, struct ep_py_answer *answer)
{
    (void)channel;
    free((void *)(uintptr_t)answer->block);
}

static bool is_open(const struct ep_py_channel *channel)
{
    (void)channel;
    return true;
}

void ep_worker_thread_init(struct ep_worker *worker)
{
    static struct ep_py_channel channel = {.is_open = is_open, .ask = ask, .release = release};
    const uint8_t *epoch = (const uint8_t *)worker->a.mem + EP_NAMES_EPOCH_OFFSET;

    the_worker = worker;
    ep_py_channel_set_shared(&channel, (const ep_atomic_u64 *)epoch);
}

/* --- maintenance ------------------------------------------------------------------------ */

#define MAINTAIN_STACK_SIZE (1u << 20)

static void *maintain(void *user)
{
    struct message *message = user;
    struct ep_worker_lane *lane = the_worker->lanes[message->slot.aux];
    struct ep_worker_note note = {.kind = EP_KIND_MAINTAINED, .call_id = message->slot.call_id};
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    /* The visit keeps the context from ending meanwhile. */
    (void)pthread_mutex_lock(&the_worker->mutex);
    bool is_there = lane != NULL && lane->context != NULL && !lane->is_leaving;
    if (is_there)
        lane->visitors++;
    (void)pthread_mutex_unlock(&the_worker->mutex);
    note.aux = 1;
    if (is_there) {
        note.aux = ep_py_maintain(lane->context, message->payload, message->slot.length, &buf);
        (void)pthread_mutex_lock(&the_worker->mutex);
        lane->visitors--;
        (void)pthread_cond_broadcast(&the_worker->lane_ended);
        (void)pthread_mutex_unlock(&the_worker->mutex);
    }
    note.payload = &buf;
    (void)ep_worker_control_send(the_worker, &note);
    ep_buf_finish(&buf);
    free(message);
    return NULL;
}

void ep_worker_maintain(struct ep_worker *worker, const struct ep_slot *slot,
                        const uint8_t *payload)
{
    if (slot->aux == 0 || slot->aux >= worker->n_lanes)
        ep_worker_die(EP_EXIT_PROTOCOL, "MAINTAIN of a lane that does not exist");
    struct message *message = copy_message(slot, payload);
    /* Without a thread there is no answer, and the VM leaves the interpreter out. */
    if (message == NULL || ep_thread_start(maintain, message, MAINTAIN_STACK_SIZE, false) < 0)
        free(message);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the thread frees it. */
}
