/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CPU_H
#define EP_CPU_H

/*
 * ep_cpu - clocks, pauses, how many CPUs there are, and how long to spin.
 *
 * Units      nanoseconds.
 * Threads    ep_spin: one at a time per object; the rest: any.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* CLOCK_MONOTONIC. */
uint64_t ep_clock_ns(void);

/* Tells the CPU that this thread waits in a loop. */
void ep_cpu_relax(void);

/* CPUs this process may use: affinity and cgroup quota (v1 and v2), at least 1. */
unsigned ep_cpu_count(void);

/* A budget for busy waiting that adapts: longer after success, shorter after
 * failure. Zeroed means "never spin". */
struct ep_spin {
    uint32_t budget_ns;
    uint32_t max_ns;
};

void ep_spin_init(struct ep_spin *spin, uint32_t max_ns);
void ep_spin_hit(struct ep_spin *spin);
void ep_spin_miss(struct ep_spin *spin);

#ifdef __cplusplus
}
#endif

#endif
