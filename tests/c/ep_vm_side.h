/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_VM_SIDE_H
#define EP_VM_SIDE_H

/*
 * ep_vm_side - the VM's part of the protocol, for tests that drive a real
 * ep_worker: segments, lanes, a process.
 */

#include "ep_vm_term.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ep_control.h"
#include "ep_cpu.h"
#include "ep_lane.h"
#include "ep_seg.h"
}

struct Reply {
    uint16_t kind = 0; /* 0: none came */
    uint16_t flags = 0;
    uint32_t aux = 0;
    uint64_t call_id = 0;
    uint64_t subject = 0;
    uint64_t stamp = 0;
    std::string payload;

    std::string text() const
    {
        return term::print_all(payload);
    }
};

/* One worker process and the VM's side of its lanes. */
class VmSide {
public:
    static constexpr int kTimeoutMs = 20000;

    explicit VmSide(uint32_t lanes = 3, uint32_t spin_ns = 20000) : lanes_(lanes)
    {
        ep_layout_header header;
        ep_layout_init(&header, lanes);
        header.spin_min_ns = header.spin_max_ns = spin_ns;
        EXPECT_EQ(0, ep_seg_create_own(&a_, header.size_a, ep_layout_ring_bytes_a(lanes)));
        EXPECT_EQ(0, ep_seg_create_peer(&b_, header.size_b));
        EXPECT_EQ(0, ep_seg_create_slabs(&c_, ep_layout_size_c(lanes)));
        memcpy(a_.mem, &header, sizeof(header));
        lane_.resize(lanes);
        for (uint32_t i = 0; i < lanes; i++) {
            ep_lane_vm_attach(&lane_[i], a_.mem, b_.mem, c_.mem, lanes, i);
            ep_bell_arm(&lane_[i].response_bell);
        }
        doorbell_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        EXPECT_EQ(0, pipe2(control_, O_CLOEXEC));
        std::swap(control_[0], control_[1]); // ours is the end that nothing is read from
    }

    ~VmSide()
    {
        if (pid_ > 0) {
            kill(pid_, SIGKILL);
            (void)wait();
        }
        for (auto &lane : lane_)
            ep_lane_vm_finish(&lane);
        ep_seg_finish(&a_);
        ep_seg_finish(&b_);
        ep_seg_finish(&c_);
        close(doorbell_);
        close_control();
        if (control_[1] >= 0)
            close(control_[1]);
        if (pidfd_ >= 0)
            close(pidfd_);
    }

    VmSide(const VmSide &) = delete;

