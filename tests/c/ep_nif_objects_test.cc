// SPDX-License-Identifier: Apache-2.0

/*
 * Channels as the NIF sees them: who waits, who is woken, who is gone, and what a worker may not
 * ask.
 */
#include "ep_nif_side.h"

extern "C" {
#include "ep_array.h"
#include "ep_lease.h"
}

#include <thread>

using namespace nif;

namespace {

constexpr int kChannel = 0, kByteChannel = 1;

std::string number(uint64_t n)
{
    return term::written([&](ep_buf *b) { ep_etf_put_uint(b, n); });
}

std::string status(ep_status status)
{
    return {static_cast<char>(status)};
}

class ObjectTest : public testing::Test {
protected:
    ObjectTest()
    {
        start(&worker_);
        channel_ = caller_.call("object_new", {integer(kChannel), integer(0)});
        bytes_ = caller_.call("object_new", {integer(kByteChannel), integer(0)});
        begin_call();
    }

    void start(Worker *worker)
    {
        must(context_.attach(worker, 1) == "ok", "attach");
        worker->start(1);
        worker->ring_anyway();
        must(context_.owner().receive().text() == "{py_lane,started}", "started");
    }

    /* A request with both objects; the worker takes it and reads their ids. */
    void begin_call()
    {
        call_ = caller_.call("call", {context_.lane(), atom("undefined"), atom("m"), atom("f"),
                                      list({channel_, bytes_}), empty_map(), integer(0)});
        must(call_.is("pending"), "the call");
        call_ = call_[1];
        std::optional<Request> request = worker_.find(1, EP_KIND_CALL);
        must(request && (request->flags & EP_FLAG_ARRAYS) != 0, "no list");
        call_id_ = request->call_id;
        ep_array_reader reader;
        ep_array_info info;
        size_t length;
        const auto *payload = reinterpret_cast<const uint8_t *>(request->payload.data());
        must(ep_array_read(&reader, payload, request->payload.size(), &length) == 0, "the list");
        for (uint64_t *id : {&channel_number_, &bytes_number_}) {
            must(ep_array_next(&reader, &info) == 1, "a record");
            must((info.what & EP_ARRAY_OBJECT) != 0, "no object");
            *id = info.id;
        }
    }

    /* A question of the call, which its caller takes. */
    Term ask(int question, const std::vector<std::string> &arguments)
    {
        must(worker_.send(1, EP_KIND_CALLBACK, call_id_,
                          term::integer(question) + term::list(arguments), 0, ++asked_),
             "no room");
        worker_.ring_anyway();
        Term waiting = caller_.call("await", {call_, atom("tag")});
        if (waiting.is_atom("waiting")) {
            must(static_cast<bool>(caller_.receive()), "nobody told the caller");
            return caller_.call("collect", {call_});
        }
        return waiting;
    }

    /* The answer to it; "" none. */
    std::string answer()
    {
        std::optional<Request> request = worker_.find(1, EP_KIND_ANSWER);
        if (!request)
            return "";
        must(request->subject == asked_, "an answer to another question");
        return (request->aux == EP_ANSWER_STATUS ? "status " : "value ") + request->payload;
    }

    /* A question of a Python thread. */
    void ask_thread(uint64_t id, int question, const std::vector<std::string> &arguments)
    {
        std::string payload = term::integer(question) + term::list(arguments);
        for (int i = 0; !worker_.send(0, EP_KIND_CALLBACK, id, payload, 0, 0, 1); i++) {
            must(i < 20000, "no room");
            usleep(1000);
        }
        worker_.ring_anyway();
    }

    std::string thread_answer(uint64_t *ret_id)
    {
        for (int i = 0; i < 20000; i++) {
            if (std::optional<Request> request = worker_.find(0, EP_KIND_ANSWER)) {
                *ret_id = request->call_id;
                return (request->aux == EP_ANSWER_STATUS  ? "status "
                        : request->aux == EP_ANSWER_ITEMS ? "items "
                                                          : "value ")
                       + request->payload;
            }
            usleep(1000);
        }
        return "";
    }

