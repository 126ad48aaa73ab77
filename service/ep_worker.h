/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_H
#define EP_WORKER_H

/*
 * ep_worker - one worker process: its segments, its lanes, its end.
 *
 * The main thread serves lane 1, so that signal handlers of Python code work
 * there. The control thread serves lane 0 and starts one thread per further
 * lane. A third thread sleeps on the control socket and ends the process when
 * the VM is gone. No thread but the lanes ever waits for the GIL.
 *
 * Ownership  everything lives until the process exits.
 * Threads    struct ep_worker: fields are constant once the threads run, except
 *            those under the mutex and the atomic ones. A lane belongs to its
 *            thread, except for its interrupt.
 * Trust      A is the VM's and trusted; what makes no sense in it ends the
 *            process with EP_EXIT_PROTOCOL.
 */

#include "ep_control.h"
#include "ep_cpu.h"
#include "ep_lane.h"
#include "ep_py.h"
#include "ep_seg.h"
#include "ep_thread.h"

#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Python code closed the fds that the process needs. Not in ep_control.h: for
 * the VM it is a death like any other. */
#define EP_EXIT_FDS_LOST 70

#define EP_WORKER_STACK_SIZE (16u << 20)
#define EP_WORKER_SCRATCH_SIZE (64u << 10)

struct ep_worker;
struct ep_worker_frame;

struct ep_worker_lane {
    struct ep_lane_worker shm;
    struct ep_worker *worker;
    uint32_t index;
    uint32_t streak; /* requests since the thread last let others have the GIL */
    struct ep_yield yield;
    struct ep_placer placer;
    struct ep_spin spin;
    uint32_t last_bytes; /* of the reply before, which the VM reads before it asks again */
    struct ep_py_context *context; /* NULL before START and after STOP */
    uint32_t cpu;                  /* as published, see struct ep_lane_b */
    bool attached;                 /* the thread holds the context's GIL */
    bool is_main;
    bool is_scratch_used;
    struct ep_worker_frame *top; /* the request that runs, or waits for an answer */
    unsigned depth;              /* frames */
    uint64_t callbacks;          /* questions asked so far */
    ep_atomic_u64 running_env;   /* namespace of the request on top */
    unsigned visitors;           /* maintenance threads; under worker->mutex */
    bool is_leaving;             /* the context ends; under worker->mutex */
    struct ep_py_channel channel;
    struct ep_py_interrupt interrupt;
    uint8_t *scratch; /* EP_WORKER_SCRATCH_SIZE bytes: where results are encoded */
};

struct ep_worker {
    struct ep_seg a;
    struct ep_seg b;
    struct ep_seg c;
    uint32_t n_lanes;
    uint32_t spin_min_ns, spin_max_ns;
    int doorbell;
    int control;
    struct ep_worker_lane *lanes[EP_LANES_MAX]; /* written under mutex, never replaced */
    ep_atomic_u32 is_stopping;                  /* SHUTDOWN was received */
    pthread_mutex_t mutex;
    pthread_cond_t lane_ended;
    unsigned running_lanes; /* under mutex */
};

/* Makes the lane's object. Returns NULL without memory. */
struct ep_worker_lane *ep_worker_lane_create(struct ep_worker *worker, uint32_t index);

/* Serves the lane until SHUTDOWN. */
void ep_worker_lane_run(struct ep_worker_lane *lane);

/* Tells the VM that the lane has something published, if it wants to know. */
void ep_worker_ring_doorbell(struct ep_worker *worker, struct ep_lane_worker *lane);

/* Publishes HELLO and starts the control thread and the watcher of the socket. */
int ep_worker_control_start(struct ep_worker *worker);

/* A message to the VM on the control lane. */
struct ep_worker_note {
    uint8_t kind; /* enum ep_kind */
    uint8_t aux;
    uint8_t lane; /* that it concerns; 0: none */
    uint64_t call_id;
    uint64_t subject;
    const struct ep_buf *payload; /* NULL: none */
};

/* Sends it; any thread, without the GIL. False: it cannot be sent. */
bool ep_worker_control_send(struct ep_worker *worker, const struct ep_worker_note *note);

bool ep_worker_is_stopping(const struct ep_worker *worker);

/* Sentence to stderr, then _exit. */
_Noreturn void ep_worker_die(int code, const char *sentence);

#ifdef __cplusplus
}
#endif

#endif
