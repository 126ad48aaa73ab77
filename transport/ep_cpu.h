/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CPU_H
#define EP_CPU_H

/*
 * ep_cpu - the clock, pauses, and CPUs.
 *
 * Units      nanoseconds.
 * Threads    any.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* CLOCK_MONOTONIC. */
uint64_t ep_clock_ns(void);

/* Tells the CPU that this thread waits in a loop. Inline: the call would take as
 * long as the look at the ring that it separates. */
static inline void ep_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* CPUs this process may use: affinity and cgroup quota (v1 and v2), at least 1. */
unsigned ep_cpu_count(void);

/* The CPU that runs this, from 1; 0: unknown. It may be another one a moment later. */
uint32_t ep_cpu_here(void);

#ifdef __cplusplus
}
#endif

#endif
