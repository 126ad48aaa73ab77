/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

void ep_worker_ring_doorbell(struct ep_worker *worker, struct ep_lane_worker *lane)
{
    uint64_t one = 1;

    if (!ep_bell_must_ring(&lane->response_bell))
        return;
    while (write(worker->doorbell, &one, sizeof(one)) < 0) {
        if (errno == EAGAIN)
            return; /* so full that nobody can overlook it */
        if (errno != EINTR)
            ep_worker_die(EP_EXIT_FDS_LOST, "Python code closed the doorbell");
    }
}

bool ep_worker_is_stopping(const struct ep_worker *w)
{
    return atomic_load_explicit(&w->is_stopping, memory_order_seq_cst) != 0;
}

_Noreturn void ep_worker_die(int code, const char *sentence)
{
    char line[EP_WORKER_WHY_SIZE + 32];

    int n = snprintf(line, sizeof(line), "ep_worker: %s\n", sentence);
    if (n > 0)
        (void)!write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
    _exit(code);
}
