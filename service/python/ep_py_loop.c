/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_loop.h"

#include "ep_py_context_fields.h"
#include "ep_python.h"

/*
 * A thread that sleeps in an event loop sees no exception that another sets, before
 * something wakes the loop; and one that is set while the loop is between two tasks may lose
 * it the second. erlang._loops knows what to do; it gets the frames of the thread, which
 * stand still while we hold its GIL. Without a GIL they do not, and it gets the loops that
 * the thread runs, which the garbage collector finds.
 */

/* New: the module, or NULL. Loaded at the start: to import takes locks that the thread itself
 * may hold. */
static PyObject *get_module(void)
{
    PyObject *name = PyUnicode_FromString("erlang._loops");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);

    Py_XDECREF(name);
    return module;
}

/* New: what the function of erlang._loops returns, or NULL without an exception. */
static PyObject *ask(struct ep_py_context *context, PyObject *loops, const char *function,
                     PyObject *call_id)
{
    PyObject *where, *result = NULL;

    PyObject *module = get_module();
#ifndef Py_GIL_DISABLED
    where = (PyObject *)PyThreadState_GetFrame(context->tstate);
    (void)loops;
#else
    where = Py_XNewRef(loops);
    (void)context;
#endif
    if (module != NULL)
        result =
            PyObject_CallMethod(module, function, "OO", where == NULL ? Py_None : where, call_id);
    if (result == NULL)
        PyErr_Clear();
    Py_XDECREF(where);
    Py_XDECREF(module);
    return result;
}

PyObject *ep_py_loop_look(struct ep_py_context *context)
{
    PyObject *loops = NULL;

#ifdef Py_GIL_DISABLED
    PyObject *module = get_module();
    if (module != NULL)
        loops = PyObject_CallMethod(module, "look", "k", context->thread_id);
    Py_XDECREF(module);
    PyErr_Clear();
#else
    (void)context;
#endif
    return loops;
}

bool ep_py_loop_offer(struct ep_py_context *context, PyObject *loops, uint64_t call_id)
{
    PyObject *id = PyLong_FromUnsignedLongLong(call_id);
    PyObject *said = id == NULL ? NULL : ask(context, loops, "offer", id);
    bool is_offered = said == Py_True;

    PyErr_Clear();
    Py_XDECREF(said);
    Py_XDECREF(id);
    return is_offered;
}

void ep_py_loop_wake(struct ep_py_context *context, PyObject *loops)
{
    /* If that fails it sleeps on, and kill_after ends it. */
    Py_XDECREF(ask(context, loops, "wake", Py_None));
}

void ep_py_loop_tidy(void)
{
    PyObject *module = get_module();
    PyObject *none = module == NULL ? NULL : PyObject_CallMethod(module, "tidy", NULL);

    if (none == NULL)
        PyErr_Clear();
    Py_XDECREF(none);
    Py_XDECREF(module);
}
