/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A real ep_launcher, with the test in the place of the VM and shell commands in
 * the place of workers: /bin/sh is executed with the arguments "-c" COMMAND, which
 * travel as python_path and module_path.
 */

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <poll.h>
#include <sched.h>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ep_control.h"
#include "ep_fdpass.h"
}

namespace {

constexpr int kTimeoutMs = 10000;
const uint8_t kToken[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};

int open_pidfd(pid_t pid)
{
    return static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
}

/* Whether the process of the pidfd ends in time. */
bool ends(int pidfd, int timeout_ms = kTimeoutMs)
{
    pollfd fd = {pidfd, POLLIN, 0};
    return poll(&fd, 1, timeout_ms) == 1;
}

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

class LauncherTest : public ::testing::Test {
protected:
    void SetUp() override
    {
        const char *program = getenv("EP_LAUNCHER_PATH");
#ifdef EP_LAUNCHER_PATH
        if (program == nullptr)
            program = EP_LAUNCHER_PATH;
#endif
        ASSERT_NE(nullptr, program) << "EP_LAUNCHER_PATH is not set";
        sockaddr_un address = {};
        socklen_t size = sizeof(sa_family_t);
        int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        address.sun_family = AF_UNIX;
        /* The kernel picks an abstract name. */
        ASSERT_EQ(0, bind(listener, reinterpret_cast<sockaddr *>(&address), size));
        size = sizeof(address);
        ASSERT_EQ(0, getsockname(listener, reinterpret_cast<sockaddr *>(&address), &size));
        ASSERT_EQ(0, listen(listener, 1));
        std::string name(address.sun_path + 1, size - sizeof(sa_family_t) - 1);
        ASSERT_NO_FATAL_FAILURE(start(program, name));
        pollfd fd = {listener, POLLIN, 0};
        ASSERT_EQ(1, poll(&fd, 1, kTimeoutMs));
        socket_ = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        ASSERT_GE(socket_, 0);
        close(listener);

        ep_control_event event = receive();
        ASSERT_EQ(EP_CONTROL_READY, event.kind);
        ASSERT_EQ(0, memcmp(kToken, event.token, sizeof(kToken)));
    }

    void TearDown() override
    {
        close_vm();
        if (launcher_ > 0) {
            EXPECT_TRUE(ends(launcher_pidfd_));
            kill(launcher_, SIGKILL);
            waitpid(launcher_, nullptr, 0);
        }
        for (int fd : fds_)
            close(fd);
    }

    void start(const std::string &program, const std::string &name)
    {
        int to[2], from[2];
        ASSERT_EQ(0, pipe2(to, O_CLOEXEC));
        ASSERT_EQ(0, pipe2(from, O_CLOEXEC));
        launcher_ = fork();
        ASSERT_GE(launcher_, 0);
        if (launcher_ == 0) {
            int in = fcntl(to[0], F_DUPFD_CLOEXEC, 20), out = fcntl(from[1], F_DUPFD_CLOEXEC, 20);
            signal(SIGFPE, SIG_IGN);  /* as the VM's port driver leaves it */
            signal(SIGUSR2, SIG_IGN); /* as the VM was started */
            sigset_t blocked;
            sigemptyset(&blocked);
            sigaddset(&blocked, SIGUSR1);
            sigprocmask(SIG_SETMASK, &blocked, nullptr);
            dup2(in, 3);
            dup2(out, 4);
            execl(program.c_str(), "ep_launcher", name.c_str(), static_cast<char *>(nullptr));
            _exit(127);
        }
        close(to[0]);
        close(from[1]);
        port_ = to[1];
        ASSERT_EQ(static_cast<ssize_t>(sizeof(kToken)), write(port_, kToken, sizeof(kToken)));
        fds_.push_back(from[0]);
        launcher_pidfd_ = open_pidfd(launcher_);
        fds_.push_back(launcher_pidfd_);
    }

    void close_vm()
    {
        if (socket_ >= 0)
            close(socket_);
        if (port_ >= 0)
            close(port_);
        socket_ = port_ = -1;
    }

