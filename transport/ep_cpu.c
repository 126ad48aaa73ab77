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

void ep_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
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

/* A hit is worth more than a miss costs: a wake-up takes tens of microseconds,
 * a spin that fails its own budget only. */
#define SPIN_MIN_NS 1000u

void ep_spin_init(struct ep_spin *spin, uint32_t max_ns)
{
    *spin = (struct ep_spin){.budget_ns = max_ns, .max_ns = max_ns};
}

void ep_spin_hit(struct ep_spin *spin)
{
    uint64_t longer = (uint64_t)spin->budget_ns + spin->budget_ns / 2 + 1;
    spin->budget_ns = longer < spin->max_ns ? (uint32_t)longer : spin->max_ns;
}

void ep_spin_miss(struct ep_spin *spin)
{
    uint32_t shorter = spin->budget_ns - spin->budget_ns / 8;
    uint32_t least = SPIN_MIN_NS < spin->max_ns ? SPIN_MIN_NS : spin->max_ns;
    spin->budget_ns = shorter > least ? shorter : least;
}
