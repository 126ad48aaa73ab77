/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void ep_outlet_init(struct ep_outlet *outlet)
{
    struct stat what;

    *outlet = (struct ep_outlet){.fd = STDERR_FILENO};
    if (fstat(STDERR_FILENO, &what) < 0) {
        outlet->fd = -1;
        return;
    }
    outlet->is_socket = S_ISSOCK(what.st_mode);
    if (!S_ISFIFO(what.st_mode) && !S_ISCHR(what.st_mode))
        return; /* a file takes what it is given */
    /* The open file is the VM's, too: it must go on blocking, so this is another one. */
    int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    outlet->may_block = fd < 0;
    if (fd >= 0)
        outlet->fd = fd;
}

/* How much was taken; 0: no room, or nobody is left. */
static size_t push(struct ep_outlet *outlet, const char *bytes, size_t size)
{
    ssize_t n;

    if (outlet->may_block) {
        struct pollfd p = {.fd = outlet->fd, .events = POLLOUT};
        if (poll(&p, 1, 0) != 1 || (p.revents & POLLOUT) == 0)
            return 0;
        size = size < 4096 ? size : 4096; /* for so much there is room in a pipe then */
    }
    do {
        n = outlet->is_socket ? send(outlet->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL)
                              : write(outlet->fd, bytes, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno != EAGAIN) {
        outlet->length = 0;
        if (outlet->fd != STDERR_FILENO)
            (void)close(outlet->fd);
        outlet->fd = -1;
    }
    return n < 0 ? 0 : (size_t)n;
}

static void keep(struct ep_outlet *outlet, const char *bytes, size_t size)
{
    if (outlet->ring == NULL)
        outlet->ring = malloc(EP_OUTLET_SIZE);
    size_t room = outlet->ring == NULL ? 0 : EP_OUTLET_SIZE - outlet->length;
    size_t n = size < room ? size : room;

    for (size_t done = 0; done < n;) {
        size_t at = (outlet->head + outlet->length) % EP_OUTLET_SIZE;
        size_t part = n - done < EP_OUTLET_SIZE - at ? n - done : EP_OUTLET_SIZE - at;
        memcpy(outlet->ring + at, bytes + done, part);
        outlet->length += part;
        done += part;
    }
    outlet->lost += size - n;
}

void ep_outlet_write(struct ep_outlet *outlet, const char *bytes, size_t size)
{
    ep_outlet_flush(outlet);
    while (size > 0 && outlet->fd >= 0 && outlet->length == 0 && outlet->lost == 0) {
        size_t n = push(outlet, bytes, size);
        if (n == 0)
            break;
        bytes += n;
        size -= n;
    }
    if (outlet->fd >= 0)
        keep(outlet, bytes, size);
}

int ep_outlet_wants(const struct ep_outlet *outlet)
{
    return outlet->length > 0 || outlet->lost > 0 ? outlet->fd : -1;
}

void ep_outlet_flush(struct ep_outlet *outlet)
{
    char line[128];

    while (outlet->length > 0 && outlet->fd >= 0) {
        size_t part = EP_OUTLET_SIZE - outlet->head;
        size_t n = push(outlet, outlet->ring + outlet->head,
                        part < outlet->length ? part : outlet->length);
        if (n == 0)
            return;
        outlet->head = (outlet->head + n) % EP_OUTLET_SIZE;
        outlet->length -= n;
    }
    if (outlet->lost == 0 || outlet->fd < 0)
        return;
    int n = snprintf(line, sizeof(line),
                     "\nep_launcher: %" PRIu64
                     " bytes that Python wrote to stderr are lost: they were not read in time\n",
                     outlet->lost);
    outlet->lost = 0;
    keep(outlet, line, (size_t)n);
    ep_outlet_flush(outlet);
}

void ep_outlet_finish(struct ep_outlet *outlet)
{
    free(outlet->ring);
    if (outlet->fd > STDERR_FILENO)
        (void)close(outlet->fd);
    *outlet = (struct ep_outlet){.fd = -1};
}
