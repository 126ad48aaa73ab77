/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_loop.h"

#include "ep_crashpoint.h"
#include "ep_py_context.h"
#include "ep_py_frame.h"
#include "ep_py_interrupt.h"
#include "ep_py_maintain.h"
#include "ep_py_none.h"
#include "ep_py_title.h"
#include "ep_worker_callback.h"
#include "ep_worker_reply.h"
#include "ep_worker_request.h"
#include "ep_worker_task.h"
#include "ep_worker_wait.h"

/* Becomes a context. The payload of START is read before its cell is given back. */
static bool start_context(struct ep_worker_lane *lane, const struct ep_cell *cell)
{
    struct ep_worker_reply reply = {.what = {.kind = EP_KIND_STARTED}};

    if (lane->context != NULL)
        ep_worker_die(EP_EXIT_PROTOCOL, "START of a context that is started");
    ep_worker_reply_begin(lane, &reply, 0);
    EP_CRASHPOINT("start.seen");
    ep_py_none_set_default(cell->flags);
    struct ep_py_context *context = ep_py_context_create(cell->aux, lane->is_main, &reply.buf);
    lane->attached = context != NULL;
    if (context != NULL)
        ep_py_maintain_prologue(context, ep_lane_worker_payload(&lane->shm, cell), cell->length);
    EP_CRASHPOINT("start.created");
    /* Before the cell is given back: from then on the VM sends tasks for the context. */
    (void)pthread_mutex_lock(&lane->worker->mutex);
    lane->context = context;
    lane->has_started = true;
    (void)pthread_cond_broadcast(&lane->worker->lane_ended);
    (void)pthread_mutex_unlock(&lane->worker->mutex);
    ep_worker_request_take_cell(lane, &lane->shm.call, cell);
    reply.what.aux = context == NULL;
    EP_CRASHPOINT("start.before_reply");
    return ep_worker_reply_commit(lane, &reply);
}

/* Waits until nobody looks at the context from another thread. Detached. */
static void send_visitors_off(struct ep_worker_lane *lane)
{
    struct ep_worker *worker = lane->worker;

    (void)pthread_mutex_lock(&worker->mutex);
    lane->is_leaving = true;
    while (lane->visitors > 0)
        (void)pthread_cond_wait(&worker->lane_ended, &worker->mutex);
    (void)pthread_mutex_unlock(&worker->mutex);
}

static void stop_context(struct ep_worker_lane *lane)
{
    struct ep_py_context *context = lane->context;

    if (context == NULL)
        return;
    ep_worker_lane_detach(lane);
    ep_worker_task_leave(lane);
    send_visitors_off(lane);
    ep_worker_lane_attach(lane);
    /* While attached, and under the mutex: Python threads of this interpreter, and of
     * others, look at it so. */
    (void)pthread_mutex_lock(&lane->worker->mutex);
    lane->context = NULL;
    (void)pthread_mutex_unlock(&lane->worker->mutex);
    lane->attached = false;
    ep_py_context_destroy(context);
    ep_py_title_set(lane->index, "");
    lane->is_leaving = false;
}

static bool serve_call(struct ep_worker_lane *lane, const struct ep_cell *cell)
{
    struct ep_ring_rx *ring = &lane->shm.call;

    switch (cell->kind) {
    case EP_KIND_CALL:
    case EP_KIND_EVAL:
    case EP_KIND_EXEC: return ep_worker_request_serve(lane, ring, cell);
    case EP_KIND_START: return start_context(lane, cell);
    case EP_KIND_STOP:
        /* Seen again when the frame is left, which the end of an interpreter needs. */
        if (lane->is_framed)
            return false;
        ep_worker_request_take_cell(lane, ring, cell);
        EP_CRASHPOINT("stop.taken");
        stop_context(lane);
        EP_CRASHPOINT("stop.destroyed");
        return ep_worker_reply_plain(lane, 0, EP_KIND_STOPPED);
    default: ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on a call ring");
    }
}

/* Waits for messages and does what they say. False on SHUTDOWN, and on STOP in a frame. */
static bool serve_next(struct ep_worker_lane *lane)
{
    const struct ep_cell *cell;
    bool ok = true;

    if (!ep_worker_wait(lane, false))
        return false;
    EP_CRASHPOINT("lane.woken");
    /* Before START, which is the first message of its ring, no request can run. */
    bool is_started = lane->context != NULL;
    bool has_call = ep_ring_peek(&lane->shm.call, &cell) == 0;
    if (is_started || !has_call)
        ok = ep_worker_request_serve_urgent(lane);
    return ok && has_call ? serve_call(lane, cell) : ok;
}

static void serve_framed(void *user)
{
    struct ep_worker_lane *lane = user;

    lane->is_framed = true;
    while (serve_next(lane))
        continue;
    lane->is_framed = false;
    ep_worker_lane_attach(lane);
}

void ep_worker_loop_run(struct ep_worker_lane *lane)
{
    ep_worker_callback_init(lane);
    (void)ep_py_interrupt_enter(&lane->interrupt);
    while (serve_next(lane)) {
        if (lane->context == NULL)
            continue;
        ep_worker_lane_attach(lane);
        ep_py_frame_run(lane->context, serve_framed, lane);
    }
    if (lane->context != NULL) {
        ep_worker_lane_detach(lane);
        ep_worker_task_leave(lane);
        ep_worker_lane_attach(lane);
        ep_py_context_run_exit(lane->context, lane->worker->threads_until_ns);
        ep_worker_lane_detach(lane);
    }
}
