/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_maintain.h"

#include "ep_buf.h"
#include "ep_crashpoint.h"
#include "ep_py_maintain.h"
#include "ep_thread.h"
#include "ep_worker_lane.h"
#include "ep_worker_message.h"
#include "ep_worker_note.h"

#include <stdatomic.h>
#include <stdlib.h>

#define MAINTAIN_STACK_SIZE (1u << 20)

/* What the thread gets, and frees. */
struct visit {
    struct ep_worker *worker;
    struct ep_worker_message *message;
};

static bool is_first(const struct ep_cell *cell)
{
    return (cell->flags & EP_FLAG_FIRST) != 0;
}

/* Keeps the context from ending. What the VM sends after it has opened the lane is about the
 * context that the lane starts. Returns whether there is one. */
static bool enter(struct ep_worker_lane *lane)
{
    struct ep_worker *worker = lane->worker;

    (void)pthread_mutex_lock(&worker->mutex);
    while (!lane->has_started && !ep_worker_is_stopping(worker))
        (void)pthread_cond_wait(&worker->lane_ended, &worker->mutex);
    bool is_there = lane->context != NULL && !lane->is_leaving;
    if (is_there)
        lane->visitors++;
    (void)pthread_mutex_unlock(&worker->mutex);
    return is_there;
}

static void leave(struct ep_worker_lane *lane, bool was_there, bool was_first)
{
    struct ep_worker *worker = lane->worker;

    (void)pthread_mutex_lock(&worker->mutex);
    if (was_there)
        lane->visitors--;
    /* Release: the lane reads it without the mutex, and then runs what relies on the visit. */
    if (was_first)
        (void)atomic_fetch_sub_explicit(&lane->firsts, 1, memory_order_release);
    (void)pthread_cond_broadcast(&worker->lane_ended);
    (void)pthread_mutex_unlock(&worker->mutex);
}

static void *maintain(void *user)
{
    struct visit *visit = user;
    struct ep_worker *worker = visit->worker;
    struct ep_worker_message *message = visit->message;
    struct ep_worker_lane *lane = worker->lanes[message->cell.aux];
    struct ep_worker_note note = {.kind = EP_KIND_MAINTAINED, .call_id = message->cell.call_id};
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    bool is_there = enter(lane);
    note.aux = 1;
    EP_CRASHPOINT("maintain.visiting");
    if (is_there)
        note.aux = ep_py_maintain(lane->context, message->payload, message->cell.length, &buf);
    leave(lane, is_there, is_first(&message->cell));
    if (buf.length > EP_MAINTAINED_MAX) { /* no numbers; the VM would not read it */
        note.aux = 1;
        buf.length = 0;
    }
    note.payload = &buf;
    EP_CRASHPOINT("maintain.before_send");
    (void)ep_worker_note_send(worker, &note);
    ep_buf_finish(&buf);
    free(message);
    free(visit);
    return NULL;
}

void ep_worker_maintain(struct ep_worker *worker, const struct ep_cell *cell,
                        const uint8_t *payload)
{
    struct ep_worker_lane *lane = cell->aux < worker->n_lanes ? worker->lanes[cell->aux] : NULL;

    if (lane == NULL)
        ep_worker_die(EP_EXIT_PROTOCOL, "MAINTAIN of a lane that does not exist");
    struct visit *visit = malloc(sizeof(*visit));
    struct ep_worker_message *message = ep_worker_message_copy(cell, payload);
    if (visit != NULL)
        *visit = (struct visit){.worker = worker, .message = message};
    if (is_first(cell))
        (void)atomic_fetch_add_explicit(&lane->firsts, 1, memory_order_relaxed);
    if (visit == NULL || message == NULL
        || ep_thread_start(maintain, visit, MAINTAIN_STACK_SIZE, true) < 0) {
        /* Without a thread there is no answer, and the VM leaves the interpreter out. But
         * what the next request relies on comes in no other way than with a new process. */
        if (is_first(cell))
            ep_worker_die(EP_EXIT_CANNOT_START, "no memory or thread for what requests rely on");
        free(message);
        free(visit);
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the thread frees them. */
}

void ep_worker_maintain_wait(struct ep_worker_lane *lane)
{
    struct ep_worker *worker = lane->worker;

    (void)pthread_mutex_lock(&worker->mutex);
    while (atomic_load_explicit(&lane->firsts, memory_order_relaxed) != 0
           && !ep_worker_is_stopping(worker))
        (void)pthread_cond_wait(&worker->lane_ended, &worker->mutex);
    (void)pthread_mutex_unlock(&worker->mutex);
}
