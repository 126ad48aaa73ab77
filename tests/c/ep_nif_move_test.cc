// SPDX-License-Identifier: Apache-2.0

/*
 * A lane that moves to a worker process which is up: what happens to its calls, and what when
 * either process dies, before, in the middle or after. With threads for ThreadSanitizer: lanes
 * that move all the time, while processes die.
 */
#include "ep_nif_stress.h"

using namespace nif;

namespace {

/* A context in its former process, and an understudy that has started in the next one. */
class MoveTest : public testing::Test {
protected:
    MoveTest()
        : former_(std::make_unique<Worker>(&launcher_)), next_(std::make_unique<Worker>(&launcher_))
    {
        attach(&context_, former_.get());
        attach(understudy_.get(), next_.get());
    }

    void TearDown() override
    {
        understudy_->close();
        context_.close();
        former_.reset();
        next_.reset();
        for (Context *context : {&context_, understudy_.get()}) {
            EXPECT_EQ(0u, context->parked());
            EXPECT_EQ(0u, context->open_calls());
        }
        EXPECT_EQ(0u, library_.slots_in_use());
        EXPECT_EQ(0u, library_.counter("violations"));
    }

    static void attach(Context *context, Worker *worker)
    {
        must(context->attach(worker, 1) == "ok", "attach");
        worker->start(1);
        worker->ring_anyway();
        must(context->owner().receive().text() == "{py_lane,started}", "started");
    }

    std::string move()
    {
        return understudy_->owner()
            .call("lane_move", {context_.lane(), understudy_->lane()})
            .text();
    }

    void stay()
    {
        understudy_->owner().call("lane_stay", {context_.lane()});
    }

    uint64_t requests()
    {
        return context_.owner().call("lane_requests", {context_.lane()}).number();
    }

    /* A caller that has parked, and is told. */
    std::unique_ptr<Call> call()
    {
        auto call = std::make_unique<Call>(&caller_, context_.lane());
        must(call->await(integer(1)).is_atom("waiting"), "a call that waits");
        return call;
    }

    static std::optional<Request> take(Worker *worker)
    {
        return worker->find(1, EP_KIND_CALL);
    }

    static void reply(Worker *worker, uint64_t call_id, int64_t value)
    {
        worker->send(1, EP_KIND_RESULT, call_id, term::integer(value));
    }

    std::string outcome(Call *call)
    {
        must(caller_.receive().text() == "{py_done,1}", "the caller is not told");
        return call->go_on("collect").text();
    }

    /* The process has the call, and answers it. */
    void expect_served_by(Worker *worker, Call *call, int64_t value)
    {
        std::optional<Request> request = take(worker);
        ASSERT_TRUE(request);
        EXPECT_EQ(call->id(), request->call_id);
        reply(worker, request->call_id, value);
        worker->ring(1);
        EXPECT_EQ("{ok," + std::to_string(value) + "}", outcome(call));
    }

    static bool has_died(const std::string &outcome)
    {
        return outcome.find("worker_died") != std::string::npos;
    }

