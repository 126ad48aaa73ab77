/* SPDX-License-Identifier: Apache-2.0 */

/* What the launcher promises the VM. */

#include "ep_launcher_fixture.h"

namespace {
/*
 * What the machine needs at the moment for the ends of a few processes that have
 * nothing to do: the control of those that the launcher sees to.
 */
std::chrono::milliseconds plain_ends_take()
{
    std::vector<pid_t> pids;
    std::vector<int> pidfds;
    for (int i = 0; i < 9; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            pause();
            _exit(0);
        }
        pids.push_back(pid);
        pidfds.push_back(open_pidfd(pid));
    }
    auto start = std::chrono::steady_clock::now();
    for (pid_t pid : pids)
        kill(pid, SIGKILL);
    for (int fd : pidfds)
        EXPECT_TRUE(ends(fd));
    auto took = std::chrono::steady_clock::now() - start;
    for (int fd : pidfds)
        close(fd);
    for (pid_t pid : pids)
        waitpid(pid, nullptr, 0);
    return std::chrono::duration_cast<std::chrono::milliseconds>(took);
}

TEST_F(LauncherTest, AppliesSettingsBeforeItExecutesTheWorker)
{
    pid_t pid;
    int pidfd;
    const char settings[] = "/\0\0EP_TEST_A=1\0EP_TEST_B=a b\0EP_TEST_A\0EP_TEST_B=c=d";
    int fd = spawn(1, "echo \"$PWD|$EP_TEST_A|$EP_TEST_B\" >&3", &pid, &pidfd, "/bin/sh",
                   std::string(settings, sizeof(settings)));
    EXPECT_EQ("/||c=d", read_line(fd));
    EXPECT_EQ(EP_CONTROL_EXITED, receive().kind);
    close(pidfd);
}

TEST_F(LauncherTest, LimitsThePrivateMemoryOfTheWorker)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "what the sanitizer takes for itself is more than the limit";
#endif
    pid_t pid;
    int pidfd;
    const char settings[] = "\0"
                            "123456789";
    int fd = spawn(1, "ulimit -d >&3", &pid, &pidfd, "/bin/bash",
                   std::string(settings, sizeof(settings)));
    EXPECT_EQ("120563", read_line(fd)); /* KiB */
    EXPECT_EQ(EP_CONTROL_EXITED, receive().kind);
}

TEST_F(LauncherTest, ReportsExitCodesAndSignals)
{
    const struct {
        const char *command;
        int64_t value;
    } cases[] = {
        {"exit 0", 0},
        {"exit 71", 71},
        {"exit 137", 137},
        {"kill -SEGV $$", 256 + SIGSEGV},
        {"kill -KILL $$", 256 + SIGKILL},
    };
    uint64_t id = 40;
    for (const auto &c : cases) {
        pid_t pid;
        int pidfd;
        spawn(++id, c.command, &pid, &pidfd);
        ep_control_event event = receive();
        EXPECT_EQ(EP_CONTROL_EXITED, event.kind);
        EXPECT_EQ(id, event.worker_id);
        EXPECT_EQ(c.value, event.value) << c.command;
        EXPECT_TRUE(ends(pidfd));
    }
}

/* As the VM asks where it has no descriptor left to watch it by. */
TEST_F(LauncherTest, KillsAWorkerThatTheVmGivesUp)
{
    pid_t pid;
    int pidfd;
    spawn(5, "exec sleep 1000", &pid, &pidfd);
    ep_control_request request = {};
    request.version = EP_CONTROL_VERSION;
    request.kind = EP_CONTROL_KILL;
    request.worker_id = 5;
    EXPECT_EQ(0, ep_fdpass_send(socket_, &request, ep_control_request_size(0), nullptr, 0));
    ep_control_event event = receive();
    EXPECT_EQ(EP_CONTROL_EXITED, event.kind);
    EXPECT_EQ(256 + SIGKILL, event.value);
}

TEST_F(LauncherTest, ReportsAProgramThatDoesNotExist)
{
    pid_t pid;
    int pidfd;
    spawn(7, "", &pid, &pidfd, "/no/such/program");
    EXPECT_EQ("ep_launcher: cannot execute /no/such/program: No such file or directory\n",
              wrote(7));
    ep_control_event event = receive();
    EXPECT_EQ(EP_CONTROL_EXITED, event.kind);
    EXPECT_EQ(127, event.value);
}

