/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_stream_wait.h"

#include "ep_inbox.h"
#include "ep_lanes.h"

#include <sched.h>

/*
 * As ep_reply_wait.c, for what comes on a belt: look, let others go first, park. The ring is
 * looked at too, for there the end of the stream comes, and what Python asks.
 */

static bool look(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                 struct ep_reader *reader, bool *consumer)
{
    if (ep_stream_has_items(reader, call))
        return true;
    if (!*consumer && ep_inbox_try(lane)) {
        *consumer = true;
        ep_bell_disarm(&lane->shm.response_bell);
        atomic_store_explicit(&lane->common.armed, 0, memory_order_relaxed);
    }
    if (*consumer)
        (void)ep_inbox_drain(lane, env, NULL, NULL);
    return ep_call_is_done(call) || ep_stream_has_items(reader, call);
}

static bool look_for(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                     struct ep_reader *reader, bool *consumer, uint64_t until_ns)
{
    bool over = false;

    do {
        for (unsigned n = 0; n < EP_IDLE_LOOKS && !over; n++) {
            over = look(lane, env, call, reader, consumer);
            ep_cpu_relax();
        }
    } while (!over && ep_clock_ns() < until_ns);
    return over;
}

static enum ep_stream_wait park(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                struct ep_reader *reader, bool consumer)
{
    /* Counted before the move, so that the deliverer may uncount it. */
    atomic_fetch_add_explicit(&lane->common.parked, 1, memory_order_seq_cst);
    uint32_t expected = EP_CALL_SPINNING;
    /* Sequentially consistent, as ep_call_rouse() wants it. */
    if (!atomic_compare_exchange_strong_explicit(&call->state, &expected, EP_CALL_PARKED,
                                                 memory_order_seq_cst, memory_order_acquire))
        atomic_fetch_sub_explicit(&lane->common.parked, 1, memory_order_relaxed);
    if (consumer)
        ep_inbox_leave(lane, env);
    else
        ep_inbox_ensure(lane, env);
    ep_stream_arm(lane);
    if (ep_stream_has_items(reader, call) && ep_call_move(call, EP_CALL_PARKED, EP_CALL_SPINNING)) {
        atomic_fetch_sub_explicit(&lane->common.parked, 1, memory_order_relaxed);
        return EP_STREAM_READY;
    }
    return EP_STREAM_PARKED;
}

enum ep_stream_wait ep_stream_spin(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                   struct ep_reader *reader)
{
    bool consumer = false;
    uint32_t budget = ep_call_place(call) != EP_PLACE_QUEUE ? ep_idle_budget(&lane->inbox.idle) : 0;

    call->began_ns = ep_clock_ns();
    bool over = budget == 0 ? look(lane, env, call, reader, &consumer)
                            : look_for(lane, env, call, reader, &consumer,
                                       call->began_ns + EP_IDLE_MOMENT_NS);
    if (!over && budget == 0)
        return park(lane, env, call, reader, consumer);
    if (consumer)
        ep_inbox_leave(lane, env);
    call->looked_ns = ep_clock_ns();
    call->spin_until_ns = call->began_ns + budget;
    return over ? EP_STREAM_READY : EP_STREAM_AGAIN;
}

enum ep_stream_wait ep_stream_poll(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                   struct ep_reader *reader)
{
    bool consumer = false;
    uint64_t now = ep_clock_ns();
    bool is_alone = now - call->looked_ns < EP_IDLE_ALONE_NS;

    bool over =
        look_for(lane, env, call, reader, &consumer, is_alone ? now + EP_IDLE_MOMENT_NS : 0);
    if (!over && now > call->spin_until_ns) {
        ep_idle_miss(&lane->inbox.idle);
        return park(lane, env, call, reader, consumer);
    }
    if (consumer)
        ep_inbox_leave(lane, env);
    if (over) {
        ep_idle_hit_after(&lane->inbox.idle, now - call->began_ns);
        return EP_STREAM_READY;
    }
    if (is_alone)
        (void)sched_yield();
    call->looked_ns = ep_clock_ns();
    return EP_STREAM_AGAIN;
}
