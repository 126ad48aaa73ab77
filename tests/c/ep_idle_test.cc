// SPDX-License-Identifier: Apache-2.0
#include "ep_idle.h"

#include "ep_cpu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace {

TEST(IdleTest, NeverSpinsWhenItMayNot)
{
    ep_idle zeroed = {};
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(ep_idle_budget(&zeroed), 0u);
}

TEST(IdleTest, SpinsItsFullLengthAsLongAsItHits)
{
    for (uint32_t max : {1u, 50000u, UINT32_MAX}) {
        ep_idle idle;
        ep_idle_init(&idle, max, max);
        for (int i = 0; i < 100; i++) {
            ASSERT_EQ(ep_idle_budget(&idle), max);
            ep_idle_hit(&idle);
        }
    }
}

// How many waits in a row do not idle; the one after them does.
unsigned Skipped(ep_idle *idle)
{
    unsigned n = 0;
    while (n < 1000 && ep_idle_budget(idle) == 0)
        n++;
    return n;
}

TEST(IdleTest, SkipsMoreAndMoreWaitsAfterFailuresButNeverGivesUp)
{
    ep_idle idle;
    ep_idle_init(&idle, 50000, 50000);
    unsigned before = 0;
    EXPECT_EQ(Skipped(&idle), 0u);
    for (int i = 0; i < 50; i++) {
        ep_idle_miss(&idle);
        unsigned skipped = Skipped(&idle);
        ASSERT_GE(skipped, before);
        ASSERT_GT(skipped, 0u);
        ASSERT_LE(skipped, EP_IDLE_SKIP_MAX);
        before = skipped;
    }
    EXPECT_EQ(before, EP_IDLE_SKIP_MAX);
}

TEST(IdleTest, SpinsAgainAtOnceAfterASuccess)
{
    ep_idle idle;
    ep_idle_init(&idle, 50000, 50000);
    for (int i = 0; i < 50; i++) {
        ep_idle_miss(&idle);
        (void)Skipped(&idle);
    }
    ep_idle_hit(&idle);
    EXPECT_EQ(ep_idle_budget(&idle), 50000u);
    ep_idle_miss(&idle);
    EXPECT_LT(Skipped(&idle), EP_IDLE_SKIP_MAX) << "old failures are forgotten";
}

TEST(IdleTest, SpinsForAsLongAsItCostsToSleepWithinItsLimits)
{
    ep_idle idle;
    ep_idle_init(&idle, 50000, 500000);
    EXPECT_EQ(ep_idle_budget(&idle), 50000u) << "nothing is known yet";
    ep_idle_learn(&idle, 200000);
    EXPECT_EQ(ep_idle_budget(&idle), 200000u);
    ep_idle_learn(&idle, 0);
    EXPECT_EQ(ep_idle_budget(&idle), 50000u);
    ep_idle_learn(&idle, UINT64_MAX);
    EXPECT_EQ(ep_idle_budget(&idle), 500000u);

    ep_idle_init(&idle, 20000, 20000);
    ep_idle_learn(&idle, 200000);
    EXPECT_EQ(ep_idle_budget(&idle), 20000u) << "somebody has set it";

    ep_idle never = {};
    ep_idle_learn(&never, 200000);
    EXPECT_EQ(ep_idle_budget(&never), 0u);
}

TEST(IdleTest, ForgetsWhatItCostToSleepUnlessItSleeps)
{
    ep_idle idle;
    ep_idle_init(&idle, 50000, 500000);
    ep_idle_learn(&idle, 400000);
    ep_idle_hit_after(&idle, 50000);
    EXPECT_EQ(ep_idle_budget(&idle), 400000u) << "the least budget would have done";

    // Whoever asks every 100 us keeps the other side awake until the budget is shorter.
    int hits = 0;
    for (; ep_idle_budget(&idle) > 100000; hits++)
        ep_idle_hit_after(&idle, 100000);
    EXPECT_GT(hits, 10);
    EXPECT_LT(hits, 200);
    for (int i = 0; i < 1000; i++)
        ep_idle_hit_after(&idle, 60000);
    EXPECT_EQ(ep_idle_budget(&idle), 50000u);
}

TEST(IdleTest, StaysWithinItsLimitsWhateverHappens)
{
    std::mt19937 random(11);
    ep_idle idle;
    ep_idle_init(&idle, 50000, 50000);
    for (int i = 0; i < 10000; i++) {
        ASSERT_LE(Skipped(&idle), EP_IDLE_SKIP_MAX);
        if (random() % 2 == 0)
            ep_idle_hit(&idle);
        else
            ep_idle_miss(&idle);
    }
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
