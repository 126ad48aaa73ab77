/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_CALLBACK_H
#define EP_PY_CALLBACK_H

/*
 * ep_py_callback - what Python code asks of Erlang: callbacks and shared state.
 */

#include "ep_layout.h"
#include "ep_python.h"

/* Asks and waits. name: NULL unless the question has one. New. */
PyObject *ep_py_callback_ask(PyObject *module, enum ep_question question, PyObject *name,
                             PyObject *const *args, Py_ssize_t n_args);

#endif
