/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_BUILTIN_H
#define EP_PY_BUILTIN_H

/*
 * ep_py_builtin - functions of builtins that look at the frame of their caller.
 */

#include "ep_py_context_fields.h"
#include "ep_python.h"

struct ep_py_request;

#define EP_PY_TWO(a, b) ((a) << 8 | (b))

/* Whether the function is of those that may ask for the globals of their caller: dir, eval,
 * exec, globals, locals, vars, and few whose names begin like theirs. */
static inline bool ep_py_builtin_is(const struct ep_py_context *context, PyObject *function)
{
    if (!PyCFunction_CheckExact(function) || PyCFunction_GET_SELF(function) != context->builtins)
        return false;
    const char *name = ((PyCFunctionObject *)function)->m_ml->ml_name;
    switch (EP_PY_TWO(name[0], name[1])) {
    case EP_PY_TWO('d', 'i'):
    case EP_PY_TWO('e', 'v'):
    case EP_PY_TWO('e', 'x'):
    case EP_PY_TWO('g', 'l'):
    case EP_PY_TWO('l', 'o'):
    case EP_PY_TWO('v', 'a'): return true;
    default: return false;
    }
}

/* Calls it; the request's globals are those of its caller. New. */
PyObject *ep_py_builtin_call(struct ep_py_request *request, PyObject *function);

#endif
