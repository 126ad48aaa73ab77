// SPDX-License-Identifier: Apache-2.0

// The edges W1-W2 and S1-S2 by themselves: in each round one side publishes and
// looks at the bell while the other arms it and looks at the source. Whatever the
// processor does, one of them must see the other.
#include "ep_lane.h"

#include "ep_test_lane.h"
#include "ep_two_cpus.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>

namespace {

class LaneEdgeTest : public testing::TestWithParam<LanePair::Mapping> {
protected:
    class Meeting {
    public:
        // Leaves when both sides are there, at nearly the same moment.
        void Enter(int side, uint64_t round)
        {
            at_[side].round.store(round, std::memory_order_release);
            for (int i = 0; at_[1 - side].round.load(std::memory_order_acquire) < round; i++) {
                if (i > 2000)
                    std::this_thread::yield();
            }
        }

    private:
        struct alignas(64) Place {
            std::atomic<uint64_t> round{0};
        };
        Place at_[2];
    };

    // publish() returns whether it has to ring, arm() whether it found something;
    // again() prepares the next round. Returns how often both missed.
    template <typename Publish, typename Arm, typename Again>
    static uint64_t CountMisses(Publish publish, Arm arm, Again again)
    {
        const uint64_t kRounds = 200000 / kScale;
        constexpr uint32_t kDelay = 512, kDelayMax = 8 * kDelay;
        Meeting meeting;
        bool rings = false;
        Line lines[kLines];

        TwoCpus cpus;
        std::thread publisher([&] {
            cpus.PinOther();
            std::minstd_rand random(3);
            for (uint64_t i = 0; i < kRounds; i++) {
                meeting.Enter(0, 2 * i + 1);
                Dawdle(kDelay + random() % 256);
                Touch(lines, i % 2 == 0 ? 0 : random() % (kLines + 1));
                rings = publish();
                meeting.Enter(0, 2 * i + 2);
            }
        });
        std::minstd_rand random(4);
        uint64_t misses = 0;
        uint32_t delay = kDelay;
        for (uint64_t i = 0; i < kRounds; i++) {
            meeting.Enter(1, 2 * i + 1);
            Dawdle(delay + random() % 256);
            bool found = arm();
            meeting.Enter(1, 2 * i + 2);
            misses += !found && !rings;
            // Come later if this came first, and the other way round: so the two
            // meet as often as they can, whatever each of them has to do.
            if (rings && !found && delay < kDelayMax)
                delay += 8;
            else if (found && !rings && delay > 0)
                delay -= 8;
            again();
            Touch(lines, kLines);
        }
        publisher.join();
        return misses;
    }

    // Stores to lines that the other side has in its cache: what is stored after
    // them stays for a while in the processor that stored it.
    static constexpr uint32_t kLines = 8;
    struct alignas(64) Line {
        std::atomic<uint64_t> value{0};
    };

    static void Touch(Line *lines, uint32_t n)
    {
        for (uint32_t i = 0; i < n; i++)
            lines[i].value.store(1, std::memory_order_relaxed);
    }

    static void Dawdle(uint32_t n)
    {
        for (uint32_t i = 0; i < n; i++)
            __asm__ volatile("");
    }

    static void Push(ep_ring_tx *ring)
    {
        ep_cell *cell;
        EXPECT_EQ(ep_ring_reserve(ring, &cell), 0);
        cell->flags = 0;
        cell->length = 0;
        ep_ring_commit(ring);
    }

    LanePair pair_{GetParam()};
    ep_lane_vm &vm_ = pair_.vm;
    ep_lane_worker &worker_ = pair_.worker;
};

TEST_P(LaneEdgeTest, ACallIsSeenOrItsBellIs)
{
    const ep_cell *cell;
    EXPECT_EQ(CountMisses(
                  [&] {
                      Push(&vm_.call);
                      return ep_bell_must_ring(&vm_.park);
                  },
                  [&] {
                      ep_bell_arm(&worker_.park);
                      return ep_ring_peek(&worker_.call, &cell) == 0;
                  },
                  [&] {
                      ep_ring_advance(&worker_.call);
                      ep_ring_publish_head(&worker_.call);
                      ep_bell_disarm(&worker_.park);
                  }),
              0u);
}

TEST_P(LaneEdgeTest, AResponseIsSeenOrItsBellIs)
{
    ep_msg msg;
    EXPECT_EQ(CountMisses(
                  [&] {
                      Push(&worker_.response);
                      return ep_bell_must_ring(&worker_.response_bell);
                  },
                  [&] {
                      ep_bell_arm(&vm_.response_bell);
                      return ep_ring_copy(&vm_.response, &msg) == 0;
                  },
                  [&] {
                      ep_ring_advance(&vm_.response);
                      ep_ring_publish_head(&vm_.response);
                      ep_bell_disarm(&vm_.response_bell);
                  }),
              0u);
}

TEST_P(LaneEdgeTest, RoomInTheResponseRingIsSeenOrItsBellIs)
{
    vm_.response.mask = worker_.response.mask = 0;
    Push(&worker_.response); // full with one
    EXPECT_EQ(CountMisses(
                  [&] {
                      ep_ring_advance(&vm_.response);
                      ep_ring_publish_head(&vm_.response);
                      return ep_bell_must_ring(&vm_.space);
                  },
                  [&] {
                      ep_cell *cell;
                      ep_bell_arm(&worker_.space);
                      return ep_ring_reserve(&worker_.response, &cell) == 0;
                  },
                  [&] {
                      Push(&worker_.response);
                      ep_bell_disarm(&worker_.space);
                  }),
              0u);
}

TEST_P(LaneEdgeTest, RoomInTheSlabIsSeenOrItsBellIs)
{
    uint64_t block;
    ep_slab_init(&worker_.slab, EP_PAGE);
    ASSERT_EQ(ep_slab_alloc(&worker_.slab, 1, &block), 0); // full with one
    EXPECT_EQ(CountMisses(
                  [&] {
                      ep_reclaim_push(&vm_.reclaim_tx, 0);
                      return ep_bell_must_ring(&vm_.space);
                  },
                  [&] {
                      ep_bell_arm(&worker_.space);
                      return ep_reclaim_collect(&worker_.reclaim_rx, &worker_.slab) == 1;
                  },
                  [&] {
                      (void)ep_reclaim_collect(&worker_.reclaim_rx, &worker_.slab);
                      EXPECT_EQ(ep_slab_alloc(&worker_.slab, 1, &block), 0);
                      ep_bell_disarm(&worker_.space);
                  }),
              0u);
}

std::string NameOf(const testing::TestParamInfo<LanePair::Mapping> &info)
{
    return info.param == LanePair::kTwo ? "Two" : "One";
}

INSTANTIATE_TEST_SUITE_P(Mappings, LaneEdgeTest, testing::Values(LanePair::kTwo, LanePair::kOne),
                         NameOf);

} // namespace
