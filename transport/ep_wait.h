/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WAIT_H
#define EP_WAIT_H

/*
 * ep_wait - sleep until one of many fds is readable or hung up.
 *
 * Two equal backends: io_uring with polls that are armed again in the syscall
 * that waits, and epoll where io_uring is refused (containers do that). The
 * environment variable EP_WAIT=io_uring or epoll forces one, for tests.
 *
 * Ownership  fds stay the caller's; remove them before closing them.
 * Errors     0 or a count, or a negative errno.
 * Threads    one at a time. To interrupt ep_wait_next() from another thread,
 *            make one of the fds readable.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_wait;

struct ep_wait_event {
    uint64_t tag; /* what ep_wait_add() was given */
};

enum ep_wait_backend { EP_WAIT_IO_URING = 1, EP_WAIT_EPOLL = 2 };

/* Makes a wait set. Without EP_WAIT: io_uring, else epoll.
 * -EINVAL: EP_WAIT holds another word.  -ENOSYS or -EPERM: EP_WAIT asks for
 * io_uring and the kernel refuses it.  -EMFILE, -ENOMEM. */
int ep_wait_create(struct ep_wait **ret_wait);
void ep_wait_destroy(struct ep_wait *wait);

enum ep_wait_backend ep_wait_which(const struct ep_wait *wait);

/* Reports fd under tag from now on. Events are level-triggered in effect: an fd
 * that stays readable is reported again, if the caller drained it in between
 * or not.
 * -EBADF: not an fd.  -EEXIST: it is in the set.  -ENOMEM. */
int ep_wait_add(struct ep_wait *wait, int fd, uint64_t tag);

/* -ENOENT: not in the set. */
int ep_wait_remove(struct ep_wait *wait, int fd, uint64_t tag);

/* Waits at most timeout_ms (negative: for ever). Returns how many events, 0 on
 * timeout. An event may be reported once more after its fd was removed. */
int ep_wait_next(struct ep_wait *wait, struct ep_wait_event *events, size_t max, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
