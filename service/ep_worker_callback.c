/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_lane.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/*
 * A lane that asks Erlang something. It publishes the question as a reply that
 * leaves the call open, and serves the urgent ring until the answer is there:
 * requests on that ring run on top, answers for frames further below are kept for
 * them.
 *
 * An interrupt reaches a call that waits as CANCEL on the urgent ring, one that
 * runs through the control thread. The VM sends both, CANCEL first, and each side
 * does its two steps in this order:
 *
 *   VM    publish CANCEL;  then the control thread looks at running
 *   lane  set running;     then look at the urgent ring
 *
 * All sequentially consistent, so one of them finds the other: either the control
 * thread sees the call running and strikes, or the lane sees CANCEL.
 */

static struct ep_worker_lane *lane_of(struct ep_py_channel *channel)
{
    return (struct ep_worker_lane *)((char *)channel - offsetof(struct ep_worker_lane, channel));
}

static struct ep_worker_frame *find_waiting(struct ep_worker_lane *lane, uint64_t call_id)
{
    struct ep_worker_frame *frame = lane->top;

    while (frame != NULL && (frame->call_id != call_id || !frame->is_waiting))
        frame = frame->below;
    return frame;
}

bool ep_worker_callback_answered(struct ep_worker_lane *lane, const struct ep_slot *slot)
{
    struct ep_worker_frame *frame = find_waiting(lane, slot->call_id);

    /* The call that asked may have been interrupted and gone on. */
    if (frame == NULL || frame->number != slot->subject || frame->is_answered)
        return false;
    struct ep_py_answer *answer = &frame->answer;
    answer->aux = slot->aux;
    answer->length = slot->length;
    answer->has_block = (slot->flags & EP_FLAG_BLOCK) != 0;
    answer->block = answer->has_block ? slot->block : 0;
    answer->payload = ep_lane_worker_payload(&lane->shm, slot);
    if (!answer->has_block) {
        memcpy(answer->data, slot->data, slot->length);
        answer->payload = answer->data;
    }
    frame->is_answered = true;
    return answer->has_block;
}

void ep_worker_callback_cancelled(struct ep_worker_lane *lane, uint64_t call_id, uint64_t number)
{
    struct ep_worker_frame *frame = find_waiting(lane, call_id);

    if (frame != NULL && ep_py_interrupt_claim(&lane->interrupt, number))
        frame->is_cancelled = true;
}

static void release(struct ep_py_channel *channel, struct ep_py_answer *answer)
{
    if (answer->has_block)
        ep_reclaim_push(&lane_of(channel)->shm.reclaim_tx, answer->block);
    answer->has_block = false;
}

/* From here on CANCEL reaches the call. False: an interrupt has come first. */
static bool pause_call(struct ep_worker_lane *lane, struct ep_worker_frame *frame)
{
    /* First: what runs in interrupt_end() must not ask in this frame. */
    frame->is_waiting = true;
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
    const struct ep_slot *slot;

    ep_py_interrupt_begin(&lane->interrupt, lane->context, frame->call_id);
    atomic_store_explicit(lane->shm.running, frame->call_id, memory_order_relaxed);
    return ep_ring_peek(&lane->shm.urgent, &slot) != 0;
}

static bool send_question(struct ep_worker_lane *lane, const struct ep_worker_frame *frame,
                          const struct ep_buf *question)
{
    struct ep_worker_reply message = {
        .call_id = frame->call_id,
        .subject = frame->number,
        .what = {.kind = EP_KIND_CALLBACK},
        .buf = *question, /* lent: ending it frees nothing */
    };

    message.buf.lent = message.buf.data;
    return ep_worker_reply_commit(lane, &message);
}

/* Serves the urgent ring until the frame is answered or to be interrupted. */
static int wait_for_answer(struct ep_worker_lane *lane, struct ep_worker_frame *frame)
{
    for (;;) {
        bool ok = ep_worker_serve_urgent(lane) && !ep_worker_is_stopping(lane->worker);
        if (!ok || frame->is_cancelled || frame->is_answered) {
            ep_worker_lane_attach(lane);
            if (resume_call(lane, frame) || !ok)
                return !ok ? -ECANCELED : frame->is_cancelled ? -EINTR : 0;
            (void)pause_call(lane, frame);
            continue;
        }
        (void)ep_worker_lane_wait(lane, true);
    }
}

static int ask(struct ep_py_channel *channel, const struct ep_buf *question,
               struct ep_py_answer *ret_answer)
{
    struct ep_worker_lane *lane = lane_of(channel);
    struct ep_worker_frame *frame = lane->top;
    int rc = -EINTR;

    frame->is_answered = frame->is_cancelled = false;
    frame->number = ++lane->callbacks;
    if (pause_call(lane, frame))
        rc = send_question(lane, frame, question) ? wait_for_answer(lane, frame) : -ECANCELED;
    if (frame->is_waiting && (rc == -EINTR || rc == -ECANCELED)) {
        ep_worker_lane_attach(lane);
        (void)resume_call(lane, frame);
    }
    frame->is_waiting = false;
    if (rc == 0)
        *ret_answer = frame->answer;
    else if (frame->is_answered)
        release(channel, &frame->answer);
    if (rc == 0 && !ret_answer->has_block)
        ret_answer->payload = ret_answer->data;
    return rc;
}

/* Not while the frame waits: finalizers and signal handlers run then, too, and the
 * frame has one place for an answer. */
static bool is_open(const struct ep_py_channel *channel)
{
    const struct ep_worker_frame *top = lane_of((struct ep_py_channel *)channel)->top;

    return top != NULL && !top->is_waiting;
}

void ep_worker_callback_init(struct ep_worker_lane *lane)
{
    lane->channel = (struct ep_py_channel){.is_open = is_open, .ask = ask, .release = release};
}
