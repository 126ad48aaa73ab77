/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_SLAB_H
#define EP_SLAB_H

/*
 * ep_slab - allocator of payload blocks in a slab of shared memory.
 *
 * A binary buddy system (Knuth, TAOCP vol. 1, 2.5): blocks are a power of two
 * of pages, split and merged in pairs. All of its bookkeeping is in private
 * memory, so the peer can neither damage it nor die holding it. The peer hands
 * blocks back by number through a ring of its own (EP_RECLAIM_SLOTS); because at
 * most that many blocks are out at once, that ring is never full.
 *
 * Units      bytes; offsets count from the start of the slab.
 * Ownership  the side that writes the slab owns the allocator. A block is the
 *            receiver's from the message that names it until it is handed back.
 * Errors     0 or a negative errno.
 * Threads    one at a time.
 * Trust      a block that is handed back twice or was never given out: -EPROTO.
 */

#include "ep_layout.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_SLAB_ORDERS 32

/* Zeroed means empty. Treat the fields as private. */
struct ep_slab {
    uint64_t size;
    uint32_t out;     /* blocks given out */
    uint32_t most;    /* that may be out at a time */
    uint64_t used;    /* bytes of them */
    uint64_t touched; /* nothing behind this has been in use since it was given back */
    uint8_t top;      /* order of what blocks are made of so far */
    uint32_t heads[EP_SLAB_ORDERS]; /* free lists, by order; page numbers + 1 */
    struct ep_slab_page *pages;     /* NULL until the first allocation */
};

/* Prepares a slab of size bytes, a power of two of pages. Allocates nothing. */
void ep_slab_init(struct ep_slab *slab, uint64_t size);
/* The same for blocks that no ring brings back: any number of them may be out. */
void ep_slab_init_many(struct ep_slab *slab, uint64_t size);
void ep_slab_finish(struct ep_slab *slab);

/* Gives out a block of at least size bytes.
 * -EMSGSIZE: larger than the slab.  -EAGAIN: no room or too many blocks out.
 * -ENOMEM: no private memory for the bookkeeping. */
int ep_slab_alloc(struct ep_slab *slab, uint64_t size, uint64_t *ret_offset);

/* Bytes in blocks that are out. */
static inline uint64_t ep_slab_used(const struct ep_slab *slab)
{
    return slab->used;
}

/* Whether memory of an empty slab could be given back, or of one that may become empty. */
static inline bool ep_slab_has_spike(const struct ep_slab *slab)
{
    return slab->touched > EP_SLAB_KEEP;
}

/* Takes memory that an empty slab has touched out of it, at most most bytes from the end
 * of it, and keeps EP_SLAB_KEEP. Returns how many bytes at *ret_offset can be given back;
 * 0: none, or it is not empty. */
uint64_t ep_slab_shrink(struct ep_slab *slab, uint64_t most, uint64_t *ret_offset);

/* How much a block that is out holds: what was asked for, or more. */
uint64_t ep_slab_block_size(const struct ep_slab *slab, uint64_t offset);

/* The writer has filled a block that is out, and so its memory is no longer new. */
void ep_slab_wrote(struct ep_slab *slab, uint64_t offset);

/* Whether a block that is out lies where one as large or larger was filled before. */
bool ep_slab_is_warm(const struct ep_slab *slab, uint64_t offset);

/* Takes a block back. -EPROTO: it is not out. */
int ep_slab_free(struct ep_slab *slab, uint64_t offset);

/* The ring by which the receiver hands blocks back. */
struct ep_reclaim_tx {
    uint64_t *entries; /* in the receiver's segment */
    ep_atomic_u64 *tail;
    uint64_t position;
};

struct ep_reclaim_rx {
    const uint64_t *entries;
    const ep_atomic_u64 *tail;
    uint64_t position;
};

/* Hands a block back (R1). */
void ep_reclaim_push(struct ep_reclaim_tx *tx, uint64_t offset);

/* Frees in slab what the peer handed back (R2). Returns how many blocks, or
 * -EPROTO if the peer handed back what it did not have. */
int ep_reclaim_collect(struct ep_reclaim_rx *rx, struct ep_slab *slab);

#ifdef __cplusplus
}
#endif

#endif
