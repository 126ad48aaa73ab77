/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_SIDE_H
#define EP_NIF_SIDE_H

/*
 * ep_nif_side - everything around the NIF, for tests: Erlang processes that call it, the
 * launcher and the worker process, over the sockets and segments that the NIF makes.
 *
 * The pidfd of a worker is an eventfd: it becomes readable when the test says that the
 * process is dead, and a kill does nothing to it. The reaper hears what a test writes
 * to the doorbell; replies can also be taken by a test that calls check/1, in its own
 * thread.
 *
 * Threads  a Process belongs to one thread at a time; so does a Worker.
 */

#include "ep_nif_peek.h"
#include "ep_vm_side.h"
#include "fake_erl_nif.h"

#include <memory>
#include <optional>
#include <sys/un.h>

extern "C" {
#include "ep_fdpass.h"
}

namespace nif {

inline void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "ep_nif_side: %s\n", what);
    abort();
}

/* A term and what keeps it. */
class Term {
public:
    Term() = default;
    Term(ErlNifEnv *env, ERL_NIF_TERM term) : env_(env, enif_free_env), term_(term)
    {
    }

    ERL_NIF_TERM operator*() const
    {
        return term_;
    }

    ERL_NIF_TERM in(ErlNifEnv *env) const
    {
        return enif_make_copy(env, term_);
    }

    std::string text() const
    {
        char text[512];
        fake_print(term_, text, sizeof(text));
        return text;
    }

    /* The i-th element of a tuple, from 0. */
    Term operator[](int i) const
    {
        const ERL_NIF_TERM *elements;
        int arity;
        must(enif_get_tuple(env_.get(), term_, &arity, &elements) && i < arity, "no such element");
        Term element = *this;
        element.term_ = elements[i];
        return element;
    }

    /* Whether it is a tuple with that atom in front. */
    bool is(const char *tag) const
    {
        const ERL_NIF_TERM *elements;
        int arity;
        return enif_get_tuple(nullptr, term_, &arity, &elements) && arity > 0
               && elements[0] == enif_make_atom(nullptr, tag);
    }

    bool is_atom(const char *name) const
    {
        return term_ == enif_make_atom(nullptr, name);
    }

    /* Something is to be run still: the caller polls. */
    bool is_scheduled() const
    {
        return fake_is_scheduled(term_);
    }

    /* The first argument of what is_scheduled(). */
    Term argument() const
    {
        Term argument = *this;
        argument.term_ = fake_scheduled_argument(term_);
        return argument;
    }

    uint64_t number() const
    {
        unsigned long value;
        must(enif_get_ulong(nullptr, term_, &value), "not a number");
        return value;
    }

    std::string bytes() const
    {
        ErlNifBinary bin;
        must(enif_inspect_binary(nullptr, term_, &bin), "not a binary");
        return std::string(reinterpret_cast<char *>(bin.data), bin.size);
    }

    /* The object of a resource. */
    void *object() const
    {
        return fake_resource(term_);
    }

    explicit operator bool() const
    {
        return term_ != 0;
    }

private:
    friend class Process;
    std::shared_ptr<ErlNifEnv> env_;
    ERL_NIF_TERM term_ = 0;
};

inline Term atom(const char *name)
{
    return Term(enif_alloc_env(), enif_make_atom(nullptr, name));
}

inline Term integer(int64_t value)
{
    ErlNifEnv *env = enif_alloc_env();
    return Term(env, enif_make_int64(env, value));
}

inline Term binary(const std::string &bytes)
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM term;
    memcpy(enif_make_new_binary(env, bytes.size(), &term), bytes.data(), bytes.size());
    return Term(env, term);
}

template <typename Make> Term compound(const std::vector<Term> &items, Make make)
{
    ErlNifEnv *env = enif_alloc_env();
    std::vector<ERL_NIF_TERM> terms;
    for (const Term &item : items)
        terms.push_back(item.in(env));
    return Term(env, make(env, terms.data(), static_cast<unsigned>(terms.size())));
}

inline Term list(const std::vector<Term> &items)
{
    return compound(items, enif_make_list_from_array);
}

inline Term tuple(const std::vector<Term> &items)
{
    return compound(items, enif_make_tuple_from_array);
}

inline Term empty_map()
{
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM map = 0;
    enif_make_map_from_arrays(env, nullptr, nullptr, 0, &map);
    return Term(env, map);
}

/* An Erlang process, whose code is the test. */
class Process {
public:
    static constexpr unsigned kPolls = 1u << 20;

