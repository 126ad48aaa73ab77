/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_MOVE_H
#define EP_MOVE_H

/*
 * ep_move - a lane moves to a worker process that is up, and loses no request.
 *
 *   understudy   a lane that was attached to the new process, is STARTED, and that nobody but
 *                its owner knows
 *
 * Requests that come from the first try on wait in the lane's queue. When all that came before
 * have ended, the lane and its understudy exchange their worker processes; what has waited goes
 * to the new one. A lane that has lost its process meanwhile gets the understudy's at once. The
 * understudy is left with the former process, for its owner to close.
 *
 * Errors   0 or a negative errno.
 * Threads  any.
 */

#include "ep_vm.h"

/* One try.
 * -EAGAIN: requests run still: later again; until then, or ep_move_give_up(), none begins.
 * -ESTALE: the lane is closed.  -ESRCH: the understudy has no process that is up.  -ENOMEM. */
int ep_move(ErlNifEnv *caller_env, struct ep_lane *lane, struct ep_lane *understudy);

/* Lets the requests that wait go to the process that the lane has. */
void ep_move_give_up(struct ep_lane *lane);

/* How many requests the lane has sent to its present worker process; nested ones do not count. */
uint64_t ep_move_requests(struct ep_lane *lane);

#endif
