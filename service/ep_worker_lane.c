/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * The loop of a lane: wait, decode, give the slot back, run, encode, publish.
 *
 * The GIL. A thread that is alone in its interpreter keeps it for the first
 * moment of a wait, where the next request of a busy caller arrives; taking it
 * back would cost more than the call. Nobody is kept waiting by that: who wants
 * in shows up in ep_py_context_is_alone() before he waits, and in an unbroken
 * run of requests ep_py_context_breathe() lets him in as Python's own evaluation
 * loop would. The GIL is never held during a sleep.
 */

#define FAST_LOOKS 64u  /* looks at the rings before the first look at the clock */
#define TIMED_LOOKS 16u /* looks between two looks at the clock */
#define STREAK_MAX 64u  /* requests between two breaths */
#define HINT_MIN 16384u /* smaller results are not worth encoding into a block */

enum room { ROOM_SLOT, ROOM_BLOCK };

struct ep_worker_lane *ep_worker_lane_create(struct ep_worker *worker, uint32_t index)
{
    struct ep_worker_lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL)
        return NULL;
    lane->scratch = malloc(EP_WORKER_SCRATCH_SIZE);
    if (lane->scratch == NULL) {
        free(lane);
        return NULL;
    }
    ep_lane_worker_attach(&lane->shm, worker->a.mem, worker->b.mem, worker->n_lanes, index);
    ep_spin_init(&lane->spin, worker->spin_ns);
    ep_py_interrupt_init(&lane->interrupt);
    lane->worker = worker;
    lane->index = index;
    lane->is_main = index == 1;
    worker->lanes[index] = lane;
    return lane;
}

/* --- the GIL -------------------------------------------------------------------- */

static void attach(struct ep_worker_lane *lane)
{
    if (lane->attached)
        return;
    ep_py_context_attach(lane->context);
    lane->attached = true;
    lane->streak = 0;
}

static void detach(struct ep_worker_lane *lane)
{
    if (!lane->attached)
        return;
    ep_py_context_detach(lane->context);
    lane->attached = false;
}

/* --- waiting for requests ------------------------------------------------------- */

static bool has_message(struct ep_worker_lane *lane)
{
    const struct ep_slot *slot;

    int call = ep_ring_peek(&lane->shm.call, &slot);
    int urgent = ep_ring_peek(&lane->shm.urgent, &slot);
    if (call == -EPROTO || urgent == -EPROTO)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request ring makes no sense");
    return call == 0 || urgent == 0;
}

static bool spin(struct ep_worker_lane *lane)
{
    if (lane->spin.max_ns == 0)
        return has_message(lane);
    if (lane->attached && !ep_py_context_is_alone(lane->context))
        detach(lane);
    for (unsigned i = 0; i < FAST_LOOKS; i++) {
        if (has_message(lane))
            return true;
        ep_cpu_relax();
    }

    detach(lane);
    uint32_t budget = ep_spin_budget(&lane->spin);
    if (budget == 0)
        return false;
    uint64_t start = ep_clock_ns();
    do {
        for (unsigned i = 0; i < TIMED_LOOKS; i++) {
            if (has_message(lane)) {
                ep_spin_hit(&lane->spin);
                return true;
            }
            ep_cpu_relax();
        }
    } while (ep_clock_ns() - start < budget);
    ep_spin_miss(&lane->spin);
    return false;
}

/* Sleeps until the VM says that there is something. Returns whether there is. */
static bool park(struct ep_worker_lane *lane)
{
    uint32_t value = ep_futex_value(lane->shm.futex);

    ep_bell_arm(&lane->shm.park);
    if (!has_message(lane) && !ep_worker_is_stopping(lane->worker))
        ep_futex_wait(lane->shm.futex, value, -1);
    ep_bell_disarm(&lane->shm.park);
    return has_message(lane);
}

/* Returns false on SHUTDOWN. */
static bool wait_for_message(struct ep_worker_lane *lane)
{
    if (ep_worker_is_stopping(lane->worker))
        return false;
    if (has_message(lane) || spin(lane))
        return true;
    detach(lane);
    while (!park(lane)) {
        if (ep_worker_is_stopping(lane->worker))
            return false;
        if (lane->is_main && lane->context != NULL) {
            /* Woken by a signal, perhaps: Python's handlers run in this thread. */
            attach(lane);
            ep_py_context_breathe(lane->context);
            detach(lane);
        }
    }
    return true;
}

/* --- replies -------------------------------------------------------------------- */

static int try_room(struct ep_worker_lane *lane, enum room what, size_t size,
                    struct ep_slot **ret_slot, uint64_t *ret_block)
{
    if (what == ROOM_SLOT)
        return ep_ring_reserve(&lane->shm.response, ret_slot);
    int rc = ep_reclaim_collect(&lane->shm.reclaim_rx, &lane->shm.slab);
    return rc < 0 ? rc : ep_slab_alloc(&lane->shm.slab, size, ret_block);
}

