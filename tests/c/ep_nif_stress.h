/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_STRESS_H
#define EP_NIF_STRESS_H

/*
 * ep_nif_stress - callers and workers with threads, for tests. SEED is what the threads draw from.
 *
 * Threads  a Caller belongs to one thread; a WorkerThread is one, and its Worker is in its hands
 *          until it is gone.
 */

#include "ep_nif_side.h"

#include <atomic>
#include <random>
#include <set>
#include <thread>

namespace nif {

inline unsigned from_environment(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text == nullptr ? otherwise : static_cast<unsigned>(strtoul(text, nullptr, 10));
}

class Dice {
public:
    explicit Dice(unsigned stream) : engine_(from_environment("SEED", 1) * 1000 + stream)
    {
    }

    bool one_in(unsigned n)
    {
        return engine_() % n == 0;
    }

    unsigned below(unsigned n)
    {
        return static_cast<unsigned>(engine_() % n);
    }

private:
    std::mt19937 engine_;
};

/* The lane threads of a worker process, all in one: answers what comes, and dies wherever
 * it happens to be. */
class WorkerThread {
public:
    WorkerThread(Worker *worker, uint32_t lanes, unsigned stream)
        : worker_(worker), lanes_(lanes), dice_(stream), thread_([this] { run(); })
    {
    }

    ~WorkerThread()
    {
        must_stop_ = true;
        thread_.join();
    }

private:
    void run()
    {
        while (!must_stop_) {
            bool is_idle = true;
            while (worker_->take(0)) { /* interrupts, and lanes to open */
            }
            for (uint32_t lane = 1; lane <= lanes_ && !must_stop_; lane++) {
                while (std::optional<Request> request = worker_->take(lane, true))
                    is_idle &= !serve(lane, *request);
                if (std::optional<Request> request = worker_->take(lane))
                    is_idle &= !serve(lane, *request);
            }
            if (is_idle)
                std::this_thread::yield();
        }
    }

    bool serve(uint32_t lane, const Request &request)
    {
        switch (request.kind) {
        case EP_KIND_START: say(lane, EP_KIND_STARTED, 0, ""); break;
        case EP_KIND_STOP: say(lane, EP_KIND_STOPPED, 0, ""); break;
        case EP_KIND_CALL:
            if (request.cancelled)
                say(lane, EP_KIND_DROPPED, request.call_id, "");
            else if (dice_.one_in(4))
                ask(lane, request.call_id);
            else
                end(lane, request.call_id);
            break;
        case EP_KIND_ANSWER:
        case EP_KIND_CANCEL: /* of one that runs: it ends soon */
            if (asked_.erase({lane, request.call_id}) > 0)
                end(lane, request.call_id);
            break;
        default: return false;
        }
        return true;
    }

    void ask(uint32_t lane, uint64_t call_id)
    {
        asked_.insert({lane, call_id});
        say(lane, EP_KIND_CALLBACK, call_id, term::integer(0) + term::binary("f") + term::list({}),
            ++last_question_);
    }

    void end(uint32_t lane, uint64_t call_id)
    {
        if (dice_.one_in(20))
            say(lane, EP_KIND_RESULT, call_id, term::binary(std::string(70000, 'x')));
        else
            say(lane, EP_KIND_RESULT, call_id, term::integer(7));
    }

    void say(uint32_t lane, ep_kind kind, uint64_t call_id, const std::string &payload,
             uint64_t subject = 0)
    {
        while (!worker_->send(lane, kind, call_id, payload, 0, subject) && !must_stop_)
            std::this_thread::yield();
        worker_->ring(lane);
    }

    Worker *worker_;
    uint32_t lanes_;
    Dice dice_;
    uint64_t last_question_ = 0;
    std::set<std::pair<uint32_t, uint64_t>> asked_; /* lane and call that wait for an answer */
    std::atomic<bool> must_stop_{false};
    std::thread thread_;
};

/* A caller as py_request.erl is one. */
class Caller {
public:
    Caller(const std::vector<Context *> &contexts, unsigned stream)
        : contexts_(contexts), dice_(stream)
    {
    }

    void run(unsigned calls)
    {
        for (unsigned i = 0; i < calls; i++)
            request(contexts_[dice_.below(static_cast<unsigned>(contexts_.size()))]);
    }

private:
    void request(Context *context)
    {
        static constexpr unsigned kHasSlot = 0x200;
        Call call(&process_, context->lane());
        if (!call.result().is_atom("overloaded")) {
            finish(&call);
            return;
        }
        Term slot = take_slot();
        if (!slot)
            return;
        {
            Call with_slot(&process_, context->lane(), kHasSlot);
            finish(&with_slot);
        }
        process_.call("slot_release", {slot});
    }

    Term message(const char *tag)
    {
        Term message = process_.receive();
        must(message && message.is(tag), "a caller is not told, or of something else");
        return message;
    }

    Term take_slot()
    {
        Term tag = integer(5);
        Term acquired = process_.call("slot_acquire", {tag, atom("run")});
        Term slot = acquired[1];
        bool is_held = acquired.is("held");
        while (!is_held) {
            if (dice_.one_in(8)) {
                /* Its time is over. An offer leaves its message. */
                if (process_.call("slot_release", {slot}).is_atom("held"))
                    message("py_slot");
                return Term();
            }
            message("py_slot");
            is_held = process_.call("slot_claim", {slot, tag}).is_atom("held");
        }
        return slot;
    }

    void finish(Call *call)
    {
        for (;;) {
            const Term &result = call->result();
            if (dice_.one_in(30) && call->has_reference() && !waits_) {
                call->drop();
                return;
            }
            if (result.is_scheduled()) {
                call->poll();
            } else if (result.is("pending")) {
                waits_ = call->await(integer(7)).is_atom("waiting");
            } else if (result.is("callback")) {
                call->answer(result[2].number(), 1);
            } else if (waits_) {
                if (!wait(call))
                    return;
            } else {
                must(result.is("ok") || result.is("error"), "no answer");
                return;
            }
        }
    }

    /* False: the caller has given up. */
    bool wait(Call *call)
    {
        if (dice_.one_in(6) && call->go_on("cancel").is_atom("cancelled")) {
            waits_ = false;
            must(!process_.receive_now(), "a message to a caller that has given up");
            return false;
        }
        message("py_done");
        waits_ = false;
        call->go_on("collect");
        return true;
    }

    std::vector<Context *> contexts_;
    Dice dice_;
    Process process_;
    bool waits_ = false;
};

} // namespace nif

#endif
