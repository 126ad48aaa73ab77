/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_worker.h"

#include "ep_cpu.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static void write_doorbell(const struct ep_worker *worker, uint64_t value)
{
    while (write(worker->doorbell, &value, sizeof(value)) < 0) {
        if (errno == EAGAIN)
            return; /* so full that nobody can overlook it */
        if (errno != EINTR)
            ep_worker_die(EP_EXIT_FDS_LOST, "Python code closed the doorbell");
    }
}

void ep_worker_ring_doorbell(struct ep_worker *worker, struct ep_lane_worker *lane)
{
    if (ep_bell_must_ring(&lane->response_bell))
        write_doorbell(worker, 1);
}

void ep_worker_ring_for_letter(struct ep_worker *worker, struct ep_lane_worker *lane,
                               struct ep_worker_quiet *quiet)
{
    quiet->unrung++;
    uint64_t now = ep_clock_ns();
    if (quiet->unrung < EP_SEND_UNRUNG_MAX && now - quiet->rung_ns < EP_SEND_QUIET_NS)
        return;
    if (!ep_bell_must_ring(&lane->response_bell))
        return; /* somebody looks at the ring */
    quiet->unrung = 0;
    quiet->rung_ns = now;
    write_doorbell(worker, EP_DOORBELL_SEND);
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