    /* What a thread gets that takes items with a lease, of which it has read so many. */
    std::string take(uint32_t lease, uint64_t position, uint64_t object = 0)
    {
        uint64_t id = 0;
        ask_thread(++asked_, EP_QUESTION_TAKE,
                   {number(object == 0 ? channel_number_ : object), term::integer(0), number(lease),
                    number(position)});
        std::string found = thread_answer(&id);
        must(id == asked_, "an answer to another thread");
        return found;
    }

    static std::string items(uint32_t lease, int64_t from, int64_t to)
    {
        std::string found = "items " + number(lease);
        for (int64_t i = from; i <= to; i++)
            found += term::integer(i);
        return found;
    }

    /* The worker reads the item at that position, if it may. */
    bool claim(uint32_t lease, uint64_t position)
    {
        return ep_lease_claim(ep_lease_limit(worker_.segment_a(), lease),
                              ep_lease_claimed(worker_.segment_b(), lease), position);
    }

    /* A lease with the items 2 and 3, of four that were sent; the first is gone. */
    void lend_two()
    {
        for (int64_t i = 1; i <= 4; i++)
            send(i);
        EXPECT_EQ("value " + term::integer(1), take(0, 0));
        EXPECT_EQ(items(0, 2, 3), take(0, 0));
    }

    std::string answer_soon()
    {
        std::string found;
        for (int i = 0; i < 20000 && found.empty(); i++) {
            found = answer();
            usleep(1000);
        }
        return found;
    }

    void send(int64_t item)
    {
        must(caller_.call("channel_send", {channel_, integer(item)}).is_atom("ok"), "send");
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

    uint64_t size()
    {
        return caller_.call("object_info", {channel_})[1].number();
    }

    Library library_;
    Launcher launcher_;
    Worker worker_{&launcher_};
    Context context_;
    Process caller_;
    Term channel_, bytes_, call_;
    uint64_t call_id_ = 0, channel_number_ = 0, bytes_number_ = 0, asked_ = 0;
};

TEST_F(ObjectTest, GivesAnItemThatIsThere)
{
    send(7);
    EXPECT_TRUE(ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)}).is("pending"));
    EXPECT_EQ("value " + term::integer(7), answer());
    EXPECT_TRUE(ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(0)}).is("pending"));
    EXPECT_EQ("status " + status(EP_STATUS_EMPTY), answer());
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(ObjectTest, WakesACallThatWaits)
{
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_EQ("", answer());
    send(1);
    EXPECT_EQ("status " + status(EP_STATUS_AGAIN), answer());
    EXPECT_EQ(2u, size());
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_EQ("value " + term::integer(1), answer());
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    caller_.call("object_close", {channel_});
    EXPECT_EQ("status " + status(EP_STATUS_AGAIN), answer());
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_EQ("status " + status(EP_STATUS_CLOSED), answer());
}

TEST_F(ObjectTest, EndsAWaitAtItsTime)
{
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(5)});
    EXPECT_EQ("status " + status(EP_STATUS_TIMEOUT), answer_soon());
    send(1);
    EXPECT_EQ("", answer());
}

