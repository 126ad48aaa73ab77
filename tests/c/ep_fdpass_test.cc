// SPDX-License-Identifier: Apache-2.0
#include "ep_fdpass.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <string>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

namespace {

size_t OpenFds()
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir) != nullptr)
        n++;
    closedir(dir);
    return n;
}

class FdpassTest : public testing::Test {
protected:
    FdpassTest()
    {
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_), 0);
        for (int &fd : some_)
            fd = eventfd(0, EFD_CLOEXEC);
        before_ = OpenFds();
    }

    ~FdpassTest() override
    {
        for (int fd : ends_)
            close(fd);
        for (int fd : some_)
            close(fd);
    }

    // A peer that keeps to no rule: any number of fds, any data.
    void SendRaw(const void *data, size_t size, size_t n_fds)
    {
        std::vector<int> fds(n_fds, some_[0]);
        std::vector<char> control(CMSG_SPACE(n_fds * sizeof(int)));
        iovec iov = {const_cast<void *>(data), size};
        msghdr msg = {};
        msg.msg_iov = &iov;
        msg.msg_iovlen = 1;
        msg.msg_control = control.data();
        msg.msg_controllen = control.size();
        cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        std::memcpy(CMSG_DATA(cmsg), fds.data(), n_fds * sizeof(int));
        ASSERT_EQ(sendmsg(ends_[0], &msg, 0), static_cast<ssize_t>(size));
    }

    int ends_[2];
    int some_[EP_FDPASS_MAX];
    size_t before_;
    char data_[64] = {};
    int fds_[EP_FDPASS_MAX];
};

TEST_F(FdpassTest, CarriesAMessageWithoutFds)
{
    ASSERT_EQ(ep_fdpass_send(ends_[0], "hello", 6, nullptr, 0), 0);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), 6);
    EXPECT_STREQ(data_, "hello");
    for (int fd : fds_)
        EXPECT_EQ(fd, -1);
}

TEST_F(FdpassTest, CarriesFdsInOrderCloseOnExec)
{
    for (size_t n = 1; n <= EP_FDPASS_MAX; n++) {
        ASSERT_EQ(ep_fdpass_send(ends_[0], "x", 1, some_, n), 0);
        ASSERT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), 1);
        for (size_t i = 0; i < EP_FDPASS_MAX; i++) {
            if (i >= n) {
                EXPECT_EQ(fds_[i], -1);
                continue;
            }
            EXPECT_EQ(fcntl(fds_[i], F_GETFD), FD_CLOEXEC);
            eventfd_t value = 0;
            ASSERT_EQ(eventfd_write(some_[i], i + 1), 0);
            ASSERT_EQ(eventfd_read(fds_[i], &value), 0);
            EXPECT_EQ(value, i + 1) << "the same file";
            close(fds_[i]);
        }
    }
    EXPECT_EQ(OpenFds(), before_);
}

TEST_F(FdpassTest, KeepsMessagesApart)
{
    ASSERT_EQ(ep_fdpass_send(ends_[0], "one", 3, some_, 1), 0);
    ASSERT_EQ(ep_fdpass_send(ends_[0], "three", 5, nullptr, 0), 0);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), 3);
    EXPECT_GE(fds_[0], 0);
    close(fds_[0]);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), 5);
    EXPECT_EQ(fds_[0], -1);
}

TEST_F(FdpassTest, NeverBlocks)
{
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), -EAGAIN);
    int rc = 0, n = 0;
    while (n < 1000000 && (rc = ep_fdpass_send(ends_[0], data_, sizeof(data_), nullptr, 0)) == 0)
        n++;
    EXPECT_EQ(rc, -EAGAIN);
    EXPECT_GT(n, 0);
}

TEST_F(FdpassTest, RefusesTooManyFds)
{
    int many[EP_FDPASS_MAX + 1] = {};
    EXPECT_EQ(ep_fdpass_send(ends_[0], "x", 1, many, EP_FDPASS_MAX + 1), -EINVAL);
}

TEST_F(FdpassTest, ReportsAPeerThatDiedOnceItsMessagesAreRead)
{
    ASSERT_EQ(ep_fdpass_send(ends_[0], "last", 4, nullptr, 0), 0);
    close(ends_[0]);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), 4);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), -EPIPE);
    EXPECT_EQ(ep_fdpass_send(ends_[1], "x", 1, nullptr, 0), -EPIPE) << "and no signal";
    ends_[0] = -1;
}

TEST_F(FdpassTest, ReportsAPeerThatDiedWithUnreadMail)
{
    ASSERT_EQ(ep_fdpass_send(ends_[1], "x", 1, nullptr, 0), 0);
    close(ends_[0]);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), -EPIPE);
    ends_[0] = -1;
}

TEST_F(FdpassTest, ReportsAMessageThatIsTooLongAndClosesItsFds)
{
    std::vector<char> longer(sizeof(data_) + 1);
    SendRaw(longer.data(), longer.size(), 2);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), -EPROTO);
    for (int fd : fds_)
        EXPECT_EQ(fd, -1);
    EXPECT_EQ(OpenFds(), before_);
}

TEST_F(FdpassTest, TakesTheMessageWithoutFdsWhenThePeerSendsTooMany)
{
    SendRaw("x", 1, 100);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), 1);
    for (int fd : fds_)
        EXPECT_EQ(fd, -1);
    EXPECT_EQ(OpenFds(), before_);
}

TEST_F(FdpassTest, TakesTheMessageWithoutFdsWhenThereAreNoNumbersForThem)
{
    struct rlimit was;
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &was), 0);
    SendRaw("x", 1, 2);
    struct rlimit none = was;
    none.rlim_cur = (rlim_t)dup(0); // the next free number but one
    close((int)none.rlim_cur);
    none.rlim_cur++;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), 1);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &was), 0);
    for (int fd : fds_)
        EXPECT_EQ(fd, -1);
    EXPECT_EQ(OpenFds(), before_);
}

TEST_F(FdpassTest, ClosesTheFdsOfAnEmptyMessage)
{
    SendRaw("", 0, 2);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), fds_), -EPIPE);
    EXPECT_EQ(OpenFds(), before_);
}

TEST_F(FdpassTest, LetsTheKernelDiscardFdsThatNobodyWants)
{
    SendRaw("x", 1, 3);
    EXPECT_EQ(ep_fdpass_receive(ends_[1], data_, sizeof(data_), nullptr), 1);
    EXPECT_EQ(OpenFds(), before_);
}

} // namespace
