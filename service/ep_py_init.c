/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_internal.h"

#include <stdatomic.h>
#include <stdio.h>

#ifndef EP_PYTHON_EXECUTABLE
#define EP_PYTHON_EXECUTABLE ""
#endif

static char module_dir[4096];
static PyThreadState *main_tstate; /* the main thread's place in the main interpreter */
static atomic_bool is_forked;

static void note_fork(void)
{
    /* Relaxed: read by the same, only, thread. */
    atomic_store_explicit(&is_forked, true, memory_order_relaxed);
}

bool ep_py_is_forked(void)
{
    return atomic_load_explicit(&is_forked, memory_order_relaxed);
}

/* --- start ------------------------------------------------------------------------ */

static PyStatus set_up(PyConfig *config, const char *python_path)
{
    char *argv[] = {(char *)""};
    PyPreConfig pre;

    PyPreConfig_InitPythonConfig(&pre);
    pre.utf8_mode = 1;
    PyStatus status = Py_PreInitialize(&pre);
    if (PyStatus_Exception(status))
        return status;
    PyConfig_InitPythonConfig(config);
    config->parse_argv = 0;
    config->install_signal_handlers = 1;
    config->pathconfig_warnings = 0;
    status = PyConfig_SetBytesArgv(config, 1, argv);
    /* Python looks for its library, and for a venv, around the executable. */
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(config, &config->program_name, python_path);
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(config, &config->executable, python_path);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(config);
    return status;
}

/* Makes import erlang work in the current interpreter. */
static int prepare_interpreter(void)
{
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PyObject *dir = PyUnicode_DecodeFSDefault(module_dir);
    int rc = -1;

    if (dir == NULL)
        return -1;
    if (path == NULL || !PyList_Check(path))
        PyErr_SetString(PyExc_RuntimeError, "sys.path is not a list");
    else
        rc = PyList_Insert(path, 0, dir);
    Py_DECREF(dir);
    if (rc < 0)
        return rc;
    PyObject *module = PyImport_ImportModule("erlang._bootstrap");
    Py_XDECREF(module);
    return module == NULL ? -1 : 0;
}

static void say_exception(char *ret_why, size_t why_size)
{
    PyObject *exc = ep_py_error_take();
    PyObject *text = exc == NULL ? NULL : PyObject_Str(exc);
    const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8(text);

    (void)snprintf(ret_why, why_size, "Python does not start: %s: %s",
                   exc == NULL ? "error" : Py_TYPE(exc)->tp_name, utf8 == NULL ? "" : utf8);
    Py_XDECREF(text);
    Py_XDECREF(exc);
    PyErr_Clear();
}

int ep_py_start(const char *python_path, const char *module_path, char *ret_why, size_t why_size)
{
    PyConfig config;

    (void)snprintf(module_dir, sizeof(module_dir), "%s", module_path);
    if (python_path[0] == '\0')
        python_path = EP_PYTHON_EXECUTABLE;
    if (PyImport_AppendInittab("_erlang", ep_py_module_init) < 0
        || pthread_atfork(NULL, NULL, note_fork) != 0) {
        (void)snprintf(ret_why, why_size, "no memory");
        return -1;
    }
    PyStatus status = set_up(&config, python_path);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        (void)snprintf(ret_why, why_size, "Python does not start: %s",
                       status.err_msg == NULL ? "it asked to exit" : status.err_msg);
        return -1;
    }
    if (prepare_interpreter() < 0) {
        say_exception(ret_why, why_size);
        return -1;
    }
    main_tstate = PyEval_SaveThread();
    return 0;
}

void ep_py_describe(struct ep_buf *buf)
{
    const char *version = Py_GetVersion();
    size_t size = strlen(version);

    ep_etf_put_int(buf, (int64_t)getpid());
    ep_etf_put_binary(buf, version, size < 120 ? size : 120);
#if PY_VERSION_HEX >= 0x030C0000
    ep_etf_put_atom(buf, "true", 4);
#else
    ep_etf_put_atom(buf, "false", 5);
#endif
#ifdef Py_GIL_DISABLED
    ep_etf_put_atom(buf, "true", 4);
#else
    ep_etf_put_atom(buf, "false", 5);
#endif
}