    Process() : pid_(fake_spawn())
    {
    }

    ~Process()
    {
        exit();
    }

    Process(const Process &) = delete;
    Process &operator=(const Process &) = delete;

    ErlNifPid pid() const
    {
        return pid_;
    }

    /* Calls a function of py_nif.erl, and does not poll. */
    Term call(const char *name, const std::vector<Term> &arguments)
    {
        return call_polling(0, name, arguments);
    }

    Term call_polling(unsigned polls, const char *name, const std::vector<Term> &arguments)
    {
        ErlNifEnv *env = fake_env_create(pid_);
        std::vector<ERL_NIF_TERM> argv;
        for (const Term &argument : arguments)
            argv.push_back(argument.in(env));
        return Term(env, fake_call(env, name, static_cast<int>(argv.size()), argv.data(), polls));
    }

    /* Goes on with what is_scheduled(). */
    Term poll(const Term &scheduled, unsigned polls = 1)
    {
        Term result = scheduled;
        result.term_ = fake_run(scheduled.env_.get(), *scheduled, polls);
        return result;
    }

    /* The oldest message, or nothing. */
    Term receive(int timeout_ms = kTimeoutMs)
    {
        ERL_NIF_TERM message;
        ErlNifEnv *env = fake_receive(pid_, timeout_ms, &message);
        return env == nullptr ? Term() : Term(env, message);
    }

    Term receive_now()
    {
        return receive(0);
    }

    void exit()
    {
        if (fake_is_alive(pid_))
            fake_exit(pid_);
    }

private:
    static constexpr int kTimeoutMs = 20000;
    ErlNifPid pid_;
};

/* The library, from load() to unload(), and a check that nothing of it is left. */
class Library {
public:
    explicit Library(fake_threads threads = FAKE_THREADS_RUN) : before_(fake_living())
    {
        fake_set_threads(threads);
        fake_load();
    }

    ~Library()
    {
        any_.reset();
        fake_unload();
        fake_counts left = fake_living();
        EXPECT_EQ(before_.envs, left.envs);
        EXPECT_EQ(before_.terms, left.terms);
        EXPECT_EQ(before_.binaries, left.binaries);
        EXPECT_EQ(before_.resources, left.resources);
        EXPECT_EQ(before_.monitors, left.monitors);
        EXPECT_EQ(before_.iterators, left.iterators);
        EXPECT_EQ(before_.messages, left.messages);
        EXPECT_EQ(before_.threads, left.threads);
        /* The library leaves its struct ep_vm to terms that live longer. */
        EXPECT_LE(left.memory, before_.memory + 1);
        fake_set_threads(FAKE_THREADS_RUN);
    }

    Library(const Library &) = delete;
    Library &operator=(const Library &) = delete;

    uint64_t counter(const char *name)
    {
        Term map = any_->call("counters", {});
        ErlNifMapIterator pairs;
        ERL_NIF_TERM key, value;
        unsigned long found = UINT64_MAX;
        must(enif_map_iterator_create(nullptr, *map, &pairs, ERL_NIF_MAP_ITERATOR_FIRST), "a map");
        for (; enif_map_iterator_get_pair(nullptr, &pairs, &key, &value);
             enif_map_iterator_next(nullptr, &pairs))
            if (key == enif_make_atom(nullptr, name))
                must(enif_get_ulong(nullptr, value, &found), "a number");
        enif_map_iterator_destroy(nullptr, &pairs);
        return found;
    }

