/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_internal.h"

#include <errno.h>
#include <stdatomic.h>

/*
 * What Python code asks of Erlang: callbacks and shared state. The question is
 * encoded here; a channel takes it to the VM and brings the answer.
 */

static _Thread_local struct ep_py_channel *own_channel;
static struct ep_py_channel *shared_channel;
static const ep_atomic_u64 *names_epoch;

void ep_py_channel_set(struct ep_py_channel *channel)
{
    own_channel = channel;
}

void ep_py_channel_set_shared(struct ep_py_channel *channel, const ep_atomic_u64 *epoch)
{
    shared_channel = channel;
    names_epoch = epoch;
}

/* --- answers --------------------------------------------------------------------- */

static PyObject *broken(void)
{
    PyErr_SetString(PyExc_SystemError, "an answer from Erlang is not in the wire format");
    return NULL;
}

/* Puts the exception's place in front of its message: "args[0]: ...". */
static void say_place(const struct ep_py_place *place, const char *root)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)
        || PyErr_ExceptionMatches(PyExc_UnicodeError))
        return;
    PyObject *exc = ep_py_error_take();
    size_t size = place->is_closed ? 0 : sizeof(place->text) - place->start;
    PyObject *path =
        PyUnicode_DecodeUTF8(place->text + sizeof(place->text) - size, (Py_ssize_t)size, "replace");
    PyObject *text = exc == NULL || path == NULL ? NULL : PyObject_Str(exc);
    if (text != NULL)
        (void)PyErr_Format((PyObject *)Py_TYPE(exc), "%s%U: %U", root, path, text);
    if (text == NULL) {
        PyErr_Clear();
        ep_py_error_restore(Py_XNewRef(exc));
    }
    Py_XDECREF(text);
    Py_XDECREF(path);
    Py_XDECREF(exc);
}

static PyObject *decode_term(struct ep_py_codec *codec, struct ep_etf_cursor *cursor)
{
    PyObject *value;

    ep_py_place_clear(&codec->place);
    if (ep_py_decode(codec, cursor, &value) < 0)
        return broken();
    if (value == NULL)
        say_place(&codec->place, "result");
    return value;
}

/* class, reason, text, stack trace: raises erlang.CallbackError. */
static PyObject *raise_callback_error(struct ep_py_codec *codec, struct ep_etf_cursor *cursor)
{
    PyObject *parts[4] = {NULL}, *module = NULL, *none = NULL;
    bool ok = true;

    for (size_t i = 0; i < 4 && ok; i++) {
        parts[i] = decode_term(codec, cursor);
        ok = parts[i] != NULL;
    }
    if (ok)
        module = PyImport_ImportModule("erlang._errors");
    if (module != NULL)
        none = PyObject_CallMethod(module, "raise_callback_error", "OOOO", parts[0], parts[1],
                                   parts[2], parts[3]);
    for (size_t i = 0; i < 4; i++)
        Py_XDECREF(parts[i]);
    Py_XDECREF(module);
    Py_XDECREF(none);
    return NULL;
}

/* Name of a built-in exception, message. */
static PyObject *raise_builtin(struct ep_etf_cursor *cursor)
{
    struct ep_etf_token name, message;
    char text[64];

    if (ep_etf_next(cursor, &name) < 0 || name.type != EP_ETF_BINARY || name.count >= sizeof(text)
        || ep_etf_next(cursor, &message) < 0 || message.type != EP_ETF_BINARY)
        return broken();
    memcpy(text, name.data, name.count);
    text[name.count] = '\0';
    PyObject *builtins = PyImport_ImportModule("builtins");
    PyObject *type = builtins == NULL ? NULL : PyObject_GetAttrString(builtins, text);
    PyErr_Clear();
    PyObject *string =
        PyUnicode_DecodeUTF8((const char *)message.data, (Py_ssize_t)message.count, "replace");
    if (string != NULL) {
        bool is_type = type != NULL && PyExceptionClass_Check(type);
        PyErr_SetObject(is_type ? type : PyExc_RuntimeError, string);
    }
    Py_XDECREF(string);
    Py_XDECREF(type);
    Py_XDECREF(builtins);
    return NULL;
}

static PyObject *decode_answer(struct ep_py_codec *codec, const struct ep_py_answer *answer)
{
    struct ep_etf_cursor cursor;

    ep_etf_cursor_init(&cursor, answer->payload, answer->length);
    switch (answer->aux) {
    case EP_ANSWER_VALUE: return decode_term(codec, &cursor);
    case EP_ANSWER_FAILED: return raise_callback_error(codec, &cursor);
    default: return raise_builtin(&cursor);
    }
}

/* --- questions ------------------------------------------------------------------- */

static PyObject *refuse(int rc)
{
    if (rc == -EINTR || rc == -ECANCELED)
        PyErr_SetNone(PyExc_KeyboardInterrupt);
    else
        PyErr_NoMemory();
    return NULL;
}

static PyObject *ask(struct ep_py_codec *codec, struct ep_py_channel *channel,
                     const struct ep_buf *question)
{
    struct ep_py_answer answer;

    int rc = channel->ask(channel, question, &answer);
    if (rc < 0)
        return refuse(rc);
    PyObject *value = decode_answer(codec, &answer);
    channel->release(channel, &answer);
    return value;
}

