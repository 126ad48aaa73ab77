/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ENCODING_H
#define EP_ENCODING_H

/*
 * ep_encoding - the payloads of requests and of answers, from the arguments of a NIF.
 *
 * Ownership  ep_encoding_finish() frees what the payload lies in.
 * Errors     0 or a negative errno. -E2BIG: too much for a normal scheduler.
 *            -EBADMSG: badarg. Others: fault says why.
 * Threads    one at a time per object.
 */

#include "ep_buf.h"
#include "ep_result.h"
#include "ep_term_encode.h"

struct ep_encoding {
    struct ep_encoder encoder;
    struct ep_buf buf;
    struct ep_fault fault;
    uint8_t lent[512];
};

/* Whether this is a thread that may take its time. */
bool ep_encoding_is_dirty(void);

/* is_dirty: ep_encoding_is_dirty(), of which a caller may know more than that finds out. */
void ep_encoding_init(struct ep_encoding *encoding, ErlNifEnv *env, struct ep_vm *vm,
                      bool is_dirty);
void ep_encoding_finish(struct ep_encoding *encoding);

/* Appends the arrays that were met, if any: at the end of the payload, which then has
 * EP_FLAG_ARRAYS. shares: every numpy array in the result is to be shared. */
bool ep_encoding_put_cargo(struct ep_encoding *encoding, bool shares);

/* Finishes, and returns what the NIF has to return: the Python exception, or badarg. */
ERL_NIF_TERM ep_encoding_failed(ErlNifEnv *env, struct ep_encoding *encoding, enum ep_op op,
                                int rc);

/* A name, or code. place begins the message of a fault. */
int ep_encoding_put_text(struct ep_encoding *encoding, ERL_NIF_TERM term, const char *place);

/* Lane, Env, Module, Function, Args, Kwargs. Adds EP_FLAG_KWARGS to *ret_flags. */
int ep_encoding_put_arguments(struct ep_encoding *encoding, const ERL_NIF_TERM argv[],
                              uint16_t *ret_flags);

/* Lane, Env, Code, Locals. */
int ep_encoding_put_code(struct ep_encoding *encoding, const ERL_NIF_TERM argv[]);

/* How a callback went: value | failed | raise, and its term. What Python cannot have is
 * raised there. */
int ep_encoding_put_answer(struct ep_encoding *encoding, ERL_NIF_TERM how, ERL_NIF_TERM term,
                           enum ep_answer *ret_how);

#endif
