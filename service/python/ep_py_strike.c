/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_py_strike.h"

#include "ep_crashpoint.h"
#include "ep_layout.h"
#include "ep_py_context_fields.h"
#include "ep_py_fork.h"
#include "ep_py_interrupt.h"
#include "ep_py_loop.h"
#include "ep_py_sleep.h"
#include "ep_python.h"
#include "ep_thread.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/*
 * KeyboardInterrupt is raised in one of three ways. A thread of its own chooses while it has
 * the GIL, so that nothing changes between its look and what it does:
 *
 *   an event loop runs            the loop raises it, between two tasks
 *   SIGINT raises it in Python    SIGINT, which also ends a blocking system call
 *   anything else                 an asynchronous exception
 *
 * An exception that lands in an event loop, not in one of its tasks, breaks it: a task that
 * was taken out of the queue and not begun is lost, and waited for forever; a loop that was
 * about to begin or to end counts as running ever after. Only if the loop does not get round
 * to it, because a task computes, one of the other ways is used.
 *
 * C code may keep the GIL for long. Some looks at its signals meanwhile, as regular
 * expressions do, so the main thread gets SIGINT then without that look. Not in a nested call:
 * the handler may be that of the call below.
 *
 * A SIGINT that arrives between Python's last look at its signals and the entry
 * of a blocking system call does not end that call. So the same thread goes on
 * to kick: a signal without any meaning, at growing intervals, which ends the
 * system call and makes Python look again. It cannot raise a second exception,
 * as a second SIGINT would.
 */

#define STACK_SIZE (1u << 20)
#define SIGNAL_KICK (SIGRTMAX - 2)
#define KICKS 10 /* 1 ms, 2 ms, 4 ms ... about a second */
#define OFFER_MS 50
/* For so long the strike waits for the GIL before it sends SIGINT without. Python code gives the
 * GIL up within 5 ms of its own time; on a busy machine that takes a few time slices. */
#define GIL_MS 100

/* Shared by the thread that waits for the GIL and the one that does not. */
struct strike {
    struct ep_py_interrupt *interrupt;
    uint64_t call_id;
    bool is_forced;
    ep_atomic_u32 choice;
    ep_atomic_u32 users;
};

enum choice { UNDECIDED, CHOSEN, SIGNALLED };

enum place { ELSEWHERE, RUNS, IMPORTS };

/* One load: two could miss a call that goes from one to the other meanwhile. */
static enum place place_of(const struct ep_py_interrupt *interrupt, uint64_t call_id)
{
    uint64_t target = atomic_load_explicit(&interrupt->target, memory_order_seq_cst);

    if (call_id == EP_PY_CALL_ANY)
        return target == EP_PY_CALL_NONE ? ELSEWHERE : RUNS;
    return target == call_id                          ? RUNS
           : target == (call_id | EP_RUNNING_IMPORTS) ? IMPORTS
                                                      : ELSEWHERE;
}

/* Whether the strike may still raise something. */
static bool is_due(const struct strike *strike)
{
    enum place place = place_of(strike->interrupt, strike->call_id);

    return place == RUNS || (place == IMPORTS && strike->is_forced);
}

/* Whether it is worth waiting for what the call does. One that settles has seen that somebody
 * strikes, and waits for him. Under the mutex. */
static bool goes_on(const struct strike *strike)
{
    return is_due(strike) && !strike->interrupt->is_settling;
}

static void release(struct ep_py_interrupt *interrupt)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    (void)atomic_fetch_sub_explicit(&interrupt->state, 1, memory_order_seq_cst);
    (void)pthread_cond_broadcast(&interrupt->idle);
    (void)pthread_mutex_unlock(&interrupt->mutex);
}

/* The lane may have taken EP_PY_STRUCK back from a forced strike that had only begun. */
static void release_struck(struct ep_py_interrupt *interrupt)
{
    (void)atomic_fetch_or_explicit(&interrupt->state, EP_PY_STRUCK, memory_order_seq_cst);
    release(interrupt);
}

/* Whether SIGINT raises KeyboardInterrupt, as far as Python code is concerned. */
static bool is_default_handler(void)
{
    /* Not by an import, which may be a function of the user's. */
    PyObject *name = PyUnicode_FromString("_signal");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    PyObject *want = module == NULL ? NULL : PyObject_GetAttrString(module, "default_int_handler");
    PyObject *have = want == NULL ? NULL : PyObject_CallMethod(module, "getsignal", "i", SIGINT);
    bool is_default = have != NULL && have == want;
    Py_XDECREF(have);
    Py_XDECREF(want);
    Py_XDECREF(module);
    Py_XDECREF(name);
    PyErr_Clear();
    return is_default;
}

