// SPDX-License-Identifier: Apache-2.0

/*
 * Streams as the NIF sees them: items on a belt, and what a worker may not say of them.
 */
#include "ep_nif_side.h"

#include "ep_belt.h"

using namespace nif;

namespace {

constexpr int64_t kStream = 0x2000;

/* The integer as a worker writes it. */
std::string small(uint8_t n)
{
    return {'\x61', static_cast<char>(n)};
}

class StreamTest : public testing::Test {
protected:
    StreamTest()
    {
        must(context_.attach(&worker_, 1) == "ok", "attach");
        worker_.start(1);
        worker_.ring_anyway();
        must(context_.owner().receive().text() == "{py_lane,started}", "started");
        Term pending = caller_.call("call", {context_.lane(), atom("undefined"), atom("m"),
                                             atom("f"), list({}), empty_map(), integer(kStream)});
        must(pending.is("pending"), "the call");
        call_ = pending[1];
        std::optional<Request> request = worker_.find(1, EP_KIND_CALL);
        must(request && request->aux == EP_FORM_STREAM, "no stream");
        id_ = request->call_id;
        ep_lane_worker *lane = worker_.lane(1);
        must(ep_slab_alloc(&lane->slab, EP_BELT_SIZE, &block_) == 0, "no block");
        ep_belt_tx_attach(&belt_, lane->slab_mem + block_, lane->belt_bell);
    }

    void put(const std::string &item)
    {
        uint8_t *at;
        must(ep_belt_room(&belt_, &at) >= item.size(), "no room");
        memcpy(at, item.data(), item.size());
        ep_belt_put(&belt_, item.size());
    }

    void tell()
    {
        tell(block_);
    }

    void tell(uint64_t block)
    {
        must(worker_.send(1, EP_KIND_ITEMS, id_, "", 0, block), "no room");
        worker_.ring_anyway();
    }

    void end()
    {
        must(worker_.send(1, EP_KIND_RESULT, id_, small(0), 0, block_ + 1), "no room");
        worker_.ring_anyway();
    }

    std::string next()
    {
        return caller_.call("stream_next", {call_, tag_}).text();
    }

    /* After waiting. */
    std::string woken()
    {
        must(static_cast<bool>(caller_.receive()), "not woken");
        return next();
    }

    /* The reaper may be at the ring still. */
    std::string settled()
    {
        std::string got = next();
        return got == "waiting" ? woken() : got;
    }

    bool is_caught()
    {
        for (int i = 0; i < 20000; i++) {
            if (library_.counter("violations") > 0)
                return true;
            usleep(1000);
        }
        return false;
    }

