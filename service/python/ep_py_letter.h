/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_LETTER_H
#define EP_PY_LETTER_H

/*
 * ep_py_letter - messages to Erlang processes: erlang.send, and erlang.whereis.
 */

#include "ep_python.h"

/* Sends term to a process. None: the message is on its way. New. */
PyObject *ep_py_letter_send(PyObject *module, PyObject *pid, PyObject *term);

/* The process that is registered under a name, or None. New. */
PyObject *ep_py_letter_whereis(PyObject *module, PyObject *name);

#endif
