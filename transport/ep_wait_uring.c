/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_wait_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * One-shot polls, armed again in the syscall that waits.
 *
 * A multishot poll reports changes: an fd that was readable before and that the
 * caller did not drain stays silent, and the header promises that it is
 * reported again. A one-shot poll looks at the fd when it is armed, so arming
 * it anew for each wait is level-triggered. It costs one queue entry per event
 * that was reported and no syscall: io_uring_enter() submits and waits.
 *
 * Nothing is submitted outside of next(), with one exception: a removal is, at
 * once, because an armed poll keeps the file open behind the caller's back, and
 * a peer would not see it closed.
 *
 * An entry is DUE (reported or new, to be armed by the next wait), ARMED (the
 * kernel has a poll for it) or FREE. Completions carry the index and the generation
 * of the entry; removal changes the generation, so late ones match nothing.
 */

#define QUEUE_ENTRIES 64
#define INITIAL_TABLE 16
#define NONE UINT32_MAX
#define NOBODY UINT64_MAX /* completions of removals */

enum entry_state { ENTRY_FREE = 0, ENTRY_DUE, ENTRY_ARMED };

struct entry {
    uint64_t tag;
    int fd;
    uint32_t generation;
    uint32_t next; /* in the list of its state, free or due; NONE ends it */
    enum entry_state state;
};

struct uring_wait_set {
    struct ep_wait base; /* first: the two addresses are one */
    struct io_uring ring;
    struct entry *table;
    uint32_t size;
    uint32_t free; /* heads of lists */
    uint32_t due;
};

static uint64_t id_of(const struct uring_wait_set *set, uint32_t index)
{
    return (uint64_t)set->table[index].generation << 32 | index;
}

static void put_due(struct uring_wait_set *set, uint32_t index)
{
    set->table[index].state = ENTRY_DUE;
    set->table[index].next = set->due;
    set->due = index;
}

static void put_free(struct uring_wait_set *set, uint32_t index)
{
    set->table[index].state = ENTRY_FREE;
    set->table[index].generation++;
    set->table[index].next = set->free;
    set->free = index;
}

static int grow(struct uring_wait_set *set)
{
    uint32_t size = set->size == 0 ? INITIAL_TABLE : 2 * set->size;
    struct entry *table = realloc(set->table, size * sizeof(*table));
    if (table == NULL)
        return -ENOMEM;

    set->table = table;
    for (uint32_t i = set->size; i < size; i++) {
        table[i] = (struct entry){.fd = -1};
        put_free(set, i);
    }
    set->size = size;
    return 0;
}

static uint32_t find(const struct uring_wait_set *set, int fd)
{
    for (uint32_t i = 0; i < set->size; i++) {
        if (set->table[i].state != ENTRY_FREE && set->table[i].fd == fd)
            return i;
    }
    return NONE;
}

static int get_sqe(struct uring_wait_set *set, struct io_uring_sqe **ret_sqe)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&set->ring);

    if (sqe == NULL) { /* full: more fds than queue entries became due */
        int rc = io_uring_submit(&set->ring);
        if (rc < 0)
            return rc;
        sqe = io_uring_get_sqe(&set->ring);
    }
    if (sqe == NULL)
        return -EAGAIN;
    *ret_sqe = sqe;
    return 0;
}

static int arm_due(struct uring_wait_set *set)
{
    while (set->due != NONE) {
        uint32_t index = set->due;
        struct entry *entry = &set->table[index];
        struct io_uring_sqe *sqe;

        int rc = get_sqe(set, &sqe);
        if (rc < 0)
            return rc;
        io_uring_prep_poll_add(sqe, entry->fd, POLLIN);
        sqe->user_data = id_of(set, index);
        set->due = entry->next;
        entry->state = ENTRY_ARMED;
    }
    return 0;
}

/* Judges one completion. Returns whether the caller gets to hear of it. */
static bool complete(struct uring_wait_set *set, const struct io_uring_cqe *cqe, uint64_t *ret_tag)
{
    uint32_t index = (uint32_t)cqe->user_data;

    if (cqe->user_data == NOBODY || index >= set->size)
        return false;
    struct entry *entry = &set->table[index];
    if (entry->state != ENTRY_ARMED || id_of(set, index) != cqe->user_data)
        return false;

    /* A closed fd is forgotten, as epoll does. */
    if (cqe->res == -EBADF) {
        put_free(set, index);
        return false;
    }
    put_due(set, index);
    /* The kernel cancels the polls of a thread that ends. */
    if (cqe->res == -ECANCELED)
        return false;
    *ret_tag = entry->tag;
    return true;
}

