/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_ARRAY_H
#define EP_PY_ARRAY_H

/*
 * ep_py_array - arrays in shared memory as Python has them: erlang.SharedArray, share, empty.
 *
 * A SharedArray is what refers to the memory. An ndarray over it, or a memoryview where there is
 * no numpy, has it as its base.
 *
 * Threads  attached.
 */

#include "ep_etf.h"
#include "ep_py_codec.h"
#include "ep_py_handle.h"
#include "ep_python.h"

int ep_py_array_add_type(PyObject *module, struct ep_py_types *ret_types);

/* erlang.share(x), erlang.empty(shape, dtype). New. */
PyObject *ep_py_array_share(PyObject *module, PyObject *value);
PyObject *ep_py_array_empty(PyObject *module, PyObject *args, PyObject *kwargs);

/* What a message has brought: a read-only ndarray or memoryview, new. NULL without an exception:
 * the handle makes no sense. */
PyObject *ep_py_array_decode(const struct ep_py_codec *codec, const struct ep_etf_token *token);

/* The SharedArray that an ndarray becomes, new; None: it becomes a list. NULL: an exception. */
PyObject *ep_py_array_of(const struct ep_py_codec *codec, PyObject *value);

/* Seals a SharedArray, adds it to what the message names, and writes the handle. 0, or -1 with an
 * exception. */
int ep_py_array_encode(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *array);

#endif
