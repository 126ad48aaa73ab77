// SPDX-License-Identifier: Apache-2.0

/*
 * Tasks of a real worker: its event loops begin with the first one, and end before their
 * interpreters.
 */
#include "ep_worker_callback_fixture.h"

using namespace term;

namespace {

class WorkerTaskTest : public WorkerCallbackTest {
protected:
    /* Sends a task and returns the id of its call. */
    uint64_t task(uint16_t kind, const std::string &payload, uint8_t lane = 1)
    {
        vm_->write(&vm_->lane(0)->call, 0, EP_KIND_TASK, payload, ++last_id_, 0, 0, lane, kind);
        vm_->wake(0);
        return last_id_;
    }

    uint64_t task_eval(const std::string &code, uint8_t lane = 1)
    {
        return task(EP_KIND_EVAL, binary(code) + map({}), lane);
    }

    void cancel(uint64_t id, uint8_t lane = 1)
    {
        vm_->send(0, EP_KIND_TASK_CANCEL, "", id, 0, 0, lane);
    }

    /* Takes the next message on the control lane, which has to end that task. */
    std::string ended(uint64_t id, uint64_t lane = 1)
    {
        Reply reply = vm_->receive(0);
        EXPECT_EQ(id, reply.call_id) << VmSide::shown(reply);
        EXPECT_EQ(lane, reply.stamp);
        last_aux_ = reply.aux;
        return VmSide::shown(reply);
    }

    std::string result_of(const std::string &code, uint8_t lane = 1)
    {
        return ended(task_eval(code, lane), lane);
    }

    uint32_t last_aux_ = 0;
};

TEST_F(WorkerTaskTest, RunBesideRequests)
{
    EXPECT_EQ("2", result_of("1 + 1"));
    start_endless("import time\nwhile True: time.sleep(0.001)", 1);
    EXPECT_EQ("3", result_of("1 + 2"));
    EXPECT_EQ("4", result_of("__import__('asyncio').sleep(0.01, 4)"));
    vm_->interrupt(1, 1);
    EXPECT_NE(std::string::npos, VmSide::shown(vm_->receive(1)).find("KeyboardInterrupt"));
    EXPECT_EQ("5", result_of("5"));
}

TEST_F(WorkerTaskTest, AreCancelled)
{
    uint64_t id = task_eval("__import__('asyncio').sleep(1000)");
    cancel(id);
    EXPECT_NE(std::string::npos, ended(id).find("CancelledError"));
    EXPECT_EQ(static_cast<uint32_t>(EP_ERROR_CANCELLED), last_aux_);
    /* One that has ended, one that never was, and a lane without tasks. */
    cancel(id);
    cancel(0xdead);
    start(2);
    cancel(id, 2);
    EXPECT_EQ("1", result_of("1"));
}

TEST_F(WorkerTaskTest, SayThatThereIsNoFunction)
{
    uint64_t id = task(EP_KIND_CALL, VmSide::call_payload("math", "nonesuch", {}));
    (void)ended(id);
    EXPECT_EQ(static_cast<uint32_t>(EP_ERROR_NOT_FOUND), last_aux_);
    id = task(EP_KIND_CALL, VmSide::call_payload("math", "sqrt", {integer(-1)}));
    (void)ended(id);
    EXPECT_EQ(static_cast<uint32_t>(EP_ERROR_EXCEPTION), last_aux_);
}

TEST_F(WorkerTaskTest, OfAContextThatEndsAreAnsweredBeforeItHas)
{
    std::vector<uint64_t> ids;
    for (int i = 0; i < 20; i++)
        ids.push_back(task_eval("__import__('asyncio').sleep(1000)"));
    EXPECT_EQ("1", result_of("1"));
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(1).kind);
    for (uint64_t id : ids)
        EXPECT_NE(std::string::npos, ended(id).find("CancelledError"));
    /* And one that comes too late. */
    EXPECT_EQ("dropped", ended(task_eval("1")));
}

TEST_F(WorkerTaskTest, OfOtherContextsGoOn)
{
    start(2);
    uint64_t id = task_eval("__import__('asyncio').sleep(0.5, 'rested')", 2);
    EXPECT_EQ("1", result_of("1"));
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(1).kind);
    EXPECT_EQ("\"rested\"", ended(id, 2));
    EXPECT_EQ("2", result_of("2", 2));
}

TEST_F(WorkerTaskTest, HaveALoopInEachInterpreter)
{
    if (!has_owngil())
        GTEST_SKIP() << "needs Python 3.12";
    start(2, EP_MODE_OWNGIL);
    std::string code = "__import__('threading').get_ident()";
    std::string first = result_of(code), second = result_of(code, 2);
    EXPECT_NE(first, second);
    uint64_t id = task_eval("__import__('asyncio').sleep(1000)", 2);
    EXPECT_EQ("1", result_of("1", 2));
    EXPECT_EQ(EP_KIND_STOPPED, vm_->stop(2).kind);
    EXPECT_NE(std::string::npos, ended(id, 2).find("CancelledError"));
    EXPECT_EQ(first, result_of(code));
}

TEST_F(WorkerTaskTest, EndWithTheProcess)
{
    uint64_t id = task_eval("__import__('asyncio').sleep(1000)");
    EXPECT_EQ("1", result_of("1"));
    vm_->send(0, EP_KIND_SHUTDOWN);
    EXPECT_NE(std::string::npos, ended(id).find("CancelledError"));
    EXPECT_EQ(EP_EXIT_ASKED, WEXITSTATUS(vm_->wait()));
}

TEST_F(WorkerTaskTest, AwaitErlang)
{
    uint64_t id = task_eval("erlang.async_call('f', 1)");
    Reply asked = vm_->receive(0);
    EXPECT_EQ(EP_KIND_CALLBACK, asked.kind) << VmSide::shown(asked);
    EXPECT_EQ("0 \"f\" [1]", asked.text());
    EXPECT_EQ(1u, asked.call_id >> 63);
    /* Meanwhile the loop serves others, and runs what the callback asks for. */
    EXPECT_EQ("2", result_of("2"));
    vm_->write(&vm_->lane(0)->call, 0, EP_KIND_EVAL, binary("3") + map({}), 77, 0, 0, 1,
               asked.call_id);
    vm_->wake(0);
    EXPECT_EQ("3", ended(77));
    vm_->send(0, EP_KIND_ANSWER, integer(4), asked.call_id);
    EXPECT_EQ("4", ended(id));
    /* A second answer, and a request that comes too late. */
    vm_->send(0, EP_KIND_ANSWER, integer(5), asked.call_id);
    vm_->write(&vm_->lane(0)->call, 0, EP_KIND_EVAL, binary("6") + map({}), 78, 0, 0, 1,
               asked.call_id);
    vm_->wake(0);
    EXPECT_EQ("dropped", ended(78));
    EXPECT_EQ("7", result_of("7"));
}

TEST_F(WorkerTaskTest, ManyMessagesWakeTheLoopOnce)
{
    EXPECT_EQ("1", result_of("1"));
    std::vector<uint64_t> ids;
    for (int i = 0; i < 200; i++) {
        vm_->write(&vm_->lane(0)->call, 0, EP_KIND_TASK, binary("7") + map({}), ++last_id_, 0, 0, 1,
                   EP_KIND_EVAL);
        ids.push_back(last_id_);
    }
    vm_->wake(0);
    for (uint64_t id : ids)
        EXPECT_EQ("7", ended(id));
}

} // namespace
