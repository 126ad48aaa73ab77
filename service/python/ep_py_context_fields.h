/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_CONTEXT_FIELDS_H
#define EP_PY_CONTEXT_FIELDS_H

/*
 * ep_py_context_fields - a context as the files of this room see it.
 */

#include "ep_py_code.h"
#include "ep_py_codec.h"
#include "ep_py_context.h"
#include "ep_py_env.h"
#include "ep_py_target.h"
#include "ep_python.h"

struct ep_py_context {
    PyInterpreterState *interp;
    PyThreadState *tstate;
    PyThreadState *outer; /* owngil: the thread's place in the main interpreter */
    unsigned long thread_id;
    _Atomic(const struct ep_py_sleeper *) sleeper; /* or NULL */
    bool is_main_thread;
    bool is_sub;   /* has an interpreter of its own */
    bool is_guest; /* see ep_py_context_create_guest() */

    PyObject *shared;   /* namespace 0 */
    PyObject *current;  /* the namespace that the thread is in; a guest's: NULL in between */
    PyObject *vars;     /* the context of contextvars that it is in below all requests */
    PyObject *main;     /* what sys.modules has as __main__, or NULL: not ours */
    PyObject *own_main; /* __main__ of the interpreter itself */
    unsigned depth;     /* requests that run on top of each other */
    PyObject *erlang;
    PyObject *builtins;
    PyObject *compile;
    PyObject *main_name; /* '__main__' */
    PyObject *breath;    /* a code object that does nothing */
    struct ep_py_codec codec;
    struct ep_py_envs *envs;
    struct ep_py_target targets[1 << EP_PY_TARGETS_LOG2];
    struct ep_py_code codes[EP_PY_CODES];
};

#endif
