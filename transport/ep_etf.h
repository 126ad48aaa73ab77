/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ETF_H
#define EP_ETF_H

/*
 * ep_etf - the part of Erlang's external term format that crosses the rings.
 *
 * Writing appends to an ep_buf. Reading is a cursor that yields one token at a
 * time and never recurses: a container token carries its number of elements,
 * which follow as tokens of their own; the caller keeps the stack and with it
 * the limit of depth. Tags are those of the format (erts, "External Term
 * Format") without the version byte, and one of our own, EP_ETF_HANDLE.
 *
 * Not accepted: compressed terms, funs, pids, ports, references, bitstrings,
 * improper lists. A pid or reference travels as a handle: bytes that only their
 * maker can read, with a seal that only it can make (nif/term/ep_seal.h).
 *
 * Units      bytes; counts of elements.
 * Ownership  tokens lend pointers into the input.
 * Errors     0 or -EPROTO: truncated, unknown tag, or a count that the rest of
 *            the input cannot hold.
 * Threads    one at a time.
 * Trust      any input is safe to read. Every token takes at least one byte,
 *            so there are never more tokens than bytes.
 */

#include "ep_buf.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EP_ETF_DEPTH_MAX 1000u
#define EP_ETF_HANDLE_MAX 1024u
#define EP_ETF_SEAL_SIZE 8u
#define EP_ETF_NUMBER_MAX 11u   /* bytes of an integer of 64 bits or a float */
#define EP_ETF_BINARY_HEADER 5u /* bytes before those of a binary */

/* First bytes of tokens, for the functions below. */
enum ep_etf_tag {
    EP_ETF_TAG_HANDLE = 1, /* ours: kind u8, size u16, seal, bytes */
    EP_ETF_TAG_NEW_FLOAT = 70,
    EP_ETF_TAG_SMALL_INTEGER = 97,
    EP_ETF_TAG_INTEGER = 98,
    EP_ETF_TAG_SMALL_TUPLE = 104,
    EP_ETF_TAG_LARGE_TUPLE = 105,
    EP_ETF_TAG_NIL = 106,
    EP_ETF_TAG_STRING = 107,
    EP_ETF_TAG_LIST = 108,
    EP_ETF_TAG_BINARY = 109,
    EP_ETF_TAG_SMALL_BIG = 110,
    EP_ETF_TAG_LARGE_BIG = 111,
    EP_ETF_TAG_MAP = 116,
    EP_ETF_TAG_ATOM_UTF8 = 118,
    EP_ETF_TAG_SMALL_ATOM_UTF8 = 119,
};

enum ep_etf_type {
    EP_ETF_INT,    /* integer */
    EP_ETF_BIG,    /* data, count: magnitude, little-endian; negative */
    EP_ETF_FLOAT,  /* real */
    EP_ETF_ATOM,   /* data, count: UTF-8 */
    EP_ETF_BINARY, /* data, count */
    EP_ETF_LIST,   /* count elements follow, then EP_ETF_NIL; count may be 0 */
    EP_ETF_NIL,    /* the empty list */
    EP_ETF_STRING, /* data, count: a list of bytes */
    EP_ETF_TUPLE,  /* count elements follow */
    EP_ETF_MAP,    /* count pairs follow */
    EP_ETF_HANDLE, /* kind, data, count; seal */
};

enum ep_handle_kind { EP_HANDLE_PID = 1, EP_HANDLE_REF = 2 };

struct ep_etf_token {
    enum ep_etf_type type;
    uint8_t kind;     /* enum ep_handle_kind */
    uint8_t negative; /* EP_ETF_BIG */
    uint32_t count;
    int64_t integer;
    double real;
    const uint8_t *data;
    const uint8_t *seal; /* EP_ETF_SEAL_SIZE bytes */
};

struct ep_etf_cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static inline void ep_etf_cursor_init(struct ep_etf_cursor *cursor, const void *data, size_t size)
{
    cursor->at = (const uint8_t *)data;
    cursor->end = cursor->at + size;
}

/* Reads one token if it is an integer of 32 bits or a float, as ep_etf_next() would, for
 * long lists of them. Returns 1: *ret_integer, 2: *ret_real; 0: it is something else. */
