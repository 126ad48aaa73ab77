/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_encode.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_py_array.h"
#include "ep_py_atom.h"
#include "ep_py_codec.h"
#include "ep_py_handle.h"
#include "ep_py_keys.h"
#include "ep_py_none.h"
#include "ep_py_numpy.h"
#include "ep_py_object.h"
#include "ep_py_place.h"
#include "ep_python.h"

#include <errno.h>
#include <math.h>

/*
 * Python objects to Erlang terms. str(x), iterators and numpy may run any code,
 * so containers are held, their sizes are checked against what was announced,
 * and items are held while they are encoded.
 */

struct encoder {
    struct ep_py_codec *codec;
    struct ep_buf *buf;
};

static int encode(struct encoder *e, PyObject *value, unsigned depth);

/* --- failures ---------------------------------------------------------------------- */

static int fail_size(struct encoder *e, size_t size)
{
    if (e->buf->error == -ENOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    e->codec->place.is_closed = true;
    PyErr_Format(PyExc_MemoryError, "%s%zu bytes do not fit in one message, which holds %zu",
                 size > EP_MESSAGE_MAX ? "" : "more than ",
                 size > EP_MESSAGE_MAX ? size : (size_t)EP_MESSAGE_MAX, (size_t)EP_MESSAGE_MAX);
    return -1;
}

/* Every writer's last act. */
static int check(struct encoder *e)
{
    return e->buf->error == 0 ? 0 : fail_size(e, 0);
}

static int enter(struct encoder *e, unsigned depth, size_t count)
{
    if (depth >= EP_ETF_DEPTH_MAX) {
        PyErr_Format(PyExc_RecursionError, "more than %u levels", EP_ETF_DEPTH_MAX);
        e->codec->place.is_closed = true;
        return -1;
    }
    /* Every element takes at least a byte. */
    return count > EP_MESSAGE_MAX ? fail_size(e, count) : 0;
}

static int changed(const char *what)
{
    PyErr_Format(PyExc_RuntimeError, "%s changed size while it was converted", what);
    return -1;
}

/* --- scalars ------------------------------------------------------------------------ */

static int put_binary(struct encoder *e, const void *data, Py_ssize_t size)
{
    if ((size_t)size > EP_MESSAGE_MAX)
        return fail_size(e, (size_t)size);
    ep_etf_put_binary(e->buf, data, (size_t)size);
    return check(e);
}

static int encode_big(struct encoder *e, PyObject *value, bool is_negative)
{
    PyObject *magnitude = NULL, *bits = NULL, *bytes = NULL;
    int rc = -1;

    magnitude = PyNumber_Absolute(value);
    if (magnitude == NULL)
        return -1;
    bits = PyObject_CallMethod(magnitude, "bit_length", NULL);
    Py_ssize_t n_bits = bits == NULL ? -1 : PyLong_AsSsize_t(bits);
    if (n_bits < 0)
        goto release;
    Py_ssize_t size = n_bits / 8 + 1;
    if ((size_t)size > EP_MESSAGE_MAX) {
        rc = fail_size(e, (size_t)size);
        goto release;
    }
    bytes = PyObject_CallMethod(magnitude, "to_bytes", "ns", size, "little");
    if (bytes == NULL)
        goto release;
    const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(bytes);
    while (size > 0 && data[size - 1] == 0)
        size--;
    ep_etf_put_big(e->buf, is_negative, data, (uint32_t)size);
    rc = check(e);

release:
    Py_XDECREF(bytes);
    Py_XDECREF(bits);
    Py_DECREF(magnitude);
    return rc;
}

static int encode_int(struct encoder *e, PyObject *value)
{
    int overflow;
    long long small = PyLong_AsLongLongAndOverflow(value, &overflow);

    if (overflow != 0)
        return encode_big(e, value, overflow < 0);
    if (small == -1 && PyErr_Occurred())
        return -1;
    ep_etf_put_int(e->buf, small);
    return check(e);
}

static int encode_float(struct encoder *e, double value)
{
    if (isnan(value))
        ep_etf_put_atom(e->buf, "nan", 3);
    else if (isinf(value) && value > 0)
        ep_etf_put_atom(e->buf, "infinity", 8);
    else if (isinf(value))
        ep_etf_put_atom(e->buf, "neg_infinity", 12);
    else
        ep_etf_put_float(e->buf, value);
    return check(e);
}

#define UTF8_CACHE_MAX 4096

static int encode_str(struct encoder *e, PyObject *value)
{
    Py_ssize_t size = PyUnicode_GET_LENGTH(value);

    if (PyUnicode_IS_COMPACT_ASCII(value))
        return put_binary(e, PyUnicode_1BYTE_DATA(value), size);
    if (size <= UTF8_CACHE_MAX) {
        const char *utf8 = PyUnicode_AsUTF8AndSize(value, &size);
        return utf8 == NULL ? -1 : put_binary(e, utf8, size);
    }
    /* Not the form that Python keeps with the string for its whole life. */
    PyObject *bytes = PyUnicode_AsUTF8String(value);
    if (bytes == NULL)
        return -1;
    int rc = put_binary(e, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return rc;
}

static int encode_buffer(struct encoder *e, PyObject *value)
{
    Py_buffer view;
    int rc = -1;

    if (PyObject_GetBuffer(value, &view, PyBUF_FULL_RO) < 0)
        return -1;
    if ((size_t)view.len > EP_MESSAGE_MAX) {
        rc = fail_size(e, (size_t)view.len);
        goto release;
    }
    uint8_t *at = ep_etf_put_binary_header(e->buf, (size_t)view.len);
    if (at == NULL)
        rc = fail_size(e, 0);
    else
        rc = view.len == 0 ? 0 : PyBuffer_ToContiguous(at, &view, view.len, 'C');

release:
    PyBuffer_Release(&view);
    return rc;
}

static int encode_handle(struct encoder *e, PyObject *value, enum ep_handle_kind kind)
{
    const struct ep_py_handle *handle = (const struct ep_py_handle *)value;

    ep_etf_put_handle(e->buf, kind, handle->data, (size_t)Py_SIZE(value), handle->seal);
    return check(e);
}

static int encode_array(struct encoder *e, PyObject *array)
{
    return ep_py_array_encode(e->codec, e->buf, array) < 0 ? -1 : check(e);
}

static int encode_atom(struct encoder *e, PyObject *value)
{
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(ep_py_atom_name(value), &size);

    if (utf8 == NULL)
        return -1;
    ep_etf_put_atom(e->buf, utf8, (size_t)size);
    return check(e);
}

/* --- sequences ----------------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030D0000
static PyObject *PyList_GetItemRef(PyObject *list, Py_ssize_t i)
{
    return Py_XNewRef(PyList_GetItem(list, i));
}
#endif

/* Writes the numbers from item i on, as far as they surely fit where the buffer lies;
 * returns how many. That runs no other code, so nothing has to be held. */
static Py_ssize_t put_numbers(struct encoder *e, PyObject *list, Py_ssize_t i, Py_ssize_t count)
{
#ifdef Py_GIL_DISABLED
    (void)e, (void)list, (void)i, (void)count;
    return 0; /* another thread may change the list meanwhile */
#else
    struct ep_buf *buf = e->buf;
    size_t room = (buf->capacity - buf->length) / EP_ETF_NUMBER_MAX;
    Py_ssize_t n = 0;

    if (room == 0 || PyList_GET_SIZE(list) != count)
        return 0;
    uint8_t *at = buf->data + buf->length;
    for (; i + n < count && (size_t)n < room; n++) {
        PyObject *item = PyList_GET_ITEM(list, i + n);
        if (PyLong_CheckExact(item)) {
            int overflow;
            long value = PyLong_AsLongAndOverflow(item, &overflow);
            if (overflow != 0)
                break;
            at = ep_etf_write_int(at, value);
        } else if (PyFloat_CheckExact(item) && isfinite(PyFloat_AS_DOUBLE(item))) {
            at = ep_etf_write_float(at, PyFloat_AS_DOUBLE(item));
        } else {
            break;
        }
    }
    buf->length = (size_t)(at - buf->data);
    return n;
#endif
}

static int encode_list(struct encoder *e, PyObject *list, unsigned depth)
{
    Py_ssize_t count = PyList_GET_SIZE(list);

    if (count == 0) {
        ep_etf_put_nil(e->buf);
        return check(e);
    }
    if (enter(e, depth, (size_t)count) < 0)
        return -1;
    ep_etf_put_list(e->buf, (uint32_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        i += put_numbers(e, list, i, count);
        if (i == count)
            break;
        PyObject *item = PyList_GET_SIZE(list) == count ? PyList_GetItemRef(list, i) : NULL;
        if (item == NULL) {
            PyErr_Clear();
            return changed("list");
        }
        int rc = encode(e, item, depth + 1);
        Py_DECREF(item);
        if (rc < 0) {
            ep_py_place_index(&e->codec->place, (size_t)i);
            return -1;
        }
    }
    ep_etf_put_nil(e->buf);
    return check(e);
}

static int encode_tuple(struct encoder *e, PyObject *tuple, unsigned depth)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);

    if (count > 0 && enter(e, depth, (size_t)count) < 0)
        return -1;
    ep_etf_put_tuple(e->buf, (uint32_t)count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (encode(e, PyTuple_GET_ITEM(tuple, i), depth + 1) < 0) {
            ep_py_place_index(&e->codec->place, (size_t)i);
            return -1;
        }
    }
    return check(e);
}

/* range, set, frozenset: their length is known and they are iterable. */
static int encode_iterable(struct encoder *e, PyObject *value, unsigned depth)
{
    Py_ssize_t count = PyObject_Size(value), n = 0;
    PyObject *item;

    if (count < 0)
        return -1;
    if (count == 0) {
        ep_etf_put_nil(e->buf);
        return check(e);
    }
    if (enter(e, depth, (size_t)count) < 0)
        return -1;
    PyObject *iterator = PyObject_GetIter(value);
    if (iterator == NULL)
        return -1;
    ep_etf_put_list(e->buf, (uint32_t)count);
    while ((item = PyIter_Next(iterator)) != NULL) {
        int rc = n < count ? encode(e, item, depth + 1) : 0;
        Py_DECREF(item);
        if (rc < 0) {
            ep_py_place_index(&e->codec->place, (size_t)n);
            break;
        }
        n++;
    }
    Py_DECREF(iterator);
    if (PyErr_Occurred())
        return -1;
    if (n != count)
        return changed(Py_TYPE(value)->tp_name);
    ep_etf_put_nil(e->buf);
    return check(e);
}

/* --- dict ---------------------------------------------------------------------------- */

static int encode_pair(struct encoder *e, PyObject *key, PyObject *value, unsigned depth,
                       struct ep_py_key_span *ret_span)
{
    size_t start = e->buf->length;

    if (encode(e, key, depth + 1) < 0)
        return -1;
    if (ret_span != NULL)
        *ret_span = (struct ep_py_key_span){.start = start, .size = e->buf->length - start};
    if (encode(e, value, depth + 1) == 0)
        return 0;
    ep_py_place_key(&e->codec->place, key);
    return -1;
}

static int encode_pairs(struct encoder *e, PyObject *dict, size_t count, unsigned depth)
{
    PyObject *key, *value;
    struct ep_py_key_span *spans = NULL;
    Py_ssize_t at = 0;
    size_t n = 0;
    int rc = 0;

    if (ep_py_keys_may_collide(dict)) {
        spans = PyMem_RawMalloc(count * sizeof(*spans));
        if (spans == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    while (rc == 0 && n < count && PyDict_Next(dict, &at, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        rc = encode_pair(e, key, value, depth, spans == NULL ? NULL : &spans[n]);
        Py_DECREF(value);
        Py_DECREF(key);
        n++;
    }
    if (rc == 0 && (n != count || (size_t)PyDict_GET_SIZE(dict) != count))
        rc = changed("dict");
    if (rc == 0 && spans != NULL)
        rc = ep_py_keys_check(e->buf, spans, count, &e->codec->is_doubtful);
    PyMem_RawFree(spans);
    return rc;
}

static int encode_dict(struct encoder *e, PyObject *dict, unsigned depth)
{
    int rc = 0;

    Py_BEGIN_CRITICAL_SECTION(dict);
    size_t count = (size_t)PyDict_GET_SIZE(dict);
    if (count > EP_SEND_KEYS_MAX)
        e->codec->is_doubtful = true;
    if (count > 0)
        rc = enter(e, depth, count);
    if (rc == 0) {
        ep_etf_put_map(e->buf, (uint32_t)count);
        rc = count == 0 ? 0 : encode_pairs(e, dict, count, depth);
    }
    Py_END_CRITICAL_SECTION();
    return rc < 0 ? rc : check(e);
}

/* --- everything else -------------------------------------------------------------------- */

static int encode_text_of(struct encoder *e, PyObject *value)
{
    PyObject *text = PyObject_Str(value);

    if (text == NULL)
        return -1;
    int rc = encode_str(e, text);
    Py_DECREF(text);
    return rc;
}

/* What has to run before there is a value: the code, and what the user can do about it. */
static int refuse_code(PyObject *value, const char *what, const char *remedy)
{
    PyObject *name = PyObject_GetAttrString(value, "__qualname__");

    if (name != NULL)
        PyErr_Format(PyExc_TypeError, "%s %U is code that has not run: %s", what, name, remedy);
    Py_XDECREF(name);
    return -1;
}

/* A numpy scalar that is its own item: no type of Python's holds all of it. */
static int encode_item(struct encoder *e, PyObject *item)
{
    if (!ep_py_numpy_is(item, "longdouble"))
        return encode_text_of(e, item);
    double value = PyFloat_AsDouble(item);
    return value == -1 && PyErr_Occurred() ? -1 : encode_float(e, value);
}

static int encode_other(struct encoder *e, PyObject *value, unsigned depth)
{
    if (PyGen_CheckExact(value))
        return refuse_code(value, "generator", "return list(...) of it");
    if (PyCoro_CheckExact(value))
        return refuse_code(value, "coroutine", "return asyncio.run(...) of it");
    if (PyAsyncGen_CheckExact(value))
        return refuse_code(value, "asynchronous generator",
                           "collect it, [x async for x in ...], in a coroutine for asyncio.run()");
    bool is_scalar = ep_py_numpy_is(value, "generic");

    if (!is_scalar && !ep_py_numpy_is(value, "ndarray"))
        return encode_text_of(e, value);
    if (!is_scalar) {
        PyObject *array = ep_py_array_of(e->codec, value);
        if (array == NULL)
            return -1;
        int rc = array == Py_None ? 0 : encode_array(e, array);
        bool is_list = array == Py_None;
        Py_DECREF(array);
        if (!is_list)
            return rc;
    }
    PyObject *plain = PyObject_CallMethod(value, is_scalar ? "item" : "tolist", NULL);
    if (plain == NULL)
        return -1;
    int rc = ep_py_numpy_is(plain, "generic") ? encode_item(e, plain) : encode(e, plain, depth);
    Py_DECREF(plain);
    return rc;
}

static int encode_subclass(struct encoder *e, PyObject *value, unsigned depth)
{
    PyTypeObject *type = Py_TYPE(value);

    if (type == e->codec->types.pid)
        return encode_handle(e, value, EP_HANDLE_PID);
    if (type == e->codec->types.ref)
        return encode_handle(e, value, EP_HANDLE_REF);
    if (type == e->codec->types.atom)
        return encode_atom(e, value);
    if (type == e->codec->types.array)
        return encode_array(e, value);
    if (PyObject_TypeCheck(value, e->codec->types.object))
        return ep_py_object_encode(e->codec, e->buf, value) < 0 ? -1 : check(e);
    if (PyUnicode_Check(value))
        return encode_str(e, value);
    if (PyLong_Check(value))
        return encode_int(e, value);
    if (PyFloat_Check(value))
        return encode_float(e, PyFloat_AS_DOUBLE(value));
    if (PyBytes_Check(value))
        return put_binary(e, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    if (PyList_Check(value))
        return encode_list(e, value, depth);
    if (PyTuple_Check(value))
        return encode_tuple(e, value, depth);
    if (PyDict_Check(value))
        return encode_dict(e, value, depth);
    if (PyByteArray_Check(value) || PyMemoryView_Check(value))
        return encode_buffer(e, value);
    if (PyAnySet_Check(value) || PyRange_Check(value))
        return encode_iterable(e, value, depth);
    return encode_other(e, value, depth);
}

static int encode(struct encoder *e, PyObject *value, unsigned depth)
{
    if (PyFloat_CheckExact(value))
        return encode_float(e, PyFloat_AS_DOUBLE(value));
    if (PyLong_CheckExact(value))
        return encode_int(e, value);
    if (PyUnicode_CheckExact(value))
        return encode_str(e, value);
    if (value == Py_None) {
        ep_py_none_put(e->buf);
        return check(e);
    }
    if (PyBool_Check(value)) {
        ep_etf_put_atom(e->buf, value == Py_True ? "true" : "false", value == Py_True ? 4 : 5);
        return check(e);
    }
    if (PyList_CheckExact(value))
        return encode_list(e, value, depth);
    if (PyTuple_CheckExact(value))
        return encode_tuple(e, value, depth);
    if (PyDict_CheckExact(value))
        return encode_dict(e, value, depth);
    if (PyBytes_CheckExact(value))
        return put_binary(e, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    return encode_subclass(e, value, depth);
}

int ep_py_encode(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *value)
{
    struct encoder e = {.codec = codec, .buf = buf};

    return encode(&e, value, 0);
}
