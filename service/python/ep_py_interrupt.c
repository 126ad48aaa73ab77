/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_py_interrupt.h"

#include "ep_crashpoint.h"
#include "ep_layout.h"
#include "ep_py_context_fields.h"
#include "ep_py_exception.h"
#include "ep_py_fork.h"
#include "ep_py_loop.h"
#include "ep_python.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>

/* Of the calling thread. */
static _Thread_local struct ep_py_interrupt *own;

struct ep_py_interrupt *ep_py_interrupt_own(void)
{
    return own;
}

void ep_py_interrupt_init(struct ep_py_interrupt *interrupt, ep_atomic_u64 *shown)
{
    atomic_init(&interrupt->target, EP_PY_CALL_NONE);
    atomic_init(&interrupt->state, 0);
    for (size_t i = 0; i < EP_PY_INTERRUPTS; i++)
        atomic_init(&interrupt->claimed[i], 0);
    interrupt->waiting_for = interrupt->kicking = interrupt->offered = EP_PY_CALL_NONE;
    interrupt->awakened = EP_PY_CALL_NONE;
    interrupt->shown = shown;
    (void)pthread_mutex_init(&interrupt->mutex, NULL);
    (void)pthread_cond_init(&interrupt->idle, NULL);
}

struct ep_py_interrupt *ep_py_interrupt_enter(struct ep_py_interrupt *interrupt)
{
    struct ep_py_interrupt *former = own;

    own = interrupt;
    return former;
}

void ep_py_interrupt_begin(struct ep_py_interrupt *interrupt, struct ep_py_context *context,
                           uint64_t call_id, bool is_nested)
{
    interrupt->context = context;
    interrupt->is_nested = is_nested;
    (void)atomic_exchange_explicit(&interrupt->target, call_id, memory_order_seq_cst);
}

/* --- the lane: taking back -------------------------------------------------------- */

/* Swallows SIGINT that was sent and not noticed. Returns whether there was one. */
static bool clear_signals(void)
{
    const struct timespec now = {.tv_sec = 0};
    sigset_t set;
    bool found = false;

    /* On its way back from this system call the thread receives what is pending,
     * unless Python code has blocked it. */
    if (sigpending(&set) == 0 && sigismember(&set, SIGINT) == 1) {
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGINT);
        found = sigtimedwait(&set, NULL, &now) == SIGINT;
    }
    for (int i = 0; i < NSIG && PyErr_CheckSignals() < 0; i++) {
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
            PyErr_Clear();
            found = true;
        } else {
            PyErr_WriteUnraisable(NULL);
        }
    }
    return found;
}

/* Waits until nobody strikes any more, and takes back what was left behind. Returns
 * whether there was something that Python code has not seen. Only while target is such that
 * who comes meanwhile strikes nothing, or it could take back half of that. */
static bool settle(struct ep_py_interrupt *interrupt)
{
    struct ep_py_context *context = interrupt->context;

    EP_CRASHPOINT("interrupt.settling");
    PyThreadState *tstate = PyEval_SaveThread();
    (void)pthread_mutex_lock(&interrupt->mutex);
    interrupt->is_settling = true;
    (void)pthread_cond_broadcast(&interrupt->idle); /* who kicks can stop */
    while ((atomic_load_explicit(&interrupt->state, memory_order_seq_cst)
            & ~(EP_PY_STRUCK | EP_PY_MISSED))
           != 0)
        (void)pthread_cond_wait(&interrupt->idle, &interrupt->mutex);
    interrupt->is_settling = false;
    (void)pthread_mutex_unlock(&interrupt->mutex);
    PyEval_RestoreThread(tstate);

    uint32_t state = atomic_fetch_and_explicit(&interrupt->state, ~(EP_PY_STRUCK | EP_PY_MISSED),
                                               memory_order_seq_cst);
    if ((state & EP_PY_STRUCK) == 0)
        return false;
    bool is_left = (state & EP_PY_MISSED) != 0 || tstate->async_exc != NULL;
    (void)PyThreadState_SetAsyncExc(context->thread_id, NULL);
    if (context->is_main_thread && !context->is_sub && clear_signals())
        is_left = true;
    return is_left;
}

bool ep_py_interrupt_end(struct ep_py_interrupt *interrupt)
{
    (void)atomic_exchange_explicit(&interrupt->target, EP_PY_CALL_NONE, memory_order_seq_cst);
    return atomic_load_explicit(&interrupt->state, memory_order_seq_cst) != 0 && settle(interrupt);
}

void ep_py_interrupt_finish(struct ep_py_interrupt *interrupt)
{
    (void)atomic_exchange_explicit(&interrupt->target, EP_PY_CALL_NONE, memory_order_seq_cst);
    if (atomic_load_explicit(&interrupt->state, memory_order_seq_cst) == 0)
        return;
    (void)settle(interrupt);
    if (!interrupt->is_nested)
        ep_py_loop_tidy();
}

/* --- the lane: imports -------------------------------------------------------------- */

/* What only the thread itself writes. */
static uint64_t target_here(const struct ep_py_interrupt *interrupt)
{
    return atomic_load_explicit(&interrupt->target, memory_order_relaxed);
}

bool ep_py_interrupt_is_held(const struct ep_py_interrupt *interrupt)
{
    uint64_t target = target_here(interrupt);

    return target != EP_PY_CALL_NONE && (target & EP_RUNNING_IMPORTS) != 0;
}

/* The same call runs on, in an import or out of it. Returns whether somebody strikes. */
static bool change_target(struct ep_py_interrupt *interrupt, uint64_t target)
{
    /* Relaxed: the VM looks now and then. */
    if (interrupt->shown != NULL)
        atomic_store_explicit(interrupt->shown, target, memory_order_relaxed);
    (void)atomic_exchange_explicit(&interrupt->target, target, memory_order_seq_cst);
    return atomic_load_explicit(&interrupt->state, memory_order_seq_cst) != 0;
}

uint64_t ep_py_interrupt_hold(bool *ret_is_due)
{
    /* What is forked has no call, nor the memory that shows it. */
    uint64_t call_id = own == NULL || ep_py_fork_is_child() ? EP_PY_CALL_NONE : target_here(own);

    *ret_is_due = false;
    if (call_id == EP_PY_CALL_NONE || (call_id & EP_RUNNING_IMPORTS) != 0)
        return EP_PY_CALL_NONE;
    if (change_target(own, call_id | EP_RUNNING_IMPORTS))
        *ret_is_due = settle(own);
    EP_CRASHPOINT("import.held");
    return call_id;
}

bool ep_py_interrupt_let_go(uint64_t held)
{
    /* Another call may run here by now: green threads change places within an import. */
    if (held == EP_PY_CALL_NONE || ep_py_fork_is_child() || own == NULL
        || target_here(own) != (held | EP_RUNNING_IMPORTS))
        return false;
    EP_CRASHPOINT("import.ended");
    bool is_due = false;
    while (change_target(own, held)) {
        (void)change_target(own, held | EP_RUNNING_IMPORTS);
        PyObject *exc = ep_py_exception_take();
        is_due = settle(own) || is_due;
        ep_py_exception_restore(exc);
    }
    return is_due;
}
