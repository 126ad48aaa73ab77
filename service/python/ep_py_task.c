/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_task.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_py_callback.h"
#include "ep_py_codec.h"
#include "ep_py_context_fields.h"
#include "ep_py_encode.h"
#include "ep_py_error.h"
#include "ep_py_exception.h"
#include "ep_py_fork.h"
#include "ep_py_none.h"
#include "ep_py_place.h"
#include "ep_py_request.h"
#include "ep_py_space.h"
#include "ep_py_store.h"
#include "ep_python.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#define TOKEN "erlang.task"
/* Where a result is encoded, unless it is longer. */
#define LENT_SIZE 1024u

/* Of the calling thread, while it runs a loop. */
static _Thread_local struct ep_py_tasks *own;
static _Thread_local PyObject *module; /* erlang._tasks */
static _Thread_local PyObject *start;  /* its function */

/* A task that has not been answered. */
struct task {
    struct ep_py_tasks *tasks;
    uint64_t call_id;
    uint32_t lane;
    uint16_t flags;
    bool shares; /* every numpy array in the result becomes a shared one */
    bool is_answered;
    struct ep_py_cargo brought; /* arrays that came with it, until it is answered */
};

/* --- answers --------------------------------------------------------------------------- */

/* named: arrays that the payload names, or NULL. The reply says, besides, which of those that the
 * task has brought are still in use. */
static void answer(struct task *task, struct ep_py_reply *reply, struct ep_buf *payload,
                   const struct ep_py_cargo *named)
{
    ep_py_fork_end_child();
    if (task->is_answered)
        return;
    task->is_answered = true;
    if (task->brought.n > 0 || (named != NULL && named->n > 0))
        reply->has_arrays = ep_py_store_describe(named, &task->brought, payload);
    if (reply->has_arrays && payload->error != 0)
        Py_FatalError("no memory for the arrays of a reply");
    task->tasks->reply(task->tasks, task->lane, task->call_id, reply, payload);
    ep_py_cargo_finish(&task->brought);
}

/* It was never awaited. A function that has run may have kept what it was given. */
static void drop(struct task *task)
{
    struct ep_py_reply reply = {.kind = EP_KIND_DROPPED};
    struct ep_buf buf;
    uint8_t lent[LENT_SIZE];

    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    if (task->brought.n > 0) {
        reply = (struct ep_py_reply){.kind = EP_KIND_ERROR, .aux = EP_ERROR_CANCELLED};
        ep_py_error_put(&buf, "CancelledError", "the task was never awaited");
    }
    answer(task, &reply, &buf, NULL);
    ep_buf_finish(&buf);
}

/* Any thread: the token was collected. */
static void forget(PyObject *token)
{
    struct task *task = PyCapsule_GetPointer(token, TOKEN);

    if (!ep_py_fork_is_child())
        drop(task);
    PyMem_RawFree(task);
}

static PyObject *make_token(struct task *like)
{
    struct task *task = PyMem_RawMalloc(sizeof(*task));

    if (task == NULL)
        return PyErr_NoMemory();
    *task = *like;
    PyObject *token = PyCapsule_New(task, TOKEN, forget);
    if (token == NULL)
        PyMem_RawFree(task);
    else
        like->brought = (struct ep_py_cargo){.n = 0};
    return token;
}

/* What a task comes to when it is cancelled, or when there was nothing to begin. */
static uint32_t aux_of(bool is_missing, const struct ep_py_reply *reply, PyObject *exc)
{
    if (is_missing
        && (PyErr_GivenExceptionMatches(exc, PyExc_AttributeError)
            || PyErr_GivenExceptionMatches(exc, PyExc_ModuleNotFoundError)))
        return EP_ERROR_NOT_FOUND;
    return reply->aux;
}

