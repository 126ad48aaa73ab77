/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_import.h"

#include "ep_py_exception.h"
#include "ep_py_interrupt.h"
#include "ep_python.h"

/*
 * Imports that interrupts wait for: around the few functions of importlib through which
 * every module is loaded stands one that tells when they begin and end. It is a C function,
 * so no exception can come between that and the function itself.
 *
 * They are Python's private names, so one that is not there is left out: its imports can be
 * interrupted then, as those of a plain Python can.
 */

static PyObject *guarded(PyObject *function, PyObject *const *args, Py_ssize_t n_args,
                         PyObject *kwnames)
{
    PyObject *result = NULL;
    bool is_due;

    uint64_t held = ep_py_interrupt_hold(&is_due);
    if (!is_due)
        result = PyObject_Vectorcall(function, args, (size_t)n_args, kwnames);
    if (ep_py_interrupt_let_go(held) || is_due) {
        Py_CLEAR(result);
        PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
    return result;
}

void ep_py_import_explain(PyObject *name)
{
    PyObject *exc = ep_py_exception_take(), *done = NULL;

    if (exc == NULL)
        return;
    if (PyErr_GivenExceptionMatches(exc, PyExc_ImportError)
        || PyErr_GivenExceptionMatches(exc, PyExc_SyntaxError)) {
        PyObject *module = PyImport_ImportModule("erlang._imports");
        if (module != NULL)
            done = PyObject_CallMethod(module, "explain", "OO", exc, name);
        Py_XDECREF(module);
        if (done == NULL && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
            Py_DECREF(exc);
            return;
        }
        PyErr_Clear();
        Py_XDECREF(done);
    }
    ep_py_exception_restore(exc);
}

static PyMethodDef definition = {"import_guarded", (PyCFunction)(void (*)(void))guarded,
                                 METH_FASTCALL | METH_KEYWORDS, NULL};

static int guard(PyObject *owner, const char *name)
{
    PyObject *function = PyObject_GetAttrString(owner, name);
    int rc = -1;

    if (function == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return 0;
    }
    PyObject *replacement = function == NULL ? NULL : PyCFunction_New(&definition, function);
    if (replacement != NULL && PyType_Check(owner))
        Py_SETREF(replacement, PyInstanceMethod_New(replacement));
    if (replacement != NULL)
        rc = PyObject_SetAttrString(owner, name, replacement);
    Py_XDECREF(replacement);
    Py_XDECREF(function);
    return rc;
}

static const struct {
    const char *module, *type, *name;
} guards[] = {
    {"_frozen_importlib", NULL, "_find_and_load"},
    {"_frozen_importlib", NULL, "_lock_unlock_module"}, /* waits for another thread's import */
    /* importlib.reload(), and what loads a module without import: lazy loaders, plugins. */
    {"_frozen_importlib", NULL, "_exec"},
    {"_frozen_importlib", NULL, "_load"},
    {"_frozen_importlib_external", "_LoaderBasics", "exec_module"},
    {"_frozen_importlib_external", "ExtensionFileLoader", "create_module"},
    {"_frozen_importlib_external", "ExtensionFileLoader", "exec_module"},
};

int ep_py_import_guard(void)
{
    int rc = 0;

    for (size_t i = 0; i < sizeof(guards) / sizeof(guards[0]) && rc == 0; i++) {
        PyObject *owner = PyImport_ImportModule(guards[i].module);
        if (owner != NULL && guards[i].type != NULL)
            Py_SETREF(owner, PyObject_GetAttrString(owner, guards[i].type));
        rc = owner == NULL ? -1 : guard(owner, guards[i].name);
        Py_XDECREF(owner);
    }
    return rc;
}
