/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_SANDBOX_H
#define EP_WORKER_SANDBOX_H

/*
 * ep_worker_sandbox - the sandbox of this process.
 *
 * Errors     the process ends where the level strict is not in force.
 * Threads    entered before there are others; the word by any.
 */

#include <stdint.h>

/* Before Python starts. temp: of the level strict, the directory for temporary files. */
void ep_worker_sandbox_enter(const char *level, const char *temp);

/* In a worker that a zygote has forked: apart from the zygote and its other children. */
void ep_worker_sandbox_enter_again(void);

/* What HELLO says of it, see ep_control.h. */
uint32_t ep_worker_sandbox_word(void);

#endif