/* Any thread: a coroutine may be collected in another one than the loop's. */
static bool is_cancelled(PyObject *exc)
{
    PyObject *tasks = PyImport_ImportModule("erlang._tasks");
    PyObject *type = tasks == NULL ? NULL : PyObject_GetAttrString(tasks, "CancelledError");
    bool is = type != NULL && PyErr_GivenExceptionMatches(exc, type);

    PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(tasks);
    return is;
}

/* Answers with the exception that is set. */
static void answer_error(struct task *task, bool is_missing, const char *root,
                         const struct ep_py_place *place)
{
    struct ep_py_reply reply;
    struct ep_buf buf;
    uint8_t lent[LENT_SIZE];

    PyObject *exc = ep_py_exception_take();
    bool was_cancelled = exc != NULL && is_cancelled(exc);
    if (exc != NULL)
        ep_py_exception_restore(Py_NewRef(exc));
    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    ep_py_error_encode(&buf, task->flags, root, place, &reply);
    reply.aux = was_cancelled ? EP_ERROR_CANCELLED : aux_of(is_missing, &reply, exc);
    answer(task, &reply, &buf, NULL);
    ep_buf_finish(&buf);
    Py_XDECREF(exc);
}

/* Encodes a result; the arrays that it names stay until the reply is out. */
static int encode(const struct task *task, struct ep_py_codec *codec, struct ep_buf *buf,
                  PyObject *value, struct ep_py_cargo *named)
{
    struct ep_py_cargo *outer_named = codec->named;
    bool outer_shares = codec->shares;
    unsigned outer_none = ep_py_none_enter(task->flags);

    ep_py_place_clear(&codec->place);
    codec->named = named;
    codec->shares = task->shares;
    int rc = ep_py_encode(codec, buf, value);
    codec->named = outer_named;
    codec->shares = outer_shares;
    ep_py_none_leave(outer_none);
    return rc;
}

/* request: what has made the value and has ended, or NULL. */
static void answer_value(struct task *task, struct ep_py_codec *codec, PyObject *value,
                         struct ep_py_request *request)
{
    struct ep_py_reply reply = {.kind = EP_KIND_RESULT};
    struct ep_py_cargo named = {.n = 0};
    struct ep_buf buf;
    uint8_t lent[LENT_SIZE];

    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    int rc = encode(task, codec, &buf, value, &named);
    /* So that its arrays are in use no more, if nothing else uses them. */
    if (rc == 0 && request != NULL)
        ep_py_request_release(request);
    if (rc < 0)
        answer_error(task, false, "result", &codec->place);
    else if (buf.error != 0)
        (void)PyErr_NoMemory(), answer_error(task, false, NULL, NULL);
    else
        answer(task, &reply, &buf, &named);
    ep_py_cargo_finish(&named);
    ep_buf_finish(&buf);
}

/* --- beginning ------------------------------------------------------------------------- */

static bool is_awaitable(PyObject *value)
{
    const PyAsyncMethods *methods = Py_TYPE(value)->tp_as_async;

    if (PyCoro_CheckExact(value) || (methods != NULL && methods->am_await != NULL))
        return true;
    if (!PyGen_CheckExact(value))
        return false;
    /* A coroutine of the old kind: types.coroutine. */
    PyObject *code = PyObject_GetAttrString(value, "gi_code");
    bool is = code != NULL && (((PyCodeObject *)code)->co_flags & CO_ITERABLE_COROUTINE) != 0;
    PyErr_Clear();
    Py_XDECREF(code);
    return is;
}

