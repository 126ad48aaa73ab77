/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_stream.h"

#include "ep_layout.h"
#include "ep_py_callback.h"
#include "ep_py_context_fields.h"
#include "ep_py_exception.h"
#include "ep_py_fork.h"
#include "ep_py_place.h"
#include "ep_py_request.h"
#include "ep_python.h"

#include <errno.h>

static bool is_asynchronous(PyObject *object)
{
    const PyAsyncMethods *methods = Py_TYPE(object)->tp_as_async;

    return methods != NULL && methods->am_aiter != NULL && Py_TYPE(object)->tp_iter == NULL;
}

/* Gives an asynchronous iterable to the event loop: Erlang makes a task that takes what lies under
 * the key in erlang._streams, and says so. What nobody takes is let go of. */
static void hand_over(PyObject *iterable)
{
    PyObject *erlang = PyImport_ImportModule("_erlang"), *none = NULL;
    PyObject *streams = erlang == NULL ? NULL : PyImport_ImportModule("erlang._streams");
    PyObject *key = streams == NULL ? NULL : PyObject_CallMethod(streams, "leave", "O", iterable);

    if (key != NULL)
        none = ep_py_callback_ask(erlang, EP_QUESTION_TASK, NULL, &key, 1);
    if (key != NULL && none == NULL) {
        PyObject *exc = ep_py_exception_take();
        none = PyObject_CallMethod(streams, "forget", "O", key);
        PyErr_Clear();
        if (exc != NULL)
            ep_py_exception_restore(exc);
    }
    Py_XDECREF(none);
    Py_XDECREF(key);
    Py_XDECREF(streams);
    Py_XDECREF(erlang);
}

/* Whether the type has an attribute of that name. */
static bool has_method(PyObject *object, const char *name)
{
    PyObject *method = PyObject_GetAttrString((PyObject *)Py_TYPE(object), name);

    if (method == NULL)
        PyErr_Clear();
    Py_XDECREF(method);
    return method != NULL;
}

/* Ends a generator, or what behaves like one: its finally runs. An exception that is set stays;
 * one of close() comes to light only if there is none. */
static void close_iterator(PyObject *iterator)
{
    PyObject *earlier = PyErr_Occurred() == NULL ? NULL : ep_py_exception_take();
    bool is_generator = PyGen_CheckExact(iterator)
                        || (has_method(iterator, "throw") && has_method(iterator, "close"));
    PyObject *none = is_generator ? PyObject_CallMethod(iterator, "close", NULL) : NULL;

    Py_XDECREF(none);
    if (earlier != NULL) {
        PyErr_Clear();
        ep_py_exception_restore(earlier);
    }
}

/* What a sink says, as an exception. */
static void raise_end(int rc)
{
    if (rc == -ENOMEM)
        PyErr_NoMemory();
    else if (rc < 0)
        PyErr_SetNone(PyExc_KeyboardInterrupt);
}

#define RAISED 2

static int encode_item(struct ep_py_codec *codec, bool shares, struct ep_buf *buf, PyObject *item,
                       struct ep_py_cargo *named)
{
    struct ep_py_cargo *outer_named = codec->named;
    bool outer_shares = codec->shares;

    ep_py_place_clear(&codec->place);
    codec->named = named;
    codec->shares = shares;
    int rc = ep_py_callback_put(codec, buf, item, "item") < 0 ? RAISED : 0;
    codec->named = outer_named;
    codec->shares = outer_shares;
    return rc;
}

/* Converts one item. Returns what the sink says, or RAISED: an exception is set. */
static int put_item(struct ep_py_context *context, const struct ep_py_request *request,
                    struct ep_py_sink *sink, PyObject *item)
{
    struct ep_py_cargo named = {.n = 0};
    struct ep_buf buf;
    uint8_t *mem;
    size_t room = sink->room(sink, &mem);

    if (room == 0)
        return -ECANCELED;
    ep_buf_init(&buf, mem, room, EP_MESSAGE_MAX);
    int rc = encode_item(&context->codec, request->shares, &buf, item, &named);
    if (rc == 0)
        rc = buf.data == mem && named.n == 0 ? sink->put(sink, buf.length)
                                             : sink->send(sink, &buf, &named);
    ep_py_cargo_finish(&named);
    ep_buf_finish(&buf);
    return rc;
}

/* New: the next item; NULL: there is none, or an exception is set. */
static PyObject *next_item(PyObject *iterator)
{
    PyObject *item = Py_TYPE(iterator)->tp_iternext(iterator);

    ep_py_fork_end_child();
    if (item == NULL && PyErr_Occurred() != NULL && PyErr_ExceptionMatches(PyExc_StopIteration))
        PyErr_Clear();
    return item;
}

static void run(struct ep_py_context *context, const struct ep_py_request *request,
                struct ep_py_sink *sink, PyObject *iterable)
{
    PyObject *iterator = PyObject_GetIter(iterable), *item;
    int rc = 0;

    Py_DECREF(iterable);
    while (iterator != NULL && rc == 0 && (item = next_item(iterator)) != NULL) {
        rc = put_item(context, request, sink, item);
        Py_DECREF(item);
        ep_py_fork_end_child();
    }
    if (rc != 0) {
        raise_end(rc);
        close_iterator(iterator);
    }
    Py_XDECREF(iterator);
}

void ep_py_stream_run(struct ep_py_context *context, struct ep_py_request *request,
                      struct ep_py_sink *sink)
{
    PyObject *iterable = request->result;

    request->result = NULL;
    if (is_asynchronous(iterable)) {
        hand_over(iterable);
        Py_DECREF(iterable);
    } else {
        run(context, request, sink, iterable);
    }
    request->has_failed = PyErr_Occurred() != NULL;
    if (!request->has_failed)
        request->result = Py_NewRef(Py_None);
}
