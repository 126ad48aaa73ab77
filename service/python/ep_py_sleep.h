/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_SLEEP_H
#define EP_PY_SLEEP_H

/*
 * ep_py_sleep - a sleep that an interrupt ends at once, also where it is an exception that
 * another thread sets, which a thread in a system call does not notice.
 */

#include "ep_py_interrupt.h"
#include "ep_python.h"

/* sleep(seconds), of the module _erlang. None, perhaps early: an exception is then about to be
 * raised. New. */
PyObject *ep_py_sleep(PyObject *module, PyObject *seconds);

/* Ends the sleep of the call; after the exception was set. */
void ep_py_sleep_end(struct ep_py_interrupt *interrupt, uint64_t call_id);

#endif
