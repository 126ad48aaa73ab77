// SPDX-License-Identifier: Apache-2.0

/*
 * Messages of a worker to Erlang processes: who gets them, when, and which are lies.
 */
#include "ep_nif_side.h"

using namespace nif;

namespace {

/* Terms as a worker writes them. */
std::string small(uint8_t n)
{
    return {'\x61', static_cast<char>(n)};
}

std::string bytes(size_t size)
{
    std::string term = {'\x6d', 0, 0, static_cast<char>(size >> 8), static_cast<char>(size)};
    return term + std::string(size, 'x');
}

/* Of that many small integers. */
std::string map(unsigned n)
{
    std::string term = {'\x74', 0, 0, static_cast<char>(n >> 8), static_cast<char>(n)};
    for (unsigned i = 0; i < n; i++)
        term += small(static_cast<uint8_t>(i)) + small(0);
    return term;
}

class LetterTest : public testing::Test {
protected:
    LetterTest()
    {
        must(context_.attach(&worker_, 1) == "ok", "attach");
        worker_.start(1);
        worker_.ring_anyway();
        must(context_.owner().receive().text() == "{py_lane,started}", "started");
    }

    /* The handle of a term, which the worker learns as the argument of a call. */
    std::string handle_of(const Term &term)
    {
        Process caller;
        caller.call("call", {context_.lane(), atom("undefined"), atom("m"), atom("f"), list({term}),
                             empty_map(), integer(0)});
        std::optional<Request> request = worker_.find(1, EP_KIND_CALL);
        must(request.has_value(), "no call");
        size_t start = 6 + 6 + 5; /* m, f, a list of one */
        return request->payload.substr(start, request->payload.size() - start - 1);
    }

    static Term pid_of(const Process &process)
    {
        ErlNifEnv *env = enif_alloc_env();
        ErlNifPid pid = process.pid();
        return Term(env, enif_make_pid(env, &pid));
    }

    std::string to_receiver(const std::string &term)
    {
        return handle_of(pid_of(receiver_)) + term;
    }

    /* The limit of what messages may cost. */
    uint64_t grant(bool is_full = false)
    {
        Term credit = context_.owner().call(
            "letter_grant", {context_.lane(), integer(is_full ? 1 : EP_SEND_GRANT)});
        return credit.number();
    }

    void send(const std::string &payload, uint32_t lane = 1, uint64_t call_id = 0)
    {
        must(worker_.send(lane, EP_KIND_SEND, call_id, payload), "no room");
        worker_.ring_anyway();
    }

    /* Until the NIF has seen through the worker. */
    bool is_caught()
    {
        for (int i = 0; i < 20000; i++) {
            if (library_.counter("violations") > 0)
                return true;
            usleep(1000);
        }
        return false;
    }

    std::string sample()
    {
        return context_.owner().call("letter_sample", {context_.lane()}).text();
    }

    std::string next()
    {
        Term message = receiver_.receive();
        return message ? message.text() : "nothing";
    }