static void ignore_kick(int signal)
{
    (void)signal;
}

/* Before the first kick, if Python code has no use for the signal. */
static void install_kick(void)
{
    struct sigaction former, action = {.sa_handler = ignore_kick}; /* no SA_RESTART */

    if (sigaction(SIGNAL_KICK, NULL, &former) == 0 && former.sa_handler == SIG_DFL)
        (void)sigaction(SIGNAL_KICK, &action, NULL);
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

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer loses a signal that comes while the thread waits for the GIL, and holds others
 * back until the thread makes a call that it knows. Python code that computes makes none,
 * unless somebody wants its GIL. */
#define SIGNALS_DETACHED true

static void disturb(struct ep_py_interrupt *interrupt)
{
    (void)pthread_mutex_unlock(&interrupt->mutex);
    PyThreadState *tstate = PyThreadState_New(interrupt->context->interp);
    if (tstate != NULL) {
        PyEval_RestoreThread(tstate);
        PyThreadState_Clear(tstate);
        PyThreadState_DeleteCurrent();
    }
    (void)pthread_mutex_lock(&interrupt->mutex);
}
#else
#define SIGNALS_DETACHED false

static void disturb(struct ep_py_interrupt *interrupt)
{
    (void)interrupt;
}
#endif

static void add_ms(struct timespec *at, long ms)
{
    at->tv_nsec += ms * 1000000L;
    at->tv_sec += at->tv_nsec / 1000000000L;
    at->tv_nsec %= 1000000000L;
}

static void kick(const struct strike *strike, pthread_t thread)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct ep_py_interrupt *interrupt = strike->interrupt;
    struct timespec at;

    (void)pthread_once(&once, install_kick);
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    (void)pthread_mutex_lock(&interrupt->mutex);
    if (interrupt->kicking == strike->call_id) {
        interrupt->kicks_again = true;
        (void)pthread_cond_broadcast(&interrupt->idle);
        (void)pthread_mutex_unlock(&interrupt->mutex);
        return;
    }
    interrupt->kicking = strike->call_id;
    for (int i = 0; (i < KICKS || interrupt->kicks_again) && goes_on(strike) && can_kick(); i++) {
        if (interrupt->kicks_again) {
            interrupt->kicks_again = false;
            i = 0;
            (void)clock_gettime(CLOCK_MONOTONIC, &at);
        }
        (void)pthread_kill(thread, SIGNAL_KICK);
        disturb(interrupt);
        add_ms(&at, 1L << i);
        /* The end of the call cuts this short. */
        while (goes_on(strike) && !interrupt->kicks_again
               && pthread_cond_clockwait(&interrupt->idle, &interrupt->mutex, CLOCK_MONOTONIC, &at)
                      == 0)
            continue;
    }
    interrupt->kicking = EP_PY_CALL_NONE;
    (void)pthread_mutex_unlock(&interrupt->mutex);
}

static bool takes_signals(const struct ep_py_context *context)
{
    return context->is_main_thread && !context->is_sub;
}

/* Only if the disposition is one that somebody set: the default kills. */
static void send_signal(const struct ep_py_context *context)
{
    struct sigaction action;

    if (!takes_signals(context) || sigaction(SIGINT, NULL, &action) < 0)
        return;
    if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN)
        (void)pthread_kill((pthread_t)context->thread_id, SIGINT);
}

static struct timespec ms_from_now(long ms)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    add_ms(&at, ms);
    return at;
}

/* Whoever gets true raises the exception, or has a reason not to. */
static bool take_offer(struct ep_py_interrupt *interrupt, uint64_t call_id)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    bool is_offered = interrupt->offered == call_id;
    if (is_offered) {
        interrupt->offered = EP_PY_CALL_NONE;
        (void)pthread_cond_broadcast(&interrupt->idle);
    }
    (void)pthread_mutex_unlock(&interrupt->mutex);
    return is_offered;
}

PyObject *ep_py_strike_take(PyObject *module, PyObject *call_id)
{
    struct ep_py_interrupt *own = ep_py_interrupt_own();
    uint64_t id = PyLong_AsUnsignedLongLong(call_id);

    (void)module;
    if (PyErr_Occurred() != NULL)
        return NULL;
    bool is_here = own != NULL && !ep_py_fork_is_child() && place_of(own, id) == RUNS;
    return PyBool_FromLong(is_here && take_offer(own, id));
}

/* Has the event loop of the thread raise the exception, if there is one. Returns false if it
 * is still to be raised. Attached. */