    uint64_t slots_in_use()
    {
        return any_->call("slots", {})[0].number();
    }

private:
    fake_counts before_;
    std::optional<Process> any_{std::in_place};
};

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
        must(ep_fdpass_receive(socket_, &request, sizeof(request), fds) == sizeof(request),
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
        Term started =
            owner_.call("host_start", {launcher->term(), integer(contexts),
                                       tuple({integer(0), integer(0)}), path, path, path});
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

    uint8_t *segment_b()
    {
        return static_cast<uint8_t *>(b_.mem);
    }

    /* --- what it receives --- */

    std::optional<Request> take(uint32_t index, bool urgent = false)
    {
        ep_lane_worker *lane = &lanes_[index];
        ep_ring_rx *ring = urgent ? &lane->urgent : &lane->call;
        const ep_slot *slot;
        if (ep_ring_peek(ring, &slot) < 0)
            return std::nullopt;
        Request request;
        request.kind = slot->kind;
        request.flags = slot->flags;
        request.aux = slot->aux;
        request.call_id = slot->call_id;
        request.subject = slot->subject;
        request.stamp = slot->stamp;
        request.cancelled = ep_slot_is_cancelled(slot);
        request.payload.assign(reinterpret_cast<const char *>(ep_lane_worker_payload(lane, slot)),
                               slot->length);
        if ((slot->flags & EP_FLAG_BLOCK) != 0)
            ep_reclaim_push(&lane->reclaim_tx, slot->block);
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
        ep_slot *slot;
        if (ep_ring_reserve(&lane->response, &slot) < 0)
            return false;
        ep_slot_begin(slot, kind, 0, aux, call_id, subject);
        if (stamp != 0)
            ep_slot_set_stamp(slot, stamp);
        slot->length = static_cast<uint32_t>(payload.size());
        if (payload.size() > EP_INLINE_MAX) {
            uint64_t block;
            must(ep_reclaim_collect(&lane->reclaim_rx, &lane->slab) >= 0, "what came back");
            if (ep_slab_alloc(&lane->slab, payload.size(), &block) < 0)
                return false;
            memcpy(lane->slab_mem + block, payload.data(), payload.size());
            ep_slot_set_block(slot, block);
        } else {
            memcpy(slot->data, payload.data(), payload.size());
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

/* A context: the owner of a lane. */
class Context {
public:
    /* How long its callers poll, in ns; 0: they park at once. */
    explicit Context(uint32_t spin_ns = 0, int64_t max_result_bytes = 1 << 20)
        : lane_(owner_.call(
            "lane_new", {tuple({integer(spin_ns), integer(spin_ns)}), integer(max_result_bytes)}))
    {
    }

    const Term &lane() const
    {
        return lane_;
    }

    Process &owner()
    {
        return owner_;
    }

    std::string attach(Worker *worker, uint32_t index)
    {
        return owner_
            .call("lane_attach", {lane_, worker->term(), integer(index), atom("worker"), list({})})
            .text();
    }

    void close(const char *reason = "closed")
    {
        must(owner_.call("lane_close", {lane_, atom(reason)}).is_atom("ok"), "lane_close()");
    }

    void set_unavailable(const char *reason)
    {
        must(owner_.call("lane_set_unavailable", {lane_, atom(reason)}).is_atom("ok"),
             "lane_set_unavailable()");
    }

    uint32_t parked() const
    {
        return ep_nif_parked(lane_.object());
    }

    unsigned open_calls() const
    {
        return ep_nif_open_calls(lane_.object());
    }

private:
    Process owner_;
    Term lane_;
};

/* One request of a process. */
class Call {
public:
    static constexpr unsigned kNested = 0x100;

    /* Submits math:sqrt(7), or to an asker. */
    Call(Process *caller, const Term &target, unsigned flags = 0)
        : caller_(caller),
          result_(caller->call("call", {target, atom("undefined"), atom("math"), atom("sqrt"),
                                        list({integer(7)}), empty_map(), integer(flags)}))
    {
        find_reference();
    }

    /* Calls a function that goes on with this call, and stores what it returns. */
    const Term &go_on(const char *name, std::vector<Term> arguments = {})
    {
        arguments.insert(arguments.begin(), reference_);
        result_ = caller_->call(name, arguments);
        find_reference();
        return result_;
    }

    const Term &poll(unsigned polls = 1)
    {
        result_ = caller_->poll(result_, polls);
        find_reference();
        return result_;
    }

    const Term &await(const Term &tag)
    {
        return go_on("await", {tag});
    }

    const Term &answer(uint64_t number, int64_t value)
    {
        return go_on("answer",
                     {integer(static_cast<int64_t>(number)), atom("value"), integer(value)});
    }

    /* What the last function returned. */
    const Term &result() const
    {
        return result_;
    }

    std::string text() const
    {
        return result_.text();
    }

    bool has_reference() const
    {
        return static_cast<bool>(reference_);
    }

    uint64_t id()
    {
        return caller_->call("call_id", {reference_}).number();
    }

    std::string state() const
    {
        return reference_ ? ep_nif_call_state(reference_.object()) : "none";
    }

    const Term &reference() const
    {
        return reference_;
    }

    /* The term of the call is collected. */
    void drop()
    {
        reference_ = result_ = Term();
    }

private:
    /* In {pending, Call} and {callback, Call, ...}, and in what is scheduled. */
    void find_reference()
    {
        if (result_.is("pending") || result_.is("callback"))
            reference_ = result_[1];
        else if (result_.is_scheduled())
            reference_ = result_.argument();
    }

    Process *caller_;
    Term result_, reference_;
};

} // namespace nif

#endif