TEST_F(ObjectTest, ForgetsACallThatIsCancelled)
{
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_TRUE(caller_.call("cancel", {call_}).is_atom("cancelled"));
    /* The next one may wait, and no answer goes to the first. */
    ask_thread(5, EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    uint64_t id = 0;
    /* It waits when a question after it is answered. */
    ask_thread(6, EP_QUESTION_TAKE, {number(channel_number_), term::integer(0)});
    EXPECT_EQ("status " + status(EP_STATUS_EMPTY), thread_answer(&id));
    EXPECT_EQ(6u, id);
    send(1);
    EXPECT_EQ("status " + status(EP_STATUS_AGAIN), thread_answer(&id));
    EXPECT_EQ(5u, id);
    EXPECT_EQ("", answer());
    EXPECT_EQ(0u, library_.counter("violations"));
}

TEST_F(ObjectTest, LetsOneWait)
{
    uint64_t id = 0;
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    ask_thread(5, EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_EQ("status " + status(EP_STATUS_WAITER_EXISTS), thread_answer(&id));
    send(1);
    EXPECT_EQ("status " + status(EP_STATUS_AGAIN), answer());
}

TEST_F(ObjectTest, EndsTheWaitOfACoroutine)
{
    constexpr uint64_t first = (uint64_t{1} << 63) + 1, second = first + 1;
    uint64_t ids[2] = {};
    ask_thread(first, EP_QUESTION_WAIT, {number(channel_number_), term::integer(0)});
    ask_thread(second, EP_QUESTION_UNWAIT, {number(channel_number_), number(first)});
    EXPECT_EQ("status " + status(EP_STATUS_CANCELLED), thread_answer(&ids[0]));
    EXPECT_EQ("status " + status(EP_STATUS_OK), thread_answer(&ids[1]));
    EXPECT_EQ(first, ids[0]);
    EXPECT_EQ(second, ids[1]);
    send(1);
    ask_thread(second + 1, EP_QUESTION_WAIT, {number(channel_number_), term::integer(0)});
    EXPECT_EQ("status " + status(EP_STATUS_AGAIN), thread_answer(&ids[0]));
    EXPECT_EQ(2u, size());
}

TEST_F(ObjectTest, ForgetsAWorkerThatHasDied)
{
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    ask_thread(5, EP_QUESTION_WAIT, {number(bytes_number_), term::integer(0)});
    /* The thread waits when a question after it is answered. */
    uint64_t id = 0;
    ask_thread(6, EP_QUESTION_TAKE, {number(bytes_number_), term::integer(0)});
    EXPECT_EQ("status " + status(EP_STATUS_EMPTY), thread_answer(&id));
    worker_.die(256 + SIGKILL);
    send(1);
    EXPECT_TRUE(caller_.call("channel_put", {bytes_, binary("x")}).is_atom("ok"));
    EXPECT_EQ(2u, size());
}

TEST_F(ObjectTest, TakesWhatPythonPuts)
{
    std::string large(1000, 'x');
    ask(EP_QUESTION_PUT, {number(bytes_number_), term::binary("abc")});
    EXPECT_EQ("status " + status(EP_STATUS_OK), answer());
    ask(EP_QUESTION_PUT, {number(bytes_number_), term::binary(large)});
    EXPECT_EQ("status " + status(EP_STATUS_OK), answer());
    EXPECT_EQ("abc", caller_.call("channel_take", {bytes_})[1].bytes());
    EXPECT_EQ(large, caller_.call("channel_take", {bytes_})[1].bytes());
    EXPECT_EQ(0u, worker_.blocks_out(1));
    Process receiver;
    EXPECT_TRUE(receiver.call("channel_wait", {bytes_, channel_}).is("waiting"));
    ask(EP_QUESTION_PUT, {number(bytes_number_), term::binary("d")});
    EXPECT_TRUE(static_cast<bool>(receiver.receive()));
    EXPECT_TRUE(receiver.call("channel_unwait", {bytes_, channel_}).is_atom("false"));
    EXPECT_EQ("d", receiver.call("channel_take", {bytes_})[1].bytes());
}

TEST_F(ObjectTest, ForgetsAProcessThatHasDied)
{
    {
        Process receiver;
        EXPECT_TRUE(receiver.call("channel_wait", {bytes_, channel_}).is("waiting"));
        EXPECT_TRUE(caller_.call("channel_wait", {bytes_, bytes_}).is_atom("waiter_exists"));
    }
    EXPECT_TRUE(caller_.call("channel_wait", {bytes_, bytes_}).is("waiting"));
    EXPECT_TRUE(caller_.call("channel_unwait", {bytes_, bytes_}).is_atom("true"));
}

TEST_F(ObjectTest, GivesAReaderThatIsAloneMoreEachTime)
{
    lend_two();
    EXPECT_EQ(6u, size());
    EXPECT_TRUE(claim(0, 0));
    EXPECT_EQ(4u, size());
    EXPECT_TRUE(claim(0, 1));
    for (int64_t i = 5; i <= 200; i++)
        send(i);
    int64_t next = 4;
    uint64_t position = 2;
    for (int64_t n : {4, 8, 16, 32, 64, 64}) {
        ASSERT_EQ(items(0, next, next + n - 1), take(0, position));
        for (int64_t i = 0; i < n; i++)
            ASSERT_TRUE(claim(0, position++));
        next += n;
    }
    EXPECT_EQ(items(0, next, 200), take(0, position));
    for (; next <= 200; next++)
        ASSERT_TRUE(claim(0, position++));
    EXPECT_EQ("status " + status(EP_STATUS_EMPTY), take(0, position));
    EXPECT_EQ(0u, size());
}

TEST_F(ObjectTest, TakesBackWhatWasNotReadWhenAnotherAsks)
{
    lend_two();
    EXPECT_TRUE(claim(0, 0));
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_EQ("value " + term::integer(3), answer());
    EXPECT_FALSE(claim(0, 1));
    /* Who reads with others does so one by one. */
    EXPECT_EQ("value " + term::integer(4), take(0, 2));
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(0)});
    EXPECT_EQ("status " + status(EP_STATUS_EMPTY), answer());
}