PyObject *ep_py_ask(PyObject *module, enum ep_py_question question, PyObject *name,
                    PyObject *const *args, Py_ssize_t n_args)
{
    struct ep_py_channel *channel =
        own_channel != NULL && own_channel->is_open(own_channel) ? own_channel : shared_channel;
    struct ep_py_codec codec;
    struct ep_buf buf;
    uint8_t lent[512];
    PyObject *value = NULL;

    if (ep_py_is_forked() || channel == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a forked process has no way to Erlang");
        return NULL;
    }
    codec.types = *(const struct ep_py_types *)PyModule_GetState(module);
    ep_py_place_clear(&codec.place);
    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    ep_etf_put_int(&buf, question);
    if (name != NULL && ep_py_encode(&codec, &buf, name) < 0)
        goto finish_buf;
    if (n_args > 0)
        ep_etf_put_list(&buf, (uint32_t)n_args);
    for (Py_ssize_t i = 0; i < n_args; i++) {
        if (ep_py_encode(&codec, &buf, args[i]) < 0) {
            ep_py_place_index(&codec.place, (size_t)i);
            say_place(&codec.place, "args");
            goto finish_buf;
        }
    }
    ep_etf_put_nil(&buf);
    if (buf.error != 0)
        PyErr_NoMemory();
    else
        value = ask(&codec, channel, &buf);

finish_buf:
    ep_buf_finish(&buf);
    return value;
}

/* --- functions of _erlang ---------------------------------------------------------- */

static PyObject *call(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *kwnames)
{
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
        PyErr_SetString(PyExc_TypeError, "Erlang functions take no keyword arguments");
        return NULL;
    }
    if (n_args < 1 || !PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError,
                        "call() needs the name of a registered Erlang function, a str, first");
        return NULL;
    }
    return ep_py_ask(module, EP_PY_CALL, args[0], args + 1, n_args - 1);
}

static PyObject *is_registered(PyObject *module, PyObject *name)
{
    return ep_py_ask(module, EP_PY_IS_REGISTERED, NULL, &name, 1);
}

static PyObject *epoch(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    /* Shared memory is not mapped in a forked child. Acquire: names that are asked for
     * after it are at least as new. */
    return PyLong_FromUnsignedLongLong(
        names_epoch == NULL || ep_py_is_forked()
            ? 0
            : atomic_load_explicit(names_epoch, memory_order_acquire));
}

static bool check_count(const char *name, Py_ssize_t n, Py_ssize_t least, Py_ssize_t most)
{
    if (n >= least && n <= most)
        return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd arguments, not %zd", name, least, most, n);
    return false;
}

static PyObject *state_get(PyObject *module, PyObject *key)
{
    return ep_py_ask(module, EP_PY_STATE_GET, NULL, &key, 1);
}

static PyObject *state_set(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return check_count("state_set", n, 2, 2) ? ep_py_ask(module, EP_PY_STATE_SET, NULL, args, n)
                                             : NULL;
}

static PyObject *state_incr(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return check_count("state_incr", n, 1, 2) ? ep_py_ask(module, EP_PY_STATE_INCR, NULL, args, n)
                                              : NULL;
}

static PyObject *state_decr(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return check_count("state_decr", n, 1, 2) ? ep_py_ask(module, EP_PY_STATE_DECR, NULL, args, n)
                                              : NULL;
}

static PyObject *state_delete(PyObject *module, PyObject *key)
{
    return ep_py_ask(module, EP_PY_STATE_DELETE, NULL, &key, 1);
}

static PyObject *state_keys(PyObject *module, PyObject *unused)
{
    (void)unused;
    return ep_py_ask(module, EP_PY_STATE_KEYS, NULL, NULL, 0);
}

static PyObject *state_clear(PyObject *module, PyObject *unused)
{
    (void)unused;
    return ep_py_ask(module, EP_PY_STATE_CLEAR, NULL, NULL, 0);
}

#define FASTCALL(f) ((PyCFunction)(void (*)(void))(f))

PyMethodDef ep_py_callback_methods[] = {
    {"call", FASTCALL(call), METH_FASTCALL | METH_KEYWORDS,
     "call(name, *args)\n--\n\nCall the Erlang function registered under that name."},
    {"is_registered", is_registered, METH_O, NULL},
    {"names_epoch", epoch, METH_NOARGS, NULL},
    {"state_get", state_get, METH_O,
     "state_get(key)\n--\n\nThe value of a key of the shared state, or None."},
    {"state_set", FASTCALL(state_set), METH_FASTCALL,
     "state_set(key, value)\n--\n\nSet a key; ('error', 'full') if the table takes no new one."},
    {"state_incr", FASTCALL(state_incr), METH_FASTCALL,
     "state_incr(key, n=1)\n--\n\nAdd to an integer, atomically, and return the sum."},
    {"state_decr", FASTCALL(state_decr), METH_FASTCALL,
     "state_decr(key, n=1)\n--\n\nSubtract from an integer, atomically, and return the rest."},
    {"state_delete", state_delete, METH_O, "state_delete(key)\n--\n\nRemove a key."},
    {"state_keys", state_keys, METH_NOARGS, "state_keys()\n--\n\nAll keys, in any order."},
    {"state_clear", state_clear, METH_NOARGS, "state_clear()\n--\n\nRemove all keys."},
    {NULL, NULL, 0, NULL},
};
