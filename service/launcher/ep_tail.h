/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_TAIL_H
#define EP_TAIL_H

/*
 * ep_tail - what one worker process writes to its standard error.
 *
 * The read end of its pipe and the last bytes that came out of it: what the VM is told
 * when the worker dies. The launcher does not wait for it: a worker that floods its pipe
 * gets a piece of each round.
 *
 * Ownership  lives in its owner's memory, with an fd and a buffer of its own.
 * Errors     0 or a negative errno.
 * Threads    one.
 * Trust      a worker can write anything, close the pipe, or hand it to its children.
 */

#include "ep_outlet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_tail {
    int fd;         /* -1: closed */
    uint64_t total; /* bytes that came so far */
    char *ring;     /* the last of them, EP_CONTROL_TEXT_MAX at most; NULL before the first */
};

/* Makes the pipe. *ret_worker_end is the caller's. */
int ep_tail_init(struct ep_tail *tail, int *ret_worker_end);

/* Takes what is there, a piece of it at most. Returns whether there may be more. */
bool ep_tail_read(struct ep_tail *tail, struct ep_outlet *outlet);

/* Copies the last bytes, EP_CONTROL_TEXT_MAX at most. Returns how many. */
size_t ep_tail_copy(const struct ep_tail *tail, char *ret_text);
void ep_tail_finish(struct ep_tail *tail);

#ifdef __cplusplus
}
#endif

#endif
