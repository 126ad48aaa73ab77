/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_STATS_H
#define EP_STATS_H

/*
 * ep_stats - what a lane has done and how long it took.
 *
 * Counting is one relaxed addition per call. A clock costs as much as a twentieth of
 * a call, and a timed request moves one more cache line each way, so only every
 * EP_STATS_SAMPLE-th is timed, and only those are in the histograms. Those that
 * nobody spins for are many microseconds long, and so is their share in the figures.
 *
 * Units    microseconds.
 * Threads  any.
 */

#include "ep_vm.h"

/* How long something took, by powers of two of microseconds. Of some of the calls:
 * most calls are not timed, see ep_stats.h. */
#define EP_HIST_BUCKETS 32u
struct ep_hist {
    _Atomic uint64_t count, sum_us, max_us;
    _Atomic uint64_t buckets[EP_HIST_BUCKETS]; /* [i]: below 2^i us */
};

struct ep_stats {
    _Atomic uint64_t calls, errors, timeouts;
    _Atomic uint64_t interrupted; /* had started when their worker process died */
    struct ep_hist queue, run, reply;
};

#define EP_STATS_SAMPLE 32u

/* Whether the next request on that ring is to be timed. Under the producer lock. */
static inline bool ep_stats_is_sampled(const struct ep_ring_tx *ring)
{
    /* Not 0: the first message of a ring is START. */
    return ring->tail % EP_STATS_SAMPLE == 1;
}

/* A call has its outcome. */
void ep_stats_ended(struct ep_stats *stats, const struct ep_call *call, const struct ep_msg *msg);

/* A call was given up by its caller. */
void ep_stats_timed_out(struct ep_stats *stats);

/* #{queue | run | reply => {Count, SumUs, MaxUs, [BucketCount]}, calls, errors, timeouts,
 *   state, os_pid, restarts, queue_depth, shared_bytes, interrupted} */
ERL_NIF_TERM ep_stats_make(ErlNifEnv *env, struct ep_lane *lane);

#endif
