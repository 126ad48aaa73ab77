/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_array.h"

#include "ep_py_fork.h"
#include "ep_py_numpy.h"
#include "ep_py_object.h"
#include "ep_py_store.h"

#include <stddef.h>
#include <string.h>

struct array {
    PyObject_HEAD struct ep_py_entry *entry;
    PyObject *made; /* weak: the ndarray that empty() returned; or NULL */
    Py_ssize_t strides[EP_ARRAY_DIMS_MAX];
};

/* --- the type ------------------------------------------------------------------------------ */

/* Takes the reference to the entry. */
static PyObject *new_array(PyTypeObject *type, struct ep_py_entry *entry)
{
    struct array *array = PyObject_New(struct array, type);

    if (array == NULL) {
        ep_py_entry_unref(entry);
        return NULL;
    }
    array->entry = entry;
    array->made = NULL;
    Py_ssize_t stride = (Py_ssize_t)ep_dtype_size(entry->info.dtype);
    for (unsigned i = entry->info.ndim; i > 0; i--) {
        array->strides[i - 1] = stride;
        if (entry->info.dims[i - 1] > 0)
            stride *= (Py_ssize_t)entry->info.dims[i - 1];
    }
    return (PyObject *)array;
}

static void array_dealloc(PyObject *self)
{
    struct array *array = (struct array *)self;
    PyTypeObject *type = Py_TYPE(self);

    Py_XDECREF(array->made);
    ep_py_entry_unref(array->entry);
    PyObject_Free(self);
    Py_DECREF(type);
}

static int array_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    struct array *array = (struct array *)self;
    const struct ep_array_info *info = &array->entry->info;

    if ((flags & PyBUF_WRITABLE) != 0 && array->entry->is_sealed) {
        PyErr_SetString(PyExc_BufferError, "a shared array is read-only");
        view->obj = NULL;
        return -1;
    }
    view->obj = Py_NewRef(self);
    view->buf = array->entry->mem;
    view->len = (Py_ssize_t)info->nbytes;
    view->readonly = array->entry->is_sealed;
    view->itemsize = (Py_ssize_t)ep_dtype_size(info->dtype);
    view->format = (flags & PyBUF_FORMAT) != 0 ? (char *)ep_dtype_format(info->dtype) : NULL;
    view->ndim = info->ndim;
    view->shape = (flags & PyBUF_ND) != 0 ? (Py_ssize_t *)(uintptr_t)info->dims : NULL;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? array->strides : NULL;
    view->suboffsets = NULL;
    view->internal = NULL;
    return 0;
}

static PyObject *shape_of(const struct ep_array_info *info)
{
    PyObject *shape = PyTuple_New(info->ndim);

    for (unsigned i = 0; shape != NULL && i < info->ndim; i++) {
        PyObject *size = PyLong_FromUnsignedLongLong(info->dims[i]);
        if (size == NULL)
            Py_CLEAR(shape);
        else
            PyTuple_SET_ITEM(shape, i, size);
    }
    return shape;
}

/* An ndarray over it, or a memoryview. New. */
static PyObject *view_of(struct ep_py_numpy *numpy, PyObject *self)
{
    const struct ep_array_info *info = &((struct array *)self)->entry->info;

    if (!ep_py_numpy_load(numpy))
        return PyErr_Occurred() ? NULL : PyMemoryView_FromObject(self);
    PyObject *shape = shape_of(info);
    if (shape == NULL)
        return NULL;
    PyObject *args[] = {NULL, shape, numpy->dtypes[info->dtype], self};
    PyObject *view =
        PyObject_Vectorcall(numpy->ndarray, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(shape);
    return view;
}

static struct ep_py_numpy *numpy_of(PyObject *self)
{
    const struct ep_py_types *types = PyType_GetModuleState(Py_TYPE(self));

    return types->numpy;
}

static PyObject *array_array(PyObject *self, void *unused)
{
    (void)unused;
    return view_of(numpy_of(self), self);
}

static PyObject *array_shape(PyObject *self, void *unused)
{
    (void)unused;
    return shape_of(&((struct array *)self)->entry->info);
}

static PyObject *array_dtype(PyObject *self, void *unused)
{
    unsigned dtype = ((struct array *)self)->entry->info.dtype;
    struct ep_py_numpy *numpy = numpy_of(self);

    (void)unused;
    if (ep_py_numpy_load(numpy))
        return Py_NewRef(numpy->dtypes[dtype]);
    return PyErr_Occurred() ? NULL : PyUnicode_FromString(ep_dtype_name(dtype));
}

static PyObject *array_nbytes(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((struct array *)self)->entry->info.nbytes);
}

