/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_slab.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum page_state { PAGE_INSIDE = 0, PAGE_FREE, PAGE_OUT };

/* State of the block that starts at this page; links are page numbers + 1. */
struct ep_slab_page {
    uint32_t next;
    uint32_t prev;
    uint8_t state; /* enum page_state; PAGE_INSIDE if no block starts here */
    uint8_t order; /* the block has EP_PAGE << order bytes */
};

void ep_slab_init(struct ep_slab *slab, uint64_t size)
{
    *slab = (struct ep_slab){.size = size, .most = EP_RECLAIM_SLOTS};
}

void ep_slab_init_many(struct ep_slab *slab, uint64_t size)
{
    *slab = (struct ep_slab){.size = size, .most = UINT32_MAX};
}

void ep_slab_finish(struct ep_slab *slab)
{
    free(slab->pages);
    *slab = (struct ep_slab){.size = 0};
}

static uint8_t order_of(uint64_t size)
{
    uint8_t order = 0;
    while (((uint64_t)EP_PAGE << order) < size)
        order++;
    return order;
}

static void put_free(struct ep_slab *slab, uint32_t page, uint8_t order)
{
    uint32_t next = slab->heads[order];

    slab->pages[page] = (struct ep_slab_page){.next = next, .state = PAGE_FREE, .order = order};
    if (next != 0)
        slab->pages[next - 1].prev = page + 1;
    slab->heads[order] = page + 1;
}

static void remove_free(struct ep_slab *slab, uint32_t page)
{
    struct ep_slab_page *p = &slab->pages[page];

    if (p->prev != 0)
        slab->pages[p->prev - 1].next = p->next;
    else
        slab->heads[p->order] = p->next;
    if (p->next != 0)
        slab->pages[p->next - 1].prev = p->prev;
    p->state = PAGE_INSIDE;
}

static int prepare(struct ep_slab *slab)
{
    if (slab->pages != NULL)
        return 0;
    slab->pages = calloc(slab->size / EP_PAGE, sizeof(*slab->pages));
    if (slab->pages == NULL)
        return -ENOMEM;
    put_free(slab, 0, order_of(slab->size));
    return 0;
}

int ep_slab_alloc(struct ep_slab *slab, uint64_t size, uint64_t *ret_offset)
{
    if (size > slab->size)
        return -EMSGSIZE;
    int rc = prepare(slab);
    if (rc < 0)
        return rc;
    if (slab->out == slab->most)
        return -EAGAIN;

    uint8_t wanted = order_of(size);
    uint8_t top = order_of(slab->size);
    uint8_t order = wanted;
    while (order <= top && slab->heads[order] == 0)
        order++;
    if (order > top)
        return -EAGAIN;

    uint32_t page = slab->heads[order] - 1;
    remove_free(slab, page);
    while (order > wanted) {
        order--;
        put_free(slab, page + (1u << order), order);
    }
    slab->pages[page] = (struct ep_slab_page){.state = PAGE_OUT, .order = order};
    slab->out++;
    slab->used += (uint64_t)EP_PAGE << order;
    *ret_offset = (uint64_t)page * EP_PAGE;
    uint64_t end = *ret_offset + ((uint64_t)EP_PAGE << order);
    if (end > slab->touched)
        slab->touched = end;
    return 0;
}

uint64_t ep_slab_shrink(struct ep_slab *slab, uint64_t most, uint64_t *ret_offset)
{
    if (slab->out > 0 || !ep_slab_has_spike(slab))
        return 0;
    uint64_t size = slab->touched - EP_SLAB_KEEP;
    if (size > most)
        size = most;
    slab->touched -= size;
    *ret_offset = slab->touched;
    return size;
}

uint64_t ep_slab_block_size(const struct ep_slab *slab, uint64_t offset)
{
    return (uint64_t)EP_PAGE << slab->pages[offset / EP_PAGE].order;
}

int ep_slab_free(struct ep_slab *slab, uint64_t offset)
{
    if (slab->pages == NULL || offset % EP_PAGE != 0 || offset >= slab->size)
        return -EPROTO;
    uint32_t page = (uint32_t)(offset / EP_PAGE);
    if (slab->pages[page].state != PAGE_OUT)
        return -EPROTO;

    uint8_t order = slab->pages[page].order;
    uint8_t top = order_of(slab->size);
    slab->pages[page].state = PAGE_INSIDE;
    slab->out--;
    slab->used -= (uint64_t)EP_PAGE << order;
    while (order < top) {
        uint32_t buddy = page ^ (1u << order);
        if (slab->pages[buddy].state != PAGE_FREE || slab->pages[buddy].order != order)
            break;
        remove_free(slab, buddy);
        page &= ~(1u << order);
        order++;
    }
    put_free(slab, page, order);
    return 0;
}

void ep_reclaim_push(struct ep_reclaim_tx *tx, uint64_t offset)
{
    tx->entries[tx->position % EP_RECLAIM_SLOTS] = offset;
    tx->position++;
    /* R1: pairs with R2. The block was read to its end before this. */
    atomic_store_explicit(tx->tail, tx->position, memory_order_seq_cst);
}

int ep_reclaim_collect(struct ep_reclaim_rx *rx, struct ep_slab *slab)
{
    /* R2: pairs with R1. */
    uint64_t tail = atomic_load_explicit(rx->tail, memory_order_seq_cst);
    uint64_t n = tail - rx->position;

    if (n > slab->out)
        return -EPROTO;
    for (uint64_t i = 0; i < n; i++) {
        /* Read once; ep_slab_free() judges the copy. */
        uint64_t offset = rx->entries[rx->position % EP_RECLAIM_SLOTS];
        __asm__ volatile("" ::: "memory");
        int rc = ep_slab_free(slab, offset);
        if (rc < 0)
            return rc;
        rx->position++;
    }
    return (int)n;
}