/* Waits until the VM has read enough. -EMSGSIZE, -ENOMEM, or -ECANCELED on
 * SHUTDOWN. */
static int wait_for_room(struct ep_worker_lane *lane, enum room what, size_t size,
                         struct ep_slot **ret_slot, uint64_t *ret_block)
{
    int rc = try_room(lane, what, size, ret_slot, ret_block);

    while (rc == -EAGAIN) {
        if (ep_worker_is_stopping(lane->worker))
            return -ECANCELED;
        detach(lane);
        uint32_t value = ep_futex_value(lane->shm.futex);
        ep_bell_arm(&lane->shm.space);
        rc = try_room(lane, what, size, ret_slot, ret_block);
        if (rc == -EAGAIN) {
            ep_futex_wait(lane->shm.futex, value, -1);
            rc = try_room(lane, what, size, ret_slot, ret_block);
        }
        ep_bell_disarm(&lane->shm.space);
    }
    if (rc == -EPROTO)
        ep_worker_die(EP_EXIT_PROTOCOL, "the VM took or gave back what it did not have");
    return rc;
}

struct reply {
    uint64_t call_id;
    struct ep_py_reply what;
    struct ep_buf buf;
    uint64_t block; /* of slab B, if has_block */
    bool has_block;
};

/* Prepares the buffer: a block of the slab at once for a result that is known to
 * be large, which spares a copy. */
static void begin_reply(struct ep_worker_lane *lane, struct reply *reply, size_t hint)
{
    reply->has_block = hint >= HINT_MIN && hint <= EP_SLAB_SIZE
                       && try_room(lane, ROOM_BLOCK, hint, NULL, &reply->block) == 0;
    if (reply->has_block)
        ep_buf_init(&reply->buf, lane->shm.slab_mem + reply->block, hint, EP_SLAB_SIZE);
    else
        ep_buf_init(&reply->buf, lane->scratch, EP_WORKER_SCRATCH_SIZE, EP_SLAB_SIZE);
}

/* Moves the payload to where the VM can read it. */
static int place_payload(struct ep_worker_lane *lane, struct reply *reply)
{
    bool is_in_block = reply->has_block && reply->buf.data == reply->buf.lent;

    if (is_in_block && reply->buf.length > EP_INLINE_MAX)
        return 0;
    if (reply->has_block && !is_in_block) {
        /* It turned out longer than the hint said. */
        if (ep_slab_free(&lane->shm.slab, reply->block) < 0)
            abort();
        reply->has_block = false;
    }
    if (reply->buf.length <= EP_INLINE_MAX)
        return 0;
    int rc = wait_for_room(lane, ROOM_BLOCK, reply->buf.length, NULL, &reply->block);
    if (rc < 0)
        return rc;
    reply->has_block = true;
    memcpy(lane->shm.slab_mem + reply->block, reply->buf.data, reply->buf.length);
    return 0;
}

/* Publishes the reply and ends its buffer. Returns false on SHUTDOWN. */
static bool commit_reply(struct ep_worker_lane *lane, struct reply *reply)
{
    struct ep_slot *slot = NULL;
    bool is_sent = false;

    int rc = place_payload(lane, reply);
    if (rc == -ENOMEM || rc == -EMSGSIZE)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory for the bookkeeping of shared memory");
    if (rc < 0 || wait_for_room(lane, ROOM_SLOT, 0, &slot, NULL) < 0)
        goto finish_buf;

    ep_slot_begin(slot, (enum ep_kind)reply->what.kind, 0, reply->what.aux, reply->call_id);
    slot->length = (uint32_t)reply->buf.length;
    if (reply->buf.length <= EP_INLINE_MAX) {
        if (reply->buf.length > 0)
            memcpy(slot->data, reply->buf.data, reply->buf.length);
        if (reply->has_block && ep_slab_free(&lane->shm.slab, reply->block) < 0)
            abort(); /* our own bookkeeping is broken */
    } else {
        ep_slot_set_block(slot, reply->block);
    }
    (void)ep_ring_commit(&lane->shm.response);
    ep_worker_ring_doorbell(lane->worker, &lane->shm);
    is_sent = true;

finish_buf:
    ep_buf_finish(&reply->buf);
    return is_sent;
}

static bool answer(struct ep_worker_lane *lane, uint64_t call_id, uint16_t kind)
{
    struct reply reply = {.call_id = call_id, .what = {.kind = kind}};

    begin_reply(lane, &reply, 0);
    return commit_reply(lane, &reply);
}

