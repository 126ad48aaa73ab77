/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_SPACE_H
#define EP_PY_SPACE_H

/*
 * ep_py_space - namespaces: globals and a context of contextvars, in a tuple.
 */

#include "ep_py_context_fields.h"
#include "ep_py_request.h"
#include "ep_python.h"

/* New. */
PyObject *ep_py_space_new(struct ep_py_context *context);

/* Borrowed. */
static inline PyObject *ep_py_space_dict(PyObject *space)
{
    return PyTuple_GET_ITEM(space, 0);
}

/* Before the first context. */
int ep_py_space_start(void);

/* Makes the shared namespace of a new context. */
int ep_py_space_init(struct ep_py_context *context);
void ep_py_space_finish(struct ep_py_context *context);

/* For the two below. */
int ep_py_space_enter_other(struct ep_py_context *context, struct ep_py_request *request);
void ep_py_space_leave_copy(struct ep_py_context *context, struct ep_py_request *request);

/* Enters the namespace of a request, and leaves it; the thread stays there in between. */
static inline int ep_py_space_enter(struct ep_py_context *context, struct ep_py_request *request)
{
    request->has_entered = true;
    return context->depth++ == 0 && context->current == request->space
               ? 0
               : ep_py_space_enter_other(context, request);
}

static inline void ep_py_space_leave(struct ep_py_context *context, struct ep_py_request *request)
{
    if (!request->has_entered)
        return;
    context->depth--;
    if (request->vars != NULL)
        ep_py_space_leave_copy(context, request);
}

/* The namespace is gone: the thread does not stay in it. */
void ep_py_space_forget(struct ep_py_context *context, PyObject *space);

#endif
