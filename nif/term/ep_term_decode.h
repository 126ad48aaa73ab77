/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_TERM_DECODE_H
#define EP_TERM_DECODE_H

/*
 * ep_term_decode - the wire format to Erlang terms.
 *
 * Iterative, with a limit of depth.
 *
 * Ownership  terms belong to the environment given.
 * Errors     0 or a negative errno.
 * Threads    one at a time per object.
 * Trust      decoding takes hostile input, which must be private memory.
 */

#include "ep_etf.h"
#include "ep_vm.h"

struct ep_cargo;

/* Where the bytes of a cursor come from: large binaries then refer to source_term
 * instead of being copied. source_term 0: always copy. */
struct ep_source {
    bool is_scheduler; /* false: the thread may be none, and no map is larger than
                        * EP_SEND_KEYS_MAX */
    ERL_NIF_TERM source_term;
    const uint8_t *start;
    size_t size;
    const struct ep_cargo *cargo; /* the arrays that it may name; NULL: none */
    size_t max_words; /* of VM heap that the term may need; a number alone always fits */
};

/* What a user hears of -EFBIG. */
#define EP_TERM_TOO_BIG "needs more memory of the Erlang VM than max_result_bytes allows"

/* Reads one term.
 * -EPROTO: not the format, too deep, a handle that is not ours, an atom beyond
 * the budget.  -EOVERFLOW: an integer beyond the VM's limit.
 * -EEXIST: two keys of a map are the same.  -EFBIG: beyond max_words, and little was
 * built.  -ENOMEM. */
int ep_term_decode(struct ep_vm *vm, ErlNifEnv *env, struct ep_etf_cursor *cursor,
                   const struct ep_source *source, ERL_NIF_TERM *ret_term);

/* Of the text of an exception: 4096 characters. */
#define EP_TERM_TEXT_MAX ((size_t)4 * 4096)

/* {error, {Type, Message}} with the message as a binary, or as a list of code points, cut at
 * EP_TERM_TEXT_MAX bytes. */
ERL_NIF_TERM ep_term_python_error(ErlNifEnv *env, ERL_NIF_TERM type, const uint8_t *utf8,
                                  size_t size, bool as_binary);

#endif
