// SPDX-License-Identifier: Apache-2.0

/*
 * Slots: how many requests run at the same time, and who comes next. The tests are the
 * processes that take them; ep_nif_stress_test does the same with threads.
 */
#include "ep_nif_side.h"

using namespace nif;

namespace {

class SlotsTest : public testing::Test {
protected:
    SlotsTest()
    {
        set_max(1);
    }

    void set_max(unsigned max)
    {
        any_.call("set_max_slots", {integer(max)});
    }

    /* Takes a slot to hold it, or waits for one. */
    static Term acquire(Process *process, const char *why)
    {
        return process->call("slot_acquire", {integer(5), atom(why)});
    }

    static std::string release(Process *process, const Term &acquired)
    {
        return process->call("slot_release", {acquired[1]}).text();
    }

    static bool is_told(Process *process)
    {
        return static_cast<bool>(process->receive_now());
    }

    Library library_;
    Process any_;
    Process a_, b_, c_;
};

TEST_F(SlotsTest, HandsASlotToTheFirstInLine)
{
    Term held = acquire(&a_, "hold");
    ASSERT_TRUE(held.is("held"));
    Term second = acquire(&b_, "hold"), third = acquire(&c_, "hold");
    ASSERT_TRUE(second.is("waiting"));
    ASSERT_TRUE(third.is("waiting"));
    EXPECT_EQ("{1,1,2}", any_.call("slots", {}).text());
    EXPECT_EQ("held", release(&a_, held));
    EXPECT_TRUE(is_told(&b_));
    EXPECT_FALSE(is_told(&c_));
    EXPECT_EQ("held", release(&b_, second));
    EXPECT_TRUE(is_told(&c_));
    EXPECT_EQ("held", release(&c_, third));
    EXPECT_EQ("{0,1,0}", any_.call("slots", {}).text());
}

TEST_F(SlotsTest, OffersASlotToARequestWhichClaimsIt)
{
    Term held = acquire(&a_, "run");
    Term second = acquire(&b_, "run");
    ASSERT_TRUE(held.is("held") && second.is("waiting"));
    EXPECT_EQ("held", release(&a_, held));
    ASSERT_TRUE(is_told(&b_));
    EXPECT_EQ("held", b_.call("slot_claim", {second[1], integer(5)}).text());
    EXPECT_EQ("held", release(&b_, second));
}

TEST_F(SlotsTest, TellsOneThatFoundItsOfferTakenOnceMore)
{
    Term held = acquire(&a_, "run");
    Term second = acquire(&b_, "run");
    release(&a_, held);
    ASSERT_TRUE(is_told(&b_));
    Term faster = acquire(&c_, "run");
    ASSERT_TRUE(faster.is("held"));
    EXPECT_EQ("waiting", b_.call("slot_claim", {second[1], integer(5)}).text());
    release(&c_, faster);
    ASSERT_TRUE(is_told(&b_));
    EXPECT_EQ("held", b_.call("slot_claim", {second[1], integer(5)}).text());
    release(&b_, second);
}

TEST_F(SlotsTest, PassesAnOfferOnThatIsGivenUp)
{
    Term held = acquire(&a_, "run");
    Term second = acquire(&b_, "run"), third = acquire(&c_, "run");
    release(&a_, held);
    ASSERT_TRUE(is_told(&b_));
    EXPECT_EQ("held", release(&b_, second)); /* an offer counts as held */
    EXPECT_TRUE(is_told(&c_));
    EXPECT_EQ("held", c_.call("slot_claim", {third[1], integer(5)}).text());
    release(&c_, third);
}

TEST_F(SlotsTest, TakesSlotsAndPlacesOfTheDeadBack)
{
    auto dead = std::make_unique<Process>(), waits = std::make_unique<Process>();
    Term held = acquire(dead.get(), "hold");
    Term waiting = acquire(waits.get(), "hold");
    Term third = acquire(&c_, "hold");
    waits->exit();
    EXPECT_EQ("{1,1,1}", any_.call("slots", {}).text());
    /* A copy of the reference, as in a crash report, keeps nothing. */
    dead->exit();
    EXPECT_TRUE(is_told(&c_));
    release(&c_, third);
    EXPECT_EQ("{0,1,0}", any_.call("slots", {}).text());
}

TEST_F(SlotsTest, LetsInWhoFitsWhenThereAreMore)
{
    Term held = acquire(&a_, "hold");
    Term second = acquire(&b_, "hold"), third = acquire(&c_, "hold");
    set_max(2);
    EXPECT_TRUE(is_told(&b_));
    EXPECT_FALSE(is_told(&c_));
    set_max(3);
    EXPECT_TRUE(is_told(&c_));
    set_max(1);
    release(&a_, held);
    release(&b_, second);
    EXPECT_EQ("{1,1,0}", any_.call("slots", {}).text());
    release(&c_, third);
}

TEST_F(SlotsTest, GivesTheSlotOfACallBackHoweverTheCallEnds)
{
    Launcher launcher;
    Worker worker(&launcher);
    Context context;
    ASSERT_EQ("ok", context.attach(&worker, 1));
    worker.start(1);
    {
        Call first(&a_, context.lane());
        EXPECT_EQ(1u, library_.slots_in_use());
        EXPECT_EQ("overloaded", Call(&b_, context.lane()).text());
        first.drop(); /* its caller has died */
        EXPECT_EQ(0u, library_.slots_in_use());
    }
    {
        Call second(&a_, context.lane());
        second.await(integer(1));
        EXPECT_EQ("cancelled", second.go_on("cancel").text());
        EXPECT_EQ(0u, library_.slots_in_use());
    }
    Call third(&a_, context.lane());
    third.await(integer(1));
    worker.die(256 + SIGSEGV);
    ASSERT_TRUE(a_.receive());
    EXPECT_TRUE(third.go_on("collect").is("error"));
    EXPECT_EQ(0u, library_.slots_in_use());
}

} // namespace
