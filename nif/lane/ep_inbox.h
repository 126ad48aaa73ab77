/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_INBOX_H
#define EP_INBOX_H

/*
 * ep_inbox - taking replies from a lane's response ring.
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
 * A bell that was rung is armed no longer, whatever the leaver believes:
 *
 *   leaver   note that it is armed (E1); look at the ring; unlock; look at the note (E2)
 *   rung     take the note away; then try lock             (all sequentially consistent)
 *
 * Either the leaver misses the note and comes back, or whoever was rung awake gets the
 * lock, or the note is younger than the message, which the leaver's look then finds.
 *
 * Trust    a worker that answers faster than we take, or floods us, holds nobody: a drain
 *          ends after EP_INBOX_BATCH messages, and the reaper takes the rest in rounds. Every
 *          message needs a cause: a call that is open, a START or STOP that was sent.
 * Threads  any; ep_inbox_drain() and ep_inbox_leave() by the holder only.
 */

#include "ep_calls.h"
#include "ep_vm.h"

/* Messages in one go: a scheduler that delivers each to a process is held for a fraction of
 * a millisecond. */
#define EP_INBOX_BATCH 64u

bool ep_inbox_try(struct ep_lane *lane);

/* Waits for the lock: for the reaper when a worker process has died. */
void ep_inbox_enter(struct ep_lane *lane);

/* Gives up the lock without looking back: after detaching. */
void ep_inbox_exit(struct ep_lane *lane);

/* Takes what is there. A reply for mine (may be NULL) goes to *ret_reply and ends
 * the draining: returns 1; the call is TAKEN then, or BUSY with a callback. One that
 * a dirty scheduler has to decode is stored in its entry like a stranger's.
 * 0: nothing (more) there, or a batch was taken.  -EPROTO: the worker broke the protocol and has been
 * killed. */
int ep_inbox_drain(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *mine,
                   struct ep_reply *ret_reply);

/* The same for a lane that nobody waits for any more but the reaper: arms the bell, and
 * leaves what is there to the reaper. */
void ep_inbox_leave_armed(struct ep_lane *lane);

/* Leaves the consumer role by the rule above; drains for others while at it. */
void ep_inbox_leave(struct ep_lane *lane, ErlNifEnv *caller_env);

/* Makes sure that somebody looks at the ring on behalf of a parked call. */
void ep_inbox_ensure(struct ep_lane *lane, ErlNifEnv *caller_env);

#endif
