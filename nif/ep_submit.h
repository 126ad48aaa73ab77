/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SUBMIT_H
#define EP_SUBMIT_H

/*
 * ep_submit - putting requests into a lane, and waiting a moment for the reply.
 *
 * A request goes straight into the call ring. While the lane has no worker
 * process, or no room, it waits in the lane's queue in private memory, in order;
 * ep_lane_flush() moves it on.
 *
 * Errors   0 or a negative errno.
 * Threads  any.
 */

#include "ep_buf.h"
#include "ep_vm.h"

/* An encoded request. */
struct ep_request {
    enum ep_op op;
    uint16_t kind;
    uint16_t flags;
    uint64_t env_id;
    const struct ep_buf *payload;
};

/* Takes a call entry and sends the request, or queues it.
 * -ESTALE: the context ended.  -EHOSTDOWN: its worker process does not start.
 * -ENOBUFS: more than a million calls wait.  -ENOMEM. */
int ep_submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
              struct ep_call **ret_call);

/* Spins for the reply within the lane's budget. True: *ret_msg is the reply, and
 * the entry is still the caller's, in SPINNING. False: the entry is PARKED or
 * DONE already. */
bool ep_spin_for_reply(struct ep_lane *lane, ErlNifEnv *env, struct ep_call *call,
                       struct ep_msg *ret_msg);

/* Sends what waits in the queue, as far as there is room. */
void ep_lane_flush(struct ep_lane *lane);

/* Takes a call out of the queue, if it is still there. Under the producer lock. */
bool ep_queue_remove(struct ep_lane *lane, struct ep_call *call);

/* Tells the worker that a namespace is no longer needed. */
void ep_lane_drop_env(struct ep_lane *lane, uint64_t env_id);

#endif
