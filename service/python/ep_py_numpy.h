/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_NUMPY_H
#define EP_PY_NUMPY_H

/*
 * ep_py_numpy - what arrays need of numpy, where it can be imported.
 *
 * Threads  attached; one object for each interpreter.
 */

#include "ep_array.h"
#include "ep_python.h"

struct ep_py_numpy {
    PyObject *module; /* NULL: not imported yet, or not importable */
    PyObject *ndarray;
    PyObject *dtypes[EP_DTYPES];
    uint64_t tried_ns;
};

struct ep_py_numpy *ep_py_numpy_create(void);
void ep_py_numpy_destroy(struct ep_py_numpy *numpy);

/* Imports numpy if that has not been done. Whether it is there; no exception is left. */
bool ep_py_numpy_load(struct ep_py_numpy *numpy);

/* Whether value is an instance of numpy's type of that name; never imports numpy. */
bool ep_py_numpy_is(PyObject *value, const char *type_name);

/* Whether value is an ndarray, or of a subclass; never imports numpy. */
bool ep_py_numpy_is_array(struct ep_py_numpy *numpy, PyObject *value);

/* The number of a dtype of numpy; -1 with TypeError. */
int ep_py_numpy_dtype(PyObject *dtype);

/* The same of its name: -1 without an exception. */
int ep_py_numpy_dtype_of_name(const char *name);

#endif
