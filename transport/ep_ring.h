/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_RING_H
#define EP_RING_H

/*
 * ep_ring - single-producer, single-consumer ring of 256-byte cells.
 *
 * The cells lie in the producer's segment, the consumer's position in the
 * consumer's. A cell is published by its own sequence number, so that a
 * consumer that waits looks at one cache line only: the one it will read.
 * Positions run free and are masked on access.
 *
 * Units      capacities and positions are cells.
 * Ownership  the caller keeps the memory mapped while a handle is attached.
 *            A reserved cell is the producer's until it is committed; what
 *            ep_ring_peek() lends is valid until ep_ring_advance().
 * Errors     0 or a negative errno.
 * Threads    one thread at a time per handle; the two handles at the same time.
 * Trust      the peer may die at any instruction and may write any byte of its
 *            segment: -EPROTO then, never an access out of bounds.
 */

#include "ep_layout.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A private copy of a cell: what a consumer that does not trust works on. */
struct ep_msg {
    uint64_t call_id;
    uint64_t subject;
    uint64_t block;
    uint64_t stamp;
    uint32_t aux;
    uint32_t length;
    uint16_t kind;
    uint16_t flags;
    uint8_t data[EP_INLINE_MAX]; /* valid up to length, unless EP_FLAG_BLOCK */
};

/* Treat the fields as private: they are here so that callers can embed them. */
struct ep_ring_tx {
    struct ep_cell *cells;
    const ep_atomic_u64 *peer_head;
    uint64_t mask;
    uint64_t tail;      /* next position to write */
    uint64_t head_seen; /* the consumer's position when last looked at */
};

struct ep_ring_rx {
    const struct ep_cell *cells;
    ep_atomic_u64 *shared_head;
    uint64_t mask;
    uint64_t head; /* next position to read */
};

/* Fills what every message has. Set block, stamp and payload after it. */
static inline void ep_cell_begin(struct ep_cell *cell, enum ep_kind kind, uint8_t flags,
                                 uint8_t aux, uint64_t call_id, uint64_t subject)
{
    cell->call_id = call_id;
    cell->subject = subject;
    cell->length = 0;
    cell->kind = (uint8_t)kind;
    cell->flags = flags;
    cell->aux = aux;
}

static inline void ep_cell_set_block(struct ep_cell *cell, uint64_t block)
{
    cell->block = block;
    cell->flags |= EP_FLAG_BLOCK;
}

static inline void ep_cell_set_stamp(struct ep_cell *cell, uint64_t stamp)
{
    cell->stamp = stamp;
    cell->flags |= EP_FLAG_TIMED;
}

/* Takes a role on zeroed memory. capacity is a power of two. */
void ep_ring_tx_attach(struct ep_ring_tx *tx, struct ep_cell *cells, const ep_atomic_u64 *peer_head,
                       uint32_t capacity);
void ep_ring_rx_attach(struct ep_ring_rx *rx, const struct ep_cell *cells,
                       ep_atomic_u64 *shared_head, uint32_t capacity);

/* Lends the next free cell; fill every field but seq, then commit. Until the
 * commit the consumer sees nothing, so giving up needs no call.
 * -EAGAIN: full.  -EPROTO: the peer's position is impossible. */
int ep_ring_reserve(struct ep_ring_tx *tx, struct ep_cell **ret_cell);

/* Publishes the reserved cell (P1, W1). Returns its position. */
uint64_t ep_ring_commit(struct ep_ring_tx *tx);

/* Marks the message at position as cancelled, if the consumer has not taken it
 * yet as far as can be seen. Returns whether it was marked. */
bool ep_ring_cancel(struct ep_ring_tx *tx, uint64_t position, uint64_t call_id);

/* Returns how many positions of the ring the consumer has taken, clamped to
 * what is possible: what a dead consumer had started. */
uint64_t ep_ring_taken(const struct ep_ring_tx *tx);

/* Lends the oldest published cell (P2, W2).
 * -EAGAIN: empty.  -EPROTO: the cell carries an impossible sequence number. */
int ep_ring_peek(const struct ep_ring_rx *rx, const struct ep_cell **ret_cell);

/* Copies the oldest message and judges the copy; does not advance.
 * -EAGAIN: empty.  -EPROTO: sequence, length or flags are impossible. */
int ep_ring_copy(const struct ep_ring_rx *rx, struct ep_msg *ret_msg);

/* Gives the cell back, privately; ep_ring_publish_head() tells the producer. */
void ep_ring_advance(struct ep_ring_rx *rx);

/* Tells the producer what was taken so far (C1, S1). */
void ep_ring_publish_head(struct ep_ring_rx *rx);

/* The same for a producer that never sleeps until there is room (C1): no barrier. */
void ep_ring_release_head(struct ep_ring_rx *rx);

/* Returns whether a lent cell was cancelled by its producer. */
bool ep_cell_is_cancelled(const struct ep_cell *cell);

#ifdef __cplusplus
}
#endif

#endif
