/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_callback.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_py_ahead.h"
#include "ep_py_channel.h"
#include "ep_py_codec.h"
#include "ep_py_decode.h"
#include "ep_py_encode.h"
#include "ep_py_exception.h"
#include "ep_py_fork.h"
#include "ep_py_handle.h"
#include "ep_py_place.h"
#include "ep_py_status.h"
#include "ep_python.h"

#include <errno.h>
#include <string.h>

/*
 * What Python code asks of Erlang: callbacks and shared state. The question is
 * encoded here; a channel takes it to the VM and brings the outcome.
 */

/* --- outcomes --------------------------------------------------------------------- */

static PyObject *broken(void)
{
    PyErr_SetString(PyExc_SystemError, "an answer from Erlang is not in the wire format");
    return NULL;
}

/* Makes the exception anew, its place in front of its text. */
static void prefix_text(PyObject *exc, PyObject *place)
{
    PyObject *text = PyObject_Str(exc);

    if (text != NULL)
        (void)PyErr_Format((PyObject *)Py_TYPE(exc), "%U: %U", place, text);
    Py_XDECREF(text);
}

/* One of the classes that are made of five arguments: its reason gets the place. */
static void prefix_reason(PyObject *exc, PyObject *place)
{
    PyObject *reason = PyObject_GetAttrString(exc, "reason");
    PyObject *text = reason == NULL ? NULL : PyUnicode_FromFormat("%U: %S", place, reason);

    if (text != NULL && PyObject_SetAttrString(exc, "reason", text) == 0)
        ep_py_exception_restore(Py_NewRef(exc));
    Py_XDECREF(text);
    Py_XDECREF(reason);
}

/* Puts the exception's place in front of its message: "args[0]: ...". */
static void say_place(const struct ep_py_place *place, const char *root)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return;
    bool has_reason = PyErr_ExceptionMatches(PyExc_UnicodeError);
    PyObject *exc = ep_py_exception_take();
    if (exc == NULL)
        return;
    PyObject *path = ep_py_place_path(place);
    PyObject *whole = path == NULL ? NULL : PyUnicode_FromFormat("%s%U", root, path);
    if (whole != NULL)
        (has_reason ? prefix_reason : prefix_text)(exc, whole);
    if (PyErr_Occurred() == NULL || !PyErr_ExceptionMatches((PyObject *)Py_TYPE(exc))) {
        PyErr_Clear();
        ep_py_exception_restore(Py_NewRef(exc));
    }
    Py_XDECREF(whole);
    Py_XDECREF(path);
    Py_DECREF(exc);
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

/* One term, which is all that the buffer has. */
static PyObject *decode_buf(struct ep_py_codec *codec, const struct ep_buf *buf)
{
    struct ep_etf_cursor cursor;

    if (buf->error != 0)
        return PyErr_NoMemory();
    ep_etf_cursor_init(&cursor, buf->data, buf->length);
    return decode_term(codec, &cursor);
}

/* The first of several items. Where the VM has taken it back meanwhile, there may be another. */
static PyObject *decode_items(struct ep_py_codec *codec, const struct ep_py_outcome *outcome)
{
    PyObject *value = NULL;
    uint8_t lent[EP_INLINE_MAX], again = EP_STATUS_AGAIN;
    struct ep_buf item;

    ep_buf_init(&item, lent, sizeof(lent), EP_MESSAGE_MAX);
    if (!ep_py_ahead_receive(outcome->payload, outcome->length, &item))
        value = broken();
    else
        value =
            item.length == 0 ? ep_py_status(&codec->types, &again, 1) : decode_buf(codec, &item);
    ep_buf_finish(&item);
    return value;
}

