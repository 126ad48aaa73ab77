/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ep_cpu.h"
#include "ep_wait_backend.h"

#define NS_PER_MS 1000000u

int ep_wait_create(struct ep_wait **ret_wait)
{
    const char *forced = getenv("EP_WAIT");

    if (forced == NULL || forced[0] == '\0') {
        /* Whatever keeps io_uring away, seccomp, a sysctl, an old kernel or the
         * limit of locked memory, epoll does the same work. */
        return ep_wait_uring_create(ret_wait) == 0 ? 0 : ep_wait_epoll_create(ret_wait);
    }
    if (strcmp(forced, "io_uring") == 0)
        return ep_wait_uring_create(ret_wait);
    if (strcmp(forced, "epoll") == 0)
        return ep_wait_epoll_create(ret_wait);
    return -EINVAL;
}

void ep_wait_destroy(struct ep_wait *wait)
{
    if (wait != NULL)
        wait->ops->destroy(wait);
}

enum ep_wait_backend ep_wait_which(const struct ep_wait *wait)
{
    return wait->ops->which;
}

int ep_wait_add(struct ep_wait *wait, int fd, uint64_t tag)
{
    return wait->ops->add(wait, fd, tag);
}

int ep_wait_remove(struct ep_wait *wait, int fd, uint64_t tag)
{
    return wait->ops->remove(wait, fd, tag);
}

int ep_wait_next(struct ep_wait *wait, struct ep_wait_event *events, size_t max, int timeout_ms)
{
    if (max == 0)
        return -EINVAL;
    if (timeout_ms <= 0) {
        int n;
        do {
            n = wait->ops->next(wait, events, max, timeout_ms);
        } while (n == 0 && timeout_ms < 0);
        return n;
    }

    uint64_t end_ns = ep_clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    int left_ms = timeout_ms;
    for (;;) {
        int n = wait->ops->next(wait, events, max, left_ms);
        uint64_t now_ns = ep_clock_ns();
        if (n != 0 || now_ns >= end_ns)
            return n;
        left_ms = (int)((end_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
    }
}