static PyObject *array_repr(PyObject *self)
{
    const struct ep_array_info *info = &((struct array *)self)->entry->info;
    PyObject *shape = shape_of(info);
    PyObject *text = shape == NULL ? NULL
                                   : PyUnicode_FromFormat("<erlang.SharedArray %s %R>",
                                                          ep_dtype_name(info->dtype), shape);

    Py_XDECREF(shape);
    return text;
}

static PyObject *array_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%s' object", Py_TYPE(self)->tp_name);
}

static PyGetSetDef array_getset[] = {
    {"array", array_array, NULL, "A read-only ndarray over the memory.", NULL},
    {"shape", array_shape, NULL, "The size of each dimension.", NULL},
    {"dtype", array_dtype, NULL, "The type of the elements.", NULL},
    {"nbytes", array_nbytes, NULL, "The size in bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef array_methods[] = {
    {"__reduce__", array_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot array_slots[] = {
    {Py_tp_dealloc, array_dealloc},
    {Py_tp_repr, array_repr},
    {Py_tp_getset, array_getset},
    {Py_tp_methods, array_methods},
    {Py_bf_getbuffer, array_getbuffer},
    {Py_tp_doc, "An array in memory that Erlang shares."},
    {0, NULL},
};

static PyType_Spec array_spec = {
    .name = "erlang.SharedArray",
    .basicsize = sizeof(struct array),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = array_slots,
};

int ep_py_array_add_type(PyObject *module, struct ep_py_types *ret_types)
{
    ret_types->numpy = ep_py_numpy_create();
    ret_types->array = (PyTypeObject *)PyType_FromModuleAndSpec(module, &array_spec, NULL);
    if (ret_types->numpy == NULL || ret_types->array == NULL)
        return -1;
    return PyModule_AddType(module, ret_types->array);
}

/* --- making --------------------------------------------------------------------------------- */

static bool is_refused(void)
{
    if (!ep_py_fork_is_child())
        return false;
    PyErr_SetString(PyExc_RuntimeError, "a forked process has no way to Erlang");
    return true;
}

/* Sizes of a tuple, or one size. */
static int get_shape(PyObject *shape, struct ep_array_info *info)
{
    PyObject *sizes = PyIndex_Check(shape) ? PyTuple_Pack(1, shape) : PySequence_Tuple(shape);

    if (sizes == NULL)
        return -1;
    Py_ssize_t ndim = PyTuple_GET_SIZE(sizes);
    int rc = ndim > (Py_ssize_t)EP_ARRAY_DIMS_MAX ? -1 : 0;
    if (rc < 0)
        PyErr_Format(PyExc_ValueError, "an array of more than %u dimensions cannot be shared",
                     EP_ARRAY_DIMS_MAX);
    for (Py_ssize_t i = 0; i < ndim && rc == 0; i++) {
        Py_ssize_t size = PyNumber_AsSsize_t(PyTuple_GET_ITEM(sizes, i), PyExc_ValueError);
        if (size < 0 && !PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a dimension is negative");
        rc = size < 0 ? -1 : 0;
        info->dims[i] = (uint64_t)size;
    }
    info->ndim = (uint8_t)ndim;
    Py_DECREF(sizes);
    return rc;
}

/* A SharedArray to write. dtype, ndim, dims are set. New. */
static PyObject *make(const struct ep_py_types *types, struct ep_array_info *info)
{
    struct ep_py_entry *entry = NULL;
    int rc = -1;

    if (ep_array_size(info->dtype, info->ndim, info->dims, &info->nbytes)) {
        Py_BEGIN_ALLOW_THREADS;
        rc = ep_py_store_make(info, &entry);
        Py_END_ALLOW_THREADS;
    }
    if (rc == 0)
        return new_array(types->array, entry);
    PyErr_SetString(PyExc_MemoryError, "no shared memory is left below max_shared_bytes");
    return NULL;
}

/* The ndarray that empty() has returned, new; NULL without an exception: there is none. */
static PyObject *made_of(const struct array *array)
{
    PyObject *made = NULL;

    if (array->made == NULL)
        return NULL;
#if PY_VERSION_HEX >= 0x030D0000
    (void)PyWeakref_GetRef(array->made, &made);
#else
    made = Py_NewRef(PyWeakref_GetObject(array->made));
    if (made == Py_None)
        Py_CLEAR(made);
#endif
    return made;
}

/* Nobody writes it any more. */
static int seal(struct array *array)
{
    if (array->entry->is_sealed)
        return 0;
    if (ep_py_store_seal(array->entry) < 0) {
        PyErr_SetString(PyExc_MemoryError, "the process has too many mappings to seal an array");
        return -1;
    }
    PyObject *made = made_of(array);
    if (made == NULL)
        return 0;
    /* A write through it is an exception then, and not the end of the process. */
    PyObject *none = PyObject_CallMethod(made, "setflags", "i", 0);
    Py_XDECREF(none);
    Py_DECREF(made);
    return none == NULL ? -1 : 0;
}

static int get_dtype(struct ep_py_numpy *numpy, PyObject *dtype)
{
    const char *name = PyUnicode_Check(dtype) ? PyUnicode_AsUTF8(dtype) : NULL;
    int number = name == NULL ? -1 : ep_py_numpy_dtype_of_name(name);

    if (number >= 0 || PyErr_Occurred())
        return number;
    if (!ep_py_numpy_load(numpy)) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "dtype %R is unknown without numpy", dtype);
        return -1;
    }
    PyObject *whole = PyObject_CallMethod(numpy->module, "dtype", "O", dtype);
    number = whole == NULL ? -1 : ep_py_numpy_dtype(whole);
    Py_XDECREF(whole);
    return number;
}

PyObject *ep_py_array_empty(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"shape", "dtype", NULL};
    const struct ep_py_types *types = PyModule_GetState(module);
    struct ep_array_info info = {.dtype = EP_DTYPE_FLOAT64};
    PyObject *shape, *dtype = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:empty", names, &shape, &dtype)
        || is_refused() || get_shape(shape, &info) < 0)
        return NULL;
    int number = dtype == NULL ? EP_DTYPE_FLOAT64 : get_dtype(types->numpy, dtype);
    if (number < 0)
        return NULL;
    info.dtype = (uint8_t)number;
    PyObject *array = make(types, &info);
    if (array == NULL)
        return NULL;
    PyObject *view = view_of(types->numpy, array);
    if (view != NULL && !PyMemoryView_Check(view)) {
        ((struct array *)array)->made = PyWeakref_NewRef(view, NULL);
        if (((struct array *)array)->made == NULL)
            Py_CLEAR(view);
    }
    Py_DECREF(array);
    return view;
}

