/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_wait_backend.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 64

struct epoll_wait_set {
    struct ep_wait base; /* first: the two addresses are one */
    int fd;
};

static void destroy(struct ep_wait *wait)
{
    struct epoll_wait_set *set = (struct epoll_wait_set *)wait;

    (void)close(set->fd);
    free(set);
}

static int add(struct ep_wait *wait, int fd, uint64_t tag)
{
    struct epoll_wait_set *set = (struct epoll_wait_set *)wait;
    /* Level-triggered; errors and hang-ups are reported unasked. */
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};

    return epoll_ctl(set->fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int remove_fd(struct ep_wait *wait, int fd, uint64_t tag)
{
    struct epoll_wait_set *set = (struct epoll_wait_set *)wait;

    (void)tag; /* the kernel knows it by the fd */
    return epoll_ctl(set->fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

static int next(struct ep_wait *wait, struct ep_wait_event *events, size_t max, int timeout_ms)
{
    struct epoll_wait_set *set = (struct epoll_wait_set *)wait;
    struct epoll_event ready[BATCH];

    int n = epoll_wait(set->fd, ready, max < BATCH ? (int)max : BATCH, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++)
        events[i].tag = ready[i].data.u64;
    return n;
}

static const struct ep_wait_ops epoll_ops = {
    .which = EP_WAIT_EPOLL,
    .destroy = destroy,
    .add = add,
    .remove = remove_fd,
    .next = next,
};

int ep_wait_epoll_create(struct ep_wait **ret_wait)
{
    struct epoll_wait_set *set = malloc(sizeof(*set));
    if (set == NULL)
        return -ENOMEM;

    set->base.ops = &epoll_ops;
    set->fd = epoll_create1(EPOLL_CLOEXEC);
    if (set->fd < 0) {
        int rc = -errno;
        free(set);
        return rc;
    }
    *ret_wait = &set->base;
    return 0;
}
