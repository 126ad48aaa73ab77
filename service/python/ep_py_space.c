/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_space.h"

#include "ep_py_context_fields.h"
#include "ep_py_request.h"
#include "ep_python.h"

#include <stdatomic.h>

/*
 * What a request runs in: its globals, which __main__ shows, and a context of contextvars.
 *
 * A thread stays in the namespace of its last request: a caller who calls again finds
 * everything in place, and pays for one comparison.
 *
 *   a request ...            contextvars                    __main__
 *   of the same namespace    as they are                    as it is
 *   of another one           leaves those, enters its own   shows its globals
 *   on top of another one    a copy, left at its end        its globals; at its end those of
 *                                                           the request below
 *   in a Python thread       a copy of that thread's        as it is
 *
 * Exchanging the module in sys.modules would take a tenth of the worker's instructions for
 * a small call, where callers take turns. So there is one module, and its dict is exchanged.
 *
 * For the same reason a context of contextvars in which nothing is set is not left: it is
 * the next namespace's. One belongs to a namespace from the moment when there is something
 * in it, or when a request runs on top.
 *
 * A nested request gets a copy since its own may be entered further down, and no context
 * can be entered twice: of the current one, which code below it may have made, if the
 * namespace is the same.
 *
 * Contexts that share the main interpreter run requests at the same time, and there is
 * one sys.modules for all of them. So from the moment a second one comes the interpreter
 * shows its own __main__, for good.
 */

enum part { GLOBALS, VARS, PARTS };

static PyObject *own_main_of_main;     /* __main__ of the main interpreter */
static ep_atomic_u32 contexts_of_main; /* contexts there */
static ep_atomic_u32 is_main_own;      /* there were several: it shows no namespace any more */

/* --- making ------------------------------------------------------------------------- */

static int add_standard_names(struct ep_py_context *context, PyObject *dict)
{
    if (PyDict_SetItemString(dict, "__name__", context->main_name) < 0
        || PyDict_SetItemString(dict, "__builtins__", context->builtins) < 0)
        return -1;
    return PyDict_SetItemString(dict, "erlang", context->erlang);
}

/* What every module has; copied from namespace to namespace. */
static PyObject *first_globals(void)
{
    static const char *const names[] = {"__doc__", "__loader__", "__package__", "__spec__", NULL};
    PyObject *dict = PyDict_New();

    for (const char *const *name = names; *name != NULL && dict != NULL; name++) {
        if (PyDict_SetItemString(dict, *name, Py_None) < 0)
            Py_CLEAR(dict);
    }
    return dict;
}

PyObject *ep_py_space_new(struct ep_py_context *context)
{
    PyObject *space = NULL;
    PyObject *dict =
        context->shared == NULL ? first_globals() : PyDict_Copy(ep_py_space_dict(context->shared));

    if (dict != NULL && add_standard_names(context, dict) == 0)
        space = PyTuple_Pack(PARTS, dict, Py_None);
    Py_XDECREF(dict);
    return space;
}

/* --- __main__ ------------------------------------------------------------------------- */

static void set_main(struct ep_py_context *context, PyObject *module)
{
    if (PyDict_SetItem(PyImport_GetModuleDict(), context->main_name, module) < 0)
        PyErr_WriteUnraisable(module);
}

/* Where a module has its dict, which is what tp_dictoffset says. */
static PyObject **dict_of(PyObject *module)
{
    return (PyObject **)((char *)module + PyModule_Type.tp_dictoffset);
}

/* What one caller's code has done to sys.modules is no other caller's concern. */
static void keep_main(struct ep_py_context *context)
{
    if (context->main == NULL
        || (!context->is_sub && atomic_load_explicit(&is_main_own, memory_order_relaxed) != 0)
        || PyDict_GetItemWithError(PyImport_GetModuleDict(), context->main_name) == context->main)
        return;
    PyErr_Clear();
    set_main(context, context->main);
}

/* Lets __main__ show the namespace that the thread is in. */
static void show(struct ep_py_context *context)
{
    if (context->main == NULL || context->current == NULL)
        return;
    PyObject *dict = ep_py_space_dict(context->current);
#ifdef Py_GIL_DISABLED
    if (PyObject_GenericSetDict(context->main, dict, NULL) < 0)
        PyErr_WriteUnraisable(context->main);
#else
    /* The same without the calls. */
    Py_SETREF(*dict_of(context->main), Py_NewRef(dict));
#endif
}

/* --- contextvars ---------------------------------------------------------------------- */

/* Borrowed; None: nothing was set there. */
static PyObject *vars_of(PyObject *space)
{
    return PyTuple_GET_ITEM(space, VARS);
}

/* SUBTLE: these fail where code of the user has entered a context in C and not left it,
 * and then the request runs in that one, as the rest of that code does. */
static void enter_vars(PyObject *vars)
{
    if (PyContext_Enter(vars) < 0)
        PyErr_Clear();
}

static void leave_vars(PyObject *vars)
{
    if (PyContext_Exit(vars) < 0)
        PyErr_Clear();
}

