/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_ring.h"

#include "ep_buf.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

void ep_ring_tx_attach(struct ep_ring_tx *tx, struct ep_cell *cells, const ep_atomic_u64 *peer_head,
                       uint32_t capacity)
{
    *tx = (struct ep_ring_tx){.cells = cells, .peer_head = peer_head, .mask = capacity - 1};
}

void ep_ring_rx_attach(struct ep_ring_rx *rx, const struct ep_cell *cells,
                       ep_atomic_u64 *shared_head, uint32_t capacity)
{
    *rx = (struct ep_ring_rx){.cells = cells, .shared_head = shared_head, .mask = capacity - 1};
}

int ep_ring_reserve(struct ep_ring_tx *tx, struct ep_cell **ret_cell)
{
    uint64_t capacity = tx->mask + 1;

    if (tx->tail - tx->head_seen == capacity) {
        /* C2. A cell that this load counts as free has been read to its end.
         * Sequentially consistent for S2: a producer that announced that it
         * waits for room looks here again before it sleeps. */
        uint64_t head = atomic_load_explicit(tx->peer_head, memory_order_seq_cst);
        if (tx->tail - head > capacity)
            return -EPROTO;
        if (tx->tail - head == capacity)
            return -EAGAIN;
        tx->head_seen = head;
    }

    struct ep_cell *cell = &tx->cells[tx->tail & tx->mask];
    /* Relaxed: the consumer cannot look at it before P1 orders it. */
    atomic_store_explicit(&cell->cancelled, 0, memory_order_relaxed);
    *ret_cell = cell;
    return 0;
}

uint64_t ep_ring_commit(struct ep_ring_tx *tx)
{
    struct ep_cell *cell = &tx->cells[tx->tail & tx->mask];

    /* P1 and W1. Up to here the cell is invisible, from here on it is whole. */
    atomic_store_explicit(&cell->seq, tx->tail + 1, memory_order_seq_cst);
    return tx->tail++;
}

uint64_t ep_ring_taken(const struct ep_ring_tx *tx)
{
    uint64_t head = atomic_load_explicit(tx->peer_head, memory_order_acquire);

    /* A head outside [head_seen, tail] is a lie; the last believable one is as
     * good as any, since it only labels the liar's own calls. */
    return tx->tail - head > tx->mask + 1 ? tx->head_seen : head;
}

bool ep_ring_cancel(struct ep_ring_tx *tx, uint64_t position, uint64_t call_id)
{
    struct ep_cell *cell = &tx->cells[position & tx->mask];

    uint64_t waiting = tx->tail - ep_ring_taken(tx);
    if (tx->tail - position - 1 >= waiting || cell->call_id != call_id)
        return false;

    /* Relaxed: a hint. The consumer that misses it runs the call, and the
     * interrupt that follows every cancel reaches it there. */
    atomic_store_explicit(&cell->cancelled, 1, memory_order_relaxed);
    return true;
}

bool ep_cell_is_cancelled(const struct ep_cell *cell)
{
    return atomic_load_explicit(&cell->cancelled, memory_order_relaxed) != 0;
}

int ep_ring_peek(const struct ep_ring_rx *rx, const struct ep_cell **ret_cell)
{
    const struct ep_cell *cell = &rx->cells[rx->head & rx->mask];

    /* P2 and W2. */
    uint64_t seq = atomic_load_explicit(&cell->seq, memory_order_seq_cst);
    if (seq != rx->head + 1) {
        /* An unpublished cell shows the message of the lap before, or zero. */
        uint64_t before = rx->head > rx->mask ? rx->head - rx->mask : 0;
        return seq == before ? -EAGAIN : -EPROTO;
    }

    *ret_cell = cell;
    return 0;
}

int ep_ring_copy(const struct ep_ring_rx *rx, struct ep_msg *ret_msg)
{
    const struct ep_cell *cell;
    int rc = ep_ring_peek(rx, &cell);

    if (rc < 0)
        return rc;

    ret_msg->call_id = cell->call_id;
    ret_msg->subject = cell->subject;
    ret_msg->aux = cell->aux;
    ret_msg->length = cell->length;
    ret_msg->kind = cell->kind;
    ret_msg->flags = cell->flags;
    /* The last line of the cell only under its flags: it is another transfer. */
    ret_msg->stamp = (ret_msg->flags & EP_FLAG_TIMED) != 0 ? cell->stamp : 0;
    ret_msg->block = (ret_msg->flags & EP_FLAG_BLOCK) != 0 ? cell->block : 0;
    /* SUBTLE: without this barrier the compiler may read a field again from the
     * cell, after the checks below have judged the first reading. */
    __asm__ volatile("" ::: "memory");

    if ((ret_msg->flags & ~EP_FLAG_ALL) != 0)
        return -EPROTO;
    if ((ret_msg->flags & EP_FLAG_BLOCK) == 0) {
        if (ret_msg->length > EP_INLINE_MAX)
            return -EPROTO;
        ep_copy(ret_msg->data, cell->data, ret_msg->length);
    }
    return 0;
}

void ep_ring_advance(struct ep_ring_rx *rx)
{
    rx->head++;
}

void ep_ring_publish_head(struct ep_ring_rx *rx)
{
    /* C1 and S1. */
    atomic_store_explicit(rx->shared_head, rx->head, memory_order_seq_cst);
}

void ep_ring_release_head(struct ep_ring_rx *rx)
{
    /* C1. */
    atomic_store_explicit(rx->shared_head, rx->head, memory_order_release);
}
