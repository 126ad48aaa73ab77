/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_FDPASS_H
#define EP_FDPASS_H

/*
 * ep_fdpass - one message and up to EP_FDPASS_MAX fds over a SOCK_SEQPACKET socket.
 *
 * Ownership  sent fds stay the caller's; received ones are the caller's,
 *            close-on-exec.
 * Errors     0 or a length, or a negative errno: -EAGAIN nothing there or no
 *            room, -EPIPE the peer is gone, -EPROTO truncated.
 * Threads    any. Nothing here blocks: MSG_DONTWAIT does not depend on a flag
 *            that the peer could clear.
 */

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_FDPASS_MAX 6

int ep_fdpass_send(int socket, const void *data, size_t size, const int *fds, size_t n_fds);

/* Returns the size of the message. fds that were not sent come back as -1, and
 * all of them on failure, and all of them if not every one that was sent could come in:
 * there were too many, or this process has no number left for one. An empty message counts
 * as the end. With ret_fds NULL the kernel discards whatever fds the peer sends. */
ssize_t ep_fdpass_receive(int socket, void *data, size_t size, int ret_fds[EP_FDPASS_MAX]);

#ifdef __cplusplus
}
#endif

#endif