/* --- the thread's place in an interpreter -------------------------------------------- */

static PyThreadState *enter_main(bool is_main_thread)
{
    PyThreadState *tstate =
        is_main_thread ? main_tstate : PyThreadState_New(PyInterpreterState_Main());

    if (tstate != NULL)
        PyEval_RestoreThread(tstate);
    return tstate;
}

static void leave_main(PyThreadState *tstate)
{
    if (tstate == main_tstate) {
        (void)PyEval_SaveThread();
    } else {
        PyThreadState_Clear(tstate);
        PyThreadState_DeleteCurrent();
    }
}

#if PY_VERSION_HEX >= 0x030C0000
/* Interpreters begin and end one at a time: parts of Python's own start-up are
 * shared. Never taken by a thread that is attached. */
static pthread_mutex_t interpreters = PTHREAD_MUTEX_INITIALIZER;

static PyThreadState *new_interpreter(const char **ret_why)
{
    /* fork() in a sub-interpreter ends the child in a fatal error, so it is
     * refused; subprocess works without it. */
    PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 1,
        .allow_threads = 1,
        .allow_daemon_threads = 1,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *tstate = NULL;

    PyStatus status = Py_NewInterpreterFromConfig(&tstate, &config);
    if (PyStatus_Exception(status)) {
        *ret_why = status.err_msg == NULL ? "it asked to exit" : status.err_msg;
        return NULL;
    }
    return tstate;
}

/* Whether it ended. One with threads left cannot: Py_EndInterpreter() would end
 * the process. It stays behind until the process ends. */
static void end_interpreter(PyThreadState *tstate)
{
    PyInterpreterState *interp = PyThreadState_GetInterpreter(tstate);

    if (PyInterpreterState_ThreadHead(interp) == tstate && PyThreadState_Next(tstate) == NULL)
        Py_EndInterpreter(tstate);
    else
        (void)PyEval_SaveThread();
}
#endif

static PyThreadState *enter_sub(struct ep_py_context *context, const char **ret_why)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)pthread_mutex_lock(&interpreters);
    context->outer = enter_main(context->is_main_thread);
    PyThreadState *tstate = context->outer == NULL ? NULL : new_interpreter(ret_why);
    if (tstate == NULL && context->outer != NULL)
        leave_main(context->outer);
    (void)pthread_mutex_unlock(&interpreters);
    context->is_sub = true;
    return tstate;
#else
    static char why[200];

    (void)context;
    (void)snprintf(why, sizeof(why), "owngil needs Python 3.12 or newer, this is %.100s",
                   Py_GetVersion());
    *ret_why = why;
    return NULL;
#endif
}

static void leave(struct ep_py_context *context)
{
    if (!context->is_sub) {
        leave_main(context->tstate);
        return;
    }
#if PY_VERSION_HEX >= 0x030C0000
    (void)PyEval_SaveThread();
    (void)pthread_mutex_lock(&interpreters);
    PyEval_RestoreThread(context->tstate);
    end_interpreter(context->tstate);
    PyEval_RestoreThread(context->outer);
    leave_main(context->outer);
    (void)pthread_mutex_unlock(&interpreters);
#endif
}

/* --- context ------------------------------------------------------------------------ */

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
    context->shared = ep_py_env_new_shared(context);
    context->envs = ep_py_envs_create();
    return context->compile == NULL || context->shared == NULL || context->envs == NULL ? -1 : 0;
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
        Py_CLEAR(context->codes[i].code);
    Py_CLEAR(context->shared);
    Py_CLEAR(context->erlang);
    Py_CLEAR(context->builtins);
    Py_CLEAR(context->compile);
    Py_CLEAR(context->main_name);
    Py_CLEAR(context->breath);
}

