/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_TERM_H
#define EP_TERM_H

/*
 * ep_term - Erlang terms to the wire format and back.
 *
 * Both directions are iterative, with a limit of depth and, towards Python, of
 * work: what would hold a scheduler too long is given up with -E2BIG and done
 * again on a dirty scheduler.
 *
 * Ownership  terms belong to the environment given.
 * Errors     0 or a negative errno; for encoding, *ret_fault says where and why.
 * Threads    one at a time per object.
 * Trust      decoding takes hostile input, which must be private memory.
 */

#include "ep_etf.h"
#include "ep_stage.h"
#include "ep_vm.h"

/* Why a term has no Python counterpart: an exception type and its message. */
struct ep_fault {
    ERL_NIF_TERM type;
    char message[512];
};

struct ep_encoder {
    struct ep_vm *vm;
    ErlNifEnv *env;
    struct ep_buf *buf;
    struct ep_stage *stage; /* where buf goes when it becomes large; NULL: nowhere */
    size_t terms_left;      /* -E2BIG when used up; SIZE_MAX on a dirty scheduler */
    size_t bytes_left;      /* the same for bytes */
};

/* Appends term to the buffer. place ("args", "locals") begins the message of a
 * fault. text_keys: term is a map whose keys must be atoms or binaries and arrive
 * as text.
 * -E2BIG: too much work here.  -EINVAL: *ret_fault is set.
 * -EMSGSIZE or -ENOMEM: too large for shared or private memory, *ret_fault is set. */
int ep_term_encode(struct ep_encoder *encoder, ERL_NIF_TERM term, const char *place, bool text_keys,
                   struct ep_fault *ret_fault);

/* Appends an atom or binary as a binary: names and code. -EINVAL: neither. */
int ep_term_encode_text(struct ep_encoder *encoder, ERL_NIF_TERM term);

/* Appends a short list of numbers, atoms and small binaries, as most lists of arguments
 * are, in less time than ep_term_encode(). False: it is none, and nothing was appended. */
bool ep_term_encode_plain(struct ep_encoder *encoder, ERL_NIF_TERM list);

/* Where the bytes of a cursor come from: large binaries then refer to source_term
 * instead of being copied. source_term 0: always copy. */
struct ep_source {
    ERL_NIF_TERM source_term;
    const uint8_t *start;
    size_t size;
};

/* Reads one term.
 * -EPROTO: not the format, too deep, a handle that is not ours, an atom beyond
 * the budget.  -EOVERFLOW: an integer beyond the VM's limit.
 * -EEXIST: two keys of a map are the same.  -ENOMEM. */
int ep_term_decode(struct ep_vm *vm, ErlNifEnv *env, struct ep_etf_cursor *cursor,
                   const struct ep_source *source, ERL_NIF_TERM *ret_term);

/* {error, {Type, Message}} with the message as a list of code points. */
ERL_NIF_TERM ep_term_python_error(ErlNifEnv *env, ERL_NIF_TERM type, const uint8_t *utf8,
                                  size_t size);

#endif
