/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CPU_H
#define EP_CPU_H

/*
 * ep_cpu - clocks, pauses, CPUs, when to leave or to give one up, and how long to spin.
 *
 * Units      nanoseconds.
 * Threads    any. ep_spin in several threads at a time: budgets and skips are then guesses,
 *            within their limits.
 */

#include <stdbool.h>
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

/* When a thread that never sleeps asks whether somebody else wants its CPU: the system would
 * let it run until its time slice is over, milliseconds. A system call that finds nobody
 * costs as much as a call of ours, so the next one comes later, until somebody is found.
 * Zeroed means "at once". One thread's. */
struct ep_yield {
    uint64_t last_ns;
    uint32_t every_ns;
};

/* now_ns: ep_clock_ns(). */
void ep_yield_if_due(struct ep_yield *yield, uint64_t now_ns);

/* Callers and workers that share CPUs in pairs wait for each other's time slices, though
 * they could look at each other from two CPUs: with one pair on each, the system sees
 * nothing to balance. So whoever finds himself on the CPU of his other side
 * again and again moves, callers to the lower half of the CPUs, workers to the upper one.
 * That is one move: where the thread may run stays as it was, and the system may move it
 * on. Zeroed is a start. One thread's. */
struct ep_placer {
    uint32_t shared;
    uint32_t pause_ns; /* from the last move to the next one */
    uint64_t since_ns; /* shared counts from then on */
    uint64_t moved_ns;
};

enum ep_half { EP_LOWER_HALF, EP_UPPER_HALF };

/* The other side ran on the CPU of this thread. May move it. */
void ep_placer_shared(struct ep_placer *placer, enum ep_half half);

/* How long to wait busily, and whether that pays at the moment. The budget follows
 * what it costs to sleep instead: who waits busily for as long as that costs pays at most
 * twice of what the best choice would have (Karlin et al., Competitive randomized
 * algorithms for nonuniform problems, 1994). After success every wait may spin its full length;
 * after failures some waits in a row do not spin at all, at most EP_SPIN_SKIP_MAX of
 * them. So the cost of spinning in vain stays small, and yet a lane that has become
 * fast is found out within a few waits: a shorter budget instead would miss for ever
 * what takes a little longer than it. Zeroed means "never spin". */
#define EP_SPIN_SKIP_MAX 8u

struct ep_spin {
    uint32_t ns; /* the budget */
    uint32_t min_ns, max_ns;
    uint8_t skip;      /* waits still to go without spinning */
    uint8_t skip_next; /* how many it will be after the next failure */
};

void ep_spin_init(struct ep_spin *spin, uint32_t min_ns, uint32_t max_ns);

/* Sleeping costs that much at the moment. The budget becomes that, within its limits. */
void ep_spin_learn(struct ep_spin *spin, uint64_t sleep_ns);

/* What a wait may take longer because that many bytes are copied meanwhile: about the
 * time of one copy, and never more than a scheduler may be held anyway. */
static inline uint32_t ep_spin_extra(uint64_t bytes)
{
    uint64_t ns = bytes / 8;
    return ns < 100000 ? (uint32_t)ns : 100000;
}

/* How long this wait may spin; 0: not at all. Call once a wait, and then
 * ep_spin_hit() or ep_spin_miss() if it was not 0. */
uint32_t ep_spin_budget(struct ep_spin *spin);
void ep_spin_hit(struct ep_spin *spin);
void ep_spin_miss(struct ep_spin *spin);

/* After a success that took so long. One beyond the least budget shrinks the budget a
 * little: who never sleeps any more does not learn when sleeping has become cheap. */
void ep_spin_hit_after(struct ep_spin *spin, uint64_t ns);

#ifdef __cplusplus
}
#endif

#endif
