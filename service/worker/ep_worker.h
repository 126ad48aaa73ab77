/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_H
#define EP_WORKER_H

/*
 * ep_worker - one worker process: its segments, its lanes, its end.
 *
 * The main thread serves lane 1, so that signal handlers of Python code work
 * there. The control thread serves lane 0 and starts one thread per further
 * lane. A third thread sleeps on the control pipe and ends the process when
 * the VM is gone. No thread but the lanes ever waits for the GIL.
 *
 * Ownership  everything lives until the process exits.
 * Threads    fields are constant once the threads run, except those under the
 *            mutex and the atomic ones. Functions: any thread.
 * Trust      A is the VM's and trusted; what makes no sense in it ends the
 *            process with EP_EXIT_PROTOCOL.
 */

#include "ep_control.h"
#include "ep_lane.h"
#include "ep_py_context.h"
#include "ep_seg.h"

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_WORKER_WHY_SIZE 768u

struct ep_worker_lane;

/* What the launcher hands to a worker: descriptors, as in enum ep_worker_fd. */
struct ep_worker_fds {
    int a, b, c, doorbell, control;
};

struct ep_worker {
    struct ep_seg a;
    struct ep_seg b;
    struct ep_seg c;
    uint32_t n_lanes;
    uint32_t spin_min_ns, spin_max_ns;
    int doorbell;
    int control;                                /* a socket that ends with the VM */
    struct ep_lane_worker control_lane;         /* lane 0 */
    struct ep_worker_lane *lanes[EP_LANES_MAX]; /* written under mutex, never replaced */
    ep_atomic_u64 letters_until;                /* see ep_worker_note_settle() */
    ep_atomic_u32 is_stopping;                  /* SHUTDOWN was received ... */
    uint64_t threads_until_ns; /* ... before, then constant: see ep_py_context_run_exit() */
    pthread_mutex_t mutex;
    pthread_cond_t lane_ended;
    unsigned running_lanes; /* under mutex */
};

/* SENDs of one lane for which the doorbell was not rung, see EP_SEND_QUIET_NS. */
struct ep_worker_quiet {
    uint64_t rung_ns;
    uint32_t unrung;
};

/* Maps the segments and takes the descriptors. What makes no sense ends the process. */
void ep_worker_open(struct ep_worker *worker, const struct ep_worker_fds *fds);

/* Tells the VM that the lane has something published, if it wants to know. */
void ep_worker_ring_doorbell(struct ep_worker *worker, struct ep_lane_worker *lane);

/* The same after a SEND, for which it is seldom needed. */
void ep_worker_ring_for_letter(struct ep_worker *worker, struct ep_lane_worker *lane,
                               struct ep_worker_quiet *quiet);

bool ep_worker_is_stopping(const struct ep_worker *worker);

/* Sentence to stderr, then _exit. */
_Noreturn void ep_worker_die(int code, const char *sentence);

#ifdef __cplusplus
}
#endif

#endif