    Library library_;
    Launcher launcher_;
    Worker worker_{&launcher_};
    Context context_;
    Process receiver_, other_;
};

TEST_F(LetterTest, AreDeliveredInOrder)
{
    grant();
    std::string to = handle_of(pid_of(receiver_));
    for (uint8_t i = 1; i <= 100; i++)
        must(worker_.send(1, EP_KIND_SEND, 0, to + small(i)), "no room");
    worker_.ring_anyway();
    for (int i = 1; i <= 100; i++)
        EXPECT_EQ(std::to_string(i), next());
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(LetterTest, AreDeliveredFromABlockWhichGoesBack)
{
    grant();
    send(to_receiver(bytes(1000)));
    EXPECT_EQ(std::string(1000, 'x'), receiver_.receive().bytes());
    send(to_receiver(small(1)));
    EXPECT_EQ("1", next());
    EXPECT_EQ(0u, worker_.blocks_out(1));
}

TEST_F(LetterTest, AreDeliveredFromTheControlLane)
{
    grant();
    send(to_receiver(small(7)), 0);
    EXPECT_EQ("7", next());
    send(to_receiver(bytes(1000)), 0);
    EXPECT_EQ(1000u, receiver_.receive().bytes().size());
    send(to_receiver(small(8)), 0);
    EXPECT_EQ("8", next());
    EXPECT_EQ(0u, worker_.blocks_out(0));
}

TEST_F(LetterTest, ComeBeforeTheResultThatFollows)
{
    grant();
    std::string to = handle_of(pid_of(receiver_));
    Process caller;
    Call call(&caller, context_.lane());
    std::optional<Request> request = worker_.find(1, EP_KIND_CALL);
    ASSERT_TRUE(request.has_value());
    worker_.send(1, EP_KIND_SEND, 0, to + small(1));
    worker_.send(1, EP_KIND_RESULT, request->call_id, small(2));
    /* The caller looks itself. */
    call.await(integer(77));
    worker_.ring_anyway();
    ASSERT_TRUE(caller.receive().is("py_done"));
    Term first = receiver_.receive_now();
    ASSERT_TRUE(static_cast<bool>(first));
    EXPECT_EQ("1", first.text());
    EXPECT_EQ("{ok,2}", call.go_on("collect").text());
}

TEST_F(LetterTest, AreDeliveredAfterTheContextHasEnded)
{
    grant();
    std::string payload = to_receiver(small(3));
    context_.close();
    send(payload);
    EXPECT_EQ("3", next());
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(LetterTest, AreDeliveredWhenTheWorkerHasDied)
{
    grant();
    std::string to = handle_of(pid_of(receiver_));
    Process other;
    /* More than one batch by count, and by bytes. */
    for (uint8_t i = 0; i < 200; i++)
        must(worker_.send(1, EP_KIND_SEND, 0, to + small(i)), "no room");
    for (int i = 0; i < 20; i++)
        must(worker_.send(1, EP_KIND_SEND, 0, to + bytes(10000)), "no room");
    must(worker_.send(0, EP_KIND_SEND, 0, handle_of(pid_of(other)) + small(1)), "no room");
    worker_.die(256 + SIGKILL);
    EXPECT_EQ("1", other.receive().text());
    for (int i = 0; i < 200; i++)
        EXPECT_EQ(std::to_string(i), next());
    for (int i = 0; i < 20; i++)
        EXPECT_EQ(10000u, receiver_.receive().bytes().size());
}

TEST_F(LetterTest, ToADeadProcessIsLost)
{
    grant();
    Process other;
    std::string to = handle_of(pid_of(other));
    std::string then = to_receiver(small(1));
    other.exit();
    send(to + small(1));
    send(then);
    EXPECT_EQ("1", next());
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(LetterTest, AreAlsoSentForErlangCode)
{
    grant();
    EXPECT_TRUE(
        context_.owner().call("letter_send", {pid_of(receiver_), atom("ok")}).is_atom("true"));
    EXPECT_EQ("ok", next());
    Term pid = pid_of(receiver_);
    receiver_.exit();
    EXPECT_TRUE(context_.owner().call("letter_send", {pid, atom("ok")}).is_atom("false"));
}

TEST_F(LetterTest, AGrantIsCountedFromWhatWasSeen)
{
    EXPECT_EQ(EP_SEND_GRANT, grant());
    /* The answer may have been lost. */
    EXPECT_EQ(EP_SEND_GRANT, grant());
    std::string payload = to_receiver(small(1));
    send(payload);
    EXPECT_EQ("1", next());
    EXPECT_EQ(EP_SEND_GRANT + EP_SEND_COST + payload.size(), grant());
    EXPECT_EQ(EP_SEND_GRANT + EP_SEND_COST + payload.size(), grant(true));
}

TEST_F(LetterTest, CreditForOneMessageIsForOne)
{
    EXPECT_EQ(1u, grant(true));
    EXPECT_EQ(1u, grant(true));
    std::string payload = to_receiver(small(1));
    send(payload);
    EXPECT_EQ("1", next());
    EXPECT_EQ(1u + EP_SEND_COST + payload.size(), grant(true));
}

TEST_F(LetterTest, OneThatIsDearMayOvertakeThoseOfOtherLanes)
{
    grant(true);
    std::string to = handle_of(pid_of(receiver_));
    send(to + bytes(EP_SEND_MAX - to.size() - 5));
    EXPECT_TRUE(static_cast<bool>(receiver_.receive()));
    send(to + small(1));
    EXPECT_EQ("1", next());
    EXPECT_EQ(0u, library_.counter("violations"));
}

/* As many as the price of one that is dear allows, and one more. */
TEST_F(LetterTest, BeyondTheCreditAreALie)
{
    for (uint32_t lane : {1u, 0u}) {
        if (lane == 0)
            grant(true);
        std::string payload = to_receiver(small(1));
        for (uint64_t paid = 0; paid < EP_SEND_COST + EP_SEND_MAX;
             paid += EP_SEND_COST + payload.size()) {
            send(payload, lane);
            EXPECT_EQ("1", next());
        }
        if (lane == 1) {
            EXPECT_EQ(0u, library_.counter("violations"));
        }
    }
    send(to_receiver(small(1)), 0);
    EXPECT_TRUE(is_caught());
    EXPECT_FALSE(static_cast<bool>(receiver_.receive_now()));
}

TEST_F(LetterTest, OfACallIsALie)
{
    grant();
    send(to_receiver(small(1)), 1, UINT64_C(1) << 32 | 1);
    EXPECT_TRUE(is_caught());
}

TEST_F(LetterTest, TooLongIsALie)
{
    grant();
    send(to_receiver(bytes(EP_SEND_MAX)));
    EXPECT_TRUE(is_caught());
}

/* The reaper cannot make a larger one. */
TEST_F(LetterTest, WithALargeMapIsALie)
{
    grant();
    send(to_receiver(map(EP_SEND_KEYS_MAX)));
    EXPECT_TRUE(static_cast<bool>(receiver_.receive()));
    EXPECT_EQ(0u, library_.counter("violations"));
    send(to_receiver("\x6c" + std::string("\0\0\0\1", 4) + map(EP_SEND_KEYS_MAX + 1) + "\x6a"));
    EXPECT_TRUE(is_caught());
    EXPECT_FALSE(static_cast<bool>(receiver_.receive_now()));
}

TEST_F(LetterTest, ToAMadeUpProcessIsALie)
{
    grant();
    std::string payload = to_receiver(small(1));
    payload[payload.size() - 3] ^= 1; /* of the handle */
    send(payload);
    EXPECT_TRUE(is_caught());
}

TEST_F(LetterTest, ToWhatIsNoProcessIsALie)
{
    grant();
    ErlNifEnv *env = enif_alloc_env();
    send(handle_of(Term(env, fake_make_ref(env, 5))) + small(1));
    EXPECT_TRUE(is_caught());
}

TEST_F(LetterTest, WithMoreThanOneTermIsALie)
{
    grant();
    send(to_receiver(small(1) + small(2)));
    EXPECT_TRUE(is_caught());
}

TEST_F(LetterTest, WithoutATermIsALie)
{
    grant();
    send(to_receiver(""));
    EXPECT_TRUE(is_caught());
}

/* Until there is a whole grant again. */
TEST_F(LetterTest, TellsWhoGotOneLately)
{
    EXPECT_EQ("undefined", sample());
    grant();
    std::string payload = to_receiver(small(1));
    send(payload);
    EXPECT_EQ("1", next());
    std::string expected =
        "{" + pid_of(receiver_).text() + "," + std::to_string(EP_SEND_COST + payload.size()) + "}";
    EXPECT_EQ(expected, sample());
    grant(true);
    EXPECT_EQ(expected, sample());
    grant();
    EXPECT_EQ("undefined", sample());
}

/* Half of the price went there. The worker may choose the order, not the chance. */
TEST_F(LetterTest, TellsWhoGotMuchWhateverCameAfterwards)
{
    std::string to_other = handle_of(pid_of(other_)) + small(1);
    std::string much = to_receiver(bytes(10000));
    int seen = 0;
    for (int round = 0; round < 40; round++) {
        grant();
        send(much);
        EXPECT_TRUE(static_cast<bool>(receiver_.receive()));
        for (size_t price = 0; price < much.size(); price += EP_SEND_COST + to_other.size()) {
            send(to_other);
            EXPECT_TRUE(static_cast<bool>(other_.receive()));
        }
        seen += sample().find(pid_of(receiver_).text()) != std::string::npos ? 1 : 0;
    }
    EXPECT_GT(seen, 4);
    EXPECT_LT(seen, 36);
}

TEST_F(LetterTest, TellsThatMuchWentToOtherNodes)
{
    Process carrier;
    EXPECT_EQ("ok", carrier.call("carry_letters", {}).text());
    ErlNifEnv *env = enif_alloc_env();
    std::string to = handle_of(Term(env, fake_make_remote_pid(5)));
    grant();
    send(to + small(1));
    EXPECT_TRUE(carrier.receive().is("py_letter"));
    EXPECT_EQ(0u, sample().find("{" + pid_of(carrier).text()));
}

TEST_F(LetterTest, KnowsWhoWaitsForTheWorker)
{
    EXPECT_TRUE(context_.owner()
                    .call("letter_waits", {context_.lane(), pid_of(receiver_)})
                    .is_atom("false"));
    Call call(&receiver_, context_.lane());
    EXPECT_TRUE(context_.owner()
                    .call("letter_waits", {context_.lane(), pid_of(receiver_)})
                    .is_atom("true"));
    call.go_on("cancel");
    EXPECT_TRUE(context_.owner()
                    .call("letter_waits", {context_.lane(), pid_of(receiver_)})
                    .is_atom("false"));
}

} // namespace
