/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FLOOR_H
#define FLOOR_H

/*
 * floor - what the floor_*.c programs share: the middle of some rounds, printed as a
 * line NAME NUMBER for bench_floor.erl.
 *
 * Units  nanoseconds.
 */

#include "ep_cpu.h"

#include <stdio.h>
#include <stdlib.h>

#define FLOOR_ROUNDS 21

static inline int floor_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline void floor_print(const char *name, double rounds[FLOOR_ROUNDS])
{
    qsort(rounds, FLOOR_ROUNDS, sizeof(rounds[0]), floor_compare);
    (void)printf("%s %.1f\n", name, rounds[FLOOR_ROUNDS / 2]);
}

#endif
