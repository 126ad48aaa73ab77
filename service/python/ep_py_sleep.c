/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_py_sleep.h"

#include "ep_py_context_fields.h"
#include "ep_py_interrupt.h"
#include "ep_python.h"

#include <math.h>
#include <stdatomic.h>
#include <time.h>

/* What a clock can count. */
#define SECONDS_MAX 1e9

/* Takes the mark of an interrupt away, so that code that has caught it can sleep again. Under the
 * mutex. */
static bool take_mark(struct ep_py_interrupt *interrupt)
{
    uint64_t target = atomic_load_explicit(&interrupt->target, memory_order_relaxed);
    bool is_marked = interrupt->awakened == target || interrupt->awakened == EP_PY_CALL_ANY;

    if (is_marked)
        interrupt->awakened = EP_PY_CALL_NONE;
    return is_marked;
}

static void wait(struct ep_py_interrupt *interrupt, const struct timespec *until)
{
    int rc = 0;

    (void)pthread_mutex_lock(&interrupt->mutex);
    while (!take_mark(interrupt) && rc == 0)
        rc = pthread_cond_clockwait(&interrupt->idle, &interrupt->mutex, CLOCK_MONOTONIC, until);
    (void)pthread_mutex_unlock(&interrupt->mutex);
}

PyObject *ep_py_sleep(PyObject *module, PyObject *seconds)
{
    struct ep_py_interrupt *interrupt = ep_py_interrupt_own();
    double left = PyFloat_AsDouble(seconds);
    struct timespec until;

    (void)module;
    if (left == -1.0 && PyErr_Occurred() != NULL)
        return NULL;
    if (!(left >= 0)) {
        PyErr_SetString(PyExc_ValueError, "sleep length must be non-negative");
        return NULL;
    }
    /* The main thread gets a signal, which ends Python's own. */
    bool is_own = interrupt != NULL && interrupt->context != NULL
                  && (!interrupt->context->is_main_thread || interrupt->context->is_sub);
    if (!is_own) {
        PyObject *time = PyImport_ImportModule("time");
        PyObject *none = time == NULL ? NULL : PyObject_CallMethod(time, "sleep", "O", seconds);
        Py_XDECREF(time);
        return none;
    }
    left = fmin(left, SECONDS_MAX);
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)left;
    until.tv_nsec += (long)((left - floor(left)) * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    PyThreadState *tstate = PyEval_SaveThread();
    wait(interrupt, &until);
    PyEval_RestoreThread(tstate);
    Py_RETURN_NONE;
}

void ep_py_sleep_end(struct ep_py_interrupt *interrupt, uint64_t call_id)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    interrupt->awakened = call_id;
    (void)pthread_cond_broadcast(&interrupt->idle);
    (void)pthread_mutex_unlock(&interrupt->mutex);
}
