/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_WAIT_BACKEND_H
#define EP_WAIT_BACKEND_H

/*
 * ep_wait_backend - what the two backends of ep_wait have in common. Private to ep_wait*.c.
 *
 * A backend's object starts with a struct ep_wait. Its next() may return 0 early,
 * interrupted by a signal for one; ep_wait_next() knows the time that is left.
 */

#include "ep_wait.h"

struct ep_wait_ops {
    enum ep_wait_backend which;
    void (*destroy)(struct ep_wait *wait);
    int (*add)(struct ep_wait *wait, int fd, uint64_t tag);
    int (*remove)(struct ep_wait *wait, int fd, uint64_t tag);
    int (*next)(struct ep_wait *wait, struct ep_wait_event *events, size_t max, int timeout_ms);
};

struct ep_wait {
    const struct ep_wait_ops *ops;
};

int ep_wait_uring_create(struct ep_wait **ret_wait);
int ep_wait_epoll_create(struct ep_wait **ret_wait);

#endif
