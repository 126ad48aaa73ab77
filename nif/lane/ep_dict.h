/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_DICT_H
#define EP_DICT_H

/*
 * ep_dict - the table of a shared dict: keys of bytes, values as they are sent to Python.
 *
 * A value has two forms: what Python gets, a term in the wire format or a pickle, which only Python
 * reads; and what Erlang gets, a term in the wire format, as if Python had returned the value.
 *
 * Threads  under object->lock.
 */

#include "ep_budget.h"
#include "ep_item.h"

struct ep_dict;

struct ep_dict_value {
    struct ep_dict_value *next; /* of those with the same place */
    uint64_t hash;
    bool is_pickle;                     /* the form for Python */
    uint32_t n_key, n_python, n_erlang; /* n_erlang 0: the same as for Python */
    uint8_t data[];                     /* key, form for Python, form for Erlang */
};

/* Bytes of a key, at most. */
#define EP_DICT_KEY_MAX 65536u

/* hash_key: secret, so that nobody chooses keys that share a place. */
struct ep_dict *ep_dict_create(const uint8_t hash_key[16]);
void ep_dict_destroy(struct ep_dict *dict);
/* Frees values and places within the budget, and then the dict. True: it is gone. Nothing else may
 * be done with it from the first call on. */
bool ep_dict_free_some(struct ep_dict *dict, struct ep_budget *budget);

/* Borrowed; NULL: there is none. */
struct ep_dict_value *ep_dict_get(const struct ep_dict *dict, const uint8_t *key, size_t n_key);

/* A value to be set; NULL: no memory. */
struct ep_dict_value *ep_dict_value_create(const uint8_t *key, size_t n_key, const uint8_t *python,
                                           size_t n_python, const uint8_t *erlang, size_t n_erlang);
void ep_dict_value_free(struct ep_dict_value *value);
/* Bytes that it counts for. */
uint64_t ep_dict_value_size(const struct ep_dict_value *value);

/* Whether the next value takes longer than a scheduler can bear: a large table becomes larger. */
bool ep_dict_grows(const struct ep_dict *dict);

/* Takes the value; what it replaces is in *ret_old. -ENOMEM. */
int ep_dict_set(struct ep_dict *dict, struct ep_dict_value *value, struct ep_dict_value **ret_old);

/* Takes it out, for the caller to free. */
struct ep_dict_value *ep_dict_remove(struct ep_dict *dict, const uint8_t *key, size_t n_key);

size_t ep_dict_count(const struct ep_dict *dict);

/* Values and places: what ep_dict_free_some() pays for, besides their bytes. */
size_t ep_dict_pieces(const struct ep_dict *dict);

/* Bytes of all keys and values, and of what they need besides. */
uint64_t ep_dict_size(const struct ep_dict *dict);

/* The value after that one in the order of the table; NULL: the first, and after the last. */
const struct ep_dict_value *ep_dict_next(const struct ep_dict *dict,
                                         const struct ep_dict_value *value);

#endif
