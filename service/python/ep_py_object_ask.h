/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_OBJECT_ASK_H
#define EP_PY_OBJECT_ASK_H

/*
 * ep_py_object_ask - what Python asks of channels, byte channels, buffers and dicts.
 *
 * Each returns the value, or one of _erlang.STATUSES.
 *
 * Threads  attached; detached while they wait.
 */

#include "ep_python.h"

/* Functions of the module _erlang. New. */
PyObject *ep_py_object_take(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *ep_py_object_put(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *ep_py_object_close(PyObject *module, PyObject *handle);
PyObject *ep_py_object_read(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *ep_py_object_size(PyObject *module, PyObject *handle);
PyObject *ep_py_object_dict(PyObject *module, PyObject *const *args, Py_ssize_t n);
/* object_await(port, handle, position), object_unwait(port, handle, number): the number of a
 * question. */
PyObject *ep_py_object_await(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *ep_py_object_unwait(PyObject *module, PyObject *const *args, Py_ssize_t n);

#endif
