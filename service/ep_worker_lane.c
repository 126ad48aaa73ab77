/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_lane.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

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

/* What a wake-up that took longer counts as, also if it took many times as long as usual. */
#define WAKE_NS_MAX 250000u
/* How long a worker looks, in wake-ups, for its callers may have to be woken: first the
 * reaper, then the caller's scheduler, and each costs its waker about as much as it takes.
 * Who falls asleep before that makes the next call wake two sides again. */
#define WAKES_OF_A_CALLER 8u

#define SHRINK_NS 1000000000              /* idle for this long: memory goes back */
#define SHRINK_PIECE (UINT64_C(16) << 20) /* between two looks at the rings */

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
    ep_lane_worker_attach(&lane->shm, worker->a.mem, worker->b.mem, worker->c.mem, worker->n_lanes,
                          index);
    ep_spin_init(&lane->spin, worker->spin_min_ns, worker->spin_max_ns);
    ep_py_interrupt_init(&lane->interrupt);
    ep_worker_callback_init(lane);
    lane->worker = worker;
    lane->index = index;
    lane->is_main = index == 1;
    (void)pthread_mutex_lock(&worker->mutex);
    worker->lanes[index] = lane;
    (void)pthread_mutex_unlock(&worker->mutex);
    return lane;
}

/* --- the GIL -------------------------------------------------------------------- */

void ep_worker_lane_attach(struct ep_worker_lane *lane)
{
    if (lane->attached)
        return;
    ep_py_context_attach(lane->context);
    lane->attached = true;
    lane->streak = 0;
}

void ep_worker_lane_detach(struct ep_worker_lane *lane)
{
    if (!lane->attached)
        return;
    ep_py_context_detach(lane->context);
    lane->attached = false;
}

/* --- waiting for requests ------------------------------------------------------- */

static bool has_message(struct ep_worker_lane *lane, bool urgent_only)
{
    const struct ep_slot *slot;

    int call = urgent_only ? 1 : ep_ring_peek(&lane->shm.call, &slot);
    int urgent = ep_ring_peek(&lane->shm.urgent, &slot);
    if (call == -EPROTO || urgent == -EPROTO)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request ring makes no sense");
    return call == 0 || urgent == 0;
}

static bool spin(struct ep_worker_lane *lane, bool urgent_only)
{
    if (lane->spin.ns == 0)
        return has_message(lane, urgent_only);
    if (lane->attached && !ep_py_context_is_alone(lane->context))
        ep_worker_lane_detach(lane);
    for (unsigned i = 0; i < FAST_LOOKS; i++) {
        if (has_message(lane, urgent_only))
            return true;
        ep_cpu_relax();
    }

    ep_worker_lane_detach(lane);
    uint32_t budget = ep_spin_budget(&lane->spin);
    if (budget == 0)
        return false;
    budget += ep_spin_extra(lane->last_bytes);
    uint64_t start = ep_clock_ns();
    do {
        for (unsigned i = 0; i < TIMED_LOOKS; i++) {
            if (has_message(lane, urgent_only)) {
                ep_spin_hit_after(&lane->spin, ep_clock_ns() - start);
                return true;
            }
            ep_cpu_relax();
        }
        /* Whoever has a request for us may need this very CPU. */
        (void)sched_yield();
    } while (ep_clock_ns() - start < budget);
    ep_spin_miss(&lane->spin);
    return false;
}

/* Gives the memory of large results back once the VM has read them. */
static void shrink(struct ep_worker_lane *lane, bool urgent_only)
{
    struct ep_slab *slab = &lane->shm.slab;
    uint64_t offset, size;

    if (ep_reclaim_collect(&lane->shm.reclaim_rx, slab) < 0)
        ep_worker_die(EP_EXIT_PROTOCOL, "the VM gave back what it did not have");
    while (!has_message(lane, urgent_only)
           && (size = ep_slab_shrink(slab, SHRINK_PIECE, &offset)) > 0)
        ep_seg_give_back(lane->shm.slab_mem + offset, size);
}

/* Learns from a wake-up what it costs to sleep, and tells the VM. */
static void learn(struct ep_worker_lane *lane, uint64_t kicked_ns)
{
    uint64_t now = ep_clock_ns();
    uint64_t took = now > kicked_ns ? now - kicked_ns : 0;
    uint32_t old = atomic_load_explicit(lane->shm.wake_ns, memory_order_relaxed);

    uint64_t most = old == 0 ? WAKE_NS_MAX : 4 * (uint64_t)old + 10000;
    if (most > WAKE_NS_MAX)
        most = WAKE_NS_MAX;
    if (took > most)
        took = most; /* something else had the CPU */
    uint32_t guess = old == 0 ? (uint32_t)took : old - old / 8 + (uint32_t)took / 8;
    atomic_store_explicit(lane->shm.wake_ns, guess, memory_order_relaxed);
    ep_spin_learn(&lane->spin, (uint64_t)WAKES_OF_A_CALLER * guess);
}

