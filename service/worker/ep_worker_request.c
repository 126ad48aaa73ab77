/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_request.h"

#include "ep_crashpoint.h"
#include "ep_etf.h"
#include "ep_py_context.h"
#include "ep_py_fork.h"
#include "ep_py_interrupt.h"
#include "ep_py_request.h"
#include "ep_worker_frame.h"
#include "ep_worker_maintain.h"
#include "ep_worker_note.h"
#include "ep_worker_reply.h"
#include "ep_worker_stream.h"

#include <stdatomic.h>
#include <string.h>

/*
 * One request: decode, give the cell back, run, encode, publish.
 */

void ep_worker_request_take_cell(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                                 const struct ep_cell *cell)
{
    if ((cell->flags & EP_FLAG_BLOCK) != 0)
        ep_reclaim_push(&lane->shm.reclaim_tx, cell->block);
    EP_CRASHPOINT("slot.block_given_back");
    ep_ring_advance(ring);
    /* The VM keeps what finds no room, and looks again when a reply comes. */
    ep_ring_release_head(ring);
}

/* Which call is on top. Relaxed: the VM looks at it to judge how long a call has
 * run, and only after the head of the ring said that it was taken. */
static void set_running(struct ep_worker_lane *lane, uint64_t value)
{
    atomic_store_explicit(lane->shm.running, value, memory_order_relaxed);
}

/* Tells callers where this thread runs. Relaxed: a hint. */
static void publish_cpu(struct ep_worker_lane *lane)
{
    uint32_t cpu = ep_cpu_here();

    if (cpu == lane->cpu)
        return;
    lane->cpu = cpu;
    atomic_store_explicit(lane->shm.cpu, cpu, memory_order_relaxed);
}

/* The frame below waits for an outcome, or there is none. */
static void pop_frame(struct ep_worker_lane *lane, const struct ep_worker_frame *frame)
{
    lane->top = frame->below;
    lane->depth--;
    set_running(lane, frame->below == NULL ? 0 : frame->below->call_id | EP_RUNNING_WAITS);
}

static uint64_t stamp_of(uint64_t sent_ns, uint64_t begun_ns)
{
    uint64_t queue_us = begun_ns > sent_ns ? (begun_ns - sent_ns) / 1000 : 0;
    uint64_t run_us = (ep_clock_ns() - begun_ns) / 1000;

    if (queue_us > UINT32_MAX)
        queue_us = UINT32_MAX;
    if (run_us > UINT32_MAX)
        run_us = UINT32_MAX;
    return queue_us << 32 | run_us;
}

static bool refuse_depth(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                         const struct ep_cell *cell)
{
    static const char type[] = "RecursionError";
    static const char message[] = "too many calls between Python and Erlang on top of each other";
    struct ep_worker_reply reply = {.call_id = cell->call_id, .what = {.kind = EP_KIND_ERROR}};

    ep_worker_request_take_cell(lane, ring, cell);
    ep_worker_reply_begin(lane, &reply, 0);
    ep_etf_put_binary(&reply.buf, type, sizeof(type) - 1);
    ep_etf_put_binary(&reply.buf, message, sizeof(message) - 1);
    ep_etf_put_atom(&reply.buf, "nil", 3);
    return ep_worker_reply_commit(lane, &reply);
}

static void run(struct ep_worker_lane *lane, struct ep_py_request *request,
                struct ep_worker_reply *reply)
{
    EP_CRASHPOINT("python.before");
    ep_py_request_run(lane->context, request);
    EP_CRASHPOINT("python.after");
    if (request->is_stream && !request->has_failed)
        ep_worker_stream_run(lane, request, reply);
    ep_py_fork_end_child();
    ep_worker_reply_begin(lane, reply, ep_py_request_size_hint(request));
    EP_CRASHPOINT("reply.begun");
    ep_py_request_encode(lane->context, request, &reply->buf, &reply->what);
    EP_CRASHPOINT("reply.encoded");
    ep_py_fork_end_child();
}

/* Messages of a request's threads arrive before its result. */
static void settle(struct ep_worker_lane *lane)
{
    ep_worker_lane_detach(lane);
    ep_worker_note_settle(lane->worker);
}

