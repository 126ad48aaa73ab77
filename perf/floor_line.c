/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What no call between two processes can beat: one cache line to another process
 * and back. Prints nanoseconds per round trip, the median of 21 rounds.
 */
#define _GNU_SOURCE
#include "ep_cpu.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 21
#define TRIPS 50000u

struct line {
    _Alignas(128) _Atomic unsigned ask;
    _Alignas(128) _Atomic unsigned answer;
};

static void echo(struct line *line)
{
    for (unsigned n = 1;; n++) {
        while (atomic_load_explicit(&line->ask, memory_order_acquire) != n)
            ep_cpu_relax();
        atomic_store_explicit(&line->answer, n, memory_order_release);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    struct line *line =
        mmap(NULL, sizeof(*line), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    double rounds[ROUNDS];
    unsigned n = 0;

    if (line == MAP_FAILED)
        return 1;
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        echo(line);
    }
    for (int r = 0; r < ROUNDS; r++) {
        uint64_t start = ep_clock_ns();
        for (unsigned i = 0; i < TRIPS; i++) {
            atomic_store_explicit(&line->ask, ++n, memory_order_release);
            while (atomic_load_explicit(&line->answer, memory_order_acquire) != n)
                ep_cpu_relax();
        }
        rounds[r] = (double)(ep_clock_ns() - start) / TRIPS;
    }
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
    printf("%.1f\n", rounds[ROUNDS / 2]);
    return 0;
}
