/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each test forks, takes a level, and tries system calls in the child. Raw ones: what a C library
 * does about an error is not of interest. Where the kernel lacks a feature, the report has to say
 * so, and what depends on it is not tried.
 */

#include "ep_sandbox.h"
#include "ep_sandbox_domain.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr int kClone3 = 435;

/* 0, or the errno. */
template <typename... Args> int Try(long number, Args... args)
{
    return syscall(number, args...) < 0 ? errno : 0;
}

class Sandbox : public ::testing::Test {
protected:
    void SetUp() override
    {
        char path[] = "/tmp/ep_sandbox_test-XXXXXX";
        ASSERT_NE(nullptr, mkdtemp(path));
        top_ = path;
        temp_ = top_ + "/temp";
        outside_ = top_ + "/outside";
        ASSERT_EQ(0, mkdir(temp_.c_str(), 0700));
        ASSERT_EQ(0, mkdir(outside_.c_str(), 0700));
    }

    void TearDown() override
    {
        (void)!system(("rm -rf " + top_).c_str());
    }

    /* Runs what is tried in a child that is in the sandbox: a result of 0 is as it should be, else
     * it is the line that failed. */
    void In(enum ep_sandbox_level level, const std::function<int(const ep_sandbox_report &)> &run)
    {
        fflush(nullptr);
        pid_t pid = fork();
        ASSERT_GE(pid, 0);
        if (pid == 0) {
            struct ep_sandbox_report report;
            ep_sandbox_apply(level, temp_.c_str(), &report);
            _exit(run(report) == 0 ? 0 : failed_line_ % 251 + 1);
        }
        int status;
        ASSERT_EQ(pid, waitpid(pid, &status, 0));
        ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
        EXPECT_EQ(0, WEXITSTATUS(status)) << "line modulo 251, plus 1";
    }

    static int failed_line_;
    std::string top_, temp_, outside_;
};

int Sandbox::failed_line_;

#define HOLD(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s, errno %d\n", __LINE__, #condition, errno);               \
            failed_line_ = __LINE__;                                                               \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

TEST_F(Sandbox, KnowsItsLevels)
{
    enum ep_sandbox_level level;

    EXPECT_TRUE(ep_sandbox_level_of("none", &level) && level == EP_SANDBOX_NONE);
    EXPECT_TRUE(ep_sandbox_level_of("default", &level) && level == EP_SANDBOX_DEFAULT);
    EXPECT_TRUE(ep_sandbox_level_of("strict", &level) && level == EP_SANDBOX_STRICT);
    EXPECT_FALSE(ep_sandbox_level_of("", &level));
    EXPECT_FALSE(ep_sandbox_level_of("defaults", &level));
}

