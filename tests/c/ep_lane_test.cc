// SPDX-License-Identifier: Apache-2.0
#include "ep_lane.h"

#include "ep_test_lane.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <random>

namespace {

// The layout of docs/wire.md, spelled out a second time on purpose: a change
// must break a test and bump the version.
constexpr uint64_t kPage = 4096;
constexpr uint64_t kCell = 256;
constexpr uint64_t kSlab = 4ull << 30;
constexpr uint64_t kCallCells = 256, kUrgentCells = 128, kResponseCells = 256, kReclaim = 1024;
constexpr uint64_t kWordsA = 320, kWordsB = 320;
constexpr uint64_t kLaneA = kWordsA + (kCallCells + kUrgentCells) * kCell + kReclaim * 8;
constexpr uint64_t kLaneB = kWordsB + kResponseCells * kCell + kReclaim * 8;

uint64_t PageUp(uint64_t n)
{
    return (n + kPage - 1) / kPage * kPage;
}

TEST(LayoutTest, HasTheHeaderThatTheWireSays)
{
    EXPECT_EQ(EP_LAYOUT_VERSION, 14u);
    EXPECT_EQ(EP_LEASES_OFFSET_A, 1024u);
    EXPECT_EQ(EP_LEASES_OFFSET_B, 1024u);
    EXPECT_EQ(EP_LEASES_MAX, 16u);
    EXPECT_EQ(std::memcmp(&(const uint64_t &)EP_LAYOUT_MAGIC, "epyper01", 8), 0);
    EXPECT_EQ(sizeof(ep_layout_header), 64u);
    EXPECT_EQ(offsetof(ep_layout_header, magic), 0u);
    EXPECT_EQ(offsetof(ep_layout_header, version), 8u);
    EXPECT_EQ(offsetof(ep_layout_header, lanes), 12u);
    EXPECT_EQ(offsetof(ep_layout_header, call_cells), 16u);
    EXPECT_EQ(offsetof(ep_layout_header, urgent_cells), 20u);
    EXPECT_EQ(offsetof(ep_layout_header, response_cells), 24u);
    EXPECT_EQ(offsetof(ep_layout_header, reclaim_slots), 28u);
    EXPECT_EQ(offsetof(ep_layout_header, slab_size), 32u);
    EXPECT_EQ(offsetof(ep_layout_header, size_a), 40u);
    EXPECT_EQ(offsetof(ep_layout_header, size_b), 48u);
    EXPECT_EQ(offsetof(ep_layout_header, spin_min_ns), 56u);
    EXPECT_EQ(offsetof(ep_layout_header, spin_max_ns), 60u);
}

// All but running, which changes with call_head and is read only when a call lasts.
TEST(LayoutTest, GivesEveryWordACacheLineOfItsOwn)
{
    EXPECT_EQ(sizeof(ep_lane_a), kWordsA);
    EXPECT_EQ(offsetof(ep_lane_a, response_head), 0u);
    EXPECT_EQ(offsetof(ep_lane_a, response_bell), 64u);
    EXPECT_EQ(offsetof(ep_lane_a, futex), 128u);
    EXPECT_EQ(offsetof(ep_lane_a, kicked_ns), 136u);
    EXPECT_EQ(offsetof(ep_lane_a, reclaim_b_tail), 192u);
    EXPECT_EQ(offsetof(ep_lane_a, belt_bell), 256u);

    EXPECT_EQ(sizeof(ep_lane_b), kWordsB);
    EXPECT_EQ(offsetof(ep_lane_b, call_head), 0u);
    EXPECT_EQ(offsetof(ep_lane_b, running), 8u);
    EXPECT_EQ(offsetof(ep_lane_b, urgent_head), 64u);
    EXPECT_EQ(offsetof(ep_lane_b, park_bell), 128u);
    EXPECT_EQ(offsetof(ep_lane_b, cpu), 136u);
    EXPECT_EQ(offsetof(ep_lane_b, wake_ns), 140u);
    EXPECT_EQ(offsetof(ep_lane_b, space_bell), 192u);
    EXPECT_EQ(offsetof(ep_lane_b, reclaim_c_tail), 256u);
}

TEST(LayoutTest, NumbersItsMessagesAsTheWireSays)
{
    EXPECT_EQ(EP_KIND_START, 1);
    EXPECT_EQ(EP_KIND_CALL, 2);
    EXPECT_EQ(EP_KIND_EVAL, 3);
    EXPECT_EQ(EP_KIND_EXEC, 4);
    EXPECT_EQ(EP_KIND_STOP, 5);
    EXPECT_EQ(EP_KIND_ENV_DROP, 16);
    EXPECT_EQ(EP_KIND_CANCEL, 17);
    EXPECT_EQ(EP_KIND_ANSWER, 18);
    EXPECT_EQ(EP_KIND_FINISH, 19);
    EXPECT_EQ(EP_KIND_LANE_OPEN, 24);
    EXPECT_EQ(EP_KIND_INTERRUPT, 25);
    EXPECT_EQ(EP_KIND_SHUTDOWN, 26);
    EXPECT_EQ(EP_KIND_MAINTAIN, 27);
    EXPECT_EQ(EP_KIND_RESULT, 32);
    EXPECT_EQ(EP_KIND_ERROR, 33);
    EXPECT_EQ(EP_KIND_DROPPED, 34);
    EXPECT_EQ(EP_KIND_STARTED, 35);
    EXPECT_EQ(EP_KIND_STOPPED, 36);
    EXPECT_EQ(EP_KIND_HELLO, 37);
    EXPECT_EQ(EP_KIND_CALLBACK, 38);
    EXPECT_EQ(EP_KIND_MAINTAINED, 39);
    EXPECT_EQ(EP_KIND_SEND, 40);
    EXPECT_EQ(EP_KIND_ITEMS, 41);
    EXPECT_EQ(EP_FORM_VALUE, 0);
    EXPECT_EQ(EP_FORM_STREAM, 1);
    EXPECT_EQ(EP_ERROR_EXCEPTION, 0);
    EXPECT_EQ(EP_ERROR_STOP_ITERATION, 1);
    EXPECT_EQ(EP_ERROR_INTERRUPTED, 2);
    EXPECT_EQ(EP_ANSWER_VALUE, 0);
    EXPECT_EQ(EP_ANSWER_FAILED, 1);
    EXPECT_EQ(EP_ANSWER_RAISE, 2);
}

TEST(LayoutTest, KeepsOtherWordsOutOfTheWayOfTheNamesEpoch)
{
    EXPECT_EQ(EP_NAMES_EPOCH_OFFSET % EP_CACHE_LINE, 0u);
    EXPECT_GE(EP_NAMES_EPOCH_OFFSET, sizeof(ep_layout_header));
    EXPECT_LE(EP_NAMES_EPOCH_OFFSET + 8, kPage);
}

// The index half of a call id begins at 1 and its count is far below.
TEST(LayoutTest, MarksAWaitingCallWithABitThatNoCallIdHas)
{
    EXPECT_EQ(EP_RUNNING_WAITS, 0x80000000u);
    EXPECT_EQ(EP_RUNNING_IMPORTS, 0x40000000u);
}

TEST(LayoutTest, CountsTheSameBytesAsTheWireSays)
{
    for (uint32_t lanes : {1u, 2u, 3u, 17u, EP_LANES_MAX}) {
        ep_layout_header header;
        ep_layout_init(&header, lanes);
        EXPECT_EQ(ep_layout_ring_bytes_a(lanes), PageUp(kPage + lanes * kLaneA));
        EXPECT_EQ(ep_layout_ring_bytes_b(lanes), PageUp(kPage + lanes * kLaneB));
        EXPECT_EQ(header.size_a, PageUp(kPage + lanes * kLaneA));
        EXPECT_EQ(header.size_b, PageUp(kPage + lanes * kLaneB) + lanes * kSlab);
        EXPECT_EQ(ep_layout_size_c(lanes), lanes * kSlab);
    }
}

class LayoutCheckTest : public testing::Test {
protected:
    LayoutCheckTest()
    {
        ep_layout_init(&header_, 3);
    }