static inline int ep_etf_next_number(struct ep_etf_cursor *cursor, int64_t *ret_integer,
                                     double *ret_real)
{
    const uint8_t *at = cursor->at;
    size_t left = (size_t)(cursor->end - at);
    uint32_t word;
    uint64_t bits;

    if (left >= 5 && at[0] == EP_ETF_TAG_INTEGER) {
        memcpy(&word, at + 1, sizeof(word));
        *ret_integer = (int32_t)__builtin_bswap32(word);
        cursor->at = at + 5;
        return 1;
    }
    if (left >= 2 && at[0] == EP_ETF_TAG_SMALL_INTEGER) {
        *ret_integer = at[1];
        cursor->at = at + 2;
        return 1;
    }
    if (left >= 9 && at[0] == EP_ETF_TAG_NEW_FLOAT) {
        memcpy(&bits, at + 1, sizeof(bits));
        bits = __builtin_bswap64(bits);
        memcpy(ret_real, &bits, sizeof(bits));
        cursor->at = at + 9;
        return 2;
    }
    return 0;
}

/* Reads one token. On failure the cursor stays where it was. */
int ep_etf_next(struct ep_etf_cursor *cursor, struct ep_etf_token *ret_token);

/* Whether a term of size bytes that begins with these is a binary. */
int ep_etf_is_binary(const uint8_t head[EP_ETF_BINARY_HEADER], size_t size);

/* Reads the NIL that ends a list of count > 0 elements. */
int ep_etf_list_end(struct ep_etf_cursor *cursor);

/* Steps over one whole term. -EPROTO also when it nests beyond EP_ETF_DEPTH_MAX
 * or holds an improper list. */
int ep_etf_skip(struct ep_etf_cursor *cursor);

/* Write a number where there is room for EP_ETF_NUMBER_MAX bytes; return what follows. */
static inline uint8_t *ep_etf_write_int(uint8_t *at, int64_t value)
{
    if (value >= 0 && value <= 255) {
        at[0] = EP_ETF_TAG_SMALL_INTEGER;
        at[1] = (uint8_t)value;
        return at + 2;
    }
    if (value >= INT32_MIN && value <= INT32_MAX) {
        uint32_t word = __builtin_bswap32((uint32_t)(int32_t)value);
        at[0] = EP_ETF_TAG_INTEGER;
        memcpy(at + 1, &word, sizeof(word));
        return at + 5;
    }
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint8_t size = 0;
    for (; magnitude != 0; magnitude >>= 8)
        at[3 + size++] = (uint8_t)magnitude;
    at[0] = EP_ETF_TAG_SMALL_BIG;
    at[1] = size;
    at[2] = value < 0;
    return at + 3 + size;
}

static inline uint8_t *ep_etf_write_float(uint8_t *at, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    bits = __builtin_bswap64(bits);
    at[0] = EP_ETF_TAG_NEW_FLOAT;
    memcpy(at + 1, &bits, sizeof(bits));
    return at + 9;
}

/* Writers. A failure sticks in buf->error. */
void ep_etf_put_int(struct ep_buf *buf, int64_t value);
void ep_etf_put_uint(struct ep_buf *buf, uint64_t value);
void ep_etf_put_big(struct ep_buf *buf, int negative, const uint8_t *magnitude, uint32_t size);
void ep_etf_put_float(struct ep_buf *buf, double value);
void ep_etf_put_atom(struct ep_buf *buf, const char *utf8, size_t size); /* size <= 1020 */
void ep_etf_put_binary(struct ep_buf *buf, const void *data, size_t size);
uint8_t *ep_etf_put_binary_header(struct ep_buf *buf, size_t size); /* lends the size bytes */
void ep_etf_put_list(struct ep_buf *buf, uint32_t count);           /* count > 0; end with nil */
void ep_etf_set_count(uint8_t *list, uint32_t count);               /* of a list written before */
void ep_etf_put_nil(struct ep_buf *buf);
void ep_etf_put_tuple(struct ep_buf *buf, uint32_t count);
void ep_etf_put_map(struct ep_buf *buf, uint32_t count);
void ep_etf_put_handle(struct ep_buf *buf, enum ep_handle_kind kind, const void *data, size_t size,
                       const uint8_t seal[EP_ETF_SEAL_SIZE]);

#ifdef __cplusplus
}
#endif

#endif
