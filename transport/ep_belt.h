/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_BELT_H
#define EP_BELT_H

/*
 * ep_belt - items of one stream on their way to whoever reads it.
 *
 * A belt is one block of the worker's slab: a word, the tail, and bytes. The worker writes an
 * item behind the ones before it and moves the tail; the reader takes all that is there at
 * once. A belt is filled in rounds: when it is full, the worker asks whether it may go on, and
 * the answer empties it. So nothing wraps around, and the worker is EP_BELT_ITEMS ahead at most.
 *
 *   +------+---------+---------+---------+- - - - - -+
 *   | tail | item    | item    | item    |           |     tail: round << 32 | bytes
 *   +------+---------+---------+---------+- - - - - -+
 *                    ^ read               ^ used
 *
 * A reader that is about to sleep changes a word of its lane, then looks at the belt once more.
 * The worker moves the tail, then looks at the word, and if it has changed since it told the
 * reader last, tells it. All four are sequentially consistent (I1, I2), so one finds the other.
 *
 * Units      bytes.
 * Ownership  memory is lent to both.
 * Errors     0 or a negative errno.
 * Threads    one at a time for each side.
 * Trust      the reader takes the tail and the bytes as hostile: it judges one load of the tail,
 *            and copies the bytes before it reads them.
 */

#include "ep_layout.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where the bytes begin. */
#define EP_BELT_START EP_CACHE_LINE
#define EP_BELT_BYTES (EP_BELT_SIZE - EP_BELT_START)

struct ep_belt_tx {
    uint8_t *mem; /* EP_BELT_SIZE bytes; NULL: none yet */
    const ep_atomic_u64 *bell;
    uint64_t answered; /* the value of bell at the last time that the reader was told */
    uint32_t round, used, items;
};

struct ep_belt_rx {
    const uint8_t *mem;
    uint32_t round, read, items;
};

/* Takes the writer's side of an unused belt. */
void ep_belt_tx_attach(struct ep_belt_tx *tx, uint8_t *mem, const ep_atomic_u64 *bell);

/* Lends the memory behind the last item. Returns how many bytes. */
static inline size_t ep_belt_room(const struct ep_belt_tx *tx, uint8_t **ret_mem)
{
    *ret_mem = tx->mem + EP_BELT_START + tx->used;
    return EP_BELT_BYTES - tx->used;
}

/* Publishes the item of n bytes that was written there (I1, first half). */
void ep_belt_put(struct ep_belt_tx *tx, size_t n);

/* Returns whether the reader has to be told now (I1, second half). */
bool ep_belt_must_tell(struct ep_belt_tx *tx);

/* The reader has taken all: begins the next round. */
void ep_belt_tx_turn(struct ep_belt_tx *tx);

void ep_belt_rx_attach(struct ep_belt_rx *rx, const uint8_t *mem);

/* Copies the unread bytes to bytes, which has room for EP_BELT_BYTES (I2, second half).
 * Returns how many, or -EPROTO: the tail is impossible. */
int ep_belt_take(struct ep_belt_rx *rx, uint8_t *bytes);

/* Whether there are unread bytes, as ep_belt_take() sees it. */
bool ep_belt_has_items(const struct ep_belt_rx *rx);

/* The writer is about to be told that all was taken: the next bytes are of another round. */
void ep_belt_rx_turn(struct ep_belt_rx *rx);

#ifdef __cplusplus
}
#endif

#endif
