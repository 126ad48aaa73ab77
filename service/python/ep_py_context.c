/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_context.h"

#include "ep_buf.h"
#include "ep_cpu.h"
#include "ep_layout.h"
#include "ep_py_code.h"
#include "ep_py_context_fields.h"
#include "ep_py_end.h"
#include "ep_py_env.h"
#include "ep_py_error.h"
#include "ep_py_interp.h"
#include "ep_py_module.h"
#include "ep_py_space.h"
#include "ep_py_target.h"
#include "ep_python.h"

#include <stdatomic.h>

/* How long a context that stops waits for the threads of its interpreter. */
#define THREADS_LIMIT_NS UINT64_C(3000000000)

static int fill(struct ep_py_context *context)
{
    PyObject *module = PyImport_ImportModule("_erlang");
    if (module == NULL)
        return -1;
    int rc = ep_py_module_types(module, &context->codec.types);
    Py_DECREF(module);
    if (rc < 0)
        return rc;

    context->main_name = PyUnicode_InternFromString("__main__");
    context->erlang = PyImport_ImportModule("erlang");
    context->builtins = PyImport_ImportModule("builtins");
    context->breath = Py_CompileString("None", "<breath>", Py_eval_input);
    if (context->main_name == NULL || context->erlang == NULL || context->builtins == NULL
        || context->breath == NULL)
        return -1;
    context->compile = PyObject_GetAttrString(context->builtins, "compile");
    context->envs = ep_py_envs_create();
    if (context->compile == NULL || context->envs == NULL)
        return -1;
    return ep_py_space_init(context);
}

static void empty(struct ep_py_context *context)
{
    if (context->envs != NULL && !context->is_guest)
        ep_py_env_clear(context->envs);
    ep_py_envs_unref(context->envs);
    context->envs = NULL;
    for (size_t i = 0; i < 1 << EP_PY_TARGETS_LOG2; i++)
        ep_py_target_clear(&context->targets[i]);
    for (size_t i = 0; i < EP_PY_CODES; i++)
        ep_py_code_clear(&context->codes[i]);
    ep_py_space_finish(context);
    Py_CLEAR(context->erlang);
    Py_CLEAR(context->builtins);
    Py_CLEAR(context->compile);
    Py_CLEAR(context->main_name);
    Py_CLEAR(context->breath);
}

struct ep_py_context *ep_py_context_create(uint32_t mode, bool is_main_thread, struct ep_buf *error)
{
    const char *why = "no thread state";
    struct ep_py_reply unused;

    struct ep_py_context *context = PyMem_RawCalloc(1, sizeof(*context));
    if (context == NULL) {
        ep_py_error_put(error, "MemoryError", "no memory for a context");
        return NULL;
    }
    context->is_main_thread = is_main_thread;
    context->thread_id = PyThread_get_thread_ident();
    context->tstate = mode == EP_MODE_OWNGIL ? ep_py_interp_enter_sub(context, &why)
                                             : ep_py_interp_enter_main(is_main_thread);
    if (context->tstate == NULL) {
        ep_py_error_put(error, "RuntimeError", why);
        goto free_context;
    }
    context->interp = PyThreadState_GetInterpreter(context->tstate);
    if ((context->is_sub && ep_py_interp_prepare() < 0) || fill(context) < 0) {
        ep_py_error_encode(error, 0, NULL, NULL, &unused);
        goto leave_interpreter;
    }
    ep_py_end_adopt_thread();
    return context;

leave_interpreter:
    empty(context);
    ep_py_interp_leave(context);
free_context:
    PyMem_RawFree(context);
    return NULL;
}

struct ep_py_context *ep_py_context_create_guest(const struct ep_py_context *host)
{
    struct ep_py_context *guest = PyMem_RawCalloc(1, sizeof(*guest));

    if (guest == NULL)
        return NULL;
    guest->interp = host->interp;
    guest->tstate = PyThreadState_Get();
    guest->thread_id = PyThread_get_thread_ident();
    guest->is_sub = host->is_sub;
    guest->is_guest = true;
    guest->shared = Py_NewRef(host->shared);
    guest->own_main = Py_NewRef(host->own_main);
    guest->depth = 1; /* its requests run on top of the thread's own code */
    guest->erlang = Py_NewRef(host->erlang);
    guest->builtins = Py_NewRef(host->builtins);
    guest->compile = Py_NewRef(host->compile);
    guest->main_name = Py_NewRef(host->main_name);
    guest->codec.types = host->codec.types;
    guest->envs = ep_py_envs_ref(host->envs);
    return guest;
}

