// SPDX-License-Identifier: Apache-2.0
#include "ep_bell.h"

#include "ep_cpu.h"

#include <gtest/gtest.h>

#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace {

class BellTest : public testing::Test {
protected:
    BellTest()
    {
        ep_bell_rx_attach(&rx_, &word_);
        ep_bell_tx_attach(&tx_, &word_);
    }

    alignas(64) uint64_t word_ = 0;
    ep_bell_rx rx_;
    ep_bell_tx tx_;
};

TEST_F(BellTest, IsSilentUntilItIsArmed)
{
    EXPECT_FALSE(ep_bell_is_armed(&rx_));
    EXPECT_FALSE(ep_bell_must_ring(&tx_));
    EXPECT_EQ(word_, 0u);
}

TEST_F(BellTest, IsOddExactlyWhileItIsArmed)
{
    for (int i = 0; i < 3; i++) {
        ep_bell_arm(&rx_);
        EXPECT_TRUE(ep_bell_is_armed(&rx_));
        EXPECT_EQ(word_ % 2, 1u);
        ep_bell_disarm(&rx_);
        EXPECT_FALSE(ep_bell_is_armed(&rx_));
        EXPECT_EQ(word_ % 2, 0u);
    }
}

TEST_F(BellTest, IsAnsweredOncePerArming)
{
    for (int i = 0; i < 3; i++) {
        ep_bell_arm(&rx_);
        EXPECT_TRUE(ep_bell_must_ring(&tx_));
        EXPECT_FALSE(ep_bell_must_ring(&tx_));
        ep_bell_disarm(&rx_);
        EXPECT_FALSE(ep_bell_must_ring(&tx_));
    }
}

TEST_F(BellTest, StaysAnsweredWhenItIsArmedWhileArmed)
{
    ep_bell_arm(&rx_);
    ASSERT_TRUE(ep_bell_must_ring(&tx_));
    ep_bell_arm(&rx_);
    EXPECT_FALSE(ep_bell_must_ring(&tx_)) << "the ring is on its way already";
}

TEST_F(BellTest, IsAnsweredAgainWhenItIsRearmed)
{
    ep_bell_rearm(&rx_);
    ASSERT_TRUE(ep_bell_must_ring(&tx_));
    ep_bell_rearm(&rx_);
    EXPECT_TRUE(ep_bell_is_armed(&rx_));
    EXPECT_TRUE(ep_bell_must_ring(&tx_));
    EXPECT_FALSE(ep_bell_must_ring(&tx_));
}

TEST_F(BellTest, DoesNothingWhenItIsDisarmedWhileNotArmed)
{
    ep_bell_disarm(&rx_);
    EXPECT_EQ(word_, 0u);
}

TEST_F(BellTest, WakesNobodyForAnArmingThatWasTakenBack)
{
    ep_bell_arm(&rx_);
    ep_bell_disarm(&rx_);
    EXPECT_FALSE(ep_bell_must_ring(&tx_));
}

TEST_F(BellTest, AnswersAnyWordOfALyingPeerWithAtMostOneRing)
{
    std::mt19937_64 random(5);
    for (int i = 0; i < 10000; i++) {
        uint64_t word = random();
        word_ = word;
        EXPECT_EQ(ep_bell_must_ring(&tx_), word % 2 == 1);
        EXPECT_FALSE(ep_bell_must_ring(&tx_));
        EXPECT_EQ(word_, word) << "only the sleeper writes the word";
    }
}

TEST_F(BellTest, DoesNotReadBackWhatAPeerWroteOverItsWord)
{
    ep_bell_arm(&rx_);
    word_ = ~0ull;
    EXPECT_TRUE(ep_bell_is_armed(&rx_));
    ep_bell_disarm(&rx_);
    EXPECT_EQ(word_, 2u);
}

// One memory, mapped writable for the side that wakes and read-only for the
// side that sleeps.
class FutexTest : public testing::Test {
protected:
    FutexTest()
    {
        int fd = memfd_create("futex", MFD_CLOEXEC);
        EXPECT_EQ(ftruncate(fd, 4096), 0);
        void *ours = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        void *theirs = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
        EXPECT_NE(ours, MAP_FAILED);
        EXPECT_NE(theirs, MAP_FAILED);
        close(fd);
        wake_ = static_cast<uint32_t *>(ours);
        sleep_ = static_cast<const uint32_t *>(theirs);
    }

    ~FutexTest() override
    {
        munmap(wake_, 4096);
        munmap(const_cast<uint32_t *>(sleep_), 4096);
    }

    uint32_t *wake_;
    const uint32_t *sleep_;
};

TEST_F(FutexTest, DoesNotSleepOnAWordThatChanged)
{
    uint32_t value = ep_futex_value(sleep_);
    ep_futex_wake(wake_);
    EXPECT_NE(ep_futex_value(sleep_), value);
    ep_futex_wait(sleep_, value, -1); // would hang
}

TEST_F(FutexTest, SleepsNoLongerThanItWasTold)
{
    uint64_t start = ep_clock_ns();
    ep_futex_wait(sleep_, ep_futex_value(sleep_), 0);
    while (ep_clock_ns() - start < 20000000) // spurious returns happen
        ep_futex_wait(sleep_, ep_futex_value(sleep_), 20000000);
    SUCCEED();
}

TEST_F(FutexTest, WakesASleeperOnAMappingThatIsReadOnly)
{
    constexpr uint32_t kRounds = 5000;
    uint32_t heard = 0;
    std::thread sleeper([&] {
        for (uint32_t round = 0; round < kRounds; round++) {
            while (ep_futex_value(sleep_) == round)
                ep_futex_wait(sleep_, round, -1);
            __atomic_store_n(&heard, round + 1, __ATOMIC_RELEASE);
        }
    });
    for (uint32_t round = 0; round < kRounds; round++) {
        while (__atomic_load_n(&heard, __ATOMIC_ACQUIRE) != round)
            std::this_thread::yield();
        ep_futex_wake(wake_);
    }
    sleeper.join();
    EXPECT_EQ(ep_futex_value(wake_), kRounds);
}

} // namespace
