/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_KEYS_H
#define EP_PY_KEYS_H

/*
 * ep_py_keys - whether the keys of a dict stay apart in Erlang.
 *
 * Errors   Python exceptions.
 * Threads  attached.
 */

#include "ep_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct _object; /* PyObject */

/* Where an encoded key lies in the buffer. */
struct ep_py_key_span {
    size_t start;
    size_t size;
    uint64_t hash; /* of ep_py_keys_check() */
};

/* Whether the types of the keys leave it open. Runs no code of the user. */
bool ep_py_keys_may_collide(struct _object *dict);

/* 0: the encoded keys differ. -1: two are the same, or there is no memory. Sets *ret_doubtful if
 * only the VM can tell; leaves it alone otherwise. */
int ep_py_keys_check(const struct ep_buf *buf, struct ep_py_key_span *spans, size_t count,
                     bool *ret_doubtful);

#endif
