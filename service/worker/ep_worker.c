/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_worker.h"

#include "ep_cpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Moves an fd to where neither close loops over small numbers nor the reuse of
 * the lowest number by other files touch it. */
static int move_up(int fd)
{
    struct rlimit limit = {.rlim_cur = 256};

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    int least = limit.rlim_cur > 1024 ? 1000 : (int)limit.rlim_cur - 16;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, least < 16 ? 16 : least);
    if (high < 0) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        return fd;
    }
    (void)close(fd);
    return high;
}

static int open_segments(struct ep_worker *worker, const struct ep_worker_fds *fds)
{
    int rc = ep_seg_open(&worker->a, fds->a, false);
    if (rc < 0)
        return rc;
    rc = ep_seg_open(&worker->b, fds->b, true);
    if (rc < 0)
        return rc;
    rc = ep_seg_open(&worker->c, fds->c, false);
    if (rc < 0)
        return rc;
    ep_seg_close_fd(&worker->a);
    ep_seg_close_fd(&worker->b);
    ep_seg_close_fd(&worker->c);
    rc = ep_layout_check(worker->a.mem, worker->a.size, worker->b.size, worker->c.size);
    if (rc < 0)
        return rc;

    const struct ep_layout_header *header = worker->a.mem;
    worker->n_lanes = header->lanes;
    /* Who spins on a single CPU keeps the one he waits for from running. */
    if (ep_cpu_count() > 1) {
        worker->spin_min_ns = header->spin_min_ns;
        worker->spin_max_ns = header->spin_max_ns;
    }
    return worker->n_lanes < 2 ? -EPROTO : 0;
}

void ep_worker_open(struct ep_worker *worker, const struct ep_worker_fds *fds)
{
    char why[EP_WORKER_WHY_SIZE];

    int rc = open_segments(worker, fds);
    if (rc < 0) {
        (void)snprintf(why, sizeof(why), "the segments do not fit: %s", strerror(-rc));
        ep_worker_die(EP_EXIT_CANNOT_START, why);
    }
    worker->doorbell = move_up(fds->doorbell);
    worker->control = move_up(fds->control);
}

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
