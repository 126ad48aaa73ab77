/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_object.h"

#include "ep_buf.h"
#include "ep_py_status.h"
#include "ep_py_store.h"

#include <stddef.h>

/* --- the type ------------------------------------------------------------------------------ */

static PyObject *wrap(PyTypeObject *type, struct ep_py_entry *entry)
{
    struct ep_py_object *object = (struct ep_py_object *)type->tp_alloc(type, 0);

    if (object == NULL)
        ep_py_entry_unref(entry);
    else
        object->entry = entry;
    return (PyObject *)object;
}

/* Handle(handle): another one for the same. A class may say of which kind, in _kind. */
static PyObject *object_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyTypeObject *base = type;
    PyObject *from;

    (void)kwargs;
    while (base != NULL && base->tp_new == object_new && base->tp_base != NULL
           && base->tp_base->tp_new == object_new)
        base = base->tp_base;
    if (!PyArg_ParseTuple(args, "O:Handle", &from))
        return NULL;
    if (!PyObject_TypeCheck(from, base))
        return PyErr_Format(PyExc_TypeError, "%s() needs the handle that Erlang has passed, not %s",
                            type->tp_name, Py_TYPE(from)->tp_name);
    struct ep_py_entry *entry = ((struct ep_py_object *)from)->entry;
    PyObject *kind = PyObject_GetAttrString((PyObject *)type, "_kind");
    if (kind == NULL)
        return NULL;
    long number = PyLong_Check(kind) ? PyLong_AsLong(kind) : entry->info.dtype;
    Py_DECREF(kind);
    if (number != entry->info.dtype)
        return PyErr_Format(PyExc_TypeError, "the handle is not one for %s()", type->tp_name);
    ep_py_entry_ref(entry);
    return wrap(type, entry);
}

static void object_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    ep_py_entry_unref(((struct ep_py_object *)self)->entry);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_hash_t object_hash(PyObject *self)
{
    return (Py_hash_t)(((struct ep_py_object *)self)->entry->info.id & PY_SSIZE_T_MAX);
}

static PyObject *object_compare(PyObject *self, PyObject *other, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(other)->tp_hash != object_hash)
        Py_RETURN_NOTIMPLEMENTED;
    bool is_equal = ((struct ep_py_object *)self)->entry == ((struct ep_py_object *)other)->entry;
    return PyBool_FromLong(is_equal == (op == Py_EQ));
}

static const char *const kinds[EP_OBJECTS] = {"channel", "byte channel", "buffer", "dict"};

static PyObject *object_repr(PyObject *self)
{
    const struct ep_array_info *info = &((struct ep_py_object *)self)->entry->info;

    return PyUnicode_FromFormat("<erlang %s %llu>", kinds[info->dtype],
                                (unsigned long long)info->id);
}

static PyObject *object_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(self)->tp_name);
}

/* memoryview(buffer): what was written so far. */
static int object_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    view->obj = NULL;
    if (((struct ep_py_object *)self)->entry->info.dtype != EP_OBJECT_BUFFER) {
        PyErr_Format(PyExc_TypeError, "a bytes-like object is required, not '%s'",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    PyObject *bytes = PyObject_CallMethod(self, "_bytes", NULL);
    int rc = bytes == NULL ? -1 : PyObject_GetBuffer(bytes, view, flags);
    Py_XDECREF(bytes);
    return rc;
}

static PyMethodDef object_methods[] = {
    {"__reduce__", object_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot object_slots[] = {
    {Py_tp_new, object_new},
    {Py_tp_dealloc, object_dealloc},
    {Py_tp_hash, object_hash},
    {Py_tp_richcompare, object_compare},
    {Py_tp_repr, object_repr},
    {Py_tp_methods, object_methods},
    {Py_bf_getbuffer, object_getbuffer},
    {0, NULL},
};

static PyType_Spec object_spec = {
    .name = "erlang.Handle",
    .basicsize = sizeof(struct ep_py_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = object_slots,
};

int ep_py_object_add_types(PyObject *module, struct ep_py_types *ret_types)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &object_spec, NULL);

    if (type == NULL)
        return -1;
    ret_types->object = type;
    PyObject *none = Py_NewRef(Py_None);
    int rc = PyObject_SetAttrString((PyObject *)type, "_kind", none);
    Py_DECREF(none);
    if (rc < 0 || PyModule_AddType(module, type) < 0)
        return -1;
    return ep_py_status_add(module, ret_types);
}

/* --- conversion ---------------------------------------------------------------------------- */

PyObject *ep_py_object_decode(const struct ep_py_codec *codec, struct ep_py_entry *entry)
{
    bool is_buffer = entry->info.dtype == EP_OBJECT_BUFFER;
    PyObject *handle = wrap(codec->types.object, entry);

    if (handle == NULL || !is_buffer)
        return handle;
    PyObject *module = PyImport_ImportModule("erlang._buffer");
    PyObject *buffer = module == NULL ? NULL : PyObject_CallMethod(module, "PyBuffer", "O", handle);
    Py_XDECREF(module);
    Py_DECREF(handle);
    return buffer;
}

int ep_py_object_encode(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *handle)
{
    static const uint8_t unsealed[EP_ETF_SEAL_SIZE];

    if (codec->named == NULL) {
        PyErr_Format(PyExc_TypeError, "a %s cannot be sent from here",
                     kinds[((struct ep_py_object *)handle)->entry->info.dtype]);
        return -1;
    }
    int64_t index = ep_py_cargo_put(codec->named, ((struct ep_py_object *)handle)->entry);
    if (index < 0) {
        PyErr_SetString(PyExc_MemoryError, "more than 65536 arrays in one message");
        return -1;
    }
    uint32_t number = (uint32_t)index;
    ep_etf_put_handle(buf, (enum ep_handle_kind)EP_HANDLE_ARRAY, &number, sizeof(number), unsealed);
    return 0;
}
