// SPDX-License-Identifier: Apache-2.0
#include "ep_slab.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <sys/resource.h>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kPages = 256;
constexpr uint64_t kSize = kPages * EP_PAGE;

uint64_t RoundUp(uint64_t size)
{
    uint64_t block = EP_PAGE;
    while (block < size)
        block *= 2;
    return block;
}

class SlabTest : public testing::Test {
protected:
    SlabTest()
    {
        ep_slab_init(&slab_, kSize);
    }

    ~SlabTest() override
    {
        ep_slab_finish(&slab_);
    }

    uint64_t Alloc(uint64_t size)
    {
        uint64_t offset = ~0ull;
        EXPECT_EQ(ep_slab_alloc(&slab_, size, &offset), 0) << size;
        return offset;
    }

    ep_slab slab_;
};

TEST_F(SlabTest, GivesOutTheWholeSlabAsOneBlock)
{
    EXPECT_EQ(Alloc(kSize), 0u);
    uint64_t offset = 42;
    EXPECT_EQ(ep_slab_alloc(&slab_, 1, &offset), -EAGAIN);
    EXPECT_EQ(offset, 42u) << "the result is left alone on failure";
    EXPECT_EQ(ep_slab_free(&slab_, 0), 0);
    EXPECT_EQ(Alloc(kSize), 0u);
}

TEST_F(SlabTest, RefusesMoreThanItsSize)
{
    uint64_t offset;
    EXPECT_EQ(ep_slab_alloc(&slab_, kSize + 1, &offset), -EMSGSIZE);
    EXPECT_EQ(ep_slab_alloc(&slab_, UINT64_MAX, &offset), -EMSGSIZE);
}

TEST_F(SlabTest, GivesOutEveryPageOnceAndThenNoMore)
{
    std::vector<bool> seen(kPages);
    for (uint64_t i = 0; i < kPages; i++) {
        uint64_t offset = Alloc(i % 3 == 0 ? 0 : EP_PAGE);
        ASSERT_EQ(offset % EP_PAGE, 0u);
        ASSERT_LT(offset, kSize);
        ASSERT_FALSE(seen[offset / EP_PAGE]);
        seen[offset / EP_PAGE] = true;
    }
    uint64_t offset;
    EXPECT_EQ(ep_slab_alloc(&slab_, 1, &offset), -EAGAIN);
}

TEST_F(SlabTest, RefusesMoreBlocksThanTheReclaimRingHolds)
{
    ep_slab_finish(&slab_);
    ep_slab_init(&slab_, 2ull * EP_RECLAIM_SLOTS * EP_PAGE);

    uint64_t offset;
    for (uint32_t i = 0; i < EP_RECLAIM_SLOTS; i++)
        ASSERT_EQ(ep_slab_alloc(&slab_, 1, &offset), 0);
    uint64_t refused;
    EXPECT_EQ(ep_slab_alloc(&slab_, 1, &refused), -EAGAIN);
    ASSERT_EQ(ep_slab_free(&slab_, offset), 0);
    EXPECT_EQ(ep_slab_alloc(&slab_, 1, &refused), 0);
}

TEST_F(SlabTest, RefusesToTakeBackWhatItDidNotGive)
{
    EXPECT_EQ(ep_slab_free(&slab_, 0), -EPROTO) << "nothing was ever given out";

    uint64_t block = Alloc(4 * EP_PAGE);
    EXPECT_EQ(ep_slab_free(&slab_, block + EP_PAGE), -EPROTO) << "inside a block";
    EXPECT_EQ(ep_slab_free(&slab_, block + 1), -EPROTO) << "not a page";
    EXPECT_EQ(ep_slab_free(&slab_, block + 4 * EP_PAGE), -EPROTO) << "free";
    EXPECT_EQ(ep_slab_free(&slab_, kSize), -EPROTO) << "outside";
    EXPECT_EQ(ep_slab_free(&slab_, ~0ull & ~(EP_PAGE - 1ull)), -EPROTO) << "far outside";
    EXPECT_EQ(ep_slab_free(&slab_, block), 0);
    EXPECT_EQ(ep_slab_free(&slab_, block), -EPROTO) << "twice";
}

