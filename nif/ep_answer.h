/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ANSWER_H
#define EP_ANSWER_H

/*
 * ep_answer - what a caller gets: replies and failures as Erlang terms.
 *
 * Threads  the owner of the call.
 */

#include "ep_vm.h"

/* Beyond this size an answer is made on a dirty scheduler, unless it is one binary: that
 * costs its copy only, a tenth of a millisecond per MiB. */
#define EP_ANSWER_DIRTY (64u << 10)
#define EP_ANSWER_COPY ((1u << 20) + EP_PAGE)

/* Whether the answer would hold a normal scheduler too long. */
bool ep_answer_is_long(const struct ep_reply *reply);

/* Makes {ok, Value}, ok or {error, Reason} of a reply, and hands back what the reply
 * holds. Of a callback: {callback, CallRef, Number, Question, Arguments}. */
ERL_NIF_TERM ep_answer(ErlNifEnv *env, struct ep_lane *lane, enum ep_op op, struct ep_reply *reply,
                       ERL_NIF_TERM call_ref);

/* {Question, Arguments} of a callback's payload, which is private memory. A payload that
 * is not in the format kills the worker of host; the term is one to raise then. */
ERL_NIF_TERM ep_answer_question(ErlNifEnv *env, struct ep_vm *vm, struct ep_host *host,
                                const uint8_t *payload, size_t length);

/* The answer to a request that could not be submitted: a result of ep_submit(). */
ERL_NIF_TERM ep_answer_refused(ErlNifEnv *env, struct ep_lane *lane, int error);

/* The reason of a worker process's end: a signal name, an exit status, kill_after. */
ERL_NIF_TERM ep_answer_exit_reason(ErlNifEnv *env, int64_t exit_value);

/* Exit values beyond those of enum ep_control_event_kind. */
#define EP_EXIT_VALUE_KILL_AFTER (-1)
#define EP_EXIT_VALUE_VIOLATION (-2)
#define EP_EXIT_VALUE_UNKNOWN (-3)

#endif