TEST_F(ObjectTest, LetsNobodyWaitForItemsThatLieInAProcess)
{
    uint64_t id = 0;
    for (int64_t i = 1; i <= 3; i++)
        send(i);
    EXPECT_EQ("value " + term::integer(1), take(0, 0));
    EXPECT_EQ(items(0, 2, 3), take(0, 0));
    ask_thread(++asked_, EP_QUESTION_WAIT, {number(channel_number_), term::integer(0)});
    EXPECT_EQ("status " + status(EP_STATUS_AGAIN), thread_answer(&id));
    EXPECT_FALSE(claim(0, 0));
    EXPECT_EQ("value " + term::integer(2), take(0, 1));
}

TEST_F(ObjectTest, TakesBackWhatWasNotReadWhenTheLeaseIsForAnother)
{
    lend_two();
    EXPECT_TRUE(claim(0, 0));
    for (const char *text : {"a", "b", "c"})
        EXPECT_TRUE(caller_.call("channel_put", {bytes_, binary(text)}).is_atom("ok"));
    EXPECT_EQ(0u, take(0, 1, bytes_number_).find("value "));
    EXPECT_EQ(0u, take(0, 1, bytes_number_).find("items "));
    EXPECT_EQ(4u, size());
    EXPECT_TRUE(claim(0, 1));
    EXPECT_TRUE(claim(0, 2));
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_EQ("value " + term::integer(3), answer());
}

TEST_F(ObjectTest, FindsWhatADeadWorkerHasNotRead)
{
    lend_two();
    EXPECT_TRUE(claim(0, 0));
    worker_.die(256 + SIGKILL);
    EXPECT_EQ(4u, size());
    for (int64_t i : {3, 4}) {
        uint8_t bytes[8];
        size_t n = ep_nif_take_for_python(fake_resource(*channel_), bytes, sizeof(bytes));
        EXPECT_EQ(term::integer(i), std::string(bytes, bytes + n));
    }
    EXPECT_EQ(0u, size());
}

TEST_F(ObjectTest, CountsWhatWasReadAheadAsTaken)
{
    Term bounded = caller_.call("object_new", {integer(kChannel), integer(4)});
    channel_ = bounded;
    begin_call();
    EXPECT_TRUE(caller_.call("channel_send", {channel_, integer(1)}).is_atom("ok"));
    EXPECT_TRUE(caller_.call("channel_send", {channel_, integer(2)}).is_atom("ok"));
    EXPECT_EQ("value " + term::integer(1), take(0, 0));
    send(3);
    EXPECT_EQ(items(0, 2, 3), take(0, 0));
    EXPECT_TRUE(caller_.call("channel_send", {channel_, integer(4)}).is_atom("busy"));
    EXPECT_TRUE(claim(0, 0));
    send(4);
    EXPECT_TRUE(caller_.call("channel_send", {channel_, integer(5)}).is_atom("busy"));
    EXPECT_TRUE(claim(0, 1));
    EXPECT_EQ("value " + term::integer(4), take(0, 2));
}

