/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker_wait.h"

#include "ep_crashpoint.h"
#include "ep_py_context.h"
#include "ep_py_fork.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>

#define SHRINK_NS 1000000000              /* idle for this long: memory goes back */
#define SHRINK_PIECE (UINT64_C(16) << 20) /* between two looks at the rings */

static bool has_message(struct ep_worker_lane *lane, bool urgent_only)
{
    const struct ep_cell *cell;

    int call = urgent_only ? 1 : ep_ring_peek(&lane->shm.call, &cell);
    int urgent = ep_ring_peek(&lane->shm.urgent, &cell);
    if (call == -EPROTO || urgent == -EPROTO)
        ep_worker_die(EP_EXIT_PROTOCOL, "a request ring makes no sense");
    return call == 0 || urgent == 0;
}

static bool spin(struct ep_worker_lane *lane, bool urgent_only)
{
    if (lane->idle.ns == 0)
        return has_message(lane, urgent_only);
    if (lane->attached && !ep_py_context_is_alone(lane->context))
        ep_worker_lane_detach(lane);
    for (unsigned i = 0; i < EP_IDLE_LANE_LOOKS; i++) {
        if (has_message(lane, urgent_only))
            return true;
        ep_cpu_relax();
    }

    ep_worker_lane_detach(lane);
    uint32_t budget = ep_idle_budget(&lane->idle);
    if (budget == 0)
        return false;
    budget += ep_idle_extra(lane->last_bytes);
    uint64_t start = ep_clock_ns();
    do {
        for (unsigned i = 0; i < EP_IDLE_LOOKS; i++) {
            if (has_message(lane, urgent_only)) {
                ep_idle_hit_after(&lane->idle, ep_clock_ns() - start);
                return true;
            }
            ep_cpu_relax();
        }
        /* Whoever has a request for us may need this very CPU. */
        (void)sched_yield();
    } while (ep_clock_ns() - start < budget);
    ep_idle_miss(&lane->idle);
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
    uint32_t guess = ep_idle_guess(old, took);
    atomic_store_explicit(lane->shm.wake_ns, guess, memory_order_relaxed);
    ep_idle_learn(&lane->idle, (uint64_t)EP_IDLE_WAKES_OF_A_LANE * guess);
}

/* Sleeps until the VM says that there is something. Returns whether there is. Detached. */
static bool park(struct ep_worker_lane *lane, bool urgent_only)
{
    uint64_t kicked_ns = atomic_load_explicit(lane->shm.kicked_ns, memory_order_relaxed);
    uint32_t value = ep_futex_value(lane->shm.futex);
    bool has_spike = ep_slab_has_spike(&lane->shm.slab);

    ep_bell_arm(&lane->shm.park);
    EP_CRASHPOINT("lane.armed");
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

bool ep_worker_wait(struct ep_worker_lane *lane, bool urgent_only)
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
            ep_py_fork_end_child();
            ep_worker_lane_detach(lane);
        }
    }
    return true;
}
