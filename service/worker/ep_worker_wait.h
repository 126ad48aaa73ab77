/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WORKER_WAIT_H
#define EP_WORKER_WAIT_H

/*
 * ep_worker_wait - how a lane waits for messages: look, spin, sleep.
 *
 * Threads  the lane's own.
 */

#include "ep_worker_lane.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Waits for a message, on the urgent ring only or on both. False on SHUTDOWN. */
bool ep_worker_wait(struct ep_worker_lane *lane, bool urgent_only);

#ifdef __cplusplus
}
#endif

#endif
