/* SPDX-License-Identifier: Apache-2.0 */

/* Zygotes, in whose place are a shell or a Python script; its socket is fd 8. */

#include "ep_launcher_fixture.h"

namespace {

class LauncherZygoteTest : public LauncherTest {};

void expect_failed(const ep_control_event &event, uint64_t id, int error)
{
    EXPECT_EQ(EP_CONTROL_FAILED, event.kind);
    EXPECT_EQ(id, event.worker_id);
    EXPECT_EQ(error, event.value);
}

TEST_F(LauncherZygoteTest, RefusesAForkOfAZygoteThatIsNotThere)
{
    pid_t pid;
    int pidfd;
    spawn(1, "exec sleep 1000", &pid, &pidfd);
    ask(2, "", "", "", EP_CONTROL_FORK, 1); /* it is no zygote */
    expect_failed(receive(), 2, ESRCH);
    ask(3, "", "", "", EP_CONTROL_FORK, 77);
    expect_failed(receive(), 3, ESRCH);
}

TEST_F(LauncherZygoteTest, FailsWhatADeadZygoteWasToFork)
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

/* It would hold starts up, and nobody else can know. */
TEST_F(LauncherZygoteTest, EndsAZygoteThatIsStopped)
{
    pid_t pid;
    int pidfd;
    spawn(1, "exec sleep 1000", &pid, &pidfd, "/bin/sh", "", EP_CONTROL_ZYGOTE);
    ask(2, "", "", "", EP_CONTROL_FORK, 1);
    kill(pid, SIGSTOP);
    bool has_failed = false, has_exited = false;
    while (!has_failed || !has_exited) {
        ep_control_event event = receive();
        has_failed |= event.kind == EP_CONTROL_FAILED && event.worker_id == 2;
        if (event.kind == EP_CONTROL_EXITED) {
            EXPECT_EQ(256 + SIGKILL, event.value);
            has_exited = true;
        }
    }
}

/* That is for the user to do. */
TEST_F(LauncherZygoteTest, LeavesAWorkerThatIsStopped)
{
    pid_t pid;
    int pidfd;
    spawn(1,
          "(while [ $(cut -d' ' -f3 /proc/$$/stat) != T ]; do :; done; kill -CONT $$) & "
          "kill -STOP $$; exit 5",
          &pid, &pidfd);
    ep_control_event event = receive();
    EXPECT_EQ(EP_CONTROL_EXITED, event.kind);
    EXPECT_EQ(5, event.value);
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

TEST_F(LauncherZygoteTest, BelievesAZygoteOfItsGrandchildOnly)
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
        expect_failed(receive(), id + 100, ECHILD);
    }
}

TEST_F(LauncherZygoteTest, IsTheParentOfWhatAZygoteForks)
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

} // namespace