bool ep_worker_request_serve(struct ep_worker_lane *lane, struct ep_ring_rx *ring,
                             const struct ep_cell *cell)
{
    struct ep_py_request request;
    struct ep_worker_reply reply = {.call_id = cell->call_id};
    struct ep_worker_frame frame;

    EP_CRASHPOINT("request.seen");
    /* Also after STOP: an urgent request can be seen later than a STOP behind it. */
    if (ep_cell_is_cancelled(cell)) {
        ep_worker_request_take_cell(lane, ring, cell);
        return ep_worker_reply_plain(lane, reply.call_id, EP_KIND_DROPPED);
    }
    if (lane->context == NULL)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request came before START");
    if (lane->depth == EP_WORKER_DEPTH_MAX)
        return refuse_depth(lane, ring, cell);

    /* Acquire: pairs with the end of the visit. A request on top of another one does not wait:
     * the visit may wait for what the one below holds, such as the lock of an import. */
    if (atomic_load_explicit(&lane->firsts, memory_order_acquire) != 0 && lane->top == NULL) {
        ep_worker_lane_detach(lane);
        ep_worker_maintain_wait(lane);
        if (ep_worker_is_stopping(lane->worker))
            return false;
    }
    uint64_t sent_ns = (cell->flags & EP_FLAG_TIMED) != 0 ? cell->stamp : 0;
    uint64_t begun_ns = sent_ns != 0 ? ep_clock_ns() : 0;
    if ((cell->flags & EP_FLAG_SHARES) != 0)
        ep_placer_shared(&lane->placer, EP_UPPER_HALF);
    publish_cpu(lane);
    ep_worker_lane_attach(lane);
    EP_CRASHPOINT("request.attached");
    if (ep_py_request_decode(lane->context, &request, cell,
                             ep_lane_worker_payload(&lane->shm, cell))
        < 0)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request is not in the format of docs/wire.md");

    EP_CRASHPOINT("request.decoded");
    /* Not zeroed as a whole: the place for an outcome is large and seldom used. */
    frame.below = lane->top;
    frame.call_id = reply.call_id;
    frame.is_waiting = frame.has_outcome = frame.is_cancelled = frame.is_finishing = false;
    /* cppcheck-suppress autoVariables; pop_frame() takes it out before this returns. */
    lane->top = &frame;
    lane->depth++;
    EP_CRASHPOINT("request.on_top");

    /* In this order: the VM marks the cell, then sends INTERRUPT. So if that came
     * too early for this call, the mark is seen here. And running is set before
     * the cell is given back, which is what tells the VM that the call started. */
    ep_py_interrupt_begin(&lane->interrupt, lane->context, reply.call_id, lane->depth > 1);
    bool is_cancelled = ep_cell_is_cancelled(cell);
    uint64_t outer_env = atomic_load_explicit(&lane->running_env, memory_order_relaxed);
    atomic_store_explicit(&lane->running_env, cell->subject, memory_order_relaxed);
    set_running(lane, reply.call_id);
    EP_CRASHPOINT("request.running");
    ep_worker_request_take_cell(lane, ring, cell);
    EP_CRASHPOINT("request.taken");

    if (is_cancelled) {
        ep_worker_reply_begin(lane, &reply, 0);
        reply.what.kind = EP_KIND_DROPPED;
    } else {
        run(lane, &request, &reply);
    }
    if (sent_ns != 0) {
        reply.has_stamp = true;
        reply.stamp = stamp_of(sent_ns, begun_ns);
    }
    /* Relaxed: what its threads have sent, they sent before it could end. */
    if (atomic_load_explicit(&lane->worker->letters_until, memory_order_relaxed) != 0)
        settle(lane);
    bool ok = ep_worker_reply_commit(lane, &reply);
    EP_CRASHPOINT("request.replied");
    ep_worker_lane_attach(lane);
    /* After the reply is out, which is waited for. No Python code has run since. A
     * signal handler that runs in interrupt_end() must not ask for a call that ended. */
    pop_frame(lane, &frame);
    EP_CRASHPOINT("request.popped");
    ep_py_interrupt_finish(&lane->interrupt);
    EP_CRASHPOINT("request.settled");
    atomic_store_explicit(&lane->running_env, outer_env, memory_order_relaxed);
    ep_py_request_finish(lane->context, &request);
    EP_CRASHPOINT("request.finished");
    ep_py_fork_end_child();

    if (++lane->streak >= EP_IDLE_STREAK && lane->top == NULL) {
        lane->streak = 0;
        /* A lane that is always found busy never sleeps; others may wait for this CPU. */
        ep_yield_if_due(&lane->yield, ep_clock_ns());
        ep_py_context_breathe(lane->context);
        ep_py_fork_end_child();
    }
    return ok;
}

/* The payload is an array of namespaces. */
static void drop_envs(struct ep_worker_lane *lane, const struct ep_cell *cell)
{
    const uint8_t *ids = ep_lane_worker_payload(&lane->shm, cell);
    uint64_t id;

    if (lane->context == NULL)
        return;
    ep_worker_lane_attach(lane);
    for (size_t i = 0; i + sizeof(id) <= cell->length; i += sizeof(id)) {
        memcpy(&id, ids + i, sizeof(id));
        ep_py_context_drop_env(lane->context, id);
        EP_CRASHPOINT("env.dropped");
        ep_py_fork_end_child();
    }
}

bool ep_worker_request_serve_urgent(struct ep_worker_lane *lane)
{
    struct ep_ring_rx *ring = &lane->shm.urgent;
    const struct ep_cell *cell;
    bool ok = true;

    while (ok && ep_ring_peek(ring, &cell) == 0) {
        uint64_t call_id = cell->call_id, subject = cell->subject;
        EP_CRASHPOINT("urgent.seen");
        switch (cell->kind) {
        case EP_KIND_CALL:
        case EP_KIND_EVAL:
        case EP_KIND_EXEC: ok = ep_worker_request_serve(lane, ring, cell); break;
        case EP_KIND_ANSWER:
            publish_cpu(lane);
            if (ep_worker_frame_put_outcome(lane, cell)) {
                ep_ring_advance(ring);
                ep_ring_release_head(ring);
            } else {
                ep_worker_request_take_cell(lane, ring, cell);
            }
            break;
        case EP_KIND_CANCEL:
            ep_worker_request_take_cell(lane, ring, cell);
            ep_worker_frame_cancel(lane, call_id, subject);
            break;
        case EP_KIND_FINISH:
            ep_worker_request_take_cell(lane, ring, cell);
            ep_worker_frame_end_stream(lane, call_id);
            break;
        case EP_KIND_ENV_DROP:
            drop_envs(lane, cell);
            ep_worker_request_take_cell(lane, ring, cell);
            break;
        default: ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on an urgent ring");
        }
    }
    return ok;
}
