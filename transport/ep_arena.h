/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ARENA_H
#define EP_ARENA_H

/*
 * ep_arena - blocks for arrays in one segment: a buddy system, or one block that is all of it.
 *
 * Units      bytes; offsets count from the start of the segment.
 * Errors     0 or a negative errno, as ep_slab.h.
 * Threads    one at a time.
 */

#include "ep_array.h"
#include "ep_slab.h"

#include <errno.h>
#include <string.h>

struct ep_arena {
    uint64_t size;
    struct ep_slab slab;
    bool is_single, is_out;
};

/* The size of a segment for a block of so many bytes, where there are n segments already. */
static inline uint64_t ep_arena_segment_size(uint64_t bytes, unsigned n)
{
    uint64_t size = EP_SEGMENT_FIRST;

    if (bytes > EP_SEGMENT_SIZE)
        return (bytes + EP_PAGE - 1) / EP_PAGE * EP_PAGE;
    while (size < EP_SEGMENT_SIZE && (size < bytes || n > 0)) {
        size *= 2;
        n -= n > 0;
    }
    return size;
}

static inline void ep_arena_init(struct ep_arena *arena, uint64_t size)
{
    memset(arena, 0, sizeof(*arena));
    arena->size = size;
    arena->is_single = size > EP_SEGMENT_SIZE;
    if (!arena->is_single)
        ep_slab_init_many(&arena->slab, size);
}

static inline void ep_arena_finish(struct ep_arena *arena)
{
    if (!arena->is_single)
        ep_slab_finish(&arena->slab);
}

static inline int ep_arena_alloc(struct ep_arena *arena, uint64_t bytes, uint64_t *ret_offset)
{
    if (!arena->is_single)
        return bytes > arena->size ? -EAGAIN
                                   : ep_slab_alloc(&arena->slab, bytes > 0 ? bytes : 1, ret_offset);
    /* Not for a block that would waste most of it. */
    if (arena->is_out || bytes > arena->size || bytes < arena->size / 2)
        return -EAGAIN;
    arena->is_out = true;
    *ret_offset = 0;
    return 0;
}

static inline int ep_arena_free(struct ep_arena *arena, uint64_t offset)
{
    if (!arena->is_single)
        return ep_slab_free(&arena->slab, offset);
    if (!arena->is_out || offset != 0)
        return -EPROTO;
    arena->is_out = false;
    return 0;
}

static inline bool ep_arena_is_empty(const struct ep_arena *arena)
{
    return arena->is_single ? !arena->is_out : arena->slab.out == 0;
}

#endif
