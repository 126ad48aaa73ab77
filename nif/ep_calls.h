/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CALLS_H
#define EP_CALLS_H

/*
 * ep_calls - the call table of a lane: who waits for which reply.
 *
 * Threads  ep_call_alloc() under the producer lock; the rest from any thread.
 *          Which thread may do what to an entry follows from its state, see
 *          enum ep_call_state.
 */

#include "ep_vm.h"

/* Takes a free entry and puts it in SPINNING. NULL: no memory or too many calls. */
struct ep_call *ep_call_alloc(struct ep_lane *lane);

/* Gives an entry back and makes its id stale. Only its present owner may. */
void ep_call_free(struct ep_lane *lane, struct ep_call *call);

/* The id that crosses the rings. */
uint64_t ep_call_id(const struct ep_call *call);

/* Finds the entry of an id, or NULL if the id is stale or never was. */
struct ep_call *ep_call_find(struct ep_lane *lane, uint64_t id);

/* The i-th entry of the table, for walks under the producer lock. */
struct ep_call *ep_call_at(struct ep_lane *lane, uint32_t i);

/* Stores the outcome of a call and tells its caller, if it waits. By the holder
 * of the consumer lock. What the reply holds goes with it, unless this returns false:
 * the call has an outcome already. */
bool ep_call_deliver(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                     struct ep_reply *reply);

/* Takes a message out of the consumer's hands: keeps the host whose block holds
 * the payload. ret_reply->msg may be msg itself. */
void ep_reply_take(struct ep_lane *lane, const struct ep_msg *msg, struct ep_reply *ret_reply);

/* Hands the payload's block back, unread or read. */
void ep_reply_drop(struct ep_lane *lane, struct ep_reply *reply);

/* One compare-and-swap of the state. */
bool ep_call_move(struct ep_call *call, enum ep_call_state from, enum ep_call_state to);

/* Hands the payload block of a reply back to the worker. Does nothing for others. */
void ep_call_release_block(struct ep_lane *lane, struct ep_host *host, const struct ep_msg *msg);

#endif
