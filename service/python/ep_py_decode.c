/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_decode.h"

#include "ep_etf.h"
#include "ep_py_array.h"
#include "ep_py_codec.h"
#include "ep_py_handle.h"
#include "ep_py_place.h"
#include "ep_python.h"

#include <errno.h>
#include <string.h>

/*
 * Erlang terms to Python objects. Recursive, to the depth of EP_ETF_DEPTH_MAX;
 * a lane's stack holds many times that. Everything is copied.
 */

struct decoder {
    struct ep_py_codec *codec;
    struct ep_etf_cursor *cursor;
    int error; /* 0, or -EPROTO */
};

static PyObject *decode(struct decoder *d, unsigned depth);

/* --- scalars ---------------------------------------------------------------------- */

/* By blocks, so that bytes that are no text are found out early, and the words of a block
 * do not wait for each other. */
static bool is_ascii(const uint8_t *data, size_t size)
{
    const uint64_t tops = 0x8080808080808080u;
    uint64_t high = 0, word[8];
    size_t i = 0;

    for (; size - i >= sizeof(word); i += sizeof(word)) {
        memcpy(word, data + i, sizeof(word));
        high =
            (word[0] | word[1]) | (word[2] | word[3]) | (word[4] | word[5]) | (word[6] | word[7]);
        if ((high & tops) != 0)
            return false;
    }
    for (; size - i >= sizeof(high); i += sizeof(high)) {
        memcpy(word, data + i, sizeof(high));
        high |= word[0];
    }
    for (; i < size; i++)
        high |= data[i];
    return (high & tops) == 0;
}

/* Judges before decoding, because a failed decoding makes an exception that
 * holds a copy of the bytes. */
static bool is_utf8(const uint8_t *at, size_t size)
{
    const uint8_t *end = at + size;

    while (at < end) {
        uint8_t lead = *at;
        if (lead < 0x80) {
            at++;
            continue;
        }
        size_t more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
        if (lead < 0xC2 || lead > 0xF4 || (size_t)(end - at) <= more)
            return false;
        uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (at[1] < low || at[1] > high)
            return false;
        for (size_t i = 2; i <= more; i++) {
            if ((at[i] & 0xC0) != 0x80)
                return false;
        }
        at += more + 1;
    }
    return true;
}

static PyObject *new_ascii(const uint8_t *data, size_t size)
{
    PyObject *string = PyUnicode_New((Py_ssize_t)size, 127);

    if (string != NULL && size > 0)
        memcpy(PyUnicode_1BYTE_DATA(string), data, size);
    return string;
}

PyObject *ep_py_decode_text(const uint8_t *data, size_t size)
{
    /* One-character and empty strings are shared objects: leave those to Python. */
    if (size > 1 && is_ascii(data, size))
        return new_ascii(data, size);
    return PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, NULL);
}

PyObject *ep_py_decode_name(const struct ep_etf_token *token)
{
    PyObject *string = ep_py_decode_text(token->data, token->count);

    if (string != NULL)
        PyUnicode_InternInPlace(&string);
    return string;
}

static PyObject *decode_binary(const struct ep_etf_token *token)
{
    if (token->count > 1 && is_ascii(token->data, token->count))
        return new_ascii(token->data, token->count);
    if (is_utf8(token->data, token->count))
        return PyUnicode_DecodeUTF8((const char *)token->data, token->count, NULL);
    return PyBytes_FromStringAndSize((const char *)token->data, token->count);
}

static bool is_atom(const struct ep_etf_token *token, const char *name)
{
    return token->type == EP_ETF_ATOM && token->count == strlen(name)
           && memcmp(token->data, name, token->count) == 0;
}

static PyObject *decode_atom(const struct ep_etf_token *token)
{
    if (is_atom(token, "true"))
        Py_RETURN_TRUE;
    if (is_atom(token, "false"))
        Py_RETURN_FALSE;
    if (is_atom(token, "undefined") || is_atom(token, "none") || is_atom(token, "nil"))
        Py_RETURN_NONE;
    return ep_py_decode_text(token->data, token->count);
}

static PyObject *decode_big(const struct ep_etf_token *token)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *magnitude =
        PyLong_FromUnsignedNativeBytes(token->data, token->count, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    PyObject *magnitude = _PyLong_FromByteArray(token->data, token->count, 1, 0);
#endif
    if (magnitude == NULL || !token->negative)
        return magnitude;
    PyObject *value = PyNumber_Negative(magnitude);
    Py_DECREF(magnitude);
    return value;
}

static PyObject *decode_handle(struct decoder *d, const struct ep_etf_token *token)
{
    if (token->kind == EP_HANDLE_PID)
        return ep_py_handle_new(d->codec->types.pid, token);
    if (token->kind == EP_HANDLE_REF)
        return ep_py_handle_new(d->codec->types.ref, token);
    if (token->kind == EP_HANDLE_ARRAY) {
        PyObject *array = ep_py_array_decode(d->codec, token);
        if (array != NULL || PyErr_Occurred())
            return array;
    }
    d->error = -EPROTO;
    return NULL;
}

/* --- containers -------------------------------------------------------------------- */

static bool is_too_deep(struct decoder *d, unsigned depth)
{
    if (depth < EP_ETF_DEPTH_MAX)
        return false;
    PyErr_Format(PyExc_RecursionError, "more than %u levels", EP_ETF_DEPTH_MAX);
    d->codec->place.is_closed = true;
    return true;
}

