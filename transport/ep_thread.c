/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_thread.h"

#include <pthread.h>
#include <signal.h>

static sigset_t process_mask; /* empty unless noted: signals are let in */

void ep_thread_note_mask(void)
{
    (void)pthread_sigmask(SIG_SETMASK, NULL, &process_mask);
}

int ep_thread_start(void *(*run)(void *), void *user, size_t stack_size, bool with_signals)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;

    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return -rc;
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attr, stack_size);
    /* Threads that run no Python leave all signals to those that do. What those start gets
     * the mask of the process, whichever thread started them. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, with_signals ? &process_mask : &all, &before);
    rc = pthread_create(&thread, &attr, run, user);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attr);
    return -rc;
}