    ep_control_event receive(int *ret_fd = nullptr)
    {
        ep_control_event event = {};
        int fds[EP_FDPASS_MAX];
        pollfd fd = {socket_, POLLIN, 0};
        EXPECT_EQ(1, poll(&fd, 1, kTimeoutMs));
        EXPECT_EQ(static_cast<ssize_t>(sizeof(event)),
                  ep_fdpass_receive(socket_, &event, sizeof(event), fds));
        EXPECT_EQ(EP_CONTROL_VERSION, event.version);
        if (ret_fd != nullptr) {
            *ret_fd = fds[0];
            fds_.push_back(fds[0]);
        } else if (fds[0] >= 0) {
            close(fds[0]);
        }
        return event;
    }

    /* Takes what a dead worker wrote last, which comes before how it ended. */
    std::string wrote(uint64_t id)
    {
        ep_control_words words = {};
        pollfd fd = {socket_, POLLIN, 0};
        EXPECT_EQ(1, poll(&fd, 1, kTimeoutMs));
        ssize_t n = ep_fdpass_receive(socket_, &words, sizeof(words), nullptr);
        EXPECT_EQ(EP_CONTROL_WROTE, words.event.kind);
        EXPECT_EQ(id, words.event.worker_id);
        EXPECT_EQ(n, static_cast<ssize_t>(sizeof(words.event)) + words.event.value);
        return std::string(words.text, static_cast<size_t>(words.event.value));
    }

    /* Starts a worker whose fds are all the write end of one pipe, and returns
     * the read end. */
    int spawn(uint64_t id, const std::string &command, pid_t *ret_pid, int *ret_pidfd,
              const char *program = "/bin/sh", const std::string &settings = "",
              ep_control_request_kind kind = EP_CONTROL_SPAWN)
    {
        int fd = ask(id, command, program, settings, kind);
        ep_control_event event = receive(ret_pidfd);
        EXPECT_EQ(EP_CONTROL_SPAWNED, event.kind);
        EXPECT_EQ(id, event.worker_id);
        EXPECT_GE(*ret_pidfd, 0);
        *ret_pid = static_cast<pid_t>(event.value);
        return fd;
    }

    int ask(uint64_t id, const std::string &command, const char *program,
            const std::string &settings, ep_control_request_kind kind, uint64_t zygote = 0)
    {
        int ends_of_pipe[2];
        ep_control_request request = {};
        EXPECT_EQ(0, pipe2(ends_of_pipe, O_CLOEXEC));
        int fds[EP_WORKER_FDS];
        std::fill(std::begin(fds), std::end(fds), ends_of_pipe[1]);
        request.version = EP_CONTROL_VERSION;
        request.kind = kind;
        request.worker_id = id;
        request.zygote_id = zygote;
        strcpy(request.worker_path, program);
        strcpy(request.python_path, "-c");
        strcpy(request.module_path, command.c_str());
        request.settings_size = static_cast<uint32_t>(settings.size());
        memcpy(request.settings, settings.data(), settings.size());
        EXPECT_EQ(0,
                  ep_fdpass_send(socket_, &request, ep_control_request_size(request.settings_size),
                                 fds, EP_WORKER_FDS));
        close(ends_of_pipe[1]);
        fds_.push_back(ends_of_pipe[0]);
        return ends_of_pipe[0];
    }

    /* Reads one line that the worker, or a descendant, writes to its fd 3. */
    static std::string read_line(int fd)
    {
        std::string line;
        char c;
        pollfd p = {fd, POLLIN, 0};
        while (poll(&p, 1, kTimeoutMs) == 1 && read(fd, &c, 1) == 1 && c != '\n')
            line += c;
        return line;
    }

