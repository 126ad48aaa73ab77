/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_zygote.h"

#include "ep_py_exception.h"
#include "ep_py_interp.h"
#include "ep_py_start.h"
#include "ep_python.h"

#include <stdio.h>
#include <string.h>

static PyThreadState *main_tstate;

void ep_py_zygote_attach(void)
{
    main_tstate = ep_py_interp_enter_main(true);
}

/* Calls a function of erlang._zygote; NULL and an exception on failure. */
static PyObject *call(const char *name, PyObject *arg)
{
    PyObject *module = PyImport_ImportModule("erlang._zygote");
    PyObject *function = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    PyObject *result = function == NULL ? NULL
                       : arg == NULL    ? PyObject_CallNoArgs(function)
                                        : PyObject_CallOneArg(function, arg);

    Py_XDECREF(function);
    Py_XDECREF(module);
    return result;
}

static PyObject *make_strings(const char *strings, size_t size)
{
    PyObject *list = PyList_New(0);

    for (size_t at = 0; list != NULL && at < size; at += strlen(strings + at) + 1) {
        PyObject *text = PyBytes_FromString(strings + at);
        if (text == NULL || PyList_Append(list, text) < 0)
            Py_CLEAR(list);
        Py_XDECREF(text);
    }
    return list;
}

int ep_py_zygote_prepare(const char *strings, size_t size, char *ret_why, size_t why_size)
{
    PyObject *list = make_strings(strings, size);
    PyObject *result = list == NULL ? NULL : call("prepare", list);

    Py_XDECREF(list);
    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    PyObject *exc = ep_py_exception_take();
    PyObject *text = exc == NULL ? NULL : PyObject_Str(exc);
    const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    (void)snprintf(ret_why, why_size, "nothing can be forked: %s: %.500s",
                   exc == NULL ? "error" : Py_TYPE(exc)->tp_name, utf8 == NULL ? "" : utf8);
    Py_XDECREF(text);
    Py_XDECREF(exc);
    PyErr_Clear();
    return -1;
}

void ep_py_zygote_before_fork(void)
{
    PyOS_BeforeFork();
}

void ep_py_zygote_after_fork(void)
{
    PyOS_AfterFork_Parent();
}

void ep_py_zygote_in_child(void)
{
    PyOS_AfterFork_Child();
}

bool ep_py_zygote_try(void)
{
    PyObject *result = call("try_out", NULL);

    if (result == NULL)
        PyErr_Print();
    bool is_good = result != NULL && PyObject_IsTrue(result) == 1;
    Py_XDECREF(result);
    return is_good;
}

void ep_py_zygote_become_worker(void)
{
    ep_py_start_again();
    PyObject *result = call("become_worker", NULL);
    if (result == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(result);
    ep_py_interp_leave_main(main_tstate);
}