TEST_F(Sandbox, NoneChangesNothing)
{
    In(EP_SANDBOX_NONE, [](const ep_sandbox_report &report) {
        HOLD(report.in_force == 0 && report.missing == 0);
        HOLD(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
        HOLD(ep_sandbox_word(&report) == 0);
        return 0;
    });
}

TEST_F(Sandbox, ReportsEachFeatureOnce)
{
    In(EP_SANDBOX_DEFAULT, [](const ep_sandbox_report &report) {
        HOLD((report.in_force & report.missing) == 0);
        HOLD((report.in_force | report.missing) == 0x1f);
        HOLD((report.in_force & EP_SANDBOX_SECCOMP) != 0);
        HOLD((report.in_force & EP_SANDBOX_NO_NEW_PRIVS) != 0);
        HOLD(((report.in_force & EP_SANDBOX_SIGNALS) != 0) == (ep_sandbox_domain_abi() >= 6));
        HOLD(ep_sandbox_word(&report) == (1u | report.in_force << 8 | report.missing << 16));
        return 0;
    });
}

TEST_F(Sandbox, DefaultRefusesWhatReachesOut)
{
    In(EP_SANDBOX_DEFAULT, [](const ep_sandbox_report &) {
        HOLD(Try(SYS_ptrace, 3, getppid(), 0, 0) == EPERM);
        HOLD(Try(SYS_process_vm_readv, getppid(), 0, 0, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_process_vm_writev, getppid(), 0, 0, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_mount, 0, 0, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_umount2, 0, 0) == EPERM);
        HOLD(Try(SYS_bpf, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_perf_event_open, 0, 0, 0, 0, 0) == EPERM);
        HOLD(Try(425 /* io_uring_setup */, 1, 0) == EPERM);
        HOLD(Try(SYS_keyctl, 0, 0, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_reboot, 0, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_init_module, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_setns, -1, 0) == EPERM);
        HOLD(Try(SYS_chroot, "/") == EPERM);
        return 0;
    });
}

/* All bits of arguments count that the kernel looks at, and no others. */
TEST_F(Sandbox, FlagsAreSeenAmongOthers)
{
    In(EP_SANDBOX_DEFAULT, [](const ep_sandbox_report &) {
        const long high = 0x5a5a5a5aL << 32;
        HOLD(Try(SYS_unshare, CLONE_NEWUSER) == EPERM);
        HOLD(Try(SYS_unshare, CLONE_NEWNET | CLONE_FILES) == EPERM);
        HOLD(Try(SYS_unshare, CLONE_FILES) == 0);
        HOLD(Try(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) == EPERM);
        HOLD(Try(SYS_clone, high | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0) == EPERM);
        HOLD(Try(kClone3, 0, 0) == ENOSYS);
        HOLD(Try(SYS_ioctl, -1, TIOCSTI, 0) == EPERM);
        HOLD(Try(SYS_ioctl, -1, high | TIOCSTI, 0) == EPERM);
        HOLD(Try(SYS_ioctl, -1, TIOCGWINSZ, 0) == EBADF);
        return 0;
    });
}

TEST_F(Sandbox, LimitsOfOthersStay)
{
    In(EP_SANDBOX_DEFAULT, [](const ep_sandbox_report &) {
        struct rlimit limit;
        HOLD(Try(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) == 0);
        HOLD(Try(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, nullptr) == 0);
        HOLD(Try(SYS_prlimit64, getppid(), RLIMIT_NOFILE, nullptr, &limit) == 0);
        HOLD(Try(SYS_prlimit64, getppid(), RLIMIT_NOFILE, &limit, nullptr) == EPERM);
        return 0;
    });
}

#ifdef __x86_64__
int Compat(int number, int a)
{
    int result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(0), "d"(0), "S"(0), "D"(0)
                     : "memory");
    return result;
}

/* The same call by its number of x32, and of 32-bit programs. */
TEST_F(Sandbox, OtherWaysIntoTheKernelAreNoWayRound)
{
    constexpr long x32 = 0x40000000;
    pid_t pid = fork();
    if (pid == 0)
        _exit(Compat(20 /* getpid */, 0) == getpid() ? 0 : 1);
    int status;
    ASSERT_EQ(pid, waitpid(pid, &status, 0));
    const bool has_compat = status == 0;

    In(EP_SANDBOX_DEFAULT, [&](const ep_sandbox_report &) {
        HOLD(Try(x32 | SYS_getpid) == ENOSYS);
        HOLD(Try(x32 | 521 /* ptrace */, 3, getppid(), 0, 0) == ENOSYS);
        HOLD(!has_compat || Compat(26 /* ptrace */, 16) == -EPERM);
        HOLD(!has_compat || Compat(310 /* unshare */, CLONE_NEWUSER) == -EPERM);
        HOLD(!has_compat || Compat(20, 0) == getpid());
        return 0;
    });
    In(EP_SANDBOX_STRICT, [&](const ep_sandbox_report &) {
        HOLD(Try(x32 | 520 /* execve */, 0, 0, 0) == ENOSYS);
        HOLD(!has_compat || Compat(20, 0) == -ENOSYS);
        HOLD(!has_compat || Compat(102 /* socketcall */, 1) == -ENOSYS);
        return 0;
    });
}
#endif