    /* Runs EP_WORKER_PATH as the launcher would. */
    void spawn(const std::string &program, const std::string &python, const std::string &modules)
    {
        int fds[EP_WORKER_FDS] = {a_.fd, b_.fd, c_.fd, doorbell_, control_[1]};
        pid_ = fork();
        ASSERT_GE(pid_, 0);
        if (pid_ == 0) {
            /* Above the targets first, so that none overwrites another. */
            int high[EP_WORKER_FDS];
            for (int i = 0; i < EP_WORKER_FDS; i++)
                high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 20);
            for (int i = 0; i < EP_WORKER_FDS; i++)
                dup2(high[i], EP_WORKER_FD_A + i);
            rlimit no_core = {0, 0};
            setrlimit(RLIMIT_CORE, &no_core);
            setpgid(0, 0);
            dup2(open("/dev/null", O_RDONLY), 0);
            execl(program.c_str(), "ep_worker", python.c_str(), modules.c_str(),
                  static_cast<char *>(nullptr));
            _exit(127);
        }
        pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
        ASSERT_GE(pidfd_, 0);
        close(control_[1]);
        control_[1] = -1;
    }

    void send(uint32_t lane, uint16_t kind, const std::string &payload = "", uint64_t call_id = 0,
              uint8_t flags = 0, uint64_t subject = 0, uint8_t aux = 0)
    {
        ASSERT_NO_FATAL_FAILURE(
            write(&lane_[lane].call, lane, kind, payload, call_id, flags, subject, aux));
        wake(lane);
    }

    void send_urgent(uint32_t lane, uint16_t kind, const std::string &payload = "",
                     uint64_t call_id = 0, uint8_t flags = 0, uint64_t subject = 0, uint8_t aux = 0)
    {
        wait_for_room(&lane_[lane].urgent);
        ASSERT_NO_FATAL_FAILURE(
            write(&lane_[lane].urgent, lane, kind, payload, call_id, flags, subject, aux));
        wake(lane);
    }

    void drop_envs(uint32_t lane, const std::vector<uint64_t> &ids)
    {
        send_urgent(lane, EP_KIND_ENV_DROP,
                    std::string(reinterpret_cast<const char *>(ids.data()), ids.size() * 8));
    }

    void drop_env(uint32_t lane, uint64_t env_id)
    {
        drop_envs(lane, {env_id});
    }

    /* Answers a callback with a value, or as aux says. */
    void answer(uint32_t lane, const Reply &callback, const std::string &payload,
                ep_answer aux = EP_ANSWER_VALUE)
    {
        send_urgent(lane, EP_KIND_ANSWER, payload, callback.call_id, 0, callback.subject,
                    static_cast<uint8_t>(aux));
    }

    /* Publishes without waking, for tests of what is seen by looking. */
    void write(ep_ring_tx *ring, uint32_t lane, uint16_t kind, const std::string &payload,
               uint64_t call_id, uint8_t flags, uint64_t subject, uint8_t aux, uint64_t stamp = 0)
    {
        ep_cell *cell;
        ASSERT_EQ(0, ep_ring_reserve(ring, &cell));
        ep_cell_begin(cell, static_cast<ep_kind>(kind), flags, aux, call_id, subject);
        if (stamp != 0)
            ep_cell_set_stamp(cell, stamp);
        cell->length = static_cast<uint32_t>(payload.size());
        if (payload.size() <= EP_INLINE_MAX) {
            memcpy(cell->data, payload.data(), payload.size());
        } else {
            ASSERT_LE(0, ep_reclaim_collect(&lane_[lane].reclaim_rx, &lane_[lane].slab));
            uint64_t block;
            ASSERT_EQ(0, ep_slab_alloc(&lane_[lane].slab, payload.size(), &block));
            memcpy(lane_[lane].slab_mem + block, payload.data(), payload.size());
            ep_cell_set_block(cell, block);
        }
        last_position_ = ep_ring_commit(ring);
    }

    void wake(uint32_t lane)
    {
        if (!ep_bell_must_ring(&lane_[lane].park))
            return;
        __atomic_store_n(lane_[lane].kicked_ns, ep_clock_ns() - kick_age_ns_, __ATOMIC_RELAXED);
        ep_futex_wake(lane_[lane].futex);
    }

    /* From now on every wake-up looks as if it had begun that long ago. */
    void set_kick_age(uint64_t ns)
    {
        kick_age_ns_ = ns;
    }

    /* Where the lane thread says that it ran last, and how long it takes to wake it. */
    uint32_t cpu(uint32_t lane)
    {
        return __atomic_load_n(lane_[lane].cpu, __ATOMIC_RELAXED);
    }

    uint32_t wake_ns(uint32_t lane)
    {
        return __atomic_load_n(lane_[lane].wake_ns, __ATOMIC_RELAXED);
    }

    /* Sleeps on the doorbell until a message is there. Kind 0: none came. */
    Reply receive(uint32_t lane, int timeout_ms = kTimeoutMs)
    {
        auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
        ep_msg msg;
        Reply reply;
        for (;;) {
            int rc = ep_ring_copy(&lane_[lane].response, &msg);
            if (rc == 0)
                break;
            EXPECT_EQ(-EAGAIN, rc);
            ep_bell_rearm(&lane_[lane].response_bell);
            rc = ep_ring_copy(&lane_[lane].response, &msg);
            if (rc == 0)
                break;
            auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                end - std::chrono::steady_clock::now());
            pollfd fds[2] = {{doorbell_, POLLIN, 0}, {pidfd_, POLLIN, 0}};
            if (left.count() <= 0 || poll(fds, 2, static_cast<int>(left.count())) <= 0)
                return reply;
            if ((fds[0].revents & POLLIN) == 0 && (fds[1].revents & POLLIN) != 0
                && ep_ring_copy(&lane_[lane].response, &msg) != 0)
                return reply;
            uint64_t count;
            (void)!read(doorbell_, &count, sizeof(count));
        }
        reply.kind = msg.kind;
        reply.flags = msg.flags;
        reply.aux = msg.aux;
        reply.call_id = msg.call_id;
        reply.subject = msg.subject;
        reply.stamp = msg.stamp;
        const uint8_t *data;
        EXPECT_EQ(0, ep_lane_vm_payload(&lane_[lane], &msg, &data));
        reply.payload.assign(reinterpret_cast<const char *>(data), msg.length);
        if ((msg.flags & EP_FLAG_BLOCK) != 0)
            ep_reclaim_push(&lane_[lane].reclaim_tx, msg.block);
        ep_ring_advance(&lane_[lane].response);
        ep_ring_publish_head(&lane_[lane].response);
        if (ep_bell_must_ring(&lane_[lane].space))
            ep_futex_wake(lane_[lane].futex);
        return reply;
    }

    /* Sends a request and waits for its reply. */
    Reply ask(uint32_t lane, uint16_t kind, const std::string &payload, uint8_t flags = 0,
              uint64_t env_id = 0)
    {
        uint64_t call_id = ++last_call_id_;
        send(lane, kind, payload, call_id, flags, env_id);
        Reply reply = receive(lane);
        EXPECT_EQ(call_id, reply.call_id);
        return reply;
    }

    static std::string call_payload(const std::string &module, const std::string &function,
                                    const std::vector<std::string> &args)
    {
        return term::binary(module) + term::binary(function) + term::list(args);
    }

    std::string call(const std::string &module, const std::string &function,
                     const std::vector<std::string> &args, uint32_t lane = 1, uint64_t env_id = 0)
    {
        return shown(ask(lane, EP_KIND_CALL, call_payload(module, function, args), 0, env_id));
    }

    std::string eval(const std::string &code, const std::string &locals = term::map({}),
                     uint32_t lane = 1, uint64_t env_id = 0)
    {
        return shown(ask(lane, EP_KIND_EVAL, term::binary(code) + locals, 0, env_id));
    }

    std::string exec(const std::string &code, uint32_t lane = 1, uint64_t env_id = 0)
    {
        return shown(ask(lane, EP_KIND_EXEC, term::binary(code), 0, env_id));
    }

    /* "text" of a result, "error: text" of an error record. */
    static std::string shown(const Reply &reply)
    {
        switch (reply.kind) {
        case EP_KIND_RESULT: return reply.text();
        case EP_KIND_ERROR: return "error: " + reply.text();
        case EP_KIND_DROPPED: return "dropped";
        case 0: return "nothing came";
        default: return "kind " + std::to_string(reply.kind);
        }
    }

    bool cancel_last_urgent(uint32_t lane, uint64_t call_id)
    {
        return ep_ring_cancel(&lane_[lane].urgent, last_position_, call_id);
    }

    /* An urgent request that is marked before it can be seen. */
    void write_cancelled(uint32_t lane, uint16_t kind, const std::string &payload, uint64_t call_id)
    {
        ep_cell *cell;
        ASSERT_EQ(0, ep_ring_reserve(&lane_[lane].urgent, &cell));
        ep_cell_begin(cell, static_cast<ep_kind>(kind), 0, 0, call_id, 0);
        memcpy(cell->data, payload.data(), payload.size());
        cell->length = static_cast<uint32_t>(payload.size());
        cell->cancelled = 1;
        ep_ring_commit(&lane_[lane].urgent);
        wake(lane);
    }

    bool cancel_last(uint32_t lane, uint64_t call_id)
    {
        return ep_ring_cancel(&lane_[lane].call, last_position_, call_id);
    }

    uint64_t taken(uint32_t lane)
    {
        return ep_ring_taken(&lane_[lane].call);
    }

    /* The way of an interrupt to a call that runs. */
    void interrupt(uint32_t lane, uint64_t call_id, uint64_t number = 0)
    {
        /* A loop may be faster than the worker. */
        wait_for_room(&lane_[0].call);
        send(0, EP_KIND_INTERRUPT, "", call_id, 0, number, static_cast<uint8_t>(lane));
    }

    /* An interrupt that waits for the end of an import waits no longer. */
    void interrupt_import(uint32_t lane, uint64_t call_id)
    {
        wait_for_room(&lane_[0].call);
        send(0, EP_KIND_INTERRUPT, "", call_id, EP_FLAG_FORCED, 0, static_cast<uint8_t>(lane));
    }

    /* The way of an interrupt to a call that waits for an answer. */
    void cancel_waiting(uint32_t lane, uint64_t call_id, uint64_t number)
    {
        send_urgent(lane, EP_KIND_CANCEL, "", call_id, 0, number);
    }

    /* Both ways, as the VM goes them. */
    void interrupt_twice(uint32_t lane, uint64_t call_id, uint64_t number)
    {
        cancel_waiting(lane, call_id, number);
        interrupt(lane, call_id, number);
    }

    /* The call on top of the lane's stack, with EP_RUNNING_, or 0. */
    uint64_t running(uint32_t lane) const
    {
        return __atomic_load_n(lane_[lane].running, __ATOMIC_ACQUIRE);
    }

    bool has_message(uint32_t lane) const
    {
        const ep_cell *cell;
        return ep_ring_peek(&lane_[lane].response, &cell) == 0;
    }

    /* There is nothing to sleep on: the word is for who looks now and then. */
    bool becomes_running(uint32_t lane, uint64_t value)
    {
        while (running(lane) != value && is_alive())
            sched_yield();
        return running(lane) == value;
    }

    Reply start(uint32_t lane, ep_mode mode = EP_MODE_WORKER)
    {
        if (lane > 1)
            send(0, EP_KIND_LANE_OPEN, "", 0, 0, 0, static_cast<uint8_t>(lane));
        return restart(lane, mode);
    }

    Reply restart(uint32_t lane, ep_mode mode)
    {
        send(lane, EP_KIND_START, "", 0, 0, 0, static_cast<uint8_t>(mode));
        return receive(lane);
    }

    Reply stop(uint32_t lane)
    {
        send(lane, EP_KIND_STOP);
        return receive(lane);
    }

    /* Blocks of A that the worker has not handed back. */
    uint32_t blocks_out(uint32_t lane)
    {
        EXPECT_LE(0, ep_reclaim_collect(&lane_[lane].reclaim_rx, &lane_[lane].slab));
        return lane_[lane].slab.out;
    }

    void close_control()
    {
        if (control_[0] >= 0)
            close(control_[0]);
        control_[0] = -1;
    }

    /* Waits for the end: exit code, 256 + signal, or -1 after the timeout. */
    int wait(int timeout_ms = kTimeoutMs)
    {
        pollfd fd = {pidfd_, POLLIN, 0};
        int status;
        if (poll(&fd, 1, timeout_ms) <= 0 || waitpid(pid_, &status, 0) != pid_)
            return -1;
        kill(-pid_, SIGKILL); /* what it left in its group */
        pid_ = -1;
        return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
    }

    bool is_alive() const
    {
        pollfd fd = {pidfd_, POLLIN, 0};
        return poll(&fd, 1, 0) == 0;
    }

    pid_t pid() const
    {
        return pid_;
    }

    ep_lane_vm *lane(uint32_t index)
    {
        return &lane_[index];
    }

    ep_seg *segment_a()
    {
        return &a_;
    }

    void forget_pid()
    {
        pid_ = -1;
    }

private:
    void wait_for_room(ep_ring_tx *ring)
    {
        ep_cell *cell;
        while (ep_ring_reserve(ring, &cell) == -EAGAIN && is_alive())
            sched_yield();
    }

    uint32_t lanes_;
    uint64_t kick_age_ns_ = 0;
    ep_seg a_ = {};
    ep_seg b_ = {};
    ep_seg c_ = {};
    std::vector<ep_lane_vm> lane_;
    int doorbell_ = -1;
    int control_[2] = {-1, -1};
    int pidfd_ = -1;
    pid_t pid_ = -1;
    uint64_t last_call_id_ = 0;
    uint64_t last_position_ = 0;
};

#endif
