/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_etf.h"

#include <errno.h>
#include <stdbool.h>

static uint32_t get16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint64_t get64(const uint8_t *at)
{
    return (uint64_t)get32(at) << 32 | get32(at + 4);
}

static void set32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

/* What stands between the tag and the data or elements, by tag; 0: unknown. */
static size_t fixed_size(uint8_t tag)
{
    switch (tag) {
    case EP_ETF_TAG_NIL: return 1;
    case EP_ETF_TAG_SMALL_INTEGER: return 1 + 1;
    case EP_ETF_TAG_INTEGER: return 1 + 4;
    case EP_ETF_TAG_NEW_FLOAT: return 1 + 8;
    case EP_ETF_TAG_SMALL_TUPLE: return 1 + 1;
    case EP_ETF_TAG_SMALL_ATOM_UTF8: return 1 + 1;
    case EP_ETF_TAG_ATOM_UTF8: return 1 + 2;
    case EP_ETF_TAG_STRING: return 1 + 2;
    case EP_ETF_TAG_SMALL_BIG: return 1 + 1 + 1;
    case EP_ETF_TAG_LARGE_BIG: return 1 + 4 + 1;
    case EP_ETF_TAG_LARGE_TUPLE: return 1 + 4;
    case EP_ETF_TAG_LIST: return 1 + 4;
    case EP_ETF_TAG_BINARY: return 1 + 4;
    case EP_ETF_TAG_MAP: return 1 + 4;
    case EP_ETF_TAG_HANDLE: return 1 + 1 + 2 + EP_ETF_SEAL_SIZE;
    default: return 0;
    }
}