TEST_F(ObjectTest, BearsAWorkerThatLiesAboutWhatItHasRead)
{
    lend_two();
    uint64_t *word = ep_lease_claimed(worker_.segment_b(), 0);
    for (uint64_t lie : {uint64_t{2}, uint64_t{0}, uint64_t{1000}, ~uint64_t{0}}) {
        *word = lie;
        (void)size();
    }
    ask(EP_QUESTION_TAKE, {number(channel_number_), term::integer(-1)});
    EXPECT_EQ("value " + term::integer(4), answer());
    EXPECT_EQ(0u, size());
}

TEST_F(ObjectTest, EndsAWorkerThatNamesNoLease)
{
    ask_thread(5, EP_QUESTION_TAKE,
               {number(channel_number_), term::integer(0), number(EP_LEASES_MAX), number(0)});
    EXPECT_TRUE(is_caught());
}

TEST_F(ObjectTest, EndsAWorkerThatNamesWhatItDoesNotHold)
{
    ask(EP_QUESTION_TAKE, {number(channel_number_ + 1000), term::integer(0)});
    EXPECT_TRUE(is_caught());
}

TEST_F(ObjectTest, EndsAWorkerThatTakesOneKindForAnother)
{
    ask(EP_QUESTION_PUT, {number(channel_number_), term::binary("x")});
    EXPECT_TRUE(is_caught());
}

TEST_F(ObjectTest, EndsAWorkerWhoseThreadLies)
{
    ask_thread(5, EP_QUESTION_READ, {number(channel_number_), number(0), number(1)});
    EXPECT_TRUE(is_caught());
}

TEST_F(ObjectTest, EndsAWorkerThatAsksWhatIsNoQuestion)
{
    ask(EP_QUESTION_DICT, {number(channel_number_), term::integer(9), "\x01\x02"});
    EXPECT_TRUE(is_caught());
}

/* Of those that read nothing, so that answers wait for room: each question has one answer. */
TEST_F(ObjectTest, AnswersEachThreadWhateverWaitsForRoom)
{
    constexpr int kMessages = 5000;
    /* A power of two with its header: what waits fills EP_NOTE_BYTES_MAX to the last byte. */
    constexpr size_t kSize = (16u << 10) - 5;
    Term message = binary(std::string(kSize, 'x'));
    for (int i = 0; i < kMessages; i++)
        must(caller_.call("channel_send", {channel_, message}).is_atom("ok"), "send");
    for (uint64_t id = 1; id <= kMessages; id++)
        ask_thread(id, EP_QUESTION_TAKE, {number(channel_number_), term::integer(0)});
    std::vector<bool> answered(kMessages + 1);
    int values = 0;
    for (int i = 0; i < kMessages; i++) {
        uint64_t id = 0;
        std::string found = thread_answer(&id);
        ASSERT_TRUE(id > 0 && id <= kMessages && !answered[id]) << found.substr(0, 20);
        answered[id] = true;
        if (found.rfind("value ", 0) == 0)
            values++;
        else
            ASSERT_EQ("status " + status(EP_STATUS_AGAIN), found);
    }
    EXPECT_LT(values, kMessages) << "there was room for all of them";
    EXPECT_EQ((kMessages - values) * (kSize + 5), size());
    EXPECT_EQ(0u, library_.counter("violations"));
}

/* Senders, receivers that wait, are woken or give up, and an end. */
TEST(ObjectStressTest, DeliversEachMessageOnce)
{
    Library library;
    constexpr int kSenders = 2, kEach = 2000;
    std::atomic<int> taken{0}, woken{0};
    {
        Process maker;
        Term channel = maker.call("object_new", {integer(kByteChannel), integer(0)});
        void *object = fake_resource(*channel);
        std::vector<std::thread> threads;
        for (int i = 0; i < kSenders; i++) {
            threads.emplace_back([&] {
                for (int n = 0; n < kEach; n++)
                    must(ep_nif_put_for_erlang(object), "put");
            });
        }
        for (int i = 0; i < 2; i++) {
            threads.emplace_back([&] {
                Process receiver;
                Term tag = receiver.call("object_new", {integer(kChannel), integer(0)});
                while (taken < kSenders * kEach) {
                    if (receiver.call("channel_take", {channel}).is("ok")) {
                        taken++;
                    } else if (receiver.call("channel_wait", {channel, tag}).is("waiting")) {
                        if (receiver.call("channel_unwait", {channel, tag}).is_atom("true"))
                            continue;
                        must(static_cast<bool>(receiver.receive()), "not woken");
                        woken++;
                    }
                }
            });
        }
        for (std::thread &thread : threads)
            thread.join();
        EXPECT_EQ(0u, maker.call("object_info", {channel})[1].number());
        /* Whatever the threads have done: one that waits is woken. */
        Process receiver;
        Term tag = receiver.call("object_new", {integer(kChannel), integer(0)});
        EXPECT_TRUE(receiver.call("channel_wait", {channel, tag}).is("waiting"));
        EXPECT_TRUE(ep_nif_put_for_erlang(object));
        EXPECT_TRUE(static_cast<bool>(receiver.receive()));
        EXPECT_TRUE(receiver.call("channel_unwait", {channel, tag}).is_atom("false"));
    }
    EXPECT_EQ(kSenders * kEach, taken);
}

