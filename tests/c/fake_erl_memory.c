/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_erl_term.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What enif_alloc() gives, a shortage of it, and the count of all that lives. */

struct fake_counts fake_live;

void fake_count(long *count, long n)
{
    (void)__atomic_fetch_add(count, n, __ATOMIC_RELAXED);
}

struct fake_counts fake_living(void)
{
    const long *from = (const long *)&fake_live;
    struct fake_counts counts;
    long *to = (long *)&counts;

    for (size_t i = 0; i < sizeof(counts) / sizeof(*to); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    return counts;
}

void fake_must(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "fake_erl_nif: %s\n", what);
    abort();
}

/* What enif_alloc() gives has a header, so that free() of it is found out. */
struct block {
    size_t size;
    uint64_t magic;
};
#define MAGIC UINT64_C(0x6b636f6c62666e65)

static _Thread_local long allocations_left = -1;
static size_t memory_max = SIZE_MAX;

void fake_fail_memory_after(long allocations)
{
    allocations_left = allocations;
}

void fake_set_memory_max(size_t size)
{
    memory_max = size;
}

bool fake_memory_fails(size_t size)
{
    return size > memory_max || (allocations_left >= 0 && allocations_left-- == 0);
}

void *fake_alloc(size_t size)
{
    void *memory = malloc(size);

    fake_must(memory != NULL, "no memory");
    return memory;
}

void *enif_alloc(size_t size)
{
    if (fake_memory_fails(size))
        return NULL;
    struct block *block = fake_alloc(sizeof(*block) + size);
    *block = (struct block){.size = size, .magic = MAGIC};
    fake_count(&fake_live.memory, 1);
    return block + 1;
}

void enif_free(void *ptr)
{
    if (ptr == NULL)
        return;
    struct block *block = (struct block *)ptr - 1;
    fake_must(block->magic == MAGIC, "enif_free() of what is not from enif_alloc()");
    block->magic = 0;
    free(block);
    fake_count(&fake_live.memory, -1);
}

void *enif_realloc(void *ptr, size_t size)
{
    void *copy = enif_alloc(size);

    if (ptr == NULL || copy == NULL)
        return copy;
    const struct block *block = (struct block *)ptr - 1;
    memcpy(copy, ptr, block->size < size ? block->size : size);
    enif_free(ptr);
    return copy;
}
