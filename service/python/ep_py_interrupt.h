/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_PY_INTERRUPT_H
#define EP_PY_INTERRUPT_H

/*
 * ep_py_interrupt - raises KeyboardInterrupt in one call and never in another.
 *
 * The lane exchanges target (call id, then none), and looks at state after the
 * second exchange. The control thread adds itself to state, and only then looks
 * at target. All are sequentially consistent: either the control thread sees
 * that the call is over, or the lane sees that somebody is interrupting it,
 * waits for him, and takes back what he left behind.
 *
 * Imports. A module whose code was cut half-way is lost to the process: the parts that
 * were loaded cannot be loaded again. So the thread that begins an import exchanges target
 * for the same id with EP_RUNNING_IMPORTS, and back at its end, each time with the look at
 * state. An interrupt that finds the call like this only notes that it came, and is raised
 * where the import ends, or where a question to Erlang in it waits. A forced one is raised at
 * once if another is noted already.
 *
 * Ownership  the lane, or the Python thread that runs requests for it.
 * Threads    each function says.
 */

#include "ep_layout.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_py_context;

#define EP_PY_CALL_NONE UINT64_MAX
#define EP_PY_CALL_ANY (UINT64_MAX - 1)

#define EP_PY_INTERRUPTS 64 /* under way at a time */

/* Bits of state: somebody has struck, and raised nothing, for it came too late or in an import. */
#define EP_PY_STRUCK 0x80000000u
#define EP_PY_MISSED 0x40000000u

struct ep_py_interrupt {
    ep_atomic_u64 target; /* lane: call id, or with EP_RUNNING_IMPORTS, or EP_PY_CALL_NONE */
    ep_atomic_u32 state;  /* interrupters at work; top bit: one has struck */
    pthread_mutex_t mutex;
    pthread_cond_t idle;           /* an interrupter, or the call, has ended */
    struct ep_py_context *context; /* of the running call; written by the lane before target */
    bool is_nested;                /* likewise: another call waits below it in the thread */
    ep_atomic_u64 *shown;          /* lane: what the VM sees of target, or NULL */
    ep_atomic_u64 claimed[EP_PY_INTERRUPTS];
    /* Under the mutex: calls, or EP_PY_CALL_NONE. One who waits is enough: others would
     * only stand in the way of the call, which wants the GIL, too. */
    uint64_t waiting_for; /* somebody waits for the GIL, to interrupt it */
    uint64_t kicking;     /* somebody kicks its thread ... */
    bool kicks_again;     /* ... and begins anew, for another has struck */
    bool is_settling;     /* the lane waits for whoever strikes */
    uint64_t offered;     /* an event loop is asked to raise the exception in it */
    uint64_t awakened;    /* an exception was set: it sleeps no longer, see ep_py_sleep.h */
};

void ep_py_interrupt_init(struct ep_py_interrupt *interrupt, ep_atomic_u64 *shown);

/* What the imports of the calling thread hold up, or NULL. Returns what it was before. */
struct ep_py_interrupt *ep_py_interrupt_enter(struct ep_py_interrupt *interrupt);

/* That of the calling thread. */
struct ep_py_interrupt *ep_py_interrupt_own(void);

/* Lane, attached: from here on the call can be interrupted. A full barrier. call_id with
 * EP_RUNNING_IMPORTS: a call that goes on within an import. is_nested: another waits below. */
void ep_py_interrupt_begin(struct ep_py_interrupt *interrupt, struct ep_py_context *context,
                           uint64_t call_id, bool is_nested);

/* Lane, attached: from here on it cannot; nothing is left behind. Returns whether
 * an interrupt was on its way: a call that goes on later owes it an exception. */
bool ep_py_interrupt_end(struct ep_py_interrupt *interrupt);

/* The same where the call has ended for good: what an interrupt has left of an event loop of
 * this thread goes, too. */
void ep_py_interrupt_finish(struct ep_py_interrupt *interrupt);

/* Lane: whether the call that runs imports a module. */
bool ep_py_interrupt_is_held(const struct ep_py_interrupt *interrupt);

/* The call that runs in this thread begins to import. Sets ret_is_due if an interrupt has
 * come first: it is to be raised instead. Returns what let_go() wants. */
uint64_t ep_py_interrupt_hold(bool *ret_is_due);

/* The import has ended, perhaps with an exception, which stays set. Returns whether an
 * interrupt has come meanwhile. */
bool ep_py_interrupt_let_go(uint64_t held);

#ifdef __cplusplus
}
#endif

#endif