static bool offer(const struct strike *strike, PyObject *loops)
{
    struct ep_py_interrupt *interrupt = strike->interrupt;

    (void)pthread_mutex_lock(&interrupt->mutex);
    bool is_offered = interrupt->offered == strike->call_id;
    interrupt->offered = strike->call_id;
    (void)pthread_mutex_unlock(&interrupt->mutex);
    if (is_offered)
        return true; /* for both */
    if (!ep_py_loop_offer(interrupt->context, loops, strike->call_id))
        return !take_offer(interrupt, strike->call_id);

    PyThreadState *tstate = PyEval_SaveThread();
    struct timespec at = ms_from_now(OFFER_MS);
    (void)pthread_mutex_lock(&interrupt->mutex);
    while (interrupt->offered == strike->call_id && goes_on(strike)
           && pthread_cond_clockwait(&interrupt->idle, &interrupt->mutex, CLOCK_MONOTONIC, &at)
                  == 0)
        continue;
    (void)pthread_mutex_unlock(&interrupt->mutex);
    PyEval_RestoreThread(tstate);
    return !take_offer(interrupt, strike->call_id);
}

static void wake_others(struct ep_py_interrupt *interrupt)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    (void)pthread_cond_broadcast(&interrupt->idle);
    (void)pthread_mutex_unlock(&interrupt->mutex);
}

/* Chooses a way, if the signal has not been sent, and takes it. Attached. Returns whether the
 * thread is to be kicked. */
static bool raise_exception(struct strike *strike, PyObject *loops)
{
    struct ep_py_interrupt *interrupt = strike->interrupt;
    struct ep_py_context *context = interrupt->context;
    uint32_t undecided = UNDECIDED;

    bool is_mine = atomic_compare_exchange_strong_explicit(
        &strike->choice, &undecided, CHOSEN, memory_order_seq_cst, memory_order_seq_cst);
    wake_others(interrupt);
    if (is_mine && is_due(strike) && offer(strike, loops))
        return false;
    if (!is_due(strike)) {
        /* Whether a signal was seen the lane finds out. */
        if (is_mine)
            (void)atomic_fetch_or_explicit(&interrupt->state, EP_PY_MISSED, memory_order_seq_cst);
        return false;
    }
    bool is_default = takes_signals(context) && is_default_handler();
    /* Another handler of SIGINT is told, too, but that of asyncio.run in the call below would
     * end that. */
    if (is_mine && (is_default || !interrupt->is_nested) && !SIGNALS_DETACHED)
        send_signal(context);
    if (is_default)
        return true;
    (void)PyThreadState_SetAsyncExc(context->thread_id, PyExc_KeyboardInterrupt);
    ep_py_sleep_end(interrupt, strike->call_id);
    ep_py_loop_wake(context, loops);
    return false;
}

/* One of the threads of a strike is done with it. */
static void leave(struct strike *strike)
{
    struct ep_py_interrupt *interrupt = strike->interrupt;

    if (atomic_fetch_sub_explicit(&strike->users, 1, memory_order_acq_rel) == 1)
        free(strike);
    EP_CRASHPOINT("interrupt.before_release");
    release_struck(interrupt);
}

static void *strike_with_gil(void *user)
{
    struct strike *strike = user;
    struct ep_py_context *context = strike->interrupt->context;

    PyThreadState *tstate = PyThreadState_New(context->interp);
    if (tstate == NULL) {
        end_wait(strike->interrupt, strike->call_id);
        leave(strike);
        return NULL;
    }
    PyEval_RestoreThread(tstate);
    PyObject *loops = ep_py_loop_look(context);
    EP_CRASHPOINT("interrupt.has_gil");
    end_wait(strike->interrupt, strike->call_id);
    bool kicks = raise_exception(strike, loops);
    Py_XDECREF(loops);
    PyThreadState_Clear(tstate);
    PyThreadState_DeleteCurrent();
    if (kicks && SIGNALS_DETACHED
        && atomic_load_explicit(&strike->choice, memory_order_seq_cst) == CHOSEN)
        send_signal(context);
    if (kicks)
        kick(strike, (pthread_t)context->thread_id);
    leave(strike);
    return NULL;
}

/* Sends SIGINT if the other thread has not got the GIL in time. */
static void *strike_without_gil(void *user)
{
    struct strike *strike = user;
    struct ep_py_interrupt *interrupt = strike->interrupt;
    struct timespec at = ms_from_now(GIL_MS);
    uint32_t undecided = UNDECIDED;

    (void)pthread_mutex_lock(&interrupt->mutex);
    while (
        atomic_load_explicit(&strike->choice, memory_order_seq_cst) == UNDECIDED && goes_on(strike)
        && pthread_cond_clockwait(&interrupt->idle, &interrupt->mutex, CLOCK_MONOTONIC, &at) == 0)
        continue;
    bool is_wanted = goes_on(strike);
    (void)pthread_mutex_unlock(&interrupt->mutex);
    if (is_wanted
        && atomic_compare_exchange_strong_explicit(&strike->choice, &undecided, SIGNALLED,
                                                   memory_order_seq_cst, memory_order_seq_cst))
        send_signal(interrupt->context);
    EP_CRASHPOINT("interrupt.signalled");
    leave(strike);
    return NULL;
}