/* Objects whose last reference goes, while the reaper does not run. */
class RemainsTest : public testing::Test {
protected:
    static constexpr int kMany = 5000, kFew = 100;
    /* What a scheduler frees at most. */
    static constexpr long kMost = 1024;

    Term object(int kind)
    {
        return process_.call("object_new", {integer(kind), integer(0)});
    }

    Term channel(int items)
    {
        Term channel = object(EP_OBJECT_CHANNEL);
        for (int i = 0; i < items; i++)
            must(process_.call("channel_send", {channel, integer(i)}).is_atom("ok"), "send");
        return channel;
    }

    Term dict(int values)
    {
        Term dict = object(EP_OBJECT_DICT);
        for (int i = 0; i < values; i++)
            must(
                process_.call("dict_set", {dict, binary(std::to_string(i)), integer(i), integer(i)})
                    .is_atom("ok"),
                "set");
        return dict;
    }

    Term buffer(int chunks)
    {
        Term buffer = object(EP_OBJECT_BUFFER);
        for (int i = 0; i < chunks; i++)
            must(process_.call("buffer_write", {buffer, binary(std::string(64u << 10, 'x'))})
                     .is_atom("ok"),
                 "write");
        return buffer;
    }

    /* How many pieces of memory go with the last reference. */
    static long freed_with(Term object)
    {
        long before = fake_living().memory;
        object = Term();
        return before - fake_living().memory;
    }

    Library library_{FAKE_THREADS_HELD};
    Process process_;
};

TEST_F(RemainsTest, GoAtOnceIfTheyAreFew)
{
    EXPECT_GE(freed_with(channel(kFew)), kFew);
    EXPECT_GE(freed_with(dict(kFew)), kFew);
    EXPECT_GE(freed_with(buffer(8)), 2);
}

/* The library frees the rest when it ends, or it would complain. */
TEST_F(RemainsTest, AreLeftIfTheyAreMany)
{
    EXPECT_LE(freed_with(channel(kMany)), kMost);
    EXPECT_LE(freed_with(dict(kMany)), kMost);
    EXPECT_LE(freed_with(buffer(100)), 10);
}

/* A scheduler gives back the pages of large ones, too. */
TEST_F(RemainsTest, AreLeftIfTheyAreLarge)
{
    constexpr int kLarge = 400;
    Term channel = object(EP_OBJECT_CHANNEL), held = object(EP_OBJECT_CHANNEL),
         dict = object(EP_OBJECT_DICT);
    for (int i = 0; i < kLarge; i++) {
        Term large = binary(std::string(60u << 10, 'x')), key = binary(std::to_string(i));
        must(process_.call("channel_send", {channel, list({large})}).is_atom("ok"), "send");
        must(process_.call("channel_send", {held, large}).is_atom("ok"), "send");
        must(process_.call("dict_set", {dict, key, large, large}).is_atom("ok"), "set");
    }
    EXPECT_LT(freed_with(std::move(channel)), kLarge / 2);
    EXPECT_LT(freed_with(std::move(held)), kLarge / 2);
    EXPECT_LT(freed_with(std::move(dict)), kLarge / 2);
}

