/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_EXCEPTION_H
#define EP_PY_EXCEPTION_H

/*
 * ep_py_exception - the exception that is set, taken out and put back.
 */

#include "ep_python.h"

/* Takes the exception that is set (new), with its traceback. */
PyObject *ep_py_exception_take(void);

/* Sets an exception that was taken; takes the reference. NULL: does nothing. */
void ep_py_exception_restore(PyObject *exc);

#endif
