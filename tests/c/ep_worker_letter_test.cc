// SPDX-License-Identifier: Apache-2.0

/*
 * What Python sends to Erlang processes, and when it asks first.
 */
#include "ep_worker_callback_fixture.h"

using namespace term;

namespace {

enum Said { kDead, kAlive, kFull, kRemote };

class WorkerLetterTest : public WorkerCallbackTest {
protected:
    /* An eval in which p is a Pid. */
    uint64_t begin_with_pid(const std::string &code)
    {
        return begin(EP_KIND_EVAL,
                     binary(code) + map({{binary("p"), handle(EP_HANDLE_PID, "abc")}}));
    }

    /* Answers the question how the receiver is. */
    void tell(uint64_t id, Said what, int64_t limit)
    {
        vm_->answer(1, callback(id, "11 [pid:abc:8,true]"), tuple({integer(what), integer(limit)}));
    }

    void expect_letter(const std::string &text, uint32_t lane = 1)
    {
        Reply reply = vm_->receive(lane);
        /* What the worker was told holds for some milliseconds only. */
        while (lane == 1 && reply.kind == EP_KIND_CALLBACK && reply.call_id == last_id_) {
            vm_->answer(1, reply, tuple({integer(kAlive), integer(1 << 20)}));
            reply = vm_->receive(lane);
        }
        EXPECT_EQ(EP_KIND_SEND, reply.kind) << VmSide::shown(reply);
        EXPECT_EQ(0u, reply.call_id);
        EXPECT_EQ("pid:abc:8 " + text, reply.text());
    }
};

TEST_F(WorkerLetterTest, AsksOnceAndSendsOn)
{
    uint64_t id = begin_with_pid("[erlang.send(p, i) for i in (1, 'two', b'x' * 300)]");
    tell(id, kAlive, 1 << 20);
    expect_letter("1");
    expect_letter("\"two\"");
    expect_letter("\"" + std::string(300, 'x') + "\"");
    EXPECT_EQ("[none,none,none]", end(id));
}

TEST_F(WorkerLetterTest, AsksAgainWithoutCredit)
{
    uint64_t id = begin_with_pid("[erlang.send(p, i) for i in (1, 2)]");
    tell(id, kAlive, 1);
    expect_letter("1");
    tell(id, kAlive, 1);
    tell(id, kAlive, 1 << 20);
    expect_letter("2");
    EXPECT_EQ("[none,none]", end(id));
}

TEST_F(WorkerLetterTest, AsksBeforeEachMessageToAFullReceiver)
{
    uint64_t id = begin_with_pid("[erlang.send(p, i) for i in (1, 2)]");
    tell(id, kFull, 1 << 20);
    expect_letter("1");
    tell(id, kFull, 1 << 20);
    expect_letter("2");
    EXPECT_EQ("[none,none]", end(id));
}

TEST_F(WorkerLetterTest, RaisesForADeadReceiver)
{
    uint64_t id = begin_with_pid("erlang.send(p, 1)");
    tell(id, kDead, 0);
    std::string got = end(id);
    EXPECT_NE(std::string::npos, got.find("ProcessError")) << got;
}

/* The answer to an interrupted question is lost, and no credit with it. */
TEST_F(WorkerLetterTest, GoesOnAfterAnInterruptedQuestion)
{
    uint64_t id = begin_with_pid("erlang.send(p, 1)");
    Reply asked = callback(id, "11 [pid:abc:8,true]");
    vm_->cancel_waiting(1, id, 1);
    EXPECT_NE(std::string::npos, end(id).find("KeyboardInterrupt"));
    vm_->answer(1, asked, tuple({integer(kAlive), integer(1 << 20)}));
    id = begin_with_pid("erlang.send(p, 2)");
    tell(id, kAlive, 1 << 20);
    expect_letter("2");
    EXPECT_EQ("none", end(id));
}

TEST_F(WorkerLetterTest, AsksToDeliverWhatIsLong)
{
    uint64_t id = begin_with_pid("erlang.reply(p, b'y' * 20000)");
    Reply asked = callback(id, "12 [1,pid:abc:8,\"" + std::string(20000, 'y') + "\"]");
    vm_->answer(1, asked, tuple({integer(kAlive), integer(1)}));
    EXPECT_EQ("true", end(id));
}

TEST_F(WorkerLetterTest, SendsFromThreadsBeforeTheResult)
{
    uint64_t id =
        begin(EP_KIND_EXEC, binary("import threading\n"
                                   "def run(p):\n"
                                   "    t = threading.Thread(target=erlang.send, args=(p, 5))\n"
                                   "    t.start(); t.join()\n"));
    EXPECT_EQ("", end(id));
    id = begin_with_pid("run(p)");
    Reply asked = vm_->receive(0);
    EXPECT_EQ("11 [pid:abc:8,true]", asked.text());
    vm_->send(0, EP_KIND_ANSWER, tuple({integer(kAlive), integer(1 << 20)}), asked.call_id);
    expect_letter("5", 0);
    EXPECT_EQ("none", end(id));
}

} // namespace
