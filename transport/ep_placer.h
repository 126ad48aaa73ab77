/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PLACER_H
#define EP_PLACER_H

/*
 * ep_placer - moves two sides that wait for each other on one CPU to different CPUs.
 *
 * Callers and workers that share CPUs in pairs wait for each other's time slices, though they
 * could look at each other from two CPUs. With one pair on each CPU the system sees nothing to
 * balance. So a thread that finds itself on the CPU of its other side again and again moves:
 * schedulers to the lower half of the CPUs, lane threads to the upper half. A move leaves
 * nothing behind: the set of CPUs that the thread may use is the same as before, and the
 * system may move the thread on.
 *
 * Units      nanoseconds.
 * Threads    a placer belongs to one thread, which calls.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Zeroed is a start. */
struct ep_placer {
    uint32_t shared;
    uint32_t pause_ns; /* from the last move to the next one */
    uint64_t since_ns; /* shared counts from then on */
    uint64_t moved_ns;
};

enum ep_half { EP_LOWER_HALF, EP_UPPER_HALF };

/* The other side ran on the CPU of this thread. May move the thread. */
void ep_placer_shared(struct ep_placer *placer, enum ep_half half);

#ifdef __cplusplus
}
#endif

#endif
