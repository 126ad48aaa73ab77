// SPDX-License-Identifier: Apache-2.0

// Two threads play the VM and the worker over one lane, with the futex and the
// eventfd that the processes use. A wake-up that is lost leaves both asleep; the
// limit of kLostNs only turns that hang into a message.
#include "ep_lane.h"

#include "ep_cpu.h"
#include "ep_test_lane.h"
#include "ep_two_cpus.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <poll.h>
#include <random>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>

namespace {

constexpr int64_t kLostNs = 20ll * 1000000000;

// Waits a little before each step, so that arming and publishing meet at every
// distance from each other.
class Jitter {
public:
    explicit Jitter(uint32_t seed) : random_(seed)
    {
    }

    uint32_t Next()
    {
        uint32_t n = random_() % 64;
        return random_() % 16 == 0 ? 32 * n : n; // as long as it takes to wake somebody
    }

    void Wait()
    {
        for (uint32_t i = Next(); i > 0; i--)
            ep_cpu_relax();
    }

private:
    std::minstd_rand random_;
};

// The worker's side of one lane.
class Worker {
public:
    Worker(ep_lane_worker *lane, int doorbell) : lane_(lane), doorbell_(doorbell), jitter_(1)
    {
    }

    // Waits for a call. False if a wake-up was lost.
    bool NextCall(const ep_cell **ret_cell)
    {
        for (uint32_t i = jitter_.Next(); i > 0; i--) {
            if (ep_ring_peek(&lane_->call, ret_cell) == 0)
                return true;
        }
        return Sleep(&lane_->park, [&] { return ep_ring_peek(&lane_->call, ret_cell) != -EAGAIN; });
    }

    // Sleeps until ready() holds. False if a wake-up was lost.
    template <typename Ready> bool Sleep(ep_bell_rx *bell, Ready ready)
    {
        for (;;) {
            uint32_t value = ep_futex_value(lane_->futex);
            ep_bell_rearm(bell);
            if (ready())
                break;
            jitter_.Wait();
            uint64_t start = ep_clock_ns();
            ep_futex_wait(lane_->futex, value, kLostNs);
            if (ep_clock_ns() - start >= static_cast<uint64_t>(kLostNs))
                return false;
            slept_++;
        }
        ep_bell_disarm(bell);
        return true;
    }

    bool Reserve(ep_cell **ret_cell)
    {
        int rc = ep_ring_reserve(&lane_->response, ret_cell);
        if (rc == -EAGAIN)
            return Sleep(&lane_->space,
                         [&] { return ep_ring_reserve(&lane_->response, ret_cell) == 0; });
        return rc == 0;
    }

    void Respond(ep_cell *cell, uint64_t id)
    {
        cell->call_id = id;
        cell->kind = EP_KIND_RESULT;
        cell->flags = 0;
        cell->length = sizeof(id);
        std::memcpy(cell->data, &id, sizeof(id));
        Publish();
    }

    void Publish()
    {
        jitter_.Wait();
        ep_ring_commit(&lane_->response);
        if (ep_bell_must_ring(&lane_->response_bell))
            eventfd_write(doorbell_, 1);
    }

    void Take()
    {
        ep_ring_advance(&lane_->call);
        ep_ring_publish_head(&lane_->call);
    }

    uint64_t slept_ = 0;

private:
    ep_lane_worker *lane_;
    int doorbell_;
    Jitter jitter_;
};

// The VM's side of one lane.
class Vm {
public:
    Vm(ep_lane_vm *lane, int doorbell) : lane_(lane), doorbell_(doorbell), jitter_(2)
    {
    }

    int Call(uint64_t id)
    {
        ep_cell *cell;
        int rc = ep_ring_reserve(&lane_->call, &cell);
        if (rc < 0)
            return rc;
        cell->call_id = id;
        cell->kind = EP_KIND_CALL;
        cell->flags = 0;
        cell->length = sizeof(id);
        std::memcpy(cell->data, &id, sizeof(id));
        jitter_.Wait();
        ep_ring_commit(&lane_->call);
        if (ep_bell_must_ring(&lane_->park))
            ep_futex_wake(lane_->futex);
        return 0;
    }

    // Waits for a response. 0, -EPROTO, or -ETIMEDOUT if a wake-up was lost.
    int NextResponse(ep_msg *ret_msg)
    {
        int rc = -EAGAIN;
        for (uint32_t i = jitter_.Next(); i > 0 && rc == -EAGAIN; i--)
            rc = ep_ring_copy(&lane_->response, ret_msg);
        while (rc == -EAGAIN) {
            ep_bell_rearm(&lane_->response_bell);
            rc = ep_ring_copy(&lane_->response, ret_msg);
            if (rc != -EAGAIN)
                break;
            pollfd wait = {doorbell_, POLLIN, 0};
            if (poll(&wait, 1, static_cast<int>(kLostNs / 1000000)) == 0)
                return -ETIMEDOUT;
            eventfd_t value;
            (void)eventfd_read(doorbell_, &value);
            slept_++;
            rc = ep_ring_copy(&lane_->response, ret_msg);
        }
        ep_bell_disarm(&lane_->response_bell);
        return rc;
    }

