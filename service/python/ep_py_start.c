/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_start.h"

#include "ep_buf.h"
#include "ep_etf.h"
#include "ep_py_exception.h"
#include "ep_py_fork.h"
#include "ep_py_interp.h"
#include "ep_py_module.h"
#include "ep_py_signal.h"
#include "ep_py_space.h"
#include "ep_python.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef EP_PYTHON_EXECUTABLE
#define EP_PYTHON_EXECUTABLE ""
#endif

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
    /* The stack of a crash goes to stderr, whose end the launcher keeps for the VM. */
    config->faulthandler = 1;
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

static void say_exception(char *ret_why, size_t why_size)
{
    PyObject *exc = ep_py_exception_take();
    PyObject *text = exc == NULL ? NULL : PyObject_Str(exc);
    const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8(text);

    (void)snprintf(ret_why, why_size, "Python does not start: %s: %s",
                   exc == NULL ? "error" : Py_TYPE(exc)->tp_name, utf8 == NULL ? "" : utf8);
    Py_XDECREF(text);
    Py_XDECREF(exc);
    PyErr_Clear();
}

/* Why the interpreter did not come up, and what to do. The exception is what failed, where
 * Python came that far. */
static void say_status(PyStatus status, char *ret_why, size_t why_size)
{
    const char *what = status.err_msg == NULL ? "it asked to exit" : status.err_msg;
    const char *home = getenv("PYTHONHOME");
    PyObject *exc = NULL, *text = NULL;
    struct rlimit memory;
    char cause[160] = "";

    if (PyGILState_GetThisThreadState() != NULL && PyErr_Occurred() != NULL) {
        exc = ep_py_exception_take();
        text = exc == NULL ? NULL : PyObject_Str(exc);
        const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8(text);
        if (exc != NULL)
            (void)snprintf(cause, sizeof(cause), ": %s: %s", Py_TYPE(exc)->tp_name,
                           utf8 == NULL ? "" : utf8);
        Py_XDECREF(text);
        Py_XDECREF(exc);
        PyErr_Clear();
    }
    int n = snprintf(ret_why, why_size, "Python does not start: %.160s%s", what, cause);
    if (n < 0 || (size_t)n >= why_size)
        return;
    if (getrlimit(RLIMIT_DATA, &memory) == 0 && memory.rlim_cur != RLIM_INFINITY) {
        (void)snprintf(
            ret_why + n, why_size - (size_t)n,
            "; see whether it starts with more than the %llu bytes that memory_limit allows",
            (unsigned long long)memory.rlim_cur);
        return;
    }
    if (strstr(what, "site module") != NULL)
        (void)snprintf(ret_why + n, why_size - (size_t)n,
                       "; look at sitecustomize, usercustomize and the .pth files of that Python");
    else if (home != NULL && home[0] != '\0')
        (void)snprintf(ret_why + n, why_size - (size_t)n,
                       "; the OS variable PYTHONHOME is '%.200s': unset it, or let it name an "
                       "installation of Python %d.%d",
                       home, PY_MAJOR_VERSION, PY_MINOR_VERSION);
    else
        (void)snprintf(ret_why + n, why_size - (size_t)n,
                       "; see whether %d.%d starts by itself, and install it anew if not",
                       PY_MAJOR_VERSION, PY_MINOR_VERSION);
}

static struct ep_py_signals signals; /* as they were before */

int ep_py_start(const char *python_path, const char *module_path, char *ret_why, size_t why_size)
{
    PyConfig config;

    ep_py_signal_note(&signals);
    ep_py_interp_set_modules(module_path);
    if (python_path[0] == '\0')
        python_path = EP_PYTHON_EXECUTABLE;
    if (PyImport_AppendInittab("_erlang", ep_py_module_init) < 0 || ep_py_fork_watch() < 0) {
        (void)snprintf(ret_why, why_size, "no memory");
        return -1;
    }
    PyStatus status = set_up(&config, python_path);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        say_status(status, ret_why, why_size);
        return -1;
    }
    if (ep_py_interp_prepare() < 0 || ep_py_space_start() < 0) {
        say_exception(ret_why, why_size);
        return -1;
    }
    ep_py_signal_install(&signals);
    ep_py_interp_leave_first();
    return 0;
}

void ep_py_start_again(void)
{
    ep_py_fork_become_worker();
    ep_py_signal_install(&signals);
}

void ep_py_start_describe(struct ep_buf *buf)
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
