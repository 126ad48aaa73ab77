/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_ATOM_H
#define EP_PY_ATOM_H

/*
 * ep_py_atom - atoms of the VM that Python code makes: erlang.Atom.
 *
 * There is one object for each name in an interpreter; it lives as long as the interpreter, as
 * the atom lives as long as the VM.
 */

#include "ep_py_handle.h"
#include "ep_python.h"

struct ep_py_atom {
    PyObject_HEAD PyObject *name; /* exactly a str */
};

/* Adds the type to a module. */
int ep_py_atom_add_type(PyObject *module, struct ep_py_types *ret_types);

/* erlang.atom(name). Asks the VM for a name that is new here. New. */
PyObject *ep_py_atom_make(PyObject *module, PyObject *name);

/* Its name, a str. Borrowed. */
static inline PyObject *ep_py_atom_name(PyObject *atom)
{
    return ((struct ep_py_atom *)atom)->name;
}

#endif
