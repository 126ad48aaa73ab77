/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_THREAD_H
#define EP_WORKER_THREAD_H

/*
 * ep_worker_thread - Python threads that call Erlang.
 *
 * A thread that Python code started has no lane. Its questions go out on the control
 * lane, and what comes back for it there, the outcome and requests that the callback
 * made on its context, the control thread hands over; the thread runs those requests
 * itself, so that a lane that waits for it cannot be what it waits for.
 *
 * Threads  deliver, strike and stop: the control thread.
 */

#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sets the channel of all threads that are no lane's. Once, before Python code runs. */
void ep_worker_thread_init(struct ep_worker *worker);

/* Hands a message over to the thread that it names; it is copied. */
void ep_worker_thread_deliver(struct ep_worker *worker, const struct ep_cell *cell,
                              const uint8_t *payload);

/* Interrupts the call if a thread runs it. */
void ep_worker_thread_strike(uint64_t call_id, uint64_t number, bool is_forced);

/* A question that no thread waits for counts as one of theirs. False: there are too many. Any
 * thread. */
bool ep_worker_thread_take_question(void);
void ep_worker_thread_give_question_back(void);

/* Wakes all that wait: the process ends. */
void ep_worker_thread_stop(void);

#ifdef __cplusplus
}
#endif

#endif
