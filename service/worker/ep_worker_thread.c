/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_thread.h"

#include "ep_array.h"
#include "ep_buf.h"
#include "ep_crashpoint.h"
#include "ep_py_channel.h"
#include "ep_py_context.h"
#include "ep_py_interrupt.h"
#include "ep_py_strike.h"
#include "ep_worker_guest.h"
#include "ep_worker_lane.h"
#include "ep_worker_message.h"
#include "ep_worker_note.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A thread that waits for an outcome. On its stack, in the list while it waits. */
struct asker {
    struct asker *next;
    uint64_t id;
    pthread_cond_t news;
    struct ep_worker_message *first, **last;
    struct ep_py_interrupt interrupt; /* of the request that it runs meanwhile */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct asker *askers;                            /* under the mutex */
static unsigned n_questions;                            /* of coroutines, too; under the mutex */
static pthread_cond_t fewer = PTHREAD_COND_INITIALIZER; /* questions than there may be */
static uint64_t next_id = 1;                            /* under the mutex */
static struct ep_worker *the_worker;

/* --- the list ------------------------------------------------------------------------ */

/* Waits while as many threads ask as may. Detached. */
static void enter(struct asker *asker)
{
    asker->first = NULL;
    asker->last = &asker->first;
    (void)pthread_cond_init(&asker->news, NULL);
    ep_py_interrupt_init(&asker->interrupt, NULL);
    (void)pthread_mutex_lock(&mutex);
    while (n_questions >= EP_THREAD_QUESTIONS_MAX && !ep_worker_is_stopping(the_worker))
        (void)pthread_cond_wait(&fewer, &mutex);
    asker->id = next_id++;
    asker->next = askers;
    askers = asker;
    n_questions++;
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
    n_questions--;
    (void)pthread_cond_signal(&fewer);
    (void)pthread_mutex_unlock(&mutex);
    (void)pthread_cond_destroy(&asker->news);
}

bool ep_worker_thread_take_question(void)
{
    (void)pthread_mutex_lock(&mutex);
    bool has_room = n_questions < EP_THREAD_QUESTIONS_MAX;
    if (has_room)
        n_questions++;
    (void)pthread_mutex_unlock(&mutex);
    return has_room;
}

void ep_worker_thread_give_question_back(void)
{
    (void)pthread_mutex_lock(&mutex);
    n_questions--;
    (void)pthread_cond_signal(&fewer);
    (void)pthread_mutex_unlock(&mutex);
}

static struct asker *find(uint64_t id)
{
    struct asker *asker = askers;

    while (asker != NULL && asker->id != id)
        asker = asker->next;
    return asker;
}

static struct ep_worker_message *wait_for_message(struct asker *asker)
{
    (void)pthread_mutex_lock(&mutex);
    while (asker->first == NULL && !ep_worker_is_stopping(the_worker))
        (void)pthread_cond_wait(&asker->news, &mutex);
    struct ep_worker_message *message = asker->first;
    if (message != NULL) {
        asker->first = message->next;
        if (asker->first == NULL)
            asker->last = &asker->first;
    }
    (void)pthread_mutex_unlock(&mutex);
    return message;
}

void ep_worker_thread_deliver(struct ep_worker *worker, const struct ep_cell *cell,
                              const uint8_t *payload)
{
    struct ep_worker_message *message = ep_worker_message_copy(cell, payload);

    if (message == NULL)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory for a message to a Python thread");

    (void)pthread_mutex_lock(&mutex);
    struct asker *asker =
        find(ep_worker_guest_is_request(cell->kind) ? cell->stamp : cell->call_id);
    if (asker != NULL) {
        *asker->last = message;
        asker->last = &message->next;
        (void)pthread_cond_signal(&asker->news);
    }
    (void)pthread_mutex_unlock(&mutex);
    if (asker == NULL) {
        ep_worker_guest_drop(worker, cell);
        free(message);
    }
}

void ep_worker_thread_strike(uint64_t call_id, uint64_t number, bool is_forced)
{
    (void)pthread_mutex_lock(&mutex);
    for (struct asker *asker = askers; asker != NULL; asker = asker->next)
        ep_py_strike(&asker->interrupt, call_id, number, is_forced);
    (void)pthread_mutex_unlock(&mutex);
}

void ep_worker_thread_stop(void)
{
    (void)pthread_mutex_lock(&mutex);
    for (struct asker *asker = askers; asker != NULL; asker = asker->next)
        (void)pthread_cond_signal(&asker->news);
    (void)pthread_cond_broadcast(&fewer);
    (void)pthread_mutex_unlock(&mutex);
}

/* --- questions ------------------------------------------------------------------------- */

static int take_outcome(struct ep_worker_message *message, struct ep_py_outcome *ret_outcome)
{
    ret_outcome->aux = message->cell.aux;
    ret_outcome->length = message->cell.length;
    ret_outcome->has_arrays = (message->cell.flags & EP_FLAG_ARRAYS) != 0;
    ret_outcome->asker = message->cell.call_id;
    ret_outcome->payload = message->payload;
    ret_outcome->block = (uint64_t)(uintptr_t)message; /* for release() */
    ret_outcome->has_block = true;
    return 0;
}

/* Waits for the outcome; runs what comes before it. Detached, and so at the end. */
static int wait_for_outcome(struct asker *asker, struct ep_worker_lane *lane, void **thread,
                            struct ep_py_outcome *ret_outcome)
{
    struct ep_py_context *guest = NULL;
    struct ep_worker_message *message;
    int rc = -ECANCELED;

