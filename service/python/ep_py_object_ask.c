/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_object_ask.h"

#include "ep_buf.h"
#include "ep_crashpoint.h"
#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_py_ahead.h"
#include "ep_py_await.h"
#include "ep_py_callback.h"
#include "ep_py_object.h"
#include "ep_py_store.h"

/* --- questions ------------------------------------------------------------------------------- */

struct question {
    struct ep_buf buf;
    uint8_t lent[192];
};

static uint64_t id_of(PyObject *handle)
{
    return ((struct ep_py_object *)handle)->entry->info.id;
}

/* False: an exception is set. */
static bool check_kind(PyObject *module, PyObject *handle, int kinds_mask)
{
    const struct ep_py_types *types = PyModule_GetState(module);

    if (PyObject_TypeCheck(handle, types->object)
        && (1 << ((struct ep_py_object *)handle)->entry->info.dtype & kinds_mask) != 0)
        return true;
    PyErr_Format(PyExc_TypeError, "%s is no handle for this", Py_TYPE(handle)->tp_name);
    return false;
}

/* Begins a question of so many arguments, the object included. False: an exception is set. */
static bool begin(struct question *question, PyObject *module, enum ep_question what,
                  PyObject *handle, uint32_t n_args, int kinds_mask)
{
    if (!check_kind(module, handle, kinds_mask))
        return false;
    ep_buf_init(&question->buf, question->lent, sizeof(question->lent), EP_MESSAGE_MAX);
    ep_etf_put_int(&question->buf, what);
    ep_etf_put_list(&question->buf, n_args);
    ep_etf_put_uint(&question->buf, id_of(handle));
    return true;
}

static PyObject *ask(struct question *question, PyObject *module)
{
    ep_etf_put_nil(&question->buf);
    EP_CRASHPOINT("object.before_question");
    PyObject *answer = ep_py_callback_ask_buf(module, &question->buf, false);
    EP_CRASHPOINT("object.answered");
    ep_buf_finish(&question->buf);
    return answer;
}

#define KIND(kind) (1 << (kind))
#define CHANNELS (KIND(EP_OBJECT_CHANNEL) | KIND(EP_OBJECT_BYTE_CHANNEL))

static bool check_count(Py_ssize_t n, Py_ssize_t least, Py_ssize_t most)
{
    if (n >= least && n <= most)
        return true;
    PyErr_Format(PyExc_TypeError, "%zd arguments", n);
    return false;
}

/* Milliseconds, also in fractions; negative or None: for ever. */
static bool get_ms(PyObject *value, int64_t *ret_ms)
{
    if (value == Py_None) {
        *ret_ms = -1;
        return true;
    }
    double ms = PyFloat_AsDouble(value);
    if (ms == -1.0 && PyErr_Occurred())
        return false;
    *ret_ms = ms < 0 ? -1 : ms > 1e12 ? INT64_C(1000000000000) : (int64_t)(ms + 0.999);
    return true;
}

static PyObject *take_one(PyObject *module, PyObject *handle, int64_t ms)
{
    struct question question;

    if (!begin(&question, module, EP_QUESTION_TAKE, handle, 2, CHANNELS))
        return NULL;
    ep_etf_put_int(&question.buf, ms);
    return ask(&question, module);
}

/* Asks for as many as there are, with a lease. */
static PyObject *take_several(PyObject *module, PyObject *handle, int64_t ms, uint32_t number,
                              uint64_t position)
{
    struct question question;
    PyObject *answer = NULL;

    if (begin(&question, module, EP_QUESTION_TAKE, handle, 4, CHANNELS)) {
        ep_etf_put_int(&question.buf, ms);
        ep_etf_put_uint(&question.buf, number);
        ep_etf_put_uint(&question.buf, position);
        answer = ask(&question, module);
    }
    ep_py_ahead_end(number);
    return answer;
}

/* For a thread that asks beside the rings. */
static PyObject *take_ahead(PyObject *module, PyObject *handle, int64_t ms)
{
    struct ep_buf item;
    uint8_t lent[EP_INLINE_MAX];
    PyObject *value = NULL;
    uint32_t number;
    uint64_t position;

    ep_buf_init(&item, lent, sizeof(lent), EP_MESSAGE_MAX);
    switch (ep_py_ahead_next(id_of(handle), &item, &number, &position)) {
    case EP_AHEAD_ITEM: value = ep_py_callback_decode_item(module, &item); break;
    case EP_AHEAD_ASK: value = take_several(module, handle, ms, number, position); break;
    case EP_AHEAD_NONE: value = take_one(module, handle, ms); break;
    }
    ep_buf_finish(&item);
    return value;
}

