// SPDX-License-Identifier: Apache-2.0
#include "ep_ring.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <random>
#include <thread>

namespace {

constexpr uint32_t kCapacity = 4;

// Offsets of the shared layout, spelled out a second time on purpose: a change
// of layout must break a test.
constexpr size_t kSeqOffset = 0;
constexpr size_t kCallIdOffset = 8;
constexpr size_t kSubjectOffset = 16;
constexpr size_t kLengthOffset = 24;
constexpr size_t kKindOffset = 28;
constexpr size_t kFlagsOffset = 29;
constexpr size_t kAuxOffset = 30;
constexpr size_t kCancelledOffset = 31;
constexpr size_t kDataOffset = 32;
constexpr size_t kBlockOffset = 224;
constexpr size_t kStampOffset = 232;
constexpr size_t kCellSize = 256;

void Fill(ep_cell *cell, uint64_t id)
{
    ep_cell_begin(cell, EP_KIND_CALL, 0, static_cast<uint8_t>(id + 1), id, id + 2);
    ep_cell_set_stamp(cell, id + 3);
    cell->length = EP_INLINE_MAX;
    for (size_t i = 0; i < EP_INLINE_MAX; i++)
        cell->data[i] = static_cast<uint8_t>(id + i);
}

bool IsWhole(const ep_msg &msg, uint64_t id)
{
    ep_cell want = {};
    Fill(&want, id);
    return msg.aux == want.aux && msg.call_id == want.call_id && msg.subject == want.subject
           && msg.stamp == want.stamp && msg.length == want.length && msg.kind == want.kind
           && msg.flags == want.flags && std::memcmp(msg.data, want.data, sizeof(want.data)) == 0;
}

// A ring with both roles attached, and the shared bytes at hand to play a peer
// that crashes or lies.
class RingTest : public testing::Test {
protected:
    RingTest()
    {
        Attach();
    }

    void Attach()
    {
        ep_ring_tx_attach(&tx_, cells_, &head_, kCapacity);
        ep_ring_rx_attach(&rx_, cells_, &head_, kCapacity);
    }

    int Push(uint64_t id)
    {
        ep_cell *cell;
        int rc = ep_ring_reserve(&tx_, &cell);
        if (rc < 0)
            return rc;
        Fill(cell, id);
        ep_ring_commit(&tx_);
        return 0;
    }

    int Pop()
    {
        int rc = ep_ring_copy(&rx_, &msg_);
        if (rc < 0)
            return rc;
        ep_ring_advance(&rx_);
        ep_ring_publish_head(&rx_);
        return 0;
    }

    template <typename T> void Poke(uint32_t cell, size_t offset, T value)
    {
        std::memcpy(reinterpret_cast<uint8_t *>(cells_) + cell * kCellSize + offset, &value,
                    sizeof(value));
    }

