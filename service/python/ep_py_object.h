/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_OBJECT_H
#define EP_PY_OBJECT_H

/*
 * ep_py_object - channels, byte channels, buffers and dicts of the VM, as Python has them.
 *
 * erlang.Handle stands for one; the classes of the package are made of it. Nothing of an object is
 * in this process but its name: what it holds is asked for.
 *
 * Threads  attached.
 */

#include "ep_etf.h"
#include "ep_py_codec.h"
#include "ep_py_handle.h"
#include "ep_python.h"

struct ep_py_object {
    PyObject_HEAD struct ep_py_entry *entry;
};

int ep_py_object_add_types(PyObject *module, struct ep_py_types *ret_types);

/* What a message has brought. New. Takes the reference to the entry. */
PyObject *ep_py_object_decode(const struct ep_py_codec *codec, struct ep_py_entry *entry);

/* Adds a handle to what the message names, and writes it. 0, or -1 with an exception. */
int ep_py_object_encode(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *handle);

#endif