PyObject *ep_py_object_take(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    int64_t ms;

    if (!check_count(n, 2, 2) || !get_ms(args[1], &ms) || !check_kind(module, args[0], CHANNELS))
        return NULL;
    return ep_py_callback_is_beside() ? take_ahead(module, args[0], ms)
                                      : take_one(module, args[0], ms);
}

PyObject *ep_py_object_put(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    struct question question;
    Py_buffer view;

    if (!check_count(n, 2, 2) || PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *answer = NULL;
    if (begin(&question, module, EP_QUESTION_PUT, args[0], 2, KIND(EP_OBJECT_BYTE_CHANNEL))) {
        ep_etf_put_binary(&question.buf, view.buf, (size_t)view.len);
        answer = ask(&question, module);
    }
    PyBuffer_Release(&view);
    return answer;
}

PyObject *ep_py_object_close(PyObject *module, PyObject *handle)
{
    struct question question;

    return begin(&question, module, EP_QUESTION_CLOSE, handle, 1, CHANNELS | KIND(EP_OBJECT_BUFFER))
               ? ask(&question, module)
               : NULL;
}

static bool get_uint(PyObject *value, uint64_t *ret_value)
{
    *ret_value = PyLong_AsUnsignedLongLong(value);
    return PyErr_Occurred() == NULL;
}

PyObject *ep_py_object_read(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    struct question question;
    uint64_t position, wanted;
    int64_t ms;

    if (!check_count(n, 4, 4) || !get_uint(args[1], &position) || !get_uint(args[2], &wanted)
        || !get_ms(args[3], &ms)
        || !begin(&question, module, EP_QUESTION_READ, args[0], 4, KIND(EP_OBJECT_BUFFER)))
        return NULL;
    ep_etf_put_uint(&question.buf, position);
    ep_etf_put_uint(&question.buf, wanted);
    ep_etf_put_int(&question.buf, ms);
    return ask(&question, module);
}

PyObject *ep_py_object_size(PyObject *module, PyObject *handle)
{
    struct question question;

    return begin(&question, module, EP_QUESTION_SIZE, handle, 1, KIND(EP_OBJECT_BUFFER))
               ? ask(&question, module)
               : NULL;
}

/* object_dict(handle, op), (handle, op, key), (handle, op, key, value, pickle): a key is bytes, a
 * pickle bytes or None. */
PyObject *ep_py_object_dict(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    struct question question;
    uint64_t op;

    if (!check_count(n, 2, 5) || !get_uint(args[1], &op))
        return NULL;
    bool has_key = n > 2, has_value = n == 5, has_pickle = has_value && args[4] != Py_None;
    if ((has_key && !PyBytes_Check(args[2])) || (has_pickle && !PyBytes_Check(args[4]))) {
        PyErr_SetString(PyExc_TypeError, "keys and pickles are bytes");
        return NULL;
    }
    uint32_t count = 2 + (uint32_t)has_key + (uint32_t)has_value + (uint32_t)has_pickle;
    if (!begin(&question, module, EP_QUESTION_DICT, args[0], count, KIND(EP_OBJECT_DICT)))
        return NULL;
    ep_etf_put_uint(&question.buf, op);
    if (has_key)
        ep_etf_put_binary(&question.buf, PyBytes_AS_STRING(args[2]),
                          (size_t)PyBytes_GET_SIZE(args[2]));
    if (has_value && ep_py_callback_put_value(module, &question.buf, args[3], "value") < 0) {
        ep_buf_finish(&question.buf);
        return NULL;
    }
    if (has_pickle)
        ep_etf_put_binary(&question.buf, PyBytes_AS_STRING(args[4]),
                          (size_t)PyBytes_GET_SIZE(args[4]));
    return ask(&question, module);
}

/* --- questions of coroutines -------------------------------------------------------------------- */

static PyObject *ask_later(PyObject *module, PyObject *const *args, Py_ssize_t n,
                           enum ep_question what)
{
    struct question question;
    uint64_t number;

    if (!check_count(n, 3, 3) || !get_uint(args[2], &number)
        || !begin(&question, module, what, args[1], 2, CHANNELS | KIND(EP_OBJECT_BUFFER)))
        return NULL;
    ep_etf_put_uint(&question.buf, number);
    ep_etf_put_nil(&question.buf);
    PyObject *answer = ep_py_await_ask_buf(args[0], &question.buf);
    ep_buf_finish(&question.buf);
    return answer;
}

PyObject *ep_py_object_await(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return ask_later(module, args, n, EP_QUESTION_WAIT);
}

PyObject *ep_py_object_unwait(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return ask_later(module, args, n, EP_QUESTION_UNWAIT);
}
