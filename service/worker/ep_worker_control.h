/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_CONTROL_H
#define EP_WORKER_CONTROL_H

/*
 * ep_worker_control - the control lane: its thread, and the one that watches the VM's life.
 *
 * Errors   0 or a negative errno.
 * Threads  the main thread, once.
 */

#include "ep_worker.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Publishes HELLO. The control lane is attached. */
void ep_worker_control_greet(struct ep_worker *worker);

/* Publishes HELLO and starts both threads. */
int ep_worker_control_start(struct ep_worker *worker);

#ifdef __cplusplus
}
#endif

#endif
