/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_cpu.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t ep_clock_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Reads "quota period" (v2) or one number per file (v1); 0: no limit or no file. */
static unsigned quota_cpus(void)
{
    long long quota = 0, period = 0;

    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f != NULL) {
        int n = fscanf(f, "%lld %lld", &quota, &period);
        (void)fclose(f);
        if (n != 2)
            return 0; /* "max" */
    } else {
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
        if (f == NULL)
            return 0;
        int n = fscanf(f, "%lld", &quota);
        (void)fclose(f);
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
        if (n != 1 || f == NULL)
            return 0;
        n = fscanf(f, "%lld", &period);
        (void)fclose(f);
        if (n != 1)
            return 0;
    }
    if (quota <= 0 || period <= 0)
        return 0;
    return quota < period ? 1u : (unsigned)(quota / period);
}

unsigned ep_cpu_count(void)
{
    cpu_set_t set;
    unsigned n = 1;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        n = (unsigned)CPU_COUNT(&set);
    unsigned quota = quota_cpus();
    if (quota != 0 && quota < n)
        n = quota;
    return n == 0 ? 1 : n;
}

uint32_t ep_cpu_here(void)
{
    return (uint32_t)(sched_getcpu() + 1);
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

/* Moves the calling thread to that half of the CPUs that it may use, if it is not there.
 * Returns whether it did. */
static bool move_to(enum ep_half half)
{
    cpu_set_t all, some;
    int here = sched_getcpu(), place = 0;

    if (here < 0 || sched_getaffinity(0, sizeof(all), &all) < 0)
        return false;
    int lower = (CPU_COUNT(&all) + 1) / 2;
    CPU_ZERO(&some);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all))
            continue;
        if ((place++ >= lower) == (half == EP_UPPER_HALF))
            CPU_SET(cpu, &some);
    }
    if (CPU_COUNT(&some) == 0 || CPU_ISSET(here, &some)
        || sched_setaffinity(0, sizeof(some), &some) < 0)
        return false;
    (void)sched_setaffinity(0, sizeof(all), &all);
    return true;
}

/* So often within this time is no accident. */
#define SHARED_OFTEN 64u
#define SHARED_WITHIN_NS 20000000u
/* Between two moves: longer each time if they do not help. */
#define PAUSE_MIN_NS 10000000u
#define PAUSE_MAX_NS 1000000000u

void ep_placer_shared(struct ep_placer *placer, enum ep_half half)
{
    if (++placer->shared < SHARED_OFTEN)
        return;
    placer->shared = 0;
    uint64_t now = ep_clock_ns(), since = placer->since_ns;
    placer->since_ns = now;
    if (now - since > SHARED_WITHIN_NS || now - placer->moved_ns < placer->pause_ns)
        return;
    if (!move_to(half))
        return;
    bool helped = now - placer->moved_ns > 16 * (uint64_t)placer->pause_ns;
    if (helped || placer->pause_ns < PAUSE_MIN_NS)
        placer->pause_ns = PAUSE_MIN_NS;
    else if (placer->pause_ns < PAUSE_MAX_NS)
        placer->pause_ns *= 2;
    placer->moved_ns = now;
}

void ep_spin_init(struct ep_spin *spin, uint32_t min_ns, uint32_t max_ns)
{
    *spin = (struct ep_spin){.ns = min_ns, .min_ns = min_ns, .max_ns = max_ns};
}

/* Relaxed throughout: nothing else depends on it. */
#define LOAD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#define STORE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)

uint32_t ep_spin_budget(struct ep_spin *spin)
{
    uint8_t skip = LOAD(spin->skip);

    if (skip == 0)
        return LOAD(spin->ns);
    STORE(spin->skip, (uint8_t)(skip - 1));
    return 0;
}

void ep_spin_learn(struct ep_spin *spin, uint64_t sleep_ns)
{
    uint64_t ns = sleep_ns < spin->min_ns ? spin->min_ns : sleep_ns;

    STORE(spin->ns, ns > spin->max_ns ? spin->max_ns : (uint32_t)ns);
}

void ep_spin_hit(struct ep_spin *spin)
{
    /* Only if it changes: callers share the line. */
    if (LOAD(spin->skip_next) != 0)
        STORE(spin->skip_next, 0);
}

void ep_spin_hit_after(struct ep_spin *spin, uint64_t ns)
{
    uint32_t budget = LOAD(spin->ns);

    ep_spin_hit(spin);
    if (ns > spin->min_ns && budget > spin->min_ns)
        STORE(spin->ns, budget - (budget - spin->min_ns + 63) / 64);
}

void ep_spin_miss(struct ep_spin *spin)
{
    unsigned next = 2u * LOAD(spin->skip_next) + 1u;

    if (next > EP_SPIN_SKIP_MAX)
        next = EP_SPIN_SKIP_MAX;
    STORE(spin->skip_next, (uint8_t)next);
    STORE(spin->skip, (uint8_t)next);
}
