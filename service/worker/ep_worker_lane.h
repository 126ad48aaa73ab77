/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_LANE_H
#define EP_WORKER_LANE_H

/*
 * ep_worker_lane - one lane of a worker: the thread that serves it, its context.
 *
 * A thread that is alone in its interpreter keeps the GIL for the first moment
 * of a wait, where the next request of a busy caller arrives; taking it back
 * would cost more than the call. Nobody is kept waiting by that: a thread that
 * wants in shows up in ep_py_context_is_alone() before it waits, and in an
 * unbroken run of requests ep_py_context_breathe() lets it in as Python's own
 * evaluation loop would. The GIL is never held during a sleep.
 *
 * Ownership  a lane lives until the process exits.
 * Threads    the lane's own, except for its interrupt, and for what is under
 *            worker->mutex.
 */

#include "ep_cpu.h"
#include "ep_idle.h"
#include "ep_lane.h"
#include "ep_placer.h"
#include "ep_py_channel.h"
#include "ep_py_context.h"
#include "ep_py_interrupt.h"
#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EP_WORKER_STACK_SIZE (16u << 20)
#define EP_WORKER_SCRATCH_SIZE (64u << 10)

struct ep_worker_frame;
struct ep_worker_loop;

struct ep_worker_lane {
    struct ep_lane_worker shm;
    struct ep_worker *worker;
    uint32_t index;
    uint32_t streak; /* requests since the thread last let others have the GIL */
    struct ep_yield yield;
    struct ep_placer placer;
    struct ep_idle idle;
    uint32_t last_bytes; /* of the reply before, which the VM reads before it asks again */
    struct ep_py_context *context; /* NULL before START and after STOP */
    uint32_t cpu;                  /* as published, see struct ep_lane_b */
    bool attached;                 /* the thread holds the context's GIL */
    bool is_main;
    bool is_framed; /* serves requests, below which is a frame of Python's */
    bool is_scratch_used;
    struct ep_worker_frame *top; /* the request that runs, or waits for an outcome */
    unsigned depth;              /* frames */
    uint64_t callbacks;          /* questions asked so far */
    ep_atomic_u64 running_env;   /* namespace of the request on top */
    unsigned visitors;           /* maintenance threads; under worker->mutex */
    bool is_leaving;             /* the context ends; under worker->mutex */
    bool has_started;            /* START was served, well or not; under worker->mutex */
    ep_atomic_u32 firsts;        /* maintenance that the next request waits for; counted
                                    down under worker->mutex */
    struct ep_worker_loop *loop; /* runs its tasks; NULL: none so far; under worker->mutex */
    bool takes_no_tasks;         /* the context ends; under worker->mutex */
    bool has_no_tasks;           /* and the loop has let go of it; under worker->mutex */
    struct ep_worker_quiet quiet;
    struct ep_py_channel channel;
    struct ep_py_interrupt interrupt;
    uint8_t *scratch; /* EP_WORKER_SCRATCH_SIZE bytes: where results are encoded */
};

/* Makes the lane's object. Returns NULL without memory. */
struct ep_worker_lane *ep_worker_lane_create(struct ep_worker *worker, uint32_t index);

/* Takes the GIL of the context, and gives it back. Neither does anything twice. */
void ep_worker_lane_attach(struct ep_worker_lane *lane);
void ep_worker_lane_detach(struct ep_worker_lane *lane);

#ifdef __cplusplus
}
#endif

#endif
