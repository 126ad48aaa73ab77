/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_MODULE_H
#define EP_PY_MODULE_H

/*
 * ep_py_module - the built-in module _erlang, which the package erlang wraps.
 */

#include "ep_py_handle.h"
#include "ep_python.h"

PyMODINIT_FUNC ep_py_module_init(void);

/* Copies the borrowed types of this interpreter's _erlang. */
int ep_py_module_types(PyObject *module, struct ep_py_types *ret_types);

#endif