    Library library_;
    Launcher launcher_;
    Context context_;
    std::unique_ptr<Context> understudy_ = std::make_unique<Context>();
    std::unique_ptr<Worker> former_, next_;
    Process caller_;
};

TEST_F(MoveTest, TakesRequestsToTheNextProcess)
{
    ASSERT_EQ("ok", move());
    auto first = call();
    EXPECT_FALSE(take(former_.get()));
    expect_served_by(next_.get(), first.get(), 7);
    /* The understudy is left with the former process, which ends it. */
    understudy_->close();
    EXPECT_TRUE(former_->find(1, EP_KIND_STOP));
}

TEST_F(MoveTest, WaitsForARequestThatRunsAndKeepsTheOrderOfThoseBehindIt)
{
    auto running = call();
    std::optional<Request> taken = take(former_.get());
    ASSERT_TRUE(taken);
    ASSERT_EQ("again", move());
    auto second = call(), third = call();
    EXPECT_FALSE(take(former_.get()));
    EXPECT_EQ("again", move());
    /* The move takes the reply itself: nobody has rung. */
    reply(former_.get(), taken->call_id, 1);
    ASSERT_EQ("again", move());
    ASSERT_EQ("{ok,1}", outcome(running.get()));
    ASSERT_EQ("ok", move());
    EXPECT_FALSE(take(former_.get()));
    std::optional<Request> two = next_->take(1), three = next_->take(1);
    ASSERT_TRUE(two && three);
    EXPECT_EQ(second->id(), two->call_id);
    EXPECT_EQ(third->id(), three->call_id);
    reply(next_.get(), two->call_id, 2);
    next_->ring(1);
    EXPECT_EQ("{ok,2}", outcome(second.get()));
    reply(next_.get(), three->call_id, 3);
    next_->ring(1);
    EXPECT_EQ("{ok,3}", outcome(third.get()));
}

TEST_F(MoveTest, WaitsForRequestsThatLieInTheRing)
{
    auto first = call();
    EXPECT_EQ("again", move());
    expect_served_by(former_.get(), first.get(), 1);
    EXPECT_EQ("ok", move());
}

TEST_F(MoveTest, WaitsForACallbackAndItsAnswer)
{
    auto first = call();
    std::optional<Request> taken = take(former_.get());
    ASSERT_TRUE(taken);
    former_->send(1, EP_KIND_CALLBACK, taken->call_id,
                  term::integer(0) + term::binary("f") + term::list({}), 0, 1);
    former_->ring(1);
    must(caller_.receive().text() == "{py_done,1}", "the caller is not asked");
    ASSERT_TRUE(first->go_on("collect").is("callback"));
    EXPECT_EQ("again", move());
    EXPECT_FALSE(take(next_.get()));
    first->answer(1, 5);
    ASSERT_TRUE(former_->find(1, EP_KIND_ANSWER));
    EXPECT_EQ("again", move());
    ASSERT_TRUE(first->await(integer(1)).is_atom("waiting"));
    reply(former_.get(), taken->call_id, 6);
    former_->ring(1);
    EXPECT_EQ("{ok,6}", outcome(first.get()));
    EXPECT_EQ("ok", move());
}

TEST_F(MoveTest, WaitsForTheEndOfARequestThatItsCallerGaveUp)
{
    auto first = call();
    std::optional<Request> taken = take(former_.get());
    ASSERT_TRUE(taken);
    ASSERT_TRUE(first->go_on("cancel").is_atom("cancelled"));
    EXPECT_EQ("again", move());
    reply(former_.get(), taken->call_id, 1);
    former_->ring_anyway();
    while (move() == "again")
        std::this_thread::yield();
    auto second = call();
    expect_served_by(next_.get(), second.get(), 2);
}

TEST_F(MoveTest, DropsAHeldRequestWhoseCallerGaveUp)
{
    auto first = call();
    std::optional<Request> taken = take(former_.get());
    ASSERT_EQ("again", move());
    auto second = call();
    ASSERT_TRUE(second->go_on("cancel").is_atom("cancelled"));
    reply(former_.get(), taken->call_id, 1);
    former_->ring_anyway();
    EXPECT_EQ("{ok,1}", outcome(first.get()));
    ASSERT_EQ("ok", move());
    EXPECT_FALSE(take(next_.get()));
}

TEST_F(MoveTest, LetsHeldRequestsGoToTheFormerProcessWhenItIsGivenUp)
{
    auto first = call();
    std::optional<Request> taken = take(former_.get());
    ASSERT_TRUE(taken);
    ASSERT_EQ("again", move());
    auto second = call();
    stay();
    reply(former_.get(), taken->call_id, 1);
    former_->ring(1);
    EXPECT_EQ("{ok,1}", outcome(first.get()));
    expect_served_by(former_.get(), second.get(), 2);
    EXPECT_FALSE(take(next_.get()));
}

/* What waits ends with the process, as it does where nothing moves. */
TEST_F(MoveTest, GoesOnInTheNextProcessWhenTheFormerDiesInTheMiddle)
{
    auto running = call();
    ASSERT_TRUE(take(former_.get()));
    ASSERT_EQ("again", move());
    auto held = call();
    EXPECT_EQ("SIGSEGV", former_->die(256 + SIGSEGV));
    for (Call *ended : {running.get(), held.get()})
        EXPECT_TRUE(has_died(outcome(ended)));
    ASSERT_EQ("ok", move());
    auto another = call();
    expect_served_by(next_.get(), another.get(), 2);
}

TEST_F(MoveTest, TakesHeldRequestsAlongWhenTheFormerIsKilledForOneThatOverran)
{
    auto running = call();
    ASSERT_TRUE(take(former_.get()));
    ASSERT_EQ("again", move());
    auto held = call();
    ASSERT_TRUE(context_.owner().call("lane_kill", {context_.lane()}).is_atom("ok"));
    EXPECT_EQ("kill_after", former_->die(256 + SIGKILL));
    EXPECT_TRUE(has_died(outcome(running.get())));
    ASSERT_EQ("ok", move());
    expect_served_by(next_.get(), held.get(), 2);
}

TEST_F(MoveTest, GetsTheProcessOfTheUnderstudyWhenTheFormerHasDied)
{
    EXPECT_EQ("SIGSEGV", former_->die(256 + SIGSEGV));
    auto held = call();
    ASSERT_EQ("ok", move());
    expect_served_by(next_.get(), held.get(), 2);
}

TEST_F(MoveTest, StaysWhenTheNextProcessDiesInTheMiddle)
{
    auto running = call();
    std::optional<Request> taken = take(former_.get());
    ASSERT_TRUE(taken);
    ASSERT_EQ("again", move());
    auto held = call();
    EXPECT_EQ("SIGSEGV", next_->die(256 + SIGSEGV));
    EXPECT_EQ("{error,esrch}", move());
    stay();
    reply(former_.get(), taken->call_id, 1);
    former_->ring(1);
    EXPECT_EQ("{ok,1}", outcome(running.get()));
    expect_served_by(former_.get(), held.get(), 2);
}

TEST_F(MoveTest, LosesItsRequestsWithTheNextProcessAfterTheMove)
{
    ASSERT_EQ("ok", move());
    auto first = call();
    ASSERT_TRUE(take(next_.get()));
    EXPECT_EQ("SIGSEGV", next_->die(256 + SIGSEGV));
    EXPECT_TRUE(has_died(outcome(first.get())));
    /* It can be attached again. */
    Worker third(&launcher_);
    attach(&context_, &third);
    auto second = call();
    expect_served_by(&third, second.get(), 2);
}

TEST_F(MoveTest, IsNotTouchedByTheDeathOfTheFormerProcessAfterTheMove)
{
    ASSERT_EQ("ok", move());
    auto first = call();
    std::optional<Request> taken = take(next_.get());
    ASSERT_TRUE(taken);
    EXPECT_EQ("SIGSEGV", former_->die(256 + SIGSEGV));
    reply(next_.get(), taken->call_id, 3);
    next_->ring(1);
    EXPECT_EQ("{ok,3}", outcome(first.get()));
}

TEST_F(MoveTest, FailsWhenBothProcessesHaveDied)
{
    (void)former_->die(256 + SIGKILL);
    (void)next_->die(256 + SIGKILL);
    EXPECT_EQ("{error,esrch}", move());
    auto first = call();
    context_.set_unavailable("none");
    EXPECT_NE(std::string::npos, outcome(first.get()).find("worker_unavailable"));
}

TEST_F(MoveTest, FailsWhereTheContextHasEnded)
{
    auto running = call();
    std::optional<Request> taken = take(former_.get());
    ASSERT_EQ("again", move());
    auto held = call();
    context_.close();
    EXPECT_EQ("{error,estale}", move());
    for (Call *ended : {running.get(), held.get()})
        EXPECT_NE(std::string::npos, outcome(ended).find("context_died"));
    reply(former_.get(), taken->call_id, 1); /* late, and no violation */
}

TEST_F(MoveTest, NeedsAnotherLaneInAnotherProcess)
{
    Term lane = context_.lane();
    EXPECT_EQ("{error,esrch}", understudy_->owner().call("lane_move", {lane, lane}).text());
    Context detached;
    EXPECT_EQ("{error,esrch}",
              understudy_->owner().call("lane_move", {lane, detached.lane()}).text());
    Worker both(&launcher_, 2);
    Context one, two;
    ASSERT_EQ("ok", one.attach(&both, 1));
    ASSERT_EQ("ok", two.attach(&both, 2));
    EXPECT_EQ("{error,esrch}", one.owner().call("lane_move", {one.lane(), two.lane()}).text());
}

TEST_F(MoveTest, CountsTheRequestsOfThePresentProcess)
{
    for (int i = 0; i < 3; i++) {
        auto one = call();
        expect_served_by(former_.get(), one.get(), i);
    }
    EXPECT_EQ(3u, requests());
    ASSERT_EQ("ok", move());
    EXPECT_EQ(0u, requests());
    auto one = call();
    expect_served_by(next_.get(), one.get(), 7);
    EXPECT_EQ(1u, requests());
}

/* A worker takes a number only once. */
TEST_F(MoveTest, NumbersInterruptsAboveThoseOfTheUnderstudy)
{
    auto interrupted = [this](Context *context, Worker *worker, Call *call) {
        must(take(worker).has_value(), "no call");
        context->owner().call("lane_interrupt",
                              {context->lane(), integer(static_cast<int64_t>(call->id()))});
        std::optional<Request> request = worker->find(1, EP_KIND_CANCEL);
        must(request.has_value(), "no interrupt");
        reply(worker, call->id(), 1);
        worker->ring(1);
        (void)outcome(call);
        return request->subject;
    };
    uint64_t last = 0;
    for (int i = 0; i < 3; i++) {
        Call one(&caller_, understudy_->lane());
        ASSERT_TRUE(one.await(integer(1)).is_atom("waiting"));
        last = interrupted(understudy_.get(), next_.get(), &one);
    }
    ASSERT_EQ("ok", move());
    auto one = call();
    EXPECT_LT(last, interrupted(&context_, next_.get(), one.get()));
}

TEST_F(MoveTest, MovesManyTimes)
{
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ("ok", move());
        auto one = call();
        expect_served_by(next_.get(), one.get(), i);
        if (i % 3 == 0)
            (void)former_->die(256 + SIGKILL);
        understudy_->close();
        former_ = std::move(next_);
        next_ = std::make_unique<Worker>(&launcher_);
        understudy_ = std::make_unique<Context>();
        attach(understudy_.get(), next_.get());
    }
}

