/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_callback.h"

#include "ep_array.h"
#include "ep_crashpoint.h"
#include "ep_py_channel.h"
#include "ep_py_interrupt.h"
#include "ep_worker_frame.h"
#include "ep_worker_reply.h"
#include "ep_worker_request.h"
#include "ep_worker_wait.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

/*
 * A lane that asks Erlang something. It publishes the question as a reply that
 * leaves the call open, and serves the urgent ring until the outcome is there:
 * requests on that ring run on top, outcomes for frames further below are kept for
 * them.
 *
 * An interrupt reaches a call that waits as CANCEL on the urgent ring, one that
 * runs through the control thread. The VM sends both, CANCEL first, and each side
 * does its two steps in this order, where target is that of struct ep_py_interrupt:
 *
 *   VM    publish CANCEL;  then the control thread looks at target
 *   lane  set target;      then look at the urgent ring
 *
 * All sequentially consistent, so one of them finds the other: either the control
 * thread sees the call and strikes, or the lane sees CANCEL.
 */

static struct ep_worker_lane *lane_of(struct ep_py_channel *channel)
{
    return (struct ep_worker_lane *)((char *)channel - offsetof(struct ep_worker_lane, channel));
}

static void release(struct ep_py_channel *channel, struct ep_py_outcome *outcome)
{
    EP_CRASHPOINT("callback.release");
    if (outcome->has_block)
        ep_reclaim_push(&lane_of(channel)->shm.reclaim_tx, outcome->block);
    outcome->has_block = false;
}

/* From here on CANCEL reaches the call. False: an interrupt has come first. */
static bool pause_call(struct ep_worker_lane *lane, struct ep_worker_frame *frame)
{
    /* First: what runs in interrupt_end() must not ask in this frame. */
    frame->is_waiting = true;
    frame->is_importing = ep_py_interrupt_is_held(&lane->interrupt);
    if (ep_py_interrupt_end(&lane->interrupt))
        frame->is_cancelled = true;
    atomic_store_explicit(lane->shm.running, frame->call_id | EP_RUNNING_WAITS,
                          memory_order_relaxed);
    return !frame->is_cancelled;
}

/* From here on the control thread reaches it. False: something came meanwhile on
 * the urgent ring, perhaps a CANCEL. */
static bool resume_call(struct ep_worker_lane *lane, struct ep_worker_frame *frame)
{
    const struct ep_cell *cell;

    uint64_t running = frame->call_id | (frame->is_importing ? EP_RUNNING_IMPORTS : 0);
    ep_py_interrupt_begin(&lane->interrupt, lane->context, running, lane->depth > 1);
    atomic_store_explicit(lane->shm.running, running, memory_order_relaxed);
    return ep_ring_peek(&lane->shm.urgent, &cell) != 0;
}

static bool send_question(struct ep_worker_lane *lane, const struct ep_worker_frame *frame,
                          const struct ep_buf *question, bool has_arrays)
{
    struct ep_worker_reply message = {
        .call_id = frame->call_id,
        .subject = frame->number,
        .what = {.kind = EP_KIND_CALLBACK, .has_arrays = has_arrays},
        .buf = *question, /* lent: ending it frees nothing */
    };

    message.buf.lent = message.buf.data;
    EP_CRASHPOINT("callback.before_question");
    return ep_worker_reply_commit(lane, &message);
}

/* Serves the urgent ring until the frame has an outcome or is to be interrupted. */
static int wait_for_outcome(struct ep_worker_lane *lane, struct ep_worker_frame *frame)
{
    for (;;) {
        bool ok = ep_worker_request_serve_urgent(lane) && !ep_worker_is_stopping(lane->worker);
        if (!ok || frame->is_cancelled || frame->has_outcome) {
            ep_worker_lane_attach(lane);
            if (resume_call(lane, frame) || !ok)
                return !ok ? -ECANCELED : frame->is_cancelled ? -EINTR : 0;
            (void)pause_call(lane, frame);
            continue;
        }
        EP_CRASHPOINT("callback.waiting");
        (void)ep_worker_wait(lane, true);
    }
}

/* Ends a wait that did not come to its end. */
static void end_wait(struct ep_worker_lane *lane, struct ep_worker_frame *frame, int rc)
{
    if (frame->is_waiting && (rc == -EINTR || rc == -ECANCELED)) {
        ep_worker_lane_attach(lane);
        (void)resume_call(lane, frame);
    }
    frame->is_waiting = false;
}

