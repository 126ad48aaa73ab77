/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_idle.h"

#include "ep_cpu.h"

#include <sched.h>

void ep_idle_init(struct ep_idle *idle, uint32_t min_ns, uint32_t max_ns)
{
    *idle = (struct ep_idle){.ns = min_ns, .min_ns = min_ns, .max_ns = max_ns};
}

/* Relaxed throughout: nothing else depends on it. */
#define LOAD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define STORE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

uint32_t ep_idle_budget(struct ep_idle *idle)
{
    uint8_t skip = LOAD(idle->skip);

    if (skip == 0)
        return LOAD(idle->ns);
    STORE(idle->skip, (uint8_t)(skip - 1));
    return 0;
}

void ep_idle_learn(struct ep_idle *idle, uint64_t sleep_ns)
{
    uint64_t ns = sleep_ns < idle->min_ns ? idle->min_ns : sleep_ns;

    STORE(idle->ns, ns > idle->max_ns ? idle->max_ns : (uint32_t)ns);
}

uint32_t ep_idle_guess(uint32_t wake_ns, uint64_t took_ns)
{
    uint64_t most = wake_ns == 0 ? EP_IDLE_WAKE_NS_MAX : 4 * (uint64_t)wake_ns + 10000;

    if (most > EP_IDLE_WAKE_NS_MAX)
        most = EP_IDLE_WAKE_NS_MAX;
    if (took_ns > most)
        took_ns = most; /* something else had the CPU */
    return wake_ns == 0 ? (uint32_t)took_ns : wake_ns - wake_ns / 8 + (uint32_t)took_ns / 8;
}

void ep_idle_hit(struct ep_idle *idle)
{
    /* Only if it changes: callers share the line. */
    if (LOAD(idle->skip_next) != 0)
        STORE(idle->skip_next, 0);
}

void ep_idle_hit_after(struct ep_idle *idle, uint64_t ns)
{
    uint32_t budget = LOAD(idle->ns);

    ep_idle_hit(idle);
    if (ns > idle->min_ns && budget > idle->min_ns)
        STORE(idle->ns, budget - (budget - idle->min_ns + 63) / 64);
}

void ep_idle_miss(struct ep_idle *idle)
{
    unsigned next = 2u * LOAD(idle->skip_next) + 1u;

    if (next > EP_IDLE_SKIP_MAX)
        next = EP_IDLE_SKIP_MAX;
    STORE(idle->skip_next, (uint8_t)next);
    STORE(idle->skip, (uint8_t)next);
}

/* How often to ask, and how much more often than never. */
#define YIELD_MIN_NS 50000u
#define YIELD_MAX_NS 200000u
/* A yield that takes less than this has found nobody. */
#define NOBODY_NS 5000u

void ep_yield_if_due(struct ep_yield *yield, uint64_t now_ns)
{
    if (now_ns - yield->last_ns < yield->every_ns)
        return;
    (void)sched_yield();
    uint64_t back_ns = ep_clock_ns();
    if (back_ns - now_ns >= NOBODY_NS || yield->every_ns < YIELD_MIN_NS)
        yield->every_ns = YIELD_MIN_NS;
    else if (yield->every_ns < YIELD_MAX_NS)
        yield->every_ns *= 2;
    yield->last_ns = back_ns;
}