/* Sleeps until the VM says that there is something. Returns whether there is. Detached. */
static bool park(struct ep_worker_lane *lane, bool urgent_only)
{
    uint64_t kicked_ns = atomic_load_explicit(lane->shm.kicked_ns, memory_order_relaxed);
    uint32_t value = ep_futex_value(lane->shm.futex);
    bool has_spike = ep_slab_has_spike(&lane->shm.slab);

    ep_bell_arm(&lane->shm.park);
    if (!has_message(lane, urgent_only) && !ep_worker_is_stopping(lane->worker)) {
        ep_futex_wait(lane->shm.futex, value, has_spike ? SHRINK_NS : -1);
        uint64_t last_ns = atomic_load_explicit(lane->shm.kicked_ns, memory_order_relaxed);
        if (last_ns != kicked_ns)
            learn(lane, last_ns);
    }
    ep_bell_disarm(&lane->shm.park);
    if (has_spike)
        shrink(lane, urgent_only);
    return has_message(lane, urgent_only);
}

bool ep_worker_lane_wait(struct ep_worker_lane *lane, bool urgent_only)
{
    if (ep_worker_is_stopping(lane->worker))
        return false;
    if (has_message(lane, urgent_only) || spin(lane, urgent_only))
        return true;
    ep_worker_lane_detach(lane);
    while (!park(lane, urgent_only)) {
        if (ep_worker_is_stopping(lane->worker))
            return false;
        if (lane->is_main && lane->context != NULL) {
            /* Woken by a signal, perhaps: Python's handlers run in this thread. */
            ep_worker_lane_attach(lane);
            ep_py_context_breathe(lane->context);
            ep_worker_exit_if_forked();
            ep_worker_lane_detach(lane);
        }
    }
    return true;
}

/* Becomes a context. The payload of START is read before its slot is given back. */
static bool start_context(struct ep_worker_lane *lane, const struct ep_slot *slot)
{
    struct ep_worker_reply reply = {.what = {.kind = EP_KIND_STARTED}};

    if (lane->context != NULL)
        ep_worker_die(EP_EXIT_PROTOCOL, "START of a context that is started");
    ep_worker_reply_begin(lane, &reply, 0);
    struct ep_py_context *context = ep_py_context_create(slot->aux, lane->is_main, &reply.buf);
    lane->attached = context != NULL;
    if (context != NULL)
        ep_py_prologue(context, ep_lane_worker_payload(&lane->shm, slot), slot->length);
    ep_worker_take_slot(lane, &lane->shm.call, slot);
    (void)pthread_mutex_lock(&lane->worker->mutex);
    lane->context = context;
    (void)pthread_mutex_unlock(&lane->worker->mutex);
    reply.what.aux = context == NULL;
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
    send_visitors_off(lane);
    ep_worker_lane_attach(lane);
    /* While attached, and under the mutex: Python threads of this interpreter, and of
     * others, look at it so. */
    (void)pthread_mutex_lock(&lane->worker->mutex);
    lane->context = NULL;
    (void)pthread_mutex_unlock(&lane->worker->mutex);
    lane->attached = false;
    ep_py_context_destroy(context);
    lane->is_leaving = false;
}

static bool serve_call(struct ep_worker_lane *lane, const struct ep_slot *slot)
{
    struct ep_ring_rx *ring = &lane->shm.call;

    switch (slot->kind) {
    case EP_KIND_CALL:
    case EP_KIND_EVAL:
    case EP_KIND_EXEC: return ep_worker_serve_request(lane, ring, slot);
    case EP_KIND_START: return start_context(lane, slot);
    case EP_KIND_STOP:
        ep_worker_take_slot(lane, ring, slot);
        stop_context(lane);
        return ep_worker_reply_plain(lane, 0, EP_KIND_STOPPED);
    default: ep_worker_die(EP_EXIT_PROTOCOL, "unknown message on a call ring");
    }
}

void ep_worker_lane_run(struct ep_worker_lane *lane)
{
    const struct ep_slot *slot;
    bool ok = true;

    ep_py_channel_set(&lane->channel);
    while (ok && ep_worker_lane_wait(lane, false)) {
        /* Before START, which is the first message of its ring, no request can run. */
        bool is_started = lane->context != NULL;
        bool has_call = ep_ring_peek(&lane->shm.call, &slot) == 0;
        if (is_started || !has_call)
            ok = ep_worker_serve_urgent(lane);
        if (ok && has_call)
            ok = serve_call(lane, slot);
    }
    if (lane->context != NULL) {
        ep_worker_lane_attach(lane);
        ep_py_run_atexit(lane->context);
        ep_worker_lane_detach(lane);
    }
}
