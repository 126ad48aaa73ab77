/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_WORKER_H
#define EP_NIF_WORKER_H

/*
 * ep_nif_worker - the launcher and the worker process, over the sockets and segments that the
 * NIF makes, for tests.
 *
 * The pidfd of a worker is an eventfd: it becomes readable when the test says that the
 * process is dead, and a kill does nothing to it. The reaper hears what a test writes
 * to the doorbell.
 *
 * Threads  a Worker belongs to one thread at a time.
 */

#include "ep_nif_process.h"
#include "ep_vm_term.h"

#include <csignal>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

extern "C" {
#include "ep_control.h"
#include "ep_fdpass.h"
#include "ep_lane.h"
#include "ep_seg.h"
}

namespace nif {

/* The launcher: hands spawn requests to Worker. */
class Launcher {
public:
    Launcher()
    {
        Term opened = owner_.call("launcher_open", {});
        must(opened.is("ok"), "launcher_open()");
        launcher_ = opened[1];
        connect_to(name_of(opened[2]));
        ep_control_event ready = {};
        ready.version = EP_CONTROL_VERSION;
        ready.kind = EP_CONTROL_READY;
        std::string token = opened[3].bytes();
        memcpy(ready.token, token.data(), sizeof(ready.token));
        must(ep_fdpass_send(socket_, &ready, sizeof(ready), nullptr, 0) == 0, "READY");
        Term joined = owner_.call("launcher_join", {launcher_, integer(getpid())});
        must(joined.is("ok"), "launcher_join()");
        id_ = joined[1].number();
    }

    ~Launcher()
    {
        hang_up();
    }

    Launcher(const Launcher &) = delete;
    Launcher &operator=(const Launcher &) = delete;

    const Term &term() const
    {
        return launcher_;
    }

    uint64_t id() const
    {
        return id_;
    }

    Process &owner()
    {
        return owner_;
    }

    int socket() const
    {
        return socket_;
    }

    void send(ep_control_event_kind kind, uint64_t worker_id, int64_t value, int fd = -1)
    {
        ep_control_event event = {};
        event.version = EP_CONTROL_VERSION;
        event.kind = kind;
        event.worker_id = worker_id;
        event.value = value;
        must(ep_fdpass_send(socket_, &event, sizeof(event), &fd, fd < 0 ? 0 : 1) == 0, "an event");
    }

    /* Takes a request to spawn, with its fds. */
    ep_control_request take(int fds[EP_FDPASS_MAX])
    {
        ep_control_request request;
        pollfd readable = {socket_, POLLIN, 0};
        must(poll(&readable, 1, 20000) == 1, "no request to spawn");
        must(ep_fdpass_receive(socket_, &request, sizeof(request), fds)
                 == static_cast<ssize_t>(ep_control_request_size(0)),
             "a request to spawn");
        return request;
    }

    void hang_up()
    {
        if (socket_ >= 0)
            close(socket_);
        socket_ = -1;
    }

private:
    static std::string name_of(const Term &list)
    {
        std::string name;
        ERL_NIF_TERM rest = *list, head;
        long c;
        while (enif_get_list_cell(nullptr, rest, &head, &rest)) {
            must(enif_get_long(nullptr, head, &c), "a character");
            name += static_cast<char>(c);
        }
        return name;
    }

    void connect_to(const std::string &name)
    {
        sockaddr_un address = {};
        address.sun_family = AF_UNIX;
        memcpy(address.sun_path + 1, name.data(), name.size());
        socket_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        socklen_t length =
            static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        must(connect(socket_, reinterpret_cast<sockaddr *>(&address), length) == 0, "connect()");
    }

    Process owner_;
    Term launcher_;
    int socket_ = -1;
    uint64_t id_ = 0;
};

/* What the worker has taken from a ring. */
struct Request {
    uint16_t kind = 0;
    uint8_t flags = 0, aux = 0;
    bool cancelled = false;
    uint64_t call_id = 0, subject = 0, stamp = 0;
    std::string payload;
};

/* One worker process: its host in the NIF, and the other side of its segments. */
class Worker {
public:
    static constexpr int64_t kOsPid = 4242;

    explicit Worker(Launcher *launcher, uint32_t contexts = 1) : launcher_(launcher)
    {
        Term path = binary("/");
        Term started = owner_.call("host_start", {launcher->term(), integer(contexts),
                                                  tuple({integer(0), integer(0)}), path, path, path,
                                                  binary(""), atom("none")});
        must(started.is("ok"), "host_start()");
        host_ = started[1];
        id_ = started[2].number();
        spawn();
        map(contexts + 1);
        expect_event("{spawned,4242}");
    }

    ~Worker()
    {
        if (!is_dead_)
            declare_death(256 + SIGKILL);
        if (!is_buried_)
            await_exit();
        for (ep_lane_worker &lane : lanes_)
            ep_lane_worker_finish(&lane);
        for (ep_seg *seg : {&a_, &b_, &c_})
            ep_seg_finish(seg);
        for (int fd : {doorbell_, control_, death_})
            close(fd);
    }

    Worker(const Worker &) = delete;
    Worker &operator=(const Worker &) = delete;

    const Term &term() const
    {
        return host_;
    }

    Process &owner()
    {
        return owner_;
    }

    ep_lane_worker *lane(uint32_t index)
    {
        return &lanes_[index];
    }

    const void *segment_a() const
    {
        return a_.mem;
    }

    uint8_t *segment_b()
    {
        return static_cast<uint8_t *>(b_.mem);
    }

    /* --- what it receives --- */

