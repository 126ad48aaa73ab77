/* SPDX-License-Identifier: Apache-2.0 */
#include "ep_array.h"

#include <errno.h>
#include <string.h>

struct record {
    uint64_t id, segment, offset, nbytes;
    uint8_t dtype, ndim, what, reserved[5];
};

struct tail {
    uint32_t n;
    uint32_t size;   /* of records and tail */
    uint64_t shares; /* 0 or 1 */
};

static const struct {
    const char *name, *format;
    size_t size;
} dtypes[EP_DTYPES] = {
    [EP_DTYPE_BOOL] = {"bool", "?", 1},
    [EP_DTYPE_INT8] = {"int8", "b", 1},
    [EP_DTYPE_INT16] = {"int16", "h", 2},
    [EP_DTYPE_INT32] = {"int32", "i", 4},
    [EP_DTYPE_INT64] = {"int64", "q", 8},
    [EP_DTYPE_UINT8] = {"uint8", "B", 1},
    [EP_DTYPE_UINT16] = {"uint16", "H", 2},
    [EP_DTYPE_UINT32] = {"uint32", "I", 4},
    [EP_DTYPE_UINT64] = {"uint64", "Q", 8},
    [EP_DTYPE_FLOAT16] = {"float16", "e", 2},
    [EP_DTYPE_FLOAT32] = {"float32", "f", 4},
    [EP_DTYPE_FLOAT64] = {"float64", "d", 8},
    [EP_DTYPE_COMPLEX64] = {"complex64", "Zf", 8},
    [EP_DTYPE_COMPLEX128] = {"complex128", "Zd", 16},
};

const char *ep_dtype_name(unsigned dtype)
{
    return dtypes[dtype].name;
}

const char *ep_dtype_format(unsigned dtype)
{
    return dtypes[dtype].format;
}

size_t ep_dtype_size(unsigned dtype)
{
    return dtypes[dtype].size;
}

/* Beyond this no address space has room. */
#define BYTES_MAX (UINT64_C(1) << 46)

bool ep_array_size(unsigned dtype, unsigned ndim, const uint64_t *dims, uint64_t *ret_nbytes)
{
    uint64_t nbytes = dtypes[dtype].size;
    bool is_empty = false;

    for (unsigned i = 0; i < ndim; i++) {
        is_empty |= dims[i] == 0;
        /* The product of all but zeroes: numpy wants that to be within bounds, too. */
        uint64_t size = dims[i] == 0 ? 1 : dims[i];
        if (size > BYTES_MAX / nbytes)
            return false;
        nbytes *= size;
    }
    *ret_nbytes = is_empty ? 0 : nbytes;
    return true;
}

void ep_array_put(struct ep_buf *buf, const struct ep_array_info *info)
{
    struct record record = {.id = info->id,
                            .segment = info->segment,
                            .offset = info->offset,
                            .nbytes = info->nbytes,
                            .dtype = info->dtype,
                            .ndim = info->ndim,
                            .what = info->what};

    ep_buf_put(buf, &record, sizeof(record));
    ep_buf_put(buf, info->dims, info->ndim * sizeof(info->dims[0]));
}

void ep_array_put_tail(struct ep_buf *buf, size_t start, uint32_t n, bool shares)
{
    struct tail tail = {
        .n = n, .size = (uint32_t)(buf->length - start + sizeof(tail)), .shares = shares};

    ep_buf_put(buf, &tail, sizeof(tail));
}

int ep_array_read(struct ep_array_reader *reader, const uint8_t *payload, size_t length,
                  size_t *ret_length)
{
    struct tail tail;

    if (length < sizeof(tail))
        return -EPROTO;
    memcpy(&tail, payload + length - sizeof(tail), sizeof(tail));
    if (tail.size < sizeof(tail) || tail.size > length || tail.shares > 1
        || tail.n > (tail.size - sizeof(tail)) / sizeof(struct record))
        return -EPROTO;
    reader->at = payload + length - tail.size;
    reader->end = payload + length - sizeof(tail);
    reader->left = tail.n;
    reader->shares = tail.shares != 0;
    *ret_length = length - tail.size;
    return 0;
}

int ep_array_next(struct ep_array_reader *reader, struct ep_array_info *ret_info)
{
    struct record record;
    uint64_t nbytes;

    if (reader->left == 0)
        return reader->at == reader->end ? 0 : -EPROTO;
    if ((size_t)(reader->end - reader->at) < sizeof(record))
        return -EPROTO;
    memcpy(&record, reader->at, sizeof(record));
    reader->at += sizeof(record);
    if (record.dtype >= EP_DTYPES || record.ndim > EP_ARRAY_DIMS_MAX || record.what == 0
        || (record.what & ~EP_ARRAY_WHAT_ALL) != 0
        || (size_t)(reader->end - reader->at) < record.ndim * sizeof(uint64_t))
        return -EPROTO;
    ret_info->id = record.id;
    ret_info->segment = record.segment;
    ret_info->offset = record.offset;
    ret_info->nbytes = record.nbytes;
    ret_info->dtype = record.dtype;
    ret_info->ndim = record.ndim;
    ret_info->what = record.what;
    memcpy(ret_info->dims, reader->at, record.ndim * sizeof(uint64_t));
    reader->at += record.ndim * sizeof(uint64_t);
    bool is_object = (record.what & EP_ARRAY_OBJECT) != 0;
    bool is_good = is_object ? record.dtype < EP_OBJECTS && record.ndim == 0 && record.nbytes == 0
                             : ep_array_size(record.dtype, record.ndim, ret_info->dims, &nbytes)
                                   && nbytes == record.nbytes;
    if (!is_good)
        return -EPROTO;
    reader->left--;
    return 1;
}
