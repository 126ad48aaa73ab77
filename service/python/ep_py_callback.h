/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_CALLBACK_H
#define EP_PY_CALLBACK_H

/*
 * ep_py_callback - what Python code asks of Erlang: callbacks and shared state.
 */

#include "ep_buf.h"
#include "ep_layout.h"
#include "ep_py_codec.h"
#include "ep_python.h"

/* Encodes a value; an exception says where in it, after root: "args[0]: ...". */
int ep_py_callback_put(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *value,
                       const char *root);

/* Asks what was encoded, question and arguments, and waits. New. */
PyObject *ep_py_callback_ask_buf(PyObject *module, const struct ep_buf *question, bool has_arrays);

/* Asks and waits. name: NULL unless the question has one. New. */
PyObject *ep_py_callback_ask(PyObject *module, enum ep_question question, PyObject *name,
                             PyObject *const *args, Py_ssize_t n_args);

#endif
