/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PYTHON_H
#define EP_PYTHON_H

/*
 * ep_python - Python.h as the files of this room include it.
 *
 * Of their headers those without it are for the rooms above, too. For all of them:
 *
 * Ownership  "new" references are the caller's, "borrowed" ones are not.
 * Errors     -1 or NULL: a Python exception is set, unless a comment says errno.
 * Threads    the thread of the context, attached (it holds the GIL).
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(op) {
#define Py_END_CRITICAL_SECTION() }
#endif

#endif
