/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_maintain.h"

#include "ep_buf.h"
#include "ep_crashpoint.h"
#include "ep_py_maintain.h"
#include "ep_thread.h"
#include "ep_worker_lane.h"
#include "ep_worker_message.h"
#include "ep_worker_note.h"

#include <stdlib.h>

#define MAINTAIN_STACK_SIZE (1u << 20)

/* What the thread gets, and frees. */
struct visit {
    struct ep_worker *worker;
    struct ep_worker_message *message;
};

static void *maintain(void *user)
{
    struct visit *visit = user;
    struct ep_worker *worker = visit->worker;
    struct ep_worker_message *message = visit->message;
    struct ep_worker_lane *lane = worker->lanes[message->slot.aux];
    struct ep_worker_note note = {.kind = EP_KIND_MAINTAINED, .call_id = message->slot.call_id};
    struct ep_buf buf;

    ep_buf_init(&buf, NULL, 0, EP_MESSAGE_MAX);
    /* The visit keeps the context from ending meanwhile. */
    (void)pthread_mutex_lock(&worker->mutex);
    bool is_there = lane != NULL && lane->context != NULL && !lane->is_leaving;
    if (is_there)
        lane->visitors++;
    (void)pthread_mutex_unlock(&worker->mutex);
    note.aux = 1;
    EP_CRASHPOINT("maintain.visiting");
    if (is_there) {
        note.aux = ep_py_maintain(lane->context, message->payload, message->slot.length, &buf);
        (void)pthread_mutex_lock(&worker->mutex);
        lane->visitors--;
        (void)pthread_cond_broadcast(&worker->lane_ended);
        (void)pthread_mutex_unlock(&worker->mutex);
    }
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

void ep_worker_maintain(struct ep_worker *worker, const struct ep_slot *slot,
                        const uint8_t *payload)
{
    if (slot->aux == 0 || slot->aux >= worker->n_lanes)
        ep_worker_die(EP_EXIT_PROTOCOL, "MAINTAIN of a lane that does not exist");
    struct visit *visit = malloc(sizeof(*visit));
    struct ep_worker_message *message = ep_worker_message_copy(slot, payload);
    if (visit != NULL)
        *visit = (struct visit){.worker = worker, .message = message};
    /* Without a thread there is no answer, and the VM leaves the interpreter out. */
    if (visit == NULL || message == NULL
        || ep_thread_start(maintain, visit, MAINTAIN_STACK_SIZE, true) < 0) {
        free(message);
        free(visit);
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the thread frees them. */
}
