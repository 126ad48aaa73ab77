/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_STATUS_H
#define EP_PY_STATUS_H

/*
 * ep_py_status - answers that are no values: why a channel or the like gives nothing.
 *
 * Each is an object that is nothing else, and known by what it is: _erlang.STATUSES[enum ep_status].
 *
 * Threads  attached.
 */

#include "ep_py_handle.h"
#include "ep_python.h"

int ep_py_status_add(PyObject *module, struct ep_py_types *ret_types);

/* What an answer of EP_ANSWER_STATUS says. New. */
PyObject *ep_py_status(const struct ep_py_types *types, const uint8_t *payload, size_t n);

#endif
