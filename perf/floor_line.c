/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What no call between two processes can beat: one cache line to another process
 * and back.
 */
#define _GNU_SOURCE
#include "floor.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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

int main(void)
{
    struct line *line =
        mmap(NULL, sizeof(*line), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    double rounds[FLOOR_ROUNDS];
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
    for (int r = 0; r < FLOOR_ROUNDS; r++) {
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
    floor_print("line", rounds);
    return 0;
}
