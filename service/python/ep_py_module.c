/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_module.h"

#include "ep_py_array.h"
#include "ep_py_atom.h"
#include "ep_py_await.h"
#include "ep_py_callback.h"
#include "ep_py_channel.h"
#include "ep_py_fork.h"
#include "ep_py_handle.h"
#include "ep_py_interrupt.h"
#include "ep_py_letter.h"
#include "ep_py_numpy.h"
#include "ep_py_object.h"
#include "ep_py_object_ask.h"
#include "ep_py_sleep.h"
#include "ep_py_strike.h"
#include "ep_py_task.h"
#include "ep_py_title.h"
#include "ep_python.h"

/*
 * The built-in module _erlang, which the package erlang wraps. Multi-phase, with
 * all state per module, so that every interpreter has its own.
 */

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
    return ep_py_callback_ask(module, EP_QUESTION_CALL, args[0], args + 1, n_args - 1);
}

static PyObject *is_registered(PyObject *module, PyObject *name)
{
    return ep_py_callback_ask(module, EP_QUESTION_IS_REGISTERED, NULL, &name, 1);
}

static PyObject *epoch(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    /* Shared memory is not mapped in a forked child. */
    return PyLong_FromUnsignedLongLong(ep_py_fork_is_child() ? 0 : ep_py_channel_names_epoch());
}

static bool check_count(const char *name, Py_ssize_t n, Py_ssize_t least, Py_ssize_t most)
{
    if (n >= least && n <= most)
        return true;
    if (least == most)
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", name, most, n);
    else
        PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd arguments, not %zd", name, least, most,
                     n);
    return false;
}

static PyObject *state_get(PyObject *module, PyObject *key)
{
    return ep_py_callback_ask(module, EP_QUESTION_STATE_GET, NULL, &key, 1);
}

static PyObject *state_set(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return check_count("state_set", n, 2, 2)
               ? ep_py_callback_ask(module, EP_QUESTION_STATE_SET, NULL, args, n)
               : NULL;
}

static PyObject *state_incr(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return check_count("state_incr", n, 1, 2)
               ? ep_py_callback_ask(module, EP_QUESTION_STATE_INCR, NULL, args, n)
               : NULL;
}

static PyObject *state_decr(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return check_count("state_decr", n, 1, 2)
               ? ep_py_callback_ask(module, EP_QUESTION_STATE_DECR, NULL, args, n)
               : NULL;
}

static PyObject *state_delete(PyObject *module, PyObject *key)
{
    return ep_py_callback_ask(module, EP_QUESTION_STATE_DELETE, NULL, &key, 1);
}

static PyObject *state_keys(PyObject *module, PyObject *unused)
{
    (void)unused;
    return ep_py_callback_ask(module, EP_QUESTION_STATE_KEYS, NULL, NULL, 0);
}

static PyObject *state_clear(PyObject *module, PyObject *unused)
{
    (void)unused;
    return ep_py_callback_ask(module, EP_QUESTION_STATE_CLEAR, NULL, NULL, 0);
}

static PyObject *send(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    return check_count("send", n, 2, 2) ? ep_py_letter_send(module, args[0], args[1]) : NULL;
}

static PyObject *reply(PyObject *module, PyObject *const *args, Py_ssize_t n)
{
    PyObject *none =
        check_count("reply", n, 2, 2) ? ep_py_letter_send(module, args[0], args[1]) : NULL;

    if (none == NULL)
        return NULL;
    Py_DECREF(none);
    Py_RETURN_TRUE;
}