bool ep_py_strike_claim(struct ep_py_interrupt *interrupt, uint64_t number)
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
 * whether it joined. */
static bool join_waiting(struct ep_py_interrupt *interrupt, uint64_t call_id)
{
    (void)pthread_mutex_lock(&interrupt->mutex);
    bool is_waiting = interrupt->waiting_for == call_id;
    interrupt->waiting_for = call_id;
    (void)pthread_mutex_unlock(&interrupt->mutex);
    return is_waiting;
}

/* Notes an interrupt of a call that imports: it is raised later. A forced one stands for
 * one that was noted. Returns whether it is to be raised now. */
static bool note(struct ep_py_interrupt *interrupt, bool is_forced)
{
    if (is_forced)
        return (atomic_fetch_and_explicit(&interrupt->state, ~EP_PY_MISSED, memory_order_seq_cst)
                & EP_PY_MISSED)
               != 0;
    (void)atomic_fetch_or_explicit(&interrupt->state, EP_PY_STRUCK | EP_PY_MISSED,
                                   memory_order_seq_cst);
    return false;
}

/* Starts one of the threads of a strike. Returns 0 or a negative errno. */
static int start(struct strike *strike, void *(*run)(void *))
{
    struct ep_py_interrupt *interrupt = strike->interrupt;

    (void)atomic_fetch_add_explicit(&interrupt->state, 1, memory_order_seq_cst);
    (void)atomic_fetch_add_explicit(&strike->users, 1, memory_order_relaxed);
    int rc = ep_thread_start(run, strike, STACK_SIZE, false);
    if (rc < 0) {
        (void)atomic_fetch_sub_explicit(&strike->users, 1, memory_order_relaxed);
        release(interrupt);
    }
    return rc;
}

/* Starts both threads, or as many as can be had; the VM kills what does not stop. */
static void strike_in_threads(struct ep_py_interrupt *interrupt, uint64_t call_id, bool is_forced)
{
    struct strike *strike = malloc(sizeof(*strike));

    if (strike == NULL) {
        end_wait(interrupt, call_id);
        return;
    }
    *strike = (struct strike){.interrupt = interrupt, .call_id = call_id, .is_forced = is_forced};
    atomic_init(&strike->choice, UNDECIDED);
    atomic_init(&strike->users, 1);
    if (takes_signals(interrupt->context) && !interrupt->is_nested)
        (void)start(strike, strike_without_gil);
    if (start(strike, strike_with_gil) < 0)
        end_wait(interrupt, call_id);
    if (atomic_fetch_sub_explicit(&strike->users, 1, memory_order_acq_rel) == 1)
        free(strike);
}

void ep_py_strike(struct ep_py_interrupt *interrupt, uint64_t call_id, uint64_t number,
                  bool is_forced)
{
    (void)atomic_fetch_add_explicit(&interrupt->state, 1, memory_order_seq_cst);
    enum place place = place_of(interrupt, call_id);
    if (place == ELSEWHERE || (place == RUNS && is_forced) || !ep_py_strike_claim(interrupt, number)
        || (place == IMPORTS && !note(interrupt, is_forced))) {
        release(interrupt);
        return;
    }
    (void)atomic_fetch_or_explicit(&interrupt->state, EP_PY_STRUCK, memory_order_seq_cst);
    EP_CRASHPOINT("interrupt.struck");
    if (!join_waiting(interrupt, call_id))
        strike_in_threads(interrupt, call_id, is_forced);
    release_struck(interrupt);
}

PyObject *ep_py_strike_lost(PyObject *module, PyObject *unused)
{
    struct ep_py_interrupt *own = ep_py_interrupt_own();

    (void)module;
    (void)unused;
    bool is_struck =
        own != NULL && !ep_py_fork_is_child()
        && (atomic_load_explicit(&own->state, memory_order_seq_cst) & EP_PY_STRUCK) != 0;
    uint64_t target =
        is_struck ? atomic_load_explicit(&own->target, memory_order_seq_cst) : EP_PY_CALL_NONE;
    if (target != EP_PY_CALL_NONE)
        ep_py_strike(own, target & ~(uint64_t)EP_RUNNING_IMPORTS, 0, false);
    return Py_NewRef(Py_None);
}
