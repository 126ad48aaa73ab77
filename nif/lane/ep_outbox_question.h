/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_OUTBOX_QUESTION_H
#define EP_OUTBOX_QUESTION_H

/*
 * ep_outbox_question - questions of calls that the VM answers by itself, now or later.
 *
 * The caller goes back to waiting for its reply before the question is answered; so the answer
 * comes from whichever thread has it, and the caller hears nothing of it.
 *
 *   caller    BUSY -> SPINNING, the call notes the number of its question
 *   anybody   publishes the ANSWER if the call still notes that number
 *   cancel    the call notes none any more: CANCEL ends the question in the worker
 *
 * All under the producer lock, so that an ANSWER and a CANCEL of one question do not cross.
 *
 * Threads  any.
 */

#include "ep_outbox.h"

/* The caller has taken a question of its call, which is BUSY. False: the call is DONE. */
bool ep_outbox_begin_question(struct ep_lane *lane, struct ep_call *call, uint64_t number);

/* Whether the call with that id still asks. */
bool ep_outbox_is_asking(struct ep_lane *lane, uint64_t call_id, uint64_t number);

/* Answers. Returns 1; 0: it does not ask any more; or a negative errno, and it still does. */
int ep_outbox_tell(struct ep_lane *lane, uint64_t call_id, uint64_t number, enum ep_answer how,
                   const struct ep_buf *payload);

/* The same with a payload that may lie in the block of a stage, and with arrays, which are taken
 * if it returns 1. The caller ends the stage. */
int ep_outbox_tell_item(struct ep_lane *lane, uint64_t call_id, uint64_t number,
                        const struct ep_buf *payload, struct ep_stage *stage,
                        struct ep_cargo **cargo);

#endif
