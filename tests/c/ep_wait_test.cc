// SPDX-License-Identifier: Apache-2.0
#include "ep_wait.h"

#include "ep_cpu.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

// Every test runs with both backends; io_uring is skipped where it is refused.
class WaitTest : public testing::TestWithParam<const char *> {
protected:
    void SetUp() override
    {
        setenv("EP_WAIT", GetParam(), 1);
        int rc = ep_wait_create(&wait_);
        if (rc == -ENOSYS || rc == -EPERM)
            GTEST_SKIP() << "the kernel refuses " << GetParam();
        ASSERT_EQ(rc, 0);
    }

    void TearDown() override
    {
        ep_wait_destroy(wait_);
        unsetenv("EP_WAIT");
        for (int fd : fds_)
            close(fd);
    }

    int Event()
    {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        fds_.push_back(fd);
        return fd;
    }

    // The tags of the next events, sorted.
    std::vector<uint64_t> Next(int timeout_ms = 5000, size_t max = 16)
    {
        std::vector<ep_wait_event> events(max);
        int n = ep_wait_next(wait_, events.data(), max, timeout_ms);
        EXPECT_GE(n, 0);
        std::vector<uint64_t> tags;
        for (int i = 0; i < n; i++)
            tags.push_back(events[i].tag);
        std::sort(tags.begin(), tags.end());
        return tags;
    }

    static void Ring(int fd)
    {
        ASSERT_EQ(eventfd_write(fd, 1), 0);
    }

    static void Drain(int fd)
    {
        eventfd_t value;
        ASSERT_EQ(eventfd_read(fd, &value), 0);
    }

    using Tags = std::vector<uint64_t>;
    ep_wait *wait_ = nullptr;
    std::vector<int> fds_;
};

TEST_P(WaitTest, UsesTheBackendThatWasAskedFor)
{
    EXPECT_EQ(ep_wait_which(wait_),
              std::string(GetParam()) == "epoll" ? EP_WAIT_EPOLL : EP_WAIT_IO_URING);
}

TEST_P(WaitTest, ReturnsNothingWhenTheTimeIsUp)
{
    ASSERT_EQ(ep_wait_add(wait_, Event(), 1), 0);
    EXPECT_EQ(Next(0), Tags{});
    uint64_t start = ep_clock_ns();
    EXPECT_EQ(Next(20), Tags{});
    EXPECT_GE(ep_clock_ns() - start, 20u * 1000000u);
}

TEST_P(WaitTest, ReportsWhatIsReadableUnderItsTag)
{
    int one = Event(), two = Event();
    ASSERT_EQ(ep_wait_add(wait_, one, UINT64_MAX), 0);
    ASSERT_EQ(ep_wait_add(wait_, two, 0), 0);
    Ring(one);
    EXPECT_EQ(Next(), Tags{UINT64_MAX});
    Drain(one);
    Ring(two);
    EXPECT_EQ(Next(), Tags{0});
}

TEST_P(WaitTest, ReportsAnFdThatWasReadableBeforeItWasAdded)
{
    int fd = Event();
    Ring(fd);
    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    EXPECT_EQ(Next(0), Tags{5}) << "even without a wait";
}

TEST_P(WaitTest, ReportsAnFdAgainUntilItIsDrained)
{
    int fd = Event();
    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    Ring(fd);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ(Next(), Tags{5});
    Drain(fd);
    EXPECT_EQ(Next(0), Tags{});
    Ring(fd);
    EXPECT_EQ(Next(), Tags{5});
}

TEST_P(WaitTest, ReportsARingThatComesBetweenDrainingAndWaiting)
{
    int fd = Event();
    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    for (int i = 0; i < 100; i++) {
        Ring(fd);
        ASSERT_EQ(Next(), Tags{5});
        Drain(fd);
        Ring(fd);
        ASSERT_EQ(Next(), Tags{5});
        Drain(fd);
        ASSERT_EQ(Next(0), Tags{});
    }
}

TEST_P(WaitTest, GivesEveryReadableFdItsTurnWhenFewerAreAskedFor)
{
    constexpr size_t kFds = 10;
    for (uint64_t tag = 0; tag < kFds; tag++) {
        int fd = Event();
        Ring(fd);
        ASSERT_EQ(ep_wait_add(wait_, fd, tag), 0);
    }
    std::vector<int> turns(kFds);
    for (size_t i = 0; i < 5 * kFds; i++) {
        Tags tags = Next(5000, 3);
        ASSERT_FALSE(tags.empty());
        ASSERT_LE(tags.size(), 3u);
        for (uint64_t tag : tags)
            turns.at(tag)++;
    }
    for (int n : turns)
        EXPECT_GE(n, 5);
}

