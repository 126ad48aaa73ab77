// SPDX-License-Identifier: Apache-2.0
#include "ep_seg.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace {

constexpr size_t kSize = 4 * 4096;

int Duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

// What a peer would do to get a writable mapping of fd.
bool CanBeMappedWritable(int fd)
{
    void *mem = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mem == MAP_FAILED)
        return false;
    munmap(mem, kSize);
    return true;
}

class SegTest : public testing::Test {
protected:
    ~SegTest() override
    {
        ep_seg_finish(&ours_);
        ep_seg_finish(&theirs_);
    }

    void Open(bool writable)
    {
        int fd = Duplicate(ours_.fd);
        ASSERT_EQ(ep_seg_open(&theirs_, fd, writable), 0);
        ASSERT_EQ(theirs_.fd, fd);
    }

    ep_seg ours_ = {}, theirs_ = {};
};

TEST_F(SegTest, ShowsTheReaderWhatTheOwnerWrites)
{
    ASSERT_EQ(ep_seg_create_own(&ours_, kSize, 4096), 0);
    Open(false);
    EXPECT_EQ(theirs_.size, kSize);
    std::strcpy(static_cast<char *>(ours_.mem) + kSize - 6, "hello");
    EXPECT_STREQ(static_cast<char *>(theirs_.mem) + kSize - 6, "hello");
}

TEST_F(SegTest, ShowsTheVmWhatThePeerWrites)
{
    ASSERT_EQ(ep_seg_create_peer(&ours_, kSize), 0);
    Open(true);
    std::strcpy(static_cast<char *>(theirs_.mem), "hello");
    EXPECT_STREQ(static_cast<char *>(ours_.mem), "hello");
}

TEST_F(SegTest, StartsAsZeroes)
{
    ASSERT_EQ(ep_seg_create_own(&ours_, kSize, 0), 0);
    for (size_t i = 0; i < kSize; i++)
        ASSERT_EQ(static_cast<char *>(ours_.mem)[i], 0);
}

TEST_F(SegTest, CannotBeResizedByAnybody)
{
    for (bool own : {true, false}) {
        ASSERT_EQ(own ? ep_seg_create_own(&ours_, kSize, 0) : ep_seg_create_peer(&ours_, kSize), 0);
        EXPECT_EQ(ftruncate(ours_.fd, 1), -1);
        EXPECT_EQ(errno, EPERM);
        EXPECT_EQ(ftruncate(ours_.fd, 2 * kSize), -1);
        EXPECT_EQ(fallocate(ours_.fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 4096) == 0,
                  !own)
            << "only who may write may punch holes";
        ep_seg_finish(&ours_);
    }
}

TEST_F(SegTest, CannotBeMadeWritableByThePeer)
{
    ASSERT_EQ(ep_seg_create_own(&ours_, kSize, 0), 0);
    if ((fcntl(ours_.fd, F_GET_SEALS) & F_SEAL_FUTURE_WRITE) == 0)
        GTEST_SKIP() << "this kernel has no seal against writing";
    EXPECT_FALSE(CanBeMappedWritable(ours_.fd));
    EXPECT_EQ(pwrite(ours_.fd, "x", 1, 0), -1);
    EXPECT_EQ(ep_seg_open(&theirs_, ours_.fd, true), -EPERM);

    Open(false);
    EXPECT_EQ(mprotect(theirs_.mem, kSize, PROT_READ | PROT_WRITE), -1);
    EXPECT_EQ(mremap(theirs_.mem, kSize, 2 * kSize, 0), MAP_FAILED);

    // Opening the file again does not help either.
    std::string path = "/proc/self/fd/" + std::to_string(ours_.fd);
    int again = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (again >= 0) {
        EXPECT_FALSE(CanBeMappedWritable(again));
        close(again);
    }
}

