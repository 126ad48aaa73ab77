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

/* The same with a codec of its own. */
int ep_py_callback_put_value(PyObject *module, struct ep_buf *buf, PyObject *value,
                             const char *root);

struct ep_py_outcome;

/* Encodes a question; 0, or -1 with an exception. name: NULL unless the question has one. named:
 * gets the arrays and objects that it names. */
int ep_py_callback_put_question(PyObject *module, struct ep_buf *buf, enum ep_question question,
                                PyObject *name, PyObject *const *args, Py_ssize_t n_args,
                                struct ep_py_cargo *named);

/* The value of an outcome, or NULL with the exception that it is. New. */
PyObject *ep_py_callback_decode(PyObject *module, struct ep_py_outcome *outcome);

/* The value of an item that came ahead, see ep_py_ahead.h. New. */
PyObject *ep_py_callback_decode_item(PyObject *module, const struct ep_buf *item);

/* Whether the thread asks beside the rings, for it runs no request. */
bool ep_py_callback_is_beside(void);

/* Asks what was encoded, question and arguments, and waits. New. */
PyObject *ep_py_callback_ask_buf(PyObject *module, const struct ep_buf *question, bool has_arrays);

/* Asks and waits. name: NULL unless the question has one. New. */
PyObject *ep_py_callback_ask(PyObject *module, enum ep_question question, PyObject *name,
                             PyObject *const *args, Py_ssize_t n_args);

#endif