/* The context that the thread is in becomes that of its namespace, if it has none. */
static void claim_vars(struct ep_py_context *context)
{
    PyObject *none = vars_of(context->current);

    if (none != Py_None)
        return;
    PyTuple_SET_ITEM(context->current, VARS, Py_NewRef(context->vars));
    Py_DECREF(none);
}

static int exchange_vars(struct ep_py_context *context, PyObject *space)
{
    bool has_own = vars_of(space) != Py_None;
    PyObject *vars = has_own ? Py_NewRef(vars_of(space)) : PyContext_New();

    if (vars == NULL)
        return -1;
    claim_vars(context);
    leave_vars(context->vars);
    enter_vars(vars);
    Py_SETREF(context->vars, vars);
    return 0;
}

/* --- a request -------------------------------------------------------------------------- */

/* Whether the context that the thread is in may serve the next namespace, too. */
static bool is_blank(const struct ep_py_context *context, PyObject *space)
{
    return vars_of(space) == Py_None && vars_of(context->current) == Py_None
           && PyMapping_Size(context->vars) == 0;
}

/* Nothing runs on this thread: from here on it is in that namespace. */
static inline int move(struct ep_py_context *context, PyObject *space)
{
    PyObject *former = context->current;

    if (!is_blank(context, space) && exchange_vars(context, space) < 0)
        return -1;
    context->current = Py_NewRef(space);
    keep_main(context);
    show(context);
    Py_XDECREF(former);
    return 0;
}

/* New. */
static PyObject *copy_vars(struct ep_py_context *context, PyObject *space)
{
    if (context->is_guest || space == context->current)
        return PyContext_CopyCurrent();
    return vars_of(space) == Py_None ? PyContext_New() : PyContext_Copy(vars_of(space));
}

static int enter_copy(struct ep_py_context *context, struct ep_py_request *request)
{
    /* The first request on top of another: that one may come back further up. */
    if (context->depth == 2 && !context->is_guest)
        claim_vars(context);
    request->vars = copy_vars(context, request->space);
    if (request->vars == NULL)
        return -1;
    enter_vars(request->vars);
    request->outer = context->current;
    context->current = Py_NewRef(request->space);
    show(context);
    return 0;
}

int ep_py_space_enter_other(struct ep_py_context *context, struct ep_py_request *request)
{
    if (context->depth > 1)
        return enter_copy(context, request);
    return move(context, request->space);
}

void ep_py_space_leave_copy(struct ep_py_context *context, struct ep_py_request *request)
{
    leave_vars(request->vars);
    Py_SETREF(context->current, request->outer);
    request->outer = NULL;
    show(context);
    Py_CLEAR(request->vars);
}

/* --- the life of a context ---------------------------------------------------------------- */

int ep_py_space_start(void)
{
    own_main_of_main = Py_XNewRef(PyImport_AddModule("__main__"));
    return own_main_of_main == NULL ? -1 : 0;
}

/* Whether nobody else runs requests in this interpreter. The one who did is no more shown:
 * nobody could tell when its last request is over. */
static bool is_alone(struct ep_py_context *context)
{
    if (context->is_sub
        || atomic_fetch_add_explicit(&contexts_of_main, 1, memory_order_seq_cst) == 0)
        return true;
    /* Relaxed: who moves at the same time holds the GIL before or after us. */
    atomic_store_explicit(&is_main_own, 1, memory_order_relaxed);
    set_main(context, own_main_of_main);
    return false;
}

int ep_py_space_init(struct ep_py_context *context)
{
    context->own_main =
        Py_XNewRef(context->is_sub ? PyImport_AddModule("__main__") : own_main_of_main);
    if (context->own_main == NULL)
        return -1;
    bool alone = is_alone(context);
    context->shared = ep_py_space_new(context);
    context->vars = PyContext_New();
    if (context->shared == NULL || context->vars == NULL)
        return -1;
    enter_vars(context->vars);
    context->current = Py_NewRef(context->shared);
    if (!alone)
        return 0;
    context->main = PyModule_NewObject(context->main_name);
    if (context->main == NULL)
        return -1;
    if (*dict_of(context->main) != PyModule_GetDict(context->main)) {
        PyErr_SetString(PyExc_SystemError, "this Python keeps the dict of a module elsewhere");
        return -1;
    }
    show(context);
    set_main(context, context->main);
    return 0;
}

void ep_py_space_forget(struct ep_py_context *context, PyObject *space)
{
    if (context->depth == 0 && context->current == space && move(context, context->shared) < 0)
        PyErr_Clear(); /* it stays until the next request moves */
}

void ep_py_space_finish(struct ep_py_context *context)
{
    bool is_guest = context->is_guest;

    if (!is_guest && context->own_main != NULL && !context->is_sub)
        (void)atomic_fetch_sub_explicit(&contexts_of_main, 1, memory_order_seq_cst);
    if (context->main != NULL)
        set_main(context, context->own_main);
    if (context->vars != NULL)
        leave_vars(context->vars);
    Py_CLEAR(context->vars);
    Py_CLEAR(context->current);
    Py_CLEAR(context->main);
    Py_CLEAR(context->shared);
    Py_CLEAR(context->own_main);
}