    std::optional<Request> take(uint32_t index, bool urgent = false)
    {
        ep_lane_worker *lane = &lanes_[index];
        ep_ring_rx *ring = urgent ? &lane->urgent : &lane->call;
        const ep_cell *cell;
        if (ep_ring_peek(ring, &cell) < 0)
            return std::nullopt;
        Request request;
        request.kind = cell->kind;
        request.flags = cell->flags;
        request.aux = cell->aux;
        request.call_id = cell->call_id;
        request.subject = cell->subject;
        request.stamp = cell->stamp;
        request.cancelled = ep_cell_is_cancelled(cell);
        request.payload.assign(reinterpret_cast<const char *>(ep_lane_worker_payload(lane, cell)),
                               cell->length);
        if ((cell->flags & EP_FLAG_BLOCK) != 0)
            ep_reclaim_push(&lane->reclaim_tx, cell->block);
        ep_ring_advance(ring);
        ep_ring_publish_head(ring);
        return request;
    }

    /* Takes what the lane gets first, START, and answers it. */
    void start(uint32_t index)
    {
        std::optional<Request> request = take(index);
        must(request && request->kind == EP_KIND_START, "no START");
        send(index, EP_KIND_STARTED, 0, "");
    }

    /* Takes the next message of that kind from either ring of the lane, and drops others. */
    std::optional<Request> find(uint32_t index, ep_kind kind)
    {
        for (bool urgent : {true, false}) {
            while (std::optional<Request> request = take(index, urgent))
                if (request->kind == kind)
                    return request;
        }
        return std::nullopt;
    }

    /* --- what it sends --- */

    /* Returns whether there was room. Payloads above what fits inline go to a block. */
    bool send(uint32_t index, ep_kind kind, uint64_t call_id, const std::string &payload,
              uint8_t aux = 0, uint64_t subject = 0, uint64_t stamp = 0)
    {
        ep_lane_worker *lane = &lanes_[index];
        ep_cell *cell;
        if (ep_ring_reserve(&lane->response, &cell) < 0)
            return false;
        ep_cell_begin(cell, kind, 0, aux, call_id, subject);
        if (stamp != 0)
            ep_cell_set_stamp(cell, stamp);
        cell->length = static_cast<uint32_t>(payload.size());
        if (payload.size() > EP_INLINE_MAX) {
            uint64_t block;
            must(ep_reclaim_collect(&lane->reclaim_rx, &lane->slab) >= 0, "what came back");
            if (ep_slab_alloc(&lane->slab, payload.size(), &block) < 0)
                return false;
            memcpy(lane->slab_mem + block, payload.data(), payload.size());
            ep_cell_set_block(cell, block);
        } else {
            memcpy(cell->data, payload.data(), payload.size());
        }
        (void)ep_ring_commit(&lane->response);
        return true;
    }

    /* Rings, if the NIF wants to be woken for that lane. */
    void ring(uint32_t index)
    {
        if (ep_bell_must_ring(&lanes_[index].response_bell))
            ring_anyway();
    }

    void ring_anyway()
    {
        uint64_t one = 1;
        must(write(doorbell_, &one, sizeof(one)) == sizeof(one), "the doorbell");
    }

    /* Blocks that the NIF has not handed back. */
    uint32_t blocks_out(uint32_t index)
    {
        ep_lane_worker *lane = &lanes_[index];
        must(ep_reclaim_collect(&lane->reclaim_rx, &lane->slab) >= 0, "what came back");
        return lane->slab.out;
    }

    /* --- its end --- */

    /* Dies; returns when all calls have ended and the owner knows. The reason, as text. */
    std::string die(int64_t exit_value)
    {
        declare_death(exit_value);
        return await_exit();
    }

    void declare_death(int64_t exit_value)
    {
        uint64_t one = 1;
        is_dead_ = true;
        must(write(death_, &one, sizeof(one)) == sizeof(one), "the pidfd");
        launcher_->send(EP_CONTROL_EXITED, id_, exit_value);
    }

    std::string await_exit()
    {
        for (;;) {
            Term message = owner_.receive();
            must(static_cast<bool>(message), "the owner of the host is not told of its end");
            if (message.is("py_host") && message[2].is("exited")) {
                is_buried_ = true;
                return message[2][1].text();
            }
        }
    }

    bool is_dead() const
    {
        return is_dead_;
    }

    uint64_t id() const
    {
        return id_;
    }

private:
    void spawn()
    {
        int fds[EP_FDPASS_MAX];
        ep_control_request request = launcher_->take(fds);
        must(request.worker_id == id_, "another worker is to be spawned");
        a_.fd = fds[0];
        b_.fd = fds[1];
        c_.fd = fds[2];
        doorbell_ = fds[3];
        control_ = fds[4];
        death_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        launcher_->send(EP_CONTROL_SPAWNED, id_, kOsPid, death_);
    }

    void map(uint32_t lanes)
    {
        int fds[3] = {a_.fd, b_.fd, c_.fd};
        must(ep_seg_open(&a_, fds[0], false) == 0 && ep_seg_open(&b_, fds[1], true) == 0
                 && ep_seg_open(&c_, fds[2], false) == 0,
             "the segments");
        lanes_.resize(lanes);
        for (uint32_t i = 0; i < lanes; i++)
            ep_lane_worker_attach(&lanes_[i], a_.mem, b_.mem, c_.mem, lanes, i);
    }

    void expect_event(const char *event)
    {
        Term message = owner_.receive();
        must(message && message.is("py_host") && message[2].text() == event, event);
    }

    Launcher *launcher_;
    Process owner_;
    Term host_;
    uint64_t id_ = 0;
    bool is_dead_ = false, is_buried_ = false;
    ep_seg a_ = {}, b_ = {}, c_ = {};
    std::vector<ep_lane_worker> lanes_;
    int doorbell_ = -1, control_ = -1, death_ = -1;
};

} // namespace nif

#endif