TEST_F(SlabTest, ShrinksPieceByPieceWhenItIsEmpty)
{
    constexpr uint64_t kKeep = EP_SLAB_KEEP;
    ep_slab_finish(&slab_);
    ep_slab_init(&slab_, 16 * kKeep);
    uint64_t offset = 42;

    uint64_t small = Alloc(kKeep);
    EXPECT_EQ(small, 0u);
    EXPECT_FALSE(ep_slab_has_spike(&slab_)) << "as much as it keeps";
    uint64_t large = Alloc(2 * kKeep + 1); // a block of four
    EXPECT_TRUE(ep_slab_has_spike(&slab_));
    EXPECT_EQ(ep_slab_shrink(&slab_, UINT64_MAX, &offset), 0u) << "not empty";
    EXPECT_EQ(ep_slab_free(&slab_, large), 0);
    EXPECT_EQ(ep_slab_shrink(&slab_, UINT64_MAX, &offset), 0u) << "not empty";
    EXPECT_EQ(ep_slab_free(&slab_, small), 0);

    uint64_t end = large + 4 * kKeep;
    while (end > kKeep) {
        uint64_t size = ep_slab_shrink(&slab_, 3 * EP_PAGE, &offset);
        ASSERT_EQ(size, std::min<uint64_t>(3 * EP_PAGE, end - kKeep));
        end -= size;
        ASSERT_EQ(offset, end) << "from the end";
    }
    EXPECT_EQ(ep_slab_shrink(&slab_, UINT64_MAX, &offset), 0u);
    EXPECT_FALSE(ep_slab_has_spike(&slab_));
}

TEST_F(SlabTest, SaysWhereAsMuchWasFilledBefore)
{
    uint64_t first = Alloc(4 * EP_PAGE);
    EXPECT_FALSE(ep_slab_is_warm(&slab_, first));
    EXPECT_EQ(ep_slab_free(&slab_, first), 0);
    ASSERT_EQ(Alloc(4 * EP_PAGE), first);
    EXPECT_FALSE(ep_slab_is_warm(&slab_, first)) << "it was out, and not filled";
    ep_slab_wrote(&slab_, first);
    EXPECT_EQ(ep_slab_free(&slab_, first), 0);

    for (uint64_t pages = 1; pages <= 8; pages *= 2) {
        ASSERT_EQ(Alloc(pages * EP_PAGE), first);
        EXPECT_EQ(ep_slab_is_warm(&slab_, first), pages <= 4) << pages;
        EXPECT_EQ(ep_slab_free(&slab_, first), 0);
    }
}

// Nor does it say so of what begins before the memory that was given back, and reaches there.
TEST_F(SlabTest, ForgetsWhatWasFilledWhereItShrinks)
{
    constexpr uint64_t kKeep = EP_SLAB_KEEP;
    ep_slab_finish(&slab_);
    ep_slab_init(&slab_, 4 * kKeep);
    uint64_t offset;

    for (uint64_t size : {2 * kKeep, 4 * kKeep}) {
        ASSERT_EQ(Alloc(size), 0u);
        ep_slab_wrote(&slab_, 0);
        EXPECT_EQ(ep_slab_free(&slab_, 0), 0);
    }
    EXPECT_GT(ep_slab_shrink(&slab_, UINT64_MAX, &offset), 0u);
    for (uint64_t size : {4 * kKeep, 2 * kKeep, kKeep}) {
        ASSERT_EQ(Alloc(size), 0u);
        EXPECT_EQ(ep_slab_is_warm(&slab_, 0), size == kKeep) << size;
        EXPECT_EQ(ep_slab_free(&slab_, 0), 0);
    }
}

// Most pages of a large block have a record that was never touched, and stays so.
TEST_F(SlabTest, ShrinksWithoutTakingMemory)
{
#ifdef __SANITIZE_THREAD__
    GTEST_SKIP() << "it takes memory for what is read";
#endif
    constexpr uint64_t kLarge = 2ull << 30;
    ep_slab_finish(&slab_);
    ep_slab_init(&slab_, kLarge);
    uint64_t offset;

    ASSERT_EQ(Alloc(kLarge), 0u);
    EXPECT_EQ(ep_slab_free(&slab_, 0), 0);
    struct rusage before, after;
    ASSERT_EQ(getrusage(RUSAGE_SELF, &before), 0);
    while (ep_slab_shrink(&slab_, 2u << 20, &offset) > 0) {
    }
    ASSERT_EQ(getrusage(RUSAGE_SELF, &after), 0);
    EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 2048) << "KiB";
}

