// SPDX-License-Identifier: Apache-2.0
#include "ep_cpu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <sched.h>
#include <thread>
#include <vector>

namespace {

TEST(CpuTest, HasAClockThatNeverGoesBack)
{
    uint64_t before = ep_clock_ns();
    for (int i = 0; i < 1000; i++) {
        ep_cpu_relax();
        uint64_t now = ep_clock_ns();
        ASSERT_GE(now, before);
        before = now;
    }
}

TEST(CpuTest, CountsNoMoreCpusThanTheThreadMayUse)
{
    EXPECT_GE(ep_cpu_count(), 1u);
    EXPECT_LE(ep_cpu_count(), std::thread::hardware_concurrency());

    std::thread([] {
        cpu_set_t all, one;
        ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++) {
            if (CPU_ISSET(cpu, &all))
                CPU_SET(cpu, &one);
        }
        ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
        EXPECT_EQ(ep_cpu_count(), 1u);
    }).join();
}

TEST(CpuTest, KnowsWhereItRuns)
{
    std::thread([] {
        cpu_set_t all, one;
        ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &all))
                continue;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
            EXPECT_EQ(ep_cpu_here(), static_cast<uint32_t>(cpu) + 1);
        }
    }).join();
}

TEST(SpinTest, NeverSpinsWhenItMayNot)
{
    ep_spin zeroed = {};
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(ep_spin_budget(&zeroed), 0u);
}

TEST(SpinTest, SpinsItsFullLengthAsLongAsItHits)
{
    for (uint32_t max : {1u, 50000u, UINT32_MAX}) {
        ep_spin spin;
        ep_spin_init(&spin, max, max);
        for (int i = 0; i < 100; i++) {
            ASSERT_EQ(ep_spin_budget(&spin), max);
            ep_spin_hit(&spin);
        }
    }
}

// How many waits in a row do not spin; the one after them does.
unsigned Skipped(ep_spin *spin)
{
    unsigned n = 0;
    while (n < 1000 && ep_spin_budget(spin) == 0)
        n++;
    return n;
}

TEST(SpinTest, SkipsMoreAndMoreWaitsAfterFailuresButNeverGivesUp)
{
    ep_spin spin;
    ep_spin_init(&spin, 50000, 50000);
    unsigned before = 0;
    EXPECT_EQ(Skipped(&spin), 0u);
    for (int i = 0; i < 50; i++) {
        ep_spin_miss(&spin);
        unsigned skipped = Skipped(&spin);
        ASSERT_GE(skipped, before);
        ASSERT_GT(skipped, 0u);
        ASSERT_LE(skipped, EP_SPIN_SKIP_MAX);
        before = skipped;
    }
    EXPECT_EQ(before, EP_SPIN_SKIP_MAX);
}

TEST(SpinTest, SpinsAgainAtOnceAfterASuccess)
{
    ep_spin spin;
    ep_spin_init(&spin, 50000, 50000);
    for (int i = 0; i < 50; i++) {
        ep_spin_miss(&spin);
        (void)Skipped(&spin);
    }
    ep_spin_hit(&spin);
    EXPECT_EQ(ep_spin_budget(&spin), 50000u);
    ep_spin_miss(&spin);
    EXPECT_LT(Skipped(&spin), EP_SPIN_SKIP_MAX) << "old failures are forgotten";
}

TEST(SpinTest, SpinsForAsLongAsItCostsToSleepWithinItsLimits)
{
    ep_spin spin;
    ep_spin_init(&spin, 50000, 500000);
    EXPECT_EQ(ep_spin_budget(&spin), 50000u) << "nothing is known yet";
    ep_spin_learn(&spin, 200000);
    EXPECT_EQ(ep_spin_budget(&spin), 200000u);
    ep_spin_learn(&spin, 0);
    EXPECT_EQ(ep_spin_budget(&spin), 50000u);
    ep_spin_learn(&spin, UINT64_MAX);
    EXPECT_EQ(ep_spin_budget(&spin), 500000u);

    ep_spin_init(&spin, 20000, 20000);
    ep_spin_learn(&spin, 200000);
    EXPECT_EQ(ep_spin_budget(&spin), 20000u) << "somebody has set it";

    ep_spin never = {};
    ep_spin_learn(&never, 200000);
    EXPECT_EQ(ep_spin_budget(&never), 0u);
}

TEST(SpinTest, ForgetsWhatItCostToSleepUnlessItSleeps)
{
    ep_spin spin;
    ep_spin_init(&spin, 50000, 500000);
    ep_spin_learn(&spin, 400000);
    ep_spin_hit_after(&spin, 50000);
    EXPECT_EQ(ep_spin_budget(&spin), 400000u) << "the least budget would have done";

    // Whoever asks every 100 us keeps the other side awake until the budget is shorter.
    int hits = 0;
    for (; ep_spin_budget(&spin) > 100000; hits++)
        ep_spin_hit_after(&spin, 100000);
    EXPECT_GT(hits, 10);
    EXPECT_LT(hits, 200);
    for (int i = 0; i < 1000; i++)
        ep_spin_hit_after(&spin, 60000);
    EXPECT_EQ(ep_spin_budget(&spin), 50000u);
}

TEST(SpinTest, StaysWithinItsLimitsWhateverHappens)
{
    std::mt19937 random(11);
    ep_spin spin;
    ep_spin_init(&spin, 50000, 50000);
    for (int i = 0; i < 10000; i++) {
        ASSERT_LE(Skipped(&spin), EP_SPIN_SKIP_MAX);
        if (random() % 2 == 0)
            ep_spin_hit(&spin);
        else
            ep_spin_miss(&spin);
    }
}

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

TEST(YieldTest, AsksMoreRarelyWhileNobodyIsFoundAndNeverStops)
{
    ep_yield yield = {};
    uint64_t last = 0;
    for (uint64_t now = ep_clock_ns(), end = now + 20000000; now < end; now = ep_clock_ns()) {
        ep_yield_if_due(&yield, now);
        ASSERT_GE(yield.every_ns, 50000u);
        ASSERT_LE(yield.every_ns, 200000u);
        if (yield.last_ns != last)
            last = yield.last_ns;
        ASSERT_LT(now - std::min(now, last), yield.every_ns);
    }
}

} // namespace
