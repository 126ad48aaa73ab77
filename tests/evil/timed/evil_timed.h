/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EVIL_TIMED_H
#define EVIL_TIMED_H

/*
 * evil_timed - how long the functions of the NIF take of the CPU of their thread.
 *
 * The library is the NIF itself, with a function around each of its functions that a normal
 * scheduler enters: those of its table, and those that it schedules for later. Dirty
 * schedulers enter the functions themselves. The figures lie in the file that the environment
 * variable EVIL_TIMES names, which evil_times.erl reads.
 *
 * Units      nanoseconds of CLOCK_THREAD_CPUTIME_ID, or what the processor ran meanwhile
 *            (evil_heart.h) if that is less: a thread that the system or the host does not let
 *            run, or that sleeps, takes none.
 * Trial      the last place times a loop of a millisecond and a half: the measure finds it.
 * Threads    any.
 */

#include <stdatomic.h>
#include <stdint.h>

#define EVIL_TIMES 128u
#define EVIL_TIMED_LONG_NS 1000000u
#define EVIL_TIMED_TRIAL "trial"

/* 64 bytes, in native byte order. */
struct evil_time {
    char name[32]; /* "" : unused */
    _Atomic uint64_t calls;
    _Atomic uint64_t longest_ns;
    _Atomic uint64_t longer; /* calls of more than EVIL_TIMED_LONG_NS */
    _Atomic uint64_t stolen; /* calls of more than that by their CPU time alone */
};

#endif