/* One message may name as many objects as fit in it. */
TEST_F(RemainsTest, AreLeftIfTheyNameMany)
{
    Term channel = object(EP_OBJECT_CHANNEL);
    std::vector<Term> named;
    for (int i = 0; i < kMany; i++)
        named.push_back(object(EP_OBJECT_CHANNEL));
    must(process_.call("channel_send", {channel, list(named)}).is_atom("ok"), "send");
    named.clear();
    long before = fake_living().resources;
    channel = Term();
    EXPECT_LE(before - fake_living().resources, kMost);
}

/* However slow the reaper is, here endlessly: who makes more frees more. */
TEST_F(RemainsTest, DoNotGrowWithoutEnd)
{
    constexpr int kEach = 20000;
    constexpr long kLeft = 180000;
    long before = fake_living().memory;
    for (int i = 0; i < 20; i++) {
        (void)channel(kEach);
        ASSERT_LT(fake_living().memory - before, kLeft) << "channel " << i;
    }
    for (int i = 0; i < 20; i++) {
        (void)dict(kEach);
        ASSERT_LT(fake_living().memory - before, kLeft) << "dict " << i;
    }
}

/* Nobody copies a large binary that is sent, but who sends it pays for no more than a scheduler can
 * bear. */
TEST_F(RemainsTest, CostALargeMessageNoMore)
{
    for (int i = 0; i < 8; i++)
        (void)channel(20000);
    Term large = binary(std::string(64u << 20, 'x')), to = object(EP_OBJECT_CHANNEL);
    long before = fake_living().memory;
    EXPECT_TRUE(process_.call("channel_send", {to, large}).is_atom("ok"));
    long freed = before + 1 - fake_living().memory;
    EXPECT_GT(freed, 0);
    EXPECT_LE(freed, 2 * 1024);
}

/* Their chunks have pages besides. */
TEST_F(RemainsTest, OfBuffersDoNotGrowWithoutEnd)
{
    long before = fake_living().memory;
    for (int i = 0; i < 20; i++) {
        (void)buffer(2000);
        ASSERT_LT(fake_living().memory - before, 3500) << "buffer " << i;
    }
}

/* The same while the reaper runs. */
class ReaperOfRemainsTest : public testing::Test {
protected:
    /* A channel with so many items; its last reference goes with the term. */
    static Term filled(Process *process, int items)
    {
        Term channel = process->call("object_new", {integer(EP_OBJECT_CHANNEL), integer(0)});
        for (int i = 0; i < items; i++)
            must(process->call("channel_send", {channel, integer(i)}).is_atom("ok"), "send");
        return channel;
    }

    bool is_all_freed() const
    {
        for (int i = 0; i < 20000 && fake_living().memory > before_; i++)
            usleep(1000);
        return fake_living().memory <= before_;
    }

    static constexpr int kItems = 3000;
    Library library_;
    Process process_;
    long before_ = fake_living().memory;
};

/* The reaper and all who make more at the same time. */
TEST_F(ReaperOfRemainsTest, IsHelped)
{
    constexpr int kMakers = 4, kRounds = 10;
    std::vector<std::thread> makers;
    for (int maker = 0; maker < kMakers; maker++)
        makers.emplace_back([] {
            Process process;
            for (int round = 0; round < kRounds; round++) {
                Term outer = filled(&process, kItems), inner = filled(&process, kItems);
                must(process.call("channel_send", {outer, inner}).is_atom("ok"), "send");
            }
        });
    for (std::thread &maker : makers)
        maker.join();
    EXPECT_TRUE(is_all_freed());
}

/* A reaper that takes over finds what the one before it had left. */
TEST_F(ReaperOfRemainsTest, TakesThemOver)
{
    for (int round = 0; round < 20; round++) {
        (void)filled(&process_, kItems);
        must(fake_upgrade() == 0, "upgrade");
        fake_unload_old();
    }
    EXPECT_TRUE(is_all_freed());
}

TEST_F(ReaperOfRemainsTest, FreesThem)
{
    for (int round = 0; round < 3; round++)
        (void)filled(&process_, kItems);
    EXPECT_TRUE(is_all_freed());
}

} // namespace
