// SPDX-License-Identifier: Apache-2.0
extern "C" {
#include "ep_py_ahead.h"
}
#include "ep_etf.h"
#include "ep_lease.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

namespace {

/* A channel with numbers in it, as the VM has it: one lease at a time, recalled by whoever comes. */
class Channel {
public:
    Channel(const void *mem_a, void *mem_b, uint64_t n) : mem_a_(mem_a), mem_b_(mem_b), n_(n)
    {
    }

    /* Encodes an answer with up to most items. False: there is none left. */
    bool lend(uint32_t number, uint64_t position, uint32_t most, ep_buf *answer)
    {
        std::lock_guard<std::mutex> lock(mutex_);
        end();
        uint64_t n = std::min<uint64_t>(most, n_ - taken_);
        if (n == 0)
            return false;
        ep_etf_put_int(answer, number);
        for (uint64_t i = 1; i <= n; i++)
            ep_etf_put_uint(answer, taken_ + i);
        number_ = number;
        position_ = position;
        lent_ = static_cast<uint32_t>(n);
        ep_lease_grant(ep_lease_limit(mem_a_, number), position, lent_);
        return true;
    }

    /* 0: there is none left. */
    uint64_t take()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        end();
        return taken_ < n_ ? ++taken_ : 0;
    }

private:
    void end()
    {
        if (lent_ > 0)
            taken_ += ep_lease_revoke(ep_lease_limit(mem_a_, number_),
                                      ep_lease_claimed(mem_b_, number_), position_, lent_);
        lent_ = 0;
    }

    const void *mem_a_;
    void *mem_b_;
    std::mutex mutex_;
    uint64_t n_, taken_ = 0, position_ = 0;
    uint32_t number_ = 0, lent_ = 0;
};

class AheadTest : public testing::Test {
protected:
    void SetUp() override
    {
        ep_py_ahead_init(a_.data(), b_.data());
    }

    static uint64_t number_in(const ep_buf *buf)
    {
        ep_etf_cursor cursor;
        ep_etf_token token;
        ep_etf_cursor_init(&cursor, buf->data, buf->length);
        return ep_etf_next(&cursor, &token) == 0 ? static_cast<uint64_t>(token.integer) : 0;
    }

    /* What one thread of a worker reads, until nothing is left. */
    static std::vector<uint64_t> read(Channel *channel, uint64_t id, uint32_t most)
    {
        std::vector<uint64_t> items;
        for (;;) {
            ep_buf item, answer;
            uint32_t number = 0;
            uint64_t position = 0, value = 0;
            bool is_over = false;
            ep_buf_init(&item, nullptr, 0, EP_MESSAGE_MAX);
            ep_buf_init(&answer, nullptr, 0, EP_MESSAGE_MAX);
            switch (ep_py_ahead_next(id, &item, &number, &position)) {
            case EP_AHEAD_ITEM: value = number_in(&item); break;
            case EP_AHEAD_ASK:
                is_over = !channel->lend(number, position, most, &answer);
                if (!is_over) {
                    EXPECT_TRUE(ep_py_ahead_receive(answer.data, answer.length, &item));
                    value = item.length > 0 ? number_in(&item) : 0; /* recalled on its way */
                }
                ep_py_ahead_end(number);
                break;
            case EP_AHEAD_NONE: is_over = (value = channel->take()) == 0; break;
            }
            ep_buf_finish(&item);
            ep_buf_finish(&answer);
            if (is_over)
                return items;
            if (value != 0)
                items.push_back(value);
        }
    }

    std::vector<uint8_t> a_ = std::vector<uint8_t>(EP_PAGE), b_ = std::vector<uint8_t>(EP_PAGE);
};

std::vector<uint64_t> one_to(uint64_t n)
{
    std::vector<uint64_t> all(n);
    for (uint64_t i = 0; i < n; i++)
        all[i] = i + 1;
    return all;
}

TEST_F(AheadTest, ReadsInOrder)
{
    Channel channel(a_.data(), b_.data(), 1000);
    EXPECT_EQ(one_to(1000), read(&channel, 1, 64));
}

/* Without a GIL, or with one each: a thread may come between any two steps of another one. */
TEST_F(AheadTest, GivesEachItemToOneOfManyThreads)
{
    constexpr uint64_t n = 200000;
    for (uint32_t most : {2u, 8u, EP_LEASE_ITEMS}) {
        Channel channel(a_.data(), b_.data(), n);
        std::vector<std::vector<uint64_t>> items(4);
        std::vector<std::thread> threads;
        for (auto &mine : items)
            threads.emplace_back([&] { mine = read(&channel, 100 + most, most); });
        for (std::thread &thread : threads)
            thread.join();
        std::vector<uint64_t> all;
        for (const auto &mine : items) {
            EXPECT_TRUE(std::is_sorted(mine.begin(), mine.end()));
            all.insert(all.end(), mine.begin(), mine.end());
        }
        std::sort(all.begin(), all.end());
        EXPECT_EQ(one_to(n), all);
    }
}

TEST_F(AheadTest, LetsOneThreadAskAtATime)
{
    ep_buf buf;
    uint32_t number, other;
    uint64_t position, other_position;
    ep_buf_init(&buf, nullptr, 0, EP_MESSAGE_MAX);
    ASSERT_EQ(EP_AHEAD_ASK, ep_py_ahead_next(1000, &buf, &number, &position));
    EXPECT_EQ(EP_AHEAD_NONE, ep_py_ahead_next(1000, &buf, &other, &other_position));
    ep_py_ahead_end(number);
    ASSERT_EQ(EP_AHEAD_ASK, ep_py_ahead_next(1000, &buf, &other, &other_position));
    EXPECT_EQ(number, other);
    EXPECT_EQ(position, other_position);
    ep_py_ahead_end(other);
    ep_buf_finish(&buf);
}

TEST_F(AheadTest, HasSoManyLeases)
{
    ep_buf buf;
    std::vector<uint32_t> numbers(EP_LEASES_MAX);
    uint32_t none;
    uint64_t position;
    ep_buf_init(&buf, nullptr, 0, EP_MESSAGE_MAX);
    for (uint32_t i = 0; i < EP_LEASES_MAX; i++)
        ASSERT_EQ(EP_AHEAD_ASK, ep_py_ahead_next(2000 + i, &buf, &numbers[i], &position));
    EXPECT_EQ(EP_AHEAD_NONE, ep_py_ahead_next(3000, &buf, &none, &position));
    for (uint32_t number : numbers)
        ep_py_ahead_end(number);
    EXPECT_EQ(EP_AHEAD_ASK, ep_py_ahead_next(3000, &buf, &none, &position));
    ep_py_ahead_end(none);
    ep_buf_finish(&buf);
}

} // namespace
