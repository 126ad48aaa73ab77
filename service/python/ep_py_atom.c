/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_atom.h"

#include "ep_py_callback.h"

#define NAME_MAX_CHARACTERS 255

static void atom_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_CLEAR(((struct ep_py_atom *)self)->name);
    PyObject_Free(self);
    Py_DECREF(type);
}

static Py_hash_t atom_hash(PyObject *self)
{
    return PyObject_Hash(ep_py_atom_name(self));
}

static PyObject *atom_str(PyObject *self)
{
    return Py_NewRef(ep_py_atom_name(self));
}

static PyObject *atom_repr(PyObject *self)
{
    return PyUnicode_FromFormat("erlang.atom(%R)", ep_py_atom_name(self));
}

static PyObject *atom_compare(PyObject *self, PyObject *other, int op)
{
    if (Py_TYPE(self) != Py_TYPE(other))
        Py_RETURN_NOTIMPLEMENTED;
    return PyObject_RichCompare(ep_py_atom_name(self), ep_py_atom_name(other), op);
}

static PyObject *atom_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *erlang = PyImport_ImportModule("erlang");
    PyObject *make = erlang == NULL ? NULL : PyObject_GetAttrString(erlang, "atom");
    PyObject *result = make == NULL ? NULL : Py_BuildValue("(O(O))", make, ep_py_atom_name(self));
    Py_XDECREF(make);
    Py_XDECREF(erlang);
    return result;
}

static PyMethodDef atom_methods[] = {
    {"__reduce__", atom_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot atom_slots[] = {
    {Py_tp_dealloc, atom_dealloc},
    {Py_tp_hash, atom_hash},
    {Py_tp_str, atom_str},
    {Py_tp_repr, atom_repr},
    {Py_tp_methods, atom_methods},
    {Py_tp_richcompare, atom_compare},
    {0, NULL},
};

static PyType_Spec atom_spec = {
    .name = "erlang.Atom",
    .basicsize = sizeof(struct ep_py_atom),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = atom_slots,
};

int ep_py_atom_add_type(PyObject *module, struct ep_py_types *ret_types)
{
    ret_types->atoms = PyDict_New();
    if (ret_types->atoms == NULL)
        return -1;
    ret_types->atom = (PyTypeObject *)PyType_FromModuleAndSpec(module, &atom_spec, NULL);
    return ret_types->atom == NULL ? -1 : PyModule_AddType(module, ret_types->atom);
}

/* New, and the one of its name from now on, unless another thread was faster. */
static PyObject *intern(struct ep_py_types *types, PyObject *name)
{
    struct ep_py_atom *atom = PyObject_New(struct ep_py_atom, types->atom);

    if (atom == NULL)
        return NULL;
    atom->name = Py_NewRef(name);
    PyObject *interned = PyDict_SetDefault(types->atoms, name, (PyObject *)atom); /* borrowed */
    Py_XINCREF(interned);
    Py_DECREF(atom);
    return interned;
}

/* Has the VM make the atom. */
static int ask(PyObject *module, PyObject *name)
{
    PyObject *may = ep_py_callback_ask(module, EP_QUESTION_ATOM, NULL, &name, 1);

    if (may == NULL)
        return -1;
    bool is_made = may == Py_True;
    Py_DECREF(may);
    if (is_made)
        return 0;
    PyErr_Format(PyExc_RuntimeError,
                 "atom %R is not made: Python has made as many atoms as the limit max_atoms allows",
                 name);
    return -1;
}

PyObject *ep_py_atom_make(PyObject *module, PyObject *arg)
{
    struct ep_py_types *types = PyModule_GetState(module);

    if (!PyUnicode_Check(arg)) {
        PyErr_Format(PyExc_TypeError, "atom() needs a str, not '%s'", Py_TYPE(arg)->tp_name);
        return NULL;
    }
    if (PyUnicode_GET_LENGTH(arg) > NAME_MAX_CHARACTERS) {
        PyErr_Format(PyExc_ValueError, "an atom has at most %d characters, not %zd",
                     NAME_MAX_CHARACTERS, PyUnicode_GET_LENGTH(arg));
        return NULL;
    }
    PyObject *name = PyUnicode_FromObject(arg);
    if (name == NULL)
        return NULL;
    PyObject *atom = PyDict_GetItemWithError(types->atoms, name); /* borrowed; never removed */
    if (atom != NULL)
        Py_INCREF(atom);
    else if (!PyErr_Occurred() && ask(module, name) == 0)
        atom = intern(types, name);
    Py_DECREF(name);
    return atom;
}