/* The pipe holds less than this. */
TEST_F(LauncherTest, KeepsTheEndOfWhatAWorkerWrites)
{
    pid_t pid;
    int pidfd;
    spawn(3, "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i + 1)); done", &pid, &pidfd);
    std::string text = wrote(3);
    EXPECT_EQ(EP_CONTROL_TEXT_MAX, text.size());
    EXPECT_EQ("line 19998\nline 19999\n", text.substr(text.size() - 22));
    EXPECT_EQ(0, receive().value);
}

/* Whoever closed it is not asked again and again. */
TEST_F(LauncherTest, GoesOnWithAWorkerThatClosesItsStandardError)
{
    pid_t pid;
    int pidfd;
    int out = spawn(4, "echo before >&2; exec 2>&-; echo closed >&3; cat; exit 5", &pid, &pidfd);
    EXPECT_EQ("closed", read_line(out));
    EXPECT_EQ("before\n", wrote(4));
    EXPECT_EQ(5, receive().value);
}

TEST_F(LauncherTest, GivesWorkersTheirFdsAndNoOthers)
{
    pid_t pid;
    int pidfd;
    int out = spawn(1,
                    "n=0; while [ $n -lt 64 ]; do [ -e /proc/$$/fd/$n ] && l=\"$l $n\"; "
                    "n=$((n + 1)); done; echo $l >&3; echo 4 >&4; echo 6 >&6; cat",
                    &pid, &pidfd);
    EXPECT_EQ("0 1 2 3 4 5 6 7", read_line(out));
    EXPECT_EQ("4", read_line(out));
    EXPECT_EQ("6", read_line(out));
    /* cat read the end of /dev/null. */
    EXPECT_EQ(0, receive().value);
}

/* What the test had ignored and blocked, and nothing that the VM had for itself. */
TEST_F(LauncherTest, StartsWorkersWithACleanState)
{
    pid_t pid;
    int pidfd;
    int out = spawn(1,
                    "set -- $(cat /proc/$$/stat); echo $5 >&3; "
                    "grep -E 'Sig(Blk|Ign)' /proc/self/status | tr -d '\\n\\t' >&3; echo >&3; "
                    "ulimit -c >&3",
                    &pid, &pidfd);
    EXPECT_EQ(std::to_string(pid), read_line(out)); /* its own process group */
    EXPECT_EQ("SigBlk:0000000000000200SigIgn:0000000000000800", read_line(out));
    EXPECT_EQ("0", read_line(out));
}

TEST_F(LauncherTest, KillsWhatADeadWorkerLeavesBehind)
{
    pid_t pid;
    int pidfd;
    /* One child in the group, one daemon in a session of its own. */
    int out =
        spawn(1,
              "sleep 1000 & echo $! >&3; (setsid sh -c 'echo $$ >&3; sleep 1000 & echo $! >&3; "
              "wait' &); wait",
              &pid, &pidfd);
    std::vector<int> pidfds;
    for (int i = 0; i < 3; i++) {
        int fd = open_pidfd(atoi(read_line(out).c_str()));
        ASSERT_GE(fd, 0);
        pidfds.push_back(fd);
        fds_.push_back(fd);
    }
    kill(pid, SIGKILL);
    EXPECT_EQ(256 + SIGKILL, receive().value);
    for (int fd : pidfds)
        EXPECT_TRUE(ends(fd));
}

TEST_F(LauncherTest, LeavesDaemonsOfLivingWorkersAlone)
{
    pid_t pid_a, pid_b;
    int pidfd_a, pidfd_b;
    int out = spawn(1, "(setsid sh -c 'echo $$ >&3; exec sleep 1000' &); exec sleep 1000", &pid_a,
                    &pidfd_a);
    int daemon = open_pidfd(atoi(read_line(out).c_str()));
    ASSERT_GE(daemon, 0);
    fds_.push_back(daemon);
    spawn(2, "exit 3", &pid_b, &pidfd_b);
    EXPECT_EQ(3, receive().value);
    spawn(3, "exit 4", &pid_b, &pidfd_b); /* by now the launcher has swept */
    EXPECT_EQ(4, receive().value);
    EXPECT_FALSE(ends(daemon, 0));
    kill(pid_a, SIGKILL);
    EXPECT_EQ(256 + SIGKILL, receive().value);
    EXPECT_TRUE(ends(daemon));
}

class LauncherEndTest : public LauncherTest, public ::testing::WithParamInterface<int> {};