/* Makes it a task of asyncio's. */
static void go_on(struct task *task, PyObject *awaitable, PyObject *vars)
{
    PyObject *token = make_token(task);
    PyObject *key = token == NULL ? NULL : PyLong_FromUnsignedLongLong(task->call_id);
    PyObject *lane = key == NULL ? NULL : PyLong_FromUnsignedLong(task->lane);
    PyObject *none = NULL;

    if (lane != NULL) {
        PyObject *args[] = {NULL, awaitable, token, key, lane, vars};
        none = PyObject_Vectorcall(start, args + 1, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    if (none == NULL) {
        struct task *other = token == NULL ? task : PyCapsule_GetPointer(token, TOKEN);
        answer_error(other, false, NULL, NULL);
    }
    Py_XDECREF(none);
    Py_XDECREF(lane);
    Py_XDECREF(key);
    Py_XDECREF(token);
}

int ep_py_task_begin(struct ep_py_tasks *tasks, struct ep_py_context *guest,
                     const struct ep_cell *cell, const uint8_t *payload)
{
    struct task task = {
        .tasks = tasks, .call_id = cell->call_id, .lane = cell->aux, .flags = cell->flags};
    struct ep_py_request request;

    if (ep_py_request_decode(guest, &request, cell, payload) < 0)
        return -EPROTO;
    task.shares = request.shares;
    task.brought = request.brought;
    request.brought = (struct ep_py_cargo){.n = 0};
    ep_py_request_run(guest, &request);
    ep_py_fork_end_child();
    PyObject *result = request.result;
    if (request.has_failed) {
        answer_error(&task, request.is_missing, request.root, &guest->codec.place);
    } else if (cell->kind == EP_KIND_EXEC) {
        struct ep_py_reply reply = {.kind = EP_KIND_RESULT};
        struct ep_buf none;
        ep_buf_init(&none, NULL, 0, EP_MESSAGE_MAX);
        answer(&task, &reply, &none, NULL);
        ep_buf_finish(&none);
    } else if (!is_awaitable(result)) {
        answer_value(&task, &guest->codec, result, &request);
    } else {
        PyObject *vars = Py_NewRef(request.vars);
        Py_INCREF(result);
        ep_py_request_finish(guest, &request);
        go_on(&task, result, vars);
        Py_DECREF(result);
        Py_DECREF(vars);
        return 0;
    }
    ep_py_request_finish(guest, &request);
    return 0;
}

/* --- what erlang._tasks calls --------------------------------------------------------- */

PyObject *ep_py_task_look(PyObject *unused, PyObject *is_woken)
{
    (void)unused;
    if (own == NULL || ep_py_fork_is_child())
        Py_RETURN_FALSE;
    return PyBool_FromLong(own->look(own, is_woken == Py_True));
}

PyObject *ep_py_task_done(PyObject *erlang, PyObject *const *args, Py_ssize_t n)
{
    struct ep_py_codec codec = {.types = *(const struct ep_py_types *)PyModule_GetState(erlang)};
    struct task *task = n == 2 ? PyCapsule_GetPointer(args[0], TOKEN) : NULL;

    if (task == NULL) {
        PyErr_SetString(PyExc_TypeError, "task_done(token, value)");
        return NULL;
    }
    answer_value(task, &codec, args[1], NULL);
    Py_RETURN_NONE;
}

PyObject *ep_py_task_failed(PyObject *unused, PyObject *const *args, Py_ssize_t n)
{
    struct task *task = n == 2 ? PyCapsule_GetPointer(args[0], TOKEN) : NULL;

    (void)unused;
    if (task == NULL || !PyExceptionInstance_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "task_failed(token, exception)");
        return NULL;
    }
    ep_py_exception_restore(Py_NewRef(args[1]));
    answer_error(task, false, NULL, NULL);
    Py_RETURN_NONE;
}

PyObject *ep_py_task_left(PyObject *unused, PyObject *lane)
{
    unsigned long index = PyLong_AsUnsignedLong(lane);

    (void)unused;
    if (PyErr_Occurred() != NULL)
        return NULL;
    if (own != NULL)
        own->left(own, (uint32_t)index);
    return Py_NewRef(Py_None);
}

/* --- what erlang._tasks is asked to do --------------------------------------------------- */

static void ask(const char *function, PyObject *args)
{
    PyObject *method = args == NULL ? NULL : PyObject_GetAttrString(module, function);
    PyObject *none = method == NULL ? NULL : PyObject_CallObject(method, args);

    if (none == NULL)
        PyErr_WriteUnraisable(method);
    Py_XDECREF(none);
    Py_XDECREF(method);
    Py_XDECREF(args);
}

void ep_py_task_cancel(uint32_t lane, uint64_t call_id)
{
    ask("cancel", Py_BuildValue("(IK)", lane, (unsigned long long)call_id));
}

void ep_py_task_leave(uint32_t lane)
{
    ask("leave", Py_BuildValue("(I)", lane));
}

void ep_py_task_end(void)
{
    ask("end", PyTuple_New(0));
}

void ep_py_task_run_loop(struct ep_py_tasks *tasks, void *interpreter)
{
    PyThreadState *tstate = PyThreadState_New(interpreter);

    if (tstate == NULL)
        return;
    PyEval_RestoreThread(tstate);
    atomic_store_explicit(&tasks->sleeper.tstate, (uint64_t)(uintptr_t)tstate,
                          memory_order_relaxed);
    own = tasks;
    module = PyImport_ImportModule("erlang._tasks");
    start = module == NULL ? NULL : PyObject_GetAttrString(module, "start");
    if (start == NULL)
        PyErr_WriteUnraisable(NULL);
    else
        ask("run", Py_BuildValue("(i)", tasks->fd));
    ep_py_fork_end_child();
    tasks->ended(tasks);
    Py_CLEAR(start);
    Py_CLEAR(module);
    own = NULL;
    atomic_store_explicit(&tasks->sleeper.tstate, 0, memory_order_relaxed);
    PyThreadState_Clear(tstate);
    PyThreadState_DeleteCurrent();
}

/* What the thread of the loop is at. New; None: erlang._tasks has to find out. It does so by
 * sys._current_frames(), which in a sub-interpreter of 3.13 makes objects with another one's memory. */
static PyObject *frame_of(struct ep_py_tasks *tasks)
{
    PyObject *frame = NULL;
#ifndef Py_GIL_DISABLED
    /* The thread leaves the interpreter with the GIL, which we have now. */
    PyThreadState *tstate = (PyThreadState *)(uintptr_t)atomic_load_explicit(&tasks->sleeper.tstate,
                                                                             memory_order_relaxed);
    frame = tstate == NULL ? NULL : (PyObject *)PyThreadState_GetFrame(tstate);
#else
    (void)tasks;
#endif
    return frame != NULL ? frame : Py_NewRef(Py_None);
}

void ep_py_task_tell_blocked(struct ep_py_tasks *tasks, void *interpreter, uint64_t ms)
{
    PyThreadState *tstate = PyThreadState_New(interpreter);

    if (tstate == NULL)
        return;
    PyEval_RestoreThread(tstate);
    PyObject *erlang = PyImport_ImportModule("_erlang");
    PyObject *package = erlang == NULL ? NULL : PyImport_ImportModule("erlang._tasks");
    PyObject *frame = package == NULL ? NULL : frame_of(tasks);
    PyObject *stack = frame == NULL ? NULL : PyObject_CallMethod(package, "stack", "O", frame);
    PyObject *number = stack == NULL ? NULL : PyLong_FromUnsignedLongLong(ms);
    PyObject *none = NULL;
    if (number != NULL) {
        PyObject *args[] = {number, stack};
        none = ep_py_callback_ask(erlang, EP_QUESTION_BLOCKED, NULL, args, 2);
    }
    /* Nobody is told that nobody could be told. */
    PyErr_Clear();
    Py_XDECREF(none);
    Py_XDECREF(number);
    Py_XDECREF(stack);
    Py_XDECREF(frame);
    Py_XDECREF(package);
    Py_XDECREF(erlang);
    PyThreadState_Clear(tstate);
    PyThreadState_DeleteCurrent();
}
