/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_LAUNCHER_FIXTURE_H
#define EP_LAUNCHER_FIXTURE_H

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

} // namespace

#endif
