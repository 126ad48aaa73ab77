// SPDX-License-Identifier: Apache-2.0
#include "ep_belt.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kRound = uint64_t{1} << 32;

class BeltTest : public testing::Test {
protected:
    BeltTest() : mem_(EP_BELT_SIZE / 8, ~uint64_t{0})
    {
        ep_belt_tx_attach(&tx_, reinterpret_cast<uint8_t *>(mem_.data()), &bell_);
        ep_belt_rx_attach(&rx_, reinterpret_cast<const uint8_t *>(mem_.data()));
    }

    void Put(const std::string &item)
    {
        uint8_t *at;
        ASSERT_GE(ep_belt_room(&tx_, &at), item.size());
        std::memcpy(at, item.data(), item.size());
        ep_belt_put(&tx_, item.size());
    }

    std::string Take()
    {
        std::vector<uint8_t> bytes(EP_BELT_BYTES);
        int n = ep_belt_take(&rx_, bytes.data());
        return n < 0 ? "error" : std::string(bytes.begin(), bytes.begin() + n);
    }

    int TakeError()
    {
        std::vector<uint8_t> bytes(EP_BELT_BYTES);
        return ep_belt_take(&rx_, bytes.data());
    }

    void Turn()
    {
        ep_belt_rx_turn(&rx_);
        ep_belt_tx_turn(&tx_);
    }

    std::vector<uint64_t> mem_;
    uint64_t bell_ = 0;
    ep_belt_tx tx_;
    ep_belt_rx rx_;
};

TEST_F(BeltTest, IsEmptyAtFirst)
{
    EXPECT_FALSE(ep_belt_has_items(&rx_));
    EXPECT_EQ(Take(), "");
}

TEST_F(BeltTest, GivesAllThatIsThereAtOnceAndInOrder)
{
    Put("one");
    Put("two");
    EXPECT_TRUE(ep_belt_has_items(&rx_));
    EXPECT_EQ(Take(), "onetwo");
    EXPECT_FALSE(ep_belt_has_items(&rx_));
    Put("three");
    EXPECT_EQ(Take(), "three");
}

TEST_F(BeltTest, BeginsAgainWithEachRound)
{
    for (int round = 0; round < 3; round++) {
        Put(std::string(EP_BELT_BYTES, 'x'));
        uint8_t *at;
        EXPECT_EQ(ep_belt_room(&tx_, &at), 0u);
        EXPECT_EQ(Take().size(), EP_BELT_BYTES);
        ep_belt_rx_turn(&rx_);
        EXPECT_EQ(Take(), ""); // of the round before
        ep_belt_tx_turn(&tx_);
        EXPECT_EQ(ep_belt_room(&tx_, &at), EP_BELT_BYTES);
    }
}

TEST_F(BeltTest, BearsRoundsWithoutItems)
{
    Put("a");
    EXPECT_EQ(Take(), "a");
    Turn();
    Turn();
    Turn();
    EXPECT_EQ(Take(), "");
    Put("b");
    EXPECT_EQ(Take(), "b");
}

TEST_F(BeltTest, TellsOnceForEachTimeThatTheReaderIsAboutToSleep)
{
    EXPECT_FALSE(ep_belt_must_tell(&tx_));
    bell_++;
    EXPECT_TRUE(ep_belt_must_tell(&tx_));
    EXPECT_FALSE(ep_belt_must_tell(&tx_));
    bell_++;
    bell_++;
    EXPECT_TRUE(ep_belt_must_tell(&tx_));
    EXPECT_FALSE(ep_belt_must_tell(&tx_));
}

TEST_F(BeltTest, RefusesATailThatIsImpossible)
{
    Put("abc");
    EXPECT_EQ(Take(), "abc");
    for (uint64_t tail : {kRound + 2, kRound + EP_BELT_BYTES + 1, 2 * kRound, 3 * kRound,
                          uint64_t{0}, ~uint64_t{0}, kRound + UINT32_MAX}) {
        mem_[0] = tail;
        EXPECT_EQ(TakeError(), -EPROTO) << tail;
        EXPECT_TRUE(ep_belt_has_items(&rx_)) << tail; // so that it is taken, and found out
    }
    mem_[0] = kRound + EP_BELT_BYTES;
    EXPECT_EQ(TakeError(), static_cast<int>(EP_BELT_BYTES - 3));
}

TEST_F(BeltTest, CarriesItemsFromThreadToThread)
{
    constexpr int kRounds = 2000;
    alignas(8) int turn = 0;

    std::thread writer([&] {
        for (int round = 0; round < kRounds; round++) {
            while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != round)
                std::this_thread::yield();
            if (round > 0)
                ep_belt_tx_turn(&tx_);
            for (unsigned i = 0; i < EP_BELT_ITEMS; i++) {
                uint8_t *at;
                ASSERT_GE(ep_belt_room(&tx_, &at), 4u);
                std::memset(at, static_cast<int>(i), 4);
                ep_belt_put(&tx_, 4);
            }
        }
    });
    std::vector<uint8_t> bytes(EP_BELT_BYTES);
    for (int round = 0; round < kRounds; round++) {
        unsigned seen = 0;
        while (seen < 4 * EP_BELT_ITEMS) {
            int n = ep_belt_take(&rx_, bytes.data());
            ASSERT_GE(n, 0);
            for (int i = 0; i < n; i++, seen++)
                ASSERT_EQ(bytes[static_cast<size_t>(i)], seen / 4);
        }
        ep_belt_rx_turn(&rx_);
        __atomic_store_n(&turn, round + 1, __ATOMIC_RELEASE);
    }
    writer.join();
}

} // namespace