    int socket_ = -1;
    int port_ = -1;
    pid_t launcher_ = -1;
    int launcher_pidfd_ = -1;
    std::vector<int> fds_;
};

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

/* --- zygotes: a shell or a Python script in the place of one, its socket is fd 8 ------------ */

void expect_failed(const ep_control_event &event, uint64_t id, int error)
{
    EXPECT_EQ(EP_CONTROL_FAILED, event.kind);
    EXPECT_EQ(id, event.worker_id);
    EXPECT_EQ(error, event.value);
}

TEST_F(LauncherTest, RefusesAForkOfAZygoteThatIsNotThere)
{
    pid_t pid;
    int pidfd;
    spawn(1, "exec sleep 1000", &pid, &pidfd);
    ask(2, "", "", "", EP_CONTROL_FORK, 1); /* it is no zygote */
    expect_failed(receive(), 2, ESRCH);
    ask(3, "", "", "", EP_CONTROL_FORK, 77);
    expect_failed(receive(), 3, ESRCH);
}

TEST_F(LauncherTest, FailsWhatADeadZygoteWasToFork)
{
    pid_t pid;
    int pidfd;
    spawn(1, "exec sleep 1000", &pid, &pidfd, "/bin/sh", "", EP_CONTROL_ZYGOTE);
    ask(2, "", "", "", EP_CONTROL_FORK, 1);
    ask(3, "", "", "", EP_CONTROL_FORK, 1);
    kill(pid, SIGKILL);
    std::vector<uint64_t> failed;
    bool has_exited = false;
    for (int i = 0; i < 3; i++) {
        ep_control_event event = receive();
        if (event.kind == EP_CONTROL_FAILED)
            failed.push_back(event.worker_id);
        else
            has_exited = event.kind == EP_CONTROL_EXITED && event.worker_id == 1;
    }
    std::sort(failed.begin(), failed.end());
    EXPECT_EQ((std::vector<uint64_t>{2, 3}), failed);
    EXPECT_TRUE(has_exited);
    ask(4, "", "", "", EP_CONTROL_FORK, 1);
    expect_failed(receive(), 4, ESRCH);
}

/* Receives what is to be prepared, then FORK, and answers with the pid of VALUE. */
std::string zygote(const std::string &value)
{
    return "import os, socket, struct, sys, time\n"
           "s = socket.socket(fileno=8)\n"
           "s.recv(100000)\n"
           "m, fds, *_ = socket.recv_fds(s, 100000, 6)\n"
           "version, kind, worker, zygote = struct.unpack_from('IIQQ', m)\n"
           "r, w = os.pipe()\n"
           "def say(pid):\n"
           "    socket.send_fds(s, [struct.pack('IIQq16x', version, 6, worker, pid)], [w])\n"
           "    os.close(w)\n"
           "    os.read(r, 1)\n"
           + value;
}

TEST_F(LauncherTest, BelievesAZygoteOfItsGrandchildOnly)
{
    const char *lies[] = {"say(os.getppid())\ntime.sleep(1000)",
                          "say(os.getpid())\ntime.sleep(1000)", "say(1)\ntime.sleep(1000)",
                          "say(-1)\ntime.sleep(1000)", "say(0)\ntime.sleep(1000)"};
    uint64_t id = 10;
    for (const char *lie : lies) {
        pid_t pid;
        int pidfd;
        spawn(++id, zygote(lie), &pid, &pidfd, "/usr/bin/python3", "", EP_CONTROL_ZYGOTE);
        ask(id + 100, "", "", "", EP_CONTROL_FORK, id);
        expect_failed(receive(), id + 100, ESRCH);
    }
}

TEST_F(LauncherTest, IsTheParentOfWhatAZygoteForks)
{
    pid_t pid;
    int pidfd, worker;
    spawn(1,
          zygote("if os.fork() == 0:\n"
                 "    pid = os.fork()\n"
                 "    if pid == 0:\n"
                 "        os.close(w)\n"
                 "        os.setpgid(0, 0)\n"
                 "        os.read(r, 1)\n"
                 "        while os.getppid() != int(open('/proc/%d/stat' % "
                 "zygote_pid).read().rsplit(')')[1].split()[1]): pass\n"
                 "        os._exit(7)\n"
                 "    say(pid)\n"
                 "    os._exit(0)\n"
                 "os.close(w)\n"
                 "os.wait()\n"
                 "time.sleep(1000)")
              .replace(0, 0, "import os\nzygote_pid = os.getpid()\n"),
          &pid, &pidfd, "/usr/bin/python3", "", EP_CONTROL_ZYGOTE);
    ask(2, "", "", "", EP_CONTROL_FORK, 1);
    ep_control_event event = receive(&worker);
    EXPECT_EQ(EP_CONTROL_SPAWNED, event.kind);
    EXPECT_EQ(2u, event.worker_id);
    EXPECT_GT(event.value, 1);
    event = receive();
    EXPECT_EQ(EP_CONTROL_EXITED, event.kind);
    EXPECT_EQ(2u, event.worker_id);
    EXPECT_EQ(7, event.value);
    EXPECT_TRUE(ends(worker));
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