    alignas(64) ep_cell cells_[kCapacity] = {};
    alignas(64) uint64_t head_ = 0;
    ep_ring_tx tx_;
    ep_ring_rx rx_;
    ep_msg msg_ = {};
};

TEST_F(RingTest, HasTheLayoutThatTheWireSays)
{
    EXPECT_EQ(sizeof(ep_cell), kCellSize);
    EXPECT_EQ(EP_INLINE_MAX, kBlockOffset - kDataOffset);
    EXPECT_EQ(offsetof(ep_cell, seq), kSeqOffset);
    EXPECT_EQ(offsetof(ep_cell, cancelled), kCancelledOffset);
    EXPECT_EQ(offsetof(ep_cell, aux), kAuxOffset);
    EXPECT_EQ(offsetof(ep_cell, call_id), kCallIdOffset);
    EXPECT_EQ(offsetof(ep_cell, subject), kSubjectOffset);
    EXPECT_EQ(offsetof(ep_cell, length), kLengthOffset);
    EXPECT_EQ(offsetof(ep_cell, kind), kKindOffset);
    EXPECT_EQ(offsetof(ep_cell, flags), kFlagsOffset);
    EXPECT_EQ(offsetof(ep_cell, data), kDataOffset);
    EXPECT_EQ(offsetof(ep_cell, block), kBlockOffset);
    EXPECT_EQ(offsetof(ep_cell, stamp), kStampOffset);
}

TEST_F(RingTest, DeliversWholeMessagesInOrder)
{
    ASSERT_EQ(Push(1), 0);
    ASSERT_EQ(Push(2), 0);

    ASSERT_EQ(Pop(), 0);
    EXPECT_TRUE(IsWhole(msg_, 1));
    ASSERT_EQ(Pop(), 0);
    EXPECT_TRUE(IsWhole(msg_, 2));
    EXPECT_EQ(Pop(), -EAGAIN);
}

TEST_F(RingTest, RefusesAMessageWhenFullAndKeepsTheOthers)
{
    for (uint64_t id = 0; id < kCapacity; id++)
        ASSERT_EQ(Push(id), 0);

    EXPECT_EQ(Push(99), -EAGAIN);

    for (uint64_t id = 0; id < kCapacity; id++) {
        ASSERT_EQ(Pop(), 0);
        EXPECT_TRUE(IsWhole(msg_, id));
    }
    EXPECT_EQ(Push(99), 0);
}

TEST_F(RingTest, KeepsASlotForTheConsumerUntilItsHeadIsPublished)
{
    for (uint64_t id = 0; id < kCapacity; id++)
        ASSERT_EQ(Push(id), 0);
    ep_ring_advance(&rx_);
    EXPECT_EQ(Push(99), -EAGAIN) << "taken privately only";

    ep_ring_publish_head(&rx_);
    EXPECT_EQ(Push(99), 0);
}

TEST_F(RingTest, KeepsOrderForManyLaps)
{
    std::mt19937 random(1);
    uint64_t pushed = 0, popped = 0;

    while (popped < 20 * kCapacity) {
        if (random() % 2 == 0) {
            pushed += Push(pushed) == 0;
        } else if (Pop() == 0) {
            EXPECT_TRUE(IsWhole(msg_, popped));
            popped++;
        }
        ASSERT_LE(pushed - popped, kCapacity);
    }
}

TEST_F(RingTest, WorksBeyondPositionsOf32Bits)
{
    const uint64_t start = (1ull << 32) - 2;
    for (uint64_t position = start - kCapacity; position < start; position++)
        Poke<uint64_t>(position % kCapacity, kSeqOffset, position + 1);
    tx_.tail = tx_.head_seen = rx_.head = head_ = start;

    for (uint64_t id = 0; id < 2 * kCapacity; id++) {
        ASSERT_EQ(Pop(), -EAGAIN);
        ASSERT_EQ(Push(id), 0);
        ASSERT_EQ(Pop(), 0);
        EXPECT_TRUE(IsWhole(msg_, id));
    }
    EXPECT_EQ(ep_ring_taken(&tx_), start + 2 * kCapacity);
}

TEST_F(RingTest, WorksWithOneSlot)
{
    ep_ring_tx_attach(&tx_, cells_, &head_, 1);
    ep_ring_rx_attach(&rx_, cells_, &head_, 1);
    for (uint64_t id = 0; id < 5; id++) {
        ASSERT_EQ(Push(id), 0);
        ASSERT_EQ(Push(id), -EAGAIN);
        ASSERT_EQ(Pop(), 0);
        ASSERT_TRUE(IsWhole(msg_, id));
        ASSERT_EQ(Pop(), -EAGAIN);
    }
}

TEST_F(RingTest, CommitReturnsThePositionOfTheMessage)
{
    ep_cell *cell;
    for (uint64_t position = 0; position < 3; position++) {
        ASSERT_EQ(ep_ring_reserve(&tx_, &cell), 0);
        EXPECT_EQ(ep_ring_commit(&tx_), position);
    }
}

TEST_F(RingTest, HidesASlotWhoseProducerDiedBeforePublishingIt)
{
    ep_cell *cell;
    for (uint64_t lap = 0; lap < 2; lap++) {
        ASSERT_EQ(ep_ring_reserve(&tx_, &cell), 0);
        Fill(cell, 7);
        EXPECT_EQ(Pop(), -EAGAIN) << "lap " << lap;
        for (uint64_t id = 0; id < kCapacity; id++) { // a new lap over the same cells
            ASSERT_EQ(Push(id), 0);
            ASSERT_EQ(Pop(), 0);
        }
    }
}

TEST_F(RingTest, DeliversAllThatAProducerPublishedBeforeItDied)
{
    ASSERT_EQ(Push(1), 0);
    ASSERT_EQ(Push(2), 0);
    ep_cell *cell;
    ASSERT_EQ(ep_ring_reserve(&tx_, &cell), 0);
    Fill(cell, 3);
    tx_ = {}; // dies here

    ASSERT_EQ(Pop(), 0);
    ASSERT_EQ(Pop(), 0);
    EXPECT_TRUE(IsWhole(msg_, 2));
    EXPECT_EQ(Pop(), -EAGAIN);
}

TEST_F(RingTest, TellsWhatADeadConsumerHadStarted)
{
    ASSERT_EQ(Push(1), 0);
    ASSERT_EQ(Push(2), 0);
    EXPECT_EQ(ep_ring_taken(&tx_), 0u);
    ASSERT_EQ(Pop(), 0);
    EXPECT_EQ(ep_ring_taken(&tx_), 1u);
}

TEST_F(RingTest, ReportsAnImpossibleSequenceNumber)
{
    for (uint64_t seq : {2ull, 5ull, 0x8000000000000001ull, ~0ull}) {
        Poke<uint64_t>(0, kSeqOffset, seq);
        EXPECT_EQ(Pop(), -EPROTO) << "first lap, seq " << seq;
    }

    Poke<uint64_t>(0, kSeqOffset, 0);
    for (uint64_t id = 0; id < kCapacity; id++) {
        ASSERT_EQ(Push(id), 0);
        ASSERT_EQ(Pop(), 0);
    }
    for (uint64_t seq : {0ull, 2ull, 4ull, 6ull, 9ull, ~0ull}) {
        Poke<uint64_t>(0, kSeqOffset, seq);
        EXPECT_EQ(Pop(), -EPROTO) << "second lap, seq " << seq;
    }
}

TEST_F(RingTest, ReportsALengthBeyondTheSlotUnlessTheMessageLiesInABlock)
{
    ASSERT_EQ(Push(1), 0);
    for (uint32_t length : {EP_INLINE_MAX + 1, 0x80000000u, UINT32_MAX}) {
        Poke<uint32_t>(0, kLengthOffset, length);
        EXPECT_EQ(Pop(), -EPROTO) << length;
    }
    Poke<uint8_t>(0, kFlagsOffset, EP_FLAG_BLOCK);
    EXPECT_EQ(Pop(), 0);
    EXPECT_EQ(msg_.length, UINT32_MAX);
}

TEST_F(RingTest, ReportsUnknownFlags)
{
    ASSERT_EQ(Push(1), 0);
    for (int bit = 4; bit < 7; bit++) {
        Poke<uint8_t>(0, kFlagsOffset, static_cast<uint8_t>(1u << bit));
        EXPECT_EQ(Pop(), -EPROTO) << "bit " << bit;
    }
}

TEST_F(RingTest, ReportsAHeadOutsideTheRing)
{
    for (uint64_t id = 0; id < kCapacity; id++)
        ASSERT_EQ(Push(id), 0);
    for (uint64_t head : {kCapacity + 1ull, 1000ull, ~0ull}) {
        head_ = head;
        EXPECT_EQ(Push(9), -EPROTO) << "head " << head;
        EXPECT_EQ(ep_ring_taken(&tx_), 0u) << "head " << head;
        EXPECT_FALSE(ep_ring_cancel(&tx_, head, 9));
    }
    head_ = 2;
    ASSERT_EQ(Push(4), 0);
    ASSERT_EQ(Push(5), 0);
    head_ = 1; // takes back what it said
    EXPECT_EQ(Push(6), -EPROTO);
    EXPECT_EQ(ep_ring_taken(&tx_), 2u) << "the last believable head";
}

TEST_F(RingTest, SurvivesRandomBytes)
{
    std::mt19937_64 random(7);
    int good = 0;

    for (int i = 0; i < 20000; i++) {
        for (size_t at = 0; at < sizeof(ep_cell); at += 8)
            Poke<uint64_t>(0, at, random());
        if (i % 2 == 0) {
            Poke<uint64_t>(0, kSeqOffset, 1);
            Poke<uint8_t>(0, kFlagsOffset, static_cast<uint8_t>(random() % 16));
            Poke<uint32_t>(0, kLengthOffset, static_cast<uint32_t>(random() % 256));
        }
        if (ep_ring_copy(&rx_, &msg_) == 0) {
            good++;
            EXPECT_EQ(msg_.flags & ~EP_FLAG_ALL, 0u);
            EXPECT_TRUE(msg_.length <= EP_INLINE_MAX || (msg_.flags & EP_FLAG_BLOCK) != 0);
        }
    }
    EXPECT_GT(good, 1000) << "the generator reaches both answers";
}

TEST_F(RingTest, MarksAWaitingMessageAsCancelled)
{
    ASSERT_EQ(Push(1), 0);
    ASSERT_EQ(Push(2), 0);
    EXPECT_TRUE(ep_ring_cancel(&tx_, 1, 2));

    const ep_cell *cell;
    ASSERT_EQ(ep_ring_peek(&rx_, &cell), 0);
    EXPECT_FALSE(ep_cell_is_cancelled(cell));
    ep_ring_advance(&rx_);
    ASSERT_EQ(ep_ring_peek(&rx_, &cell), 0);
    EXPECT_TRUE(ep_cell_is_cancelled(cell));
}

TEST_F(RingTest, CancelsNothingButTheMessageThatWasMeant)
{
    ASSERT_EQ(Push(1), 0);
    EXPECT_FALSE(ep_ring_cancel(&tx_, 0, 7)) << "another call";
    EXPECT_FALSE(ep_ring_cancel(&tx_, 1, 0)) << "not sent yet";
    EXPECT_FALSE(ep_ring_cancel(&tx_, ~0ull, 0)) << "never sent";

    ASSERT_EQ(Pop(), 0);
    EXPECT_FALSE(ep_ring_cancel(&tx_, 0, 1)) << "the consumer has it already";
    for (uint64_t id = 2; id < 2 + kCapacity; id++)
        ASSERT_EQ(Push(id), 0);
    EXPECT_FALSE(ep_ring_cancel(&tx_, 0, 1)) << "its cell is somebody else's";
}

TEST_F(RingTest, ForgetsACancellationWhenTheSlotIsUsedAgain)
{
    ASSERT_EQ(Push(0), 0);
    ASSERT_TRUE(ep_ring_cancel(&tx_, 0, 0));
    ASSERT_EQ(Pop(), 0);
    for (uint64_t id = 1; id <= kCapacity; id++)
        ASSERT_EQ(Push(id), 0);
    EXPECT_FALSE(ep_cell_is_cancelled(&cells_[0]));
}

TEST_F(RingTest, LendsTheSlotItselfToAConsumerThatTrusts)
{
    ASSERT_EQ(Push(1), 0);
    const ep_cell *cell = nullptr;
    ASSERT_EQ(ep_ring_peek(&rx_, &cell), 0);
    EXPECT_EQ(cell, &cells_[0]);
    ASSERT_EQ(ep_ring_peek(&rx_, &cell), 0) << "looking does not take it";
}

// Under ThreadSanitizer this checks the edges P1-P2 and C1-C2.
TEST_F(RingTest, DeliversEveryMessageOnceAcrossThreads)
{
    constexpr uint64_t kMessages = 50000;

    std::thread producer([this] {
        for (uint64_t id = 0; id < kMessages; id++) {
            while (Push(id) == -EAGAIN)
                std::this_thread::yield();
        }
    });

    uint64_t wrong = 0;
    for (uint64_t id = 0; id < kMessages; id++) {
        int rc;
        while ((rc = Pop()) == -EAGAIN)
            std::this_thread::yield();
        wrong += rc != 0 || !IsWhole(msg_, id);
    }
    producer.join();

    EXPECT_EQ(wrong, 0u);
}

} // namespace
