// SPDX-License-Identifier: Apache-2.0
#include "ep_lease.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace {

class LeaseTest : public testing::Test {
protected:
    alignas(64) uint64_t limit_ = 0;
    alignas(64) uint64_t claimed_ = 0;
};

TEST_F(LeaseTest, LetsTheWorkerReadWhatWasGranted)
{
    ep_lease_grant(&limit_, 0, 2);
    EXPECT_TRUE(ep_lease_claim(&limit_, &claimed_, 0));
    EXPECT_EQ(1u, ep_lease_count(&claimed_, 0, 2));
    EXPECT_TRUE(ep_lease_claim(&limit_, &claimed_, 1));
    EXPECT_EQ(2u, ep_lease_count(&claimed_, 0, 2));
    EXPECT_FALSE(ep_lease_claim(&limit_, &claimed_, 2));
}

TEST_F(LeaseTest, GivesBackWhatWasNotRead)
{
    ep_lease_grant(&limit_, 0, 3);
    EXPECT_TRUE(ep_lease_claim(&limit_, &claimed_, 0));
    EXPECT_EQ(1u, ep_lease_revoke(&limit_, &claimed_, 0, 3));
    EXPECT_FALSE(ep_lease_claim(&limit_, &claimed_, 1));
    /* The worker goes on from where it is, and the claim in vain counts for nothing. */
    ep_lease_grant(&limit_, 2, 3);
    EXPECT_EQ(0u, ep_lease_count(&claimed_, 2, 3));
    EXPECT_TRUE(ep_lease_claim(&limit_, &claimed_, 2));
    EXPECT_EQ(1u, ep_lease_revoke(&limit_, &claimed_, 2, 3));
}

TEST_F(LeaseTest, CountsNoMoreThanWasGrantedWhateverTheWorkerSays)
{
    ep_lease_grant(&limit_, 5, 3);
    for (uint64_t lie : {uint64_t{0}, uint64_t{4}, uint64_t{9}, ~uint64_t{0}}) {
        claimed_ = lie;
        EXPECT_LE(ep_lease_count(&claimed_, 5, 3), 3u);
        EXPECT_LE(ep_lease_revoke(&limit_, &claimed_, 5, 3), 3u);
    }
}

TEST_F(LeaseTest, HasItsWordsInTheFirstPages)
{
    std::vector<uint8_t> page(EP_PAGE);
    for (uint32_t i = 0; i < EP_LEASES_MAX; i++) {
        auto *a = reinterpret_cast<uint8_t *>(ep_lease_limit(page.data(), i));
        auto *b = reinterpret_cast<uint8_t *>(ep_lease_claimed(page.data(), i));
        EXPECT_GE(a, page.data() + EP_NAMES_EPOCH_OFFSET + 8);
        EXPECT_LE(a + 8, page.data() + EP_PAGE);
        EXPECT_LE(b + 8, page.data() + EP_PAGE);
    }
}

/* One thread reads, another takes back: each item of each round is read, or comes back. */
TEST_F(LeaseTest, NeverGivesAnItemToBoth)
{
    constexpr uint32_t kRounds = 20000, kItems = 4;
    std::atomic<uint64_t> round{0}, done{0};
    std::atomic<uint64_t> base{0};
    uint32_t n_read = 0;

    std::thread worker([&] {
        uint64_t position = 0;
        for (uint64_t i = 1; i <= kRounds; i++) {
            base.store(position, std::memory_order_relaxed);
            round.store(i, std::memory_order_release);
            while (done.load(std::memory_order_acquire) != 2 * i - 1)
                std::this_thread::yield();
            n_read = 0;
            while (n_read < kItems && ep_lease_claim(&limit_, &claimed_, position++))
                n_read++;
            done.store(2 * i, std::memory_order_release);
        }
    });
    for (uint64_t i = 1; i <= kRounds; i++) {
        while (round.load(std::memory_order_acquire) != i)
            std::this_thread::yield();
        uint64_t position = base.load(std::memory_order_relaxed);
        ep_lease_grant(&limit_, position, kItems);
        done.store(2 * i - 1, std::memory_order_release);
        for (uint64_t pause = 0; pause < i % 64; pause++)
            (void)ep_lease_count(&claimed_, position, kItems);
        uint32_t counted = ep_lease_revoke(&limit_, &claimed_, position, kItems);
        while (done.load(std::memory_order_acquire) != 2 * i)
            std::this_thread::yield();
        ASSERT_EQ(counted, n_read) << "round " << i;
    }
    worker.join();
}

} // namespace