/* --- with threads ------------------------------------------------------------------------- */

class MoveStressTest : public testing::Test {
protected:
    /* A process, and the threads that serve there. */
    struct Life {
        Life(Launcher *launcher, unsigned stream)
            : worker(launcher), thread(std::make_unique<WorkerThread>(&worker, 1, stream))
        {
        }

        ~Life()
        {
            thread.reset();
        }

        Worker worker;
        std::unique_ptr<WorkerThread> thread;
    };

    void run(uint32_t spin_ns, unsigned n_callers)
    {
        Context context(spin_ns);
        std::atomic<unsigned> running{n_callers};
        std::vector<std::thread> threads;
        auto life = std::make_unique<Life>(&launcher_, 2000);
        ASSERT_EQ("ok", context.attach(&life->worker, 1));
        for (unsigned i = 0; i < n_callers; i++)
            threads.emplace_back([&, i] {
                Caller({&context}, i).run(from_environment("EP_STRESS_CALLS", 300));
                running--;
            });
        unsigned moves = 0;
        for (unsigned n = 1; running > 0; n++)
            moves += follow(&context, &life, n);
        for (std::thread &thread : threads)
            thread.join();
        context.close();
        life.reset();
        EXPECT_EQ(0u, context.parked());
        EXPECT_EQ(0u, context.open_calls());
        EXPECT_EQ(0u, library_.slots_in_use());
        EXPECT_EQ(0u, library_.counter("violations"));
        printf("%u moves\n", moves);
    }