// What is out lies at the start of the slab, not spread over it.
TEST_F(SlabTest, GrowsFromItsStart)
{
    std::vector<uint64_t> out;

    for (uint64_t most = EP_PAGE; most <= kSize; most *= 2)
        while (out.size() * EP_PAGE < most) {
            out.push_back(Alloc(EP_PAGE));
            EXPECT_LT(out.back(), most);
        }
    for (uint64_t block : out)
        EXPECT_EQ(ep_slab_free(&slab_, block), 0);
    EXPECT_EQ(Alloc(kSize), 0u);
}

TEST_F(SlabTest, KeepsNothingAfterFinish)
{
    (void)Alloc(1);
    ep_slab_finish(&slab_);
    ep_slab_finish(&slab_); // the second one does nothing
    uint64_t offset;
    EXPECT_EQ(ep_slab_alloc(&slab_, 1, &offset), -EMSGSIZE);
}

// What the allocator promises, against a map of the blocks that are out.
TEST_F(SlabTest, NeverOverlapsAndAlwaysMergesBack)
{
    std::mt19937_64 random(20240601);
    std::map<uint64_t, uint64_t> out; // offset, size of the block

    for (int i = 0; i < 100000; i++) {
        if (random() % 100 < (i / 5000 % 2 == 0 ? 60u : 40u)) {
            uint64_t size = random() % (EP_PAGE << random() % 7) + 1, offset = 0;
            int rc = ep_slab_alloc(&slab_, size, &offset);
            if (rc == 0) {
                uint64_t block = RoundUp(size);
                ASSERT_EQ(offset % block, 0u);
                ASSERT_LE(offset + block, kSize);
                auto after = out.lower_bound(offset);
                ASSERT_TRUE(after == out.end() || after->first >= offset + block);
                ASSERT_TRUE(after == out.begin()
                            || std::prev(after)->first + std::prev(after)->second <= offset);
                out.emplace(offset, block);
            } else {
                ASSERT_EQ(rc, -EAGAIN);
                // Full means full: no aligned range of that size is free.
                uint64_t block = RoundUp(size);
                for (uint64_t at = 0; i % 64 == 0 && at < kSize; at += block) {
                    auto next = out.lower_bound(at);
                    bool taken = (next != out.end() && next->first < at + block)
                                 || (next != out.begin()
                                     && std::prev(next)->first + std::prev(next)->second > at);
                    ASSERT_TRUE(taken) << "offset " << at;
                }
            }
        } else if (!out.empty()) {
            auto it = out.lower_bound(random() % kSize);
            if (it == out.end())
                it = out.begin();
            ASSERT_EQ(ep_slab_free(&slab_, it->first), 0);
            ASSERT_EQ(ep_slab_free(&slab_, it->first), -EPROTO);
            out.erase(it);
        }
    }
    for (auto &[offset, size] : out)
        ASSERT_EQ(ep_slab_free(&slab_, offset), 0);
    EXPECT_EQ(Alloc(kSize), 0u) << "all free is one block again";
}

class ReclaimTest : public SlabTest {
protected:
    std::vector<uint64_t> entries_ = std::vector<uint64_t>(EP_RECLAIM_SLOTS);
    uint64_t tail_ = 0;
    ep_reclaim_tx tx_ = {entries_.data(), &tail_, 0};
    ep_reclaim_rx rx_ = {entries_.data(), &tail_, 0};
};

TEST_F(ReclaimTest, GivesBackWhatTheReceiverHandsBack)
{
    uint64_t one = Alloc(1), two = Alloc(kSize / 2);
    EXPECT_EQ(ep_reclaim_collect(&rx_, &slab_), 0);
    ep_reclaim_push(&tx_, two);
    ep_reclaim_push(&tx_, one);
    EXPECT_EQ(ep_reclaim_collect(&rx_, &slab_), 2);
    EXPECT_EQ(Alloc(kSize), 0u);
}

TEST_F(ReclaimTest, GoesRoundItsRing)
{
    for (uint32_t i = 0; i < 3 * EP_RECLAIM_SLOTS; i += 128) {
        std::vector<uint64_t> blocks;
        for (int k = 0; k < 128; k++)
            blocks.push_back(Alloc(1));
        for (uint64_t block : blocks)
            ep_reclaim_push(&tx_, block);
        ASSERT_EQ(ep_reclaim_collect(&rx_, &slab_), 128);
    }
}

TEST_F(ReclaimTest, ReportsABlockThatComesBackTwice)
{
    uint64_t one = Alloc(1);
    (void)Alloc(1); // so that two could be on their way
    ep_reclaim_push(&tx_, one);
    ep_reclaim_push(&tx_, one);
    EXPECT_EQ(ep_reclaim_collect(&rx_, &slab_), -EPROTO);
}