void ep_py_context_destroy_guest(struct ep_py_context *guest)
{
    if (guest == NULL)
        return;
    empty(guest);
    PyMem_RawFree(guest);
}

void *ep_py_context_detach_thread(void)
{
    return PyEval_SaveThread();
}

void ep_py_context_attach_thread(void *thread)
{
    PyEval_RestoreThread(thread);
}

bool ep_py_context_is_here(const struct ep_py_context *context)
{
    return context->interp == PyInterpreterState_Get();
}

void *ep_py_context_interpreter(const struct ep_py_context *context)
{
    return context->interp;
}

bool ep_py_context_owns_interpreter(const struct ep_py_context *context)
{
    return context->is_sub;
}

void ep_py_context_destroy(struct ep_py_context *context)
{
    ep_py_context_run_exit(context, ep_clock_ns() + THREADS_LIMIT_NS);
    empty(context);
    /* Namespaces are cycles of functions and the dict they live in. */
    (void)PyGC_Collect();
    PyErr_Clear();
    ep_py_end_thread();
    ep_py_interp_leave(context);
    PyMem_RawFree(context);
}

void ep_py_context_attach(struct ep_py_context *context)
{
    PyEval_RestoreThread(context->tstate);
}

void ep_py_context_detach(struct ep_py_context *context)
{
    (void)context;
    (void)PyEval_SaveThread();
}

#ifndef Py_GIL_DISABLED
/* Whether of two threads one is the context's, and the other one sleeps. */
static bool has_sleeper(const struct ep_py_context *context, const PyThreadState *other)
{
    /* Acquire: pairs with the release in ep_py_context_set_sleeper(). */
    const struct ep_py_sleeper *sleeper =
        atomic_load_explicit(&context->sleeper, memory_order_acquire);

    /* Relaxed: a thread that is just waking waits as it would for any request. */
    return sleeper != NULL
           && atomic_load_explicit(&sleeper->tstate, memory_order_relaxed)
                  == (uint64_t)(uintptr_t)other
           && atomic_load_explicit(&sleeper->is_awake, memory_order_relaxed) == 0;
}

#endif

bool ep_py_context_is_alone(const struct ep_py_context *context)
{
#ifdef Py_GIL_DISABLED
    /* There is no GIL to keep; and another thread's state may go while it is looked at. */
    return PyInterpreterState_ThreadHead(context->interp) == context->tstate
           && PyThreadState_Next(context->tstate) == NULL;
#else
    PyThreadState *first = PyInterpreterState_ThreadHead(context->interp);
    PyThreadState *second = PyThreadState_Next(first);

    if (second == NULL)
        return first == context->tstate;
    if (PyThreadState_Next(second) != NULL)
        return false;
    return first == context->tstate ? has_sleeper(context, second)
                                    : second == context->tstate && has_sleeper(context, first);
#endif
}

void ep_py_context_set_sleeper(struct ep_py_context *context, const struct ep_py_sleeper *sleeper)
{
    atomic_store_explicit(&context->sleeper, sleeper, memory_order_release);
}

void ep_py_context_breathe(struct ep_py_context *context)
{
    PyObject *dict = ep_py_space_dict(context->shared);
    PyObject *none = PyEval_EvalCode(context->breath, dict, dict);

    if (none == NULL) {
        /* A signal handler raised. Between requests nobody can catch it. */
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
            PyErr_Clear();
        else
            PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(none);
}

void ep_py_context_drop_env(struct ep_py_context *context, uint64_t env_id)
{
    PyObject *space = ep_py_env_drop(context->envs, env_id);

    if (space != NULL)
        ep_py_space_forget(context, space);
    Py_XDECREF(space);
}

void ep_py_context_run_exit(struct ep_py_context *context, uint64_t until_ns)
{
    PyThreadState *tstate = NULL;

    if (context == NULL)
        tstate = ep_py_interp_enter_main(true);
    else if (!context->is_sub)
        return; /* the main interpreter goes on without this context */
    ep_py_end_interpreter(until_ns);
    if (context == NULL)
        ep_py_interp_leave_main(tstate);
}
