/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_placer.h"

#include "ep_cpu.h"

#include <sched.h>
#include <stdbool.h>

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
