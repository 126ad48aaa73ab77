/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_frame.h"

#include "ep_py_context_fields.h"
#include "ep_python.h"

/*
 * The frame below all calls of a thread. Code that looks at its caller, as inspect,
 * logging, warnings and namedtuple do, fails if there is none, which is so for a function
 * that C calls. So the thread's loop is itself called by Python code, once: a call costs
 * nothing more for it.
 *
 * Its globals belong to nobody. What would write to them is given others
 * (ep_py_builtin.c).
 */

#define CAPSULE "erlang loop"
#define TRIES 100

struct base {
    void (*loop)(void *user);
    void *user;
    PyObject *globals; /* borrowed */
    bool has_run;
};

static PyObject *run_loop(PyObject *capsule, PyObject *unused)
{
    struct base *base = PyCapsule_GetPointer(capsule, CAPSULE);

    (void)unused;
    /* No code of the user's finds the way here again. */
    if (base == NULL || base->has_run || PyDict_DelItemString(base->globals, "loop") < 0)
        return NULL;
    base->has_run = true;
    base->loop(base->user);
    return Py_NewRef(Py_None);
}

static PyMethodDef loop_method = {"loop", run_loop, METH_NOARGS, NULL};

/* New: the globals, with the loop under its name. */
static PyObject *make_globals(struct ep_py_context *context, struct base *base)
{
    PyObject *capsule = PyCapsule_New(base, CAPSULE, NULL);
    PyObject *loop = capsule == NULL ? NULL : PyCFunction_New(&loop_method, capsule);
    PyObject *globals = loop == NULL ? NULL : PyDict_New();

    if (globals != NULL
        && (PyDict_SetItemString(globals, "__name__", context->main_name) < 0
            || PyDict_SetItemString(globals, "__builtins__", context->builtins) < 0
            || PyDict_SetItemString(globals, "loop", loop) < 0))
        Py_CLEAR(globals);
    Py_XDECREF(loop);
    Py_XDECREF(capsule);
    return globals;
}

static void try_run(struct ep_py_context *context, struct base *base)
{
    PyObject *code = Py_CompileString("loop()", "<erlang>", Py_file_input);
    PyObject *globals = code == NULL ? NULL : make_globals(context, base);
    PyObject *none = NULL;

    base->globals = globals;
    if (globals != NULL)
        none = PyEval_EvalCode(code, globals, globals);
    /* On the way in and out of the frame Python looks at its signals. Between requests
     * nobody can catch what a handler raises. */
    if (none == NULL && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        PyErr_Clear();
    else if (none == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(none);
    Py_XDECREF(globals);
    Py_XDECREF(code);
}

void ep_py_frame_run(struct ep_py_context *context, void (*loop)(void *user), void *user)
{
    struct base base = {.loop = loop, .user = user};

    for (int i = 0; i < TRIES && !base.has_run; i++)
        try_run(context, &base);
    /* Without memory, say: requests without a frame below are better than none. */
    if (!base.has_run)
        loop(user);
}