    /* What py_worker and py_understudy do: returns whether the context has moved. */
    bool follow(Context *context, std::unique_ptr<Life> *life, unsigned n)
    {
        Dice dice(1000 + n);
        auto next = std::make_unique<Life>(&launcher_, 2000 + n);
        Context understudy;
        must(understudy.attach(&next->worker, 1) == "ok", "attach");
        Term started = understudy.owner().receive();
        must(started.text() == "{py_lane,started}", "started");
        std::unique_ptr<Life> *victim = dice.one_in(2) ? life : &next;
        unsigned until = dice.below(20);
        bool dies = dice.one_in(3);
        std::string moved;
        for (unsigned tries = 0; (moved = move(context, &understudy)) == "again"; tries++) {
            if (dies && tries == until)
                (*victim)->worker.declare_death(256 + SIGSEGV);
            std::this_thread::yield();
        }
        understudy.close();
        if (moved == "ok") {
            *life = std::move(next);
            return true;
        }
        must(moved == "{error,esrch}", moved.c_str());
        context->owner().call("lane_stay", {context->lane()});
        return false;
    }

    static std::string move(Context *context, Context *understudy)
    {
        return understudy->owner().call("lane_move", {context->lane(), understudy->lane()}).text();
    }

    Library library_;
    Launcher launcher_;
};

TEST_F(MoveStressTest, LosesNoRequestOfCallersThatPark)
{
    run(0, 4);
}

TEST_F(MoveStressTest, LosesNoRequestOfCallersThatPoll)
{
    run(50000, 4);
}

} // namespace
