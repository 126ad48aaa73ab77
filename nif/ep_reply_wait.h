/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_REPLY_WAIT_H
#define EP_REPLY_WAIT_H

/*
 * ep_reply_wait - a caller's wait for its reply, up to where it parks.
 *
 * Threads  scheduler threads; one at a time per call, for its caller.
 */

#include "ep_vm.h"

/* How a wait for the reply goes on. */
enum ep_wait_result {
    EP_WAIT_TAKEN,  /* the reply is here, and the call is the caller's, TAKEN or BUSY */
    EP_WAIT_AGAIN,  /* the call is SPINNING or DONE: let others have a turn, then poll */
    EP_WAIT_PARKED, /* it is PARKED, or DONE already */
};

/* Spins a moment for the reply of a call just submitted or answered. */
enum ep_wait_result ep_spin_for_reply(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                      struct ep_reply *ret_reply);

/* What that many calls that were answered at once cost their caller of its turn, in
 * percent. */
int ep_wait_price(int calls);

/* Looks again, after EP_WAIT_AGAIN. */
enum ep_wait_result ep_poll_for_reply(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                                      struct ep_reply *ret_reply);

#endif