/* --- requests ------------------------------------------------------------------- */

static void take_slot(struct ep_worker_lane *lane, const struct ep_slot *slot)
{
    if ((slot->flags & EP_FLAG_BLOCK) != 0)
        ep_reclaim_push(&lane->shm.reclaim_tx, slot->block);
    ep_ring_advance(&lane->shm.call);
    ep_ring_publish_head(&lane->shm.call);
}

/* Only what forked us may go on; the rings are not mapped here. */
static void exit_if_forked(void)
{
    if (ep_py_is_forked())
        _exit(0);
}

static bool serve_request(struct ep_worker_lane *lane, const struct ep_slot *slot)
{
    struct ep_py_request request;
    struct reply reply = {.call_id = slot->call_id};

    if (lane->context == NULL)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request came before START");
    if (ep_slot_is_cancelled(slot)) {
        take_slot(lane, slot);
        return answer(lane, reply.call_id, EP_KIND_DROPPED);
    }

    attach(lane);
    if (ep_py_request_decode(lane->context, &request, slot,
                             ep_lane_worker_payload(&lane->shm, slot))
        < 0)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request is not in the format of docs/wire.md");

    /* In this order: the VM marks the slot, then sends INTERRUPT. So if that came
     * too early for this call, the mark is seen here. And running is set before
     * the slot is given back, which is what tells the VM that the call started. */
    ep_py_interrupt_begin(&lane->interrupt, lane->context, reply.call_id);
    bool is_cancelled = ep_slot_is_cancelled(slot);
    take_slot(lane, slot);

    if (is_cancelled) {
        begin_reply(lane, &reply, 0);
        reply.what.kind = EP_KIND_DROPPED;
    } else {
        ep_py_request_run(lane->context, &request);
        exit_if_forked();
        begin_reply(lane, &reply, ep_py_request_size_hint(&request));
        ep_py_request_encode(lane->context, &request, &reply.buf, &reply.what);
        exit_if_forked();
    }
    ep_py_interrupt_end(&lane->interrupt);
    bool ok = commit_reply(lane, &reply);
    attach(lane);
    ep_py_request_finish(&request);
    exit_if_forked();

    if (++lane->streak >= STREAK_MAX) {
        lane->streak = 0;
        ep_py_context_breathe(lane->context);
        exit_if_forked();
    }
    return ok;
}

static bool start_context(struct ep_worker_lane *lane, uint32_t mode)
{
    struct reply reply = {.what = {.kind = EP_KIND_STARTED}};

    if (lane->context != NULL)
        ep_worker_die(EP_EXIT_PROTOCOL, "START of a context that is started");
    begin_reply(lane, &reply, 0);
    lane->context = ep_py_context_create(mode, lane->is_main, &reply.buf);
    lane->attached = lane->context != NULL;
    reply.what.aux = lane->context == NULL;
    return commit_reply(lane, &reply);
}

static void stop_context(struct ep_worker_lane *lane)
{
    if (lane->context == NULL)
        return;
    attach(lane);
    lane->attached = false;
    ep_py_context_destroy(lane->context);
    lane->context = NULL;
}

static void serve_urgent(struct ep_worker_lane *lane)
{
    const struct ep_slot *slot;

    while (ep_ring_peek(&lane->shm.urgent, &slot) == 0) {
        uint16_t kind = slot->kind;
        uint64_t env_id = ep_slot_env(slot);
        ep_ring_advance(&lane->shm.urgent);
        ep_ring_publish_head(&lane->shm.urgent);
        if (kind != EP_KIND_ENV_DROP)
            ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on an urgent ring");
        if (lane->context == NULL)
            continue;
        attach(lane);
        ep_py_context_drop_env(lane->context, env_id);
        exit_if_forked();
    }
}

void ep_worker_lane_run(struct ep_worker_lane *lane)
{
    const struct ep_slot *slot;
    bool ok = true;

    while (ok && wait_for_message(lane)) {
        serve_urgent(lane);
        if (ep_ring_peek(&lane->shm.call, &slot) < 0)
            continue;
        switch (slot->kind) {
        case EP_KIND_CALL:
        case EP_KIND_EVAL:
        case EP_KIND_EXEC: ok = serve_request(lane, slot); break;
        case EP_KIND_START: {
            uint32_t mode = slot->aux;
            take_slot(lane, slot);
            ok = start_context(lane, mode);
            break;
        }
        case EP_KIND_STOP:
            take_slot(lane, slot);
            stop_context(lane);
            ok = answer(lane, 0, EP_KIND_STOPPED);
            break;
        default: ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on a call ring");
        }
    }
    if (lane->context != NULL) {
        attach(lane);
        ep_py_run_atexit(lane->context);
        detach(lane);
    }
}