void ep_py_put_error(struct ep_buf *error, const char *type, const char *why)
{
    ep_etf_put_binary(error, type, strlen(type));
    ep_etf_put_binary(error, why, strlen(why));
    ep_etf_put_atom(error, "nil", 3);
}

struct ep_py_context *ep_py_context_create(uint32_t mode, bool is_main_thread, struct ep_buf *error)
{
    const char *why = "no thread state";
    struct ep_py_reply unused;

    struct ep_py_context *context = PyMem_RawCalloc(1, sizeof(*context));
    if (context == NULL) {
        ep_py_put_error(error, "MemoryError", "no memory for a context");
        return NULL;
    }
    context->is_main_thread = is_main_thread;
    context->thread_id = PyThread_get_thread_ident();
    context->tstate =
        mode == EP_MODE_OWNGIL ? enter_sub(context, &why) : enter_main(is_main_thread);
    if (context->tstate == NULL) {
        ep_py_put_error(error, "RuntimeError", why);
        goto free_context;
    }
    context->interp = PyThreadState_GetInterpreter(context->tstate);
    if ((context->is_sub && prepare_interpreter() < 0) || fill(context) < 0) {
        ep_py_error_encode(error, 0, NULL, NULL, &unused);
        goto leave_interpreter;
    }
    return context;

leave_interpreter:
    empty(context);
    leave(context);
free_context:
    PyMem_RawFree(context);
    return NULL;
}

struct ep_py_context *ep_py_guest_create(const struct ep_py_context *host)
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
    guest->erlang = Py_NewRef(host->erlang);
    guest->builtins = Py_NewRef(host->builtins);
    guest->compile = Py_NewRef(host->compile);
    guest->main_name = Py_NewRef(host->main_name);
    guest->codec.types = host->codec.types;
    guest->envs = ep_py_envs_ref(host->envs);
    return guest;
}

void ep_py_guest_destroy(struct ep_py_context *guest)
{
    if (guest == NULL)
        return;
    empty(guest);
    PyMem_RawFree(guest);
}

void *ep_py_thread_detach(void)
{
    return PyEval_SaveThread();
}

void ep_py_thread_attach(void *thread)
{
    PyEval_RestoreThread(thread);
}

bool ep_py_context_is_here(const struct ep_py_context *context)
{
    return context->interp == PyInterpreterState_Get();
}

void ep_py_context_destroy(struct ep_py_context *context)
{
    if (context->is_sub)
        ep_py_run_atexit(context);
    empty(context);
    /* Namespaces are cycles of functions and the dict they live in. */
    (void)PyGC_Collect();
    PyErr_Clear();
    leave(context);
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

bool ep_py_context_is_alone(const struct ep_py_context *context)
{
    return PyInterpreterState_ThreadHead(context->interp) == context->tstate
           && PyThreadState_Next(context->tstate) == NULL;
}

void ep_py_context_breathe(struct ep_py_context *context)
{
    PyObject *none = PyEval_EvalCode(context->breath, context->shared, context->shared);

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
    ep_py_env_drop(context->envs, env_id);
}

/* --- end ------------------------------------------------------------------------------ */

static void flush(const char *stream)
{
    PyObject *file = PySys_GetObject(stream); /* borrowed */
    PyObject *none =
        file == NULL || file == Py_None ? NULL : PyObject_CallMethod(file, "flush", NULL);
    Py_XDECREF(none);
    PyErr_Clear();
}

void ep_py_run_atexit(struct ep_py_context *context)
{
    if (context == NULL)
        PyEval_RestoreThread(main_tstate);
    else if (!context->is_sub)
        return; /* the main interpreter goes on without this context */

    PyObject *module = PyImport_ImportModule("atexit");
    PyObject *none = module == NULL ? NULL : PyObject_CallMethod(module, "_run_exitfuncs", NULL);
    if (none == NULL)
        PyErr_WriteUnraisable(module);
    Py_XDECREF(none);
    Py_XDECREF(module);
    flush("stdout");
    flush("stderr");
    if (context == NULL)
        (void)PyEval_SaveThread();
}
