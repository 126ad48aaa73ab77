/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_py_internal.h"
#include "ep_thread.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/*
 * Two ways to raise KeyboardInterrupt in a lane. In Python's main thread SIGINT
 * does, which also ends a blocking system call, and needs no GIL. Anywhere else,
 * and if Python code has put another handler there, an asynchronous exception
 * does, set by a thread of its own because it has to wait for the GIL, which
 * nobody may ever give.
 *
 * A SIGINT that arrives between Python's last look at its signals and the entry
 * of a blocking system call does not end that call. So the same thread goes on
 * to kick: a signal without any meaning, at growing intervals, which ends the
 * system call and makes Python look again. It cannot raise a second exception,
 * as a second SIGINT would.
 */

#define STRUCK 0x80000000u /* somebody has struck ... */
#define MISSED 0x40000000u /* ... and came too late to raise anything */
#define STACK_SIZE (256u << 10)
#define SIGNAL_KICK (SIGRTMAX - 2)
#define KICKS 10 /* 1 ms, 2 ms, 4 ms ... about a second */

struct strike {
    struct ep_py_interrupt *interrupt;
    uint64_t call_id;
};

static void ignore_kick(int signal)
{
    (void)signal;
}

/* Only the interrupter kicks, so the handler is there before the first kick. */
static void install_kick(void)
{
    struct sigaction action = {.sa_handler = ignore_kick}; /* no SA_RESTART */

    (void)sigaction(SIGNAL_KICK, &action, NULL);
}

void ep_py_interrupt_init(struct ep_py_interrupt *interrupt)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, install_kick);
    atomic_init(&interrupt->running, EP_PY_CALL_NONE);
    atomic_init(&interrupt->state, 0);
    for (size_t i = 0; i < EP_PY_INTERRUPTS; i++)
        atomic_init(&interrupt->claimed[i], 0);
    interrupt->waiting_for = interrupt->kicking = EP_PY_CALL_NONE;
    (void)pthread_mutex_init(&interrupt->mutex, NULL);
    (void)pthread_cond_init(&interrupt->idle, NULL);
}

void ep_py_interrupt_begin(struct ep_py_interrupt *interrupt, struct ep_py_context *context,
                           uint64_t call_id)
{
    interrupt->context = context;
    (void)atomic_exchange_explicit(&interrupt->running, call_id, memory_order_seq_cst);
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
 * whether there was something that Python code has not seen. */
static bool settle(struct ep_py_interrupt *interrupt)
{
    struct ep_py_context *context = interrupt->context;

    PyThreadState *tstate = PyEval_SaveThread();
    (void)pthread_mutex_lock(&interrupt->mutex);
    (void)pthread_cond_broadcast(&interrupt->idle); /* who kicks can stop */
    while ((atomic_load_explicit(&interrupt->state, memory_order_seq_cst) & ~(STRUCK | MISSED))
           != 0)
        (void)pthread_cond_wait(&interrupt->idle, &interrupt->mutex);
    (void)pthread_mutex_unlock(&interrupt->mutex);
    PyEval_RestoreThread(tstate);

    uint32_t state =
        atomic_fetch_and_explicit(&interrupt->state, ~(STRUCK | MISSED), memory_order_seq_cst);
    if ((state & STRUCK) == 0)
        return false;
    bool is_left = (state & MISSED) != 0 || tstate->async_exc != NULL;
    (void)PyThreadState_SetAsyncExc(context->thread_id, NULL);
    if (context->is_main_thread && !context->is_sub && clear_signals())
        is_left = true;
    return is_left;
}

bool ep_py_interrupt_end(struct ep_py_interrupt *interrupt)
{
    (void)atomic_exchange_explicit(&interrupt->running, EP_PY_CALL_NONE, memory_order_seq_cst);
    return atomic_load_explicit(&interrupt->state, memory_order_seq_cst) != 0 && settle(interrupt);
}

/* --- the interrupter ----------------------------------------------------------------- */

static bool is_running(struct ep_py_interrupt *interrupt, uint64_t call_id)
{
    uint64_t running = atomic_load_explicit(&interrupt->running, memory_order_seq_cst);

    return call_id == EP_PY_CALL_ANY ? running != EP_PY_CALL_NONE : running == call_id;
}

static void release(struct ep_py_interrupt *interrupt)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    (void)atomic_fetch_sub_explicit(&interrupt->state, 1, memory_order_seq_cst);
    (void)pthread_cond_broadcast(&interrupt->idle);
    (void)pthread_mutex_unlock(&interrupt->mutex);
}

/* Whether SIGINT raises KeyboardInterrupt, as far as Python code is concerned. */
static bool is_default_handler(void)
{
    bool is_default = false;

    PyObject *module = PyImport_ImportModule("_signal");
    PyObject *want = module == NULL ? NULL : PyObject_GetAttrString(module, "default_int_handler");
    PyObject *have = want == NULL ? NULL : PyObject_CallMethod(module, "getsignal", "i", SIGINT);
    is_default = have != NULL && have == want;
    Py_XDECREF(have);
    Py_XDECREF(want);
    Py_XDECREF(module);
    PyErr_Clear();
    return is_default;
}

/* Whether the handler is still ours: the default action would kill. */
static bool can_kick(void)
{
    struct sigaction action;

    return sigaction(SIGNAL_KICK, NULL, &action) == 0 && action.sa_handler == ignore_kick;
}

