/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PY_NIF_CALLS_H
#define PY_NIF_CALLS_H

/*
 * py_nif_calls - requests, their answers, and the callbacks that they make.
 */

#include "ep_reply_wait.h"
#include "py_nif_common.h"

struct ep_reader;
struct py_nif_question;

/* What a parked caller holds; when it is collected, the call is cancelled. */
struct ep_call_ref {
    struct ep_lane *lane; /* kept */
    struct ep_call *call; /* NULL once collected */
    bool has_slot;
    struct ep_reader *reader;         /* of a stream, else NULL; goes with the call */
    struct py_nif_question *question; /* that waits for a dirty scheduler; or NULL */
};

PY_NIF(call_nif);
PY_NIF(eval_nif);
PY_NIF(exec_nif);
PY_NIF(await_nif);
PY_NIF(collect_nif);
PY_NIF(call_id_nif);
PY_NIF(cancel_nif);

void py_nif_call_ref_destroy(ErlNifEnv *env, void *object);

/* For py_nif_streams.c. A call that has not been collected; */
bool py_nif_get_call_ref(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref **ret_ref);
/* what a call that is DONE comes to; */
ERL_NIF_TERM py_nif_collect(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref *ref);
/* what follows a wait, for py_nif_answers.c; */
ERL_NIF_TERM py_nif_waited(ErlNifEnv *env, ERL_NIF_TERM term, struct ep_call_ref *ref,
                           struct ep_reply *reply, enum ep_wait_result result);
/* the end of a call that its caller wants no more. */
void py_nif_abandon(struct ep_call_ref *ref, ErlNifEnv *env);

#endif