    void Take()
    {
        ep_ring_advance(&lane_->response);
        ep_ring_publish_head(&lane_->response);
        RingForSpace();
    }

    void RingForSpace()
    {
        if (ep_bell_must_ring(&lane_->space))
            ep_futex_wake(lane_->futex);
    }

    uint64_t slept_ = 0;

private:
    ep_lane_vm *lane_;
    int doorbell_;
    Jitter jitter_;
};

class LaneWakeTest : public testing::TestWithParam<LanePair::Mapping> {
protected:
    ~LaneWakeTest() override
    {
        close(doorbell_);
    }

    int doorbell_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    LanePair pair_{GetParam()};
    Worker worker_{&pair_.worker, doorbell_};
    Vm vm_{&pair_.vm, doorbell_};
    ep_msg msg_ = {};
};

// Lock-step: no later message can make up for a wake-up that was lost.
TEST_P(LaneWakeTest, NeverLosesAWakeUpForACallOrItsResult)
{
    const uint64_t kCalls = 12000 / kScale;
    std::atomic<bool> lost{false};

    TwoCpus cpus;
    std::thread worker([&] {
        cpus.PinOther();
        const ep_cell *call;
        ep_cell *response;
        for (uint64_t i = 0; i < kCalls && !lost; i++) {
            if (!worker_.NextCall(&call) || call->call_id != i) {
                lost = true;
                break;
            }
            worker_.Take();
            if (!worker_.Reserve(&response))
                lost = true;
            worker_.Respond(response, i);
        }
    });
    for (uint64_t i = 0; i < kCalls && !lost; i++) {
        EXPECT_EQ(vm_.Call(i), 0);
        int rc = vm_.NextResponse(&msg_);
        if (rc != 0 || msg_.call_id != i || std::memcmp(msg_.data, &i, sizeof(i)) != 0) {
            ADD_FAILURE() << "call " << i << ": " << rc;
            lost = true;
        }
        vm_.Take();
    }
    worker.join();
    EXPECT_FALSE(lost) << "the worker was not woken";
    EXPECT_GT(worker_.slept_ + vm_.slept_, 0u) << "nobody ever slept: nothing was tested";
}

// With one cell, the worker waits for room before almost every response.
TEST_P(LaneWakeTest, NeverLosesAWakeUpForRoomInTheResponseRing)
{
    const uint64_t kMessages = 12000 / kScale;
    std::atomic<bool> lost{false};
    pair_.vm.response.mask = pair_.worker.response.mask = 0;

    TwoCpus cpus;
    std::thread worker([&] {
        cpus.PinOther();
        for (uint64_t i = 0; i < kMessages && !lost; i++) {
            ep_cell *cell;
            if (!worker_.Reserve(&cell)) {
                lost = true;
                break;
            }
            worker_.Respond(cell, i);
        }
    });
    for (uint64_t i = 0; i < kMessages && !lost; i++) {
        int rc = vm_.NextResponse(&msg_);
        if (rc != 0 || msg_.call_id != i) {
            ADD_FAILURE() << "message " << i << ": " << rc;
            lost = true;
        }
        vm_.Take();
    }
    worker.join();
    EXPECT_FALSE(lost);
    EXPECT_GT(worker_.slept_, 0u);
}

// With one block, the worker waits for it to come back before every response.
TEST_P(LaneWakeTest, NeverLosesAWakeUpForRoomInTheSlab)
{
    const uint64_t kMessages = 12000 / kScale;
    std::atomic<bool> lost{false};
    ep_slab_init(&pair_.worker.slab, EP_PAGE);

    TwoCpus cpus;
    std::thread worker([&] {
        cpus.PinOther();
        for (uint64_t i = 0; i < kMessages && !lost; i++) {
            uint64_t block = 0;
            auto ready = [&] {
                (void)ep_reclaim_collect(&pair_.worker.reclaim_rx, &pair_.worker.slab);
                return ep_slab_alloc(&pair_.worker.slab, sizeof(i), &block) == 0;
            };
            ep_cell *cell;
            if ((!ready() && !worker_.Sleep(&pair_.worker.space, ready))
                || !worker_.Reserve(&cell)) {
                lost = true;
                break;
            }
            std::memcpy(pair_.worker.slab_mem + block, &i, sizeof(i));
            cell->call_id = i;
            cell->kind = EP_KIND_RESULT;
            cell->flags = EP_FLAG_BLOCK;
            cell->block = block;
            cell->length = sizeof(i);
            worker_.Publish();
        }
    });
    for (uint64_t i = 0; i < kMessages && !lost; i++) {
        int rc = vm_.NextResponse(&msg_);
        const uint8_t *payload;
        if (rc != 0 || ep_lane_vm_payload(&pair_.vm, &msg_, &payload) != 0
            || std::memcmp(payload, &i, sizeof(i)) != 0) {
            ADD_FAILURE() << "message " << i << ": " << rc;
            lost = true;
        }
        vm_.Take();
        ep_reclaim_push(&pair_.vm.reclaim_tx, msg_.block);
        vm_.RingForSpace();
    }
    worker.join();
    EXPECT_FALSE(lost);
    EXPECT_GT(worker_.slept_, 0u);
}

// A full pipeline in both directions: order, contents, and the reuse of cells.
TEST_P(LaneWakeTest, DeliversEverythingOnceWhenManyCallsAreOnTheirWay)
{
    const uint64_t kCalls = 50000 / kScale;
    std::atomic<bool> lost{false};

    TwoCpus cpus;
    std::thread worker([&] {
        cpus.PinOther();
        for (uint64_t i = 0; i < kCalls && !lost; i++) {
            const ep_cell *call;
            ep_cell *response;
            uint64_t id;
            if (!worker_.NextCall(&call)) {
                lost = true;
                break;
            }
            std::memcpy(&id, call->data, sizeof(id));
            worker_.Take();
            if (!worker_.Reserve(&response)) {
                lost = true;
                break;
            }
            worker_.Respond(response, id);
        }
    });
    uint64_t sent = 0, wrong = 0;
    for (uint64_t i = 0; i < kCalls && !lost; i++) {
        while (sent < kCalls && vm_.Call(sent) == 0)
            sent++;
        if (vm_.NextResponse(&msg_) != 0)
            lost = true;
        wrong += msg_.call_id != i;
        vm_.Take();
    }
    worker.join();
    EXPECT_FALSE(lost);
    EXPECT_EQ(wrong, 0u);
}

std::string NameOf(const testing::TestParamInfo<LanePair::Mapping> &info)
{
    return info.param == LanePair::kTwo ? "Two" : "One";
}

INSTANTIATE_TEST_SUITE_P(Mappings, LaneWakeTest, testing::Values(LanePair::kTwo, LanePair::kOne),
                         NameOf);

// A process that answers calls until it is killed.
[[noreturn]] void RunWorker(int fd_a, int fd_b, int fd_c, int doorbell)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ep_seg a = {}, b = {}, c = {};
    if (ep_seg_open(&a, fd_a, false) < 0 || ep_seg_open(&b, fd_b, true) < 0
        || ep_seg_open(&c, fd_c, false) < 0 || ep_layout_check(a.mem, a.size, b.size, c.size) < 0)
        _exit(1);
    ep_lane_worker lane;
    ep_lane_worker_attach(&lane, a.mem, b.mem, c.mem, 2, 1);
    Worker worker(&lane, doorbell);
    for (;;) {
        const ep_cell *call;
        ep_cell *response;
        if (!worker.NextCall(&call))
            _exit(2);
        uint64_t id = call->call_id;
        worker.Take();
        if (!worker.Reserve(&response))
            _exit(3);
        worker.Respond(response, id);
    }
}