/* 0: the socket is closed, 1: the pipe is closed, 2: something is written to it, 3: SIGKILL. */
TEST_P(LauncherEndTest, TakesEverythingAlong)
{
    std::vector<int> pidfds, leftovers;
    for (uint64_t id = 1; id <= 3; id++) {
        pid_t pid;
        int pidfd;
        int out = spawn(id,
                        "trap '' TERM HUP; sleep 1000 & echo $! >&3; "
                        "(setsid sh -c 'echo $$ >&3; exec sleep 1000' &); wait",
                        &pid, &pidfd);
        pidfds.push_back(pidfd);
        for (int i = 0; i < 2; i++) {
            int fd = open_pidfd(atoi(read_line(out).c_str()));
            ASSERT_GE(fd, 0);
            fds_.push_back(fd);
            /* When the launcher itself is killed, only workers are sure to go. */
            (GetParam() == 3 ? leftovers : pidfds).push_back(fd);
        }
    }
    auto start = std::chrono::steady_clock::now();
    if (GetParam() == 0) {
        close(socket_);
        socket_ = -1;
    } else if (GetParam() == 1) {
        close(port_);
        port_ = -1;
    } else if (GetParam() == 2) {
        EXPECT_EQ(1, write(port_, "e", 1));
    } else {
        kill(launcher_, SIGKILL);
    }
    for (int fd : pidfds)
        EXPECT_TRUE(ends(fd));
    EXPECT_TRUE(ends(launcher_pidfd_));
    for (int fd : leftovers)
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, nullptr, 0);
    auto took = std::chrono::steady_clock::now() - start;
    /* The launcher wakes, kills, and is told of each end: some ends one after the other. */
    EXPECT_LE(std::chrono::duration_cast<std::chrono::milliseconds>(took).count(),
              250 + 10 * plain_ends_take().count());
    int status;
    EXPECT_EQ(launcher_, waitpid(launcher_, &status, 0));
    EXPECT_EQ(GetParam() == 3 ? SIGKILL : 0, status);
    launcher_ = -1;
}

INSTANTIATE_TEST_SUITE_P(EveryWay, LauncherEndTest, ::testing::Range(0, 4));

/* A signal to all processes of a node is the VM's to judge. */
TEST_F(LauncherTest, OutlivesSignalsThatAreForTheVm)
{
    pid_t pid;
    int pidfd;
    for (int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT})
        kill(launcher_, number);
    spawn(1, "exit 3", &pid, &pidfd);
    EXPECT_EQ(3, receive().value);
    EXPECT_FALSE(ends(launcher_pidfd_, 0));
}

/* Stands for Python's tracker: it has that code among its arguments, waits for the end of a
 * pipe, and says then which of the processes whose numbers it was told are still there. The
 * worker's other children hold the pipe: one in its group, one that is a daemon. */
const char kTracked[] =
    "{ setsid sh -c 'echo $$; exec sleep 1000' & sh -c 'echo $$; trap \"\" HUP; exec sleep 1000' & "
    "} "
    "| sh -c 'trap \"\" TERM; all=; while read pid; do all=\"$all $pid\"; echo have >&3; done; "
    "for pid in $all; do [ -d /proc/$pid ] && echo left $pid >&3; done; echo cleaned >&3' "
    "'from multiprocessing.resource_tracker import main;main(5)' & ";

class LauncherTrackerTest : public LauncherTest, public ::testing::WithParamInterface<int> {};

/* 0: the worker exits, 1: it is killed, 2: the VM ends. */
TEST_P(LauncherTrackerTest, LetsTrackersEndLast)
{
    pid_t pid;
    int pidfd;
    int out = spawn(1, std::string(kTracked) + "trap 'exit 7' ALRM; while :; do sleep 0.01; done",
                    &pid, &pidfd);
    EXPECT_EQ("have", read_line(out));
    EXPECT_EQ("have", read_line(out));
    if (GetParam() < 2)
        kill(pid, GetParam() == 0 ? SIGALRM : SIGKILL);
    if (GetParam() == 2)
        close_vm();
    EXPECT_TRUE(ends(pidfd));
    EXPECT_EQ("cleaned", read_line(out));
    if (GetParam() < 2) {
        EXPECT_EQ(GetParam() == 0 ? 7 : 256 + SIGKILL, receive().value);
        /* Its number is free again: nothing keeps it. */
        while (kill(pid, 0) == 0)
            sched_yield();
    }
}

INSTANTIATE_TEST_SUITE_P(EveryWay, LauncherTrackerTest, ::testing::Range(0, 3));

TEST_F(LauncherTest, EndsWhenItIsSentRubbish)
{
    EXPECT_EQ(0, ep_fdpass_send(socket_, "rubbish", 7, nullptr, 0));
    EXPECT_TRUE(ends(launcher_pidfd_));
}

} // namespace
