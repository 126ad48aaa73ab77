/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CONSUME_H
#define EP_CONSUME_H

/*
 * ep_consume - taking replies from a lane's response ring.
 *
 * Whoever is in the NIF anyway drains for everybody: a caller that spins, or the
 * reaper when the worker rings the doorbell. One at a time holds the consumer
 * lock. Leaving it follows one rule: while calls are parked, either somebody
 * holds the lock or the bell is armed.
 *
 *   leaver   unlock; then look at parked           (both sequentially
 *   parker   count itself in parked; then try lock  consistent)
 *
 * In their single order, either the leaver sees the parked call and comes back,
 * or the parker gets the lock and arms the bell itself.
 *
 * Threads  any; ep_drain() and ep_consumer_leave() by the holder only.
 */

#include "ep_vm.h"

bool ep_consumer_try(struct ep_lane *lane);

/* Waits for the lock: for the reaper when a worker process has died. */
void ep_consumer_enter(struct ep_lane *lane);

/* Gives up the lock without looking back: after detaching. */
void ep_consumer_exit(struct ep_lane *lane);

/* Takes what is there. A reply for mine (may be NULL) goes to *ret_reply and ends
 * the draining: returns 1; the call is TAKEN then, or BUSY with a callback. One that
 * a dirty scheduler has to decode is stored in its entry like a stranger's.
 * 0: nothing (more) there.  -EPROTO: the worker broke the protocol and has been
 * killed. */
int ep_drain(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *mine,
             struct ep_reply *ret_reply);

/* Leaves the consumer role by the rule above; drains for others while at it. */
void ep_consumer_leave(struct ep_lane *lane, ErlNifEnv *caller_env);

/* Makes sure that somebody looks at the ring on behalf of a parked call. */
void ep_consumer_ensure(struct ep_lane *lane, ErlNifEnv *caller_env);

#endif