/* Turns a big that fits into an integer. Returns whether it did. */
static bool fits_int64(const uint8_t *magnitude, size_t size, bool negative, int64_t *ret_integer)
{
    uint64_t value = 0;

    if (size > 8)
        return false;
    for (size_t i = size; i > 0; i--)
        value = value << 8 | magnitude[i - 1];
    if (value > INT64_MAX)
        return false;
    *ret_integer = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

/*
 * The token is put together in registers and stored field by field at the end: to
 * build it in memory and copy it as a whole would make the copy wait for every
 * single store, which cost more than the rest of this function.
 */
int ep_etf_next(struct ep_etf_cursor *cursor, struct ep_etf_token *ret_token)
{
    const uint8_t *at = cursor->at;
    size_t left = (size_t)(cursor->end - at);
    enum ep_etf_type type = EP_ETF_NIL;
    uint32_t count = 0;
    uint64_t needed = 0; /* bytes that must follow at least */
    size_t data = 0;     /* how many of them belong to this token */
    int64_t integer = 0;
    double real = 0.0;
    bool negative = false;

    size_t fixed = left == 0 ? 0 : fixed_size(at[0]);
    if (fixed == 0 || fixed > left)
        return -EPROTO;

    switch (at[0]) {
    case EP_ETF_TAG_NIL: break;
    case EP_ETF_TAG_SMALL_INTEGER:
        type = EP_ETF_INT;
        integer = at[1];
        break;
    case EP_ETF_TAG_INTEGER:
        type = EP_ETF_INT;
        integer = (int32_t)get32(at + 1);
        break;
    case EP_ETF_TAG_NEW_FLOAT: {
        uint64_t bits = get64(at + 1);
        type = EP_ETF_FLOAT;
        memcpy(&real, &bits, sizeof(bits));
        break;
    }
    case EP_ETF_TAG_SMALL_ATOM_UTF8:
    case EP_ETF_TAG_ATOM_UTF8:
        type = EP_ETF_ATOM;
        data = needed = at[0] == EP_ETF_TAG_ATOM_UTF8 ? get16(at + 1) : at[1];
        break;
    case EP_ETF_TAG_BINARY:
        type = EP_ETF_BINARY;
        data = needed = get32(at + 1);
        break;
    case EP_ETF_TAG_STRING:
        type = EP_ETF_STRING;
        data = needed = get16(at + 1);
        break;
    case EP_ETF_TAG_SMALL_BIG:
    case EP_ETF_TAG_LARGE_BIG:
        type = EP_ETF_BIG;
        data = needed = at[0] == EP_ETF_TAG_LARGE_BIG ? get32(at + 1) : at[1];
        negative = at[fixed - 1] != 0;
        break;
    case EP_ETF_TAG_SMALL_TUPLE:
    case EP_ETF_TAG_LARGE_TUPLE:
        type = EP_ETF_TUPLE;
        count = at[0] == EP_ETF_TAG_LARGE_TUPLE ? get32(at + 1) : at[1];
        needed = count;
        break;
    case EP_ETF_TAG_LIST:
        type = EP_ETF_LIST;
        count = get32(at + 1);
        needed = (uint64_t)count + 1;
        break;
    case EP_ETF_TAG_MAP:
        type = EP_ETF_MAP;
        count = get32(at + 1);
        needed = 2 * (uint64_t)count;
        break;
    case EP_ETF_TAG_HANDLE:
        type = EP_ETF_HANDLE;
        data = needed = get16(at + 2);
        if (needed > EP_ETF_HANDLE_MAX)
            return -EPROTO;
        break;
    default: return -EPROTO;
    }
    if (needed > left - fixed)
        return -EPROTO;
    if (type == EP_ETF_BIG && fits_int64(at + fixed, data, negative, &integer))
        type = EP_ETF_INT;

    ret_token->type = type;
    ret_token->kind = at[0] == EP_ETF_TAG_HANDLE ? at[1] : 0;
    ret_token->negative = negative;
    ret_token->count = data > 0 ? (uint32_t)data : count;
    ret_token->integer = integer;
    ret_token->real = real;
    ret_token->data = at + fixed;
    ret_token->seal = at + 4;
    cursor->at = at + fixed + data;
    return 0;
}

int ep_etf_is_binary(const uint8_t head[EP_ETF_BINARY_HEADER], size_t size)
{
    return head[0] == EP_ETF_TAG_BINARY && get32(head + 1) == size - EP_ETF_BINARY_HEADER;
}

int ep_etf_list_end(struct ep_etf_cursor *cursor)
{
    if (cursor->at == cursor->end || *cursor->at != EP_ETF_TAG_NIL)
        return -EPROTO;
    cursor->at++;
    return 0;
}

int ep_etf_skip(struct ep_etf_cursor *cursor)
{
    uint64_t pending[EP_ETF_DEPTH_MAX]; /* elements still to come, by level */
    bool is_list[EP_ETF_DEPTH_MAX];     /* the last of them must be NIL */
    struct ep_etf_cursor at = *cursor;
    struct ep_etf_token token;
    size_t depth = 0;

    do {
        int rc = ep_etf_next(&at, &token);
        if (rc < 0)
            return rc;
        if (depth > 0 && is_list[depth - 1] && pending[depth - 1] == 1 && token.type != EP_ETF_NIL)
            return -EPROTO;
        uint64_t inside = token.type == EP_ETF_TUPLE  ? token.count
                          : token.type == EP_ETF_LIST ? (uint64_t)token.count + 1
                          : token.type == EP_ETF_MAP  ? 2 * (uint64_t)token.count
                                                      : 0;
        if (inside > 0) {
            if (depth == EP_ETF_DEPTH_MAX)
                return -EPROTO;
            is_list[depth] = token.type == EP_ETF_LIST;
            pending[depth++] = inside;
            continue;
        }
        while (depth > 0 && --pending[depth - 1] == 0)
            depth--;
    } while (depth > 0);

    *cursor = at;
    return 0;
}

static void put_tag32(struct ep_buf *buf, uint8_t tag, uint32_t value)
{
    uint8_t *at = ep_buf_extend(buf, 5);
    if (at == NULL)
        return;
    at[0] = tag;
    set32(at + 1, value);
}

void ep_etf_put_int(struct ep_buf *buf, int64_t value)
{
    uint8_t number[EP_ETF_NUMBER_MAX];

    if (buf->capacity - buf->length >= sizeof(number)) {
        buf->length = (size_t)(ep_etf_write_int(buf->data + buf->length, value) - buf->data);
        return;
    }
    ep_buf_put(buf, number, (size_t)(ep_etf_write_int(number, value) - number));
}

void ep_etf_put_uint(struct ep_buf *buf, uint64_t value)
{
    uint8_t bytes[8];

    if (value <= INT64_MAX) {
        ep_etf_put_int(buf, (int64_t)value);
        return;
    }
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    ep_etf_put_big(buf, 0, bytes, sizeof(bytes));
}

void ep_etf_put_big(struct ep_buf *buf, int negative, const uint8_t *magnitude, uint32_t size)
{
    if (size <= 255) {
        uint8_t head[3] = {EP_ETF_TAG_SMALL_BIG, (uint8_t)size, negative != 0};
        ep_buf_put(buf, head, sizeof(head));
    } else {
        uint8_t sign = negative != 0;
        put_tag32(buf, EP_ETF_TAG_LARGE_BIG, size);
        ep_buf_put(buf, &sign, 1);
    }
    ep_buf_put(buf, magnitude, size);
}

void ep_etf_put_float(struct ep_buf *buf, double value)
{
    uint8_t *at = ep_buf_extend(buf, 9);

    if (at != NULL)
        (void)ep_etf_write_float(at, value);
}

void ep_etf_put_atom(struct ep_buf *buf, const char *utf8, size_t size)
{
    uint8_t small[2] = {EP_ETF_TAG_SMALL_ATOM_UTF8, (uint8_t)size};
    uint8_t large[3] = {EP_ETF_TAG_ATOM_UTF8, (uint8_t)(size >> 8), (uint8_t)size};

    if (size <= 255)
        ep_buf_put(buf, small, sizeof(small));
    else
        ep_buf_put(buf, large, sizeof(large));
    ep_buf_put(buf, utf8, size);
}

uint8_t *ep_etf_put_binary_header(struct ep_buf *buf, size_t size)
{
    if (size > UINT32_MAX)
        return ep_buf_fail(buf, -EMSGSIZE);
    uint8_t *at = ep_buf_extend(buf, EP_ETF_BINARY_HEADER + size);
    if (at == NULL)
        return NULL;
    at[0] = EP_ETF_TAG_BINARY;
    set32(at + 1, (uint32_t)size);
    return at + EP_ETF_BINARY_HEADER;
}

void ep_etf_put_binary(struct ep_buf *buf, const void *data, size_t size)
{
    uint8_t *at = ep_etf_put_binary_header(buf, size);
    if (at != NULL)
        ep_copy(at, data, size);
}

void ep_etf_set_count(uint8_t *list, uint32_t count)
{
    set32(list + 1, count);
}

void ep_etf_put_list(struct ep_buf *buf, uint32_t count)
{
    put_tag32(buf, EP_ETF_TAG_LIST, count);
}

void ep_etf_put_nil(struct ep_buf *buf)
{
    uint8_t *at = ep_buf_extend(buf, 1);
    if (at != NULL)
        *at = EP_ETF_TAG_NIL;
}

void ep_etf_put_tuple(struct ep_buf *buf, uint32_t count)
{
    uint8_t small[2] = {EP_ETF_TAG_SMALL_TUPLE, (uint8_t)count};

    if (count <= 255)
        ep_buf_put(buf, small, sizeof(small));
    else
        put_tag32(buf, EP_ETF_TAG_LARGE_TUPLE, count);
}

void ep_etf_put_map(struct ep_buf *buf, uint32_t count)
{
    put_tag32(buf, EP_ETF_TAG_MAP, count);
}

void ep_etf_put_handle(struct ep_buf *buf, enum ep_handle_kind kind, const void *data, size_t size,
                       const uint8_t seal[EP_ETF_SEAL_SIZE])
{
    uint8_t head[4] = {EP_ETF_TAG_HANDLE, (uint8_t)kind, (uint8_t)(size >> 8), (uint8_t)size};

    if (size > EP_ETF_HANDLE_MAX) {
        (void)ep_buf_fail(buf, -EMSGSIZE);
        return;
    }
    ep_buf_put(buf, head, sizeof(head));
    ep_buf_put(buf, seal, EP_ETF_SEAL_SIZE);
    ep_buf_put(buf, data, size);
}