TEST_F(Sandbox, OnlyOwnChildrenAreSignalled)
{
    In(EP_SANDBOX_DEFAULT, [](const ep_sandbox_report &report) {
        const bool has_scope = (report.in_force & EP_SANDBOX_SIGNALS) != 0;
        HOLD(Try(SYS_kill, getppid(), 0) == (has_scope ? EPERM : 0));
        HOLD(Try(SYS_kill, getpid(), 0) == 0);
        pid_t child = fork();
        if (child == 0) {
            for (;;)
                pause();
        }
        HOLD(kill(child, SIGKILL) == 0);
        HOLD(waitpid(child, nullptr, 0) == child);
        return 0;
    });
}

TEST_F(Sandbox, OneThatWasForkedIsApartFromItsSiblings)
{
    In(EP_SANDBOX_DEFAULT, [](const ep_sandbox_report &report) {
        pid_t sibling = fork();
        if (sibling == 0) {
            for (;;)
                pause();
        }
        pid_t child = fork();
        if (child == 0) {
            struct ep_sandbox_report again = report;
            ep_sandbox_apply_again(&again);
            const int expected = (report.in_force & EP_SANDBOX_SIGNALS) != 0 ? EPERM : 0;
            _exit(again.in_force == report.in_force && Try(SYS_kill, sibling, 0) == expected
                          && Try(SYS_kill, getppid(), 0) == expected
                      ? 0
                      : 1);
        }
        int status;
        HOLD(waitpid(child, &status, 0) == child && status == 0);
        HOLD(kill(sibling, SIGKILL) == 0 && waitpid(sibling, nullptr, 0) == sibling);
        return 0;
    });
}

TEST_F(Sandbox, ThreadsAreBoundToo)
{
    In(EP_SANDBOX_DEFAULT, [](const ep_sandbox_report &) {
        pthread_t thread;
        void *error = nullptr;
        HOLD(pthread_create(
                 &thread, nullptr,
                 [](void *) -> void * {
                     return reinterpret_cast<void *>(
                         static_cast<intptr_t>(Try(SYS_unshare, CLONE_NEWUTS)));
                 },
                 nullptr)
             == 0);
        HOLD(pthread_join(thread, &error) == 0);
        HOLD(reinterpret_cast<intptr_t>(error) == EPERM);
        return 0;
    });
}

/* Kernels from 5.19 to 6.11: files may be moved although Landlock's domain is there. */
TEST_F(Sandbox, OlderLandlockKeepsOutTracersOnly)
{
    if (ep_sandbox_domain_abi() < 2)
        GTEST_SKIP() << "the kernel has no Landlock that is new enough";
    std::string a = outside_ + "/a", b = temp_ + "/b", c = temp_ + "/c";
    pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        bool good = ep_sandbox_domain_enter(0, nullptr) == 0
                    && ep_sandbox_domain_enter(1, nullptr) == 0
                    && ep_sandbox_domain_enter(2, nullptr) == EP_SANDBOX_TRACING;
        int fd = open(a.c_str(), O_CREAT | O_RDWR, 0600);
        good =
            good && fd >= 0 && rename(a.c_str(), b.c_str()) == 0 && link(b.c_str(), a.c_str()) == 0;
        int nameless = open(outside_.c_str(), O_TMPFILE | O_RDWR, 0600);
        std::string path = "/proc/self/fd/" + std::to_string(nameless);
        good = good && nameless >= 0
               && linkat(AT_FDCWD, path.c_str(), AT_FDCWD, c.c_str(), AT_SYMLINK_FOLLOW) == 0;
        std::string environ = "/proc/" + std::to_string(getppid()) + "/environ";
        int other = open(environ.c_str(), O_RDONLY);
        /* A root with capabilities reads it all the same. */
        good = good && (geteuid() == 0 || other < 0) && kill(getppid(), 0) == 0;
        _exit(good ? 0 : 1);
    }
    int status;
    ASSERT_EQ(pid, waitpid(pid, &status, 0));
    EXPECT_EQ(0, status);
}