static PyObject *decode_outcome(struct ep_py_codec *codec, const struct ep_py_outcome *outcome)
{
    struct ep_etf_cursor cursor;

    ep_etf_cursor_init(&cursor, outcome->payload, outcome->length);
    switch (outcome->aux) {
    case EP_ANSWER_VALUE: return decode_term(codec, &cursor);
    case EP_ANSWER_FAILED: return raise_callback_error(codec, &cursor);
    case EP_ANSWER_STATUS: return ep_py_status(&codec->types, outcome->payload, outcome->length);
    case EP_ANSWER_ITEMS: return decode_items(codec, outcome);
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

/* Says which of the arrays that an outcome has brought are still in use. */
static void claim(struct ep_py_channel *channel, const struct ep_py_outcome *outcome,
                  const struct ep_py_cargo *brought)
{
    struct ep_buf list;
    uint8_t lent[256];

    ep_buf_init(&list, lent, sizeof(lent), EP_MESSAGE_MAX);
    if (!ep_py_store_describe(NULL, brought, &list))
        ep_array_put_tail(&list, list.length, 0, false);
    if (list.error != 0)
        Py_FatalError("no memory for the arrays of an answer");
    channel->claim(channel, outcome, &list);
    ep_buf_finish(&list);
}

/* The value of an outcome that has brought arrays. */
static PyObject *take_arrays(struct ep_py_codec *codec, struct ep_py_channel *channel,
                             struct ep_py_outcome *outcome)
{
    struct ep_py_cargo brought = {.n = 0};
    bool shares;

    if (ep_py_store_arrive(outcome->payload, outcome->length, &brought, &outcome->length, &shares)
        < 0)
        Py_FatalError("the arrays of an answer make no sense, or there is no memory");
    codec->brought = &brought;
    PyObject *value = decode_outcome(codec, outcome);
    codec->brought = NULL;
    PyObject *exc = ep_py_exception_take();
    claim(channel, outcome, &brought);
    ep_py_cargo_finish(&brought);
    if (exc != NULL)
        ep_py_exception_restore(exc);
    return value;
}

static PyObject *ask(struct ep_py_codec *codec, struct ep_py_channel *channel,
                     const struct ep_buf *question, bool has_arrays)
{
    struct ep_py_outcome outcome;

    int rc = channel->ask(channel, question, has_arrays, &outcome);
    if (rc < 0)
        return refuse(rc);
    PyObject *value = outcome.has_arrays ? take_arrays(codec, channel, &outcome)
                                         : decode_outcome(codec, &outcome);
    channel->release(channel, &outcome);
    return value;
}

int ep_py_callback_put(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *value,
                       const char *root)
{
    if (ep_py_encode(codec, buf, value) == 0)
        return 0;
    say_place(&codec->place, root);
    return -1;
}

/* The way to Erlang from here; NULL, with an exception. */
static struct ep_py_channel *find_channel(void)
{
    struct ep_py_channel *channel = ep_py_channel_here();

    if (channel != NULL && !ep_py_fork_is_child())
        return channel;
    PyErr_SetString(PyExc_RuntimeError, "a forked process has no way to Erlang");
    return NULL;
}

static void init_codec(struct ep_py_codec *codec, PyObject *module)
{
    codec->types = *(const struct ep_py_types *)PyModule_GetState(module);
    codec->named = NULL;
    codec->brought = NULL;
    codec->shares = false;
    ep_py_place_clear(&codec->place);
}

PyObject *ep_py_callback_ask_buf(PyObject *module, const struct ep_buf *question, bool has_arrays)
{
    struct ep_py_channel *channel = find_channel();
    struct ep_py_codec codec;

    if (channel == NULL)
        return NULL;
    if (question->error != 0)
        return PyErr_NoMemory();
    init_codec(&codec, module);
    return ask(&codec, channel, question, has_arrays);
}

PyObject *ep_py_callback_decode_item(PyObject *module, const struct ep_buf *item)
{
    struct ep_py_codec codec;

    init_codec(&codec, module);
    return decode_buf(&codec, item);
}

bool ep_py_callback_is_beside(void)
{
    return ep_py_channel_here() == ep_py_channel_shared() && !ep_py_fork_is_child();
}

PyObject *ep_py_callback_decode(PyObject *module, struct ep_py_outcome *outcome)
{
    struct ep_py_codec codec;

    init_codec(&codec, module);
    /* An event loop's answers come to the thread, also where a lane runs it. */
    return outcome->has_arrays ? take_arrays(&codec, ep_py_channel_shared(), outcome)
                               : decode_outcome(&codec, outcome);
}

static int put_question(struct ep_py_codec *codec, struct ep_buf *buf, enum ep_question question,
                        PyObject *name, PyObject *const *args, Py_ssize_t n_args)
{
    ep_etf_put_int(buf, question);
    if (name != NULL && ep_py_encode(codec, buf, name) < 0)
        return -1;
    if (n_args > 0)
        ep_etf_put_list(buf, (uint32_t)n_args);
    for (Py_ssize_t i = 0; i < n_args; i++) {
        if (ep_py_encode(codec, buf, args[i]) < 0) {
            ep_py_place_index(&codec->place, (size_t)i);
            say_place(&codec->place, "args");
            return -1;
        }
    }
    ep_etf_put_nil(buf);
    if (buf->error != 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int ep_py_callback_put_value(PyObject *module, struct ep_buf *buf, PyObject *value,
                             const char *root)
{
    struct ep_py_codec codec;

    init_codec(&codec, module);
    return ep_py_callback_put(&codec, buf, value, root);
}

int ep_py_callback_put_question(PyObject *module, struct ep_buf *buf, enum ep_question question,
                                PyObject *name, PyObject *const *args, Py_ssize_t n_args,
                                struct ep_py_cargo *named)
{
    struct ep_py_codec codec;

    init_codec(&codec, module);
    codec.named = named;
    return put_question(&codec, buf, question, name, args, n_args);
}

PyObject *ep_py_callback_ask(PyObject *module, enum ep_question question, PyObject *name,
                             PyObject *const *args, Py_ssize_t n_args)
{
    struct ep_py_channel *channel = find_channel();
    struct ep_py_codec codec;
    struct ep_py_cargo named = {.n = 0};
    struct ep_buf buf;
    uint8_t lent[512];
    PyObject *value = NULL;

    if (channel == NULL)
        return NULL;
    init_codec(&codec, module);
    codec.named = &named;
    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    if (put_question(&codec, &buf, question, name, args, n_args) == 0) {
        codec.named = NULL;
        bool has_arrays = named.n > 0 && ep_py_store_describe(&named, NULL, &buf);
        if (buf.error != 0)
            PyErr_NoMemory();
        else
            value = ask(&codec, channel, &buf, has_arrays);
    }
    ep_py_cargo_finish(&named);
    ep_buf_finish(&buf);
    return value;
}
