/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_CARGO_H
#define EP_CARGO_H

/*
 * ep_cargo - arrays as terms, and the arrays that a message carries.
 *
 * Ownership  a cargo keeps its arrays. nif/lane/ep_arrays.h has where their memory comes from.
 * Threads    one at a time per cargo; arrays: any.
 */

#include "ep_array.h"
#include "ep_vm.h"

enum ep_array_state { EP_ARRAY_OPEN, EP_ARRAY_SEALED, EP_ARRAY_LOST };

/* A resource: the memory of an array, or a slice of another one. */
struct ep_array {
    struct ep_vm *vm;
    struct ep_array *root; /* of a slice: kept; it has the block. Else NULL */
    struct ep_segment *segment;
    uint64_t block; /* offset of what was allocated */
    uint8_t *mem;   /* of the first byte, in our mapping */
    struct ep_array_info info;
    _Atomic uint8_t state; /* enum ep_array_state */
    _Atomic bool is_shown; /* a message has had it: Python knows it, or will */
    bool is_monitored;     /* OPEN, and its owner is watched */
    ErlNifPid owner;       /* OPEN */
    ErlNifMonitor monitor;
};

struct ep_cargo {
    struct ep_host *host; /* kept: the process that it was lent to; or NULL */
    uint32_t n, max;
    struct ep_array *arrays[];
};

/* Takes back what was lent. Set by ep_arrays_open(): each instance of the library has its own. */
extern void (*ep_cargo_unlend)(struct ep_cargo *cargo);

/* What a message may carry; the honest side says MemoryError before. */
#define EP_CARGO_MAX 65536u

/* What a message carries of a term: an array, or the beginning of an object, which goes the same
 * way; NULL: neither. Borrowed. */
static inline struct ep_array *ep_cargo_of(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *object;

    return enif_get_resource(env, term, ep_array_type, &object)
                   || enif_get_resource(env, term, ep_object_type, &object)
               ? object
               : NULL;
}

/* The array of a term, or NULL. Borrowed. */
static inline struct ep_array *ep_array_of(ErlNifEnv *env, ERL_NIF_TERM term)
{
    void *array;

    return enif_get_resource(env, term, ep_array_type, &array) ? array : NULL;
}

/* Adds an array. Returns its index, -EMSGSIZE or -ENOMEM. */
int64_t ep_cargo_put(struct ep_cargo **cargo, struct ep_array *array);

/* Appends the list of the arrays to a payload; NULL: an empty one. */
void ep_cargo_describe(const struct ep_cargo *cargo, bool shares, struct ep_buf *buf);

/* Lets at most *budget arrays go, which it counts down, and then the cargo. True: it is gone. */
bool ep_cargo_free_some(struct ep_cargo *cargo, size_t *budget);

/* Lets the arrays go; NULL: nothing. */
void ep_cargo_free(struct ep_cargo *cargo);

#endif
