/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PROGRESS_H
#define EP_PROGRESS_H

/*
 * ep_progress - how far a request is, as far as its worker says.
 *
 * Threads  any.
 * Trust    a worker that hides what it runs is found out while its calls are watched, see
 *          ep_progress_of().
 */

#include "ep_vm.h"

/* How far a call is. */
enum ep_progress {
    EP_PROGRESS_ENDED,   /* and perhaps its caller has not collected that */
    EP_PROGRESS_WAITS,   /* for its turn, or below another */
    EP_PROGRESS_STILL,   /* for its turn, although nothing is at work that it could wait for */
    EP_PROGRESS_STOPPED, /* the control thread takes nothing: the process stands still */
    EP_PROGRESS_RUNS,    /* it occupies the worker at this moment */
    EP_PROGRESS_IMPORTS, /* so it does, and no interrupt reaches it before an import ends */
};

/* Of STILL. The same number of messages taken at two looks: in between, nothing was at work. */
struct ep_still {
    uint64_t taken;  /* by the lanes that the call could wait for */
    uint64_t cpu_us; /* used by the process, ever */
};

/* Ask again and again: the control thread gets a message to take. *ret_still is written if
 * the result is STILL. */
enum ep_progress ep_progress_of(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id,
                                struct ep_still *ret_still);

/* Whether the lane has not taken the call, and nobody was told so for a second. Under the
 * consumer lock. */
bool ep_progress_is_neglected(struct ep_lane *lane, const struct ep_call *call);

/* Whether no request runs or waits for an answer, as the worker says. */
bool ep_progress_is_idle(struct ep_lane *lane);

/* Whether what runs imports a module, as the worker says. */
bool ep_progress_is_importing(struct ep_lane *lane);

#endif
