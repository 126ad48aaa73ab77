/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_ARRAY_H
#define EP_ARRAY_H

/*
 * ep_array - arrays in shared memory as messages name them, and the news of their segments.
 *
 * A message with EP_FLAG_ARRAYS ends with a list: records, one for each array, and a tail with
 * their number. A handle of kind EP_HANDLE_ARRAY in the terms before it is an index of the list.
 * So whoever takes or drops the message finds its arrays without reading its terms.
 *
 * News go from the VM to the worker over a SOCK_SEQPACKET socket, which carries the fds of
 * segments too. docs/wire.md has the protocol.
 *
 * Units      bytes.
 * Errors     0 or -EPROTO.
 * Threads    one at a time per object.
 * Trust      any input is safe to read, also one that changes meanwhile: each record is copied,
 *            then judged.
 */

#include "ep_buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_ARRAY_DIMS_MAX 32u
#define EP_HANDLE_ARRAY 3 /* of a handle; its bytes: the index, 32 bits */

enum ep_dtype {
    EP_DTYPE_BOOL,
    EP_DTYPE_INT8,
    EP_DTYPE_INT16,
    EP_DTYPE_INT32,
    EP_DTYPE_INT64,
    EP_DTYPE_UINT8,
    EP_DTYPE_UINT16,
    EP_DTYPE_UINT32,
    EP_DTYPE_UINT64,
    EP_DTYPE_FLOAT16,
    EP_DTYPE_FLOAT32,
    EP_DTYPE_FLOAT64,
    EP_DTYPE_COMPLEX64,
    EP_DTYPE_COMPLEX128,
    EP_DTYPES,
};

/* Its name in numpy and in Erlang, the format of the buffer protocol, the size of an element. */
const char *ep_dtype_name(unsigned dtype);
const char *ep_dtype_format(unsigned dtype);
size_t ep_dtype_size(unsigned dtype);

/* What a record says. */
#define EP_ARRAY_NAMED 1u   /* the terms may refer to it */
#define EP_ARRAY_CLAIMED 2u /* from a worker: it holds the array from now on */
#define EP_ARRAY_MADE 4u    /* from a worker: it has made the array, which may be new */
#define EP_ARRAY_OBJECT                                                                            \
    8u /* no array, but a channel or the like: dtype is enum ep_object_kind, and
                               the rest is 0 */
#define EP_ARRAY_WHAT_ALL 15u

/* What is passed as arrays are, and has no memory that is shared. */
enum ep_object_kind {
    EP_OBJECT_CHANNEL,
    EP_OBJECT_BYTE_CHANNEL,
    EP_OBJECT_BUFFER,
    EP_OBJECT_DICT,
    EP_OBJECTS,
};

/* Bytes of a record and its share of the tail, at most. */
#define EP_ARRAY_RECORD_MAX (56u + 8u * EP_ARRAY_DIMS_MAX)

struct ep_array_info {
    uint64_t id; /* upper 24 bits: the worker process that made it, 0: the VM */
    uint64_t segment;
    uint64_t offset; /* in the segment */
    uint64_t nbytes;
    uint8_t dtype;
    uint8_t ndim;
    uint8_t what; /* EP_ARRAY_ */
    uint64_t dims[EP_ARRAY_DIMS_MAX];
};

#define EP_ARRAY_MAKER_SHIFT 40u
static inline uint64_t ep_array_prefix(uint64_t host_id)
{
    return (host_id & 0xFFFFFFu) << EP_ARRAY_MAKER_SHIFT;
}

/* Bytes of that many elements. False: more than memory can have. */
bool ep_array_size(unsigned dtype, unsigned ndim, const uint64_t *dims, uint64_t *ret_nbytes);

/* Appends a record; at the end, the tail for n of them. start: length of buf before the first.
 * shares, of a request: every numpy array in its result becomes one of these. */
void ep_array_put(struct ep_buf *buf, const struct ep_array_info *info);
void ep_array_put_tail(struct ep_buf *buf, size_t start, uint32_t n, bool shares);

struct ep_array_reader {
    const uint8_t *at, *end;
    uint32_t left;
    bool shares;
};

/* Finds the list at the end of a payload; *ret_length is what lies before it. */
int ep_array_read(struct ep_array_reader *reader, const uint8_t *payload, size_t length,
                  size_t *ret_length);
/* Reads a record. 1, or 0 at the end, or -EPROTO. */
int ep_array_next(struct ep_array_reader *reader, struct ep_array_info *ret_info);

/* News. */
enum ep_array_news {
    EP_NEWS_SEGMENT = 1, /* with its fd: a segment to read */
    EP_NEWS_OWN = 2,     /* with its fd: one to write, an answer to EP_ARRAYS_NEED */
    EP_NEWS_NONE = 3,    /* the same, but there is none: memory is short */
    EP_NEWS_FREED = 4,   /* arrays that the worker has made, and nobody holds any more */
    EP_NEWS_RETIRED = 5, /* a segment that is not used any more */
};

#define EP_NEWS_IDS 64u
struct ep_array_message {
    uint32_t what;
    uint32_t n;       /* of ids */
    uint64_t segment; /* or 0 */
    uint64_t size;    /* of the segment; OWN: what may be used */
    uint64_t prefix;  /* OWN: upper bits of the ids that the worker gives */
    uint64_t ids[EP_NEWS_IDS];
};

static inline size_t ep_array_message_size(uint32_t n)
{
    return offsetof(struct ep_array_message, ids) + n * sizeof(uint64_t);
}

/* What a worker says on the control lane: aux of EP_KIND_ARRAYS. */
enum ep_arrays_aux {
    EP_ARRAYS_NEED = 1,  /* subject: bytes; asks for a segment to write, one at a time */
    EP_ARRAYS_DROP = 2,  /* payload: struct ep_array_drop, of what it holds no more */
    EP_ARRAYS_GIVE = 3,  /* subject: a segment of its own that it has unmapped */
    EP_ARRAYS_CLAIM = 4, /* a list of arrays and nothing else; on a lane: it has read the arrays of
                            the outcome of that call */
};

struct ep_array_drop {
    uint64_t id;
    uint64_t claims; /* that it has made */
};

/* The size of segments: small at first, then this. What is larger gets one of its own. */
#define EP_SEGMENT_SIZE (UINT64_C(64) << 20)
#define EP_SEGMENT_FIRST (UINT64_C(8) << 20)

#ifdef __cplusplus
}
#endif

#endif
