/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_letter.h"

#include "ep_buf.h"
#include "ep_cpu.h"
#include "ep_etf.h"
#include "ep_layout.h"
#include "ep_py_atom.h"
#include "ep_py_callback.h"
#include "ep_py_channel.h"
#include "ep_py_codec.h"
#include "ep_py_encode.h"
#include "ep_py_fork.h"
#include "ep_py_handle.h"
#include "ep_py_place.h"

#include <stdatomic.h>
#include <string.h>

/*
 * Messages to Erlang processes. A short one goes out without asking, as long as there is
 * credit; a long one is a question. What the VM says of a receiver is kept in the Pid for a
 * moment, so that its first message asks, and then one every few milliseconds.
 */

/* How long what was said of a receiver holds. A death is to be noticed within 10 ms. */
#define SAID_NS UINT64_C(5000000)
/* The same in messages: its mailbox may grow meanwhile. */
#define SAID_MESSAGES 1000u

/* What the VM says of a receiver, see py_letter.erl. */
enum said {
    SAID_DEAD = 0,
    SAID_OPEN = 1,
    SAID_FULL = 2,   /* ask before each message */
    SAID_REMOTE = 3, /* on another node: nobody knows */
};

/* What the messages of this process have cost so far, and how much they may, see
 * nif/lane/ep_letter.h. */
static _Atomic uint64_t paid, limit;

/* Relaxed: the VM raises its limit before it tells, and sees no message before it was paid. */
static bool pay(size_t length)
{
    uint64_t price = EP_SEND_COST + length;

    if (atomic_load_explicit(&paid, memory_order_relaxed)
        >= atomic_load_explicit(&limit, memory_order_relaxed))
        return false;
    if (atomic_fetch_add_explicit(&paid, price, memory_order_relaxed)
        < atomic_load_explicit(&limit, memory_order_relaxed))
        return true;
    atomic_fetch_sub_explicit(&paid, price, memory_order_relaxed);
    return false;
}

static void raise_limit(uint64_t to)
{
    uint64_t old = atomic_load_explicit(&limit, memory_order_relaxed);

    while (old < to
           && !atomic_compare_exchange_weak_explicit(&limit, &old, to, memory_order_relaxed,
                                                     memory_order_relaxed)) {
    }
}

/* --- what the VM says ----------------------------------------------------------------- */

static PyObject *raise_dead(PyObject *pid)
{
    PyObject *module = PyImport_ImportModule("erlang._errors");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "ProcessError");

    if (type != NULL)
        PyErr_Format(type, "process %R is not alive", pid);
    Py_XDECREF(type);
    Py_XDECREF(module);
    return NULL;
}

/* Takes (what, limit), its reference included. 0, or -1 with ProcessError or what it was. */
static int take_answer(PyObject *pid, PyObject *answer)
{
    struct ep_py_handle *handle = (struct ep_py_handle *)pid;
    int what;
    unsigned long long new_limit;

    if (answer == NULL)
        return -1;
    bool ok = PyArg_ParseTuple(answer, "iK", &what, &new_limit) != 0;
    Py_DECREF(answer);
    if (!ok)
        return -1;
    raise_limit(new_limit);
    handle->said_ns = what == SAID_DEAD ? 0 : ep_clock_ns();
    handle->said = (uint8_t)what;
    handle->sent = 0;
    if (what != SAID_DEAD)
        return 0;
    (void)raise_dead(pid);
    return -1;
}

/* Relaxed in all of it: threads that share a Pid may ask once too often, or too late. */
static bool must_ask(struct ep_py_handle *handle)
{
    uint32_t sent = atomic_load_explicit(&handle->sent, memory_order_relaxed);

    if (handle->said != SAID_OPEN && handle->said != SAID_REMOTE)
        return true;
    atomic_store_explicit(&handle->sent, sent + 1, memory_order_relaxed);
    return sent >= SAID_MESSAGES
           || (handle->said == SAID_OPEN
               && ep_clock_ns() - atomic_load_explicit(&handle->said_ns, memory_order_relaxed)
                      >= SAID_NS);
}

/* Whether an event loop runs in this thread, which must not wait. */
static bool is_in_loop(void)
{
    PyObject *name = PyUnicode_FromString("asyncio.events");
    PyObject *events = name == NULL ? NULL : PyImport_GetModule(name);
    PyObject *loop = events == NULL ? NULL : PyObject_CallMethod(events, "_get_running_loop", NULL);
    bool is_it = loop != NULL && loop != Py_None;

    PyErr_Clear();
    Py_XDECREF(loop);
    Py_XDECREF(events);
    Py_XDECREF(name);
    return is_it;
}

