/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_IDLE_H
#define EP_IDLE_H

/*
 * ep_idle - how a side waits for the other one.
 *
 *      LOOK --------> YIELD --------> PARK
 *    first looks,    looks between   arm the bell,
 *    a moment        turns, while    look once more,
 *                    budget is left  sleep
 *
 * Both sides wait so: callers in the VM, lane threads in the worker. What they wait for ends
 * the wait in every state. Where the budget is 0, LOOK is followed by PARK. How a side looks,
 * and whom it lets go first, is its own: nif/lane/ep_reply_wait.c, nif/lane/ep_stream_wait.c,
 * service/worker/ep_worker_wait.c. What both have in common is here: how long each state lasts.
 *
 * Units      nanoseconds.
 * Threads    any. struct ep_idle in several threads at a time: budgets and skips are then
 *            guesses, within their limits. A struct ep_yield belongs to one thread.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Looks of a lane thread, and of a caller after its first one, before the first look at the
 * clock. The lane thread has the GIL meanwhile. A reply that comes within them saves the
 * caller two operations on a word that all callers share. */
#define EP_IDLE_LANE_LOOKS 64u
#define EP_IDLE_CALLER_LOOKS 48u
/* The same where no reply can come before other processes have had their turn. */
#define EP_IDLE_FUTILE_LOOKS 1u
/* Looks between two looks at the clock: a look at the clock costs as much as some of them. */
#define EP_IDLE_LOOKS 16u
/* How long a caller looks in one go. */
#define EP_IDLE_MOMENT_NS 3000u
/* A caller whose turn comes back within this has its scheduler for itself. */
#define EP_IDLE_ALONE_NS 2500u
/* If no reply has come to the ring for this long, its worker has no CPU or a long request. */
#define EP_IDLE_STILL_NS 3000u

/* Requests in a row after which a lane thread lets other threads have the GIL, and the CPU. */
#define EP_IDLE_STREAK 64u

/* Budgets, in wake-ups of a lane thread. Of a caller: waking the lane thread takes the caller
 * about as long as the wake-up lasts, and falling asleep before the reply costs as much again.
 * Of a lane thread: its caller may have to be woken, first the reaper, then a scheduler, and
 * each costs its waker about as much as it takes. A side that falls asleep sooner makes the
 * next call wake both sides again. */
#define EP_IDLE_WAKES_OF_A_CALLER 4u
#define EP_IDLE_WAKES_OF_A_LANE 8u
/* What a wake-up that took longer counts as, also if it took many times as long as usual. */
#define EP_IDLE_WAKE_NS_MAX 250000u
/* After waits in vain, at most so many waits have no budget. */
#define EP_IDLE_SKIP_MAX 8u

/*
 * How long to wait busily, and whether that pays at the moment. The budget follows what it
 * costs to sleep instead: a side that waits busily for as long as that costs pays at most
 * twice of what the best choice would have (Karlin et al., Competitive randomized algorithms
 * for nonuniform problems, 1994).
 *
 *   event                              budget                     next waits without budget
 *   ep_idle_learn, a wake-up           what sleeping costs
 *   ep_idle_hit, what came was quick                              none
 *   ep_idle_hit_after, it was slow     shrinks by 1/64 of what
 *                                      is above the least         none
 *   ep_idle_miss, the budget is over                              1, 3, 7, then 8
 *
 * So the cost of waiting in vain stays small, and yet a lane that has become fast is found out
 * within a few waits: a shorter budget instead would always miss what takes a little longer
 * than it. Zeroed means "no budget".
 */
struct ep_idle {
    uint32_t ns; /* the budget */
    uint32_t min_ns, max_ns;
    uint8_t skip;      /* waits still to go without a budget */
    uint8_t skip_next; /* how many it will be after the next failure */
};

void ep_idle_init(struct ep_idle *idle, uint32_t min_ns, uint32_t max_ns);

/* Sleeping costs that much at the moment. The budget becomes that, within its limits. */
void ep_idle_learn(struct ep_idle *idle, uint64_t sleep_ns);

/* The smoothed guess of what a wake-up takes, after one that took so long. 0: none so far. */
uint32_t ep_idle_guess(uint32_t wake_ns, uint64_t took_ns);

/* What a wait may take longer because that many bytes are copied meanwhile: about the
 * time of one copy, and never more than a scheduler may be held anyway. */
static inline uint32_t ep_idle_extra(uint64_t bytes)
{
    uint64_t ns = bytes / 8;
    return ns < 100000 ? (uint32_t)ns : 100000;
}

/* How long this wait may last; 0: not at all. Call once a wait, and then ep_idle_hit(),
 * ep_idle_hit_after() or ep_idle_miss() if it was not 0. */
uint32_t ep_idle_budget(struct ep_idle *idle);
void ep_idle_hit(struct ep_idle *idle);
void ep_idle_miss(struct ep_idle *idle);

/* After a success that took so long. One beyond the least budget shrinks the budget a
 * little: a side that never sleeps does not learn when sleeping has become cheap. */
void ep_idle_hit_after(struct ep_idle *idle, uint64_t ns);

/* When a thread that never sleeps asks whether somebody else wants its CPU: the system would
 * let it run until its time slice is over, milliseconds. A system call that finds nobody
 * costs as much as a call of ours, so the next one comes later, until somebody is found.
 * Zeroed means "at once". */
struct ep_yield {
    uint64_t last_ns;
    uint32_t every_ns;
};

/* now_ns: ep_clock_ns(). */
void ep_yield_if_due(struct ep_yield *yield, uint64_t now_ns);

#ifdef __cplusplus
}
#endif

#endif