/* Whoever interrupts from here on needs another interrupter. */
static void end_wait(struct ep_py_interrupt *interrupt, uint64_t call_id)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    if (interrupt->waiting_for == call_id)
        interrupt->waiting_for = EP_PY_CALL_NONE;
    (void)pthread_mutex_unlock(&interrupt->mutex);
}

static void kick(const struct strike *strike, pthread_t thread)
{
    struct ep_py_interrupt *interrupt = strike->interrupt;
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    (void)pthread_mutex_lock(&interrupt->mutex);
    if (interrupt->kicking == strike->call_id) {
        interrupt->kicks_again = true;
        (void)pthread_cond_broadcast(&interrupt->idle);
        (void)pthread_mutex_unlock(&interrupt->mutex);
        return;
    }
    interrupt->kicking = strike->call_id;
    for (int i = 0; (i < KICKS || interrupt->kicks_again) && is_running(interrupt, strike->call_id)
                    && can_kick();
         i++) {
        if (interrupt->kicks_again) {
            interrupt->kicks_again = false;
            i = 0;
            (void)clock_gettime(CLOCK_MONOTONIC, &at);
        }
        (void)pthread_kill(thread, SIGNAL_KICK);
        at.tv_nsec += 1000000L << i;
        at.tv_sec += at.tv_nsec / 1000000000L;
        at.tv_nsec %= 1000000000L;
        /* The end of the call cuts this short. */
        while (is_running(interrupt, strike->call_id) && !interrupt->kicks_again
               && pthread_cond_clockwait(&interrupt->idle, &interrupt->mutex, CLOCK_MONOTONIC, &at)
                      == 0)
            continue;
    }
    interrupt->kicking = EP_PY_CALL_NONE;
    (void)pthread_mutex_unlock(&interrupt->mutex);
}

static void *strike_with_gil(void *user)
{
    struct strike strike = *(struct strike *)user;
    struct ep_py_context *context = strike.interrupt->context;

    free(user);
    PyThreadState *tstate = PyThreadState_New(context->interp);
    if (tstate == NULL) {
        end_wait(strike.interrupt, strike.call_id);
        goto release_interrupt;
    }
    PyEval_RestoreThread(tstate);
    end_wait(strike.interrupt, strike.call_id);
    bool by_signal = context->is_main_thread && !context->is_sub && is_default_handler();
    if (!by_signal) {
        if (is_running(strike.interrupt, strike.call_id))
            (void)PyThreadState_SetAsyncExc(context->thread_id, PyExc_KeyboardInterrupt);
        else
            (void)atomic_fetch_or_explicit(&strike.interrupt->state, MISSED, memory_order_seq_cst);
    }
    PyThreadState_Clear(tstate);
    PyThreadState_DeleteCurrent();
    if (by_signal)
        kick(&strike, (pthread_t)context->thread_id);

release_interrupt:
    release(strike.interrupt);
    return NULL;
}

/* Only if the disposition is one that somebody set: the default kills. */
static void send_signal(const struct ep_py_context *context)
{
    struct sigaction action;

    if (!context->is_main_thread || context->is_sub || sigaction(SIGINT, NULL, &action) < 0)
        return;
    if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN)
        (void)pthread_kill((pthread_t)context->thread_id, SIGINT);
}

bool ep_py_interrupt_claim(struct ep_py_interrupt *interrupt, uint64_t number)
{
    ep_atomic_u64 *claimed = &interrupt->claimed[number % EP_PY_INTERRUPTS];
    uint64_t before = atomic_load_explicit(claimed, memory_order_seq_cst);

    /* Numbers only grow: what is below the one that stands there is old. */
    while (number > before) {
        if (atomic_compare_exchange_weak_explicit(claimed, &before, number, memory_order_seq_cst,
                                                  memory_order_seq_cst))
            return true;
    }
    return number == 0;
}

/* Joins who waits for the GIL already, to interrupt that call, or takes that place. Returns
 * whether it joined. If it needs a signal, that was sent. */
static bool join_waiting(struct ep_py_interrupt *interrupt, uint64_t call_id)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    bool is_waiting = interrupt->waiting_for == call_id;
    interrupt->waiting_for = call_id;
    (void)pthread_mutex_unlock(&interrupt->mutex);
    return is_waiting;
}

void ep_py_interrupt_strike(struct ep_py_interrupt *interrupt, uint64_t call_id, uint64_t number)
{
    (void)atomic_fetch_add_explicit(&interrupt->state, 1, memory_order_seq_cst);
    if (!is_running(interrupt, call_id) || !ep_py_interrupt_claim(interrupt, number)) {
        release(interrupt);
        return;
    }
    (void)atomic_fetch_or_explicit(&interrupt->state, STRUCK, memory_order_seq_cst);
    send_signal(interrupt->context);
    if (join_waiting(interrupt, call_id)) {
        release(interrupt);
        return;
    }

    struct strike *strike = malloc(sizeof(*strike));
    if (strike != NULL)
        *strike = (struct strike){.interrupt = interrupt, .call_id = call_id};
    if (strike == NULL || ep_thread_start(strike_with_gil, strike, STACK_SIZE, false) < 0) {
        /* Out of threads: the VM kills what does not stop. */
        free(strike);
        end_wait(interrupt, call_id);
        release(interrupt);
    }
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the thread frees it. */
}
