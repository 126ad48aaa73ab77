/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_fdpass.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    char bytes[CMSG_SPACE(EP_FDPASS_MAX * sizeof(int))];
    struct cmsghdr align;
};

int ep_fdpass_send(int socket, const void *data, size_t size, const int *fds, size_t n_fds)
{
    struct iovec iov = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union control control;

    if (n_fds > EP_FDPASS_MAX)
        return -EINVAL;
    if (n_fds > 0) {
        memset(&control, 0, sizeof(control));
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
    }

    ssize_t n;
    do {
        n = sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static void close_fds(int fds[EP_FDPASS_MAX])
{
    for (int i = 0; i < EP_FDPASS_MAX; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
        fds[i] = -1;
    }
}

static void take_fds(struct msghdr *msg, int ret_fds[EP_FDPASS_MAX])
{
    size_t n = 0;

    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
            if (n < EP_FDPASS_MAX)
                ret_fds[n++] = fd;
            else
                (void)close(fd);
        }
    }
}

ssize_t ep_fdpass_receive(int socket, void *data, size_t size, int ret_fds[EP_FDPASS_MAX])
{
    struct iovec iov = {.iov_base = data, .iov_len = size};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union control control;
    ssize_t n;

    if (ret_fds != NULL) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        for (int i = 0; i < EP_FDPASS_MAX; i++)
            ret_fds[i] = -1;
    }
    do {
        n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;

    ssize_t rc = n == 0 ? -EPIPE : (msg.msg_flags & MSG_TRUNC) != 0 ? -EPROTO : n;
    if (ret_fds == NULL)
        return rc;
    take_fds(&msg, ret_fds);
    /* A caller that is told of a failure does not look for fds to close. MSG_CTRUNC, where
     * there was room for them: the kernel discarded some. */
    if (rc < 0 || (msg.msg_flags & MSG_CTRUNC) != 0)
        close_fds(ret_fds);
    return rc;
}
