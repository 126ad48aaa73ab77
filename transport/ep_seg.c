/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_seg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

static int create_memfd(size_t size)
{
    int fd = memfd_create("ep", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("ep", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;

    if (ftruncate(fd, (off_t)size) < 0) {
        int rc = -errno;
        (void)close(fd);
        return rc;
    }
    return fd;
}

static int map_shared(int fd, size_t size, int prot, void **ret_mem)
{
    void *mem = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
    if (mem == MAP_FAILED)
        return -errno;

    /* A child that Python forks must not reach the rings, and a core dump must
     * not carry other people's data. Hints both: nothing to do on failure. */
    (void)madvise(mem, size, MADV_DONTFORK);
    (void)madvise(mem, size, MADV_DONTDUMP);
    *ret_mem = mem;
    return 0;
}

/* Seals what this side writes. */
static int seal_own(int fd)
{
    if (fcntl(fd, F_ADD_SEALS, SIZE_SEALS | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0
        && fcntl(fd, F_ADD_SEALS, SIZE_SEALS | F_SEAL_SEAL) < 0)
        return -errno;
    return 0;
}

/* An fd of the same file that cannot write, and whose mappings never can; negative
 * without /proc. */
static int open_reader(int fd)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The same for what has to shrink; *fd becomes one that cannot write. */
static int seal_slabs(int *fd)
{
    int reader = open_reader(*fd);

    if (reader < 0)
        return seal_own(*fd);
    if (fcntl(*fd, F_ADD_SEALS, SIZE_SEALS | F_SEAL_SEAL) < 0) {
        int rc = -errno;
        (void)close(reader);
        return rc;
    }
    (void)close(*fd);
    *fd = reader;
    return 0;
}

static int create_written(struct ep_seg *seg, size_t size, size_t prefault, bool shrinks)
{
    void *mem = NULL;
    int rc;

    int fd = create_memfd(size);
    if (fd < 0)
        return fd;

    if (prefault > 0 && fallocate(fd, 0, 0, (off_t)prefault) < 0 && errno != EOPNOTSUPP) {
        rc = -errno;
        goto close_fd;
    }
    rc = map_shared(fd, size, PROT_READ | PROT_WRITE, &mem);
    if (rc < 0)
        goto close_fd;

    rc = shrinks ? seal_slabs(&fd) : seal_own(fd);
    if (rc < 0)
        goto unmap;

    *seg = (struct ep_seg){.mem = mem, .size = size, .fd = fd};
    return 0;

unmap:
    (void)munmap(mem, size);
close_fd:
    (void)close(fd);
    return rc;
}

int ep_seg_create_own(struct ep_seg *seg, size_t size, size_t prefault)
{
    return create_written(seg, size, prefault, false);
}

int ep_seg_create_slabs(struct ep_seg *seg, size_t size)
{
    return create_written(seg, size, 0, true);
}

void ep_seg_give_back(void *start, size_t size)
{
    (void)madvise(start, size, MADV_REMOVE);
}

static int create_read(struct ep_seg *seg, size_t size, int seals)
{
    void *mem = NULL;
    int rc;

    int fd = create_memfd(size);
    if (fd < 0)
        return fd;

    if (fcntl(fd, F_ADD_SEALS, seals) < 0) {
        rc = -errno;
        goto close_fd;
    }
    rc = map_shared(fd, size, PROT_READ, &mem);
    if (rc < 0)
        goto close_fd;

    *seg = (struct ep_seg){.mem = mem, .size = size, .fd = fd};
    return 0;

close_fd:
    (void)close(fd);
    return rc;
}

int ep_seg_create_peer(struct ep_seg *seg, size_t size)
{
    return create_read(seg, size, SIZE_SEALS | F_SEAL_SEAL);
}

int ep_seg_create_lent(struct ep_seg *seg, size_t size)
{
    return create_read(seg, size, SIZE_SEALS);
}

int ep_seg_seal_writers(const struct ep_seg *seg)
{
    return fcntl(seg->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0 ? -errno : 0;
}

bool ep_seg_is_own(const struct ep_seg *seg)
{
    int seals = fcntl(seg->fd, F_GET_SEALS);

    return seals >= 0 && (seals & F_SEAL_FUTURE_WRITE) != 0;
}

int ep_seg_open(struct ep_seg *seg, int fd, bool writable)
{
    struct stat st;
    void *mem;

    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return -errno;
    if ((seals & SIZE_SEALS) != SIZE_SEALS)
        return -EPERM;

    /* After the seal check: only now is the size final. */
    if (fstat(fd, &st) < 0)
        return -errno;

    int rc =
        map_shared(fd, (size_t)st.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ, &mem);
    if (rc < 0)
        return rc;

    *seg = (struct ep_seg){.mem = mem, .size = (size_t)st.st_size, .fd = fd};
    return 0;
}

void ep_seg_close_fd(struct ep_seg *seg)
{
    if (seg->mem == NULL || seg->fd < 0)
        return;
    (void)close(seg->fd);
    seg->fd = -1;
}

void ep_seg_finish(struct ep_seg *seg)
{
    if (seg->mem == NULL)
        return;

    ep_seg_close_fd(seg);
    (void)munmap(seg->mem, seg->size);
    *seg = (struct ep_seg){.fd = -1};
}
