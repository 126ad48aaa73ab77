/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVIL_HEART_H
#define EVIL_HEART_H

/*
 * evil_heart - how long the processors really ran.
 *
 * A virtual machine counts as CPU time of a thread what its host took away while the thread
 * ran: here up to 19 ms at once, in a loop that does nothing else. So each processor has a
 * thread that beats each 100 us, before all other threads of that processor. A processor that
 * its host stops does not beat, and makes up for no beat that it missed.
 *
 *     real time   |----- runs -----|...... host has it ......|-- runs --|
 *     CPU time    |========================================================|
 *     beats        '  '  '  '  '  '                             '  '  '
 *
 * Without the right to real-time scheduling no heart beats, and CPU time is all there is.
 *
 * Ownership  none: the threads live as long as the process.
 * Threads    any.
 */

#include <stdbool.h>
#include <stdint.h>

#define EVIL_HEART_PERIOD_NS 100000u

struct evil_heart_mark {
    int cpu;
    uint64_t of_cpu;
    uint64_t of_all;
};

/* Starts the hearts. Once, before any other function; true if all of them beat. */
bool evil_heart_start(void);

struct evil_heart_mark evil_heart_mark(void);

/*
 * The most that the calling thread can have run since the mark, in nanoseconds. A thread that
 * has moved to another processor is told the beats of all of them. UINT64_MAX without hearts.
 */
uint64_t evil_heart_since(struct evil_heart_mark mark);

#endif
