/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_tail.h"

#include "ep_control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (64u << 10)

int ep_tail_init(struct ep_tail *tail, int *ret_worker_end)
{
    int ends[2];

    *tail = (struct ep_tail){.fd = -1};
    /* Each end is an open file of its own: whatever flags the worker gives to its one, a read
     * of ours does not wait. */
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    tail->fd = ends[0];
    *ret_worker_end = ends[1];
    return 0;
}

static void remember(struct ep_tail *tail, const char *bytes, size_t size)
{
    if (tail->ring == NULL)
        tail->ring = malloc(EP_CONTROL_TEXT_MAX);
    if (tail->ring == NULL)
        return;
    if (size > EP_CONTROL_TEXT_MAX) {
        tail->total += size - EP_CONTROL_TEXT_MAX;
        bytes += size - EP_CONTROL_TEXT_MAX;
        size = EP_CONTROL_TEXT_MAX;
    }
    size_t at = tail->total % EP_CONTROL_TEXT_MAX;
    size_t part = size < EP_CONTROL_TEXT_MAX - at ? size : EP_CONTROL_TEXT_MAX - at;
    memcpy(tail->ring + at, bytes, part);
    memcpy(tail->ring, bytes + part, size - part);
    tail->total += size;
}

bool ep_tail_read(struct ep_tail *tail, struct ep_outlet *outlet)
{
    static char piece[PIECE];

    if (tail->fd < 0)
        return false;
    ssize_t n = read(tail->fd, piece, sizeof(piece));
    if (n > 0) {
        remember(tail, piece, (size_t)n);
        ep_outlet_write(outlet, piece, (size_t)n);
        return true;
    }
    if (n < 0 && errno == EINTR)
        return true;
    if (n == 0 || errno != EAGAIN) {
        (void)close(tail->fd);
        tail->fd = -1;
    }
    return false;
}

size_t ep_tail_copy(const struct ep_tail *tail, char *ret_text)
{
    size_t size = tail->total < EP_CONTROL_TEXT_MAX ? tail->total : EP_CONTROL_TEXT_MAX;
    size_t at = (tail->total - size) % EP_CONTROL_TEXT_MAX;

    if (tail->ring == NULL)
        return 0;
    size_t part = size < EP_CONTROL_TEXT_MAX - at ? size : EP_CONTROL_TEXT_MAX - at;
    memcpy(ret_text, tail->ring + at, part);
    memcpy(ret_text + part, tail->ring, size - part);
    return size;
}

void ep_tail_finish(struct ep_tail *tail)
{
    free(tail->ring);
    if (tail->fd >= 0)
        (void)close(tail->fd);
    *tail = (struct ep_tail){.fd = -1};
}
