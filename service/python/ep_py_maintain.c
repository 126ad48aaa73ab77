/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_maintain.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_py_codec.h"
#include "ep_py_context_fields.h"
#include "ep_py_decode.h"
#include "ep_py_encode.h"
#include "ep_py_error.h"
#include "ep_py_place.h"
#include "ep_python.h"

/*
 * What the VM asks about an interpreter while requests run in it: functions of
 * erlang._maintenance, by name. They come between the bytecodes of a request.
 */

static PyObject *call(struct ep_py_codec *codec, struct ep_etf_cursor *cursor)
{
    struct ep_etf_token name;
    PyObject *args = NULL, *tuple = NULL, *function = NULL, *result = NULL;

    if (ep_etf_next(cursor, &name) < 0 || name.type != EP_ETF_BINARY
        || ep_py_decode(codec, cursor, &args) < 0) {
        cursor->at = cursor->end;
        PyErr_SetString(PyExc_SystemError, "an inquiry is not in the wire format");
        return NULL;
    }
    PyObject *module = args == NULL ? NULL : PyImport_ImportModule("erlang._maintenance");
    PyObject *text = module == NULL ? NULL : ep_py_decode_text(name.data, name.count);
    if (text != NULL)
        function = PyObject_GetAttr(module, text);
    if (function != NULL)
        tuple = PySequence_Tuple(args);
    if (tuple != NULL)
        result = PyObject_CallObject(function, tuple);
    Py_XDECREF(tuple);
    Py_XDECREF(function);
    Py_XDECREF(text);
    Py_XDECREF(module);
    Py_XDECREF(args);
    return result;
}

bool ep_py_maintain(const struct ep_py_context *context, const uint8_t *payload, size_t size,
                    struct ep_buf *ret_buf)
{
    struct ep_py_codec codec = {.types = context->codec.types};
    struct ep_etf_cursor cursor;
    struct ep_py_reply unused;
    bool failed = true;

    PyThreadState *tstate = PyThreadState_New(context->interp);
    if (tstate == NULL) {
        ep_py_error_put(ret_buf, "MemoryError", "no thread state");
        return true;
    }
    PyEval_RestoreThread(tstate);
    ep_py_place_clear(&codec.place);
    ep_etf_cursor_init(&cursor, payload, size);
    PyObject *result = call(&codec, &cursor);
    if (result != NULL)
        failed = ep_py_encode(&codec, ret_buf, result) < 0;
    if (failed) {
        ep_buf_finish(ret_buf);
        ep_buf_init(ret_buf, NULL, 0, EP_MESSAGE_MAX);
        ep_py_error_encode(ret_buf, 0, NULL, NULL, &unused);
    }
    Py_XDECREF(result);
    PyThreadState_Clear(tstate);
    PyThreadState_DeleteCurrent();
    return failed;
}

void ep_py_maintain_prologue(struct ep_py_context *context, const uint8_t *payload, size_t size)
{
    struct ep_etf_cursor cursor;

    ep_etf_cursor_init(&cursor, payload, size);
    while (cursor.at != cursor.end) {
        PyObject *result = call(&context->codec, &cursor);
        if (result == NULL)
            PyErr_WriteUnraisable(NULL);
        Py_XDECREF(result);
    }
}
