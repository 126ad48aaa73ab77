/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_THREAD_H
#define EP_THREAD_H

/*
 * ep_thread - starting a detached thread with the right stack and signals.
 *
 * Units      bytes of stack.
 * Errors     0 or a negative errno.
 * Threads    any.
 */

#include <stdbool.h>
#include <stddef.h>

/* Notes the mask that threads with signals get: that of the calling thread, which is the
 * first one. */
void ep_thread_note_mask(void);

/* Starts run(user). Without with_signals the thread blocks all of them, so that they
 * reach the threads that run Python. */
int ep_thread_start(void *(*run)(void *), void *user, size_t stack_size, bool with_signals);

#endif
