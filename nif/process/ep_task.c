/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_task.h"

#include "ep_arrays.h"
#include "ep_calls.h"
#include "ep_lanes.h"
#include "ep_note.h"

#include <errno.h>

/* Takes one of the tasks that the process may have. */
static bool take_room(struct ep_host *host)
{
    /* Relaxed: a number, and nothing but that. */
    if (atomic_fetch_add_explicit(&host->tasks, 1, memory_order_relaxed) < EP_TASKS_MAX)
        return true;
    atomic_fetch_sub_explicit(&host->tasks, 1, memory_order_relaxed);
    return false;
}

/* Whether the lane can have tasks: the worker has answered its START. Under the producer lock. */
static int check(struct ep_lane *lane)
{
    switch (lane->state) {
    case EP_LANE_CLOSED: return -ESTALE;
    case EP_LANE_UNAVAILABLE: return -EHOSTDOWN;
    case EP_LANE_DETACHED: return -EAGAIN;
    default: break;
    }
    /* START is the first message of its ring, and taken when the context is there. */
    return ep_ring_taken(&lane->shm.call) == 0 ? -EAGAIN : 0;
}

/* Under the producer lock, attached. */
static int send(struct ep_lane *lane, const struct ep_request *request, struct ep_call *call)
{
    struct ep_msg head = {
        .kind = EP_KIND_TASK,
        .flags = request->flags,
        .aux = lane->index,
        .call_id = ep_call_id(call),
        .subject = request->env_id,
        .stamp = request->kind,
    };

    call->op = request->op;
    call->bytes = (uint32_t)request->payload->length;
    call->is_task = true;
    ep_call_put(call, EP_PLACE_THREAD, 0);
    int rc = request->cargo == NULL ? 0 : ep_arrays_lend(lane->host, *request->cargo);
    if (rc == 0)
        rc = ep_note_send_attached(lane->host, &head, request->payload->data,
                                   request->payload->length);
    if (rc == 0 && request->cargo != NULL) {
        ep_call_set_cargo(call, *request->cargo);
        *request->cargo = NULL;
    }
    return rc;
}

/* Under the producer lock. */
static int submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
                  struct ep_call **ret_call)
{
    int rc = check(lane);
    if (rc < 0)
        return rc;
    if (!take_room(lane->host))
        return -EDQUOT;
    struct ep_call *call = ep_call_begin(lane, env, false);
    rc = call == NULL ? -ENOBUFS : send(lane, request, call);
    if (rc == 0) {
        *ret_call = call;
        return 0;
    }
    if (call != NULL)
        ep_call_free(lane, call);
    ep_task_ended(lane->host);
    return rc;
}

int ep_task_submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
                   struct ep_call **ret_call)
{
    pthread_mutex_lock(&lane->outbox.lock);
    int rc = submit(lane, env, request, ret_call);
    pthread_mutex_unlock(&lane->outbox.lock);
    return rc;
}

void ep_task_cancel(struct ep_lane *lane, const struct ep_call *call)
{
    struct ep_msg head = {
        .kind = EP_KIND_TASK_CANCEL, .aux = lane->index, .call_id = ep_call_id(call)};

    /* Without memory it goes on to its own end. */
    if (lane->host != NULL && lane->state == EP_LANE_ATTACHED)
        (void)ep_note_send_attached(lane->host, &head, NULL, 0);
}
