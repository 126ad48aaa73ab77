/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_fdpass.h"
#include "evil_attack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* What can be done to files that the VM has open, too: doorbell, control pipe, and the
 * segments. */

static void set_blocking(int fd)
{
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

static void drain(int fd)
{
    uint64_t value;

    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    (void)!read(fd, &value, sizeof(value));
}

/* Whoever reads it plainly after it was drained reads for ever. */
static void fd_blocking(struct evil_order *order)
{
    uint64_t end = evil_now_ms() + order->ms;

    do {
        evil_ring(order->worker);
        drain(order->worker->doorbell);
        set_blocking(order->worker->doorbell);
    } while (evil_now_ms() < end);
    evil_ring(order->worker);
}

/* A ring that was heard by nobody. */
static void fd_drain(struct evil_order *order)
{
    uint64_t end = evil_now_ms() + order->ms;

    do {
        evil_ring(order->worker);
        drain(order->worker->doorbell);
    } while (evil_now_ms() < end);
}

static void fd_fill(struct evil_order *order)
{
    uint64_t most = UINT64_MAX - 1;

    (void)fcntl(order->worker->doorbell, F_SETFL, O_NONBLOCK);
    drain(order->worker->doorbell);
    (void)!write(order->worker->doorbell, &most, sizeof(most));
}

static void fd_close_doorbell(struct evil_order *order)
{
    (void)close(order->worker->doorbell);
}

static void fd_close_control(struct evil_order *order)
{
    (void)close(order->worker->control);
    evil_ring(order->worker);
}

/* Through its own end, and through one that it may open of a pipe. */
static void fd_fill_control(struct evil_order *order)
{
    static const uint8_t bytes[4096];
    int fds[] = {order->worker->control, open("/proc/self/fd/7", O_RDWR | O_NONBLOCK | O_CLOEXEC)};

    (void)fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) | O_NONBLOCK);
    for (unsigned i = 0; i < 10000; i++)
        if (write(fds[0], bytes, sizeof(bytes)) < 0 && write(fds[1], bytes, sizeof(bytes)) < 0)
            break;
}

/* Queues fds at the other end: of the segments, of the doorbell, of the socket itself. */
static void fd_rights(struct evil_order *order)
{
    int fds[EP_FDPASS_MAX] = {order->worker->control, order->worker->doorbell, EP_WORKER_FD_A,
                              EP_WORKER_FD_B, EP_WORKER_FD_C};

    for (unsigned i = 0; i < 1000; i++)
        if (ep_fdpass_send(order->worker->control, "evil", 4, fds, EP_FDPASS_MAX) < 0)
            break;
}

/* A connection whose data nobody acknowledges, and whose close waits for that. */
static int lingering_socket(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct linger linger = {.l_onoff = 1, .l_linger = 25};
    socklen_t size = sizeof(address);
    static const uint8_t bytes[65536];

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || fd < 0 || bind(listener, (struct sockaddr *)&address, size) < 0
        || listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0
        || connect(fd, (struct sockaddr *)&address, size) < 0)
        return -1;
    while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        continue;
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    return fd;
}

static void fd_linger(struct evil_order *order)
{
    int fd = lingering_socket();

    if (fd >= 0 && ep_fdpass_send(order->worker->control, "evil", 4, &fd, 1) == 0)
        (void)close(fd);
}

/* What the seals and modes of the segments are there to refuse. */
static void fd_segments(struct evil_order *order)
{
    char path[] = "/proc/self/fd/3";

    for (int fd = EP_WORKER_FD_A; fd <= EP_WORKER_FD_C; fd++) {
        path[sizeof(path) - 2] = (char)('0' + fd);
        (void)ftruncate(fd, 0);
        (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
        (void)fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
        int again = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
        if (again >= 0 && fd != EP_WORKER_FD_B)
            (void)mmap(NULL, EP_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
        if (again >= 0)
            (void)close(again);
    }
    (void)mprotect(order->worker->a.mem, order->worker->a.size, PROT_READ | PROT_WRITE);
    (void)mprotect(order->worker->c.mem, order->worker->c.size, PROT_READ | PROT_WRITE);
    evil_ring(order->worker);
}

const struct evil_attack evil_fd_attacks[] = {
    {"fd_blocking", fd_blocking},
    {"fd_drain", fd_drain},
    {"fd_fill", fd_fill},
    {"fd_close_doorbell", fd_close_doorbell},
    {"fd_close_control", fd_close_control},
    {"fd_fill_control", fd_fill_control},
    {"fd_rights", fd_rights},
    {"fd_linger", fd_linger},
    {"fd_segments", fd_segments},
    {NULL, NULL},
};
