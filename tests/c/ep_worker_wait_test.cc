// SPDX-License-Identifier: Apache-2.0
#include "ep_worker_fixture.h"

#include <chrono>
#include <sched.h>

using namespace term;

namespace {

TEST_F(WorkerTest, WorksWithoutSpinning)
{
    vm_.reset();
    ASSERT_NO_FATAL_FAILURE(start_worker(2, 0));
    for (int i = 0; i < 2000; i++)
        ASSERT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
}

TEST_F(WorkerTest, SaysWhereItRuns)
{
    cpu_set_t all;
    ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all))
            continue;
        vm_->eval("__import__('os').sched_setaffinity(0, {" + std::to_string(cpu) + "})");
        ASSERT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
        EXPECT_EQ(static_cast<uint32_t>(cpu) + 1, vm_->cpu(1));
    }
}

TEST_F(WorkerTest, SaysHowLongItTakesToWakeIt)
{
    const uint32_t most = 250000; // what a longer one counts as
    vm_.reset();
    ASSERT_NO_FATAL_FAILURE(start_worker(2, 0));
    vm_->set_kick_age(1000000000);
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (vm_->wake_ns(1) < most / 10 * 9) {
        ASSERT_EQ("4f", vm_->call("math", "sqrt", {integer(16)}));
        ASSERT_LE(vm_->wake_ns(1), most);
        ASSERT_LT(std::chrono::steady_clock::now(), end);
    }
}

} // namespace
