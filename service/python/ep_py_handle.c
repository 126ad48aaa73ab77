/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_handle.h"

#include "ep_etf.h"
#include "ep_hash.h"
#include "ep_python.h"

#include <stddef.h>
#include <string.h>

PyObject *ep_py_handle_new(PyTypeObject *type, const struct ep_etf_token *token)
{
    struct ep_py_handle *handle = PyObject_NewVar(struct ep_py_handle, type, token->count);

    if (handle == NULL)
        return NULL;
    handle->hash = (Py_hash_t)ep_hash_bytes(token->data, token->count);
    if (handle->hash == -1)
        handle->hash = -2;
    handle->said_ns = 0;
    handle->said = 0;
    handle->sent = 0;
    memcpy(handle->seal, token->seal, sizeof(handle->seal));
    memcpy(handle->data, token->data, token->count);
    return (PyObject *)handle;
}

static void handle_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}

static Py_hash_t handle_hash(PyObject *self)
{
    return ((struct ep_py_handle *)self)->hash;
}

static PyObject *handle_compare(PyObject *self, PyObject *other, int op)
{
    const struct ep_py_handle *a = (struct ep_py_handle *)self;
    const struct ep_py_handle *b = (struct ep_py_handle *)other;

    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(self) != Py_TYPE(other))
        Py_RETURN_NOTIMPLEMENTED;
    bool is_equal =
        Py_SIZE(self) == Py_SIZE(other) && memcmp(a->data, b->data, (size_t)Py_SIZE(self)) == 0;
    return PyBool_FromLong(is_equal == (op == Py_EQ));
}

/* The hash tells two handles apart for the reader and reveals nothing. */
static PyObject *handle_repr(PyObject *self)
{
    const char *name = Py_TYPE(self)->tp_name;
    const char *dot = strrchr(name, '.');

    return PyUnicode_FromFormat("<erlang.%s %08x>", dot != NULL ? dot + 1 : name,
                                (unsigned)((struct ep_py_handle *)self)->hash);
}

static PyObject *handle_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(self)->tp_name);
}

static PyMethodDef handle_methods[] = {
    {"__reduce__", handle_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_dealloc, handle_dealloc},     {Py_tp_hash, handle_hash},
    {Py_tp_richcompare, handle_compare}, {Py_tp_repr, handle_repr},
    {Py_tp_methods, handle_methods},     {0, NULL},
};

#define HANDLE_FLAGS                                                                               \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE)

static PyType_Spec pid_spec = {
    .name = "erlang.Pid",
    .basicsize = offsetof(struct ep_py_handle, data),
    .itemsize = 1,
    .flags = HANDLE_FLAGS,
    .slots = handle_slots,
};

static PyType_Spec ref_spec = {
    .name = "erlang.Ref",
    .basicsize = offsetof(struct ep_py_handle, data),
    .itemsize = 1,
    .flags = HANDLE_FLAGS,
    .slots = handle_slots,
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);

    if (type != NULL && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

int ep_py_handle_add_types(PyObject *module, struct ep_py_types *ret_types)
{
    ret_types->pid = add_type(module, &pid_spec);
    ret_types->ref = ret_types->pid == NULL ? NULL : add_type(module, &ref_spec);
    return ret_types->ref == NULL ? -1 : 0;
}
