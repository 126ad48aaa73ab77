/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_NONE_H
#define EP_PY_NONE_H

/*
 * ep_py_none - the atom that None becomes: none, nil or undefined.
 *
 * A request says which, for its thread, while it runs; the START of a context says
 * which for all other threads of the process. Contexts of one process agree on that.
 *
 * Threads  any.
 */

#include "ep_buf.h"

#include <stdint.h>

/* Of all threads that run no request. flags: of a START. */
void ep_py_none_set_default(unsigned flags);

/* A request with these flags begins in the calling thread. Returns what leave() needs. */
unsigned ep_py_none_enter(unsigned flags);
void ep_py_none_leave(unsigned outer);

/* Writes the atom. */
void ep_py_none_put(struct ep_buf *buf);

#endif
