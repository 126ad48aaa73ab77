/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_end.h"

#include "ep_cpu.h"
#include "ep_py_exception.h"
#include "ep_python.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/*
 * The end of an interpreter, of a forked child, of the process: in the order of Python's own
 * exit, threads first, then the exit functions, then the streams. The steps in Python are in
 * erlang._end.
 */

/* Runs a function of erlang._end; what it raises is reported. */
static void run_step(const char *name, PyObject *arg)
{
    PyObject *module = PyImport_ImportModule("erlang._end");
    PyObject *function = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    PyObject *none = function == NULL ? NULL
                     : arg == NULL    ? PyObject_CallNoArgs(function)
                                      : PyObject_CallOneArg(function, arg);

    if (none == NULL)
        PyErr_WriteUnraisable(function);
    Py_XDECREF(none);
    Py_XDECREF(function);
    Py_XDECREF(module);
}

static void flush(const char *stream)
{
    PyObject *file = PySys_GetObject(stream); /* borrowed */
    PyObject *none =
        file == NULL || file == Py_None ? NULL : PyObject_CallMethod(file, "flush", NULL);
    Py_XDECREF(none);
    PyErr_Clear();
}

/* seconds: new, taken. */
static void run_steps(PyObject *seconds)
{
    if (seconds == NULL)
        PyErr_Clear();
    else
        run_step("wait_for_threads", seconds);
    Py_XDECREF(seconds);
    run_step("run_exit_functions", NULL);
    flush("stdout");
    flush("stderr");
}

void ep_py_end_interpreter(uint64_t until_ns)
{
    uint64_t now = ep_clock_ns();

    run_steps(PyFloat_FromDouble(until_ns > now ? (double)(until_ns - now) / 1e9 : 0.0));
}

void ep_py_end_adopt_thread(void)
{
    run_step("adopt_thread", NULL);
}

void ep_py_end_thread(void)
{
    run_step("forget_thread", NULL);
}

/* --- a forked child ------------------------------------------------------------------- */

/* The status that SystemExit asks for. What is no number goes to stderr. */
static int exit_status(PyObject *exc)
{
    PyObject *code = PyObject_GetAttrString(exc, "code");
    int status = 1;

    if (code == NULL || code == Py_None) {
        status = 0;
    } else if (PyLong_Check(code)) {
        status = (int)PyLong_AsLong(code);
    } else {
        PyObject *file = PySys_GetObject("stderr"); /* borrowed */
        if (file != NULL && file != Py_None) {
            (void)PyFile_WriteObject(code, file, Py_PRINT_RAW);
            (void)PyFile_WriteString("\n", file);
        }
    }
    Py_XDECREF(code);
    PyErr_Clear();
    return status;
}

/* Reports the exception that is set, as Python does for one that nobody catches. */
static int report(bool *ret_by_sigint)
{
    int status = 1;

    *ret_by_sigint = false;
    if (!PyErr_Occurred())
        return 0;
    PyObject *exc = ep_py_exception_take();
    if (exc != NULL && PyErr_GivenExceptionMatches(exc, PyExc_SystemExit)) {
        status = exit_status(exc);
        Py_DECREF(exc);
        return status;
    }
    *ret_by_sigint = exc != NULL && PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt);
    ep_py_exception_restore(exc);
    PyErr_Print();
    return status;
}

void ep_py_end_forked(void)
{
    bool by_sigint;

    int status = report(&by_sigint);
    run_steps(Py_NewRef(Py_None));
    (void)fflush(NULL);
    if (by_sigint) {
        (void)signal(SIGINT, SIG_DFL);
        (void)raise(SIGINT);
    }
    _exit(status);
}
