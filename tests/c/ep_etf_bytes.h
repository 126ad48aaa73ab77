// SPDX-License-Identifier: Apache-2.0
#ifndef EP_ETF_BYTES_H
#define EP_ETF_BYTES_H

// ep_etf_bytes - what the tests of ep_etf read and write.

#include "ep_etf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

using Bytes = std::vector<uint8_t>;

// Heap memory of exactly the size of the input: AddressSanitizer sees a read of
// the byte behind it.
class Exact {
public:
    Exact() = default;

    // Out of line: g++ 12 takes the copy of no bytes into no bytes for an overflow.
    [[gnu::noinline]] explicit Exact(const Bytes &bytes)
        : data_(new uint8_t[bytes.size()]), size_(bytes.size())
    {
        std::copy(bytes.begin(), bytes.end(), data_.get());
    }

    ep_etf_cursor Cursor() const
    {
        ep_etf_cursor cursor;
        ep_etf_cursor_init(&cursor, data_.get(), size_);
        return cursor;
    }

private:
    std::unique_ptr<uint8_t[]> data_;
    size_t size_ = 0;
};

class Writer {
public:
    Writer()
    {
        ep_buf_init(&buf, nullptr, 0, 1 << 24);
    }

    ~Writer()
    {
        ep_buf_finish(&buf);
    }

    Bytes Take() const
    {
        EXPECT_EQ(buf.error, 0);
        return Bytes(buf.data, buf.data + buf.length);
    }

    ep_buf buf;
};

// Reads one token that is the whole input.
inline ep_etf_token Only(const Bytes &bytes, Exact &memory)
{
    memory = Exact(bytes);
    ep_etf_cursor cursor = memory.Cursor();
    ep_etf_token token = {};
    EXPECT_EQ(ep_etf_next(&cursor, &token), 0);
    EXPECT_EQ(cursor.at, cursor.end);
    return token;
}

inline int Next(const Bytes &bytes)
{
    Exact memory(bytes);
    ep_etf_cursor cursor = memory.Cursor();
    const uint8_t *start = cursor.at;
    ep_etf_token token = {};
    token.integer = 42;
    int rc = ep_etf_next(&cursor, &token);
    if (rc < 0) {
        EXPECT_EQ(cursor.at, start) << "the cursor stays on failure";
        EXPECT_EQ(token.integer, 42) << "and so does the result";
    }
    return rc;
}

inline int Skip(const Bytes &bytes)
{
    Exact memory(bytes);
    ep_etf_cursor cursor = memory.Cursor();
    const uint8_t *start = cursor.at;
    int rc = ep_etf_skip(&cursor);
    if (rc < 0) {
        EXPECT_EQ(cursor.at, start);
    }
    return rc < 0 ? rc : static_cast<int>(cursor.end - cursor.at);
}

#endif
