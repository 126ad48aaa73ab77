/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_NIF_SCENE_H
#define EP_NIF_SCENE_H

/*
 * ep_nif_scene - one call and all who can touch it: its caller, its context, a worker that
 * keeps to the protocol, and a caller beside it who looks for replies.
 *
 * Threads  one; the reaper of the NIF takes part only where a worker dies.
 */

#include "ep_nif_side.h"

namespace nif {

class Scene {
public:
    /* spin_ns: how long the caller polls; 0: not at all. flags: of the call. */
    Scene(Library *library, Launcher *launcher, uint32_t spin_ns = 0, unsigned flags = 0)
        : library_(library), launcher_(launcher), flags_(flags), context_(spin_ns),
          violations_(library->counter("violations"))
    {
    }

    Scene(const Scene &) = delete;
    Scene &operator=(const Scene &) = delete;

    Context &context()
    {
        return context_;
    }

    Worker &worker()
    {
        return *worker_;
    }

    Process &caller()
    {
        return caller_;
    }

    Call &call()
    {
        return *call_;
    }

    uint64_t id() const
    {
        return id_;
    }

    /* Whether the NIF has found the worker lying. */
    bool is_violated()
    {
        return library_->counter("violations") != violations_;
    }

    /* --- the context --- */

    void attach()
    {
        worker_ = std::make_unique<Worker>(launcher_);
        must(context_.attach(worker_.get(), 1) == "ok", "attach");
        worker_->start(1);
        is_taken_ = has_ended_ = is_interrupted_ = false;
        question_ = 0;
        stand_beside();
        drain(); /* STARTED */
    }

    bool is_attached() const
    {
        return worker_ && !worker_->is_dead() && !is_closed_;
    }

    bool is_closed() const
    {
        return is_closed_;
    }

    /* Ends the worker process; returns the reason that its owner gets. */
    std::string die(int64_t exit_value = 256 + SIGSEGV)
    {
        return worker_->die(exit_value);
    }

    /* The context kills the worker because a call overran. */
    std::string kill_after()
    {
        must(context_.owner().call("lane_kill", {context_.lane()}).is_atom("ok"), "lane_kill()");
        return worker_->die(256 + SIGKILL);
    }

    void close()
    {
        context_.close();
        is_closed_ = true;
        is_interrupted_ = true;
    }

    /* --- the caller --- */

    void submit()
    {
        call_ = std::make_unique<Call>(&caller_, context_.lane(), flags_);
        id_ = call_->has_reference() ? call_->id() : 0;
    }

    bool has_call() const
    {
        return call_ != nullptr && call_->has_reference();
    }

    /* The caller gives up: true if it will get no answer. */
    bool cancel()
    {
        is_cancelled_ = call_->go_on("cancel").is_atom("cancelled");
        is_interrupted_ |= is_cancelled_;
        return is_cancelled_;
    }

    /* The term of the call is collected, as when the caller dies. */
    void drop()
    {
        is_interrupted_ = true;
        is_cancelled_ = is_dropped_ = true;
        call_->drop();
    }

    void interrupt()
    {
        is_interrupted_ = true;
        context_.owner().call("lane_interrupt", {context_.lane(), integer(id_as_int())});
    }

    /* The budget of the call ends while its caller runs a callback. */
    void expire()
    {
        is_interrupted_ = true;
        context_.owner().call("lane_expire", {context_.lane(), integer(id_as_int())});
    }

    /* Whether the caller waits for the message of a call that has its answer. */
    bool is_told()
    {
        if (!message_)
            message_ = caller_.receive_now();
        return static_cast<bool>(message_);
    }

    void collect()
    {
        must(is_told(), "nobody told the caller");
        message_ = Term();
        call_->go_on("collect");
    }

    bool is_pending() const
    {
        return call_->result().is("pending");
    }

    bool is_waiting() const
    {
        return call_->result().is_atom("waiting");
    }

    bool is_asked() const
    {
        return call_->result().is("callback");
    }

    void await()
    {
        call_->await(integer(77));
    }

    void answer()
    {
        call_->answer(call_->result()[2].number(), 1);
    }

    /* Whether the caller has its answer. */
    bool has_answer() const
    {
        const Term &result = call_->result();
        return !result.is_scheduled() && !is_pending() && !is_waiting() && !is_asked()
               && !result.is_atom("done");
    }

