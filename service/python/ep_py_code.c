/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_code.h"

#include "ep_etf.h"
#include "ep_hash.h"
#include "ep_layout.h"
#include "ep_py_context_fields.h"
#include "ep_py_decode.h"
#include "ep_py_request.h"
#include "ep_python.h"

/*
 * Source text to code objects. Programs evaluate few texts, so a context keeps the code
 * of those that it met last.
 *
 * Python resolves the names of a nested scope (a lambda, a generator expression) at
 * compile time: as locals of the scopes around it, or else as globals. The names that an
 * eval gets with its request are neither. So an expression that has nested scopes is
 * compiled a second time, as the body of a function that takes those names as its
 * parameters. What cannot be written so, for it assigns names of its own, gets a copy of
 * the globals with the locals in it. All others run as they are.
 */

static PyObject *compile(struct ep_py_context *context, PyObject *source, uint16_t kind)
{
    return kind == EP_KIND_EVAL ? PyObject_CallFunction(context->compile, "OssiO", source, "<eval>",
                                                        "eval", 0, Py_True)
                                : PyObject_CallFunction(context->compile, "OssiO", source, "<exec>",
                                                        "exec", 0, Py_True);
}

/* --- nested scopes ------------------------------------------------------------------ */

static bool has_scopes(PyObject *code)
{
    PyObject *consts = ((PyCodeObject *)code)->co_consts; /* a tuple */

    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(consts); i++) {
        if (PyCode_Check(PyTuple_GET_ITEM(consts, i)))
            return true;
    }
    return false;
}

/* Whether the keys of the dict are these, in this order. */
static bool has_names(PyObject *dict, PyObject *names)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, i = 0;

    if (names == NULL || PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(names))
        return false;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (key != PyTuple_GET_ITEM(names, i++))
            return false;
    }
    return true;
}

/* New: the code of a function whose parameters are those names, or None. */
static PyObject *compile_closed(const uint8_t *data, size_t size, PyObject *names)
{
    PyObject *source = ep_py_decode_text(data, size);
    PyObject *module = source == NULL ? NULL : PyImport_ImportModule("erlang._scopes");
    PyObject *code =
        module == NULL ? NULL : PyObject_CallMethod(module, "close", "OO", source, names);

    Py_XDECREF(module);
    Py_XDECREF(source);
    return code;
}

/* Keeps what can be no parameter out of the locals. */
static int keep_parameters(struct ep_py_request *request, PyObject *closed, PyObject *names)
{
    PyObject *parameters = PyObject_GetAttrString(closed, "co_varnames");
    Py_ssize_t count = ((PyCodeObject *)closed)->co_argcount;
    PyObject *kept = NULL;

    if (parameters == NULL)
        return -1;
    if (count == PyTuple_GET_SIZE(names)) {
        Py_DECREF(parameters);
        return 0;
    }
    kept = PyDict_New();
    for (Py_ssize_t i = 0; i < count && kept != NULL; i++) {
        PyObject *name = PyTuple_GET_ITEM(parameters, i);
        PyObject *value = PyDict_GetItemWithError(request->second, name); /* borrowed */
        if (value == NULL || PyDict_SetItem(kept, name, value) < 0)
            Py_CLEAR(kept);
    }
    Py_DECREF(parameters);
    if (kept == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_SystemError, "a parameter is none of the locals");
    if (kept == NULL)
        return -1;
    Py_SETREF(request->second, kept);
    return 0;
}

/* Makes the request run closed. */
static int use_closed(struct ep_py_request *request, PyObject *closed, PyObject *names)
{
    if (closed == Py_None) {
        request->scopes = EP_PY_SCOPES_MERGED;
        return 0;
    }
    if (keep_parameters(request, closed, names) < 0)
        return -1;
    Py_SETREF(request->first, Py_NewRef(closed));
    request->scopes = EP_PY_SCOPES_CLOSED;
    return 0;
}

static int close_scopes(struct ep_py_request *request, const uint8_t *data, size_t size,
                        struct ep_py_code *entry)
{
    if (entry != NULL && has_names(request->second, entry->names))
        return use_closed(request, entry->closed, entry->names);

    PyObject *code = Py_NewRef(request->first);
    PyObject *names = PySequence_Tuple(request->second);
    PyObject *closed = names == NULL ? NULL : compile_closed(data, size, names);
    int rc = closed == NULL ? -1 : use_closed(request, closed, names);
    /* Python code has run, finalizers among it, and may have used the entry for another. */
    if (rc == 0 && entry != NULL && entry->code == code) {
        Py_XSETREF(entry->names, Py_NewRef(names));
        Py_XSETREF(entry->closed, Py_NewRef(closed));
    }
    Py_XDECREF(closed);
    Py_XDECREF(names);
    Py_DECREF(code);
    return rc;
}

/* --- the cache ------------------------------------------------------------------------ */

void ep_py_code_clear(struct ep_py_code *entry)
{
    Py_CLEAR(entry->code);
    Py_CLEAR(entry->names);
    Py_CLEAR(entry->closed);
}

static PyObject *compile_bytes(struct ep_py_context *context, const uint8_t *data, size_t size,
                               uint16_t kind)
{
    PyObject *source = ep_py_decode_text(data, size);
    PyObject *code = source == NULL ? NULL : compile(context, source, kind);

    Py_XDECREF(source);
    return code;
}

static void keep(struct ep_py_code *entry, const uint8_t *data, size_t size, uint16_t kind,
                 PyObject *code, bool is_nested)
{
    ep_py_code_clear(entry);
    entry->code = Py_NewRef(code);
    entry->has_scopes = is_nested;
    entry->size = (uint16_t)size;
    entry->kind = kind;
    if (size > 0)
        memcpy(entry->bytes, data, size);
}

/* Compiling runs no code of the request, so it may come before the call has started. */
int ep_py_code_decode(struct ep_py_context *context, struct ep_py_request *request,
                      const struct ep_etf_token *token)
{
    const uint8_t *data = token->data;
    size_t size = token->count;
    uint16_t kind = request->kind;
    bool is_nested;

    while (kind == EP_KIND_EVAL && size > 0 && (*data == ' ' || *data == '\t')) {
        data++;
        size--;
    }
    bool is_short = size <= EP_PY_CODE_MAX;
    uint64_t hash = is_short ? ep_hash_bytes(data, size) + kind : 0;
    struct ep_py_code *entry = &context->codes[hash & (EP_PY_CODES - 1)];
    if (is_short && entry->code != NULL && entry->size == size && entry->kind == kind
        && memcmp(entry->bytes, data, size) == 0) {
        request->first = Py_NewRef(entry->code);
        is_nested = entry->has_scopes;
    } else {
        request->first = compile_bytes(context, data, size, kind);
        if (request->first == NULL)
            return -1;
        is_nested = kind == EP_KIND_EVAL && has_scopes(request->first);
        if (is_short)
            keep(entry, data, size, kind, request->first, is_nested);
    }
    return is_nested && request->second != NULL
               ? close_scopes(request, data, size, is_short ? entry : NULL)
               : 0;
}
