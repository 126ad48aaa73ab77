/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_await.h"

#include "ep_py_callback.h"
#include "ep_py_exception.h"
#include "ep_py_fork.h"
#include "ep_py_store.h"
#include "ep_python.h"

#include <errno.h>

#define PORT "erlang.port"

static const struct ep_py_await_room *room;

void ep_py_await_set_room(const struct ep_py_await_room *the_room)
{
    room = the_room;
}

static void close_port(PyObject *capsule)
{
    if (!ep_py_fork_is_child())
        room->close(PyCapsule_GetPointer(capsule, PORT));
}

static PyObject *refuse(int rc)
{
    switch (rc) {
    case -EDQUOT:
        PyErr_Format(PyExc_RuntimeError, "%u calls of async_call() are outstanding already",
                     EP_AWAITED_QUESTIONS_MAX);
        break;
    case -ECANCELED:
        PyErr_SetString(PyExc_RuntimeError, "the context, or the process, is about to end");
        break;
    default: PyErr_NoMemory(); break;
    }
    return NULL;
}

PyObject *ep_py_await_open(PyObject *module, PyObject *unused)
{
    int fd = -1;

    (void)module;
    (void)unused;
    if (room == NULL || ep_py_fork_is_child()) {
        PyErr_SetString(PyExc_RuntimeError, "a forked process has no way to Erlang");
        return NULL;
    }
    struct ep_py_port *port = room->open(&fd);
    if (port == NULL)
        return PyErr_NoMemory();
    PyObject *capsule = PyCapsule_New(port, PORT, close_port);
    if (capsule == NULL) {
        room->close(port);
        return NULL;
    }
    return Py_BuildValue("(Ni)", capsule, fd);
}

PyObject *ep_py_await_ask_buf(PyObject *capsule, const struct ep_buf *question)
{
    struct ep_py_port *port = PyCapsule_GetPointer(capsule, PORT);
    uint64_t id;

    if (port == NULL)
        return NULL;
    if (ep_py_fork_is_child()) {
        PyErr_SetString(PyExc_RuntimeError, "a forked process has no way to Erlang");
        return NULL;
    }
    if (question->error != 0)
        return PyErr_NoMemory();
    int rc = room->ask(port, question, false, &id);
    return rc < 0 ? refuse(rc) : PyLong_FromUnsignedLongLong(id);
}

/* Asks what was encoded, with the arrays and objects that it names: the VM holds them from then on. */
static PyObject *ask_named(struct ep_py_port *port, struct ep_buf *buf,
                           const struct ep_py_cargo *named)
{
    bool has_arrays = named->n > 0 && ep_py_store_describe(named, NULL, buf);
    uint64_t id;

    int rc = buf->error != 0 ? -ENOMEM : room->ask(port, buf, has_arrays, &id);
    return rc < 0 ? refuse(rc) : PyLong_FromUnsignedLongLong(id);
}

/* await_ask(port, name, args): the number of the question. */
PyObject *ep_py_await_ask(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    struct ep_py_port *port = n == 3 ? PyCapsule_GetPointer(args[0], PORT) : NULL;
    struct ep_py_cargo named = {.n = 0};
    PyObject *number = NULL;
    struct ep_buf buf;
    uint8_t lent[512];

    if (port == NULL || !PyUnicode_Check(args[1]) || !PyTuple_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "async_call() needs the name of a registered Erlang "
                                         "function, a str, first");
        return NULL;
    }
    if (ep_py_fork_is_child()) {
        PyErr_SetString(PyExc_RuntimeError, "a forked process has no way to Erlang");
        return NULL;
    }
    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    if (ep_py_callback_put_question(module, &buf, EP_QUESTION_CALL, args[1],
                                    PySequence_Fast_ITEMS(args[2]), PyTuple_GET_SIZE(args[2]),
                                    &named)
        == 0)
        number = ask_named(port, &buf, &named);
    ep_py_cargo_finish(&named);
    ep_buf_finish(&buf);
    return number;
}

/* await_next(port, is_woken): (number, value, None), (number, None, exception) or None. */
PyObject *ep_py_await_next(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    struct ep_py_port *port = n == 2 ? PyCapsule_GetPointer(args[0], PORT) : NULL;
    struct ep_py_outcome outcome;
    uint64_t id;

    if (port == NULL)
        return NULL;
    if (ep_py_fork_is_child() || !room->next(port, args[1] == Py_True, &id, &outcome))
        Py_RETURN_NONE;
    PyObject *value = ep_py_callback_decode(module, &outcome);
    PyObject *exc = value == NULL ? ep_py_exception_take() : NULL;
    room->release(&outcome);
    PyObject *item = Py_BuildValue("(KOO)", (unsigned long long)id, value == NULL ? Py_None : value,
                                   exc == NULL ? Py_None : exc);
    Py_XDECREF(value);
    Py_XDECREF(exc);
    return item;
}
