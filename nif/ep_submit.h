/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SUBMIT_H
#define EP_SUBMIT_H

/*
 * ep_submit - putting requests into a lane.
 *
 * A request goes straight into the call ring. While the lane has no worker
 * process, or no room, it waits in the lane's queue in private memory, in order;
 * ep_lane_flush() moves it on.
 *
 * Errors   0 or a negative errno.
 * Threads  any.
 */

#include "ep_buf.h"
#include "ep_stage.h"
#include "ep_vm.h"

/* An encoded request. */
struct ep_request {
    enum ep_op op;
    uint16_t kind;
    uint16_t flags;
    bool urgent; /* made in a callback: a lane that waits for an answer runs it */
    uint64_t env_id;
    struct ep_buf *payload;
    struct ep_stage *stage; /* where the payload may lie; NULL: it does not */
};

/* Takes a call entry and sends the request, or queues it.
 * The stage is finished; the payload is not to be read any more.
 * -ESTALE: the context ended.  -EHOSTDOWN: its worker process does not start.
 * -ENOBUFS: more than a million calls wait.  -ENOMEM. */
int ep_submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
              struct ep_call **ret_call);

/* Fills the entry of a new call. Under the producer lock. */
void ep_call_begin(struct ep_lane *lane, struct ep_call *call, ErlNifEnv *env,
                   const struct ep_request *request);

/* Whether the worker cannot run now, because the caller of this does, where the worker ran
 * last; a hint. Under the producer lock or as consumer, attached. */
bool ep_lane_shares_cpu(const struct ep_lane *lane);

/* Answers the callback with that number, of a BUSY call; spin for the reply then.
 * Returns 1; 0: the call is DONE already, and the answer was dropped; or a negative
 * errno, and the call is SPINNING all the same. */
int ep_submit_answer(struct ep_lane *lane, struct ep_call *call, uint64_t number,
                     enum ep_answer how, const struct ep_buf *payload);

/* Interrupts a call that waits for an answer. Returns the number of the interrupt,
 * which an INTERRUPT on the control lane has to carry, too. Under the producer lock. */
uint64_t ep_lane_send_cancel(struct ep_lane *lane, uint64_t call_id);

/* Interrupts the call whose callback found its caller gone. */
void ep_lane_refuse(struct ep_lane *lane);

void ep_queue_init(struct ep_queue *queue);

/* Sends what waits in the queue, as far as there is room. */
void ep_lane_flush(struct ep_lane *lane);

/* Takes a call out of the queue, if it is still there. Under the producer lock. */
bool ep_queue_remove(struct ep_lane *lane, struct ep_call *call);

/* Tells the worker that a namespace is no longer needed. */
void ep_lane_drop_env(struct ep_lane *lane, uint64_t env_id);

#endif
