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