TEST_P(WaitTest, HandlesMoreFdsThanItsQueueHasRoomFor)
{
    constexpr uint64_t kFds = 400;
    rlimit limit;
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < kFds + 100)
        GTEST_SKIP() << "too few fds allowed";

    for (uint64_t tag = 0; tag < kFds; tag++) {
        int fd = Event();
        ASSERT_GE(fd, 0);
        ASSERT_EQ(ep_wait_add(wait_, fd, tag), 0);
    }
    EXPECT_EQ(Next(0), Tags{});
    for (int fd : fds_)
        Ring(fd);
    for (int round = 0; round < 3; round++) {
        std::vector<bool> seen(kFds);
        size_t count = 0;
        for (int i = 0; i < 2000 && count < kFds; i++) {
            for (uint64_t tag : Next(5000, 64)) {
                count += !seen.at(tag);
                seen[tag] = true;
            }
        }
        EXPECT_EQ(count, kFds);
    }
}

TEST_P(WaitTest, ReportsAHangUpOfTheOtherEnd)
{
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    ASSERT_EQ(ep_wait_add(wait_, ends[0], 5), 0);
    EXPECT_EQ(Next(0), Tags{});
    close(ends[1]);
    EXPECT_EQ(Next(), Tags{5});
    EXPECT_EQ(Next(), Tags{5}) << "and goes on reporting it";
    EXPECT_EQ(ep_wait_remove(wait_, ends[0], 5), 0);
    close(ends[0]);
}

TEST_P(WaitTest, ReportsTheDeathOfAProcessThroughItsPidfd)
{
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(ends[0]);
        (void)!read(ends[1], &byte, 1); // until the parent closes its end
        _exit(0);
    }
    int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    ASSERT_GE(pidfd, 0);
    ASSERT_EQ(ep_wait_add(wait_, pidfd, 5), 0);
    EXPECT_EQ(Next(0), Tags{});
    close(ends[0]);
    close(ends[1]);
    EXPECT_EQ(Next(), Tags{5});
    EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
    EXPECT_EQ(Next(), Tags{5}) << "reaped or not";
    EXPECT_EQ(ep_wait_remove(wait_, pidfd, 5), 0);
    close(pidfd);
}

TEST_P(WaitTest, ForgetsAnFdThatWasRemoved)
{
    int fd = Event(), other = Event();
    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    ASSERT_EQ(ep_wait_add(wait_, other, 6), 0);
    ASSERT_EQ(ep_wait_remove(wait_, fd, 5), 0) << "before any wait";
    Ring(fd);
    EXPECT_EQ(Next(0), Tags{});

    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    Drain(fd);
    EXPECT_EQ(Next(0), Tags{});
    ASSERT_EQ(ep_wait_remove(wait_, fd, 5), 0) << "while the kernel watches it";
    Ring(fd);
    Ring(other);
    EXPECT_EQ(Next(), Tags{6});
}

