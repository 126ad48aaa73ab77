/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_REQUEST_H
#define EP_LAUNCHER_REQUEST_H

/*
 * ep_launcher_request - what the VM asks of the launcher, with its fds.
 *
 * Errors   0 or a negative errno.
 * Threads  one.
 */

#include "ep_control.h"
#include "ep_fdpass.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads one request of the VM. Its fds are the caller's; those of a SPAWN may be missing, for
 * the kernel discards what finds no number here.
 * -EAGAIN: there is none.  -EPROTO: it makes no sense.  -EPIPE: the VM is gone. No fd is open
 * then. */
int ep_launcher_request_receive(int socket, struct ep_control_request *ret_request,
                                int ret_fds[EP_FDPASS_MAX]);

/* Closes those that are open. */
void ep_launcher_request_close_fds(int fds[EP_FDPASS_MAX]);

#ifdef __cplusplus
}
#endif

#endif