    while (rc == -ECANCELED && (message = wait_for_message(asker)) != NULL) {
        EP_CRASHPOINT("thread.message");
        if (!ep_worker_guest_is_request(message->cell.kind)) {
            rc = take_outcome(message, ret_outcome);
            break;
        }
        ep_py_context_attach_thread(*thread);
        /* The context may have ended since the question. */
        if (guest == NULL && lane->context != NULL)
            guest = ep_py_context_create_guest(lane->context);
        if (guest == NULL)
            ep_worker_guest_drop(the_worker, &message->cell);
        else
            ep_worker_guest_run(the_worker, &asker->interrupt, guest, message);
        *thread = ep_py_context_detach_thread();
        free(message);
    }
    if (guest != NULL) {
        ep_py_context_attach_thread(*thread);
        ep_py_context_destroy_guest(guest);
        *thread = ep_py_context_detach_thread();
    }
    return rc;
}

static int ask(struct ep_py_channel *channel, const struct ep_buf *question, bool has_arrays,
               struct ep_py_outcome *ret_outcome)
{
    struct asker asker;
    uint64_t running;

    (void)channel;
    struct ep_worker_lane *lane = ep_worker_guest_choose_lane(the_worker, &running);
    if (lane == NULL)
        return -ECANCELED;
    /* subject: the namespace of the request that it counts for, and whether there is one. */
    uint64_t env_id = atomic_load_explicit(&lane->running_env, memory_order_relaxed);
    void *thread = ep_py_context_detach_thread();
    enter(&asker);
    EP_CRASHPOINT("thread.entered");
    struct ep_worker_note note = {
        .kind = EP_KIND_CALLBACK,
        .aux = running != 0,
        .lane = (uint8_t)lane->index,
        .call_id = asker.id,
        .subject = running != 0 ? env_id : 0,
        .has_arrays = has_arrays,
        .payload = question,
    };
    int rc = ep_worker_note_send(the_worker, &note)
                 ? wait_for_outcome(&asker, lane, &thread, ret_outcome)
                 : -ECANCELED;
    leave(&asker);
    EP_CRASHPOINT("thread.left");
    while (asker.first != NULL) {
        struct ep_worker_message *message = asker.first;
        asker.first = message->next;
        ep_worker_guest_drop(the_worker, &message->cell);
        free(message);
    }
    ep_py_context_attach_thread(thread);
    return rc;
}

static void release(struct ep_py_channel *channel, struct ep_py_outcome *outcome)
{
    (void)channel;
    free((void *)(uintptr_t)outcome->block);
}

static void claim(struct ep_py_channel *channel, const struct ep_py_outcome *outcome,
                  const struct ep_buf *list)
{
    struct ep_worker_note note = {.kind = EP_KIND_ARRAYS,
                                  .aux = EP_ARRAYS_CLAIM,
                                  .has_arrays = true,
                                  .call_id = outcome->asker,
                                  .payload = list};

    (void)channel;
    EP_CRASHPOINT("thread.before_claim");
    void *thread = ep_py_context_detach_thread();
    (void)ep_worker_note_send(the_worker, &note);
    ep_py_context_attach_thread(thread);
}

/* A message to an Erlang process. */
static int send_letter(struct ep_py_channel *channel, const struct ep_buf *letter, bool has_arrays)
{
    struct ep_worker_note note = {
        .kind = EP_KIND_SEND, .has_arrays = has_arrays, .payload = letter};

    (void)channel;
    EP_CRASHPOINT("thread.before_letter");
    int rc = ep_worker_note_try(the_worker, &note);
    if (rc == 0)
        return 0;
    void *thread = ep_py_context_detach_thread();
    bool ok = ep_worker_note_send(the_worker, &note);
    ep_py_context_attach_thread(thread);
    return ok ? 0 : -ECANCELED;
}

static bool is_open(const struct ep_py_channel *channel)
{
    (void)channel;
    return true;
}

void ep_worker_thread_init(struct ep_worker *worker)
{
    static struct ep_py_channel channel = {.is_open = is_open,
                                           .ask = ask,
                                           .is_used = is_open,
                                           .claim = claim,
                                           .send = send_letter,
                                           .release = release};
    const uint8_t *epoch = (const uint8_t *)worker->a.mem + EP_NAMES_EPOCH_OFFSET;

    the_worker = worker;
    ep_py_channel_set_shared(&channel, (const ep_atomic_u64 *)epoch);
}