TEST_P(WaitTest, DropsAnEventWhoseFdIsRemovedBeforeItIsReported)
{
    int one = Event(), two = Event();
    ASSERT_EQ(ep_wait_add(wait_, one, 1), 0);
    ASSERT_EQ(ep_wait_add(wait_, two, 2), 0);
    Ring(one);
    Ring(two);
    Tags first = Next(5000, 1); // the other one may wait in the completion queue
    ASSERT_EQ(first.size(), 1u);
    int other = first[0] == 1 ? two : one;
    ASSERT_EQ(ep_wait_remove(wait_, other, 3 - first[0]), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(Next(), first);
}

TEST_P(WaitTest, GivesAReusedPlaceOnlyTheEventsOfItsNewFd)
{
    for (uint64_t tag = 0; tag < 200; tag++) {
        int old = Event(), fresh = Event();
        ASSERT_EQ(ep_wait_add(wait_, old, tag), 0);
        ASSERT_EQ(Next(0), Tags{});
        Ring(old);
        ASSERT_EQ(ep_wait_remove(wait_, old, tag), 0);
        ASSERT_EQ(ep_wait_add(wait_, fresh, 1000 + tag), 0);
        ASSERT_EQ(Next(0), Tags{});
        Ring(fresh);
        ASSERT_EQ(Next(), Tags{1000 + tag});
        ASSERT_EQ(ep_wait_remove(wait_, fresh, 1000 + tag), 0);
    }
}

TEST_P(WaitTest, DoesNotKeepAFileOpenThatWasRemoved)
{
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    ASSERT_EQ(ep_wait_add(wait_, ends[0], 5), 0);
    EXPECT_EQ(Next(0), Tags{});
    ASSERT_EQ(ep_wait_remove(wait_, ends[0], 5), 0);
    close(ends[0]);
    char byte;
    EXPECT_EQ(recv(ends[1], &byte, 1, 0), 0) << "the peer sees the end";
    close(ends[1]);
}

TEST_P(WaitTest, RefusesAnFdTwiceAndWhatIsNoFd)
{
    int fd = Event();
    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    EXPECT_EQ(ep_wait_add(wait_, fd, 6), -EEXIST);
    EXPECT_EQ(ep_wait_add(wait_, -1, 6), -EBADF);
    EXPECT_EQ(ep_wait_add(wait_, 1 << 20, 6), -EBADF);
    EXPECT_EQ(ep_wait_remove(wait_, Event(), 6), -ENOENT);
}

TEST_P(WaitTest, WakesUpWhenAnotherThreadRings)
{
    constexpr int kRounds = 2000;
    int ping = Event(), pong = eventfd(0, EFD_CLOEXEC);
    ASSERT_EQ(ep_wait_add(wait_, ping, 5), 0);
    std::thread ringer([&] {
        eventfd_t value;
        for (int i = 0; i < kRounds; i++) {
            eventfd_write(ping, 1);
            eventfd_read(pong, &value);
        }
    });
    for (int i = 0; i < kRounds; i++) {
        EXPECT_EQ(Next(-1), Tags{5});
        Drain(ping);
        eventfd_write(pong, 1);
    }
    ringer.join();
    EXPECT_EQ(Next(0), Tags{});
    close(pong);
}

TEST_P(WaitTest, GoesOnWhenAnotherThreadTakesOverAndTheFirstOneEnds)
{
    int fd = Event();
    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    std::thread([&] { EXPECT_EQ(Next(0), Tags{}); }).join(); // its polls end with it
    EXPECT_EQ(Next(0), Tags{});
    Ring(fd);
    EXPECT_EQ(Next(), Tags{5});
}

TEST_P(WaitTest, SleepsOnWhenASignalInterruptsIt)
{
    struct sigaction action = {}, before;
    static int signals;
    signals = 0;
    action.sa_handler = [](int) { __atomic_fetch_add(&signals, 1, __ATOMIC_SEQ_CST); };
    ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);

    int fd = Event();
    ASSERT_EQ(ep_wait_add(wait_, fd, 5), 0);
    pthread_t sleeper = pthread_self();
    std::thread other([&] {
        // The handler does not answer each: ThreadSanitizer runs it only after
        // a call that it knows, and io_uring_enter() is none.
        for (int i = 0; i < 1000; i++) {
            pthread_kill(sleeper, SIGUSR1);
            std::this_thread::yield();
        }
        eventfd_write(fd, 1);
    });
    EXPECT_EQ(Next(-1), Tags{5});
    other.join();
    EXPECT_GT(__atomic_load_n(&signals, __ATOMIC_SEQ_CST), 0);
    sigaction(SIGUSR1, &before, nullptr);
}

TEST_P(WaitTest, UsesNoCpuWhileItSleeps)
{
    ASSERT_EQ(ep_wait_add(wait_, Event(), 5), 0);
    timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    EXPECT_EQ(Next(100), Tags{});
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t used_ns = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    EXPECT_LT(used_ns, 20 * 1000000);
}

INSTANTIATE_TEST_SUITE_P(Backends, WaitTest, testing::Values("io_uring", "epoll"),
                         [](const testing::TestParamInfo<const char *> &info) {
                             return std::string(info.param);
                         });

TEST(WaitChoiceTest, RefusesAnotherWord)
{
    ep_wait *wait = nullptr;
    setenv("EP_WAIT", "select", 1);
    EXPECT_EQ(ep_wait_create(&wait), -EINVAL);
    EXPECT_EQ(wait, nullptr);
    unsetenv("EP_WAIT");
}

TEST(WaitChoiceTest, FindsABackendByItself)
{
    for (bool empty : {false, true}) {
        ep_wait *wait = nullptr;
        if (empty)
            setenv("EP_WAIT", "", 1);
        else
            unsetenv("EP_WAIT");
        ASSERT_EQ(ep_wait_create(&wait), 0);
        ep_wait_destroy(wait);
    }
    unsetenv("EP_WAIT");
    ep_wait_destroy(nullptr); // does nothing
}

TEST(WaitChoiceTest, ReportsThatNoFdIsLeft)
{
    rlimit before, none;
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    for (const char *backend : {"io_uring", "epoll"}) {
        setenv("EP_WAIT", backend, 1);
        ep_wait *wait = nullptr;
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
        int rc = ep_wait_create(&wait);
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        EXPECT_TRUE(rc == -EMFILE || rc == -ENOSYS || rc == -EPERM) << backend << ": " << rc;
    }
    unsetenv("EP_WAIT");
}

} // namespace
