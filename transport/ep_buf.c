/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_buf.h"

#include <errno.h>
#include <stdlib.h>

void ep_buf_init(struct ep_buf *buf, void *lent, size_t capacity, size_t limit)
{
    if (capacity > limit)
        capacity = limit;
    *buf = (struct ep_buf){.data = lent, .capacity = capacity, .limit = limit, .lent = lent};
}

void ep_buf_finish(struct ep_buf *buf)
{
    if (buf->data != buf->lent)
        free(buf->data);
    *buf = (struct ep_buf){.data = NULL};
}

void ep_buf_move(struct ep_buf *buf, void *lent, size_t capacity)
{
    if (buf->length > 0)
        memcpy(lent, buf->data, buf->length);
    if (buf->data != buf->lent)
        free(buf->data);
    buf->data = buf->lent = lent;
    buf->capacity = capacity < buf->limit ? capacity : buf->limit;
}

uint8_t *ep_buf_fail(struct ep_buf *buf, int error)
{
    if (buf->error == 0)
        buf->error = error;
    buf->capacity = buf->length; /* nothing fits from here on */
    return NULL;
}

uint8_t *ep_buf_grow(struct ep_buf *buf, size_t n)
{
    if (buf->error != 0)
        return NULL;
    if (n > buf->limit || buf->length > buf->limit - n)
        return ep_buf_fail(buf, -EMSGSIZE);

    size_t needed = buf->length + n;
    size_t capacity = buf->capacity < 1024 ? 1024 : buf->capacity;
    while (capacity < needed)
        capacity = capacity > buf->limit / 2 ? buf->limit : 2 * capacity;
    /* The fast path of ep_buf_extend() knows the capacity only. */
    if (capacity > buf->limit)
        capacity = buf->limit;

    uint8_t *data = realloc(buf->data == buf->lent ? NULL : buf->data, capacity);
    if (data == NULL)
        return ep_buf_fail(buf, -ENOMEM);
    if (buf->data == buf->lent && buf->length > 0)
        memcpy(data, buf->lent, buf->length);

    uint8_t *at = data + buf->length;
    buf->data = data;
    buf->capacity = capacity;
    buf->length += n;
    return at;
}
