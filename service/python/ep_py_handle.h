/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_HANDLE_H
#define EP_PY_HANDLE_H

/*
 * ep_py_handle - opaque pids and references of the VM: erlang.Pid, erlang.Ref.
 */

#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_python.h"

struct ep_py_handle {
    PyObject_VAR_HEAD /* ob_size: bytes of data */
        Py_hash_t hash;
    /* Of a Pid: what the VM said of the process, and when, see ep_py_letter.c. Another thread
     * may write them at the same time. */
    ep_atomic_u64 said_ns;
    ep_atomic_u32 sent; /* messages since then */
    ep_atomic_u8 said;
    uint8_t seal[EP_ETF_SEAL_SIZE];
    uint8_t data[];
};

struct ep_py_types {
    PyTypeObject *pid;
    PyTypeObject *ref;
    PyTypeObject *atom;
    PyObject *atoms; /* dict: each erlang.Atom under its name */
    PyTypeObject *array;
    PyTypeObject *object;      /* a handle of what the VM keeps, see ep_py_object.h */
    PyObject *statuses;        /* tuple, by enum ep_status */
    struct ep_py_numpy *numpy; /* see ep_py_numpy.h */
};

/* Adds the types to a module. */
int ep_py_handle_add_types(PyObject *module, struct ep_py_types *ret_types);

/* New. */
PyObject *ep_py_handle_new(PyTypeObject *type, const struct ep_etf_token *token);

#endif
