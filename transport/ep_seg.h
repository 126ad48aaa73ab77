/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SEG_H
#define EP_SEG_H

/*
 * ep_seg - a sealed memfd and one mapping of it; one side writes, the other reads.
 *
 * The VM creates all segments of a worker. It writes A, so it maps A writable
 * and then seals it so that nobody can map it writable again. B is for the
 * worker to write: the VM maps it read-only. C is written by the VM, too, which
 * wants to give memory of it back, and that seal would not let it: so the worker
 * gets an fd that cannot write. None can be resized by anyone, so no access can
 * hit a page that was cut off.
 *
 * Units      bytes.
 * Ownership  ep_seg_finish() releases the mapping and the fd; the memory goes
 *            with the last mapping of either side.
 * Errors     0 or a negative errno. On failure *seg is untouched.
 * Threads    none of its own; the mapping may be used from any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Zeroed, or fd -1 and mem NULL, means empty. The fields are there to read. */
struct ep_seg {
    void *mem; /* NULL if empty */
    size_t size;
    int fd; /* lend it with SCM_RIGHTS; do not close it; -1 if closed early */
};

/* Creates size zeroed bytes that only this mapping can ever write. The first
 * prefault bytes are backed by memory at once. Kernels before 5.1 lack the seal
 * against writing; everything else holds there too. */
int ep_seg_create_own(struct ep_seg *seg, size_t size, size_t prefault);

/* Creates size zeroed bytes that this side writes and can give back; fd only reads.
 * Where /proc is not mounted it is as from ep_seg_create_own(): nothing comes back. */
int ep_seg_create_slabs(struct ep_seg *seg, size_t size);

/* Gives memory back; it reads as zeroes afterwards. start and size in whole pages, in a
 * mapping that may be written. A hint: does nothing where the kernel will not. */
void ep_seg_give_back(void *start, size_t size);

/* Creates size zeroed bytes for the other side to write; maps them read-only. */
int ep_seg_create_peer(struct ep_seg *seg, size_t size);

/* The same for a file that others shall map, too: once the other side has mapped it,
 * ep_seg_seal_writers() keeps everybody from mapping it for writing again. */
int ep_seg_create_lent(struct ep_seg *seg, size_t size);

/* -EPERM: the other side has kept us from it. Kernels before 5.1 lack the seal: -EINVAL. */
int ep_seg_seal_writers(const struct ep_seg *seg);

/* Whether nobody else can ever write it. */
bool ep_seg_is_own(const struct ep_seg *seg);

/* Maps what the VM sent. Takes fd on success; on failure it stays the caller's.
 * -EPERM: the file can still be resized, so we refuse to touch it. */
int ep_seg_open(struct ep_seg *seg, int fd, bool writable);

/* Closes the fd and keeps the mapping. */
void ep_seg_close_fd(struct ep_seg *seg);

/* Unmaps, closes and leaves *seg empty. Does nothing if it is empty already. */
void ep_seg_finish(struct ep_seg *seg);

#ifdef __cplusplus
}
#endif

#endif
