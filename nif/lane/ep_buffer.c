/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_buffer.h"

#include <errno.h>
#include <string.h>

/* Chunks of one size, so that a position is found at once; nothing that was written moves. */
#define CHUNK (256u << 10)

struct ep_buffer {
    uint64_t size;
    size_t n_chunks, max_chunks;
    uint8_t **chunks;
    size_t first; /* bytes of the only chunk while there is one: it grows */
};

struct ep_buffer *ep_buffer_create(void)
{
    struct ep_buffer *buffer = enif_alloc(sizeof(*buffer));

    if (buffer != NULL)
        memset(buffer, 0, sizeof(*buffer));
    return buffer;
}

bool ep_buffer_free_some(struct ep_buffer *buffer, struct ep_budget *budget)
{
    while (buffer->n_chunks > 0) {
        if (!ep_budget_pay(budget, buffer->n_chunks == 1 ? buffer->first : CHUNK))
            return false;
        enif_free(buffer->chunks[--buffer->n_chunks]);
    }
    enif_free(buffer->chunks);
    enif_free(buffer);
    return true;
}

uint64_t ep_buffer_size(const struct ep_buffer *buffer)
{
    return buffer->size;
}

/* Makes room for so many bytes in all. */
static int reserve(struct ep_buffer *buffer, uint64_t size)
{
    size_t wanted = (size_t)((size + CHUNK - 1) / CHUNK);

    if (wanted > buffer->max_chunks) {
        size_t max = 2 * wanted;
        uint8_t **chunks = enif_realloc(buffer->chunks, max * sizeof(*chunks));
        if (chunks == NULL)
            return -ENOMEM;
        buffer->chunks = chunks;
        buffer->max_chunks = max;
    }
    /* Most bodies are short: the first chunk is as large as it needs to be. */
    if (buffer->n_chunks <= 1 && buffer->first < CHUNK && size > buffer->first) {
        size_t first = size >= CHUNK / 2 ? CHUNK : 2 * (size_t)size;
        uint8_t *chunk = enif_realloc(buffer->n_chunks == 0 ? NULL : buffer->chunks[0], first);
        if (chunk == NULL)
            return -ENOMEM;
        buffer->chunks[0] = chunk;
        buffer->n_chunks = 1;
        buffer->first = first;
    }
    while (buffer->n_chunks < wanted) {
        uint8_t *chunk = enif_alloc(CHUNK);
        if (chunk == NULL)
            return -ENOMEM;
        buffer->chunks[buffer->n_chunks++] = chunk;
    }
    return 0;
}

int ep_buffer_write(struct ep_buffer *buffer, const uint8_t *bytes, size_t n)
{
    if (n == 0)
        return 0;
    int rc = reserve(buffer, buffer->size + n);
    if (rc < 0)
        return rc;
    while (n > 0) {
        size_t at = (size_t)(buffer->size % CHUNK), part = CHUNK - at < n ? CHUNK - at : n;
        memcpy(buffer->chunks[buffer->size / CHUNK] + at, bytes, part);
        buffer->size += part;
        bytes += part;
        n -= part;
    }
    return 0;
}

void ep_buffer_read(const struct ep_buffer *buffer, uint64_t position, uint8_t *to, size_t n)
{
    while (n > 0) {
        size_t at = (size_t)(position % CHUNK), part = CHUNK - at < n ? CHUNK - at : n;
        memcpy(to, buffer->chunks[position / CHUNK] + at, part);
        position += part;
        to += part;
        n -= part;
    }
}