static PyObject *decode_string(const struct ep_etf_token *token)
{
    PyObject *list = PyList_New(token->count);

    for (uint32_t i = 0; list != NULL && i < token->count; i++)
        PyList_SET_ITEM(list, i, PyLong_FromLong(token->data[i])); /* cannot fail: cached */
    return list;
}

/* As decode(), for lists, where numbers are many. */
static inline PyObject *decode_element(struct decoder *d, unsigned depth)
{
    int64_t integer = 0;
    double real = 0.0;

    switch (ep_etf_next_number(d->cursor, &integer, &real)) {
    case 1: return PyLong_FromLong((long)integer);
    case 2: return PyFloat_FromDouble(real);
    default: return decode(d, depth);
    }
}

static PyObject *decode_list(struct decoder *d, uint32_t count, unsigned depth)
{
    PyObject *list = PyList_New(count);

    if (list == NULL || (count > 0 && is_too_deep(d, depth)))
        goto fail;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *item = decode_element(d, depth + 1);
        if (item == NULL) {
            ep_py_place_index(&d->codec->place, i);
            goto fail;
        }
        PyList_SET_ITEM(list, i, item);
    }
    if (count > 0 && ep_etf_list_end(d->cursor) < 0) {
        d->error = -EPROTO;
        goto fail;
    }
    return list;

fail:
    Py_XDECREF(list);
    return NULL;
}

/* {bytes, Binary} is bytes; returns NULL without an error if it is not that. */
static PyObject *decode_bytes_pair(struct decoder *d)
{
    struct ep_etf_cursor ahead = *d->cursor;
    struct ep_etf_token tag, data;

    if (ep_etf_next(&ahead, &tag) < 0 || !is_atom(&tag, "bytes") || ep_etf_next(&ahead, &data) < 0
        || data.type != EP_ETF_BINARY)
        return NULL;
    *d->cursor = ahead;
    return PyBytes_FromStringAndSize((const char *)data.data, data.count);
}

static PyObject *decode_tuple(struct decoder *d, uint32_t count, unsigned depth)
{
    if (count == 2) {
        PyObject *bytes = decode_bytes_pair(d);
        if (bytes != NULL || PyErr_Occurred())
            return bytes;
    }
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL || (count > 0 && is_too_deep(d, depth)))
        goto fail;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *item = decode(d, depth + 1);
        if (item == NULL) {
            ep_py_place_index(&d->codec->place, i);
            goto fail;
        }
        PyTuple_SET_ITEM(tuple, i, item);
    }
    return tuple;

fail:
    Py_XDECREF(tuple);
    return NULL;
}

/* Decodes and adds one pair. */
static int decode_pair(struct decoder *d, PyObject *dict, unsigned depth)
{
    int rc = -1;

    PyObject *key = decode(d, depth + 1);
    if (key == NULL)
        return -1;
    PyObject *value = decode(d, depth + 1);
    if (value == NULL) {
        ep_py_place_key(&d->codec->place, key);
        goto release_key;
    }
    Py_ssize_t before = PyDict_GET_SIZE(dict);
    rc = PyDict_SetItem(dict, key, value);
    if (rc == 0 && PyDict_GET_SIZE(dict) == before) {
        PyErr_Format(PyExc_ValueError, "two keys of the map become the same key: %R", key);
        rc = -1;
    }
    Py_DECREF(value);
release_key:
    Py_DECREF(key);
    return rc;
}

static PyObject *decode_map(struct decoder *d, uint32_t count, unsigned depth)
{
    PyObject *dict = PyDict_New();

    if (dict == NULL || (count > 0 && is_too_deep(d, depth)))
        goto fail;
    for (uint32_t i = 0; i < count; i++) {
        if (decode_pair(d, dict, depth) < 0)
            goto fail;
    }
    return dict;

fail:
    Py_XDECREF(dict);
    return NULL;
}

static PyObject *decode(struct decoder *d, unsigned depth)
{
    struct ep_etf_token token;

    if (ep_etf_next(d->cursor, &token) < 0) {
        d->error = -EPROTO;
        return NULL;
    }
    switch (token.type) {
    case EP_ETF_INT: return PyLong_FromLongLong(token.integer);
    case EP_ETF_BIG: return decode_big(&token);
    case EP_ETF_FLOAT: return PyFloat_FromDouble(token.real);
    case EP_ETF_ATOM: return decode_atom(&token);
    case EP_ETF_BINARY: return decode_binary(&token);
    case EP_ETF_LIST: return decode_list(d, token.count, depth);
    case EP_ETF_NIL: return PyList_New(0);
    case EP_ETF_STRING: return decode_string(&token);
    case EP_ETF_TUPLE: return decode_tuple(d, token.count, depth);
    case EP_ETF_MAP: return decode_map(d, token.count, depth);
    case EP_ETF_HANDLE: return decode_handle(d, &token);
    }
    d->error = -EPROTO;
    return NULL;
}

int ep_py_decode(struct ep_py_codec *codec, struct ep_etf_cursor *cursor, PyObject **ret_value)
{
    struct decoder d = {.codec = codec, .cursor = cursor};

    *ret_value = decode(&d, 0);
    if (d.error != 0)
        PyErr_Clear();
    return d.error;
}