/* --- what is shared already ------------------------------------------------------------------- */

/* The SharedArray that is all of an ndarray, or of a memoryview; new. None: there is none. */
static PyObject *whole_of(const struct ep_py_types *types, PyObject *value)
{
    PyObject *base = PyObject_GetAttrString(value, PyMemoryView_Check(value) ? "obj" : "base");
    Py_buffer view;

    if (base == NULL)
        return NULL;
    if (Py_TYPE(base) != types->array)
        goto none;
    const struct array *array = (const struct array *)base;
    const struct ep_array_info *info = &array->entry->info;
    if (PyObject_GetBuffer(value, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        goto none;
    }
    bool is_whole = view.buf == array->entry->mem && view.ndim == info->ndim
                    && view.len == (Py_ssize_t)info->nbytes && view.format != NULL
                    && (strcmp(view.format, ep_dtype_format(info->dtype)) == 0
                        || (strcmp(view.format, "l") == 0 && info->dtype == EP_DTYPE_INT64)
                        || (strcmp(view.format, "L") == 0 && info->dtype == EP_DTYPE_UINT64));
    for (int i = 0; i < view.ndim && is_whole; i++)
        is_whole = view.shape[i] == (Py_ssize_t)info->dims[i];
    PyBuffer_Release(&view);
    if (is_whole)
        return base;
none:
    Py_DECREF(base);
    return Py_NewRef(Py_None);
}

/* Whether it is the very ndarray that empty() has returned. */
static bool is_made(const struct ep_py_types *types, PyObject *base, PyObject *value)
{
    if (Py_TYPE(base) != types->array)
        return false;
    PyObject *made = made_of((const struct array *)base);
    Py_XDECREF(made);
    return made == value;
}

/* --- copies --------------------------------------------------------------------------------------- */

/* By its format: of one item, native. -1: none of ours. */
static int dtype_of_format(const char *format, Py_ssize_t itemsize)
{
    static const char bits[] = "bhilq", unsigned_bits[] = "BHILQ";

    if (format == NULL)
        return EP_DTYPE_UINT8;
    if (*format == '@' || *format == '=' || *format == '<')
        format++;
    if (strcmp(format, "Zf") == 0)
        return EP_DTYPE_COMPLEX64;
    if (strcmp(format, "Zd") == 0)
        return EP_DTYPE_COMPLEX128;
    if (*format == '\0' || format[1] != '\0')
        return -1;
    int log2 = itemsize == 1 ? 0 : itemsize == 2 ? 1 : itemsize == 4 ? 2 : itemsize == 8 ? 3 : -1;
    if (log2 < 0)
        return -1;
    if (strchr(bits, *format) != NULL)
        return EP_DTYPE_INT8 + log2;
    if (strchr(unsigned_bits, *format) != NULL || *format == 'c')
        return EP_DTYPE_UINT8 + log2;
    switch (*format) {
    case '?': return EP_DTYPE_BOOL;
    case 'e': return EP_DTYPE_FLOAT16;
    case 'f': return EP_DTYPE_FLOAT32;
    case 'd': return EP_DTYPE_FLOAT64;
    default: return -1;
    }
}

/* Makes and seals a copy of what lies in a C-contiguous buffer. New. */
static PyObject *copy_bytes(const struct ep_py_types *types, struct ep_array_info *info,
                            const Py_buffer *view)
{
    PyObject *self = make(types, info);

    if (self == NULL)
        return NULL;
    uint8_t *mem = ((struct array *)self)->entry->mem;
    Py_BEGIN_ALLOW_THREADS;
    if (view->len > 0)
        memcpy(mem, view->buf, (size_t)view->len);
    Py_END_ALLOW_THREADS;
    if (seal((struct array *)self) < 0)
        Py_CLEAR(self);
    return self;
}

/* The same of any buffer. */
static PyObject *share_buffer(const struct ep_py_types *types, PyObject *value)
{
    struct ep_array_info info = {.dtype = 0};
    PyObject *self = NULL;
    Py_buffer view;

    if (PyObject_GetBuffer(value, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    int dtype = dtype_of_format(view.format, view.itemsize);
    if (dtype < 0 || ep_dtype_size((unsigned)dtype) != (size_t)view.itemsize) {
        PyErr_Format(PyExc_TypeError, "a buffer of format '%s' cannot be shared", view.format);
    } else if (view.ndim > (int)EP_ARRAY_DIMS_MAX) {
        PyErr_Format(PyExc_ValueError, "an array of more than %u dimensions cannot be shared",
                     EP_ARRAY_DIMS_MAX);
    } else {
        info.dtype = (uint8_t)dtype;
        info.ndim = (uint8_t)view.ndim;
        for (int i = 0; i < view.ndim; i++)
            info.dims[i] = (uint64_t)view.shape[i];
        self = copy_bytes(types, &info, &view);
    }
    PyBuffer_Release(&view);
    return self;
}

/* Of an ndarray whose elements lie anyhow. */
static PyObject *copy_elements(const struct ep_py_types *types, struct ep_array_info *info,
                               PyObject *value)
{
    PyObject *self = make(types, info);
    PyObject *view = self == NULL ? NULL : view_of(types->numpy, self);
    PyObject *none = view == NULL
                         ? NULL
                         : PyObject_CallMethod(types->numpy->module, "copyto", "OO", view, value);

    Py_XDECREF(view);
    if (none == NULL || seal((struct array *)self) < 0)
        Py_CLEAR(self);
    Py_XDECREF(none);
    return self;
}

static PyObject *share_ndarray(const struct ep_py_types *types, PyObject *value)
{
    struct ep_array_info info = {.dtype = 0};
    PyObject *dtype = PyObject_GetAttrString(value, "dtype");
    PyObject *shape = dtype == NULL ? NULL : PyObject_GetAttrString(value, "shape");
    PyObject *is_native = shape == NULL ? NULL : PyObject_GetAttrString(dtype, "isnative");
    PyObject *self = NULL;
    Py_buffer view;

    int number = is_native == NULL ? -1 : ep_py_numpy_dtype(dtype);
    if (number < 0 || get_shape(shape, &info) < 0)
        goto release;
    info.dtype = (uint8_t)number;
    if (is_native == Py_True && PyObject_GetBuffer(value, &view, PyBUF_C_CONTIGUOUS) == 0) {
        self = copy_bytes(types, &info, &view);
        PyBuffer_Release(&view);
    } else {
        PyErr_Clear();
        self = copy_elements(types, &info, value);
    }
release:
    Py_XDECREF(is_native);
    Py_XDECREF(shape);
    Py_XDECREF(dtype);
    return self;
}

static PyObject *share(const struct ep_py_types *types, PyObject *value)
{
    if (Py_TYPE(value) == types->array)
        return seal((struct array *)value) < 0 ? NULL : Py_NewRef(value);
    bool is_ndarray = ep_py_numpy_is_array(types->numpy, value);
    if (is_ndarray || PyMemoryView_Check(value)) {
        PyObject *whole = whole_of(types, value);
        if (whole == NULL)
            return NULL;
        if (whole != Py_None && seal((struct array *)whole) == 0)
            return whole;
        Py_DECREF(whole);
        if (PyErr_Occurred())
            return NULL;
    }
    return is_ndarray ? share_ndarray(types, value) : share_buffer(types, value);
}

PyObject *ep_py_array_share(PyObject *module, PyObject *value)
{
    return is_refused() ? NULL : share(PyModule_GetState(module), value);
}

/* --- conversion -------------------------------------------------------------------------------------- */

PyObject *ep_py_array_decode(const struct ep_py_codec *codec, const struct ep_etf_token *token)
{
    uint32_t index;

    if (codec->brought == NULL || token->count != sizeof(index))
        return NULL;
    memcpy(&index, token->data, sizeof(index));
    if (index >= codec->brought->n)
        return NULL;
    struct ep_py_entry *entry = codec->brought->entries[index];
    ep_py_entry_ref(entry);
    if ((entry->info.what & EP_ARRAY_OBJECT) != 0)
        return ep_py_object_decode(codec, entry);
    PyObject *array = new_array(codec->types.array, entry);
    if (array == NULL)
        return NULL;
    PyObject *view = view_of(codec->types.numpy, array);
    Py_DECREF(array);
    return view;
}

PyObject *ep_py_array_of(const struct ep_py_codec *codec, PyObject *value)
{
    PyObject *base;

    if (codec->named == NULL)
        return Py_NewRef(Py_None);
    if (codec->shares)
        return share(&codec->types, value);
    base = PyObject_GetAttrString(value, "base");
    if (base == NULL)
        return NULL;
    if (is_made(&codec->types, base, value))
        return base;
    Py_DECREF(base);
    return Py_NewRef(Py_None);
}

int ep_py_array_encode(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *array)
{
    static const uint8_t unsealed[EP_ETF_SEAL_SIZE];

    if (codec->named == NULL) {
        PyErr_SetString(PyExc_TypeError, "a shared array cannot be sent from here");
        return -1;
    }
    if (seal((struct array *)array) < 0)
        return -1;
    int64_t index = ep_py_cargo_put(codec->named, ((struct array *)array)->entry);
    if (index < 0) {
        PyErr_SetString(PyExc_MemoryError, "more than 65536 arrays in one message");
        return -1;
    }
    uint32_t number = (uint32_t)index;
    ep_etf_put_handle(buf, (enum ep_handle_kind)EP_HANDLE_ARRAY, &number, sizeof(number), unsealed);
    return 0;
}
