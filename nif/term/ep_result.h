/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_RESULT_H
#define EP_RESULT_H

/*
 * ep_result - what a worker says of a call, as a term, or that it lies.
 *
 * Ownership  terms belong to the environment given.
 * Threads    any.
 * Trust      takes hostile input, which must be private memory: nobody else writes it any more.
 */

#include "ep_lane.h"
#include "ep_term_decode.h"
#include "ep_vm.h"

/* What a caller asked for; decides the shape of its answer. */
enum ep_op {
    EP_OP_CALL = 0,
    EP_OP_EVAL = 1,
    EP_OP_EXEC = 2,
    EP_OP_MASK = 3,
    EP_OP_TEXT = 4 /* with one of them: the message of an exception is a binary, and no list */
};

/* Makes {ok, Value}, ok or {error, Reason} of a RESULT or an ERROR, and of a CALLBACK
 * {callback, CallRef, Number, Question, Arguments}. 0: the payload is not in the format. */
ERL_NIF_TERM ep_result_make(ErlNifEnv *env, struct ep_vm *vm, enum ep_op op,
                            const struct ep_msg *msg, const struct ep_source *source,
                            ERL_NIF_TERM call_ref);

/* The same for a payload that could not be copied. */
ERL_NIF_TERM ep_result_no_memory(ErlNifEnv *env, enum ep_op op, const struct ep_msg *msg,
                                 ERL_NIF_TERM call_ref);

/* {error, {Type, Message}} in the form that the caller asked for. Message: UTF-8. */
ERL_NIF_TERM ep_result_exception(ErlNifEnv *env, enum ep_op op, ERL_NIF_TERM type,
                                 const char *message);

/* Question and Arguments of a callback; of what Python has to mend, and of a lie, what to raise
 * there. source->start NULL: there was no memory. False: not in the format. */
bool ep_result_question(ErlNifEnv *env, struct ep_vm *vm, const struct ep_source *source,
                        ERL_NIF_TERM ret_terms[2]);

#endif
