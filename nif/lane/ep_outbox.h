/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_OUTBOX_H
#define EP_OUTBOX_H

/*
 * ep_outbox - requests, outcomes of callbacks, and cancels on their way to a lane's worker.
 *
 *   there is                                 the message goes to
 *   a worker process, room, an empty queue   the ring
 *   one of them is missing                   the queue in private memory, in order
 *   room again                               the ring: ep_outbox_flush() moves it on
 *
 * A request goes to the call ring. A request of a callback, an outcome and a cancel go to
 * the urgent ring.
 *
 * Errors   0 or a negative errno.
 * Threads  any.
 */

#include "ep_buf.h"
#include "ep_calls.h"
#include "ep_stage.h"
#include "ep_vm.h"

/* An encoded request. */
struct ep_request {
    enum ep_op op;
    uint16_t kind;
    uint16_t flags;
    uint8_t form; /* enum ep_form */
    bool urgent;  /* made in a callback: a lane that waits for the outcome runs it */
    uint64_t env_id;
    struct ep_buf *payload;
    struct ep_stage *stage;  /* the block in which the payload may lie; NULL: no block */
    struct ep_cargo **cargo; /* arrays of the payload; taken with it */
};

/* Frees all that waits. Under the producer lock. */
void ep_outbox_clear(struct ep_lane *lane);

/* Sends the queued messages, as far as there is room. The reaper calls this where it would
 * hold a scheduler too long. */
void ep_outbox_flush(struct ep_lane *lane);

/* Has the requests that come from now on wait in the queue; those before go on. Again while it
 * holds: nothing. Nested requests, outcomes and cancels are not held. Under the producer lock.
 * -ENOMEM. */
int ep_outbox_hold(struct ep_lane *lane);

/* Whether it holds, and none that came before waits in the queue. Under the producer lock. */
bool ep_outbox_is_held(const struct ep_lane *lane);

/* Holds no longer; the caller flushes. Under the producer lock. */
void ep_outbox_release(struct ep_lane *lane);

/* Moves the request into a block of shared memory that has room for n more bytes. True: its
 * memory has been in use before. */
bool ep_outbox_stage(struct ep_stage *stage, struct ep_buf *buf, size_t n);

/* Gives up the block of a stage, unless it was sent; ep_outbox_submit() has done so. */
static inline void ep_outbox_unstage(struct ep_stage *stage)
{
    if (stage->host != NULL && ep_stage_end(stage))
        ep_outbox_flush(stage->lane);
}

/* Takes a call entry and sends the request, or queues it. Finishes the stage. The caller
 * must not read the payload any more.
 * -ESTALE: the context ended.  -EHOSTDOWN: its worker process does not start.
 * -ENOBUFS: more than a million calls wait.  -ENOMEM. */
int ep_outbox_submit(struct ep_lane *lane, ErlNifEnv *env, const struct ep_request *request,
                     struct ep_call **ret_call);

/* Whether the calling thread runs on the CPU on which the worker ran last, and so keeps the
 * worker from running. A hint. Under the producer lock or as consumer, attached. */
bool ep_outbox_shares_cpu(const struct ep_lane *lane);

/* Sends the outcome of the callback with that number, of a BUSY call. The caller then waits
 * for the reply. Returns 1; 0 if the call is DONE already, and the outcome was dropped; or a
 * negative errno: the call is SPINNING all the same. */
int ep_outbox_answer(struct ep_lane *lane, struct ep_call *call, uint64_t number,
                     enum ep_answer how, const struct ep_buf *payload, struct ep_cargo **cargo);

/* The same for one that need not be BUSY, see ep_outbox_question.h. Under the producer lock,
 * attached. */
int ep_outbox_put_answer(struct ep_lane *lane, const struct ep_msg *head,
                         const struct ep_buf *payload, struct ep_stage *stage);

/* An honest worker leaves at most one outcome unread for each frame of its stack. Large
 * outcomes wait late, because the VM's slab holds 4 GiB of them. */
#define EP_ANSWERS_QUEUED_MAX 1024u
#define EP_ANSWER_BYTES_QUEUED_MAX (UINT64_C(256) << 20)

/* Interrupts a call that waits for the outcome of a callback. Returns the number of the
 * interrupt; the INTERRUPT on the control lane must carry the same number. Under the
 * producer lock. */
uint64_t ep_outbox_cancel(struct ep_lane *lane, uint64_t call_id);

/* Has the worker end a stream after the item that Python makes now; once for each call. False: the
 * call has not left for a worker. */
bool ep_outbox_finish(struct ep_lane *lane, struct ep_call *call);

/* Interrupts the calls whose callbacks no process will run. */
void ep_outbox_refuse(struct ep_lane *lane);

/* Frees the queued messages, with keeps_calls all but the requests of calls. Under the
 * producer lock. */
void ep_outbox_clear_queue(struct ep_lane *lane, struct ep_queue *queue, bool keeps_calls);

/* Takes a call out of the queue, if it is still there. Under the producer lock. */
bool ep_outbox_remove(struct ep_lane *lane, struct ep_call *call);

/* Notes that a namespace is no longer needed. The next request tells the worker, or the 64th
 * namespace. */
void ep_outbox_drop_env(struct ep_lane *lane, uint64_t env_id);

#endif