    Library library_;
    Launcher launcher_;
    Worker worker_{&launcher_};
    Context context_;
    Process caller_;
    Term tag_ = atom("tag");
    Term call_;
    uint64_t id_ = 0, block_ = 0;
    ep_belt_tx belt_;
};

TEST_F(StreamTest, GivesTheItemsThenTheEndAndTheBeltBack)
{
    ASSERT_EQ("waiting", next());
    put(small(1));
    put(small(2));
    put(small(3));
    tell();
    end();
    EXPECT_EQ("{items,[1,2,3]}", woken());
    EXPECT_EQ("{ok,0}", settled());
    EXPECT_EQ(0u, worker_.blocks_out(1));
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(StreamTest, WakesACallerThatWaits)
{
    ASSERT_EQ("waiting", next());
    put(small(1));
    tell();
    EXPECT_EQ("{items,[1]}", woken());
    ASSERT_EQ("waiting", next());
    put(small(2));
    ASSERT_TRUE(ep_belt_must_tell(&belt_));
    tell();
    EXPECT_EQ("{items,[2]}", woken());
    ASSERT_EQ("waiting", next());
    end();
    EXPECT_EQ("{ok,0}", woken());
    EXPECT_EQ(0u, worker_.blocks_out(1));
}

TEST_F(StreamTest, GivesItsItemsAlsoWhenTheWorkerHasDied)
{
    ASSERT_EQ("waiting", next());
    put(small(1));
    tell();
    EXPECT_EQ("{items,[1]}", woken());
    put(small(2));
    worker_.die(256 + SIGKILL);
    EXPECT_EQ("{items,[2]}", next());
    std::string end = next();
    EXPECT_NE(std::string::npos, end.find("worker_died")) << end;
}

TEST_F(StreamTest, GivesTheBeltBackWhenItWasGivenUp)
{
    ASSERT_EQ("waiting", next());
    put(small(1));
    tell();
    EXPECT_EQ("{items,[1]}", woken());
    ASSERT_EQ("waiting", next());
    EXPECT_EQ("cancelled", caller_.call("stream_cancel", {call_}).text());
    EXPECT_EQ(1u, worker_.blocks_out(1));
    end();
    for (int i = 0; i < 20000 && worker_.blocks_out(1) > 0; i++)
        usleep(1000);
    EXPECT_EQ(0u, worker_.blocks_out(1));
    EXPECT_FALSE(static_cast<bool>(caller_.receive_now()));
}

TEST_F(StreamTest, SaysDoneToACancelThatComesAfterTheNews)
{
    ASSERT_EQ("waiting", next());
    put(small(1));
    tell();
    must(static_cast<bool>(caller_.receive()), "not woken");
    EXPECT_EQ("done", caller_.call("stream_cancel", {call_}).text());
    EXPECT_EQ("cancelled", caller_.call("stream_cancel", {call_}).text());
    EXPECT_FALSE(static_cast<bool>(caller_.receive_now()));
}

TEST_F(StreamTest, SendsFinishOnceToOneThatHasBegun)
{
    EXPECT_EQ("true", caller_.call("stream_finish", {call_}).text());
    EXPECT_EQ("true", caller_.call("stream_finish", {call_}).text());
    std::optional<Request> finish = worker_.take(1, true);
    ASSERT_TRUE(finish.has_value());
    EXPECT_EQ(EP_KIND_FINISH, finish->kind);
    EXPECT_EQ(id_, finish->call_id);
    EXPECT_FALSE(worker_.take(1, true).has_value());
}

/* --- lies ----------------------------------------------------------------------------- */

TEST_F(StreamTest, EndsAWorkerThatPutsTooManyItemsOnABelt)
{
    for (unsigned i = 0; i < EP_BELT_ITEMS + 1; i++)
        put(small(1));
    tell();
    for (int i = 0; i < 20000 && library_.counter("violations") == 0; i++) {
        (void)next();
        usleep(1000);
    }
    EXPECT_TRUE(is_caught());
}

TEST_F(StreamTest, EndsAWorkerWhoseTailIsImpossible)
{
    ASSERT_EQ("waiting", next());
    put(small(1));
    belt_.used = EP_BELT_BYTES;
    ep_belt_put(&belt_, 8);
    tell();
    EXPECT_EQ("waiting", woken());
    EXPECT_TRUE(is_caught());
}

TEST_F(StreamTest, EndsAWorkerWhoseItemsAreNoTerms)
{
    ASSERT_EQ("waiting", next());
    put("\xff\xff\xff");
    tell();
    EXPECT_EQ("waiting", woken());
    EXPECT_TRUE(is_caught());
}

TEST_F(StreamTest, EndsAWorkerThatTellsMoreThanItWasAsked)
{
    for (int i = 0; i < 3; i++)
        tell();
    EXPECT_TRUE(is_caught());
}

TEST_F(StreamTest, EndsAWorkerThatNamesABeltOutsideOfItsSlab)
{
    tell(EP_SLAB_SIZE - EP_PAGE);
    EXPECT_TRUE(is_caught());
}

TEST_F(StreamTest, EndsAWorkerThatNamesAnotherBelt)
{
    ASSERT_EQ("waiting", next());
    tell();
    must(static_cast<bool>(caller_.receive()), "not woken");
    ASSERT_EQ("waiting", next());
    tell(block_ + EP_PAGE);
    EXPECT_TRUE(is_caught());
}

TEST_F(StreamTest, EndsAWorkerThatHasItemsOfAPlainCall)
{
    Process other;
    (void)other.call("call", {context_.lane(), atom("undefined"), atom("m"), atom("f"), list({}),
                              empty_map(), integer(0)});
    std::optional<Request> request = worker_.find(1, EP_KIND_CALL);
    ASSERT_TRUE(request.has_value());
    must(worker_.send(1, EP_KIND_ITEMS, request->call_id, "", 0, block_), "no room");
    worker_.ring_anyway();
    EXPECT_TRUE(is_caught());
}

} // namespace
