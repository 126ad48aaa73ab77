// SPDX-License-Identifier: Apache-2.0
#include "ep_placer.h"

#include "ep_cpu.h"

#include <gtest/gtest.h>

#include <sched.h>
#include <thread>
#include <vector>

namespace {

// The CPUs that this thread may use, in their order.
std::vector<int> AllowedCpus()
{
    std::vector<int> cpus;
    cpu_set_t set;
    EXPECT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &set))
            cpus.push_back(cpu);
    }
    return cpus;
}

void MayUse(const std::vector<int> &cpus)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu : cpus)
        CPU_SET(cpu, &set);
    ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
}

void ShareOften(ep_placer *placer, ep_half half)
{
    for (int i = 0; i < 200; i++)
        ep_placer_shared(placer, half);
}

TEST(PlacerTest, MovesToItsHalfAndMayGoAnywhereAfterwards)
{
    std::thread([] {
        std::vector<int> all = AllowedCpus();
        if (all.size() < 2)
            GTEST_SKIP() << "one CPU";
        size_t lower = (all.size() + 1) / 2;
        // The system may move the thread, too: before we do, or at once afterwards.
        bool is_lower = false, is_upper = false;
        for (int i = 0; i < 100 && !(is_lower && is_upper); i++) {
            ep_placer down = {}, up = {};
            MayUse({all.back()});
            MayUse(all);
            ShareOften(&down, EP_LOWER_HALF);
            is_lower |= down.moved_ns != 0 && sched_getcpu() < all[lower];
            EXPECT_EQ(AllowedCpus(), all);
            MayUse({all.front()});
            MayUse(all);
            ShareOften(&up, EP_UPPER_HALF);
            is_upper |= up.moved_ns != 0 && sched_getcpu() >= all[lower];
            EXPECT_EQ(AllowedCpus(), all);
        }
        EXPECT_TRUE(is_lower);
        EXPECT_TRUE(is_upper);
    }).join();
}

TEST(PlacerTest, StaysWhereItIsRightOrBound)
{
    std::thread([] {
        std::vector<int> all = AllowedCpus();
        ep_placer placer = {};
        MayUse({all.front()});
        ShareOften(&placer, EP_LOWER_HALF);
        ShareOften(&placer, EP_UPPER_HALF);
        EXPECT_EQ(placer.moved_ns, 0u);
        EXPECT_EQ(AllowedCpus(), std::vector<int>{all.front()});
    }).join();
}

TEST(PlacerTest, MovesAgainOnlyAfterAPause)
{
    std::thread([] {
        std::vector<int> all = AllowedCpus();
        if (all.size() < 2)
            GTEST_SKIP() << "one CPU";
        ep_placer placer = {};
        for (int i = 0; i < 100 && placer.moved_ns == 0; i++) {
            MayUse({all.back()});
            MayUse(all);
            ShareOften(&placer, EP_LOWER_HALF);
        }
        uint64_t moved = placer.moved_ns;
        ASSERT_NE(moved, 0u);
        ASSERT_GE(placer.pause_ns, 1000000u);
        MayUse({all.back()});
        MayUse(all);
        ShareOften(&placer, EP_LOWER_HALF);
        uint64_t now = ep_clock_ns();
        if (now - moved < placer.pause_ns) {
            EXPECT_EQ(placer.moved_ns, moved);
        }
    }).join();
}

} // namespace
