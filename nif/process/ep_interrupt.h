/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_INTERRUPT_H
#define EP_INTERRUPT_H

/*
 * ep_interrupt - calls that shall end before Python is done with them.
 *
 * A call is given up by its caller, or interrupted for somebody else. A call that waits in
 * private memory ends at once; one in a ring is marked; one that runs, or may run, is
 * interrupted over both ways, see service/worker/ep_worker_callback.c: a CANCEL on its lane, and an
 * INTERRUPT for the control thread.
 *
 * The owner of the lane (a py_context process) gets
 *   {py_lane, {cancelled, CallId}}    a caller gave the call up, or its budget has ended
 *   {py_lane, {interrupted, CallId}}  see ep_interrupt_running()
 *
 * Threads  any.
 */

#include "ep_vm.h"

/* Returns false if the process was killed before, or there is none. */
bool ep_interrupt_kill(struct ep_lane *lane, enum ep_kill_reason reason);

/* Gives up a call: true if it will never answer, false if it has something to collect. A
 * callback that nobody has collected counts as that, unless refuses_callback. */
bool ep_interrupt_cancel(struct ep_lane *lane, ErlNifEnv *caller_env, struct ep_call *call,
                         bool refuses_callback);

/* Interrupts a call, wherever it is. Returns whether there is such a call. */
bool ep_interrupt(struct ep_lane *lane, uint64_t call_id);

/* Interrupts the call that runs, and tells the context which one, for it may have to wait
 * for an import. Returns whether there is one. */
bool ep_interrupt_running(struct ep_lane *lane, ErlNifEnv *caller_env);

/* An interrupt of the call that waits for the end of an import waits no longer. */
void ep_interrupt_import(struct ep_lane *lane, uint64_t call_id);

/* The same for a call whose budget has ended, and tells the context to watch it. */
void ep_interrupt_overdue(struct ep_lane *lane, ErlNifEnv *caller_env, uint64_t call_id);

#endif
