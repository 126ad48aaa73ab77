/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "ep_slab.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

enum page_state { PAGE_INSIDE = 0, PAGE_FREE, PAGE_OUT };

/* State of the block that starts at this page; links are page numbers + 1. */
struct ep_slab_page {
    uint32_t next;
    uint32_t prev;
    uint8_t state; /* enum page_state; PAGE_INSIDE if no block starts here */
    uint8_t order; /* the block has EP_PAGE << order bytes */
    uint8_t warm;  /* largest order + 1 of a block that was written here; 0: none */
};

void ep_slab_init(struct ep_slab *slab, uint64_t size)
{
    *slab = (struct ep_slab){.size = size, .most = EP_RECLAIM_SLOTS};
}

void ep_slab_init_many(struct ep_slab *slab, uint64_t size)
{
    *slab = (struct ep_slab){.size = size, .most = UINT32_MAX};
}

static size_t pages_bytes(const struct ep_slab *slab)
{
    return slab->size / EP_PAGE * sizeof(struct ep_slab_page);
}

void ep_slab_finish(struct ep_slab *slab)
{
    if (slab->pages != NULL)
        (void)munmap(slab->pages, pages_bytes(slab));
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

    slab->pages[page] = (struct ep_slab_page){
        .next = next, .state = PAGE_FREE, .order = order, .warm = slab->pages[page].warm};
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

/* Makes the bookkeeping, with one free block of that order. */
static int prepare(struct ep_slab *slab, uint8_t order)
{
    if (slab->pages != NULL)
        return 0;
    void *mem = mmap(NULL, pages_bytes(slab), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED)
        return -ENOMEM;
    /* A slab uses little of it at first: no huge pages, of 2 MiB for each slab. */
    (void)madvise(mem, pages_bytes(slab), MADV_NOHUGEPAGE);
    slab->pages = mem;
    slab->top = order;
    put_free(slab, 0, order);
    return 0;
}

/*
 * Doubles what blocks are made of. Split from the whole at once, a slab of 4 GiB would touch
 * a page of its bookkeeping for each order, in the first call that it serves.
 */
static bool grow(struct ep_slab *slab)
{
    if ((uint64_t)EP_PAGE << slab->top >= slab->size)
        return false;
    uint8_t order = slab->top++;
    uint32_t page = 1u << order;
    uint32_t half = 0;
    if (slab->pages[half].state == PAGE_FREE && slab->pages[half].order == order) {
        remove_free(slab, half);
        put_free(slab, half, slab->top);
    } else {
        put_free(slab, page, order);
    }
    return true;
}

/* The order of the smallest free block that has at least that order; above top: none. */
static uint8_t find_free(const struct ep_slab *slab, uint8_t order)
{
    while (order <= slab->top && slab->heads[order] == 0)
        order++;
    return order;
}

int ep_slab_alloc(struct ep_slab *slab, uint64_t size, uint64_t *ret_offset)
{
    if (size > slab->size)
        return -EMSGSIZE;
    uint8_t wanted = order_of(size);
    int rc = prepare(slab, wanted);
    if (rc < 0)
        return rc;
    if (slab->out == slab->most)
        return -EAGAIN;

    uint8_t order = find_free(slab, wanted);
    while (order > slab->top && grow(slab))
        order = find_free(slab, wanted);
    if (order > slab->top)
        return -EAGAIN;

    uint32_t page = slab->heads[order] - 1;
    remove_free(slab, page);
    while (order > wanted) {
        order--;
        put_free(slab, page + (1u << order), order);
    }
    slab->pages[page].state = PAGE_OUT;
    slab->pages[page].order = order;
    slab->out++;
    slab->used += (uint64_t)EP_PAGE << order;
    *ret_offset = (uint64_t)page * EP_PAGE;
    uint64_t end = *ret_offset + ((uint64_t)EP_PAGE << order);
    if (end > slab->touched)
        slab->touched = end;
    return 0;
}

/* What begins at this page or later is new memory from now on, as is what reaches there. */
static void forget_warm(struct ep_slab *slab, uint32_t from, uint32_t to)
{
    /* Only where it says something: most of the bookkeeping was never touched. */
    for (uint32_t page = from; page < to; page++)
        if (slab->pages[page].warm != 0)
            slab->pages[page].warm = 0;
    for (uint8_t order = 1; order <= slab->top; order++) {
        uint32_t start = from & ~((1u << order) - 1);
        if (start != from && slab->pages[start].warm > order)
            slab->pages[start].warm = order;
    }
}

uint64_t ep_slab_shrink(struct ep_slab *slab, uint64_t most, uint64_t *ret_offset)
{
    if (slab->out > 0 || !ep_slab_has_spike(slab))
        return 0;
    uint64_t size = slab->touched - EP_SLAB_KEEP;
    if (size > most)
        size = most;
    slab->touched -= size;
    forget_warm(slab, (uint32_t)(slab->touched / EP_PAGE),
                (uint32_t)((slab->touched + size) / EP_PAGE));
    *ret_offset = slab->touched;
    return size;
}

uint64_t ep_slab_block_size(const struct ep_slab *slab, uint64_t offset)
{
    return (uint64_t)EP_PAGE << slab->pages[offset / EP_PAGE].order;
}

void ep_slab_wrote(struct ep_slab *slab, uint64_t offset)
{
    struct ep_slab_page *page = &slab->pages[offset / EP_PAGE];

    if (page->warm <= page->order)
        page->warm = page->order + 1;
}

bool ep_slab_is_warm(const struct ep_slab *slab, uint64_t offset)
{
    const struct ep_slab_page *page = &slab->pages[offset / EP_PAGE];

    return page->warm > page->order;
}

int ep_slab_free(struct ep_slab *slab, uint64_t offset)
{
    if (slab->pages == NULL || offset % EP_PAGE != 0 || offset >= slab->size)
        return -EPROTO;
    uint32_t page = (uint32_t)(offset / EP_PAGE);
    if (slab->pages[page].state != PAGE_OUT)
        return -EPROTO;

    uint8_t order = slab->pages[page].order;
    slab->pages[page].state = PAGE_INSIDE;
    slab->out--;
    slab->used -= (uint64_t)EP_PAGE << order;
    while (order < slab->top) {
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
