/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_builtin.h"

#include "ep_py_request.h"
#include "ep_python.h"

/*
 * Functions of builtins that look at the frame of their caller. There is one frame below
 * all calls of a thread (ep_py_frame.c), so what they found there would be everybody's,
 * and below a nested call it would be some function of the user's. They get the globals
 * of the request instead, as if the top level of its namespace had called them.
 */

enum reader { READS_NOTHING, TAKES_GLOBALS, RETURNS_GLOBALS, RETURNS_NAMES };

static enum reader reader_of(PyObject *function)
{
    static const struct {
        const char *name;
        enum reader reader;
    } readers[] = {
        {"eval", TAKES_GLOBALS},     {"exec", TAKES_GLOBALS},   {"globals", RETURNS_GLOBALS},
        {"locals", RETURNS_GLOBALS}, {"vars", RETURNS_GLOBALS}, {"dir", RETURNS_NAMES},
    };
    const char *name = ((PyCFunctionObject *)function)->m_ml->ml_name;

    for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
        if (strcmp(name, readers[i].name) == 0)
            return readers[i].reader;
    }
    return READS_NOTHING;
}

/* --- eval, exec --------------------------------------------------------------------- */

/* Keyword arguments as a dict. New. */
static PyObject *keywords_of(const struct ep_py_request *request)
{
    PyObject *dict = PyDict_New();
    size_t n = request->n_all - request->n_args;

    for (size_t i = 0; i < n && dict != NULL; i++) {
        if (PyDict_SetItem(dict, PyTuple_GET_ITEM(request->kwnames, (Py_ssize_t)i),
                           request->args[request->n_args + i])
            < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

/* Puts the globals where the caller gave none. */
static PyObject *positional_of(const struct ep_py_request *request, PyObject *keywords)
{
    PyObject *by_name = PyDict_GetItemString(keywords, "globals"); /* borrowed */
    size_t n = request->n_args;
    bool is_missing = n == 1 && by_name == NULL;
    PyObject *tuple = PyTuple_New((Py_ssize_t)(is_missing ? 2 : n));

    if (tuple == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        PyObject *value = i == 1 && request->args[i] == Py_None ? request->env : request->args[i];
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, Py_NewRef(value));
    }
    if (is_missing)
        PyTuple_SET_ITEM(tuple, 1, Py_NewRef(request->env));
    if (n == 1 && by_name == Py_None && PyDict_SetItemString(keywords, "globals", request->env) < 0)
        Py_CLEAR(tuple);
    return tuple;
}

static PyObject *call_with_globals(struct ep_py_request *request, PyObject *function)
{
    PyObject *keywords = keywords_of(request);
    PyObject *positional = keywords == NULL ? NULL : positional_of(request, keywords);
    PyObject *result = positional == NULL ? NULL : PyObject_Call(function, positional, keywords);

    Py_XDECREF(positional);
    Py_XDECREF(keywords);
    return result;
}

/* --- dir ------------------------------------------------------------------------------ */

static PyObject *sorted_names(PyObject *dict)
{
    PyObject *names = PyDict_Keys(dict);

    if (names != NULL && PyList_Sort(names) < 0)
        Py_CLEAR(names);
    return names;
}

PyObject *ep_py_builtin_call(struct ep_py_request *request, PyObject *function)
{
    enum reader reader = reader_of(function);

    if (reader == TAKES_GLOBALS)
        return call_with_globals(request, function);
    /* Without arguments: the names around them. */
    if (reader == READS_NOTHING || request->n_all > 0)
        return PyObject_Vectorcall(function, request->args,
                                   request->n_args | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                   request->kwnames);
    return reader == RETURNS_NAMES ? sorted_names(request->env) : Py_NewRef(request->env);
}
