/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_TURN_H
#define EP_TURN_H

/*
 * ep_turn - what a caller pays for its turn on a scheduler, so that other processes, and
 * threads of the system, have theirs.
 *
 * The VM counts steps, and a wait takes few of them: without a price a process would make
 * hundreds of calls before the next process has its turn.
 *
 * Units      nanoseconds; a turn has 100 percent.
 * Threads    scheduler threads. Each knows of itself only.
 */

#include "ep_hash.h"

#include <erl_nif.h>

#include <stdbool.h>
#include <stdint.h>

/* The price of a call that is answered at once. */
#define EP_TURN_PERCENT 5
/* So many such calls are charged at a time. */
#define EP_TURN_CALLS 8
/* The price while other callers of the scheduler make one call a turn, because their worker
 * lacks a CPU. It holds for so many answers after such a caller was seen. */
#define EP_TURN_MIXED_PERCENT 13
#define EP_TURN_MIXED_ANSWERS 128
/* A scheduler with other callers to run gives its CPU up this seldom. A thread that yields
 * more often than the others on its CPU hardly gets it. */
#define EP_TURN_GIVE_WAY_NS 25000

/* Whether the call at this position of the ring is the one that pays. Evenly spread and yet
 * without a period: callers take turns in the same order for long, and
 * each eighth position of the ring would be the same few callers' for as long. */
static inline bool ep_turn_is_charged(uint64_t position)
{
    return ep_hash_number(position) < UINT64_MAX / EP_TURN_CALLS;
}

/* Pays for the calls since the last time, and gives the CPU up now and then: a scheduler whose
 * callers are all answered at once never sleeps. */
void ep_turn_charge(ErlNifEnv *env);

/* The caller pays with the rest of its turn: all other processes go first. */
void ep_turn_end(ErlNifEnv *env);

/* A caller of this scheduler waits without hope. */
void ep_turn_note_futile(void);

/* Whether a scheduler with other callers to run may give its CPU up again. In any case where
 * the worker needs this very CPU. */
bool ep_turn_may_give_way(uint64_t now_ns, bool shares_cpu);

#endif
