/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_BUF_H
#define EP_BUF_H

/*
 * ep_buf - bytes that grow: first in memory the caller lends, then on the heap.
 *
 * Errors are sticky, so that a writer checks once at its end: after a failure
 * every ep_buf_extend() returns NULL and error holds the reason.
 *
 * Units      bytes.
 * Ownership  ep_buf_finish() frees what grew; the lent memory stays the caller's.
 * Errors     -ENOMEM, or -EMSGSIZE beyond the limit.
 * Threads    one at a time.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ep_buf {
    uint8_t *data;
    size_t length;
    size_t capacity;
    size_t limit;
    int error; /* 0 or a negative errno */
    uint8_t *lent;
};

/* Starts in lent[0..capacity); never grows beyond limit. */
void ep_buf_init(struct ep_buf *buf, void *lent, size_t capacity, size_t limit);
void ep_buf_finish(struct ep_buf *buf);

/* Makes error the reason why nothing fits any more, unless there is one. Returns NULL. */
uint8_t *ep_buf_fail(struct ep_buf *buf, int error);

/* Goes on in other memory that the caller lends, capacity >= buf->length. */
void ep_buf_move(struct ep_buf *buf, void *lent, size_t capacity);

/* Moves to a larger place. Returns where the next n bytes go, or NULL. */
uint8_t *ep_buf_grow(struct ep_buf *buf, size_t n);

/* Lends room for n more bytes and counts them as written; NULL on failure. */
static inline uint8_t *ep_buf_extend(struct ep_buf *buf, size_t n)
{
    if (n > buf->capacity - buf->length)
        return ep_buf_grow(buf, n);
    uint8_t *at = buf->data + buf->length;
    buf->length += n;
    return at;
}

/* memcpy() that is inline for what is short: most names, numbers and messages are, and the
 * call takes longer than the copy. What is no power of two is copied as two pieces, from the
 * front and from the end, which share their middle. to and from must not overlap. */
static inline void ep_copy(void *to, const void *from, size_t n)
{
    uint8_t *t = (uint8_t *)to;
    const uint8_t *f = (const uint8_t *)from;

    if (n > 32) {
        memcpy(t, f, n);
    } else if (n >= 16) {
        uint64_t words[4];
        memcpy(words, f, 16);
        memcpy(words + 2, f + n - 16, 16);
        memcpy(t, words, 16);
        memcpy(t + n - 16, words + 2, 16);
    } else if (n >= 8) {
        uint64_t first, last;
        memcpy(&first, f, 8);
        memcpy(&last, f + n - 8, 8);
        memcpy(t, &first, 8);
        memcpy(t + n - 8, &last, 8);
    } else if (n >= 4) {
        uint32_t first, last;
        memcpy(&first, f, 4);
        memcpy(&last, f + n - 4, 4);
        memcpy(t, &first, 4);
        memcpy(t + n - 4, &last, 4);
    } else if (n > 0) {
        uint8_t middle = f[n / 2], last = f[n - 1];
        t[0] = f[0];
        t[n / 2] = middle;
        t[n - 1] = last;
    }
}

static inline void ep_buf_put(struct ep_buf *buf, const void *bytes, size_t n)
{
    uint8_t *at = ep_buf_extend(buf, n);
    if (at != NULL && n > 0)
        memcpy(at, bytes, n);
}

#ifdef __cplusplus
}
#endif

#endif