// The worker gets an fd that cannot write, and closes it before Python begins.
TEST_F(SegTest, LetsNobodyWriteSlabsThroughTheFdThatItHandsOut)
{
    ASSERT_EQ(ep_seg_create_slabs(&ours_, kSize), 0);
    EXPECT_FALSE(CanBeMappedWritable(ours_.fd));
    EXPECT_EQ(pwrite(ours_.fd, "x", 1, 0), -1);
    EXPECT_EQ(ftruncate(ours_.fd, 1), -1);
    EXPECT_EQ(fallocate(ours_.fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, 4096), -1);
    EXPECT_LT(ep_seg_open(&theirs_, ours_.fd, true), 0);

    Open(false);
    EXPECT_EQ(mprotect(theirs_.mem, kSize, PROT_READ | PROT_WRITE), -1);
    std::strcpy(static_cast<char *>(ours_.mem), "hello");
    EXPECT_STREQ(static_cast<char *>(theirs_.mem), "hello");
    EXPECT_EQ(fcntl(ours_.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
}

TEST_F(SegTest, GivesMemoryOfSlabsAndOfThePeersSegmentBack)
{
    for (bool own : {true, false}) {
        ASSERT_EQ(own ? ep_seg_create_slabs(&ours_, kSize) : ep_seg_create_peer(&ours_, kSize), 0);
        Open(!own);
        char *mem = static_cast<char *>(own ? ours_.mem : theirs_.mem);
        std::memset(mem, 'x', kSize);
        struct stat st;
        ASSERT_EQ(fstat(ours_.fd, &st), 0);
        EXPECT_EQ(static_cast<size_t>(st.st_blocks) * 512, kSize);

        ep_seg_give_back(mem + 4096, 2 * 4096);
        ASSERT_EQ(fstat(ours_.fd, &st), 0);
        EXPECT_EQ(static_cast<size_t>(st.st_blocks) * 512, kSize - 2 * 4096);
        EXPECT_EQ(mem[4095], 'x');
        EXPECT_EQ(mem[4096], 0);
        EXPECT_EQ(mem[3 * 4096], 'x');
        ep_seg_finish(&ours_);
        ep_seg_finish(&theirs_);
    }
}

TEST_F(SegTest, AddsNoSealLater)
{
    ASSERT_EQ(ep_seg_create_peer(&ours_, kSize), 0);
    EXPECT_EQ(fcntl(ours_.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    EXPECT_TRUE(CanBeMappedWritable(ours_.fd)) << "B is for the worker to write";
}

TEST_F(SegTest, RefusesAFileThatCanStillBeResizedAndLeavesTheFdToTheCaller)
{
    for (int seals : {0, F_SEAL_SHRINK, F_SEAL_GROW}) {
        int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        ASSERT_EQ(ftruncate(fd, kSize), 0);
        ASSERT_EQ(fcntl(fd, F_ADD_SEALS, seals), 0);
        EXPECT_EQ(ep_seg_open(&theirs_, fd, false), -EPERM);
        EXPECT_EQ(theirs_.mem, nullptr);
        EXPECT_EQ(close(fd), 0);
    }
}

TEST_F(SegTest, RefusesWhatIsNoMemfd)
{
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    EXPECT_EQ(ep_seg_open(&theirs_, ends[0], false), -EINVAL);
    close(ends[0]);
    close(ends[1]);
    EXPECT_EQ(ep_seg_open(&theirs_, -1, false), -EBADF);
}

TEST_F(SegTest, RefusesAnEmptyFile)
{
    int fd = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ASSERT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    EXPECT_EQ(ep_seg_open(&theirs_, fd, false), -EINVAL);
    EXPECT_EQ(close(fd), 0);
}

TEST_F(SegTest, LeavesTheObjectAloneWhenItCannotBeMade)
{
    ours_.size = 42;
    EXPECT_LT(ep_seg_create_own(&ours_, SIZE_MAX / 2, 0), 0);
    EXPECT_LT(ep_seg_create_peer(&ours_, SIZE_MAX / 2), 0);
    EXPECT_EQ(ours_.mem, nullptr);
    EXPECT_EQ(ours_.size, 42u);
    ours_.size = 0;
}

TEST_F(SegTest, BacksTheFirstBytesWithMemoryAtOnce)
{
    ASSERT_EQ(ep_seg_create_own(&ours_, 16 * kSize, kSize), 0);
    struct stat st;
    ASSERT_EQ(fstat(ours_.fd, &st), 0);
    EXPECT_GE(st.st_blocks * 512, static_cast<blkcnt_t>(kSize));
    EXPECT_LT(st.st_blocks * 512, static_cast<blkcnt_t>(16 * kSize));
}

TEST_F(SegTest, HasAnFdThatDoesNotSurviveExec)
{
    for (bool own : {true, false}) {
        ASSERT_EQ(own ? ep_seg_create_own(&ours_, kSize, 0) : ep_seg_create_peer(&ours_, kSize), 0);
        EXPECT_EQ(fcntl(ours_.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        ep_seg_finish(&ours_);
    }
}

TEST_F(SegTest, KeepsTheMappingWhenItsFdIsClosedEarly)
{
    ASSERT_EQ(ep_seg_create_own(&ours_, kSize, 0), 0);
    ep_seg_close_fd(&ours_);
    ep_seg_close_fd(&ours_); // the second one does nothing
    EXPECT_EQ(ours_.fd, -1);
    static_cast<char *>(ours_.mem)[0] = 1;
}

TEST_F(SegTest, FinishesAnEmptyOneAndOneTwice)
{
    ep_seg zeroed = {};
    ep_seg_finish(&zeroed);
    ep_seg_close_fd(&zeroed);
    ASSERT_EQ(ep_seg_create_own(&ours_, kSize, 0), 0);
    ep_seg_finish(&ours_);
    EXPECT_EQ(ours_.mem, nullptr);
    EXPECT_EQ(ours_.fd, -1);
    ep_seg_finish(&ours_);
}

TEST_F(SegTest, IsNotInheritedByAChildThatForks)
{
    ASSERT_EQ(ep_seg_create_own(&ours_, kSize, 0), 0);
    pid_t pid = fork();
    if (pid == 0) {
        unsigned char resident;
        _exit(mincore(ours_.mem, 4096, &resident) < 0 && errno == ENOMEM ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0) << "the child sees the mapping";
}

} // namespace