// The reaper's work after a death at any instruction: drain what was
// published, fail the rest, and find nothing that makes no sense.
TEST(LaneCrashTest, LeavesNothingToRepairWhenTheWorkerIsKilled)
{
    std::mt19937_64 random(31);
    for (int round = 0; round < 40; round++) {
        SCOPED_TRACE(round);
        LanePair pair;
        int doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        pid_t pid = fork();
        if (pid == 0)
            RunWorker(pair.a.fd, pair.b.fd, pair.c.fd, doorbell);

        Vm vm(&pair.vm, doorbell);
        ep_msg msg;
        uint64_t sent = 0, ended = 0;
        const uint64_t kill_after = random() % 1500;
        while (ended < kill_after) {
            while (vm.Call(sent) == 0)
                sent++;
            ASSERT_EQ(vm.NextResponse(&msg), 0);
            ASSERT_EQ(msg.call_id, ended++);
            vm.Take();
        }
        while (vm.Call(sent) == 0)
            sent++;
        for (uint64_t i = random() % 5000; i > 0; i--)
            ep_cpu_relax();
        kill(pid, SIGKILL);
        int status = 0;
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFSIGNALED(status)) << "it left by itself: " << status;

        int rc;
        while ((rc = ep_ring_copy(&pair.vm.response, &msg)) == 0) {
            ASSERT_EQ(msg.call_id, ended++);
            vm.Take();
        }
        EXPECT_EQ(rc, -EAGAIN) << "the rest was never published";
        uint64_t started = ep_ring_taken(&pair.vm.call);
        EXPECT_GE(started, ended) << "what was answered had been started";
        EXPECT_LE(started, ended + 1) << "one call at a time";
        EXPECT_LE(started, sent);
        close(doorbell);
    }
}

} // namespace