static size_t collect(struct uring_wait_set *set, struct ep_wait_event *events, size_t max)
{
    struct io_uring_cqe *cqe;
    size_t n = 0;

    while (n < max && io_uring_peek_cqe(&set->ring, &cqe) == 0) {
        if (complete(set, cqe, &events[n].tag))
            n++;
        io_uring_cqe_seen(&set->ring, cqe);
    }
    return n;
}

static int next(struct ep_wait *wait, struct ep_wait_event *events, size_t max, int timeout_ms)
{
    struct uring_wait_set *set = (struct uring_wait_set *)wait;
    struct __kernel_timespec limit = {
        .tv_sec = timeout_ms / 1000,
        .tv_nsec = timeout_ms % 1000 * 1000000LL,
    };
    struct __kernel_timespec *until = timeout_ms < 0 ? NULL : &limit;
    struct io_uring_cqe *cqe;

    int rc = arm_due(set);
    if (rc == 0)
        rc = io_uring_submit_and_wait_timeout(&set->ring, &cqe, 1, until, NULL);

    /* Whatever went wrong, completions that are there count: -EBUSY even asks
     * for them to be taken. */
    size_t n = collect(set, events, max);
    if (n > 0 || rc >= 0 || rc == -ETIME || rc == -EINTR)
        return (int)n;
    return rc;
}

static int add(struct ep_wait *wait, int fd, uint64_t tag)
{
    struct uring_wait_set *set = (struct uring_wait_set *)wait;

    if (fcntl(fd, F_GETFD) < 0)
        return -errno;
    if (find(set, fd) != NONE)
        return -EEXIST;
    if (set->free == NONE) {
        int rc = grow(set);
        if (rc < 0)
            return rc;
    }

    uint32_t index = set->free;
    struct entry *entry = &set->table[index];
    set->free = entry->next;
    entry->fd = fd;
    entry->tag = tag;
    put_due(set, index);
    return 0;
}

static int remove_armed(struct uring_wait_set *set, uint32_t index)
{
    struct io_uring_sqe *sqe;

    int rc = get_sqe(set, &sqe);
    if (rc < 0)
        return rc;
    io_uring_prep_poll_remove(sqe, id_of(set, index));
    sqe->user_data = NOBODY;
    put_free(set, index);
    /* On failure the removal stays queued, and the next wait submits it. */
    (void)io_uring_submit(&set->ring);
    return 0;
}

static int remove_fd(struct ep_wait *wait, int fd, uint64_t tag)
{
    struct uring_wait_set *set = (struct uring_wait_set *)wait;

    uint32_t index = find(set, fd);
    if (index == NONE || set->table[index].tag != tag)
        return -ENOENT;
    if (set->table[index].state == ENTRY_ARMED)
        return remove_armed(set, index);

    uint32_t *link = &set->due;
    while (*link != index)
        link = &set->table[*link].next;
    *link = set->table[index].next;
    put_free(set, index);
    return 0;
}

static void destroy(struct ep_wait *wait)
{
    struct uring_wait_set *set = (struct uring_wait_set *)wait;

    io_uring_queue_exit(&set->ring);
    free(set->table);
    free(set);
}

static const struct ep_wait_ops uring_ops = {
    .which = EP_WAIT_IO_URING,
    .destroy = destroy,
    .add = add,
    .remove = remove_fd,
    .next = next,
};

int ep_wait_uring_create(struct ep_wait **ret_wait)
{
    struct uring_wait_set *set = malloc(sizeof(*set));
    if (set == NULL)
        return -ENOMEM;

    *set = (struct uring_wait_set){.base.ops = &uring_ops, .free = NONE, .due = NONE};
    int rc = io_uring_queue_init(QUEUE_ENTRIES, &set->ring, 0);
    if (rc < 0)
        goto free_set;

    /* Without it a timeout would take a second queue entry; before Linux 5.11. */
    if ((set->ring.features & IORING_FEAT_EXT_ARG) == 0) {
        rc = -ENOSYS;
        goto exit_ring;
    }
    *ret_wait = &set->base;
    return 0;

exit_ring:
    io_uring_queue_exit(&set->ring);
free_set:
    free(set);
    return rc;
}