static int ask(PyObject *module, PyObject *pid)
{
    PyObject *args[] = {pid, is_in_loop() ? Py_False : Py_True};

    return take_answer(pid, ep_py_callback_ask(module, EP_QUESTION_RECEIVER, NULL, args, 2));
}

/* --- sending ---------------------------------------------------------------------------- */

/* A question to deliver, of which handle and term are also a SEND: it starts at *ret_start. */
static int put_letter(struct ep_py_codec *codec, struct ep_buf *buf, PyObject *pid, PyObject *term,
                      size_t *ret_start)
{
    ep_etf_put_int(buf, EP_QUESTION_DELIVER);
    ep_etf_put_list(buf, 3);
    ep_etf_put_int(buf, 1); /* may wait; its last byte is the number */
    *ret_start = buf->length;
    (void)ep_py_encode(codec, buf, pid);
    return ep_py_callback_put(codec, buf, term, "message");
}

static int send_long(PyObject *module, PyObject *pid, struct ep_buf *buf, size_t start,
                     const struct ep_py_cargo *named)
{
    buf->data[start - 1] = !is_in_loop();
    ep_etf_put_nil(buf);
    bool has_arrays = named->n > 0 && ep_py_store_describe(named, NULL, buf);
    return take_answer(pid, ep_py_callback_ask_buf(module, buf, has_arrays));
}

static int send_short(PyObject *module, PyObject *pid, struct ep_buf *buf, size_t start,
                      const struct ep_py_cargo *named)
{
    size_t length = buf->length - start; /* the list of arrays costs nothing */
    bool has_arrays = named->n > 0 && ep_py_store_describe(named, NULL, buf);
    struct ep_buf letter = {.data = buf->data + start, .length = buf->length - start};

    letter.lent = letter.data;
    if (must_ask((struct ep_py_handle *)pid) && ask(module, pid) < 0)
        return -1;
    if (buf->error != 0)
        return PyErr_NoMemory(), -1;
    while (!pay(length))
        if (ask(module, pid) < 0)
            return -1;
    struct ep_py_channel *channel = ep_py_channel_for_letters();
    if (channel->send(channel, &letter, has_arrays) == 0)
        return 0;
    PyErr_SetNone(PyExc_KeyboardInterrupt); /* the process ends */
    return -1;
}

PyObject *ep_py_letter_send(PyObject *module, PyObject *pid, PyObject *term)
{
    struct ep_py_codec codec = {.types = *(const struct ep_py_types *)PyModule_GetState(module)};
    struct ep_py_cargo named = {.n = 0};
    struct ep_buf buf;
    uint8_t lent[512];
    size_t start;

    if (Py_TYPE(pid) != codec.types.pid) {
        PyErr_Format(PyExc_TypeError, "send() needs an erlang.Pid first, not '%s'",
                     Py_TYPE(pid)->tp_name);
        return NULL;
    }
    if (ep_py_fork_is_child() || ep_py_channel_here() == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a forked process has no way to Erlang");
        return NULL;
    }
    ep_py_place_clear(&codec.place);
    codec.named = &named;
    ep_buf_init(&buf, lent, sizeof(lent), EP_MESSAGE_MAX);
    int rc = put_letter(&codec, &buf, pid, term, &start);
    if (rc == 0
        && (codec.is_doubtful
            || buf.length - start + (size_t)named.n * EP_ARRAY_RECORD_MAX > EP_SEND_MAX))
        rc = send_long(module, pid, &buf, start, &named);
    else if (rc == 0)
        rc = send_short(module, pid, &buf, start, &named);
    ep_py_cargo_finish(&named);
    ep_buf_finish(&buf);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* --- names --------------------------------------------------------------------------------- */

PyObject *ep_py_letter_whereis(PyObject *module, PyObject *name)
{
    const struct ep_py_types *types = PyModule_GetState(module);

    if (Py_TYPE(name) == types->atom)
        name = ep_py_atom_name(name);
    if (!PyUnicode_Check(name) && !PyBytes_Check(name)) {
        PyErr_Format(PyExc_TypeError, "whereis() needs a str, bytes or erlang.Atom, not '%s'",
                     Py_TYPE(name)->tp_name);
        return NULL;
    }
    return ep_py_callback_ask(module, EP_QUESTION_WHEREIS, NULL, &name, 1);
}