#define FASTCALL(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef methods[] = {
    {"call", FASTCALL(call), METH_FASTCALL | METH_KEYWORDS,
     "call(name, /, *args)\n--\n\nCall the Erlang function registered under that name."},
    {"is_registered", is_registered, METH_O, NULL},
    {"names_epoch", epoch, METH_NOARGS, NULL},
    {"show_context", ep_py_title_show, METH_VARARGS, NULL},
    {"take_interrupt", ep_py_strike_take, METH_O, NULL},
    {"lost_interrupt", ep_py_strike_lost, METH_NOARGS, NULL},
    {"await_open", ep_py_await_open, METH_NOARGS, NULL},
    {"await_ask", FASTCALL(ep_py_await_ask), METH_FASTCALL, NULL},
    {"await_next", FASTCALL(ep_py_await_next), METH_FASTCALL, NULL},
    {"object_take", FASTCALL(ep_py_object_take), METH_FASTCALL, NULL},
    {"object_put", FASTCALL(ep_py_object_put), METH_FASTCALL, NULL},
    {"object_close", ep_py_object_close, METH_O, NULL},
    {"object_read", FASTCALL(ep_py_object_read), METH_FASTCALL, NULL},
    {"object_size", ep_py_object_size, METH_O, NULL},
    {"object_dict", FASTCALL(ep_py_object_dict), METH_FASTCALL, NULL},
    {"object_await", FASTCALL(ep_py_object_await), METH_FASTCALL, NULL},
    {"object_unwait", FASTCALL(ep_py_object_unwait), METH_FASTCALL, NULL},
    {"sleep", ep_py_sleep, METH_O, NULL},
    {"task_look", ep_py_task_look, METH_O, NULL},
    {"task_done", FASTCALL(ep_py_task_done), METH_FASTCALL, NULL},
    {"task_failed", FASTCALL(ep_py_task_failed), METH_FASTCALL, NULL},
    {"tasks_left", ep_py_task_left, METH_O, NULL},
    {"state_get", state_get, METH_O,
     "state_get(key, /)\n--\n\nThe value of a key of the shared state, or None."},
    {"state_set", FASTCALL(state_set), METH_FASTCALL,
     "state_set(key, value, /)\n--\n\nSet a key; ('error', 'full') if the table takes no new one."},
    {"state_incr", FASTCALL(state_incr), METH_FASTCALL,
     "state_incr(key, n=1, /)\n--\n\nAdd to an integer, atomically, and return the sum."},
    {"state_decr", FASTCALL(state_decr), METH_FASTCALL,
     "state_decr(key, n=1, /)\n--\n\nSubtract from an integer, atomically, and return the rest."},
    {"state_delete", state_delete, METH_O, "state_delete(key, /)\n--\n\nRemove a key."},
    {"state_keys", state_keys, METH_NOARGS, "state_keys()\n--\n\nAll keys, in any order."},
    {"state_clear", state_clear, METH_NOARGS, "state_clear()\n--\n\nRemove all keys."},
    {"send", FASTCALL(send), METH_FASTCALL,
     "send(pid, term, /)\n--\n\nSend a message to an Erlang process; ProcessError if it is dead."},
    {"reply", FASTCALL(reply), METH_FASTCALL,
     "reply(pid, term, /)\n--\n\nSend an answer to an Erlang process; as send(), returns True."},
    {"share", ep_py_array_share, METH_O,
     "share(x, /)\n--\n\nA SharedArray with the contents of an array or a buffer."},
    {"empty", FASTCALL(ep_py_array_empty), METH_VARARGS | METH_KEYWORDS,
     "empty(shape, dtype='float64')\n--\n\nA new array in shared memory, to be written."},
    {"whereis", ep_py_letter_whereis, METH_O,
     "whereis(name, /)\n--\n\nThe Pid of the process registered under that name, or None."},
    {"atom", ep_py_atom_make, METH_O,
     "atom(name, /)\n--\n\nThe atom of that name: what Erlang gets is no binary."},
    {NULL, NULL, 0, NULL},
};

/* --- the module --------------------------------------------------------------------- */

static int module_exec(PyObject *module)
{
    struct ep_py_types *types = PyModule_GetState(module);

    if (ep_py_handle_add_types(module, types) < 0 || ep_py_atom_add_type(module, types) < 0)
        return -1;
    return ep_py_array_add_type(module, types) < 0 ? -1 : ep_py_object_add_types(module, types);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct ep_py_types *types = PyModule_GetState(module);

    Py_VISIT(types->pid);
    Py_VISIT(types->ref);
    Py_VISIT(types->atom);
    Py_VISIT(types->atoms);
    Py_VISIT(types->array);
    Py_VISIT(types->object);
    Py_VISIT(types->statuses);
    if (types->numpy != NULL)
        Py_VISIT(types->numpy->module);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct ep_py_types *types = PyModule_GetState(module);

    Py_CLEAR(types->pid);
    Py_CLEAR(types->ref);
    Py_CLEAR(types->atoms);
    Py_CLEAR(types->atom);
    Py_CLEAR(types->array);
    Py_CLEAR(types->object);
    Py_CLEAR(types->statuses);
    ep_py_numpy_destroy(types->numpy);
    types->numpy = NULL;
    return 0;
}

static void module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_erlang",
    .m_size = sizeof(struct ep_py_types),
    .m_methods = methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC ep_py_module_init(void)
{
    return PyModuleDef_Init(&module_def);
}

int ep_py_module_types(PyObject *module, struct ep_py_types *ret_types)
{
    if (!PyModule_Check(module) || PyModule_GetDef(module) != &module_def) {
        PyErr_SetString(PyExc_ImportError, "_erlang is not the built-in module");
        return -1;
    }
    *ret_types = *(struct ep_py_types *)PyModule_GetState(module);
    return 0;
}
