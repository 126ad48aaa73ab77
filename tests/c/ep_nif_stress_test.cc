// SPDX-License-Identifier: Apache-2.0

/*
 * The NIF with threads, for ThreadSanitizer above all: callers that poll, park, give up and
 * run callbacks, and that wait for slots; a worker that answers; deaths, stops and attaches
 * at any point of all that. EP_STRESS_CALLS is how many calls each caller makes, SEED what
 * the threads draw from.
 */
#include "ep_nif_side.h"

#include <atomic>
#include <random>
#include <thread>

using namespace nif;

namespace {

unsigned from_environment(const char *name, unsigned otherwise)
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
                say(lane, EP_KIND_CALLBACK, request.call_id,
                    term::integer(0) + term::binary("f") + term::list({}), ++last_question_);
            else
                end(lane, request.call_id);
            break;
        case EP_KIND_ANSWER: end(lane, request.call_id); break;
        default: return false;
        }
        return true;
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

class StressTest : public testing::Test {
protected:
    static constexpr uint32_t kContexts = 2;

    void run(uint32_t spin_ns, unsigned n_callers, unsigned max_slots)
    {
        Process any;
        any.call("set_max_slots", {integer(max_slots)});
        Context first(spin_ns), second(spin_ns);
        std::vector<Context *> contexts = {&first, &second};
        std::atomic<unsigned> running{n_callers};
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < n_callers; i++)
            threads.emplace_back([&, i] {
                Caller(contexts, i).run(from_environment("EP_STRESS_CALLS", 300));
                running--;
            });
        unsigned deaths = 0;
        for (; running > 0; deaths++)
            one_life(contexts, deaths);
        for (std::thread &thread : threads)
            thread.join();
        for (Context *context : contexts) {
            context->close();
            EXPECT_EQ(0u, context->parked());
            EXPECT_EQ(0u, context->open_calls());
        }
        EXPECT_EQ(0u, library_.slots_in_use());
        EXPECT_EQ(0u, library_.counter("violations"));
        printf("%u deaths\n", deaths);
    }

    /* From one attach to a death, a moment later. */
    void one_life(const std::vector<Context *> &contexts, unsigned n)
    {
        Dice dice(1000 + n);
        Worker worker(&launcher_, kContexts);
        for (uint32_t i = 0; i < kContexts; i++)
            ASSERT_EQ("ok", contexts[i]->attach(&worker, i + 1));
        WorkerThread thread(&worker, kContexts, 2000 + n);
        std::this_thread::sleep_for(std::chrono::microseconds(dice.below(20000)));
        if (dice.one_in(3))
            contexts[0]->owner().call("lane_kill", {contexts[0]->lane()});
        if (dice.one_in(4)) /* dies while its threads still write */
            worker.declare_death(256 + SIGSEGV);
    }

    Library library_;
    Launcher launcher_;
};

TEST_F(StressTest, AnswersCallersThatParkWhateverDies)
{
    run(0, 4, 1000);
}

TEST_F(StressTest, AnswersCallersThatPollWhateverDies)
{
    run(50000, 4, 1000);
}

TEST_F(StressTest, AnswersCallersThatWaitForSlotsWhateverDies)
{
    run(20000, 6, 2);
}

} // namespace
