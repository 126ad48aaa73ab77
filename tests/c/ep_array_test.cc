/* SPDX-License-Identifier: Apache-2.0 */
/* The lists of arrays at the end of messages, the table of numbers, and the blocks of a segment. */
#include "ep_arena.h"
#include "ep_array.h"
#include "ep_map.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <vector>

namespace {

struct Buf {
    Buf()
    {
        ep_buf_init(&buf, lent, sizeof(lent), 1 << 20);
    }
    ~Buf()
    {
        ep_buf_finish(&buf);
    }
    struct ep_buf buf;
    uint8_t lent[64];
};

struct ep_array_info Info(uint64_t id, std::vector<uint64_t> dims, uint8_t dtype = EP_DTYPE_INT16)
{
    struct ep_array_info info = {};
    info.id = id;
    info.segment = id + 1;
    info.offset = id * EP_PAGE;
    info.dtype = dtype;
    info.ndim = static_cast<uint8_t>(dims.size());
    info.what = EP_ARRAY_NAMED;
    std::copy(dims.begin(), dims.end(), info.dims);
    EXPECT_TRUE(ep_array_size(dtype, info.ndim, info.dims, &info.nbytes));
    return info;
}

TEST(ep_array, reads_what_was_put_behind_the_terms)
{
    Buf b;
    std::vector<struct ep_array_info> infos = {Info(1, {}), Info(2, {3, 4}), Info(3, {0, 7})};
    struct ep_array_reader reader;
    struct ep_array_info info;
    size_t length = 0;

    ep_buf_put(&b.buf, "terms", 5);
    for (const auto &i : infos)
        ep_array_put(&b.buf, &i);
    ep_array_put_tail(&b.buf, 5, 3, false);
    ASSERT_EQ(0, b.buf.error);
    ASSERT_EQ(0, ep_array_read(&reader, b.buf.data, b.buf.length, &length));
    EXPECT_EQ(5u, length);
    for (const auto &i : infos) {
        ASSERT_EQ(1, ep_array_next(&reader, &info));
        EXPECT_EQ(i.id, info.id);
        EXPECT_EQ(i.segment, info.segment);
        EXPECT_EQ(i.offset, info.offset);
        EXPECT_EQ(i.nbytes, info.nbytes);
        EXPECT_EQ(0, memcmp(i.dims, info.dims, i.ndim * sizeof(uint64_t)));
    }
    EXPECT_EQ(0, ep_array_next(&reader, &info));
}

TEST(ep_array, knows_the_size_of_any_shape)
{
    uint64_t nbytes = 1;
    uint64_t empty[] = {3, 0};
    uint64_t huge[] = {UINT64_C(1) << 40, UINT64_C(1) << 40, 0};

    EXPECT_TRUE(ep_array_size(EP_DTYPE_FLOAT64, 2, empty, &nbytes));
    EXPECT_EQ(0u, nbytes);
    EXPECT_TRUE(ep_array_size(EP_DTYPE_COMPLEX128, 0, empty, &nbytes));
    EXPECT_EQ(16u, nbytes);
    EXPECT_FALSE(ep_array_size(EP_DTYPE_INT8, 3, huge, &nbytes));
}

/* Every change of a list is either refused or read to its end. */
TEST(ep_array, refuses_lists_that_make_no_sense)
{
    Buf b;
    std::mt19937 random(1);
    struct ep_array_info info = Info(7, {2, 3});

    ep_array_put(&b.buf, &info);
    ep_array_put(&b.buf, &info);
    ep_array_put_tail(&b.buf, 0, 2, false);
    std::vector<uint8_t> good(b.buf.data, b.buf.data + b.buf.length);
    for (unsigned n = 0; n < 20000; n++) {
        std::vector<uint8_t> bytes = good;
        struct ep_array_reader reader;
        size_t length = 0;
        for (unsigned i = 0; i <= random() % 3; i++)
            bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
        bytes.resize(random() % 4 == 0 ? random() % bytes.size() : bytes.size());
        if (ep_array_read(&reader, bytes.data(), bytes.size(), &length) < 0)
            continue;
        ASSERT_LE(length, bytes.size());
        int rc;
        while ((rc = ep_array_next(&reader, &info)) == 1) {
            ASSERT_LT(info.dtype, EP_DTYPES);
            ASSERT_LE(info.ndim, EP_ARRAY_DIMS_MAX);
        }
        ASSERT_TRUE(rc == 0 || rc == -EPROTO);
    }
}

TEST(ep_map, holds_what_a_map_holds)
{
    struct ep_map map = {};
    std::map<uint64_t, void *> model;
    std::mt19937 random(2);

    for (unsigned n = 0; n < 50000; n++) {
        uint64_t key = 1 + random() % 500;
        void *value = reinterpret_cast<void *>(static_cast<uintptr_t>(n + 1));
        auto found = model.find(key);
        void *expected = found == model.end() ? nullptr : found->second;
        ASSERT_EQ(expected, ep_map_get(&map, key));
        if (random() % 2 == 0) {
            ASSERT_EQ(0, ep_map_set(&map, key, value));
            model[key] = value;
        } else {
            ASSERT_EQ(expected, ep_map_remove(&map, key));
            model.erase(key);
        }
        ASSERT_EQ(model.size(), map.n);
    }
    size_t at = 0, seen = 0;
    while (const struct ep_map_entry *entry = ep_map_walk(&map, &at)) {
        EXPECT_EQ(model[entry->key], entry->value);
        seen++;
    }
    EXPECT_EQ(model.size(), seen);
    ep_map_finish(&map);
}

TEST(ep_arena, gives_out_blocks_that_do_not_overlap)
{
    struct ep_arena arena;
    std::map<uint64_t, uint64_t> out;
    std::mt19937 random(3);

    ep_arena_init(&arena, EP_SEGMENT_FIRST);
    for (unsigned n = 0; n < 20000; n++) {
        uint64_t size = random() % (random() % 100 == 0 ? EP_SEGMENT_FIRST : 100000), offset = 0;
        if (random() % 2 == 0 && ep_arena_alloc(&arena, size, &offset) == 0) {
            auto next = out.lower_bound(offset);
            ASSERT_LE(offset + size, EP_SEGMENT_FIRST);
            ASSERT_TRUE(next == out.end() || offset + size <= next->first);
            ASSERT_TRUE(next == out.begin()
                        || std::prev(next)->first + std::prev(next)->second <= offset);
            out[offset] = size;
        } else if (!out.empty()) {
            auto it = std::next(out.begin(), static_cast<long>(random() % out.size()));
            ASSERT_EQ(0, ep_arena_free(&arena, it->first));
            ASSERT_EQ(-EPROTO, ep_arena_free(&arena, it->first));
            out.erase(it);
        }
        ASSERT_EQ(out.empty(), ep_arena_is_empty(&arena));
    }
    ep_arena_finish(&arena);
}

TEST(ep_arena, gives_large_blocks_a_segment_of_their_own)
{
    struct ep_arena arena;
    uint64_t offset = 1, size = ep_arena_segment_size(EP_SEGMENT_SIZE + 1, 0);

    EXPECT_EQ(EP_SEGMENT_SIZE + EP_PAGE, size);
    EXPECT_EQ(EP_SEGMENT_FIRST, ep_arena_segment_size(1, 0));
    EXPECT_EQ(2 * EP_SEGMENT_FIRST, ep_arena_segment_size(1, 1));
    EXPECT_EQ(EP_SEGMENT_SIZE, ep_arena_segment_size(1, 20));
    EXPECT_EQ(EP_SEGMENT_SIZE, ep_arena_segment_size(EP_SEGMENT_SIZE, 0));
    ep_arena_init(&arena, size);
    EXPECT_EQ(-EAGAIN, ep_arena_alloc(&arena, 1, &offset)) << "most of it would be wasted";
    EXPECT_EQ(0, ep_arena_alloc(&arena, size - EP_PAGE, &offset));
    EXPECT_EQ(0u, offset);
    EXPECT_EQ(-EAGAIN, ep_arena_alloc(&arena, size, &offset));
    EXPECT_EQ(-EPROTO, ep_arena_free(&arena, EP_PAGE));
    EXPECT_EQ(0, ep_arena_free(&arena, 0));
    EXPECT_TRUE(ep_arena_is_empty(&arena));
    ep_arena_finish(&arena);
}

} // namespace