    int Check()
    {
        return ep_layout_check(&header_, header_.size_a, header_.size_b,
                               ep_layout_size_c(header_.lanes));
    }

    ep_layout_header header_;
};

TEST_F(LayoutCheckTest, AcceptsWhatItMade)
{
    EXPECT_EQ(Check(), 0);
    header_.spin_min_ns = 12345;
    header_.spin_max_ns = 23456;
    EXPECT_EQ(Check(), 0) << "the fields that may differ";
}

TEST_F(LayoutCheckTest, RefusesAnyOtherByte)
{
    for (size_t at = 0; at < sizeof(header_); at++) {
        if (at >= 56)
            continue; // spin_min_ns, spin_max_ns
        const ep_layout_header good = header_;
        reinterpret_cast<uint8_t *>(&header_)[at] ^= 0x10;
        EXPECT_EQ(ep_layout_check(&header_, UINT64_MAX, UINT64_MAX, UINT64_MAX), -EPROTO)
            << "byte " << at;
        header_ = good;
    }
}

TEST_F(LayoutCheckTest, RefusesAnImpossibleNumberOfLanes)
{
    for (uint32_t lanes : {0u, EP_LANES_MAX + 1, UINT32_MAX}) {
        ep_layout_init(&header_, lanes);
        EXPECT_EQ(Check(), -EPROTO) << lanes;
    }
}

TEST_F(LayoutCheckTest, RefusesSegmentsThatAreTooSmall)
{
    const uint64_t a = header_.size_a, b = header_.size_b, c = ep_layout_size_c(header_.lanes);
    EXPECT_EQ(ep_layout_check(&header_, a - 1, b, c), -EMSGSIZE);
    EXPECT_EQ(ep_layout_check(&header_, a, b - 1, c), -EMSGSIZE);
    EXPECT_EQ(ep_layout_check(&header_, a, b, c - 1), -EMSGSIZE);
    EXPECT_EQ(ep_layout_check(nullptr, sizeof(header_) - 1, b, c), -EMSGSIZE)
        << "before it reads anything";
}

class LaneTest : public testing::Test {
protected:
    void Call(uint64_t id)
    {
        ep_cell *cell;
        ASSERT_EQ(ep_ring_reserve(&pair_.vm.call, &cell), 0);
        cell->call_id = id;
        cell->length = 0;
        cell->kind = EP_KIND_CALL;
        cell->flags = 0;
        ep_ring_commit(&pair_.vm.call);
    }