TEST_F(ReclaimTest, ReportsABlockThatWasNeverGivenOut)
{
    uint64_t block = Alloc(2 * EP_PAGE);
    for (uint64_t lie : {block + EP_PAGE, block + 2 * EP_PAGE, block + 1, kSize, UINT64_MAX}) {
        entries_[rx_.position % EP_RECLAIM_SLOTS] = lie;
        tail_ = rx_.position + 1;
        EXPECT_EQ(ep_reclaim_collect(&rx_, &slab_), -EPROTO) << lie;
    }
}

TEST_F(ReclaimTest, ReportsATailBeyondWhatIsOut)
{
    (void)Alloc(1);
    for (uint64_t tail : {2ull, EP_RECLAIM_SLOTS + 1ull, ~0ull}) {
        tail_ = tail;
        EXPECT_EQ(ep_reclaim_collect(&rx_, &slab_), -EPROTO) << tail;
    }
}

TEST_F(ReclaimTest, ReportsATailThatGoesBack)
{
    for (int i = 0; i < 3; i++)
        ep_reclaim_push(&tx_, Alloc(1));
    ASSERT_EQ(ep_reclaim_collect(&rx_, &slab_), 3);
    (void)Alloc(1);
    tail_ = 2;
    EXPECT_EQ(ep_reclaim_collect(&rx_, &slab_), -EPROTO);
}

TEST_F(ReclaimTest, SurvivesRandomEntriesWithoutGivingABlockTwice)
{
    std::mt19937_64 random(3);
    for (int round = 0; round < 2000; round++) {
        ep_slab_finish(&slab_);
        ep_slab_init(&slab_, kSize);
        uint32_t given = 1 + static_cast<uint32_t>(random() % 20);
        for (uint32_t i = 0; i < given; i++)
            (void)Alloc(EP_PAGE << random() % 3);
        rx_.position = tail_ = random();
        for (uint32_t i = 0; i < given; i++)
            entries_[tail_++ % EP_RECLAIM_SLOTS] = random() % 128 * EP_PAGE;
        int n = ep_reclaim_collect(&rx_, &slab_);
        ASSERT_TRUE(n == -EPROTO || n == static_cast<int>(given));
        std::vector<bool> seen(kPages);
        uint64_t offset;
        while (ep_slab_alloc(&slab_, 1, &offset) == 0) {
            ASSERT_FALSE(seen[offset / EP_PAGE]);
            seen[offset / EP_PAGE] = true;
        }
    }
}

TEST_F(ReclaimTest, SaysHowMuchABlockHolds)
{
    uint64_t offset;
    ASSERT_EQ(ep_slab_alloc(&slab_, EP_PAGE + 1, &offset), 0);
    EXPECT_EQ(ep_slab_block_size(&slab_, offset), 2 * EP_PAGE);
    EXPECT_EQ(ep_slab_free(&slab_, offset), 0);
}

// Under ThreadSanitizer this checks the edge R1-R2: a block is written by its
// owner and read by the receiver in turns, ordered by nothing but the ring.
TEST_F(ReclaimTest, OrdersTheReuseOfABlockAcrossThreads)
{
    constexpr int kRounds = 20000;
    std::vector<uint64_t> memory(kSize / sizeof(uint64_t));
    uint64_t given = ~0ull; // stands in for the ring of messages

    ep_slab_finish(&slab_);
    ep_slab_init(&slab_, EP_PAGE); // one block, so that every round uses it again
    uint64_t wrong = 0;
    std::thread receiver([&] {
        for (int i = 0; i < kRounds; i++) {
            uint64_t offset;
            while ((offset = __atomic_exchange_n(&given, ~0ull, __ATOMIC_ACQUIRE)) == ~0ull)
                std::this_thread::yield();
            wrong += memory[offset / sizeof(uint64_t)] != static_cast<uint64_t>(i);
            ep_reclaim_push(&tx_, offset);
        }
    });
    for (int i = 0; i < kRounds; i++) {
        uint64_t offset;
        while (ep_slab_alloc(&slab_, EP_PAGE, &offset) == -EAGAIN) {
            if (ep_reclaim_collect(&rx_, &slab_) == 0)
                std::this_thread::yield();
        }
        memory[offset / sizeof(uint64_t)] = static_cast<uint64_t>(i);
        __atomic_store_n(&given, offset, __ATOMIC_RELEASE);
    }
    receiver.join();
    EXPECT_EQ(wrong, 0u);
}

} // namespace
