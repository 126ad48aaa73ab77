// SPDX-License-Identifier: Apache-2.0

/*
 * The NIF with threads, for ThreadSanitizer above all: callers that poll, park, give up and
 * run callbacks, and that wait for slots; a worker that answers; deaths, stops and attaches
 * at any point of all that. EP_STRESS_CALLS is how many calls each caller makes, SEED what
 * the threads draw from.
 */
#include "ep_nif_stress.h"

using namespace nif;

namespace {

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