    /* What the caller gets in the end, if it does what callers do and nothing else
     * happens; "waits" if that is nothing. */
    std::string finish()
    {
        if (is_cancelled_)
            return "cancelled";
        for (int steps = 0; steps < 20 && !has_answer(); steps++) {
            if (call_->result().is_scheduled())
                call_->poll();
            else if (is_pending())
                await();
            else if (is_asked())
                answer();
            else if (is_told())
                collect();
            else if (call_->result().is_atom("done"))
                await();
            else
                return "waits";
        }
        return has_answer() ? call_->text() : "waits";
    }

    /* --- the worker --- */

    /* Takes the call from its ring. False: it is not there. */
    bool take()
    {
        if ((flags_ & Call::kNested) != 0) {
            listen();
            return is_taken_;
        }
        while (std::optional<Request> request = worker_->take(1))
            note(*request);
        return is_taken_;
    }

    /* Takes what is said to a lane that waits. */
    void listen()
    {
        while (std::optional<Request> request = worker_->take(1, true))
            note(*request);
    }

    /* Whether an honest worker may end the call now. */
    bool may_end() const
    {
        return is_attached_or_closed() && is_taken_ && !has_ended_
               && (question_ == 0 || is_interrupted_);
    }

    bool may_ask() const
    {
        return is_attached_or_closed() && is_taken_ && !has_ended_ && question_ == 0;
    }

    bool is_taken() const
    {
        return is_taken_;
    }

    bool has_ended() const
    {
        return has_ended_;
    }

    /* The request was marked before it was taken. */
    bool is_marked() const
    {
        return is_marked_;
    }

    void reply(ep_kind kind)
    {
        has_ended_ = true;
        say(kind);
    }

    void ask()
    {
        question_ = ++last_question_;
        say(EP_KIND_CALLBACK, question_);
    }

    /* Says something of the call, true or not. */
    void say(ep_kind kind, uint64_t number = 1)
    {
        say_of(id_, kind, number);
    }

    void say_of(uint64_t id, ep_kind kind, uint64_t number = 1)
    {
        worker_->send(1, kind, id, payload_of(kind), 0, kind == EP_KIND_CALLBACK ? number : 0);
    }

    /* The caller beside looks for replies. */
    void drain()
    {
        if (!is_attached())
            return;
        if (beside_->result().is_scheduled())
            beside_->poll();
        else
            beside_->go_on("check");
    }

    /* --- the end --- */

    /* Lets everybody go. Returns what is left that should not be. */
    std::string leave()
    {
        std::string left;
        if (worker_ && !worker_->is_dead())
            die(0);
        if (!is_closed_)
            close();
        call_.reset();
        beside_.reset();
        if (context_.parked() != 0)
            left += " parked:" + std::to_string(context_.parked());
        if (context_.open_calls() != 0)
            left += " calls:" + std::to_string(context_.open_calls());
        if (library_->slots_in_use() != 0)
            left += " cells:" + std::to_string(library_->slots_in_use());
        if (!is_dropped_ && is_told())
            left += " message:" + message_.text();
        return left;
    }

private:
    static std::string payload_of(ep_kind kind)
    {
        switch (kind) {
        case EP_KIND_RESULT: return term::integer(7);
        case EP_KIND_ERROR: return term::binary("KeyError") + term::binary("k") + term::list({});
        case EP_KIND_CALLBACK:
            return term::integer(0) + term::binary("f") + term::list({term::integer(1)});
        default: return "";
        }
    }

    int64_t id_as_int() const
    {
        return static_cast<int64_t>(id_);
    }

    bool is_attached_or_closed() const
    {
        return worker_ && !worker_->is_dead();
    }

    void note(const Request &request)
    {
        if (request.call_id != id_ || id_ == 0)
            return;
        if (request.kind == EP_KIND_ANSWER)
            question_ = 0;
        else if (request.kind <= EP_KIND_EXEC) {
            is_taken_ = true;
            is_marked_ = request.cancelled;
        }
    }

    /* A call whose caller polls, or is parked, so that its check/1 looks into the ring. */
    void stand_beside()
    {
        beside_.reset();
        beside_ = std::make_unique<Call>(&other_, context_.lane());
        must(beside_->has_reference(), "a call beside");
    }

    Library *library_;
    Launcher *launcher_;
    unsigned flags_;
    Context context_;
    std::unique_ptr<Worker> worker_;
    Process caller_, other_;
    std::unique_ptr<Call> call_, beside_;
    Term message_;
    uint64_t id_ = 0, violations_;
    uint64_t question_ = 0, last_question_ = 0;
    bool is_taken_ = false, has_ended_ = false, is_marked_ = false, is_interrupted_ = false;
    bool is_cancelled_ = false, is_dropped_ = false, is_closed_ = false;
};

} // namespace nif

#endif
