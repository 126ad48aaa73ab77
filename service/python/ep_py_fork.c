/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_py_fork.h"

#include "ep_py_end.h"
#include "ep_py_signal.h"

#include <pthread.h>
#include <stdatomic.h>

/* Relaxed: written and read by the only thread of a child. */
static atomic_bool is_child;

static void note_child(void)
{
    atomic_store_explicit(&is_child, true, memory_order_relaxed);
    ep_py_signal_in_child();
}

int ep_py_fork_watch(void)
{
    return -pthread_atfork(ep_py_signal_before_fork, ep_py_signal_after_fork, note_child);
}

bool ep_py_fork_is_child(void)
{
    return atomic_load_explicit(&is_child, memory_order_relaxed);
}

void ep_py_fork_become_worker(void)
{
    atomic_store_explicit(&is_child, false, memory_order_relaxed);
}

void ep_py_fork_end_child(void)
{
    if (ep_py_fork_is_child())
        ep_py_end_forked();
}
