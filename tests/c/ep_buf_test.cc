// SPDX-License-Identifier: Apache-2.0
#include "ep_buf.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

namespace {

class BufTest : public testing::Test {
protected:
    ~BufTest() override
    {
        ep_buf_finish(&buf_);
    }

    uint8_t lent_[16];
    ep_buf buf_ = {};
};

TEST_F(BufTest, WritesIntoTheLentMemoryAsLongAsItFits)
{
    ep_buf_init(&buf_, lent_, sizeof(lent_), SIZE_MAX);
    ep_buf_put(&buf_, "0123456789abcdef", 16);
    EXPECT_EQ(buf_.data, lent_);
    EXPECT_EQ(buf_.length, 16u);
    EXPECT_EQ(lent_[15], 'f');
}

TEST_F(BufTest, KeepsItsBytesWhenItMovesToTheHeap)
{
    ep_buf_init(&buf_, lent_, sizeof(lent_), SIZE_MAX);
    std::vector<uint8_t> want;
    for (int i = 0; i < 10000; i++) {
        uint8_t byte = static_cast<uint8_t>(i * 7);
        want.push_back(byte);
        ep_buf_put(&buf_, &byte, 1);
    }
    EXPECT_NE(buf_.data, lent_);
    ASSERT_EQ(buf_.length, want.size());
    EXPECT_EQ(std::memcmp(buf_.data, want.data(), want.size()), 0);
}

TEST_F(BufTest, StartsWithoutAnyMemory)
{
    ep_buf_init(&buf_, nullptr, 0, 100);
    ep_buf_put(&buf_, "x", 1);
    EXPECT_EQ(buf_.error, 0);
    EXPECT_EQ(buf_.length, 1u);
}

TEST_F(BufTest, HoldsExactlyItsLimit)
{
    for (size_t limit : {0u, 1u, 15u, 16u, 17u, 1023u, 1024u, 1025u, 5000u}) {
        for (size_t step : {1u, 3u, 100u}) {
            ep_buf_init(&buf_, lent_, sizeof(lent_), limit);
            size_t length = 0;
            while (ep_buf_extend(&buf_, step) != nullptr)
                length += step;
            EXPECT_EQ(buf_.error, -EMSGSIZE);
            EXPECT_EQ(length, limit / step * step) << "limit " << limit << " step " << step;
            EXPECT_EQ(buf_.length, length);
            ep_buf_finish(&buf_);
        }
    }
}

TEST_F(BufTest, RefusesEverythingAfterAFailure)
{
    ep_buf_init(&buf_, lent_, sizeof(lent_), 100);
    ep_buf_put(&buf_, "abc", 3);
    EXPECT_EQ(ep_buf_extend(&buf_, 98), nullptr);
    EXPECT_EQ(ep_buf_extend(&buf_, 1), nullptr) << "though it would fit";
    EXPECT_EQ(buf_.error, -EMSGSIZE);
    EXPECT_EQ(buf_.length, 3u);
    EXPECT_EQ(ep_buf_fail(&buf_, -EINVAL), nullptr);
    EXPECT_EQ(buf_.error, -EMSGSIZE) << "the first reason stays";
}

TEST_F(BufTest, RefusesSizesThatWouldOverflow)
{
    ep_buf_init(&buf_, lent_, sizeof(lent_), SIZE_MAX);
    ep_buf_put(&buf_, "abc", 3);
    EXPECT_EQ(ep_buf_extend(&buf_, SIZE_MAX - 2), nullptr);
    EXPECT_EQ(buf_.error, -EMSGSIZE);
}

TEST_F(BufTest, GoesOnInOtherMemoryThatIsLent)
{
    std::vector<uint8_t> place(6000), larger(20000);

    ep_buf_init(&buf_, lent_, sizeof(lent_), SIZE_MAX);
    ep_buf_put(&buf_, "abc", 3);
    ep_buf_move(&buf_, place.data(), place.size());
    EXPECT_EQ(buf_.data, place.data());
    ASSERT_NE(ep_buf_extend(&buf_, 5997), nullptr);
    EXPECT_EQ(buf_.data, place.data());
    memset(buf_.data + 3, 'x', 5997);

    ep_buf_put(&buf_, "d", 1);
    EXPECT_NE(buf_.data, place.data()) << "it was full";
    ep_buf_move(&buf_, larger.data(), larger.size());
    EXPECT_EQ(buf_.data, larger.data()) << "from the heap, which is freed";
    EXPECT_EQ(buf_.length, 6001u);
    EXPECT_EQ(std::string(buf_.data, buf_.data + 6001), "abc" + std::string(5997, 'x') + "d");
    ep_buf_finish(&buf_);
}

TEST_F(BufTest, KeepsItsLimitInOtherMemory)
{
    std::vector<uint8_t> place(6000);

    ep_buf_init(&buf_, lent_, sizeof(lent_), 100);
    ep_buf_move(&buf_, place.data(), place.size());
    EXPECT_EQ(ep_buf_extend(&buf_, 101), nullptr);
    EXPECT_EQ(buf_.error, -EMSGSIZE);
}

TEST_F(BufTest, IsEmptyAfterFinish)
{
    ep_buf_init(&buf_, lent_, sizeof(lent_), SIZE_MAX);
    ASSERT_NE(ep_buf_extend(&buf_, 5000), nullptr);
    ep_buf_finish(&buf_);
    EXPECT_EQ(buf_.data, nullptr);
    EXPECT_EQ(buf_.length, 0u);
    ep_buf_finish(&buf_);
}

TEST(CopyTest, CopiesEachLengthAndNothingBesideIt)
{
    for (size_t n = 0; n <= 100; n++) {
        /* Of their exact sizes, so that a sanitizer sees a step beyond. */
        std::vector<uint8_t> from(n), to(n), framed(n + 2, 0xEE);
        for (size_t i = 0; i < n; i++)
            from[i] = static_cast<uint8_t>(i + 1);
        ep_copy(to.data(), from.data(), n);
        EXPECT_EQ(to, from) << n;
        ep_copy(framed.data() + 1, from.data(), n);
        EXPECT_EQ(framed.front(), 0xEE) << n;
        EXPECT_EQ(framed.back(), 0xEE) << n;
        EXPECT_EQ(std::vector<uint8_t>(framed.begin() + 1, framed.end() - 1), from) << n;
    }
}

} // namespace
