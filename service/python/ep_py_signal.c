/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_py_signal.h"

#include <signal.h>
#include <unistd.h>

/*
 * What the process does with signals beside Python's own handlers. All of it is done by
 * handlers that do nothing, and never by ignoring: what executes another program gets the
 * default of a signal that has a handler, but an ignored one stays ignored.
 *
 * SIGPIPE, SIGXFSZ   Python ignores them; writing fails instead.
 * SIGTERM, SIGHUP    Whoever ends the whole node sends them to every process of it. When the
 *                    VM has ended, or asks for it, the worker ends. A signal that the process
 *                    sends to itself does what it does by default.
 *
 * Python takes these dispositions for what it has set itself.
 */

static const int writing[] = {SIGPIPE, SIGXFSZ};
static const int ending[] = {SIGTERM, SIGHUP};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static void do_nothing(int number)
{
    (void)number;
}

static void leave_to_vm(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_pid != getpid())
        return;
    (void)signal(number, SIG_DFL);
    (void)raise(number); /* when this returns */
}

static bool is_now(int number, void (*handler)(int))
{
    struct sigaction action;

    return sigaction(number, NULL, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0
           && action.sa_handler == handler;
}

void ep_py_signal_note(struct ep_py_signals *ret_before)
{
    for (size_t i = 0; i < LENGTH(writing); i++)
        ret_before->is_default[i] = is_now(writing[i], SIG_DFL);
}

void ep_py_signal_install(const struct ep_py_signals *before)
{
    struct sigaction nothing = {.sa_handler = do_nothing, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct sigaction leave = {.sa_sigaction = leave_to_vm,
                              .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};

    for (size_t i = 0; i < LENGTH(writing); i++) {
        if (before->is_default[i] && is_now(writing[i], SIG_IGN))
            (void)sigaction(writing[i], &nothing, NULL);
    }
    for (size_t i = 0; i < LENGTH(ending); i++) {
        if (is_now(ending[i], SIG_DFL))
            (void)sigaction(ending[i], &leave, NULL);
    }
}

/* --- fork --------------------------------------------------------------------------------- */

static _Thread_local sigset_t mask; /* of the thread that forks */

/* A child ends when it is told to, from the first moment on: what comes before the handlers
 * are gone waits for that. */
void ep_py_signal_before_fork(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < LENGTH(ending); i++)
        (void)sigaddset(&set, ending[i]);
    (void)pthread_sigmask(SIG_BLOCK, &set, &mask);
}

void ep_py_signal_after_fork(void)
{
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

void ep_py_signal_in_child(void)
{
    struct sigaction action;

    for (size_t i = 0; i < LENGTH(ending); i++) {
        if (sigaction(ending[i], NULL, &action) == 0 && (action.sa_flags & SA_SIGINFO) != 0
            && action.sa_sigaction == leave_to_vm)
            (void)signal(ending[i], SIG_DFL);
    }
    ep_py_signal_after_fork();
}
