// SPDX-License-Identifier: Apache-2.0
#include "ep_cpu.h"

#include <gtest/gtest.h>

#include <sched.h>
#include <thread>

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

} // namespace