TEST_F(Sandbox, StrictRefusesProgramsAndSockets)
{
    In(EP_SANDBOX_STRICT, [](const ep_sandbox_report &) {
        int ends[2];
        HOLD(Try(SYS_execve, "/bin/true", nullptr, nullptr) == EPERM);
        HOLD(Try(SYS_execveat, -1, "/bin/true", nullptr, nullptr, 0) == EPERM);
        HOLD(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
        HOLD(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
        HOLD(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        HOLD(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
        HOLD(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) < 0 && errno == EPERM);
        HOLD(socketpair(AF_UNIX, SOCK_RAW, 0, ends) < 0 && errno == EPERM);
        HOLD(socketpair(AF_TIPC, SOCK_STREAM, 0, ends) < 0 && errno == EPERM);
        HOLD(connect(ends[0], nullptr, 0) < 0 && errno == EPERM);
        HOLD(Try(SYS_fchmod, ends[0], 0) == EPERM);
        HOLD(Try(452 /* fchmodat2 */, -1, "", 0, 0) == EPERM);
        HOLD(Try(463 /* setxattrat */, -1, "", 0, 0, 0, 0) == EPERM);
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        HOLD(waitpid(child, nullptr, 0) == child);
        return 0;
    });
}

TEST_F(Sandbox, StrictWritesInOneDirectory)
{
    std::string inside = temp_ + "/file", outside = outside_ + "/file", moved = outside_ + "/moved";
    int fd = open(outside.c_str(), O_CREAT | O_RDWR, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(4, write(fd, "text", 4));
    In(EP_SANDBOX_STRICT, [&](const ep_sandbox_report &report) {
        if ((report.missing & EP_SANDBOX_FILES) != 0)
            return 0;
        HOLD(open(inside.c_str(), O_CREAT | O_RDWR, 0600) >= 0);
        HOLD(open(outside.c_str(), O_RDONLY) >= 0);
        HOLD(open(outside.c_str(), O_RDWR) < 0 && errno == EACCES);
        HOLD(open(outside.c_str(), O_RDONLY | O_TRUNC) < 0 && errno == EACCES);
        HOLD(unlink(outside.c_str()) < 0 && errno == EACCES);
        HOLD(rename(inside.c_str(), moved.c_str()) < 0);
        HOLD(open("/dev/null", O_RDWR) >= 0);
        /* What was open before stays so. */
        HOLD(write(fd, "more", 4) == 4);
        return 0;
    });
    struct stat stat;
    EXPECT_TRUE(fstat(fd, &stat) == 0 && stat.st_size == 8);
    close(fd);
}

TEST_F(Sandbox, SaysWhatStrictLacks)
{
    struct ep_sandbox_report report = {};
    char why[EP_SANDBOX_WHY_SIZE];
    report.level = EP_SANDBOX_STRICT;
    report.missing = EP_SANDBOX_SIGNALS;
    ep_sandbox_explain(&report, why, sizeof(why));
    EXPECT_NE(nullptr, strstr(why, "Landlock ABI 6 (Linux 6.12)"));
    report.missing = EP_SANDBOX_SECCOMP;
    ep_sandbox_explain(&report, why, sizeof(why));
    EXPECT_NE(nullptr, strstr(why, "seccomp filter"));
    EXPECT_LT(strlen(why), 450u);
}

TEST_F(Sandbox, ItStaysReadableToItsParent)
{
    int ends[2];
    ASSERT_EQ(0, pipe(ends));
    pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        struct ep_sandbox_report report;
        ep_sandbox_apply(EP_SANDBOX_DEFAULT, nullptr, &report);
        (void)!write(ends[1], "x", 1);
        for (;;)
            pause();
    }
    char byte;
    ASSERT_EQ(1, read(ends[0], &byte, 1));
    int fd = open(("/proc/" + std::to_string(pid) + "/environ").c_str(), O_RDONLY);
    EXPECT_GE(fd, 0);
    close(fd);
    EXPECT_EQ(0, kill(pid, SIGKILL));
    EXPECT_EQ(pid, waitpid(pid, nullptr, 0));
    close(ends[0]);
    close(ends[1]);
}

} // namespace
