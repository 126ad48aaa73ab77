/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_reply_wait.h"

#include "ep_calls.h"
#include "ep_inbox.h"
#include "ep_lanes.h"
#include "ep_outbox.h"
#include "ep_placer.h"
#include "ep_turn.h"

#include <sched.h>

/*
 * Waiting for a reply.
 *
 *   ep_spin_for_reply   look 48 times, then for 3 us     reply: TAKEN
 *                           | none                       futile: look once more; no budget: PARKED
 *                           v
 *   EP_WAIT_AGAIN       the other processes of the scheduler have their turns
 *                           |
 *                           v
 *   ep_poll_for_reply   look once                        reply: TAKEN or DONE
 *                           | none, budget left: AGAIN
 *                           v budget over
 *   EP_WAIT_PARKED      arm the bell, wait for a message
 *
 * So a caller holds its scheduler for microseconds, and a caller that is about to be
 * answered needs no message, no doorbell and no wake-up. A caller that has its scheduler
 * for itself gives its CPU up between looks: the worker may need this very CPU.
 */

/* Counts the caller as a spinner, if the CPUs bear one more. */
static bool become_spinner(struct ep_vm *vm)
{
    uint32_t most = vm->cpus / 2;

    /* Half of the CPUs: without the other half the workers cannot answer.
     * Relaxed: a limit on waste, nothing depends on it. */
    if (atomic_fetch_add_explicit(&vm->spinners, 1, memory_order_relaxed) < most)
        return true;
    atomic_fetch_sub_explicit(&vm->spinners, 1, memory_order_relaxed);
    return false;
}

/* Looks once. Returns true if the wait is over, with *ret_mine. */
static bool look(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                 struct ep_reply *ret_reply, bool *consumer, bool *ret_mine)
{
    if (!*consumer && ep_inbox_try(lane)) {
        *consumer = true;
        /* The worker need not ring while a consumer watches. */
        ep_bell_disarm(&lane->shm.response_bell);
        atomic_store_explicit(&lane->common.armed, 0, memory_order_relaxed);
    }
    if (*consumer) {
        int rc = ep_inbox_drain(lane, env, call, ret_reply);
        if (rc != 0) {
            *ret_mine = rc > 0;
            return true;
        }
    }
    return ep_call_is_done(call);
}

/* Looks for EP_IDLE_MOMENT_NS, as one of the spinners. */
static bool spin_stretch(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                         struct ep_reply *ret_reply, bool *consumer, bool *ret_mine)
{
    if (!become_spinner(lane->vm))
        return false;

    uint64_t start = ep_clock_ns();
    bool over = false;
    do {
        for (unsigned polls = 0; polls < EP_IDLE_LOOKS && !over; polls++) {
            over = look(lane, env, call, ret_reply, consumer, ret_mine);
            ep_cpu_relax();
        }
    } while (!over && ep_clock_ns() - start < EP_IDLE_MOMENT_NS);
    atomic_fetch_sub_explicit(&lane->vm->spinners, 1, memory_order_relaxed);
    return over;
}

static void park(struct ep_lane *lane, struct ep_call *call)
{
    /* Counted before the move, so that the deliverer may uncount it. */
    atomic_fetch_add_explicit(&lane->common.parked, 1, memory_order_seq_cst);
    if (!ep_call_move(call, EP_CALL_SPINNING, EP_CALL_PARKED))
        atomic_fetch_sub_explicit(&lane->common.parked, 1, memory_order_relaxed);
}

void ep_park_for_reply(struct ep_lane *lane, struct ep_call *call)
{
    park(lane, call);
}

/* Ends the wait: with the reply, or with a call that is PARKED or DONE. */
static enum ep_wait_result end_wait(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                    bool consumer, bool mine)
{
    if (!mine)
        park(lane, call);
    if (consumer)
        ep_inbox_leave(lane, env);
    else if (!mine)
        ep_inbox_ensure(lane, env);
    return mine ? EP_WAIT_TAKEN : EP_WAIT_PARKED;
}

/* Moves this scheduler away from its worker's CPU. */
static _Thread_local struct ep_placer placer;

/* Whether a look cannot succeed: the worker needs this CPU, or an earlier caller of the lane
 * looked in vain. */
static bool is_futile(const struct ep_lane *lane, const struct ep_call *call)
{
    return ep_call_place(call) != EP_PLACE_THREAD
           && (call->shares_cpu
               || atomic_load_explicit(&lane->inbox.is_still, memory_order_relaxed));
}

/* Notes that no reply came to any caller of the lane while this one looked. As consumer. */
static void note_still(struct ep_lane *lane, const struct ep_call *call)
{
    if (ep_call_place(call) != EP_PLACE_THREAD
        && !atomic_load_explicit(&lane->inbox.is_still, memory_order_relaxed))
        atomic_store_explicit(&lane->inbox.is_still, true, memory_order_relaxed);
}

