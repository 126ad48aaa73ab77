/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_REPLY_WAIT_H
#define EP_REPLY_WAIT_H

/*
 * ep_reply_wait - a caller's wait for its reply, up to the moment when it parks.
 *
 * The caller looks for its reply, gives its turn up, looks again, and parks when its
 * budget is over. docs/architecture.md, section 7, draws the states and lists the
 * constants with the gain of each.
 *
 * Threads  scheduler threads. At most one works on a call: that of its caller.
 */

#include "ep_calls.h"
#include "ep_vm.h"

/* How a wait for the reply goes on. */
enum ep_wait_result {
    EP_WAIT_TAKEN,  /* the caller has its reply; the call is TAKEN, or BUSY with a callback */
    EP_WAIT_AGAIN,  /* the call is SPINNING or DONE: give the turn up, then poll */
    EP_WAIT_PARKED, /* the call is PARKED, or DONE already */
};

/* Begins the wait, after the call was submitted or its callback answered: looks for
 * microseconds. */
enum ep_wait_result ep_spin_for_reply(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                      struct ep_reply *ret_reply);

/* The same without a look: the reply does not come on the lane's ring. The call is PARKED, or
 * DONE already. */
void ep_park_for_reply(struct ep_lane *lane, struct ep_call *call);

/* The same for one that gives its turn up at once and polls then. */
void ep_begin_polls(struct ep_lane *lane, struct ep_call *call);

/* Goes on with the wait at the caller's next turn, after EP_WAIT_AGAIN. */
enum ep_wait_result ep_poll_for_reply(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                      struct ep_reply *ret_reply);

#endif
