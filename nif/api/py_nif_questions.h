/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_QUESTIONS_H
#define PY_NIF_QUESTIONS_H

/*
 * py_nif_questions - questions of a call that its caller has taken and the VM answers by itself.
 *
 * Threads  the owner of the call.
 */

#include "ep_calls.h"
#include "ep_waiter.h"
#include "py_nif_common.h"

struct ep_call_ref;

enum py_nif_served {
    PY_NIF_SERVED,      /* answered, or it waits: the caller waits for its reply again */
    PY_NIF_SERVED_DONE, /* the call has ended meanwhile */
    PY_NIF_SERVED_LONG, /* again, on a dirty scheduler; the reference holds the question */
};

/* Whether a reply is such a question. */
bool py_nif_is_question(const struct ep_reply *reply);

/* Serves the question of a call that is BUSY; takes the reply. late: who waited for what Python
 * puts with it is left there, for the caller to wake; NULL: is woken. What was there before is
 * woken first. */
enum py_nif_served py_nif_serve(ErlNifEnv *env, struct ep_call_ref *ref, struct ep_reply *reply,
                                struct ep_waiter *late);

/* Goes on with one that was LONG. */
enum py_nif_served py_nif_serve_on(ErlNifEnv *env, struct ep_call_ref *ref);

/* Ends what the reference holds of one. */
void py_nif_drop_question(struct ep_call_ref *ref);

#endif