/* Goes on looking after a first look in vain. That look may have taken other callers'
 * replies. */
static bool look_on(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                    struct ep_reply *ret_reply, bool *consumer, bool *ret_mine)
{
    bool futile = is_futile(lane, call), over = false;
    uint64_t head = *consumer ? lane->shm.response.head : 0;

    for (unsigned polls = futile ? EP_IDLE_FUTILE_LOOKS : EP_IDLE_CALLER_LOOKS; polls > 0 && !over;
         polls--) {
        ep_cpu_relax();
        over = look(lane, env, call, ret_reply, consumer, ret_mine);
    }
    if (!over && !futile)
        over = spin_stretch(lane, env, call, ret_reply, consumer, ret_mine);
    if (over)
        return true;
    if (futile)
        ep_turn_note_futile();
    if (call->shares_cpu)
        ep_placer_shared(&placer, EP_LOWER_HALF);
    if (*consumer && lane->shm.response.head == head)
        note_still(lane, call);
    return false;
}

static void begin_polls(struct ep_call *call, uint32_t budget)
{
    call->began_ns = call->looked_ns = ep_clock_ns();
    call->spin_until_ns = call->began_ns + budget + ep_idle_extra(call->bytes);
}

enum ep_wait_result ep_spin_for_reply(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                      struct ep_reply *ret_reply)
{
    bool consumer = false, mine = false;
    uint32_t budget = ep_call_place(call) != EP_PLACE_QUEUE ? ep_idle_budget(&lane->inbox.idle) : 0;

    if (budget == 0)
        return end_wait(lane, env, call, false, false);
    if (look(lane, env, call, ret_reply, &consumer, &mine)
        || look_on(lane, env, call, ret_reply, &consumer, &mine)) {
        ep_idle_hit(&lane->inbox.idle);
        return end_wait(lane, env, call, consumer, mine);
    }
    if (consumer)
        ep_inbox_leave(lane, env);
    begin_polls(call, budget);
    return EP_WAIT_AGAIN;
}

void ep_begin_polls(struct ep_lane *lane, struct ep_call *call)
{
    begin_polls(call, ep_idle_budget(&lane->inbox.idle));
}

/* Whether no reply has come to any caller of the lane for EP_IDLE_STILL_NS. By the consumer. */
static bool is_ring_still(struct ep_lane *lane, uint64_t now)
{
    if (lane->inbox.polled_at == lane->shm.response.head)
        return now - lane->inbox.polled_ns > EP_IDLE_STILL_NS;
    lane->inbox.polled_at = lane->shm.response.head;
    lane->inbox.polled_ns = now;
    return false;
}

/* Ends a wait whose budget is over. */
static enum ep_wait_result give_up(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                   struct ep_reply *ret_reply, bool consumer)
{
    bool mine = false;

    if (!call->shares_cpu) {
        ep_idle_miss(&lane->inbox.idle);
        return end_wait(lane, env, call, consumer, false);
    }
    /* The worker may have had no CPU so far: give it this one, then look once more. */
    if (consumer)
        ep_inbox_leave(lane, env);
    consumer = false;
    (void)sched_yield();
    if (!look(lane, env, call, ret_reply, &consumer, &mine))
        ep_idle_miss(&lane->inbox.idle);
    return end_wait(lane, env, call, consumer, mine);
}

enum ep_wait_result ep_poll_for_reply(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                      struct ep_reply *ret_reply)
{
    bool consumer = false, mine = false, is_still = false;
    uint64_t now = ep_clock_ns();
    bool is_alone = now - call->looked_ns < EP_IDLE_ALONE_NS;

    bool over = look(lane, env, call, ret_reply, &consumer, &mine);
    /* The caller may run on another scheduler by now, and on another CPU. */
    if (!over && consumer && call->shares_cpu)
        call->shares_cpu = lane->host != NULL && ep_outbox_shares_cpu(lane);
    if (!over && is_alone && !call->shares_cpu)
        over = spin_stretch(lane, env, call, ret_reply, &consumer, &mine);
    if (over) {
        ep_idle_hit_after(&lane->inbox.idle, now - call->began_ns);
        return end_wait(lane, env, call, consumer, mine);
    }
    if (now > call->spin_until_ns)
        return give_up(lane, env, call, ret_reply, consumer);
    if (consumer) {
        is_still = is_ring_still(lane, now);
        ep_inbox_leave(lane, env);
    }
    if (is_alone || (is_still && ep_turn_may_give_way(now, call->shares_cpu)))
        (void)sched_yield();
    call->looked_ns = ep_clock_ns();
    return EP_WAIT_AGAIN;
}
