/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_error.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_py_exception.h"
#include "ep_py_place.h"
#include "ep_python.h"

/*
 * Python exceptions as error records. str(exc) and the traceback run code of the
 * user, which may fail, or be interrupted, in turn.
 */

#define MESSAGE_MAX 4096     /* characters */
#define TRACEBACK_MAX 16384u /* bytes */

/* Whether the exception that is set is an interrupt; clears it in any case. */
static bool clear_error(void)
{
    bool is_interrupt = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) != 0;

    PyErr_Clear();
    return is_interrupt;
}

/* Like UTF-8 encoding, but cannot fail because of what the text contains. */
static PyObject *to_utf8(PyObject *text)
{
    return PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
}

/* Returns bytes, or NULL after clearing the error. */
static PyObject *message_of(PyObject *exc, const char *root, const struct ep_py_place *place,
                            bool *ret_interrupted)
{
    PyObject *text = NULL, *whole = NULL, *cut = NULL, *bytes = NULL;

    text = PyObject_Str(exc);
    if (text == NULL) {
        *ret_interrupted |= clear_error();
        text = PyUnicode_FromString("unknown");
    }
    if (text == NULL)
        goto done;
    if (root == NULL) {
        whole = Py_NewRef(text);
    } else {
        PyObject *path = ep_py_place_path(place);
        if (path != NULL)
            whole = PyUnicode_FromFormat("%s%U: %U", root, path, text);
        Py_XDECREF(path);
    }
    if (whole != NULL)
        cut = PyUnicode_Substring(whole, 0, MESSAGE_MAX);
    if (cut != NULL)
        bytes = to_utf8(cut);

done:
    if (PyErr_Occurred())
        *ret_interrupted |= clear_error();
    Py_XDECREF(cut);
    Py_XDECREF(whole);
    Py_XDECREF(text);
    return bytes;
}

static PyObject *format_exception(PyObject *exc)
{
    PyObject *module = PyImport_ImportModule("traceback");
    PyObject *lines = NULL, *empty = NULL, *text = NULL, *bytes = NULL;

    if (module != NULL)
        lines = PyObject_CallMethod(module, "format_exception", "O", exc);
    if (lines != NULL)
        empty = PyUnicode_FromString("");
    if (empty != NULL)
        text = PyUnicode_Join(empty, lines);
    if (text != NULL)
        bytes = to_utf8(text);
    Py_XDECREF(text);
    Py_XDECREF(empty);
    Py_XDECREF(lines);
    Py_XDECREF(module);
    return bytes;
}

static bool is_continuation(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* Appends the text, or its two ends. The beginning says where, the end says what. */
static void put_traceback(struct ep_buf *buf, PyObject *bytes)
{
    static const char gap[] = "\n  ...\n";
    const char *text = PyBytes_AS_STRING(bytes);
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);

    if (size <= TRACEBACK_MAX) {
        ep_etf_put_binary(buf, text, size);
        return;
    }
    size_t half = (TRACEBACK_MAX - sizeof(gap)) / 2;
    size_t head = half, tail = size - half;
    while (head > 0 && is_continuation(text[head]))
        head--;
    while (tail < size && is_continuation(text[tail]))
        tail++;
    (void)ep_etf_put_binary_header(buf, head + sizeof(gap) - 1 + size - tail);
    if (buf->error != 0)
        return;
    buf->length -= head + sizeof(gap) - 1 + size - tail;
    ep_buf_put(buf, text, head);
    ep_buf_put(buf, gap, sizeof(gap) - 1);
    ep_buf_put(buf, text + tail, size - tail);
}

static uint32_t class_of(PyObject *exc)
{
    if (PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt))
        return EP_ERROR_INTERRUPTED;
    if (PyErr_GivenExceptionMatches(exc, PyExc_StopIteration))
        return EP_ERROR_STOP_ITERATION;
    return EP_ERROR_EXCEPTION;
}

static void put_bytes(struct ep_buf *buf, PyObject *bytes, const char *otherwise)
{
    if (bytes != NULL)
        ep_etf_put_binary(buf, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    else
        ep_etf_put_binary(buf, otherwise, strlen(otherwise));
}

void ep_py_error_encode(struct ep_buf *buf, uint16_t flags, const char *root,
                        const struct ep_py_place *place, struct ep_py_reply *ret_reply)
{
    PyObject *name = NULL, *name_utf8 = NULL, *message = NULL, *traceback = NULL;
    bool is_interrupted = false;

    PyObject *exc = ep_py_exception_take();
    *ret_reply = (struct ep_py_reply){.kind = EP_KIND_ERROR};
    if (exc != NULL) {
        ret_reply->aux = class_of(exc);
        name = PyType_GetName(Py_TYPE(exc));
        name_utf8 = name == NULL ? NULL : to_utf8(name);
        message = message_of(exc, root, place, &is_interrupted);
        if ((flags & EP_FLAG_TRACEBACK) != 0)
            traceback = format_exception(exc);
    }
    if (PyErr_Occurred())
        is_interrupted |= clear_error();
    if (is_interrupted)
        ret_reply->aux = EP_ERROR_INTERRUPTED;

    put_bytes(buf, name_utf8, exc == NULL ? "SystemError" : "Exception");
    put_bytes(buf, message, "unknown");
    if (traceback != NULL)
        put_traceback(buf, traceback);
    else
        ep_etf_put_atom(buf, "nil", 3);
    Py_XDECREF(traceback);
    Py_XDECREF(message);
    Py_XDECREF(name_utf8);
    Py_XDECREF(name);
    Py_XDECREF(exc);
    PyErr_Clear();
}

void ep_py_error_put(struct ep_buf *error, const char *type, const char *why)
{
    ep_etf_put_binary(error, type, strlen(type));
    ep_etf_put_binary(error, why, strlen(why));
    ep_etf_put_atom(error, "nil", 3);
}
