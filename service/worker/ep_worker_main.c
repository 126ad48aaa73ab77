/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_cpu.h"
#include "ep_py_context.h"
#include "ep_py_start.h"
#include "ep_py_title.h"
#include "ep_thread.h"
#include "ep_worker.h"
#include "ep_worker_control.h"
#include "ep_worker_lane.h"
#include "ep_worker_loop.h"
#include "ep_worker_task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * ep_worker PYTHON MODULE_DIR: a process that runs Python for the VM. The
 * launcher puts its fds in place, see enum ep_worker_fd.
 */

static struct ep_worker worker = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .lane_ended = PTHREAD_COND_INITIALIZER,
};

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

static int open_segments(void)
{
    int rc = ep_seg_open(&worker.a, EP_WORKER_FD_A, false);
    if (rc < 0)
        return rc;
    rc = ep_seg_open(&worker.b, EP_WORKER_FD_B, true);
    if (rc < 0)
        return rc;
    rc = ep_seg_open(&worker.c, EP_WORKER_FD_C, false);
    if (rc < 0)
        return rc;
    ep_seg_close_fd(&worker.a);
    ep_seg_close_fd(&worker.b);
    ep_seg_close_fd(&worker.c);
    rc = ep_layout_check(worker.a.mem, worker.a.size, worker.b.size, worker.c.size);
    if (rc < 0)
        return rc;

    const struct ep_layout_header *header = worker.a.mem;
    worker.n_lanes = header->lanes;
    /* Who spins on a single CPU keeps the one he waits for from running. */
    if (ep_cpu_count() > 1) {
        worker.spin_min_ns = header->spin_min_ns;
        worker.spin_max_ns = header->spin_max_ns;
    }
    return worker.n_lanes < 2 ? -EPROTO : 0;
}

int main(int argc, char **argv)
{
    char why[EP_WORKER_WHY_SIZE];

    ep_thread_note_mask();
    if (argc != 3)
        ep_worker_die(EP_EXIT_CANNOT_START, "started by ep_launcher only: PYTHON MODULE_DIR");
    int rc = open_segments();
    if (rc < 0) {
        (void)snprintf(why, sizeof(why), "the segments do not fit: %s", strerror(-rc));
        ep_worker_die(EP_EXIT_CANNOT_START, why);
    }
    worker.doorbell = move_up(EP_WORKER_FD_DOORBELL);
    worker.control = move_up(EP_WORKER_FD_CONTROL);

    if (ep_py_start(argv[1], argv[2], why, sizeof(why)) < 0)
        ep_worker_die(EP_EXIT_CANNOT_START, why);

    ep_py_title_init(argc, argv);
    struct ep_worker_lane *lane = ep_worker_lane_create(&worker, 1);
    if (lane == NULL || ep_worker_control_start(&worker) < 0)
        ep_worker_die(EP_EXIT_CANNOT_START, "no memory or threads");
    ep_worker_loop_run(lane);

    /* SHUTDOWN. The watchdog of the control thread bounds all of this. */
    (void)pthread_mutex_lock(&worker.mutex);
    while (worker.running_lanes > 0)
        (void)pthread_cond_wait(&worker.lane_ended, &worker.mutex);
    (void)pthread_mutex_unlock(&worker.mutex);
    ep_worker_task_end(&worker);
    ep_py_context_run_exit(NULL, worker.threads_until_ns);
    (void)fflush(NULL);
    _exit(EP_EXIT_ASKED);
}
