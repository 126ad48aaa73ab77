/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_belt.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* The tail of an earlier round is what the writer has not touched yet. Rounds count from 1. */
#define FIRST_ROUND 1u

static uint64_t tail_of(uint32_t round, uint32_t bytes)
{
    return (uint64_t)round << 32 | bytes;
}

void ep_belt_tx_attach(struct ep_belt_tx *tx, uint8_t *mem, const ep_atomic_u64 *bell)
{
    /* Sequentially consistent: a reader that changes it later is told of the next item. */
    uint64_t answered = atomic_load_explicit(bell, memory_order_seq_cst);

    *tx = (struct ep_belt_tx){.mem = mem, .bell = bell, .answered = answered, .round = FIRST_ROUND};
    /* Relaxed: the message that names the belt orders it (P1). */
    atomic_store_explicit((ep_atomic_u64 *)mem, 0, memory_order_relaxed);
}

void ep_belt_put(struct ep_belt_tx *tx, size_t n)
{
    tx->used += (uint32_t)n;
    tx->items++;
    atomic_store_explicit((ep_atomic_u64 *)tx->mem, tail_of(tx->round, tx->used),
                          memory_order_seq_cst); /* I1 */
}

bool ep_belt_must_tell(struct ep_belt_tx *tx)
{
    uint64_t bell = atomic_load_explicit(tx->bell, memory_order_seq_cst); /* I1 */

    if (bell == tx->answered)
        return false;
    tx->answered = bell;
    return true;
}

void ep_belt_tx_turn(struct ep_belt_tx *tx)
{
    tx->round++;
    tx->used = tx->items = 0;
}

void ep_belt_rx_attach(struct ep_belt_rx *rx, const uint8_t *mem)
{
    *rx = (struct ep_belt_rx){.mem = mem, .round = FIRST_ROUND};
}

/* How far the bytes of this round go; what is read in a new one. -EPROTO. */
static int64_t look(const struct ep_belt_rx *rx)
{
    uint64_t tail =
        atomic_load_explicit((const ep_atomic_u64 *)rx->mem, memory_order_seq_cst); /* I2 */
    uint32_t round = (uint32_t)(tail >> 32), bytes = (uint32_t)tail;

    /* A round may have had no item on the belt. */
    if ((int32_t)(round - rx->round) < 0)
        return rx->read == 0 ? 0 : -EPROTO;
    if (round != rx->round || bytes < rx->read || bytes > EP_BELT_BYTES)
        return -EPROTO;
    return bytes;
}

int ep_belt_take(struct ep_belt_rx *rx, uint8_t *bytes)
{
    int64_t end = look(rx);

    if (end < 0)
        return (int)end;
    uint32_t n = (uint32_t)end - rx->read;
    memcpy(bytes, rx->mem + EP_BELT_START + rx->read, n);
    rx->read = (uint32_t)end;
    return (int)n;
}

bool ep_belt_has_items(const struct ep_belt_rx *rx)
{
    return look(rx) != (int64_t)rx->read;
}

void ep_belt_rx_turn(struct ep_belt_rx *rx)
{
    rx->round++;
    rx->read = rx->items = 0;
}
