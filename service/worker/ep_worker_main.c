/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_py_context.h"
#include "ep_py_start.h"
#include "ep_py_title.h"
#include "ep_thread.h"
#include "ep_worker.h"
#include "ep_worker_control.h"
#include "ep_worker_lane.h"
#include "ep_worker_loop.h"
#include "ep_worker_sandbox.h"
#include "ep_worker_task.h"
#include "ep_worker_zygote.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * ep_worker PYTHON MODULE_DIR [worker|zygote [SANDBOX TEMP_DIR]]: a process that runs Python for
 * the VM, or forks such processes. The launcher puts its fds in place, see enum ep_worker_fd.
 */

static struct ep_worker worker = {
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .lane_ended = PTHREAD_COND_INITIALIZER,
};

/* Serves until SHUTDOWN. Python is up, and the main thread not attached. */
static _Noreturn void serve(int argc, char **argv)
{
    ep_py_title_init(argc, argv, "ep_worker");
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

int main(int argc, char **argv)
{
    static const struct ep_worker_fds fds = {EP_WORKER_FD_A, EP_WORKER_FD_B, EP_WORKER_FD_C,
                                             EP_WORKER_FD_DOORBELL, EP_WORKER_FD_CONTROL};
    struct ep_worker_fds forked;
    char why[EP_WORKER_WHY_SIZE];

    ep_thread_note_mask();
    if (argc != 3 && argc != 4 && argc != 6)
        ep_worker_die(EP_EXIT_CANNOT_START, "started by ep_launcher only: PYTHON MODULE_DIR");
    bool is_zygote = argc > 3 && strcmp(argv[3], "zygote") == 0;
    if (is_zygote)
        ep_worker_zygote_note();
    if (argc == 6)
        ep_worker_sandbox_enter(argv[4], argv[5]);
    ep_worker_open(&worker, &fds);
    if (ep_py_start(argv[1], argv[2], why, sizeof(why)) < 0)
        ep_worker_die(EP_EXIT_CANNOT_START, why);
    if (is_zygote) {
        ep_py_title_init(argc, argv, "ep_zygote");
        ep_worker_zygote_run(&worker, &forked);
        ep_worker_open(&worker, &forked);
    }
    serve(argc, argv);
}
