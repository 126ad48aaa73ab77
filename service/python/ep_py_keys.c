/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_keys.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_hash.h"
#include "ep_python.h"

#include <math.h>
#include <string.h>

/*
 * Keys that differ in Python can be the same in Erlang: 'a' and b'a', two NaNs,
 * Path('a') and 'a'. Where the types of the keys do not rule that out, the
 * encoded keys are compared by a hash table over their bytes.
 */
enum key_class { KEY_STR = 1, KEY_NUMBER = 2, KEY_BYTES = 4, KEY_OTHER = 8 };

static unsigned class_of_key(PyObject *key)
{
    if (PyUnicode_CheckExact(key))
        return KEY_STR;
    if (PyLong_CheckExact(key) || PyBool_Check(key) || key == Py_None)
        return KEY_NUMBER;
    if (PyFloat_CheckExact(key))
        return isnan(PyFloat_AS_DOUBLE(key)) ? KEY_OTHER : KEY_NUMBER;
    return PyBytes_CheckExact(key) ? KEY_BYTES : KEY_OTHER;
}

bool ep_py_keys_may_collide(PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    unsigned seen = 0;

    while (PyDict_Next(dict, &at, &key, &value))
        seen |= class_of_key(key);
    return (seen & KEY_OTHER) != 0 || (seen & (KEY_STR | KEY_BYTES)) == (KEY_STR | KEY_BYTES);
}

/* Whether other bytes can be the same key to the VM: the pairs of a map have no order, and for
 * OTP 25 and 26 zero has no sign. */
static bool is_doubtful(const uint8_t *key, size_t size)
{
    struct ep_etf_cursor cursor;
    struct ep_etf_token token;

    ep_etf_cursor_init(&cursor, key, size);
    while (cursor.at != cursor.end) {
        if (ep_etf_next(&cursor, &token) < 0 || token.type == EP_ETF_MAP
            || (token.type == EP_ETF_FLOAT && token.real == 0.0))
            return true;
    }
    return false;
}

int ep_py_keys_check(const struct ep_buf *buf, struct ep_py_key_span *spans, size_t count,
                     bool *ret_doubtful)
{
    size_t capacity = 16;
    int rc = 0;

    while (capacity < count * 2)
        capacity *= 2;
    uint32_t *table = PyMem_RawCalloc(capacity, sizeof(*table));
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        const uint8_t *bytes = buf->data + spans[i].start;
        spans[i].hash = ep_hash_bytes(bytes, spans[i].size);
        if (is_doubtful(bytes, spans[i].size))
            *ret_doubtful = true;
        size_t slot = spans[i].hash & (capacity - 1);
        for (; table[slot] != 0 && rc == 0; slot = (slot + 1) & (capacity - 1)) {
            const struct ep_py_key_span *other = &spans[table[slot] - 1];
            if (other->hash == spans[i].hash && other->size == spans[i].size
                && memcmp(buf->data + other->start, bytes, other->size) == 0)
                rc = -1;
        }
        table[slot] = (uint32_t)i + 1;
    }
    PyMem_RawFree(table);
    if (rc < 0)
        PyErr_SetString(PyExc_ValueError, "two keys of the dict become the same key");
    return rc;
}
