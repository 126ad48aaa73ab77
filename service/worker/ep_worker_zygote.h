/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_ZYGOTE_H
#define EP_WORKER_ZYGOTE_H

/*
 * ep_worker_zygote - a process that imports modules once, and forks workers that have them.
 *
 * It has one thread, and no descriptor of a worker but while it forks it. It ends with the
 * launcher, or with the VM.
 *
 * Threads  the main thread.
 */

#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Before Python starts. */
void ep_worker_zygote_note(void);

/* Prepares what the launcher has sent, tries a fork, says HELLO, and forks. Returns in each
 * worker, with its descriptors; Python's main thread is not attached there. */
void ep_worker_zygote_run(struct ep_worker *zygote, struct ep_worker_fds *ret_fds);

#ifdef __cplusplus
}
#endif

#endif
