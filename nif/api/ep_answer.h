/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ANSWER_H
#define EP_ANSWER_H

/*
 * ep_answer - what a caller gets: replies and failures as Erlang terms.
 *
 * Threads  the owner of the call.
 */

#include "ep_asker.h"
#include "ep_calls.h"
#include "ep_vm.h"

/* Of one binary, a dirty scheduler makes a term only beyond this size: it costs its copy only. Into
 * memory that the VM has not used before, that is up to 0.8 ms per MiB. */
#define EP_ANSWER_COPY ((1u << 19) + EP_PAGE)

/* Whether the answer would hold a normal scheduler too long. */
bool ep_answer_is_long(const struct ep_reply *reply);

/* Makes {ok, Value}, ok or {error, Reason} of a reply, and hands back what the reply
 * holds. Of a callback: {callback, CallRef, Number, Question, Arguments}. */
ERL_NIF_TERM ep_answer(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op, struct ep_reply *reply,
                       ERL_NIF_TERM call_ref);

/* {Question, Arguments} of the callback of a Python thread. A payload that is not in the
 * format kills the worker; the term is one to raise then. */
ERL_NIF_TERM ep_answer_question(ErlNifEnv *env, struct ep_asker *asker);

/* The answer to a request that could not be submitted: a result of ep_outbox_submit(). */
ERL_NIF_TERM ep_answer_refused(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op, int error);

#endif
