/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_interp.h"

#include "ep_py_context_fields.h"
#include "ep_py_import.h"
#include "ep_python.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

/* A thread that has been waited for is still there for a moment: so many looks, 1 ms apart. */
#define LAST_LOOKS 100

static char module_dir[4096];
static PyThreadState *main_tstate; /* the main thread's place in the main interpreter */

void ep_py_interp_set_modules(const char *module_path)
{
    (void)snprintf(module_dir, sizeof(module_dir), "%s", module_path);
}

int ep_py_interp_prepare(void)
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
    return module == NULL ? -1 : ep_py_import_guard();
}

/* --- the main interpreter ----------------------------------------------------------------- */

void ep_py_interp_leave_first(void)
{
    main_tstate = PyEval_SaveThread();
}

PyThreadState *ep_py_interp_enter_main(bool is_main_thread)
{
    PyThreadState *tstate =
        is_main_thread ? main_tstate : PyThreadState_New(PyInterpreterState_Main());

    if (tstate != NULL)
        PyEval_RestoreThread(tstate);
    return tstate;
}

void ep_py_interp_leave_main(PyThreadState *tstate)
{
    if (tstate == main_tstate) {
        (void)PyEval_SaveThread();
    } else {
        PyThreadState_Clear(tstate);
        PyThreadState_DeleteCurrent();
    }
}

/* --- interpreters of their own -------------------------------------------------------- */

#if PY_VERSION_HEX >= 0x030C0000
/* Interpreters begin and end one at a time: parts of Python's own start-up are
 * shared. Never taken by a thread that is attached. */
static pthread_mutex_t interpreters = PTHREAD_MUTEX_INITIALIZER;

/* Types of these belong to the whole process, but are taken down with the interpreter that
 * loaded them first, and the next to end takes them down again: unless that is the main one.
 * Found by loading each module of the standard library into two interpreters and ending both. */
static void load_what_is_shared(void)
{
#if PY_VERSION_HEX < 0x030D0000
    static const char *const names[] = {"_datetime", "_decimal"};
#elif PY_VERSION_HEX < 0x030E0000
    static const char *const names[] = {"_datetime"};
#else
    static const char *const names[] = {NULL};
#endif
    static bool is_done;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !is_done; i++) {
        PyObject *module = names[i] == NULL ? NULL : PyImport_ImportModule(names[i]);
        Py_XDECREF(module);
        PyErr_Clear(); /* a Python without it needs nothing */
    }
    is_done = true;
}

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

    load_what_is_shared();
    PyStatus status = Py_NewInterpreterFromConfig(&tstate, &config);
    if (PyStatus_Exception(status)) {
        *ret_why = status.err_msg == NULL ? "it asked to exit" : status.err_msg;
        return NULL;
    }
    return tstate;
}

static bool is_last_thread(PyThreadState *tstate)
{
    PyInterpreterState *interp = PyThreadState_GetInterpreter(tstate);

    return PyInterpreterState_ThreadHead(interp) == tstate && PyThreadState_Next(tstate) == NULL;
}

static void wait_for_last_threads(PyThreadState *tstate)
{
    struct timespec pause = {.tv_nsec = 1000000};

    for (int i = 0; i < LAST_LOOKS && !is_last_thread(tstate); i++) {
        (void)PyEval_SaveThread();
        (void)nanosleep(&pause, NULL);
        PyEval_RestoreThread(tstate);
    }
}

/* One with threads left cannot end: Py_EndInterpreter() would end the process. It stays
 * behind until the process ends. */
static void end_interpreter(PyThreadState *tstate)
{
    if (is_last_thread(tstate))
        Py_EndInterpreter(tstate);
    else
        (void)PyEval_SaveThread();
}
#endif

PyThreadState *ep_py_interp_enter_sub(struct ep_py_context *context, const char **ret_why)
{
#if PY_VERSION_HEX >= 0x030C0000
    (void)pthread_mutex_lock(&interpreters);
    context->outer = ep_py_interp_enter_main(context->is_main_thread);
    PyThreadState *tstate = context->outer == NULL ? NULL : new_interpreter(ret_why);
    if (tstate == NULL && context->outer != NULL)
        ep_py_interp_leave_main(context->outer);
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

void ep_py_interp_leave(struct ep_py_context *context)
{
    if (!context->is_sub) {
        ep_py_interp_leave_main(context->tstate);
        return;
    }
#if PY_VERSION_HEX >= 0x030C0000
    wait_for_last_threads(context->tstate);
    (void)PyEval_SaveThread();
    (void)pthread_mutex_lock(&interpreters);
    PyEval_RestoreThread(context->tstate);
    end_interpreter(context->tstate);
    PyEval_RestoreThread(context->outer);
    ep_py_interp_leave_main(context->outer);
    (void)pthread_mutex_unlock(&interpreters);
#endif
}
