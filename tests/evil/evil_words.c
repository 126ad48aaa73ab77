/* SPDX-License-Identifier: Apache-2.0 */
#include "evil_attack.h"

#include <stdatomic.h>
#include <string.h>

/* The words of a lane say what cannot be. */

static void store(ep_atomic_u64 *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_seq_cst);
}

/* A position ahead, behind, or anywhere. */
static uint64_t position(struct evil_order *order, uint64_t now, uint64_t capacity)
{
    switch (evil_below(&order->random, 5)) {
    case 0: return now + capacity;
    case 1: return now + 1 + evil_below(&order->random, capacity);
    case 2: return now - 1 - evil_below(&order->random, capacity);
    case 3: return now + capacity + 1;
    default: return evil_odd_number(&order->random);
    }
}

static void word_call_head(struct evil_order *order)
{
    store(order->via->shm.call.shared_head,
          position(order, order->via->shm.call.head, EP_CALL_CELLS));
    order->via->is_stalled = evil_coin(&order->random);
}

static void word_urgent_head(struct evil_order *order)
{
    store(order->via->shm.urgent.shared_head,
          position(order, order->via->shm.urgent.head, EP_URGENT_CELLS));
}

static void word_running(struct evil_order *order)
{
    uint64_t value = evil_coin(&order->random) ? order->id : evil_odd_number(&order->random);

    if (evil_coin(&order->random))
        value |= EP_RUNNING_WAITS;
    if (evil_coin(&order->random))
        value |= EP_RUNNING_IMPORTS;
    store(order->via->shm.running, value);
}

static void word_park_bell(struct evil_order *order)
{
    store(order->via->shm.park.word, evil_odd_number(&order->random));
}

static void word_space_bell(struct evil_order *order)
{
    store(order->via->shm.space.word, evil_odd_number(&order->random));
}

static void word_cpu(struct evil_order *order)
{
    atomic_store(order->via->shm.cpu, (uint32_t)evil_odd_number(&order->random));
}

static void word_wake_ns(struct evil_order *order)
{
    atomic_store(order->via->shm.wake_ns, (uint32_t)evil_odd_number(&order->random));
}

static void word_reclaim_tail(struct evil_order *order)
{
    struct ep_reclaim_tx *reclaim = &order->via->shm.reclaim_tx;

    store(reclaim->tail, position(order, reclaim->position, EP_RECLAIM_SLOTS));
}

static void word_reclaim_entries(struct evil_order *order)
{
    struct ep_reclaim_tx *reclaim = &order->via->shm.reclaim_tx;

    for (uint64_t n = 1 + evil_below(&order->random, 20); n > 0; n--) {
        uint64_t offset = evil_coin(&order->random) ? evil_below(&order->random, 64) * EP_PAGE
                                                    : evil_odd_number(&order->random);
        ep_reclaim_push(reclaim, offset);
    }
}

/* All words of the lane, again and again. */
static void word_storm(struct evil_order *order)
{
    uint64_t end = evil_now_ms() + order->ms;

    do {
        word_call_head(order);
        word_urgent_head(order);
        word_running(order);
        word_park_bell(order);
        word_space_bell(order);
        word_cpu(order);
        word_wake_ns(order);
        if (evil_below(&order->random, 16) == 0)
            evil_ring(order->worker);
    } while (evil_now_ms() < end);
}

/* The bells change all the time, so every look of the VM finds somebody to wake. */
static void word_bells(struct evil_order *order)
{
    uint64_t end = evil_now_ms() + order->ms, bell = 1;

    do {
        for (unsigned i = 0; i < 1000; i++, bell += 2) {
            store(order->via->shm.park.word, bell);
            store(order->via->shm.space.word, bell);
        }
    } while (evil_now_ms() < end);
}

/* Nothing is taken and nothing runs, as far as the words say; the call goes on for ever. */
static void word_idle(struct evil_order *order)
{
    order->via->is_stalled = true;
    store(order->via->shm.running, 0);
    order->worker->is_silent = true;
}

const struct evil_attack evil_word_attacks[] = {
    {"word_call_head", word_call_head},
    {"word_urgent_head", word_urgent_head},
    {"word_running", word_running},
    {"word_park_bell", word_park_bell},
    {"word_space_bell", word_space_bell},
    {"word_cpu", word_cpu},
    {"word_wake_ns", word_wake_ns},
    {"word_reclaim_tail", word_reclaim_tail},
    {"word_reclaim_entries", word_reclaim_entries},
    {"word_storm", word_storm},
    {"word_bells", word_bells},
    {"word_idle", word_idle},
    {NULL, NULL},
};
