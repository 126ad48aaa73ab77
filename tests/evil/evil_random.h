/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVIL_RANDOM_H
#define EVIL_RANDOM_H

/*
 * evil_random - numbers from a seed (splitmix64), so that an attack can be made again.
 *
 * Threads    one thread's.
 */

#include <stdbool.h>
#include <stdint.h>

struct evil_random {
    uint64_t state;
};

static inline uint64_t evil_next(struct evil_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* A number below n. */
static inline uint64_t evil_below(struct evil_random *random, uint64_t n)
{
    return evil_next(random) % n;
}

static inline bool evil_coin(struct evil_random *random)
{
    return (evil_next(random) & 1) != 0;
}

/* A number as liars like it: around a power of two, the ends of a range, or anything. */
static inline uint64_t evil_odd_number(struct evil_random *random)
{
    uint64_t power = UINT64_C(1) << evil_below(random, 64);

    switch (evil_below(random, 6)) {
    case 0: return 0;
    case 1: return UINT64_MAX - evil_below(random, 3);
    case 2: return power - 1;
    case 3: return power;
    case 4: return power + evil_below(random, 4096);
    default: return evil_next(random);
    }
}

#endif
