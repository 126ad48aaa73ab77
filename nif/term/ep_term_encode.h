/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_TERM_ENCODE_H
#define EP_TERM_ENCODE_H

/*
 * ep_term_encode - Erlang terms to the wire format.
 *
 * Iterative, with a limit of depth and of work: what would hold a scheduler too long is given
 * up with -E2BIG and done again on a dirty scheduler.
 *
 * Errors     0 or a negative errno; *ret_fault says where and why.
 * Threads    one at a time per object.
 */

#include "ep_buf.h"
#include "ep_vm.h"

/* Why a term has no Python counterpart: an exception type and its message. */
struct ep_fault {
    ERL_NIF_TERM type;
    char message[512];
};

struct ep_stage;

/* A binary of this size is worth a block of its own. */
#define EP_TERM_LARGE (32u << 10)

struct ep_encoder {
    struct ep_vm *vm;
    ErlNifEnv *env;
    struct ep_buf *buf;
    struct ep_cargo *cargo; /* arrays that were met; NULL: none */
    /* Moves buf to where a large request is to lie, with room for so many more bytes. NULL:
     * buf stays where it is. True: where it lies has been in use before. */
    bool (*make_room)(struct ep_stage *stage, struct ep_buf *buf, size_t n);
    struct ep_stage *stage; /* make_room's */
    size_t terms_left;      /* -E2BIG when used up; SIZE_MAX on a dirty scheduler */
    size_t bytes_max;       /* -E2BIG for a longer buffer; SIZE_MAX on a dirty scheduler */
    size_t bytes_warm;      /* the same in memory that has been in use */
    const uint8_t *warm;    /* where make_room found some; NULL: nowhere */
};

/* Makes the integers that vm->encode_env holds: more than a normal scheduler writes. */
void ep_term_encode_open(struct ep_vm *vm);
void ep_term_encode_close(struct ep_vm *vm);

/* Appends term to the buffer. place ("args", "locals") begins the message of a
 * fault. text_keys: term is a map whose keys must be atoms or binaries and arrive
 * as text.
 * -E2BIG: too much work here.  -EINVAL: *ret_fault is set.
 * -EMSGSIZE or -ENOMEM: too large for shared or private memory, *ret_fault is set. */
int ep_term_encode(struct ep_encoder *encoder, ERL_NIF_TERM term, const char *place, bool text_keys,
                   struct ep_fault *ret_fault);

/* Appends an atom or binary as a binary: names and code. -EINVAL: neither. -E2BIG: as above. */
int ep_term_encode_text(struct ep_encoder *encoder, ERL_NIF_TERM term);

/* Appends a short list of numbers, atoms and small binaries, as most lists of arguments
 * are, in less time than ep_term_encode(). False: it is none, and nothing was appended. */
bool ep_term_encode_plain(struct ep_encoder *encoder, ERL_NIF_TERM list);

#endif