static int serve(struct ep_py_channel *channel)
{
    struct ep_worker_lane *lane = lane_of(channel);
    struct ep_worker_frame *frame = lane->top;
    const struct ep_cell *cell;
    int rc = -EINTR;

    if (ep_ring_peek(&lane->shm.urgent, &cell) != 0)
        return 0;
    /* As a question that is answered at once. Questions have numbers from 1. */
    frame->is_cancelled = false;
    frame->has_outcome = true;
    frame->number = 0;
    if (pause_call(lane, frame))
        rc = wait_for_outcome(lane, frame);
    end_wait(lane, frame, rc);
    frame->has_outcome = false;
    return rc;
}

static int ask(struct ep_py_channel *channel, const struct ep_buf *question, bool has_arrays,
               struct ep_py_outcome *ret_outcome)
{
    struct ep_worker_lane *lane = lane_of(channel);
    struct ep_worker_frame *frame = lane->top;
    int rc = -EINTR;

    frame->has_outcome = frame->is_cancelled = false;
    frame->number = ++lane->callbacks;
    EP_CRASHPOINT("callback.before_pause");
    if (pause_call(lane, frame))
        rc = send_question(lane, frame, question, has_arrays) ? wait_for_outcome(lane, frame)
                                                              : -ECANCELED;
    end_wait(lane, frame, rc);
    EP_CRASHPOINT("callback.resumed");
    if (rc == 0)
        *ret_outcome = frame->outcome;
    else if (frame->has_outcome)
        release(channel, &frame->outcome);
    if (rc == 0 && !ret_outcome->has_block)
        ret_outcome->payload = ret_outcome->data;
    return rc;
}

/* On the lane, so that the VM has it before the call ends. Nobody waits for it. */
static void claim(struct ep_py_channel *channel, const struct ep_py_outcome *outcome,
                  const struct ep_buf *list)
{
    struct ep_worker_lane *lane = lane_of(channel);
    struct ep_worker_reply message = {
        .call_id = lane->top->call_id,
        .what = {.kind = EP_KIND_ARRAYS, .aux = EP_ARRAYS_CLAIM, .has_arrays = true},
        .buf = *list, /* lent: ending it frees nothing */
    };

    (void)outcome;
    message.buf.lent = message.buf.data;
    EP_CRASHPOINT("claim.before");
    (void)ep_worker_reply_publish(lane, &message);
    EP_CRASHPOINT("claim.published");
    ep_worker_lane_attach(lane);
}

/* Not while the frame waits: finalizers and signal handlers run then, too, and the
 * frame has one place for an outcome. */
static bool is_open(const struct ep_py_channel *channel)
{
    const struct ep_worker_frame *top = lane_of((struct ep_py_channel *)channel)->top;

    return top != NULL && !top->is_waiting;
}

/* --- messages to Erlang processes --------------------------------------------------- */

/* Without a request nobody may be looking at this lane. */
static bool is_used(const struct ep_py_channel *channel)
{
    return lane_of((struct ep_py_channel *)channel)->top != NULL;
}

/* A reply that belongs to no call. */
static int send_letter(struct ep_py_channel *channel, const struct ep_buf *letter, bool has_arrays)
{
    struct ep_worker_lane *lane = lane_of(channel);
    struct ep_worker_reply message = {
        .what = {.kind = EP_KIND_SEND, .has_arrays = has_arrays},
        .buf = *letter, /* lent: ending it frees nothing */
    };

    EP_CRASHPOINT("letter.before");
    bool ok = ep_worker_reply_publish(lane, &message);
    EP_CRASHPOINT("letter.published");
    if (ok)
        ep_worker_ring_for_letter(lane->worker, &lane->shm, &lane->quiet);
    ep_worker_lane_attach(lane);
    return ok ? 0 : -ECANCELED;
}

void ep_worker_callback_init(struct ep_worker_lane *lane)
{
    lane->channel = (struct ep_py_channel){.is_open = is_open,
                                           .ask = ask,
                                           .serve = serve,
                                           .is_used = is_used,
                                           .claim = claim,
                                           .send = send_letter,
                                           .release = release};
    ep_py_channel_set(&lane->channel);
}