    static constexpr uint32_t kLanes = 3, kIndex = 1;
    LanePair pair_{LanePair::kTwo, kLanes, kIndex};
    ep_msg msg_ = {};
};

TEST_F(LaneTest, PutsEveryPartWhereTheWireSays)
{
    auto *a = static_cast<uint8_t *>(pair_.a.mem) + kPage + kIndex * kLaneA;
    auto *b = static_cast<uint8_t *>(pair_.b.mem) + kPage + kIndex * kLaneB;
    const ep_lane_vm &vm = pair_.vm;

    EXPECT_EQ((void *)vm.response.shared_head, a);
    EXPECT_EQ((void *)vm.response_bell.word, a + 64);
    EXPECT_EQ((void *)vm.futex, a + 128);
    EXPECT_EQ((void *)vm.kicked_ns, a + 136);
    EXPECT_EQ((void *)vm.reclaim_tx.tail, a + 192);
    EXPECT_EQ((void *)vm.call.cells, a + kWordsA);
    EXPECT_EQ((void *)vm.urgent.cells, a + kWordsA + kCallCells * kCell);
    EXPECT_EQ((void *)vm.reclaim_tx.entries, a + kLaneA - kReclaim * 8);
    EXPECT_EQ(vm.slab_mem, static_cast<uint8_t *>(pair_.c.mem) + kIndex * kSlab);

    EXPECT_EQ((const void *)vm.call.peer_head, b);
    EXPECT_EQ((const void *)vm.running, b + 8);
    EXPECT_EQ((const void *)vm.urgent.peer_head, b + 64);
    EXPECT_EQ((const void *)vm.park.word, b + 128);
    EXPECT_EQ((const void *)vm.cpu, b + 136);
    EXPECT_EQ((const void *)vm.wake_ns, b + 140);
    EXPECT_EQ((const void *)vm.space.word, b + 192);
    EXPECT_EQ((const void *)vm.reclaim_rx.tail, b + 256);
    EXPECT_EQ((const void *)vm.response.cells, b + kWordsB);
    EXPECT_EQ((const void *)vm.reclaim_rx.entries, b + kLaneB - kReclaim * 8);
    EXPECT_EQ(vm.peer_slab_mem, static_cast<uint8_t *>(pair_.b.mem)
                                    + PageUp(kPage + kLanes * kLaneB) + kIndex * kSlab);
}

TEST_F(LaneTest, SeesTheSamePlacesFromBothSides)
{
    auto in = [](const ep_seg &seg, const volatile void *at) {
        return (const volatile uint8_t *)at - (const uint8_t *)seg.mem;
    };
    const ep_lane_vm &vm = pair_.vm;
    const ep_lane_worker &worker = pair_.worker;
    const ep_seg &a = pair_.a, &b = pair_.b, &wa = pair_.worker_a, &wb = pair_.worker_b;

    EXPECT_EQ(in(a, vm.call.cells), in(wa, worker.call.cells));
    EXPECT_EQ(in(a, vm.urgent.cells), in(wa, worker.urgent.cells));
    EXPECT_EQ(in(b, vm.response.cells), in(wb, worker.response.cells));
    EXPECT_EQ(in(b, vm.call.peer_head), in(wb, worker.call.shared_head));
    EXPECT_EQ(in(b, vm.urgent.peer_head), in(wb, worker.urgent.shared_head));
    EXPECT_EQ(in(b, vm.running), in(wb, worker.running));
    EXPECT_EQ(in(a, vm.response.shared_head), in(wa, worker.response.peer_head));
    EXPECT_EQ(in(b, vm.park.word), in(wb, worker.park.word));
    EXPECT_EQ(in(b, vm.space.word), in(wb, worker.space.word));
    EXPECT_EQ(in(a, vm.response_bell.word), in(wa, worker.response_bell.word));
    EXPECT_EQ(in(a, vm.futex), in(wa, worker.futex));
    EXPECT_EQ(in(a, vm.kicked_ns), in(wa, worker.kicked_ns));
    EXPECT_EQ(in(b, vm.cpu), in(wb, worker.cpu));
    EXPECT_EQ(in(b, vm.wake_ns), in(wb, worker.wake_ns));
    EXPECT_EQ(in(pair_.c, vm.slab_mem), in(pair_.worker_c, worker.peer_slab_mem));
    EXPECT_EQ(in(b, vm.peer_slab_mem), in(wb, worker.slab_mem));
    EXPECT_EQ(in(b, vm.reclaim_rx.entries), in(wb, worker.reclaim_tx.entries));
    EXPECT_EQ(in(b, vm.reclaim_rx.tail), in(wb, worker.reclaim_tx.tail));
    EXPECT_EQ(in(a, vm.reclaim_tx.entries), in(wa, worker.reclaim_rx.entries));
    EXPECT_EQ(in(a, vm.reclaim_tx.tail), in(wa, worker.reclaim_rx.tail));
}

TEST_F(LaneTest, CarriesACallAndItsResult)
{
    Call(7);
    const ep_cell *request;
    ASSERT_EQ(ep_ring_peek(&pair_.worker.call, &request), 0);
    EXPECT_EQ(request->call_id, 7u);
    EXPECT_EQ(ep_ring_taken(&pair_.vm.call), 0u);
    ep_ring_advance(&pair_.worker.call);
    ep_ring_publish_head(&pair_.worker.call);
    EXPECT_EQ(ep_ring_taken(&pair_.vm.call), 1u);

    ep_cell *response;
    ASSERT_EQ(ep_ring_reserve(&pair_.worker.response, &response), 0);
    response->call_id = 7;
    response->kind = EP_KIND_RESULT;
    response->flags = 0;
    response->length = 2;
    std::memcpy(response->data, "ok", 2);
    ep_ring_commit(&pair_.worker.response);

    ASSERT_EQ(ep_ring_copy(&pair_.vm.response, &msg_), 0);
    const uint8_t *payload;
    ASSERT_EQ(ep_lane_vm_payload(&pair_.vm, &msg_, &payload), 0);
    EXPECT_EQ(payload, msg_.data) << "from the copy, not from what the worker can change";
    EXPECT_EQ(std::memcmp(payload, "ok", 2), 0);
}

TEST_F(LaneTest, CarriesBlocksInBothDirections)
{
    uint64_t block;
    ASSERT_EQ(ep_slab_alloc(&pair_.vm.slab, 5000, &block), 0);
    std::strcpy(reinterpret_cast<char *>(pair_.vm.slab_mem + block), "there");
    ep_cell cell = {};
    cell.flags = EP_FLAG_BLOCK;
    cell.block = block;
    EXPECT_STREQ((const char *)ep_lane_worker_payload(&pair_.worker, &cell), "there");
    cell.flags = 0;
    EXPECT_EQ(ep_lane_worker_payload(&pair_.worker, &cell), cell.data);
    ep_reclaim_push(&pair_.worker.reclaim_tx, block);
    EXPECT_EQ(ep_reclaim_collect(&pair_.vm.reclaim_rx, &pair_.vm.slab), 1);

    ASSERT_EQ(ep_slab_alloc(&pair_.worker.slab, 5000, &block), 0);
    std::strcpy(reinterpret_cast<char *>(pair_.worker.slab_mem + block), "back");
    msg_.flags = EP_FLAG_BLOCK;
    msg_.block = block;
    msg_.length = 5000;
    const uint8_t *payload;
    ASSERT_EQ(ep_lane_vm_payload(&pair_.vm, &msg_, &payload), 0);
    EXPECT_STREQ((const char *)payload, "back");
    ep_reclaim_push(&pair_.vm.reclaim_tx, block);
    EXPECT_EQ(ep_reclaim_collect(&pair_.worker.reclaim_rx, &pair_.worker.slab), 1);
}

TEST_F(LaneTest, RefusesABlockOutsideTheSlab)
{
    const uint8_t *payload = nullptr;
    auto check = [&](uint64_t block, uint32_t length) {
        msg_.flags = EP_FLAG_BLOCK;
        msg_.block = block;
        msg_.length = length;
        return ep_lane_vm_payload(&pair_.vm, &msg_, &payload);
    };
    EXPECT_EQ(check(kPage, UINT32_MAX), -EPROTO);
    EXPECT_EQ(check(EP_SLAB_SIZE / 2, UINT32_MAX), -EPROTO);
    EXPECT_EQ(check(EP_SLAB_SIZE, 0), -EPROTO);
    EXPECT_EQ(check(EP_SLAB_SIZE - kPage, kPage + 1), -EPROTO);
    EXPECT_EQ(check(UINT64_MAX & ~(kPage - 1), kPage), -EPROTO);
    EXPECT_EQ(check(1, 1), -EPROTO) << "not a page";
    EXPECT_EQ(payload, nullptr);
    EXPECT_EQ(check(EP_SLAB_SIZE - kPage, kPage), 0);
    EXPECT_EQ(check(0, static_cast<uint32_t>(EP_MESSAGE_MAX)), 0);
    EXPECT_EQ(check(0, static_cast<uint32_t>(EP_MESSAGE_MAX) + 1), -EPROTO)
        << "no message is longer";
}

TEST_F(LaneTest, NeverLeavesTheSlabWhateverTheWorkerSays)
{
    std::mt19937_64 random(17);
    int good = 0;
    for (int i = 0; i < 20000; i++) {
        msg_.flags = EP_FLAG_BLOCK;
        msg_.block = random() >> random() % 64 << (random() % 2 == 0 ? 12 : 0);
        msg_.length = static_cast<uint32_t>(random() >> (32 + random() % 32));
        const uint8_t *payload;
        if (ep_lane_vm_payload(&pair_.vm, &msg_, &payload) < 0)
            continue;
        good++;
        ASSERT_GE(payload, pair_.vm.peer_slab_mem);
        ASSERT_LE(payload + msg_.length, pair_.vm.peer_slab_mem + kSlab);
        ASSERT_LE(payload + msg_.length, static_cast<uint8_t *>(pair_.b.mem) + pair_.b.size);
    }
    EXPECT_GT(good, 100);
}

TEST_F(LaneTest, SurvivesAWorkerThatFillsItsWholeSegmentWithNoise)
{
    std::mt19937_64 random(23);
    Call(1);
    for (int round = 0; round < 20; round++) {
        auto *words = static_cast<uint64_t *>(pair_.worker_b.mem);
        for (size_t i = 0; i < ep_layout_ring_bytes_b(kLanes) / 8; i++)
            words[i] = random();

        ep_cell *cell;
        for (uint32_t i = 0; i < EP_CALL_CELLS + 2; i++) {
            int rc = ep_ring_reserve(&pair_.vm.call, &cell);
            if (rc == 0)
                ep_ring_commit(&pair_.vm.call);
            else
                EXPECT_TRUE(rc == -EAGAIN || rc == -EPROTO);
        }
        EXPECT_LE(pair_.vm.call.tail - ep_ring_taken(&pair_.vm.call), EP_CALL_CELLS);
        (void)ep_bell_must_ring(&pair_.vm.park);
        (void)ep_bell_must_ring(&pair_.vm.space);
        EXPECT_EQ(ep_ring_copy(&pair_.vm.response, &msg_), -EPROTO);
        EXPECT_EQ(ep_reclaim_collect(&pair_.vm.reclaim_rx, &pair_.vm.slab), -EPROTO);
    }
}

TEST_F(LaneTest, FinishesAnEmptyOneAndOneTwice)
{
    ep_lane_vm vm = {};
    ep_lane_worker worker = {};
    ep_lane_vm_finish(&vm);
    ep_lane_worker_finish(&worker);
    ep_lane_vm_finish(&pair_.vm);
    ep_lane_vm_finish(&pair_.vm);
}

} // namespace
